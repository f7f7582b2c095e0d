"""A light process that puts files through the real launcher, one by one, and tells what each of their children took.

`python tests/hostile/converting.py`: reads one JSON request a line (task, source, target), answers with one line. It
imports no more than the API does, since a child counts the memory of the process that starts it as its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from intake.launcher import IntakeFailed, IntakeRefused, convert_dataset, convert_model
from intake.limits import Limits


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one file fared; `problem` is None when it was accepted, or "failed: ..." when nobody refused it."""

    problem: str | None
    detail: str
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """Resident, of the child."""


class Converter:
    """The light process, seen from the test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def convert(self, task: str, source: Path, target: Path) -> Outcome:
        """`source` through `convert_model` (task "model") or `convert_dataset` (task "clean")."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([task, str(source), str(target)]) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextmanager
def converter() -> Iterator[Converter]:
    """A converter for the block."""
    started = Converter()
    try:
        yield started
    finally:
        started.close()


def _serve(requests: Iterable[str]) -> None:
    for line in requests:
        task, source, target = json.loads(line)
        print(json.dumps(dataclasses.asdict(_in_a_fork(task, Path(source), Path(target)))), flush=True)


def _in_a_fork(task: str, source: Path, target: Path) -> Outcome:
    """A fork for each file, as the system keeps the usage of children only as a sum and a maximum."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        with open(reading) as answer:
            text = answer.read()
        os.waitpid(pid, 0)
        return Outcome(**json.loads(text))
    os.close(reading)
    with open(writing, "w") as answer:
        json.dump(dataclasses.asdict(_convert(task, source, target)), answer)
    os._exit(0)


def _convert(task: str, source: Path, target: Path) -> Outcome:
    started = time.monotonic()
    problem, detail = None, ""
    try:
        if task == "model":
            convert_model(source, target, Limits())
        else:
            convert_dataset(source, target, Limits(), kind="clean")
    except IntakeRefused as refused:
        problem, detail = refused.problem_type, refused.detail
    except IntakeFailed as failed:
        problem, detail = "failed", str(failed)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Outcome(problem, detail, used.ru_utime + used.ru_stime, time.monotonic() - started, used.ru_maxrss * 1024)


if __name__ == "__main__":
    _serve(sys.stdin)
