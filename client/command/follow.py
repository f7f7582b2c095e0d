"""A running job as people see it: the stage, a bar, the time left, and the numbers of the moment."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from client.command.shared import per_cent
from client.models import Event

STAGES = {
    "validating": "checking the files",
    "scanning": "looking for triggers",
    "preparing_ends": "preparing the ends",
    "fitting_path": "fitting the path",
    "fitting_robust_path": "fitting under attack",
    "sweeping": "sweeping t",
    "selecting": "choosing t",
    "exporting": "writing the files",
}


class Follower:
    """Shows a job's events as they come: a live bar on a terminal, one line per stage elsewhere.

    Use it as a context manager and hand its `on_event` to `Repair.wait`.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._stage: str | None = None
        self._numbers: dict[str, str] = {}
        self._progress = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[numbers]}", style="cyan"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("queued", total=1.0, left="", numbers="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        """Takes one event of any type."""
        if event.type in ("stage", "progress"):
            self._on_progress(event.data)
        elif event.type == "point":
            self._on_point(event.data)
        elif event.type == "warning":
            text = event.data.get("detail") or event.data.get("title") or str(event.data)
            self.console.print(f"warning: {text}", style="yellow", markup=False)
        elif event.type == "succeeded":
            self._progress.update(self._task, completed=1.0, description="done", left="")
        elif event.type == "state":
            self._progress.update(self._task, description=str(event.data.get("state", "")))

    def _on_progress(self, data: dict[str, Any]) -> None:
        stage = data.get("stage")
        if stage != self._stage:
            self._stage = stage
            self._numbers = {}
            if not self.console.is_terminal:
                self.console.print(f"{per_cent(data.get('fraction')):>8}  {STAGES.get(str(stage), stage)}")
        self._numbers |= {name: _number(value) for name, value in (data.get("numbers") or {}).items()}
        left = data.get("seconds_left")
        self._show(data.get("fraction"), f"{left:.0f} s left" if left is not None else "")

    def _on_point(self, data: dict[str, Any]) -> None:
        if "robust_error" in data:
            self._numbers = {
                "path": data["path"],
                "t": _number(data["t"]),
                "error": per_cent(data["clean_error"]),
                "under attack": per_cent(data["robust_error"]),
            }
            self._show(None, None)
            return
        measured = data.get("attack_success_rate")
        name, rate = ("ASR", measured) if measured is not None else ("proxy ASR", data.get("proxy_success_rate"))
        self._numbers = {"t": _number(data["t"]), "accuracy": per_cent(data["clean_accuracy"]), name: per_cent(rate)}
        self._show(None, None)

    def _show(self, fraction: float | None, left: str | None) -> None:
        changed: dict[str, Any] = {"numbers": "  ".join(f"{name} {text}" for name, text in self._numbers.items())}
        if fraction is not None:
            changed["completed"] = fraction
        if left is not None:
            changed["left"] = left
        if self._stage:
            changed["description"] = STAGES.get(self._stage, self._stage)
        self._progress.update(self._task, **changed)


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.3g}"
