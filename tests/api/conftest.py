"""A real server (uvicorn) on a real database, with fresh tenants for every test, and the files that tests upload."""

import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import psutil
import pytest
import safetensors.torch
from PIL import Image
from sqlalchemy import Engine

from client.attestation import make_signing_key
from intake.launcher import convert_dataset, convert_model
from intake.limits import Limits
from modeconn_core.architectures import build
from store import files, jobs, keys
from store.database import SessionFactory, make_engine, session_factory, transaction
from store.jobs import NewArtifact
from store.settings import Settings
from store.storage import LocalStorage, StoredFile, artifact_name, canonical_name
from store.tables import KINDS, File, Job
from tests.api.results import ANALYSIS_RESULT, DIAGNOSIS_RESULT, REPAIR_RESULT, analysis_point, point
from tests.conftest import LOCALHOST, free_port

MAX_MODEL_BYTES = 3 << 20
MAX_DATASET_BYTES = 1 << 20
MAX_QUEUED_JOBS = 4
MAX_QUEUE_DEPTH = 1000
CLASSES = ["bird", "cat", "dog"]
PATH_BYTES = {"standard": bytes(range(256)) * 3, "robust": bytes(range(256)) * 5}
READY_SECONDS = 280  # the inspector imports torch, on a machine that may be busy


