"""`modeconn backup` and `modeconn restore`: all that the service on this machine keeps, in one file."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from client.command.shared import Data, Exit, err, out
from client.local import default_data


def backup(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; it must not exist.")],
    data: Data = None,
) -> None:
    """Write jobs, results, uploads and keys to one file. The service may run meanwhile, and goes on."""
    from client.serving import backups

    _do(backups.backup, data, target)


def restore(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file that `modeconn backup` wrote.")],
    data: Data = None,
) -> None:
    """Make a service from a backup, in a folder that is empty or not there yet; then start it with `modeconn serve`."""
    from client.serving import backups

    _do(backups.restore, data, source)


def _do(work: Callable[[Path, Path, Callable[[str], None]], str], data: Path | None, file: Path) -> None:
    from client.serving.embedded import CannotServe

    try:
        out.print(escape(work(data or default_data(), file, _warn)), highlight=False, soft_wrap=True)
    except (CannotServe, OSError) as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.ERROR) from None


def _warn(line: str) -> None:
    err.print(escape(line), highlight=False, soft_wrap=True)
