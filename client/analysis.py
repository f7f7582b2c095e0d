"""One analysis of the paths between two models: ask, follow, cancel, download."""

from pathlib import Path
from typing import ClassVar, Literal

from client.handle import Handle
from client.models import AnalysisJob, AnalysisPoint

_FILES = {"standard": "path.safetensors", "robust": "robust-path.safetensors"}


class Analysis(Handle[AnalysisJob]):
    """One analysis: `job` is what the service said last."""

    route: ClassVar[str] = "/analysis"
    kind = AnalysisJob

    def points(self) -> list[AnalysisPoint]:
        """The points measured so far: the standard path, then the robust one, each by t."""
        answer = self.transport.request("GET", f"{self._path}/points").json()
        return [AnalysisPoint.model_validate(point) for point in answer["points"]]

    def download_path(self, path: Literal["standard", "robust"], target: Path) -> Path:
        """The control points of a fitted path, checked against the SHA-256 in the job's result."""
        return self._download(f"{self._path}/paths/{path}", _FILES[path], target)
