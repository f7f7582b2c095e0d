"""What a repair adds to the checks of every job: triggered images, and what to choose with."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.errors import ApiError
from api.jobs.checks import SHOWN, listed
from api.repair.schemas import RepairRequest


def check_triggered(clean: Mapping[str, Any], triggered: Mapping[str, Any], classes: Sequence[str]) -> None:
    """The triggered set must be of the clean set's classes and shape."""
    known: set[str | int] = {*classes, *range(len(classes))}
    unknown = [name for name in triggered["classes"] if name not in known]
    if unknown:
        raise ApiError(
            "triggered-class-unknown",
            f"The triggered set has folders that are no class of the clean set: {listed(unknown)}.",
            folders=unknown,
            classes=list(classes)[:SHOWN],
        )
    if triggered["shape"] != clean["shape"]:
        raise ApiError(
            "triggered-shape-differs",
            f"Clean images are {_shape(clean)}, triggered images {_shape(triggered)} (channels x height x width).",
            clean=clean["shape"],
            triggered=triggered["shape"],
        )


def check_choice(body: RepairRequest) -> None:
    """What the request asks to choose with must be there."""
    if body.select_with_triggered and body.triggered is None:
        raise ApiError("triggered-set-missing", "`select_with_triggered` is true, but `triggered` is null.")


def _shape(facts: Mapping[str, Any]) -> str:
    return " x ".join(str(size) for size in facts["shape"])
