"""Runs the reader of untrusted bytes in a child process of its own; all that other rooms need of the intake.

Imports the standard library only, so that the API can hold it. The parent opens both files and hands them over; the
child gets no path, no environment and no network, writes one JSON line, and the parent alone puts the result in place.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast, get_args

from intake.facts import DatasetFacts, DatasetKind, ModelFacts
from intake.limits import MIB, Limits
from intake.problems import PROBLEMS, IntakeFailed, IntakeRefused, refusal, shown
from intake.sandbox import Sandbox

__all__ = ["PROBLEMS", "IntakeFailed", "IntakeRefused", "Sandbox", "convert_dataset", "convert_model", "probe"]

_log = logging.getLogger(__name__)
_DATASET_KINDS: Final = get_args(DatasetKind)
TASKS: Final = ("model", *_DATASET_KINDS)
PROBE: Final = "probe"
_MAX_ANSWER_BYTES = 64 * MIB
_KEPT_ENVIRONMENT: Final = ("LD_LIBRARY_PATH",)
_ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def convert_model(src: Path, dst: Path, limits: Limits) -> ModelFacts:
    """Write the canonical safetensors form of the model at `src` to `dst`, atomically, and tell its facts.

    Raises `IntakeRefused` when the file is not accepted, and `IntakeFailed` when this machine could not do it;
    `dst` is untouched then.
    """
    return cast(ModelFacts, _convert("model", src, dst, limits))


def convert_dataset(src: Path, dst: Path, limits: Limits, *, kind: DatasetKind) -> DatasetFacts:
    """Write the canonical npz form of the data set at `src` to `dst`, atomically, and tell its facts.

    Raises as `convert_model` does.
    """
    if kind not in _DATASET_KINDS:
        raise ValueError(f"kind must be one of {', '.join(_DATASET_KINDS)}, not {kind!r}")
    return cast(DatasetFacts, _convert(kind, src, dst, limits))


def probe(limits: Limits) -> Sandbox:
    """What shuts the readers of uploads in on this machine, asked of one that reads nothing.

    Raises IntakeFailed when no reader can be started.
    """
    try:
        answer = _ask_child([PROBE], (), limits)
        return Sandbox(in_force=answer["in_force"], missing=answer["missing"])
    except (OSError, IntakeRefused, KeyError) as error:
        raise IntakeFailed(f"The reader of uploads cannot be started: {error}") from error


def _convert(task: str, src: Path, dst: Path, limits: Limits) -> dict[str, Any]:
    try:
        source = os.open(src, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            with _new_file(dst) as target:
                return dict(_ask_child([task, str(source), str(target)], (source, target), limits)["facts"])
        finally:
            os.close(source)
    except OSError as error:
        raise IntakeFailed(f"The upload could not be read, or its canonical form not written: {error}") from error


@contextmanager
def _new_file(dst: Path) -> Iterator[int]:
    """A file beside `dst`, open for writing, that becomes `dst` when the block ends well and vanishes otherwise."""
    part = dst.with_name(f".{dst.name}.{secrets.token_hex(8)}.part")
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            yield fd
            os.fsync(fd)
        finally:
            os.close(fd)
        part.replace(dst)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(dst.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ask_child(task: list[str], files: tuple[int, ...], limits: Limits) -> dict[str, Any]:
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", "intake", *task, str(os.getpid()), limits.to_json()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # what goes wrong before the first untrusted byte; the child closes it then
        pass_fds=files,
        env=_ENVIRONMENT | {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
        cwd="/",
        start_new_session=True,
    )
    try:
        answer = _read_answer(child, time.monotonic() + limits.wall_seconds)
        if answer is not None:
            child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        answer = None
    finally:
        if child.poll() is None:
            child.kill()
        errors = child.communicate()[1]
    if answer is None:
        raise refusal(
            "intake-timeout",
            f"Reading the file takes longer than {limits.wall_seconds:g} seconds. Upload a smaller file.",
        )
    return _understand(answer, child.returncode, errors, limits)


def _read_answer(child: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What the child wrote until it closed its end, or None if it did not in time or wrote too much."""
    assert child.stdout is not None
    pieces: list[bytes] = []
    total = 0
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(child.stdout.fileno(), MIB)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            total += len(piece)
            if total > _MAX_ANSWER_BYTES:
                return None
    return None


@functools.cache
def _warn_of_missing(what: str) -> None:
    _log.warning("the kernel lacks, for the sandbox of the intake's readers: %s", what)


def _understand(answer: bytes, code: int, errors: bytes, limits: Limits) -> dict[str, Any]:
    """The child's answer when all went well; raises what the answer, or the way the child died, says."""
    if code == -signal.SIGKILL:  # not from here: the machine ran out of memory
        raise refusal(
            "intake-out-of-memory", "The machine ran out of memory while reading the file. Upload a smaller one."
        )
    if code == -signal.SIGXCPU:
        raise refusal(
            "intake-timeout",
            f"Reading the file takes more than {limits.cpu_seconds} seconds of computing. Upload a smaller file.",
        )
    if code < 0:
        name = signal.Signals(-code).name
        raise refusal(
            "intake-crashed",
            f"The reader was stopped by {name}. Save the file again, or in another of the accepted formats.",
            signal=name,
        )
    try:
        message = json.loads(answer)
        if "missing" in message and code == 0:
            if message["missing"]:
                _warn_of_missing(", ".join(message["missing"]))
            return dict(message)
        if "refused" in message:
            raise IntakeRefused(**message["refused"])
    except (ValueError, KeyError, TypeError):
        message = {}
    reason = message.get("failed") or shown(errors.decode(errors="replace").strip()[-300:], 300) or "no answer"
    cause = OSError(message["errno"], reason) if message.get("errno") else None
    raise IntakeFailed(f"The reader ended with code {code}: {reason}") from cause
