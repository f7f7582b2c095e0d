"""One repair: ask, follow, cancel, download."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from client.handle import Handle
from client.models import CurvePoint, Job


class Repair(Handle[Job]):
    """One repair: `job` is what the service said last."""

    route: ClassVar[str] = "/repair"
    kind = Job

    def curve(self) -> list[CurvePoint]:
        """The points evaluated so far, by t."""
        answer = self.transport.request("GET", f"{self._path}/curve").json()
        return [CurvePoint.model_validate(point) for point in answer["points"]]

    def download(self, target: Path, *, on_bytes: Callable[[int], None] | None = None) -> Path:
        """The repaired weights, checked against the SHA-256 in the job's result."""
        return self._download(f"{self._path}/weights", "repaired.safetensors", target, on_bytes)
