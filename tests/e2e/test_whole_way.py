"""From upload to download through the real service and its command line. And nothing stays behind."""

import hashlib
import json
import os
import signal
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from client import Client
from client.local import find_service
from client.serving.stack import MOST_DEATHS
from modeconn_core.architectures import build

# Generous criteria: this test is about the way, not about how well so small a model can be repaired.
HOW = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--classes", "circle,square,stripes"]
HOW += ["--max-accuracy-drop", "100", "--max-asr", "100", "--steps", "10"]


def loaded(path: Path) -> torch.nn.Module:
    """The file in its owner's own module, all keys and shapes."""
    module = build("preact_resnet18", 3, width=4)
    module.load_state_dict(load_file(path), strict=True)
    return module.eval()


def test_a_model_comes_back_repaired(serve, example, tmp_path):
    serve.start()
    target = tmp_path / "repaired.safetensors"
    arguments = [str(example.model), "--clean", str(example.clean), "--triggered", str(example.triggered)]
    done = serve.command("repair", *arguments, *HOW, "--out", str(target), "--label", "from=e2e", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    result = job["result"]

    # the recognised architecture, the stages and the verdict
    assert job["architecture"] == {
        "name": "preact_resnet18",
        "options": job["architecture"]["options"],
        "num_classes": 3,
    }
    for stage in ("fitting the path", "sweeping t"):
        assert stage in done.stderr
    assert result["criteria_met"] is True
    assert result["reason"]

    # what was downloaded is what was announced, and fits the owner's own module
    artifact = {entry["name"]: entry for entry in result["artifacts"]}["repaired.safetensors"]
    assert hashlib.sha256(target.read_bytes()).hexdigest() == artifact["sha256"]
    suspect, repaired = load_file(example.model), load_file(target)
    assert {name: (t.dtype, t.shape) for name, t in repaired.items()} == {
        n: (t.dtype, t.shape) for n, t in suspect.items()
    }
    assert any(not torch.equal(repaired[name], suspect[name]) for name in suspect)
    module = loaded(target)
    with torch.inference_mode():
        accuracy = (module(example.clean_images).argmax(1) == example.clean_labels).float().mean().item()
    assert abs(accuracy - result["after"]["clean_accuracy"]) < 0.25  # other images, the same model

    # the rest of the evidence, by the SDK
    place = find_service(None, None, serve.data)
    with Client(place.url, place.key) as client:
        repair = client.job(job["id"])
        events = list(repair.events())
        points = repair.curve()
        for name in ("report.html", "curve.png", "manifest.json"):
            assert repair.download_artifact(name, tmp_path / name).stat().st_size > 500
    stages = list(dict.fromkeys(event.data["stage"] for event in events if event.type == "stage"))
    assert stages[0] == "validating"
    assert stages.index("fitting_path") < stages.index("sweeping") < stages.index("selecting")
    assert events[-1].type == "succeeded"
    ids = [int(event.id) for event in events]
    assert ids == sorted(set(ids))
    assert result["t"] in [point.t for point in points]

    # a refusal says what to do, and the next start finds the job again
    refused = serve.command("repair", str(example.model), "--clean", str(example.clean), "--arch", "preact_resnet81")
    assert refused.returncode == 6
    assert "preact_resnet18" in refused.stderr
    assert serve.end(signal.SIGTERM) == 0
    assert serve.processes() == []
    serve.start()
    assert [(row["id"], row["state"], row["labels"]) for row in serve.json("jobs")] == [
        (job["id"], "succeeded", {"from": "e2e"})
    ]


def test_a_running_job_is_cancelled_and_a_killed_serve_leaves_nothing(serve, example, until):
    serve.start()
    endless = [*HOW[:-1], "100000", "--no-wait"]
    first = serve.json("repair", str(example.model), "--clean", str(example.clean), *endless)["id"]
    until(lambda: serve.json("show", first)["stage"] == "fitting_path")  # it lasts, whatever else the machine does
    second = serve.json("repair", str(example.model), "--clean", str(example.clean), *endless)["id"]
    assert serve.json("show", second)["queue_position"] == 1
    serve.json("cancel", first)
    until(lambda: serve.json("show", first)["state"] == "cancelled")

    until(lambda: serve.json("show", second)["stage"] == "fitting_path")
    assert len(serve.processes()) > 5
    serve.end(signal.SIGKILL)
    until(lambda: serve.processes() == [])


def test_workers_that_share_a_machine_share_its_cores(serve):
    del serve.environment["MODECONN_THREADS"]
    serve.start("--workers", "2")
    workers = [process for process in psutil.process_iter() if _works_for(process, str(serve.data))]
    assert len(workers) == 2
    each = max(1, len(os.sched_getaffinity(0)) // 2)
    assert [worker.environ()["MODECONN_THREADS"] for worker in workers] == [str(each)] * 2


def test_workers_that_keep_dying_end_the_service(serve, until):
    serve.start()
    seen: set[int] = set()

    def alive() -> list[psutil.Process]:
        found = [one for one in psutil.process_iter() if _works_for(one, str(serve.data)) and one.pid not in seen]
        return [one for one in found if one.ppid() == serve.process.pid]

    for _ in range(MOST_DEATHS + 1):
        until(alive)
        [worker] = alive()
        seen.add(worker.pid)
        worker.kill()
    serve.process.communicate()
    assert serve.process.returncode == 1
    assert serve.processes() == []


def _works_for(process: psutil.Process, data: str) -> bool:
    """Is it a worker of the service in that folder?"""
    try:
        return "celery" in process.cmdline() and process.cwd() == data
    except psutil.Error:
        return False


def test_what_is_refused_says_why(serve, example, tmp_path):
    serve.environment["MODECONN_MAX_MODEL_BYTES"] = "1000000"
    serve.start()
    large = tmp_path / "large.safetensors"
    large.write_bytes(bytes(50_000_000))
    refused = serve.command("repair", str(large), "--clean", str(example.clean))
    assert refused.returncode == 6
    assert "limit_bytes: 1000000" in refused.stderr

    # while it runs, a second one on the same folder or port says so
    again = serve.command("serve", "--data", str(serve.data), "--port", "0")
    assert again.returncode == 1
    assert "already runs" in again.stderr
    port = json.loads((serve.data / "server.json").read_text())["url"].rsplit(":", 1)[1]
    other = serve.command("serve", "--data", str(tmp_path / "other"), "--port", port)
    assert other.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in other.stderr
    assert "--port" in other.stderr
