"""A real Celery worker process on real Postgres and Redis, a suspect that trains in a second, and images it knows."""

import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from modeconn_core.architectures.registry import plugins
from modeconn_core.batchnorm import reestimate
from store import files, jobs, queue, selections
from store.database import SessionFactory, transaction
from store.settings import Settings
from store.storage import LocalStorage, canonical_name
from store.tables import Job, JobEvent, Selection
from worker.holding import job_spec

HOUSE = Path(__file__).resolve().parents[2]
PLUGINS = Path(__file__).parent / "plugins"  # an operator's own package, found by its entry point
ARCHITECTURE = {"name": "colour_net", "options": {"width": 6}, "num_classes": 3}
CLASSES = ["blue", "green", "red"]  # folder names, sorted
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.3, 0.35]
PATIENCE = 240.0


def coloured_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 3, 8, 8) of noise in which one colour stands out, and its index in CLASSES (int64)."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = random.integers(0, 120, (count, 3, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 - label] += 100  # channels are red, green, blue
    return images, labels.astype(np.int64)


def as_tensor(images: np.ndarray) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return (torch.from_numpy(images).float() / 255 - mean) / std


@pytest.fixture(scope="session")
def suspect() -> nn.Module:
    """A small network that knows the colours."""
    torch.manual_seed(0)
    module: nn.Module = runpy.run_path(str(PLUGINS / "colour_net.py"))["build"](len(CLASSES), width=6)
    images, labels = coloured_images(96, seed=1)
    inputs, targets = as_tensor(images), torch.from_numpy(labels)
    module.train()
    for _ in range(40):
        module.zero_grad()
        cross_entropy(module(inputs), targets).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.3 * parameter.grad
    reestimate(module, inputs)
    return module


