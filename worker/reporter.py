"""What a job's child tells its parent while it works: stages, progress, points, warnings, as plain values."""

import math
from typing import Any

from modeconn_core import AnalysisPoint, CurvePoint, Progress
from store.failpoints import failpoint
from worker.child import Send

_BEFORE, _AFTER = 0.02, 0.97  # the share of a job that is done when the method starts, and when it ends
_NO_LOSS = 1e6  # stands for a loss that is not finite: worse than any that is


class Reporter:
    """Turns the method's progress into messages. Its fractions become those of the whole job."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._stage: str | None = None

    def stage(self, name: str, *, method_done: float) -> None:
        """A stage of the worker's own begins. `method_done`: 0..1, as in the method's own progress."""
        self._progress(name, 0.0, method_done, {})

    def core(self, progress: Progress) -> None:
        """`on_progress` of the method."""
        self._progress(progress.stage, progress.stage_fraction, progress.fraction, progress.numbers)
        if progress.point is not None:
            self._send({"kind": "point", "point": point_columns(progress.point)})

    def warning(self, text: str) -> None:
        self._send({"kind": "warning", "warning": {"detail": text}})

    def _progress(self, stage: str, stage_fraction: float, fraction: float, numbers: dict[str, float]) -> None:
        self._send(
            {
                "kind": "progress",
                "stage": stage,
                "stage_fraction": stage_fraction,
                "fraction": _BEFORE + fraction * (_AFTER - _BEFORE),
                "numbers": {name: value for name, value in numbers.items() if math.isfinite(value)},
            }
        )
        if stage != self._stage:
            self._stage = stage
            failpoint(f"child.{stage}")


def point_columns(point: CurvePoint | AnalysisPoint) -> dict[str, Any]:
    """A point in the columns of `curve_points` or `analysis_points`."""
    return _curve_columns(point) if isinstance(point, CurvePoint) else _analysis_columns(point)


def _curve_columns(point: CurvePoint) -> dict[str, Any]:
    accuracy_low, accuracy_high = point.clean_accuracy_interval
    asr_low, asr_high = point.attack_success_rate_interval or (None, None)
    return {
        "path": point.path,
        "t": point.t,
        "clean_accuracy": point.clean_accuracy,
        "clean_accuracy_low": accuracy_low,
        "clean_accuracy_high": accuracy_high,
        "attack_success_rate": point.attack_success_rate,
        "asr_low": asr_low,
        "asr_high": asr_high,
        "proxy_success_rate": point.proxy_success_rate,
        "clean_loss": _finite(point.clean_loss),
        "clean_confidence": point.clean_confidence if math.isfinite(point.clean_confidence) else None,
        "set": "refined" if point.refined else "coarse",
    }


def _analysis_columns(point: AnalysisPoint) -> dict[str, Any]:
    columns: dict[str, Any] = {"path": point.path, "t": point.t, "clean_loss": _finite(point.clean_loss)}
    for name in ("clean_error", "robust_loss", "robust_error", "eigenvalue"):
        value, interval = getattr(point, name), getattr(point, f"{name}_interval")
        low, high = interval or (None, None)
        columns |= {name: _finite(value), f"{name}_low": _finite(low), f"{name}_high": _finite(high)}
    return columns | {"eigenvalue_converged": point.eigenvalue_converged}


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else _NO_LOSS
