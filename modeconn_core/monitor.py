"""Progress over all stages, the seconds each took, and the question whether to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import Tensor

from modeconn_core.analysis_result import AnalysisPoint
from modeconn_core.configuration import STAGE_SHARES, OnProgress, Progress, Stage
from modeconn_core.errors import RepairStopped
from modeconn_core.fit import ShouldStop
from modeconn_core.sweep import CurvePoint

STEPS_BETWEEN_REPORTS = 10


class Monitor:
    """Turns what the stages say into :class:`Progress`; raises RepairStopped as soon as ``should_stop()`` says so."""

    def __init__(
        self,
        on_progress: OnProgress | None,
        should_stop: ShouldStop | None,
        shares: Mapping[Stage, float] = STAGE_SHARES,
    ) -> None:
        """``shares``: of all the work that each stage is."""
        self._on_progress, self._should_stop, self._shares = on_progress, should_stop, shares
        self._stage: Stage = "validating"
        self._before = 0.0
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def enter(self, stage: Stage, **numbers: float) -> None:
        """Leave the stage before, begin ``stage``, with numbers to show."""
        self.close()
        if stage != self._stage:
            self._before += self._shares[self._stage]
        self._stage = stage
        self.report(0.0, point=None, **numbers)

    def close(self) -> None:
        """Book the seconds of the current stage."""
        now = time.perf_counter()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._started
        self._started = now

    def check(self) -> None:
        """Stop here if asked to."""
        if self._should_stop is not None and self._should_stop():
            raise RepairStopped

    def report(
        self, stage_fraction: float, *, point: CurvePoint | AnalysisPoint | None = None, **numbers: float
    ) -> None:
        """Say how much of the stage is done (0..1), with numbers to show."""
        self.check()
        if self._on_progress is not None:
            fraction = min(1.0, self._before + self._shares[self._stage] * stage_fraction)
            self._on_progress(
                Progress(
                    stage=self._stage, stage_fraction=stage_fraction, fraction=fraction, numbers=numbers, point=point
                )
            )

    def on_step(self, done: int, total: int, loss: Tensor) -> None:
        """Say so every few training steps (each report reads the loss off the device)."""
        if done % STEPS_BETWEEN_REPORTS == 0 or done == total:
            self.report(done / total, step=float(done), steps=float(total), loss=float(loss))
        else:
            self.check()
