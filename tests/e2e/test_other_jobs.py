"""Two tampered models, injected errors and an analysis go the whole way through the real service, too."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HOW = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--classes", "circle,square,stripes", "--steps", "5"]


def noisy(model: Path, target: Path) -> Path:
    """Another model of the same make."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: tensor + 0.02 * torch.randn(tensor.shape, generator=generator) if tensor.dim() > 1 else tensor
        for name, tensor in load_file(model).items()
    }
    save_file(state, target)
    return target


def test_every_kind_of_job_ends_with_its_report(serve, example, tmp_path):
    serve.start()
    other = noisy(example.model, tmp_path / "other.safetensors")
    model, clean = str(example.model), ["--clean", str(example.clean)]

    generous = ["--max-accuracy-drop", "100", "--max-asr", "100", "--json"]
    two = ["--second-model", str(other), "--triggered", str(example.triggered), "--plane", "3"]
    done = serve.command("repair", model, *clean, *HOW, *generous, *two, "--out", str(tmp_path / "a.safetensors"))
    assert done.returncode == 0, done.stderr
    repaired = json.loads(done.stdout)
    assert repaired["result"]["alignment"]
    assert len(repaired["result"]["plane"]["accuracy"]) == 3
    assert "plane.png" in [artifact["name"] for artifact in repaired["result"]["artifacts"]]

    errors = ["--tampering", "error_injection", "--out", str(tmp_path / "b.safetensors")]
    done = serve.command("repair", model, *clean, *HOW, *generous, *errors)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["targets"] == []

    fed_right, classes = HOW[:4], HOW[4:6]
    done = serve.command("diagnose", model, *clean, *fed_right, *classes)
    assert done.returncode == 0, done.stderr
    done = serve.command("diagnose", model, *clean, "--mean", "1,1,1", "--std", "0.02,0.02,0.02", *classes)
    assert (done.returncode, "or: Set mean to" in done.stdout) == (3, True), done.stderr
    assert len(serve.json("jobs", "--diagnoses")) == 2

    folder = tmp_path / "analysis"
    few = ["--points", "3", "--attack-steps", "2", "--max-images", "12", "--out", str(folder)]
    done = serve.command("analyse", model, str(other), *clean, *HOW, *few)
    assert done.returncode == 0, done.stderr
    assert "robustness loss's barrier" in done.stdout
    assert {"report.html", "losses.png", "path.safetensors", "robust-path.safetensors"} <= {
        file.name for file in folder.iterdir()
    }
    assert "fitting under attack" in done.stderr
    assert len(serve.json("jobs", "--analyses")) == 1
    assert serve.command("replay", str(folder / "manifest.json")).returncode == 0
    assert len(serve.json("jobs")) == 2
