"""The stack in its order: Postgres, Redis, migrations, the local key, API and workers up; the other way down."""

import fcntl
import json
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import httpx

from client.attestation import make_signing_key
from client.local import KEY_FILE, SERVER_FILE, SIGNING_KEY_FILE
from client.serving import commands, embedded
from client.serving.embedded import CannotServe
from client.serving.parts import Guard, Launch, Part, running

TICK = 0.05  # seconds between two looks
WORKER_GRACE = 40.0  # seconds: a worker hands its job back and leaves within 30
MOST_DEATHS, IN_SECONDS = 3, 120.0  # of workers; more than that is no accident


class AlreadyRuns(CannotServe):
    """Another process holds the data folder."""


class Stopped(Exception):
    """Somebody asked `serve` to stop."""


class Stack:
    """One service in one data folder: `up()` starts it, `watch()` returns when it should end, `down()` stops it all."""

    def __init__(self, data: Path, host: str, port: int, workers: int, say: Callable[[str], None], lock: int) -> None:
        self.data, self.host, self.workers, self.say, self.lock = data.resolve(), host, workers, say, lock
        self.port = port or embedded.free_port()
        self.url = f"http://{_reachable(host)}:{self.port}"
        self.logs = self.data / "logs"
        self.asked_to_stop = threading.Event()
        self.parts: list[Part] = []
        self._worker_parts: dict[int, Part] = {}
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS + 1)
        self.environment = dict(os.environ)
        self._guard: Guard | None = None

    def up(self) -> None:
        """Starts every part and waits until the service is ready.

        Raises `CannotServe` when one does not start, `Stopped` when asked to stop meanwhile.
        """
        if embedded.port_taken(self.host, self.port):
            raise CannotServe(
                f"Port {self.port} on {self.host} is taken. Choose another with --port, or --port 0 for any free one."
            )
        for private in (self.logs, self.data / "files"):
            private.mkdir(mode=0o700, exist_ok=True)
        self._guard = Guard(keep=[self.lock])
        self._databases()
        self.environment.setdefault("STORAGE_URL", (self.data / "files").as_uri())
        if "MODECONN_SIGNING_KEY" not in self.environment:
            make_signing_key(self.data / SIGNING_KEY_FILE)
            self.environment["MODECONN_SIGNING_KEY"] = str(self.data / SIGNING_KEY_FILE)
        self.say("migrating the database")
        self._run("migrate", commands.migrate())
        self._run("key", commands.local_key(self.data / KEY_FILE))
        self.say(f"starting the API and {'one worker' if self.workers == 1 else f'{self.workers} workers'}")
        api = self._start(self._launch("api", commands.api(self.host, self.port)))
        self.environment.setdefault("MODECONN_THREADS", str(threads_each(self.workers)))
        self._worker_parts = {number: self._start_worker(number) for number in range(1, self.workers + 1)}
        workers = self._worker_parts.values()
        self._wait(self._ready, "the service did not become ready", 120, "api", api, *workers)
        entry = {"url": self.url, "pid": os.getpid()}
        (self.data / SERVER_FILE).write_text(json.dumps(entry) + "\n")

    def watch(self) -> None:
        """Returns when asked to stop. A worker that ends by itself (the kernel kills it where memory runs out) is
        replaced: its job goes on in the next one. Raises `CannotServe` when workers keep ending, or another part ends.
        """
        while not self.asked_to_stop.wait(0.5):
            for number, part in self._worker_parts.items():
                if not running(part.process):
                    self._replace_worker(number, part)
            self._check(*self.parts)

    def down(self) -> None:
        """Stops what runs, last started first, and leaves nothing behind. Once more does no harm."""
        (self.data / SERVER_FILE).unlink(missing_ok=True)
        while self.parts:
            part = self.parts.pop()
            self.say(f"stopping {part.name}")
            part.stop()
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None

    def _databases(self) -> None:
        bare = embedded.without_secrets(self.environment)
        started = []
        if "DATABASE_URL" not in self.environment:
            self.say("starting Postgres")
            folder = self.data / "postgres-data"
            launch, self.environment["DATABASE_URL"] = embedded.postgres(folder, self._log("postgres"), bare)
            part = self._start(launch)
            started.append((part, partial(embedded.postgres_ready, folder, part.process.pid)))
        if "REDIS_URL" not in self.environment:
            self.say("starting Redis")
            launch, url = embedded.redis(self.data, self._log("redis"), bare)
            self.environment["REDIS_URL"] = url
            started.append((self._start(launch), partial(embedded.redis_ready, url)))
        for part, ready in started:
            self._wait(ready, f"{part.name} did not start", 60, part.name, part)

    def _start_worker(self, number: int) -> Part:
        name = "worker" if self.workers == 1 else f"worker-{number}"
        arguments = [*commands.worker(), "-n", f"local-{os.getpid()}-{number}@%h"]
        return self._start(self._launch(name, arguments, grace=WORKER_GRACE))

    def _replace_worker(self, number: int, dead: Part) -> None:
        self._deaths.append(time.monotonic())
        if len(self._deaths) > MOST_DEATHS and self._deaths[-1] - self._deaths[0] < IN_SECONDS:
            raise CannotServe(self._with_log(f"{dead.name} keeps ending by itself", dead.name))
        self.say(f"{dead.name} has ended by itself (see {self._log(dead.name)}); starting another")
        dead.stop()  # what it left behind
        self.parts.remove(dead)
        self._worker_parts[number] = self._start_worker(number)

    def _launch(self, name: str, arguments: list[str], grace: float = 10.0) -> Launch:
        return Launch(
            name=name,
            arguments=arguments,
            environment={**self.environment, "PYTHONUNBUFFERED": "1"},
            folder=self.data,
            log=self._log(name),
            grace=grace,
        )

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _start(self, launch: Launch) -> Part:
        part = launch.start()
        self.parts.append(part)
        assert self._guard is not None
        self._guard.watch(part)
        return part

    def _run(self, name: str, arguments: list[str]) -> None:
        """A step that ends by itself and must succeed."""
        part = self._start(self._launch(name, arguments))
        self._wait(lambda: not running(part.process), f"the step '{name}' did not end", 300, name)
        self.parts.remove(part)
        if part.process.wait() != 0:
            raise CannotServe(self._with_log(f"The step '{name}' failed", name))

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2.0, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _wait(self, condition: Callable[[], bool], complaint: str, seconds: float, log: str, *parts: Part) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self.asked_to_stop.wait(TICK):
                raise Stopped
            self._check(*parts)
            if time.monotonic() > deadline:
                raise CannotServe(self._with_log(f"{complaint} within {seconds:.0f} s", log))

    def _check(self, *parts: Part) -> None:
        for part in parts:
            if not running(part.process):
                raise CannotServe(self._with_log(f"{part.name} has ended by itself", part.name))

    def _with_log(self, sentence: str, name: str) -> str:
        last = self._log(name).read_text(errors="replace").splitlines()[-12:]
        return f"{sentence}. The end of {self._log(name)}:\n" + "\n".join(last)


def threads_each(workers: int) -> int:
    """Cores for each worker's job: workers with more threads than cores between them ruin each other."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _reachable(host: str) -> str:
    """The host of a URL on which a listener on `host` answers from this machine."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = everywhere.get(host, host)
    return f"[{host}]" if ":" in host else host


@contextmanager
def only_one(data: Path) -> Iterator[int]:
    """Holds the data folder for this process; gives the lock's file number. Raises `AlreadyRuns` when it is held."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRuns(f"A service already runs in {data}: stop it first, or choose another --data.") from None
        yield lock.fileno()


@contextmanager
def stop_signals(event: threading.Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `event` instead of ending the process."""

    def ask(signum: int, frame: FrameType | None) -> None:
        event.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(
    data: Path, host: str, port: int, workers: int, say: Callable[[str], None], on_ready: Callable[[Stack], None]
) -> None:
    """Runs the stack in `data` until a signal asks for the end. Raises `CannotServe`; nothing is left running then."""
    with only_one(data) as lock:
        stack = Stack(data, host, port, workers, say, lock)
        with stop_signals(stack.asked_to_stop):
            try:
                stack.up()
                on_ready(stack)
                stack.watch()
            except Stopped:
                pass
            finally:
                stack.down()
