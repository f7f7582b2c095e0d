"""A rough figure of how long a job will take, from what is known of the files."""

from collections.abc import Mapping
from typing import Any

from api.jobs.schemas import Estimate

# A repair of a pre-activation ResNet-18 at width 16 (0.70 M weights, 32 x 32 images, 400 steps, 2,500 clean images,
# 10 classes) took about 65 s on two CPU cores, all stages together.
_OPERATIONS_PER_SECOND = 2.3e11
_START_SECONDS = 5.0
_USES_PER_WEIGHT = 50  # multiply-adds per weight and 32 x 32 image: the same for the ResNets of every width
_BATCH, _DEFAULT_STEPS = 128, 400
TRAINED = 3  # passes of an image that is trained on: forward, and twice that backward


def fit_passes(steps: int | None) -> int:
    """Passes of one fit of a path."""
    return TRAINED * _BATCH * (steps or _DEFAULT_STEPS)


def estimate(clean: Mapping[str, Any], *, weights: int, size: Any, passes: float) -> Estimate:
    """Seconds for a job. `clean`: facts of the clean set; `weights`: count; `size`: [H, W] after resizing; `passes`:
    images that go forward through the network, those of every step and every point together."""
    height, width = size or clean["shape"][1:]
    area = height * width / 1024
    if area > 9:
        area /= 16  # networks for large images shrink them by four at once
    seconds = _START_SECONDS + _USES_PER_WEIGHT * weights * area * passes / _OPERATIONS_PER_SECOND
    return Estimate(
        seconds=round(seconds, 1), basis="from the sizes of model and images, for two CPU cores; a GPU is far faster"
    )
