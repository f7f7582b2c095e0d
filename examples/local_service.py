"""A whole service for an example: `modeconn serve` on a free port, and what it may have left running."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from rich.console import Console

from client import Client, ModeConnError
from client.local import find_service

START_SECONDS = 180
STOP_SECONDS = 90
console = Console()


class ExampleFailed(Exception):
    """The example cannot go on; the message says why."""


@contextmanager
def service(out: Path) -> Iterator[Client]:
    """A client of a service that lives as long as the context. Its logs go to `out`.

    Raises ExampleFailed where it does not start, or leaves a process behind.
    """
    with tempfile.TemporaryDirectory(prefix="modeconn-example-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        try:
            with _served(data, out / "serve.log"):
                place = find_service(None, None, data)
                with Client(place.url, place.key) as client:
                    yield client
        finally:
            if (data / "logs").exists():
                shutil.copytree(data / "logs", out / "logs")
        left = _processes_of(data)
    if left:
        raise ExampleFailed("left running: " + ", ".join(f"{process.pid} {process.name()}" for process in left))


@contextmanager
def _served(data: Path, log_file: Path) -> Iterator[None]:
    """`modeconn serve`, stopped at the end whatever happened."""
    with log_file.open("wb") as log:
        command = [sys.executable, "-m", "client.cli", "serve", "--data", str(data), "--port", "0"]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        with console.status("starting Postgres, Redis, the API and one worker"):
            while not (data / "server.json").exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise ExampleFailed(f"The service did not start:\n{log_file.read_text()}")
                time.sleep(0.1)
        yield
    finally:
        with console.status("stopping the service"):
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()  # its guard stops the rest
                server.wait()


def _processes_of(data: Path) -> list[psutil.Process]:
    """Running processes that have to do with this data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
            ended = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if process.pid != os.getpid() and not ended and any(str(data) in word for word in words):
            found.append(process)
    return found


def exit_code(run: Callable[[], bool]) -> int:
    """0 where `run` says that all went well, 1 where not, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if run() else 1
    except (ExampleFailed, ModeConnError) as error:
        console.print(f"[red]error:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
