"""A backup taken while jobs run becomes a service elsewhere: finished work is there, and what ran runs to its end."""

import signal

import pytest

from client import Client
from client.local import KEY_FILE, find_service
from tests.e2e.conftest import Serve

HOW = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--classes", "circle,square,stripes"]
HOW += ["--max-accuracy-drop", "100", "--max-asr", "100", "--steps", "5"]
WEIGHTS = "repaired.safetensors"


@pytest.mark.timeout(900)  # three jobs, one after the other, and two starts
def test_a_service_is_restored_from_a_backup_taken_while_jobs_ran(serve, example, tmp_path, until):
    once = tmp_path / "once"
    once.mkdir()
    (once / "child.sweeping").touch()  # not yet
    stopping = {"MODECONN_FAILPOINTS": "child.sweeping:stop", "MODECONN_FAILPOINTS_ONCE": str(once)}
    serve.environment |= stopping
    serve.start()
    post = ["repair", str(example.model), "--clean", str(example.clean), *HOW]
    finished = serve.json(*post, "--out", str(tmp_path / "before"))["id"]
    (once / "child.sweeping").unlink()
    running = serve.json(*post, "--no-wait")["id"]
    until((once / "child.sweeping").exists)
    queued = serve.json(*post, "--no-wait")["id"]
    key = (serve.data / KEY_FILE).read_text().strip()

    file = tmp_path / "backup"
    done = serve.command("backup", str(file), "--data", str(serve.data))
    assert done.returncode == 0, done.stderr
    assert serve.json("show", running)["state"] == "running"
    refused = serve.command("restore", str(file), "--data", str(serve.data))
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    serve.end(signal.SIGTERM)

    damaged = tmp_path / "damaged"
    damaged.write_bytes(file.read_bytes()[:-1])
    new = Serve(serve.data.parent / "new" / "data")
    refused = new.command("restore", str(damaged), "--data", str(new.data))
    assert refused.returncode == 1
    assert "cut off or altered" in refused.stderr
    assert list(new.data.parent.iterdir()) == []
    done = new.command("restore", str(file), "--data", str(new.data))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in new.data.parent.iterdir()] == ["data"]
    assert new.processes() == []

    new.start()
    try:
        place = find_service(None, None, new.data)
        with Client(place.url, key) as client:  # the key of the service that was backed up
            again = client.job(finished).download_artifact(WEIGHTS, tmp_path / "after")
            assert again.read_bytes() == (tmp_path / "before").read_bytes()
            for job_id in (running, queued):
                assert client.job(job_id).wait().state == "succeeded"
    finally:
        new.end(signal.SIGTERM)
