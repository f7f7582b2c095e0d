"""How much work a repair is, in passes of an image through the network."""

from collections.abc import Mapping
from typing import Any

from api.jobs.estimate import TRAINED, fit_passes
from api.repair.schemas import Method

_SWEEP_POINTS, _INVERSION_IMAGES, _PLANE_IMAGES = 30, 60 * 64, 250


def repair_passes(clean: Mapping[str, Any], method: Method, *, classes: int, scans: bool, second_model: bool) -> int:
    """`clean`: facts of the clean set; `scans`: whether triggers are looked for; `second_model`: one was given, so that
    a second path is made, to the channels as they are."""
    path = fit_passes(method.steps) + 2 * _SWEEP_POINTS * clean["images"]  # statistics, then figures, at every t
    scan = TRAINED * _INVERSION_IMAGES * min(classes, 100) if scans else 0
    plane = 2 * method.plane**2 * min(clean["images"], _PLANE_IMAGES)
    return (2 if second_model else 1) * path + scan + plane
