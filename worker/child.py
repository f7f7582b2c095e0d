"""The child process that does the work: forked from a server with torch preloaded, heard through one pipe."""

import errno
import faulthandler
import importlib
import json
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from worker import problems
from worker.last_words import LastWords
from worker.problems import JobProblem
from worker.spec import JobKind, JobSpec, SelectionSpec

Message = dict[str, Any]
Send = Callable[[Message], None]
Spec = JobSpec | SelectionSpec

# Modules whose `run(spec, send) -> {"result": ..., "artifacts": [...]}` does the work. The parent has no torch.
WORK: dict[JobKind, str] = {
    "repair": "worker.job",
    "analysis": "worker.analysis",
    "diagnosis": "worker.diagnosis",
}
SELECT = "worker.selection"
CELL = "worker.cell"  # has such a `run` too: shuts the child in, then calls that of the work

_CONTEXT = multiprocessing.get_context("forkserver")
_LONGEST_MESSAGE = 64 << 20  # of a child that may be in bad hands
_LOST_SERVER = 255  # what multiprocessing reports when the fork server itself is gone
_ENVIRONMENT = {
    # Keep freed tensors in the process instead of giving the pages back each step; measured: +30 % on the CPU.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    # Ask the driver's library whether there is a GPU: asking CUDA itself would spoil it for all forked children.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
_PRELOAD = [*WORK.values(), SELECT, CELL, "torch._dynamo"]  # the last: what the first optimizer imports, for seconds

log = logging.getLogger(__name__)


def start_forkserver(storage_root: Path, device: str) -> None:
    """Start the server that children are forked from, and wait until it is ready (the import of torch takes seconds,
    which no lease should pay for). It never touches CUDA. Logs what the kernel lacks for the children's sandbox.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _CONTEXT.set_forkserver_preload(_PRELOAD)
    answers, theirs = _CONTEXT.Pipe(duplex=False)
    first = _CONTEXT.Process(target=_try_the_sandbox, args=(CELL, storage_root, device, theirs))
    first.start()
    theirs.close()
    with answers, suppress(EOFError):
        if missing := json.loads(answers.recv_bytes()):
            log.warning("the kernel lacks, for the sandbox of jobs: %s", ", ".join(missing))
    first.join()


def _try_the_sandbox(cell: str, storage_root: Path, device: str, answers: Connection) -> None:
    """The first child's work: once it is done, the server has imported everything and children start at once."""
    missing = importlib.import_module(cell).try_out(storage_root, device)
    answers.send_bytes(json.dumps(missing).encode())


class Child:
    """One running child, as its parent sees it."""

    def __init__(self, spec: Spec) -> None:
        self.messages, theirs = _CONTEXT.Pipe(duplex=False)
        heard, printed = _CONTEXT.Pipe(duplex=False)
        self.last_words = LastWords(heard)
        self._process = _CONTEXT.Process(target=_main, args=(CELL, spec, theirs, printed), daemon=True)
        self._process.start()
        theirs.close()  # so that its death closes the pipe
        printed.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """Becomes readable when the child is dead."""
        return self._process.sentinel

    def waiting_messages(self) -> Iterator[Message]:
        """Messages that have arrived; none where the pipe is at its end. Never blocks for long."""
        with suppress(EOFError, OSError):
            while self.messages.poll():
                yield json.loads(self.messages.recv_bytes(_LONGEST_MESSAGE))

    def kill(self) -> None:
        """End the child now, whatever it does; its memory (and the GPU's) is free when this returns."""
        if self._process.is_alive():
            self._process.kill()
        elif self._process.exitcode == _LOST_SERVER and self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._process.join()
        self.messages.close()
        self.last_words.relay()
        self.last_words.close()

    def how_it_died(self) -> str:
        """In a sentence, for the operator and the user."""
        self._process.join(5)
        code = self._process.exitcode
        if code is None or code == _LOST_SERVER:
            return "The process that ran it was lost."
        if code == -signal.SIGKILL:
            return "The process that ran it was killed, most often because the machine ran out of memory."
        if code < 0:
            return f"The process that ran it was ended by {signal.Signals(-code).name}."
        return f"The process that ran it ended with exit code {code} and without a result."


def _main(cell: str, spec: Spec, messages: Connection, printed: Connection) -> None:
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    faulthandler.enable(file=2, all_threads=False)
    # Ctrl-C and a supervisor's TERM reach the whole process group: the parent decides what they mean
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _be_the_first_to_go()
    _keep_open(messages.fileno())

    def send(message: Message) -> None:
        messages.send_bytes(json.dumps(_plain(message), allow_nan=False).encode())

    send(_outcome(cell, spec, send))
    messages.close()


def _outcome(cell: str, spec: Spec, send: Send) -> Message:
    """How the work ended: `done`, `problem` (another attempt would end the same) or `interrupted` (it might not)."""
    try:
        return {"kind": "done", **importlib.import_module(cell).run(spec, send)}
    except JobProblem as problem:
        return {"kind": "problem", "problem": problem.body} | ({"trace": _trace()} if problem.__cause__ else {})
    except Exception as error:
        if trouble := _disk_trouble(error):
            return {"kind": "interrupted", "reason": f"{type(error).__name__}: {trouble}", "trace": _trace()}
        if _is_out_of_memory(error):
            return {"kind": "problem", "problem": problems.out_of_memory(_memory_of(error)), "trace": _trace()}
        lines = str(error).splitlines() or [""]
        return {
            "kind": "problem",
            "problem": problems.crashed(f"{type(error).__name__}: {lines[0]}"),
            "trace": _trace(),
        }


def _disk_trouble(error: Exception) -> str | None:
    """What the system says is wrong with the disk (full, over quota, broken) or a volume; None: nothing.

    The writer of safetensors is not Python's: of the system's error it keeps only the words.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    words = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO))
    return next((word for word in words if word in str(error)), None)


def _trace() -> str:
    return "".join(traceback.format_exception(*sys.exc_info()))


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _memory_of(error: Exception) -> str:
    return "GPU" if "CUDA" in str(error) else "machine"


def die_with_the_worker() -> None:
    """A worker killed with -9 cannot end its child; another worker will run the job, so this one must not go on."""

    def wait_and_die() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait_and_die, daemon=True).start()


def _keep_open(messages: int) -> None:
    """Close what the fork server's helpers left open: through one of these a child could have files removed."""
    parent = multiprocessing.parent_process()
    kept = {0, 1, 2, messages, *([parent.sentinel] if parent else [])}
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - kept:
        with suppress(OSError):  # the one that listed them
            os.close(descriptor)


def _be_the_first_to_go() -> None:
    """When the machine's memory runs out, the kernel should take this process and not the worker or the database."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _plain(value: Any) -> Any:
    """JSON values only; numbers that are not finite become null (Postgres' jsonb knows none)."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
