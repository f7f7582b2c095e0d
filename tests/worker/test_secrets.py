"""What one job leaves in memory, and what the service keeps to itself, is in no output of another tenant's job."""

import dataclasses
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch

from store import keys
from store.database import transaction
from store.tables import ApiKey, JobEvent
from tests.scale import HOSTILE_JOBS

HOSTILE = Path(__file__).parent / "hostile_plugins"
DUMP = "memory"
WINDOW, STRIDE = 16, 8
"""A secret of 32 bytes is found by any of its pieces of 16 bytes that begin at a multiple of eight."""
LEAST_MEMORY = 50 << 20
"""A child that has torch in memory holds more; where less was read, the probe saw too little."""


@pytest.fixture
def hostile(bench: Any) -> Any:
    """The bench of the hostile tenant, with its plug-in."""
    bench.environment["PYTHONPATH"] += f":{HOSTILE}"
    return bench


@pytest.fixture
def victim(hostile: Any, other_tenant_id: UUID) -> Any:
    """The same worker's bench for another tenant."""
    return dataclasses.replace(hostile, tenant_id=other_tenant_id)


def run_victim(victim: Any) -> dict[str, bytes]:
    """A job with secrets in its weights, pixels and class names; the secrets by what they are."""
    random = np.random.default_rng()
    weights, pixels, name = random.standard_normal(8, np.float32), random.bytes(32), random.bytes(16).hex()
    state = {key: tensor.clone() for key, tensor in victim.suspect.state_dict().items()}
    largest = max(state.values(), key=torch.Tensor.numel)
    largest.view(-1)[:8] = torch.from_numpy(weights)
    images, labels = victim.images(48, 2)
    images.reshape(-1)[:32] = np.frombuffer(pixels, np.uint8)
    classes = [*victim.classes[:2], name]
    clean = victim.add_images("clean", images, labels, classes)
    job = victim.wait_for_end(
        victim.post(model=victim.add_model(state), clean=clean, classes=classes, accept_low_accuracy=True)
    )
    assert job.state == "succeeded", job.problem
    return {"weights": weights.tobytes(), "pixels": pixels, "class name": name.encode()}


def secrets_of_the_service(hostile: Any) -> dict[str, bytes]:
    """What no job may know: where the database and Redis are, and the hash of a key."""
    with transaction(hostile.factory) as session:
        key, _ = keys.create_key(session, tenant_id=hostile.tenant_id, label="a key")
        secret = session.get_one(ApiKey, key.id).secret_sha256
    return {
        "database": hostile.settings.database_url.encode(),
        "redis": hostile.settings.redis_url.encode(),
        "key": secret.encode(),
    }


def run_hostile(hostile: Any, **options: str) -> bytes:
    """Everything that came of one hostile job: row, events, and all bytes that it could write anywhere."""
    job_id = hostile.post(architecture={"name": "snooping_net", "options": options, "num_classes": 3})
    folder = hostile.settings.storage_root / "jobs" / str(job_id)
    hostile.wait_for(lambda: list(folder.rglob(DUMP)), "the dump")
    [dump] = folder.rglob(DUMP)
    memory = dump.read_bytes()
    assert len(memory) > LEAST_MEMORY
    dump.unlink()
    job = hostile.wait_for_end(job_id)
    assert "found: " in job.problem["detail"], job.problem
    return b"\n".join([memory, repr(job.problem).encode(), *(said(event) for event in hostile.events(job_id))])


def said(event: JobEvent) -> bytes:
    return repr((event.type, event.data)).encode()


def found(secrets: dict[str, bytes], output: bytes) -> list[str]:
    """Which secrets show, even in part."""
    return [what for what, secret in secrets.items() if any(piece in output for piece in pieces(secret))]


def pieces(secret: bytes) -> list[bytes]:
    if len(secret) > 64:  # of an address, the whole: its beginning is no secret
        return [secret]
    return [secret[at : at + WINDOW] for at in range(0, len(secret) - WINDOW + 1, STRIDE)]


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("count", HOSTILE_JOBS)
def test_a_job_finds_nothing_of_another_tenant_or_of_the_service(count: int, hostile: Any, victim: Any) -> None:
    hostile.start_worker()
    own = secrets_of_the_service(hostile)
    secrets = own | run_victim(victim)
    assert found({"planted": b"p" * 32}, run_hostile(hostile, planted="p" * 32)) == ["planted"]
    searched = 0
    for number in range(count):
        if number % 50 == 49:
            secrets = own | run_victim(victim)
        output = run_hostile(hostile)
        searched += len(output)
        assert found(secrets, output) == []
    print(f"{count} hostile jobs, {searched / count / (1 << 20):.0f} MiB of output each, no secret in it")
