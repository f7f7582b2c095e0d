"""How much work an analysis is, in passes of an image through the network."""

from collections.abc import Mapping
from typing import Any

from api.analysis.schemas import AnalysisRequest
from api.jobs.estimate import TRAINED, fit_passes

_HELD_OUT = 0.4  # share of the clean images that everything is measured on
_STATISTICS_IMAGES = 500  # at a point
_DOUBLE_BACKWARD = 6  # passes of one Hessian-vector product


def analysis_passes(clean: Mapping[str, Any], body: AnalysisRequest) -> float:
    """`clean`: facts of the clean set."""
    method, attack = body.method, TRAINED * body.pgd.steps
    measured = min(_HELD_OUT * clean["images"], method.max_images)
    point = min(clean["images"], _STATISTICS_IMAGES) + measured * (2 + attack)
    if body.eigenvalues is not None:
        point += _DOUBLE_BACKWARD * body.eigenvalues.iterations * min(body.eigenvalues.images, measured)
    fit = fit_passes(method.steps)
    if not method.robust_path:
        return fit + method.points * point
    return fit + fit * (1 + body.pgd.steps) + 2 * method.points * point
