"""One command line and no service: it starts its own and leaves nothing of it behind."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import MODECONN, ONE_THREAD

HOW = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--max-accuracy-drop", "100", "--max-asr", "100"]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the command has its temporary folders. Not under tmp_path: see `serving` in conftest."""
    with tempfile.TemporaryDirectory(prefix="modeconn-e2e-") as folder:
        yield Path(folder)


@pytest.fixture
def here(tmp_path: Path, temporary: Path, example) -> dict:
    """How a person calls it who has never set anything."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MODECONN")}
    environment = {**settings, **ONE_THREAD, "TMPDIR": str(temporary), "COLUMNS": "200"}
    return {"cwd": tmp_path, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def command(example, *more: str) -> list[str]:
    return [*MODECONN, "repair", str(example.model), "--clean", str(example.clean), *HOW, *more]


def like_a_terminal() -> None:
    """A test run in the background of a shell ignores Ctrl-C, and would hand that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def left(temporary: Path) -> list[str]:
    """Files, and processes that know the folder."""
    found = [str(path) for path in temporary.iterdir()]
    for process in psutil.process_iter():
        try:
            if any(str(temporary) in word for word in [*process.cmdline(), *process.environ().values()]):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_a_model_is_repaired_with_its_records_beside_it(example, here, tmp_path, temporary):
    done = subprocess.run(command(example, "--steps", "5", "--out", "better.safetensors"), **here)
    assert done.returncode == 0, done.stderr
    assert "one is started for this command alone" in done.stderr
    assert "The criteria are met." in done.stdout
    records = ["better-manifest.json", "better-path.safetensors", "better-report.html", "better.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == records
    verify = [*MODECONN, "verify", "better.safetensors", str(example.clean), "--manifest", "better-manifest.json"]
    assert subprocess.run(verify, **here).returncode == 0
    assert left(temporary) == []


def until_it_fits(running: subprocess.Popen[str]) -> None:
    for line in running.stderr:
        if "fitting the path" in line:
            return


def part(running: subprocess.Popen[str], word: str) -> psutil.Process:
    """The process of the command's own service with this word in its command line."""
    [found] = [one for one in psutil.Process(running.pid).children() if word in " ".join(one.cmdline())]
    return found


def test_a_worker_that_dies_is_replaced(example, here, temporary):
    here["env"] |= {"MODECONN_LEASE_SECONDS": "12", "MODECONN_HEARTBEAT_SECONDS": "3"}
    running = subprocess.Popen(command(example, "--steps", "300"), **here)
    until_it_fits(running)
    part(running, "worker.app").kill()
    _, said = running.communicate()
    assert running.returncode == 0, said
    assert said.count("fitting the path") == 1, "it goes on in another attempt"
    assert left(temporary) == []


def test_a_part_that_ends_is_named_and_nobody_waits_for_it(example, here, temporary):
    running = subprocess.Popen(command(example, "--steps", "1000000"), **here)
    until_it_fits(running)
    part(running, "redis-server").kill()
    _, said = running.communicate()
    assert running.returncode == 1, said
    assert "redis has ended by itself" in said
    assert left(temporary) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped_and_leaves_nothing(example, here, tmp_path, temporary, how):
    running = subprocess.Popen(command(example, "--steps", "1000000", "--local"), **here, preexec_fn=like_a_terminal)
    until_it_fits(running)
    running.send_signal(how)
    _, said = running.communicate()
    assert running.returncode == 130, said
    assert "Stopped; nothing is kept." in said
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".safetensors"] == []
    deadline = time.monotonic() + 30  # the guard ends a moment after the command
    while left(temporary) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left(temporary) == []


def test_what_needs_a_service_that_goes_on_says_so(example, here):
    for options, said in (
        (["--no-wait"], "`modeconn serve` starts one"),
        (["--local", "--data", "x"], "leave out"),
    ):
        done = subprocess.run(command(example, *options), **here)
        assert done.returncode == 1
        assert said in done.stderr
    missing = subprocess.run(command(example, "--data", "nowhere"), **here)
    assert missing.returncode == 7
    assert "No service runs in" in missing.stderr