@pytest.fixture(scope="session")
def api_settings(
    postgres_admin: Engine, migrated_template: str, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings of the server that most tests share; its limits are low enough to reach."""
    name = f"api_{uuid4().hex}"
    signing_key = tmp_path_factory.mktemp("key") / "signing.key"
    make_signing_key(signing_key)
    with postgres_admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
        yield Settings(
            database_url=postgres_admin.url.set(database=name).render_as_string(hide_password=False),
            redis_url=redis_server.removesuffix("/0") + "/1",
            storage_url=tmp_path_factory.mktemp("storage").as_uri(),
            max_model_bytes=MAX_MODEL_BYTES,
            max_dataset_bytes=MAX_DATASET_BYTES,
            max_queued_jobs=MAX_QUEUED_JOBS,
            max_queue_depth=MAX_QUEUE_DEPTH,
            failed_keys_per_minute=100_000,
            signing_key=signing_key,
            builder_id="urn:test:service",
        )
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Server:
    """A running uvicorn."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def inspector(self) -> psutil.Process | None:
        """The architecture inspector that this server keeps, if it runs just now."""
        for child in psutil.Process(self.process.pid).children():
            if "modeconn_core.architectures" in " ".join(child.cmdline()):
                return child
        return None

    def logged(self, text: str) -> str:
        """The line of the log with this text; it is written when the answer has gone."""
        deadline = time.monotonic() + 30
        while True:
            lines = [line for line in self.log.read_text().splitlines() if text in line]
            if lines:
                return lines[0]
            assert time.monotonic() < deadline, f"{text!r} is not in the log"
            time.sleep(0.02)

    def wait_until_ready(self, route: str = "/readyz") -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                answer = httpx.get(f"{self.url}{route}", timeout=10)
                if answer.status_code == 200:
                    return
            except httpx.TransportError:
                answer = None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, answer.text if answer else self.log.read_text()
            time.sleep(0.1)


@contextmanager
def serving(settings: Settings, folder: Path) -> Iterator[Server]:
    """A server on these settings, ended at the end whatever happens."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "STORAGE_URL": settings.storage_url,
        "MODECONN_MAX_MODEL_BYTES": str(settings.max_model_bytes),
        "MODECONN_MAX_DATASET_BYTES": str(settings.max_dataset_bytes),
        "MODECONN_MAX_QUEUED_JOBS": str(settings.max_queued_jobs),
        "MODECONN_MAX_QUEUE_DEPTH": str(settings.max_queue_depth),
        "MODECONN_REQUESTS_PER_MINUTE": str(settings.requests_per_minute),
        "MODECONN_FAILED_KEYS_PER_MINUTE": str(settings.failed_keys_per_minute),
        "MODECONN_SIGNING_KEY": str(settings.signing_key or ""),
        "MODECONN_BUILDER_ID": settings.builder_id,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "uvicorn", "api.app:app", "--host", LOCALHOST, "--port", str(port)]
    log = folder / "api.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    server = Server(process, f"http://{LOCALHOST}:{port}", log)
    try:
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def server(api_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    with serving(api_settings, tmp_path_factory.mktemp("api")) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="session")
def database(api_settings: Settings) -> Iterator[SessionFactory]:
    """The shared server's database."""
    engine = make_engine(api_settings.database_url)
    yield session_factory(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def stored(api_settings: Settings) -> LocalStorage:
    """The shared server's storage."""
    return LocalStorage(api_settings.storage_root)


def png(shade: int, size: int = 32) -> bytes:
    """A noisy picture, another one for every shade."""
    pixels = np.random.default_rng(shade).integers(0, 256, (size, size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def zip_of(folders: list[str], *, images: int = 5, size: int = 32) -> bytes:
    """A zip with one folder of pictures per class."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, folder in enumerate(folders):
            for image in range(images):
                archive.writestr(f"{folder}/{image}.png", png(100 * number + image, size))
    return out.getvalue()


def model_bytes(classes: int = len(CLASSES), **options: Any) -> bytes:
    """A small model as a safetensors file."""
    module = build("preact_resnet18", classes, **({"width": 4} | options))
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})


@dataclass(frozen=True)
class Sample:
    """One canonical file with its facts, ready to be given to any tenant."""

    kind: str
    path: Path
    facts: dict[str, Any]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, bytes], Sample]:
    """Converts (name, kind, upload) with the real intake; the same name is converted once."""
    folder, known = tmp_path_factory.mktemp("samples"), dict[str, Sample]()

    def convert(name: str, kind: str, content: bytes) -> Sample:
        if name not in known:
            source, target = folder / f"{name}.upload", folder / name
            source.write_bytes(content)
            if kind == "model":
                facts = dict(convert_model(source, target, Limits()))
            else:
                facts = dict(convert_dataset(source, target, Limits(), kind=kind))  # type: ignore[arg-type]
            known[name] = Sample(kind, target, facts)
        return known[name]

    return convert


@dataclass
class Tenant:
    """Someone with a key, and what the store holds for them."""

    id: UUID
    http: httpx.Client
    key: str
    database: SessionFactory = field(repr=False)
    storage: LocalStorage = field(repr=False)

    def add_file(self, sample: Sample, **facts: Any) -> File:
        """A file row with its canonical bytes, as an upload leaves it; `facts` replace the sample's."""
        file_id = uuid4()
        suffix = ".safetensors" if sample.kind == "model" else ".npz"
        with self.storage.new_writer(canonical_name(self.id, file_id, suffix)) as writer:
            writer.write(sample.path.read_bytes())
            kept = writer.commit()
        with transaction(self.database) as session:
            return files.create_file(
                session,
                tenant_id=self.id,
                file_id=file_id,
                kind=sample.kind,
                name=sample.path.name,
                bytes=kept.bytes,
                sha256=kept.sha256,
                canonical_path=kept.name,
                canonical_sha256=kept.sha256,
                canonical_bytes=kept.bytes,
                facts=sample.facts | facts,
                retention=timedelta(days=1),
            )

    def jobs(self) -> int:
        """How many jobs the tenant has."""
        with transaction(self.database) as session:
            return sum(len(jobs.list_jobs(session, tenant_id=self.id, kind=kind, limit=1000)[0]) for kind in KINDS)

    def claim(self, job_id: str) -> Job:
        """Start a job as a worker does."""
        with transaction(self.database) as session:
            job = jobs.claim(session, job_id=UUID(job_id), worker="test", lease_seconds=60, max_attempts=3)
            assert job is not None
            return job

    def artifact(self, job: Job, name: str, content: bytes, media_type: str) -> NewArtifact:
        """A stored file of a job."""
        with self.storage.new_writer(artifact_name(job.id, job.attempt, name)) as writer:
            writer.write(content)
            kept: StoredFile = writer.commit()
        return NewArtifact(name=name, path=kept.name, bytes=kept.bytes, sha256=kept.sha256, media_type=media_type)

    def finish(self, job: Job, artifacts: list[NewArtifact], **result: Any) -> None:
        """End a claimed repair as succeeded; `result` replaces members of the usual one."""
        self._succeed(job, REPAIR_RESULT | result, artifacts)

    def finish_analysis(self, job: Job, artifacts: list[NewArtifact]) -> None:
        """End a claimed analysis as succeeded."""
        self._succeed(job, ANALYSIS_RESULT, artifacts)

    def finish_diagnosis(self, job: Job) -> None:
        """End a claimed diagnosis as succeeded."""
        self._succeed(job, DIAGNOSIS_RESULT, [])

    def _succeed(self, job: Job, result: dict[str, Any], artifacts: list[NewArtifact]) -> None:
        listed = [
            {"name": one.name, "bytes": one.bytes, "sha256": one.sha256, "media_type": one.media_type}
            for one in artifacts
        ]
        with transaction(self.database) as session:
            jobs.finish(
                session,
                job_id=job.id,
                attempt=job.attempt,
                result=result | {"artifacts": listed},
                artifacts=artifacts,
            )


@pytest.fixture
def new_tenant(server: Server, database: SessionFactory, stored: LocalStorage) -> Iterator[Callable[[], Tenant]]:
    """Makes tenants, each with a key and an HTTP client that carries it."""
    clients: list[httpx.Client] = []

    def make() -> Tenant:
        with transaction(database) as session:
            owner = keys.ensure_tenant(session, name=uuid4().hex)
            _, plaintext = keys.create_key(session, tenant_id=owner, label="test")
        client = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {plaintext}"}, timeout=60, follow_redirects=False
        )
        clients.append(client)
        return Tenant(owner, client, plaintext, database, stored)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    return new_tenant()


@pytest.fixture
def neighbour(new_tenant: Callable[[], Tenant]) -> Tenant:
    """Someone else."""
    return new_tenant()


@pytest.fixture
def stock(tenant: Tenant, sample: Callable[[str, str, bytes], Sample]) -> dict[str, str]:
    """Ids of a model, a clean set and a triggered set of the tenant."""
    wanted = {
        "suspect": ("suspect", "model", model_bytes),
        "clean": ("clean", "clean", lambda: zip_of(CLASSES)),
        "triggered": ("triggered", "triggered", lambda: zip_of(CLASSES[:2])),
    }
    return {
        role: str(tenant.add_file(sample(name, kind, content())).id) for role, (name, kind, content) in wanted.items()
    }


@pytest.fixture
def order(stock: dict[str, str]) -> dict[str, Any]:
    """The smallest body of `POST /repair`."""
    architecture = {"name": "preact_resnet18", "options": {"width": 4}}
    return {"suspect": stock["suspect"], "clean": stock["clean"], "architecture": architecture}


@pytest.fixture
def pair(tenant: Tenant, stock: dict[str, str], sample: Callable[[str, str, bytes], Sample]) -> dict[str, Any]:
    """The smallest body of `POST /analysis`."""
    robust = tenant.add_file(sample("robust", "model", model_bytes()))
    architecture = {"name": "preact_resnet18", "options": {"width": 4}}
    return {
        "regular": stock["suspect"],
        "robust": str(robust.id),
        "clean": stock["clean"],
        "architecture": architecture,
    }


@pytest.fixture
def finished_analysis(tenant: Tenant, pair: dict[str, Any]) -> str:
    """Id of an analysis that has succeeded, with its files."""
    job_id: str = tenant.http.post("/analysis", json=pair).raise_for_status().json()["id"]
    job = tenant.claim(job_id)
    with transaction(tenant.database) as session:
        points = [analysis_point("standard", 0.0), analysis_point("robust", 0.0)]
        jobs.record_analysis_points(session, job_id=job.id, attempt=job.attempt, points=points)
    made = [
        tenant.artifact(job, "path.safetensors", PATH_BYTES["standard"], "application/octet-stream"),
        tenant.artifact(job, "robust-path.safetensors", PATH_BYTES["robust"], "application/octet-stream"),
        tenant.artifact(job, "report.html", b"<!doctype html><title>Report</title>", "text/html"),
        tenant.artifact(job, "report.json", b'{"paths": 2}', "application/json"),
        tenant.artifact(job, "manifest.json", b'{"seed": 0}', "application/json"),
        tenant.artifact(job, "losses.png", png(1), "image/png"),
    ]
    tenant.finish_analysis(job, made)
    return job_id


@pytest.fixture
def finished_diagnosis(tenant: Tenant, order: dict[str, Any]) -> str:
    """Id of a diagnosis that has succeeded."""
    job_id: str = tenant.http.post("/diagnosis", json=order).raise_for_status().json()["id"]
    tenant.finish_diagnosis(tenant.claim(job_id))
    return job_id


@pytest.fixture
def finished(tenant: Tenant, order: dict[str, Any]) -> str:
    """Id of a job that has succeeded, with its files."""
    job_id: str = tenant.http.post("/repair", json=order).raise_for_status().json()["id"]
    job = tenant.claim(job_id)
    with transaction(tenant.database) as session:
        points = [point(0.5), point(0.0), point(0.25)]
        jobs.record_points(session, job_id=job.id, attempt=job.attempt, points=points)
    made = [
        tenant.artifact(job, "repaired.safetensors", bytes(range(256)) * 40, "application/octet-stream"),
        tenant.artifact(job, "path.safetensors", bytes(range(256)) * 60, "application/octet-stream"),
        tenant.artifact(job, "report.html", b"<!doctype html><title>Report</title>", "text/html"),
        tenant.artifact(job, "report.json", b'{"t": 0.25}', "application/json"),
        tenant.artifact(job, "manifest.json", b'{"seed": 0}', "application/json"),
        tenant.artifact(job, "trigger-0.png", png(1), "image/png"),
    ]
    tenant.finish(job, made)
    return job_id


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The body of a refusal, checked to be one that a person can act on."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{slug}", status), body
    assert body["title"]
    assert body["detail"]
    return body


def refused(answer: httpx.Response, status: int, slug: str) -> None:
    """A refusal; one of HEAD has no body that could say why."""
    if answer.request.method == "HEAD":
        assert answer.status_code == status
    else:
        problem(answer, status, slug)


def post(tenant: Tenant, order: dict[str, Any], **changes: Any) -> httpx.Response:
    return tenant.http.post("/repair", json=order | changes)
