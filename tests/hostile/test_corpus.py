"""Every crafted file through the real launcher and its real child: refused by name, cheaply, and nothing is touched."""

from __future__ import annotations

import io
import pickle
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from intake.datasets import convert as read_dataset
from intake.limits import GIB, Limits
from intake.models import convert as read_model
from intake.problems import PROBLEMS, IntakeRefused

from ..scale import EVERY_KTH_CRAFTED_FILE
from .converting import Converter, Outcome, converter
from .corpus.case import Bait
from .corpus.datasets import datasets
from .corpus.good import good_datasets, good_models
from .corpus.models import models
from .corpus.pickles import baited

CPU_SECONDS = 5.0
PEAK_BYTES = GIB
AT_LEAST = 150
"""Crafted files of each kind."""


@dataclass(frozen=True, slots=True)
class Trap:
    """The bait, and whether anything took it."""

    bait: Bait
    listener: socket.socket

    def sprung(self) -> list[str]:
        """What was touched, in words; the trap is set again."""
        touched = ["touched the canary's file"] if self.bait.file.exists() else []
        self.bait.file.unlink(missing_ok=True)
        try:
            self.listener.accept()[0].close()
            touched.append("called the canary's port")
        except BlockingIOError:
            pass
        return touched


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        file = tmp_path_factory.mktemp("canary") / "canary"
        yield Trap(Bait(file=file, port=listener.getsockname()[1]), listener)


@pytest.fixture(scope="module")
def convert() -> Iterator[Converter]:
    with converter() as started:
        yield started


def test_the_bait_is_taken_by_a_reader_that_trusts(trap: Trap) -> None:
    for stream in baited(trap.bait).values():
        pickle.loads(stream)
    assert trap.sprung() == ["touched the canary's file", "called the canary's port"]


CORPORA = {"model": models, "clean": datasets}


@pytest.mark.parametrize("task", CORPORA)
def test_the_corpus_is_large_and_every_problem_is_one_that_people_are_told(task: str, trap: Trap) -> None:
    crafted = CORPORA[task](trap.bait)
    assert len(crafted) >= AT_LEAST
    assert {problem for _, problem in crafted.values()} <= PROBLEMS.keys() - {"intake-crashed", "intake-timeout"}


@pytest.mark.parametrize("task", CORPORA)
def test_a_small_crafted_file_is_refused_by_name(task: str, trap: Trap) -> None:
    """In this process, so that all that are made in no time can be tried in a few seconds."""
    found = {}
    for case, (made, problem) in CORPORA[task](trap.bait).items():
        if isinstance(made, bytes):
            got = problem_in_process(task, made)
            if wrong := [*([f"{got} instead of {problem}"] if got != problem else []), *trap.sprung()]:
                found[case] = wrong
    assert found == {}


def problem_in_process(task: str, upload: bytes) -> str | None:
    """The problem of the upload, or None where it is accepted."""
    source, target = io.BytesIO(upload), io.BytesIO()
    try:
        if task == "model":
            read_model(source, len(upload), target, Limits())
        else:
            read_dataset(source, len(upload), target, Limits(), "clean")
    except IntakeRefused as refused:
        return refused.problem_type
    return None


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("every", EVERY_KTH_CRAFTED_FILE)
@pytest.mark.parametrize("task", CORPORA)
def test_a_crafted_file_is_refused_cheaply_and_touches_nothing(
    task: str, every: int, convert: Converter, trap: Trap, tmp_path: Path
) -> None:
    target_folder = tmp_path / "target"
    target_folder.mkdir()
    found = {}
    for case, (made, problem) in list(CORPORA[task](trap.bait).items())[::every]:
        (tmp_path / "upload").write_bytes(made() if callable(made) else made)
        outcome = convert.convert(task, tmp_path / "upload", target_folder / "canonical")
        report(case, outcome)
        if wrong := [
            *faults(outcome, problem),
            *trap.sprung(),
            *(f"left {path.name}" for path in empty(target_folder)),
        ]:
            found[case] = wrong
    assert found == {}


def faults(outcome: Outcome, problem: str) -> Iterator[str]:
    """What is wrong with the answer, in words."""
    if outcome.problem != problem:
        yield f"{outcome.problem} ({outcome.detail}) instead of {problem}"
    if outcome.cpu_seconds > CPU_SECONDS:
        yield f"{outcome.cpu_seconds:.1f} s of computing"
    if outcome.peak_bytes > PEAK_BYTES:
        yield f"{outcome.peak_bytes:,} bytes of memory"
    if len(outcome.detail) > 1000 or not outcome.detail.isprintable():
        yield f"a detail of {len(outcome.detail):,} characters, printable: {outcome.detail.isprintable()}"


def empty(folder: Path) -> Iterator[Path]:
    """Remove and give what lies in the folder."""
    for path in folder.iterdir():
        path.unlink()
        yield path


def report(case: str, outcome: Outcome) -> None:
    """For `pytest -rP`: the figures of each file."""
    print(f"{outcome.cpu_seconds:5.2f} s {outcome.wall_seconds:6.2f} s {outcome.peak_bytes >> 20:5} MiB  {case}")


def test_every_good_file_is_accepted(convert: Converter, tmp_path: Path) -> None:
    refused = {}
    for task, files in (("model", good_models()), ("clean", good_datasets())):
        for case, upload in files.items():
            (tmp_path / "upload").write_bytes(upload)
            outcome = convert.convert(task, tmp_path / "upload", tmp_path / "canonical")
            report(case, outcome)
            if outcome.problem is not None or not (tmp_path / "canonical").exists():
                refused[case] = f"{outcome.problem}: {outcome.detail}"
            (tmp_path / "canonical").unlink(missing_ok=True)
    assert refused == {}
