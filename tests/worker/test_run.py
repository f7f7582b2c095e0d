"""Jobs and selections from message to files, in a real Celery worker."""

import hashlib
import json
from typing import Any
from uuid import UUID

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import update

from store.database import SessionFactory, transaction
from store.tables import Tenant

STAGES = ["validating", "scanning", "preparing_ends", "fitting_path", "sweeping", "selecting", "exporting"]


@pytest.fixture
def finished(bench: Any) -> UUID:
    """A repaired job, and the worker that did it still there."""
    bench.start_worker()
    job_id: UUID = bench.post()
    job = bench.wait_for_end(job_id)
    assert job.state == "succeeded", f"{job.problem}\n{bench.logs()}"
    return job_id


def test_a_job_leaves_its_result_its_files_and_its_history(bench: Any, finished: UUID) -> None:
    job, artifacts = bench.job(finished), bench.artifacts(finished)
    assert job.attempt == 1
    assert {"t", "reason", "criteria_met", "before", "after", "targets", "warnings", "seconds"} <= job.result.keys()
    assert job.result["before"]["clean_accuracy"] > 0.9
    assert {one["name"] for one in job.result["artifacts"]} == set(artifacts)
    assert {"repaired.safetensors", "path.safetensors", "report.html", "report.json", "curve.png"} <= set(artifacts)
    for row in artifacts.values():
        content = bench.storage.path(row.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (row.bytes, row.sha256), row.name
    manifest = json.loads(bench.storage.path(artifacts["manifest.json"].path).read_bytes())
    assert manifest["outputs"]["repaired.safetensors"]["sha256"] == artifacts["repaired.safetensors"].sha256
    assert manifest["seed"] == 7
    assert manifest["inputs"]["suspect"]["name"] == "my model"

    events = bench.events(finished)
    stages = [event.data["stage"] for event in events if event.type == "stage"]
    assert stages == sorted(set(stages), key=STAGES.index), "each stage once, in order"
    assert {"validating", "fitting_path", "sweeping", "exporting"} <= set(stages)
    assert events[-1].type == "succeeded"
    fractions = [event.data["fraction"] for event in events if event.type in ("stage", "progress")]
    assert fractions == sorted(fractions)
    assert any(event.type == "point" and event.data["t"] == job.result["t"] for event in events)


def test_another_t_is_exported_without_fitting_again(bench: Any, finished: UUID) -> None:
    selection_id = bench.select(finished, 0.0)
    bench.wait_for(lambda: bench.selection(selection_id).finished_at is not None, "the end of the selection")
    row = bench.selection(selection_id)
    assert row.state == "succeeded", row.problem
    assert row.figures["clean_accuracy"] == bench.job(finished).result["before"]["clean_accuracy"]
    artifact = bench.artifacts(finished)["weights-t=0.0.safetensors"]
    assert artifact.id == row.artifact_id
    weights = load_file(bench.storage.verify(artifact.path, artifact.sha256))
    for name, parameter in bench.suspect.named_parameters():
        assert torch.equal(weights[name], parameter), f"t = 0 is the suspect, but {name} differs"


def test_a_job_without_a_message_is_found_by_the_sweep(bench: Any) -> None:
    job_id = bench.post(send=False)
    bench.start_worker()
    assert bench.wait_for_end(job_id).state == "succeeded"


def test_a_job_that_its_tenants_limit_held_back_follows_when_another_ends(bench: Any, factory: SessionFactory) -> None:
    with transaction(factory) as session:
        session.execute(update(Tenant).values(max_running_jobs=1))
    endless = bench.post(steps=10**6)
    first, second = bench.start_worker(), bench.start_worker()
    bench.wait_for(lambda: bench.job(endless).state == "running", "the start of the first job")
    waiting = bench.post()
    bench.wait_for(lambda: bench.job(waiting).held_back_at is not None, "the other worker's look at it")
    assert bench.job(waiting).state == "queued"
    bench.cancel(endless)
    assert bench.wait_for_end(waiting).state == "succeeded"
    assert bench.job(waiting).started_at > bench.job(endless).finished_at
    assert "sent again" not in first.log.read_text() + second.log.read_text(), "no sweep had to find it"
