"""A throw-away service for measurements: Postgres and Redis, migrated, and the processes that are asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from alembic import command
from sqlalchemy import Engine

from client.serving import commands, embedded
from client.serving.embedded import LOCALHOST
from client.serving.parts import Guard, Launch, Part
from migrations import alembic_config
from store.database import make_engine

_PATIENCE = 180.0


@dataclass
class Service:
    """What runs so far. Processes are pinned to the cores that are named, so that the client's load is not theirs."""

    folder: Path
    environment: dict[str, str]
    guard: Guard = field(default_factory=Guard)
    parts: list[Part] = field(default_factory=list)
    url: str = ""

    @property
    def engine(self) -> Engine:
        return make_engine(self.environment["DATABASE_URL"])

    def start(self, launch: Launch, ready: Callable[[Part], bool]) -> None:
        part = launch.start()
        self.guard.watch(part)
        self.parts.append(part)
        deadline = time.monotonic() + _PATIENCE
        while not ready(part):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{launch.name} did not start; its log is {launch.log}")
            time.sleep(0.05)

    def start_api(self) -> None:
        """One uvicorn process."""
        port = embedded.free_port()
        self.url = f"http://{LOCALHOST}:{port}"
        self.start(self._launch("api", commands.api(LOCALHOST, port)), lambda _: _ready(self.url))

    def start_worker(self) -> None:
        """One worker, idle when this returns."""
        launch = self._launch("worker", commands.worker())
        self.start(launch, lambda _: b"ready." in launch.log.read_bytes())

    def _launch(self, name: str, arguments: list[str]) -> Launch:
        log = self.folder / f"{name}.log"
        return Launch(
            name=name, arguments=arguments, environment=self.environment, folder=self.folder, log=log, grace=30.0
        )


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def running(settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """A migrated Postgres and a Redis, with `settings` added to the environment of what is started later."""
    folder = Path(tempfile.mkdtemp(prefix="modeconn-bench-"))  # as root Postgres runs under its own account
    bare = embedded.without_secrets(os.environ)
    postgres, database_url = embedded.postgres(folder / "pgdata", folder / "postgres.log", bare)
    redis, redis_url = embedded.redis(folder, folder / "redis.log", bare)
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STORAGE_URL": (folder / "storage").as_uri(),
        "MODECONN_DEVICE": "cpu",
        **(settings or {}),
    }
    service = Service(folder, environment)
    try:
        service.start(postgres, lambda part: embedded.postgres_ready(folder / "pgdata", part.process.pid))
        service.start(redis, lambda _: embedded.redis_ready(redis_url))
        command.upgrade(alembic_config(database_url), "head")
        yield service
    finally:
        for part in reversed(service.parts):
            part.stop()
        service.guard.dismiss()
        shutil.rmtree(folder, ignore_errors=True)
