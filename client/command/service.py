"""Which service a job's command talks to: the one that is named or runs here, or one of its own."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NamedTuple

import typer

from client.command.shared import Exit, connect, err
from client.errors import ModeConnError
from client.local import NoService, default_data, find_service
from client.sdk import Client

Local = Annotated[
    bool,
    typer.Option(
        "--local", help="Use no service, but start one for this command alone. So it is where none is named or runs."
    ),
]


class Used(NamedTuple):
    """A client, and whether its service ends with the command."""

    client: Client
    own: bool


@contextmanager
def a_service(url: str | None, key: str | None, data: Path | None, *, local: bool, wait: bool = True) -> Iterator[Used]:
    """A client for the service that the options name, or for one that ends with the block.

    Raises `NoService` where a folder is named in which none runs, ModeConnError where none can be started, ValueError
    for options that contradict each other.
    """
    if local and (url or data):
        raise ValueError("--local uses no other service: leave out --url and --data (or unset MODECONN_URL).")
    if not local and (url or data or "MODECONN_DATA" in os.environ or _runs_here()):
        with connect(url, key, data) as client:
            yield Used(client, own=False)
        return
    if not wait:
        raise ValueError("--no-wait needs a service that goes on: `modeconn serve` starts one, --url names one.")
    err.print("No service is named or runs here: one is started for this command alone.", highlight=False)
    from client.serving.embedded import CannotServe
    from client.serving.own import own_service

    try:
        with (
            _terminated_like_interrupted(),
            err.status("starting") as status,
            own_service(status.update) as place,
            Client(place.url, place.key) as client,
        ):
            status.stop()
            yield Used(client, own=True)
    except CannotServe as error:
        raise ModeConnError(str(error)) from error
    except KeyboardInterrupt:
        err.print("Stopped; nothing is kept.")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _runs_here() -> bool:
    try:
        find_service(None, None, default_data())
    except NoService:
        return False
    return True


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block in order, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