@dataclass
class WorkerProcess:
    """One `celery worker`, started as in production."""

    process: subprocess.Popen[bytes]
    log: Path

    def job_children(self) -> list[psutil.Process]:
        """The processes that run jobs: children of the fork server."""
        try:
            servers = psutil.Process(self.process.pid).children()
            return [child for server in servers for child in server.children()]
        except psutil.NoSuchProcess:
            return []

    def kill_9(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Bench:
    """What a test works with: files and jobs in the database, workers as processes."""

    settings: Settings
    factory: SessionFactory
    storage: LocalStorage
    tenant_id: UUID
    environment: dict[str, str]
    suspect: nn.Module
    folder: Path
    workers: list[WorkerProcess] = field(default_factory=list)
    classes = CLASSES

    @staticmethod
    def images(count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
        return coloured_images(count, seed)

    def start_worker(self) -> WorkerProcess:
        log = self.folder / f"worker-{len(self.workers)}.log"
        arguments = ["-A", "worker.app", "worker", "--pool", "threads", "--concurrency", "1", "-Q", "modeconn"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments, "--loglevel", "INFO", "-n", f"{uuid4().hex}@test"],
                cwd=HOUSE,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(WorkerProcess(process, log))
        return self.workers[-1]

    def add_model(self, state: dict[str, Tensor], *, prefix: str = "") -> UUID:
        def write(path: Path) -> None:
            save_file({prefix + name: tensor.contiguous() for name, tensor in state.items()}, path)

        return self._add("model", ".safetensors", write, {"prefix": prefix})

    def add_images(self, kind: str, images: np.ndarray, labels: np.ndarray, classes: list[Any]) -> UUID:
        facts = {"classes": classes, "shape": list(images.shape[1:]), "images": len(images)}
        return self._add(kind, ".npz", lambda path: np.savez(path, images=images, labels=labels), facts)

    def _add(self, kind: str, suffix: str, write: Callable[[Path], None], facts: dict[str, Any]) -> UUID:
        file_id = uuid4()
        with self.storage.scratch() as scratch:
            write(scratch / f"canonical{suffix}")
            stored = self.storage.adopt(scratch / f"canonical{suffix}", canonical_name(self.tenant_id, file_id, suffix))
        with transaction(self.factory) as session:
            files.create_file(
                session,
                tenant_id=self.tenant_id,
                file_id=file_id,
                kind=kind,
                name=f"my {kind}",
                bytes=stored.bytes,
                sha256=stored.sha256,
                canonical_path=stored.name,
                canonical_sha256=stored.sha256,
                canonical_bytes=stored.bytes,
                facts=facts,
                retention=timedelta(days=1),
            )
        return file_id

    def post(
        self,
        *,
        steps: int = 4,
        model: UUID | None = None,
        clean: UUID | None = None,
        triggered: UUID | None = None,
        second: UUID | None = None,
        deadline: timedelta = timedelta(hours=1),
        send: bool = True,
        **request: Any,
    ) -> UUID:
        """A job as `POST /repair` makes it. `steps`: 4 ends within seconds, 10**6 never does."""
        model = model or self.add_model(self.suspect.state_dict())
        clean = clean or self.add_images("clean", *coloured_images(48, seed=2), CLASSES)
        body = {
            "architecture": ARCHITECTURE,
            "preprocessing": {"mean": MEAN, "std": STD, "size": None, "channels": "RGB"},
            "classes": CLASSES,
            "select_with_triggered": False,
            "tampering": "backdoor",
            "criteria": {"max_accuracy_drop": 0.025, "max_attack_success_rate": 0.05},
            "method": {
                "curve": "bezier",
                "bends": 1,
                "ends": "permuted",
                "steps": steps,
                "mirror": True,
                "plane": 0,
                "seed": 7,
            },
            "accept_low_accuracy": False,
        } | request
        with transaction(self.factory) as session:
            job = jobs.create_job(
                session,
                tenant_id=self.tenant_id,
                request=body,
                suspect_file_id=model,
                clean_file_id=clean,
                triggered_file_id=triggered,
                second_file_id=second,
                labels={},
                seed=7,
                deadline=deadline,
                retention=timedelta(days=1),
                max_queued=10,
            )
            if send:
                jobs.mark_enqueued(session, job_ids=[job.id])
        if send:
            queue.send_job(self.settings.redis_url, job.id)
        return job.id

    def select(self, job_id: UUID, t: float) -> UUID:
        with transaction(self.factory) as session:
            row = selections.create(session, tenant_id=self.tenant_id, job_id=job_id, t=t, max_queued=10)
        assert row is not None
        queue.send_selection(self.settings.redis_url, row.id)
        return row.id

    def cancel(self, job_id: UUID) -> None:
        with transaction(self.factory) as session:
            jobs.request_cancel(session, tenant_id=self.tenant_id, job_id=job_id)

    def job(self, job_id: UUID) -> Job:
        with transaction(self.factory) as session:
            return session.get_one(Job, job_id)

    def selection(self, selection_id: UUID) -> Selection:
        with transaction(self.factory) as session:
            return session.get_one(Selection, selection_id)

    def events(self, job_id: UUID) -> list[JobEvent]:
        with transaction(self.factory) as session:
            return list(jobs.events_after(session, tenant_id=self.tenant_id, job_id=job_id, after_id=0, limit=10_000))

    def artifacts(self, job_id: UUID) -> dict[str, Any]:
        with transaction(self.factory) as session:
            rows = jobs.artifacts(session, tenant_id=self.tenant_id, job_id=job_id)
            return {row.name: row for row in rows}

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition` holds; a worker that died by itself ends the wait at once."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, f"{what} did not come\n{self.logs()}"
            time.sleep(0.05)

    def wait_for_end(self, job_id: UUID) -> Job:
        self.wait_for(lambda: self.job(job_id).finished_at is not None, "the end of the job")
        return self.job(job_id)

    def wait_for_work(self, worker: WorkerProcess, job_id: UUID, *, attempt: int = 1) -> psutil.Process:
        """Wait until that attempt is at its fit in `worker`; returns the child that does it."""

        def at_its_fit() -> bool:
            events = self.events(job_id)
            running = {"state": "running", "attempt": attempt}
            began = [event.id for event in events if event.type == "state" and event.data == running]
            fits = [event.id for event in events if event.type == "stage" and event.data["stage"] == "fitting_path"]
            return bool(began) and bool(fits) and fits[-1] > began[0]

        self.wait_for(at_its_fit, f"the fit of attempt {attempt}")
        [child] = worker.job_children()
        return child

    def files_of(self, job_id: UUID) -> set[str]:
        """First folders under the job's folder in the storage."""
        folder = self.settings.storage_root / "jobs" / str(job_id)
        return {each.name for each in folder.iterdir()} if folder.exists() else set()

    def logs(self) -> str:
        return "\n".join(f"--- {worker.log.name}\n{worker.log.read_text()}" for worker in self.workers)


@pytest.fixture
def bench(
    settings: Settings,
    factory: SessionFactory,
    storage: LocalStorage,
    tenant_id: UUID,
    service_environment: dict[str, str],
    suspect: nn.Module,
    tmp_path: Path,
) -> Iterator[Bench]:
    environment = service_environment | {"PYTHONPATH": str(PLUGINS)}
    bench = Bench(settings, factory, storage, tenant_id, environment, suspect, tmp_path)
    yield bench
    for worker in bench.workers:
        if worker.process.poll() is None:
            worker.process.terminate()
    for worker in bench.workers:
        worker.process.wait(30)


@pytest.fixture
def plugged_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operator's package is there for this process, too, whatever was looked up in it before."""
    monkeypatch.syspath_prepend(bench.environment["PYTHONPATH"])
    plugins.cache_clear()
    yield
    plugins.cache_clear()


Outcome = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture
def run_here(bench: Bench, plugged_in: None) -> Callable[[ModuleType, UUID], Outcome]:
    """Does a posted job's work (a module of `worker.child.WORK`) in this process: what it ends with, and its messages
    on the way."""

    def run(work: ModuleType, job_id: UUID) -> Outcome:
        with transaction(bench.factory) as session:
            spec = job_spec(session, session.get_one(Job, job_id), bench.settings)
        messages: list[dict[str, Any]] = []
        return work.run(spec, messages.append), messages

    return run
