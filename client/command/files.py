"""`modeconn upload` and `files`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from client.command.repair import upload_all
from client.command.shared import AsJson, Data, Key, Url, connect, errors_to_exit, out, print_json
from client.command.tables import moment, print_files


class Role(Enum):
    """What a file can be."""

    MODEL = "model"
    CLEAN = "clean"
    TRIGGERED = "triggered"


def upload(
    path: Annotated[Path, typer.Argument(exists=True, help="A model, or images: a file or class folders.")],
    kind: Annotated[Role, typer.Option(help="What it is.")] = Role.MODEL,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Upload a file and print its id, and until when it is kept. Large ones survive a broken connection."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        file = upload_all(client, **{kind.value: path})[kind.value]
        if as_json:
            print_json(file)
        else:
            out.print(f"{file.id}  kept until {moment(file.expires_at)}", highlight=False)


def files(
    kind: Annotated[Role | None, typer.Option(help="Only those of this kind.")] = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List your files, newest first, with the time at which each is deleted."""
    with errors_to_exit(as_json), connect(url, key, data) as client:
        rows = list(client.files(kind=kind.value if kind else None, limit=limit))
        print_json(rows) if as_json else print_files(out, rows)
