"""Jobs and results as tables on a terminal. Fractions are shown as per cent."""

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from client.command.shared import per_cent
from client.models import (
    AnalysisJob,
    AnalysisResult,
    AnyJob,
    ApiKey,
    Barrier,
    DiagnosisJob,
    DiagnosisResult,
    Figures,
    Job,
    JobResult,
    Result,
    StoredFile,
)


def print_jobs(console: Console, jobs: Iterable[Job]) -> None:
    """One row per job, newest first."""
    table = Table(box=None)
    table.add_column("job", no_wrap=True, min_width=36)  # an id that is cut off is of no use
    for name in ("state", "stage", "done", "t", "accuracy", "created", "labels"):
        table.add_column(name)
    for job in jobs:
        result = job.result
        accuracy = (
            f"{per_cent(result.before.clean_accuracy)} -> {per_cent(result.after.clean_accuracy)}" if result else "-"
        )
        t = f"{result.t:.3g}" if result else "-"
        table.add_row(job.id, job.state, job.stage or "-", _done(job), t, accuracy, _created(job), _labels(job))
    console.print(table)


def _done(job: AnyJob) -> str:
    return per_cent(job.progress.fraction) if job.progress and not job.ended else "-"


def _created(job: AnyJob) -> str:
    return moment(job.created_at)


def _labels(job: AnyJob) -> str:
    return escape(" ".join(f"{name}={value}" for name, value in job.labels.items()))


def print_result(console: Console, result: Result) -> None:
    """Before and after, the reason for t, and what to be careful about."""
    table = Table("", "clean accuracy", "attack success", "its estimate", box=None)
    for name, figures in (("before", result.before), ("after", result.after)):
        table.add_row(
            name,
            _rate(figures, "clean_accuracy"),
            _rate(figures, "attack_success_rate"),
            _rate(figures, "proxy_success_rate"),
        )
    console.print(table)
    console.print(f"t = {result.t:.3g}: {result.reason}", markup=False)
    verdict = "[green]The criteria are met.[/]" if result.criteria_met else "[bold red]The criteria are NOT met.[/]"
    console.print(verdict)
    _print_warnings(console, result)


def _print_warnings(console: Console, result: JobResult) -> None:
    for warning in result.warnings:
        text = (warning.get("detail") or warning.get("title")) if isinstance(warning, dict) else None
        console.print(f"warning: {text or warning}", style="yellow", markup=False)


def print_analyses(console: Console, jobs: Iterable[AnalysisJob]) -> None:
    """One row per analysis, newest first."""
    table = Table(box=None)
    table.add_column("analysis", no_wrap=True, min_width=36)
    for name in ("state", "stage", "done", "robustness barrier", "created", "labels"):
        table.add_column(name)
    for job in jobs:
        barrier = _barrier(job.result.paths[0].robust_barrier) if job.result else "-"
        table.add_row(job.id, job.state, job.stage or "-", _done(job), barrier, _created(job), _labels(job))
    console.print(table)


def print_analysis_result(console: Console, result: AnalysisResult) -> None:
    """Each path's barriers, and how the input Hessian goes with the robustness loss."""
    columns = ("path", "standard loss's barrier", "robustness loss's barrier", "Hessian's correlation")
    table = Table(*columns, box=None)
    for path in result.paths:
        found = path.correlation
        together = f"Pearson {found.pearson:.2f}, Spearman {found.spearman:.2f}" if found else "-"
        table.add_row(path.path, _barrier(path.clean_barrier), _barrier(path.robust_barrier), together)
    console.print(table)
    console.print(
        f"In nats, on {result.report_images} images that no path was trained on. {result.alignment}", markup=False
    )
    _print_warnings(console, result)


def _barrier(barrier: Barrier) -> str:
    low, high = barrier.interval
    return f"{barrier.height:.2f} ({low:.2f} to {high:.2f})"


def print_diagnoses(console: Console, jobs: Iterable[DiagnosisJob]) -> None:
    """One row per diagnosis, newest first."""
    table = Table(box=None)
    table.add_column("diagnosis", no_wrap=True, min_width=36)
    for name in ("state", "accuracy", "created", "labels"):
        table.add_column(name)
    for job in jobs:
        table.add_row(job.id, job.state, _accuracy(job.result) if job.result else "-", _created(job), _labels(job))
    console.print(table)


def print_diagnosis_result(console: Console, result: DiagnosisResult) -> None:
    """What the model gets right, and what would suit it better."""
    console.print(
        f"accuracy {_accuracy(result)} on {result.images} clean images; on average {per_cent(result.confidence)} sure",
        highlight=False,
    )
    _print_warnings(console, result)  # the first suggestion is in its words
    for suggestion in result.suggestions[1:]:
        console.print(f"or: {suggestion.description}", markup=False, highlight=False)


def _accuracy(result: DiagnosisResult) -> str:
    low, high = result.accuracy_interval
    return f"{per_cent(result.accuracy)} ({low * 100:.1f} to {high * 100:.1f})"


def print_job(console: Console, job: Job | AnalysisJob | DiagnosisJob) -> None:
    """One job with its result or its problem."""
    console.print(
        f"{job.id}  {job.state}" + (f"  ({job.stage})" if job.stage and not job.ended else ""), highlight=False
    )
    if job.queue_position is not None:
        console.print(f"{job.queue_position - 1} jobs before it in the queue")
    if job.progress and job.state in ("running", "cancelling"):
        console.print(f"{per_cent(job.progress.fraction)} done")
    if job.problem:
        console.print(f"{job.problem.get('title')}: {job.problem.get('detail', '')}", style="red", markup=False)
    if isinstance(job.result, AnalysisResult):
        print_analysis_result(console, job.result)
    elif isinstance(job.result, DiagnosisResult):
        print_diagnosis_result(console, job.result)
    elif job.result:
        print_result(console, job.result)


def print_files(console: Console, files: Iterable[StoredFile]) -> None:
    """One row per file, newest first, with the end of its time."""
    table = Table(box=None)
    table.add_column("file", no_wrap=True, min_width=36)
    for name in ("kind", "name", "size", "uploaded", "kept until"):
        table.add_column(name)
    for file in files:
        times = moment(file.created_at), moment(file.expires_at)
        table.add_row(file.id, file.kind, escape(file.name), decimal(file.bytes), *times)
    console.print(table)


def moment(at: datetime | None) -> str:
    """In the time of this place."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M") if at else "-"


def print_keys(console: Console, keys: Iterable[ApiKey]) -> None:
    """One row per access key; never the secret."""
    table = Table("key", "label", "scopes", "last used", "state", box=None)
    for key in keys:
        used = key.last_used_at.astimezone().strftime("%Y-%m-%d %H:%M") if key.last_used_at else "never"
        table.add_row(key.id, escape(key.label or ""), " ".join(key.scopes), used, _state(key))
    console.print(table)


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    until = key.expires_at.astimezone().strftime("%Y-%m-%d %H:%M")
    return f"until {until}" if key.expires_at > datetime.now(UTC) else f"expired {until}"


def _rate(figures: Figures, name: str) -> str:
    interval = getattr(figures, f"{name}_interval", None)
    shown = per_cent(getattr(figures, name))
    return shown if interval is None else f"{shown} ({interval[0] * 100:.1f} to {interval[1] * 100:.1f})"
