"""What the subcommands share: where the service is, the two consoles, how errors and endings become exit codes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from client.errors import JobCancelled, JobFailed, ModeConnError, NotAuthorised, Problem, Unreachable
from client.local import NoService, default_data, find_service
from client.sdk import Client

out = Console()
err = Console(stderr=True)


class Exit(IntEnum):
    """Exit codes of every subcommand; `meaning` says when."""

    OK = 0, "all went well; of a repair: the criteria are met"
    ERROR = 1, "something else went wrong, as said on standard error"
    WRONG_USE = 2, "an option or argument that the command does not know"
    CRITERIA_NOT_MET = (
        3,
        "the repair ended without meeting its criteria (the best model is kept), or the model is not fed right",
    )
    JOB_FAILED = 4, "the job failed"
    JOB_CANCELLED = 5, "the job was cancelled"
    REFUSED = 6, "the service refused the request"
    UNREACHABLE = 7, "no service answered, or none is known"
    DIFFERENT = 8, "a replay gave other numbers"
    INTERRUPTED = 130, "Ctrl-C; a job of a service goes on"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        """A number with its meaning."""
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member


Url = Annotated[
    str | None, typer.Option("--url", envvar="MODECONN_URL", help="Address of the service. Default: the local one.")
]
Key = Annotated[
    str | None, typer.Option("--key", envvar="MODECONN_KEY", help="Access key. Default: the local service's own.")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of the local service. Default: $MODECONN_DATA or ./data.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]


def connect(url: str | None, key: str | None, data: Path | None) -> Client:
    """A client for the service that the options name. Raises `NoService`."""
    place = find_service(url, key, data or default_data())
    return Client(place.url, place.key)


def print_json(value: Any) -> None:
    """One JSON document on standard output, never wrapped or coloured."""
    rows = [row.model_dump(mode="json") for row in value] if isinstance(value, list) else value.model_dump(mode="json")
    typer.echo(json.dumps(rows, indent=2))


def per_cent(fraction: float | None) -> str:
    """0.834 -> '83.4 %'."""
    return "-" if fraction is None else f"{fraction * 100:.1f} %"


@contextmanager
def errors_to_exit(as_json: bool = False) -> Iterator[None]:
    """Says in words (or JSON) what went wrong and leaves with the exit code that stands for it."""
    try:
        yield
    except (ModeConnError, ValueError, OSError) as error:
        if as_json and isinstance(error, Problem):
            known = {"type": error.type, "title": error.title, "detail": error.detail, "status": error.status}
            typer.echo(json.dumps({**known, **error.extra}, indent=2))
        else:
            _say(error)
        raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: Exception) -> Exit:
    if isinstance(error, JobFailed):
        return Exit.JOB_FAILED
    if isinstance(error, JobCancelled):
        return Exit.JOB_CANCELLED
    if isinstance(error, Unreachable | NoService):
        return Exit.UNREACHABLE
    return Exit.REFUSED if isinstance(error, Problem) and error.status < 500 else Exit.ERROR


def _say(error: Exception) -> None:
    err.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
    if isinstance(error, Problem):
        for name, value in error.extra.items():
            err.print(f"  {escape(name)}: {escape(_short(value))}", highlight=False)
    if isinstance(error, NotAuthorised):
        err.print("  Give a key with --key or MODECONN_KEY; whoever runs the service can make one.")
    if isinstance(error, Unreachable):
        err.print("  Is it running? `modeconn serve` starts one here; --url or MODECONN_URL names another.")


def _short(value: BaseModel | Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 500 else text[:500] + " ..."
