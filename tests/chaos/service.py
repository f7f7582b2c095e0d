"""A whole service whose parts can be stopped, frozen, killed and started again, one by one."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psutil

from client import Client
from client.models import RepairSettings
from client.serving import commands, embedded
from client.serving.embedded import LOCALHOST
from client.serving.parts import Guard, Launch, Part, running
from store.settings import Settings

HOUSE = Path(__file__).resolve().parents[2]
PATIENCE = 280.0  # seconds that anything may take on a busy machine
LEASE_SECONDS, HEARTBEAT_SECONDS, SWEEP_SECONDS = 1.5, 0.5, 0.5


def wait_for(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> float:
    """Wait until it holds; returns the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + patience, f"{what} did not come"
        time.sleep(0.02)
    return time.monotonic() - began


def _says_ready(log: Path) -> bool:
    return b"ready." in log.read_bytes()


@dataclass
class Service:
    """Postgres, Redis, one API process and any number of workers, each as in production but for the short jobs."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    postgres: Launch
    redis: Launch
    port: int
    guard: Guard = field(default_factory=Guard)
    parts: dict[str, Part] = field(default_factory=dict)
    started: int = 0

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def start(self, name: str, launch: Launch) -> Part:
        part = launch.start()
        self.guard.watch(part)
        self.parts[name] = part
        return part

    def start_postgres(self) -> None:
        part = self.start("postgres", self.postgres)
        wait_for(lambda: embedded.postgres_ready(self.postgres.folder, part.process.pid), "Postgres")

    def start_redis(self) -> None:
        self.start("redis", self.redis)
        wait_for(lambda: embedded.redis_ready(self.settings.redis_url), "Redis")

    def start_api(self, *, port: int | None = None) -> str:
        """Starts an API process and waits until it is ready; returns its name."""
        number = self.port if port is None else port
        name = f"api-{number}"
        self.start(name, self._launch(name, commands.api(LOCALHOST, number)))
        wait_for(lambda: self.answers(f"http://{LOCALHOST}:{number}/readyz") == 200, "the API")
        return name

    def start_worker(self, **environment: str) -> str:
        """Starts a worker; does not wait. Returns its name."""
        self.started += 1
        name = f"worker-{self.started}"
        arguments = [word.replace("worker.app", "tests.chaos.worker_app") for word in commands.worker()]
        self.start(name, self._launch(name, [*arguments, "-n", f"{uuid4().hex}@chaos"], environment))
        return name

    def start_workers(self, count: int, **environment: str) -> list[str]:
        """Starts that many, and waits until all are ready."""
        names = [self.start_worker(**environment) for _ in range(count)]
        for name in names:
            wait_for(partial(_says_ready, self.log(name)), name)
        return names

    def _launch(self, name: str, arguments: list[str], more: dict[str, str] | None = None) -> Launch:
        return Launch(
            name=name,
            arguments=arguments,
            environment=self.environment | (more or {}),
            folder=HOUSE,
            log=self.log(name),
            grace=30.0,
        )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def kill_9(self, name: str) -> None:
        """Ends the process itself at once; what it started has to notice."""
        process = self.parts.pop(name).process
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        """Ends a part in order."""
        self.parts.pop(name).stop()

    def stop_workers(self) -> None:
        for name in [name for name in self.parts if name.startswith("worker")]:
            with suppress(psutil.NoSuchProcess):
                self.parts[name].process.send_signal(signal.SIGCONT)
            self.stop(name)

    def heal(self) -> None:
        """All but the workers runs again, whatever the last test did."""
        for name, start in (("postgres", self.start_postgres), ("redis", self.start_redis)):
            if name not in self.parts or not running(self.parts[name].process):
                start()
        api = f"api-{self.port}"
        if api not in self.parts or not running(self.parts[api].process):
            self.start_api()

    def down(self) -> None:
        self.stop_workers()
        for name in reversed(list(self.parts)):
            self.stop(name)
        self.guard.dismiss()

    def answers(self, url: str) -> int | None:
        """The status of a GET without a key; None where nobody answers."""
        try:
            return httpx.get(url, timeout=5.0, trust_env=False).status_code
        except httpx.TransportError:
            return None


@dataclass
class Customer:
    """A tenant who posts short jobs, retries as the SDK does, and keeps the log of what was answered 202."""

    url: str
    key: str
    tenant_id: UUID
    files: tuple[str, str]
    accepted: list[UUID] = field(default_factory=list)

    def post(
        self,
        count: int = 0,
        *,
        milliseconds: int = 60,
        first_seed: int = 0,
        seeds: list[int] | None = None,
        at_once: int = 4,
    ) -> None:
        """Posts jobs of that length, several at the same time, and returns when all are accepted."""
        with ThreadPoolExecutor(at_once) as pool, Client(self.url, self.key, attempts=100) as client:

            def one(seed: int) -> UUID:
                method = {"steps": milliseconds, "seed": seed}
                settings = RepairSettings.model_validate({"architecture": ARCHITECTURE, "method": method})
                return UUID(client.repair(*self.files, settings).id)

            for job_id in pool.map(one, seeds or range(first_seed, first_seed + count)):
                self.accepted.append(job_id)


ARCHITECTURE = {"name": "preact_resnet18", "options": {"width": 4}}


@contextmanager
def trouble(seconds: tuple[float, float], fault: Callable[[], None], *, seed: int = 0) -> Iterator[list[float]]:
    """Does `fault` again and again, a random time within `seconds` apart, until the block ends.

    Gives the list of when it was done. A fault that fails fails the block.
    """
    over, done, errors = threading.Event(), list[float](), list[BaseException]()
    generator = random.Random(seed)

    def repeat() -> None:
        try:
            while not over.wait(generator.uniform(*seconds)):
                fault()
                done.append(time.monotonic())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]
