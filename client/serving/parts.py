"""The child processes of the stack: how one is started, how it is stopped, and that nothing of it stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TICK = 0.02  # seconds between two looks
GRACE_OF_CHILDREN = 2.0  # seconds that children may live longer than the one that started them
AFTER_KILL = 5.0  # seconds that the kernel gets to remove what was killed


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A running part of the stack: its process, the signal that ends it in order, and how long that may take."""

    name: str
    process: psutil.Process
    stop_signal: signal.Signals
    grace: float

    def stop(self) -> None:
        """Ends the process and all that it started: first in order, after `grace` seconds by force."""
        family = self._family()
        with suppress(psutil.NoSuchProcess):
            self.process.send_signal(self.stop_signal)
        _wait_for({self.process}, self.grace)
        _wait_for(family, GRACE_OF_CHILDREN)
        for process in filter(running, self._family() | family):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _wait_for(family, AFTER_KILL)

    def _family(self) -> set[psutil.Process]:
        """The process, its descendants, and orphans that a dead one left in its session."""
        family = {process for process in psutil.process_iter() if _session(process.pid) == self.process.pid}
        with suppress(psutil.NoSuchProcess):
            family |= {self.process, *self.process.children(recursive=True)}
        return family


def running(process: psutil.Process) -> bool:
    """False once it has ended; a zombie has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for(processes: set[psutil.Process], seconds: float) -> None:
    """Returns when all have ended, or the time is over. (psutil's own wait takes a zombie for alive.)"""
    deadline = time.monotonic() + seconds
    while any(running(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(TICK)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What to start, and how it is stopped. `user` is a system account to run as, which only root may choose."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    user: str | None = None
    stdin: bytes = b""

    def start(self) -> Part:
        """Starts it in a session of its own, so that Ctrl-C reaches only `serve`. Its output goes to `log`."""
        with self.log.open("ab") as log:
            process = psutil.Popen(
                list(self.arguments),
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_identity(self.user),
            )
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(self.stdin)
        return Part(name=self.name, process=process, stop_signal=self.stop_signal, grace=self.grace)


def _identity(user: str | None) -> dict[str, object]:
    if user is None:
        return {}
    import pwd

    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class Guard:
    """A small process that outlives `serve` by a moment: should `serve` be killed, it stops the parts in order.

    It reads the parts from a pipe; the end of the pipe means that `serve` is gone. The files in `keep` stay open in it,
    and so the lock on the data folder is held until the last part has stopped.
    """

    def __init__(self, keep: Sequence[int] = ()) -> None:
        command = [sys.executable, "-m", "client.serving.guard"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # nobody who reads what `serve` prints has to wait for the guard
            text=True,
            start_new_session=True,
            pass_fds=keep,
        )

    def watch(self, part: Part) -> None:
        """Puts a part under its care."""
        assert self._process.stdin is not None
        entry = {"name": part.name, "pid": part.process.pid, "signal": int(part.stop_signal), "grace": part.grace}
        self._process.stdin.write(json.dumps(entry) + "\n")
        self._process.stdin.flush()

    def dismiss(self) -> None:
        """Ends it, after `serve` has stopped the parts itself."""
        self._process.communicate()
