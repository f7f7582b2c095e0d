"""One repair: ask, follow, cancel, download."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from tenacity import Retrying, retry_if_result, wait_fixed

from client.download import download
from client.errors import JobFailed
from client.handle import Handle
from client.models import CurvePoint, Job

_POLL_SECONDS = 0.5


class Repair(Handle[Job]):
    """One repair: `job` is what the service said last."""

    route: ClassVar[str] = "/repair"
    kind = Job

    def curve(self) -> list[CurvePoint]:
        """The points evaluated so far, by t."""
        answer = self.transport.request("GET", f"{self._path}/curve").json()
        return [CurvePoint.model_validate(point) for point in answer["points"]]

    def download(self, target: Path, *, t: float | None = None, on_bytes: Callable[[int], None] | None = None) -> Path:
        """The repaired weights, checked against the SHA-256 that the service states.

        `t` in 0..1: those of another point of the path, made without fitting again. Raises `JobFailed` where not.
        """
        if t is None:
            return self._download(f"{self._path}/weights", "repaired.safetensors", target, on_bytes)
        self._select(t)
        return download(self.transport, f"{self._path}/weights?t={t!r}", target, on_bytes=on_bytes)

    def _select(self, t: float) -> None:
        """Have the model at `t` made, and wait until it is."""
        selection = self.transport.request("POST", f"{self._path}/selections", json={"t": t}).json()
        ask = Retrying(retry=retry_if_result(_is_in_work), wait=wait_fixed(_POLL_SECONDS))
        ended = ask(lambda: self.transport.request("GET", selection["links"]["self"]).json())
        if ended["state"] == "failed":
            raise JobFailed(ended["problem"] or {"title": f"The model at t = {t:g} could not be made"}, 200)


def _is_in_work(selection: dict[str, Any]) -> bool:
    return selection["state"] in ("queued", "running")
