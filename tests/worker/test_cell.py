"""A job's child that falls into bad hands reaches nothing but its own job: real worker, hostile code in the child."""

import hashlib
import json
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

HOSTILE = Path(__file__).parent / "hostile_plugins"
SECRET = b"secret"
JOB_MEMORY = 2 << 30
ALLOWED = {"write in its own room", "read fonts and packages", "compute with threads"}


@pytest.fixture
def hostile(bench: Any) -> Any:
    """The bench, with the hostile plug-in installed."""
    bench.environment["PYTHONPATH"] += f":{HOSTILE}"
    bench.environment["MODECONN_JOB_MEMORY_BYTES"] = str(JOB_MEMORY)
    return bench


@pytest.fixture
def neighbour(bench: Any) -> str:
    """Storage name of another tenant's file."""
    name = f"files/{uuid4()}/{uuid4()}/canonical.npz"
    with bench.storage.new_writer(name) as writer:
        writer.write(SECRET)
        writer.commit()
    return name


def test_hostile_code_in_the_child_reaches_only_its_own_job(hostile: Any, neighbour: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0.1)
        options = {
            "port": canary.getsockname()[1],
            "secret": str(hostile.storage.path(neighbour)),
            "storage": str(hostile.storage.root),
            "memory": JOB_MEMORY + (1 << 30),
        }
        hostile.start_worker()
        job = hostile.wait_for_end(
            hostile.post(architecture={"name": "prying_net", "options": options, "num_classes": 3})
        )
        with pytest.raises(TimeoutError):
            canary.accept()
    found = json.loads(job.problem["detail"].partition("found: ")[2])
    assert {what for what, came_of in found.items() if came_of == "succeeded"} == ALLOWED, found
    assert hostile.storage.path(neighbour).read_bytes() == SECRET
    assert "the kernel lacks" not in hostile.logs()


def test_a_child_cannot_pass_anothers_file_off_as_its_own(hostile: Any, neighbour: str) -> None:
    options = {"path": neighbour, "sha256": hashlib.sha256(SECRET).hexdigest(), "width": 6}
    hostile.start_worker()
    job_id = hostile.post(architecture={"name": "lying_net", "options": options, "num_classes": 3})
    job = hostile.wait_for_end(job_id)
    assert (job.state, job.problem["type"]) == ("failed", "/problems/repair-crashed")
    assert hostile.artifacts(job_id) == {}
    assert hostile.storage.path(neighbour).read_bytes() == SECRET
