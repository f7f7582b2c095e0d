"""A model in a folder, as Hugging Face writes it, goes through the real service and comes back in the same layout."""

import json
import shutil

from safetensors.torch import load_file

from tests.e2e.conftest import CLASSES

QUICKLY = ["--max-accuracy-drop", "100", "--max-asr", "100", "--steps", "5"]


def test_a_folder_comes_back_as_a_folder(serve, example, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copyfile(example.model, folder / "model.safetensors")
    config = {"id2label": {str(number): name for number, name in enumerate(CLASSES)}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    serve.start()
    done = serve.command("repair", str(folder), "--clean", str(example.clean), *QUICKLY, "--json")
    assert done.returncode == 0, done.stderr
    request = json.loads(done.stdout)["request"]
    assert request["classes"] == list(CLASSES)
    assert request["preprocessing"]["std"] == [0.25] * 3
    repaired = tmp_path / "model-repaired"
    assert sorted(path.name for path in repaired.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert load_file(repaired / "model.safetensors").keys() == load_file(example.model).keys()
    assert json.loads((repaired / "config.json").read_text()) == config
    # another t later, and a file by its name; the manifest knows the one and not the other
    job = json.loads(done.stdout)["id"]
    for arguments in (["--t", "0.1"], ["--artifact", "manifest.json"]):
        target = tmp_path / arguments[1]
        assert serve.command("download", job, *arguments, "--out", str(target)).returncode == 0
    verify = ("verify", "--manifest", str(tmp_path / "manifest.json"))
    assert serve.command(*verify, str(repaired / "model.safetensors")).returncode == 0
    assert serve.command(*verify, str(tmp_path / "0.1")).returncode == 1
    assert load_file(tmp_path / "0.1").keys() == load_file(example.model).keys()
    watched = serve.command("show", job, "--watch", "--json")
    assert json.loads(watched.stdout)["state"] == "succeeded"
    checked = serve.command("verify", str(repaired / "model.safetensors"), "--manifest", str(folder / "config.json"))
    assert checked.returncode == 1
    assert "is no manifest" in checked.stderr
