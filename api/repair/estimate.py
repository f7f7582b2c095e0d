"""A rough figure of how long a repair will take, from what is known of the files."""

from collections.abc import Mapping
from typing import Any

from api.repair.schemas import Estimate

# A pre-activation ResNet-18 at width 16 (0.70 M weights, 32 x 32 images, 400 steps, 2,500 clean images, 10 classes)
# took about 65 s on two CPU cores, all stages together.
_OPERATIONS_PER_SECOND = 2.3e11
_START_SECONDS = 5.0
_USES_PER_WEIGHT = 50  # multiply-adds per weight and 32 x 32 image: the same for the ResNets of every width
_BATCH, _DEFAULT_STEPS, _SWEEP_POINTS, _INVERSION_IMAGES = 128, 400, 30, 60 * 64


def estimate(clean: Mapping[str, Any], *, weights: int, classes: int, steps: int | None, size: Any) -> Estimate:
    """Seconds for one repair. `clean`: facts of the clean set; `weights`: count; `size`: [H, W] after resizing."""
    height, width = size or clean["shape"][1:]
    area = height * width / 1024
    if area > 9:
        area /= 16  # networks for large images shrink them by four at once
    per_image = _USES_PER_WEIGHT * weights * area
    images = (
        3 * _BATCH * (steps or _DEFAULT_STEPS)  # forward and backward
        + 2 * _SWEEP_POINTS * clean["images"]  # statistics, then figures, at every t
        + 3 * _INVERSION_IMAGES * min(classes, 100)
    )
    seconds = _START_SECONDS + per_image * images / _OPERATIONS_PER_SECOND
    return Estimate(
        seconds=round(seconds, 1), basis="from the sizes of model and images, for two CPU cores; a GPU is far faster"
    )
