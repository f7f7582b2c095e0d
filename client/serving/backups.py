"""`modeconn backup` and `modeconn restore`: the store's own tool, with the Postgres of a data folder running."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from client.serving import commands, embedded
from client.serving.embedded import CannotServe
from client.serving.parts import Guard, running
from client.serving.stack import AlreadyRuns, only_one

_START_SECONDS = 60.0


def backup(data: Path, out: Path, warn: Callable[[str], None]) -> str:
    """Write the service in `data` to the file `out`, whether it runs or not; says what was written.

    `warn` gets a sentence for each stored file that was damaged already. Raises `CannotServe` where there is no
    service, `out` exists, or the backup cannot be made.
    """
    data, out = data.resolve(), out.resolve()
    if not (data / "files").is_dir():
        raise CannotServe(f"There is no service in {data}: name its folder with --data.")
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(only_one(data))
        except AlreadyRuns:
            database = {} if "DATABASE_URL" in os.environ else {"DATABASE_URL": _url(data)}
        else:
            database = stack.enter_context(_database(data, lock))
        return _run(commands.save_backup(out), _environment(data, database), warn)


def restore(data: Path, source: Path, warn: Callable[[str], None]) -> str:
    """Make a service in `data` from the backup `source`; says what was restored.

    Everything is put into a folder beside `data` first, which then gets its name: a failure leaves no trace. Raises
    `CannotServe` where something lies in `data`, or the backup is refused.
    """
    data, source = data.resolve(), source.resolve()
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise CannotServe(f"{data} is not empty: restore into a folder that is empty or not there yet.")
    data.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{data.name}.", dir=data.parent))
    try:
        (beside / "files").mkdir(mode=0o700)
        with only_one(beside) as lock, _database(beside, lock) as database:
            said = _run(commands.restore_backup(source), _environment(beside, database), warn)
        beside.replace(data)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return said


def _environment(data: Path, database: Mapping[str, str]) -> dict[str, str]:
    """What the store's tool is told; an operator's own DATABASE_URL and STORAGE_URL count, as in `serve`."""
    return {"STORAGE_URL": (data / "files").as_uri(), **os.environ, **database}


def _run(arguments: list[str], environment: Mapping[str, str], warn: Callable[[str], None]) -> str:
    done = subprocess.run(arguments, env=dict(environment), capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotServe(done.stderr.strip())
    for line in done.stderr.splitlines():
        warn(line)
    return done.stdout.strip()


def _url(data: Path) -> str:
    """The URL of the Postgres in `data` that runs already."""
    return embedded.postgres(data / "postgres-data", Path(os.devnull), {})[1]


@contextmanager
def _database(data: Path, lock: int) -> Iterator[dict[str, str]]:
    """DATABASE_URL of the Postgres in `data` (made when absent), which runs for as long as the block does."""
    if "DATABASE_URL" in os.environ:
        yield {}
        return
    folder, logs = data / "postgres-data", data / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    launch, url = embedded.postgres(folder, logs / "postgres.log", embedded.without_secrets(os.environ))
    guard, part = Guard(keep=[lock]), launch.start()
    try:
        guard.watch(part)
        deadline = time.monotonic() + _START_SECONDS
        while not embedded.postgres_ready(folder, part.process.pid):
            if not running(part.process) or time.monotonic() > deadline:
                raise CannotServe(f"Postgres did not start; see {logs / 'postgres.log'}")
            time.sleep(0.05)
        yield {"DATABASE_URL": url}
    finally:
        part.stop()
        guard.dismiss()
