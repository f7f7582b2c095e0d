"""The world of test_openapi: a server with wide limits, a tenant with good files, and a worker that the test plays."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import httpx
from sqlalchemy import select

from store import jobs, keys, selections
from store.database import make_engine, session_factory, transaction
from store.job_transitions import Problem
from store.jobs import NewArtifact
from store.settings import Settings
from store.storage import LocalStorage
from store.tables import Job, Selection

from ..api.conftest import CLASSES, Tenant, model_bytes, png, serving, zip_of
from ..api.results import analysis_point, point
from ..api.tus import TUS

PLENTY = 1_000_000
MOST_BEGUN = 20
BYTES = "application/octet-stream"
REPORTS = (
    ("report.html", b"<!doctype html><title>Report</title>", "text/html"),
    ("report.json", b'{"t": 0.25}', "application/json"),
    ("manifest.json", b'{"seed": 0}', "application/json"),
    ("picture.png", png(1), "image/png"),
)
WEIGHTS = {
    "repair": ("repaired.safetensors", "path.safetensors"),
    "analysis": ("path.safetensors", "robust-path.safetensors"),
}
GAVE_UP = Problem(type="/problems/attempts-exhausted", title="The job was given up", status=500, detail="Played.")


@dataclass
class World:
    """Where the server is, its tenant, good uploads (kind and bytes) by their part in a job, and their ids."""

    url: str
    tenant: Tenant
    uploads: dict[str, tuple[str, bytes]]
    files: dict[str, str] = field(default_factory=dict)
    held: list[Job] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    turns: Iterator[int] = field(default_factory=itertools.count)

    @property
    def key_id(self) -> str:
        """Of the key that every request carries."""
        return self.tenant.key.split("_")[1]

    def stock_up(self) -> None:
        """Upload what jobs need, again if it has been deleted meanwhile."""
        for part, (kind, content) in self.uploads.items():
            answer = self.tenant.http.post("/files", params={"kind": kind}, content=content).raise_for_status()
            self.files[part] = answer.json()["id"]

    def begin(self, upload_id: str) -> None:
        """A resumable upload has been begun: give the older ones up before the tenant may open no more."""
        self.begun.append(upload_id)
        if len(self.begun) > MOST_BEGUN:
            for begun in self.begun[:-1]:
                self.tenant.http.delete(f"/files/resumable/{begun}", headers=TUS)
            del self.begun[:-1]

    def work(self) -> None:
        """What a worker does, in no time: of five jobs three succeed, one fails and one goes on running."""
        with transaction(self.tenant.database) as session:
            queued = session.scalars(select(Job.id).where(Job.state == "queued").order_by(Job.created_at)).all()
            wanted = session.scalars(select(Selection.id).where(Selection.state == "queued")).all()
        for job_id in queued:
            self._play(self.tenant.claim(str(job_id)), next(self.turns) % 5)
        for selection_id in wanted:
            self._export(selection_id)

    def end_all(self) -> None:
        """End what still runs: the stream of a job that goes on would go on too."""
        self.work()
        for job in self.held:
            with transaction(self.tenant.database) as session:
                jobs.fail(session, job_id=job.id, attempt=job.attempt, problem=GAVE_UP)
        self.held.clear()

    def _play(self, job: Job, turn: int) -> None:
        if turn >= 3:
            self.held.append(job)
        elif job.kind == "repair":
            with transaction(self.tenant.database) as session:
                points = [point(0.0), point(0.25), point(1.0)]
                jobs.record_points(session, job_id=job.id, attempt=job.attempt, points=points)
            self.tenant.finish(job, self._made(job))
        else:
            with transaction(self.tenant.database) as session:
                points = [analysis_point("standard", 0.0), analysis_point("robust", 1.0)]
                jobs.record_analysis_points(session, job_id=job.id, attempt=job.attempt, points=points)
            self.tenant.finish_analysis(job, self._made(job))
        if turn == 3:
            self.end_all()

    def _made(self, job: Job) -> list[NewArtifact]:
        weights = ((name, bytes(range(256)), BYTES) for name in WEIGHTS[job.kind])
        return [self.tenant.artifact(job, *file) for file in (*REPORTS, *weights)]

    def _export(self, selection_id: UUID) -> None:
        with transaction(self.tenant.database) as session:
            held = selections.claim(session, selection_id=selection_id, worker="test", lease_seconds=60, max_attempts=3)
            assert held is not None
            job = session.get_one(Job, held.job_id)
            made = self.tenant.artifact(job, f"weights-t={held.t!r}.safetensors", bytes(range(256)), BYTES)
            figures = {"clean_accuracy": 0.7}
            selections.finish(session, selection_id=held.id, attempt=held.attempt, figures=figures, artifact=made)


@contextmanager
def a_world(settings: Settings, folder: Path) -> Iterator[World]:
    """A server of its own, whose limits no test reaches, with one tenant and one key of all scopes."""
    wide = {"max_queued_jobs": PLENTY, "requests_per_minute": PLENTY, "failed_keys_per_minute": PLENTY}
    own = settings.model_copy(update=wide)
    engine = make_engine(own.database_url)
    database = session_factory(engine)
    with transaction(database) as session:
        owner = keys.ensure_tenant(session, name=uuid4().hex)
        _, key = keys.create_key(session, tenant_id=owner, label="all scopes")
    uploads = {
        "suspect": ("model", model_bytes()),
        "robust": ("model", model_bytes()),
        "clean": ("clean", zip_of(CLASSES)),
        "triggered": ("triggered", zip_of(CLASSES[:2])),
    }
    headers = {"Authorization": f"Bearer {key}"}
    with serving(own, folder) as server, httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
        server.wait_until_ready()
        world = World(server.url, Tenant(owner, http, key, database, LocalStorage(own.storage_root)), uploads)
        world.stock_up()
        yield world
    engine.dispose()
