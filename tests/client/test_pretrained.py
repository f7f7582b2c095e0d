"""Folders as timm and Hugging Face write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from client import Architecture, Preprocessing, Pretrained
from client.command.options import stated

NORMALISED = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
NOTHING: dict[str, Any] = dict.fromkeys(("arch", "arch_option", "mean", "std", "size", "classes", "label", "deadline"))


def folder(path: Path, config: Any, **others: Any) -> Path:
    for name, content in {"config": config, **others}.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    (path / "model.safetensors").write_bytes(b"")
    return path


def test_timm_says_everything(tmp_path: Path) -> None:
    config = {
        "architecture": "resnet18",
        "num_classes": 2,
        "model_args": {"num_classes": 2, "in_chans": 1},
        "label_names": ["cat", "dog"],
        "pretrained_cfg": {"input_size": [1, 96, 128], **NORMALISED},
    }
    found = Pretrained.read(folder(tmp_path, config))
    assert found.architecture == Architecture(name="timm/resnet18", options={"in_chans": 1})
    assert found.preprocessing == Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), size=(96, 128))
    assert found.settings().classes == ("cat", "dog")


def test_hugging_face_says_classes_and_preprocessing(tmp_path: Path) -> None:
    config = {"architectures": ["ResNetForImageClassification"], "id2label": {str(i): f"c{i}" for i in range(11)}}
    preprocessor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"shortest_edge": 224}}
    found = Pretrained.read(folder(tmp_path, config, preprocessor_config=preprocessor))
    assert found.architecture is None
    assert found.classes == tuple(f"c{i}" for i in range(11))  # by number: not 0, 1, 10, 2
    assert found.preprocessing == Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=(224, 224))


def test_numbered_stand_ins_are_no_names(tmp_path: Path) -> None:
    assert Pretrained.read(folder(tmp_path, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})).classes is None


def test_options_come_before_the_folder(tmp_path: Path) -> None:
    config = {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 32, 32], **NORMALISED}}
    options = NOTHING | {"mean": "0.1,0.1,0.1", "arch": "my_net", "bgr": False}
    said = stated(folder=Pretrained.read(folder(tmp_path, config)), **options)
    assert said["architecture"].name == "my_net"
    assert said["preprocessing"] == Preprocessing(mean=(0.1,) * 3, std=(0.2,) * 3, size=(32, 32))


@pytest.mark.parametrize("content", ["[]", "no json"])
def test_a_config_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    folder(tmp_path, {})
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        Pretrained.read(tmp_path)


def test_a_folder_of_something_else_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there must be config\.json and model\.safetensors"):
        Pretrained.read(tmp_path)
