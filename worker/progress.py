"""What a child reports, turned into what people read: stage, share done, seconds left."""

import time
from typing import Any

_ENOUGH_TO_EXTRAPOLATE = 0.03


class ProgressMeter:
    """Adds the time left to a job's own fractions, from how fast they have grown."""

    def __init__(self) -> None:
        self.stage: str | None = None
        self._start = time.monotonic()
        self._fraction = 0.0

    def read(self, message: dict[str, Any]) -> dict[str, Any]:
        """The `progress` column: stage, fraction (never shrinks), stage_fraction, seconds_left, numbers."""
        self.stage = message["stage"]
        self._fraction = max(self._fraction, min(1.0, message["fraction"]))
        return {
            "stage": self.stage,
            "fraction": round(self._fraction, 4),
            "stage_fraction": round(message["stage_fraction"], 4),
            "seconds_left": self._seconds_left(),
            "numbers": message["numbers"],
        }

    def _seconds_left(self) -> float | None:
        if self._fraction < _ENOUGH_TO_EXTRAPOLATE:
            return None
        elapsed = time.monotonic() - self._start
        return round(elapsed * (1 - self._fraction) / self._fraction, 1)
