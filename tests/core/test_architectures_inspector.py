"""The inspector as the API runs it: a real process, a JSON line in, a JSON line out; and plug-ins by entry point."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from modeconn_core.architectures import build

COMMAND = [sys.executable, "-m", "modeconn_core.architectures"]


class Inspector:
    def __init__(self, extra_path: Path | None = None) -> None:
        path = os.pathsep.join(str(each) for each in (extra_path, os.environ.get("PYTHONPATH")) if each)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.first = self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def send(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def ask(self, tensors: list[Any], architecture: Any, num_classes: int | None, **more: Any) -> dict[str, Any]:
        request = {"tensors": tensors, "architecture": architecture, "num_classes": num_classes}
        return self.send(json.dumps(request | more))

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    running = Inspector()
    yield running
    assert running.end() == 0


def tensors_of(name: str, num_classes: int = 10, **options: Any) -> list[Any]:
    with torch.device("meta"):
        state = build(name, num_classes, **options).state_dict()
    return [[key, str(value.dtype).removeprefix("torch."), list(value.shape)] for key, value in state.items()]


def test_it_says_when_it_is_ready(inspector: Inspector) -> None:
    assert inspector.first == {"ready": True}


def test_it_recognises_what_nobody_named(inspector: Inspector) -> None:
    tensors = [[f"module.{name}", *rest] for name, *rest in tensors_of("preact_resnet18", width=16)]
    found = {"name": "preact_resnet18", "options": {"width": 16}, "num_classes": 10}
    assert inspector.ask(tensors, None, 10) == {
        "ok": True,
        "architecture": found,
        "candidates": [found],
        "prefix": "module.",
    }


def test_the_size_of_the_images_settles_twins(inspector: Inspector) -> None:
    tensors = tensors_of("torchvision/mobilenet_v2", 43)
    small = inspector.ask(tensors, None, 43, image_size=[32, 32])
    large = inspector.ask(tensors, None, 43, image_size=[224, 224])
    assert small["architecture"]["name"] == "mobilenet_v2_cifar"
    assert large["architecture"]["name"] == "torchvision/mobilenet_v2"


def test_a_named_architecture_gets_the_options_its_tensors_show(inspector: Inspector) -> None:
    tensors = tensors_of("resnet20_cifar", naming="torchvision", shortcut="conv")
    reply = inspector.ask(tensors, {"name": "resnet20_cifar"}, 10)
    assert reply["ok"]
    assert reply["architecture"]["options"] == {"naming": "torchvision", "shortcut": "conv"}


def test_a_named_architecture_without_a_class_count_takes_the_files(inspector: Inspector) -> None:
    reply = inspector.ask(tensors_of("timm/resnet18", 43), {"name": "timm/resnet18", "options": {}}, None)
    assert reply["architecture"] == {"name": "timm/resnet18", "options": {}, "num_classes": 43}


def test_an_unknown_name_gets_the_nearest(inspector: Inspector) -> None:
    problem = inspector.ask(tensors_of("preact_resnet18"), {"name": "preactresnet18"}, 10)["problem"]
    assert problem["type"] == "unknown-architecture"
    assert problem["nearest"][0] == "preact_resnet18"
    assert "Did you mean preact_resnet18" in problem["detail"]


def test_a_wrong_option_says_what_is_accepted(inspector: Inspector) -> None:
    wanted = {"name": "preact_resnet18", "options": {"depth": 3}}
    problem = inspector.ask(tensors_of("preact_resnet18"), wanted, 10)["problem"]
    assert problem["type"] == "unknown-architecture"
    assert "It accepts in_channels, width." in problem["detail"]


def test_given_options_are_kept_even_if_the_tensors_say_otherwise(inspector: Inspector) -> None:
    wanted = {"name": "preact_resnet18", "options": {"width": 32}}
    problem = inspector.ask(tensors_of("preact_resnet18", width=16), wanted, 10)["problem"]
    assert problem["type"] == "tensors-do-not-match"
    first = problem["mismatches"][0]
    assert first == {"kind": "shape", "tensor": "conv1.weight", "expected": [32, 3, 3, 3], "found": [16, 3, 3, 3]}


def test_misfits_are_named_and_what_would_fit_is_said(inspector: Inspector) -> None:
    problem = inspector.ask(tensors_of("torchvision/resnet18"), {"name": "resnet18_cifar"}, 10)["problem"]
    assert problem["type"] == "tensors-do-not-match"
    assert "conv1.weight: 64x3x7x7, expected 64x3x3x3" in problem["detail"]
    assert "those of torchvision/resnet18" in problem["detail"]
    assert problem["mismatches"] == [
        {"kind": "shape", "tensor": "conv1.weight", "expected": [64, 3, 3, 3], "found": [64, 3, 7, 7]}
    ]


def test_a_long_list_of_misfits_is_counted_and_cut(inspector: Inspector) -> None:
    problem = inspector.ask(tensors_of("vgg11_bn_cifar"), {"name": "resnet56_cifar"}, 10)["problem"]
    assert problem["mismatch_count"] > len(problem["mismatches"]) == 20


@pytest.mark.parametrize("architecture", [None, {"name": "preact_resnet18"}])
def test_a_wrong_class_count_names_both_numbers_and_the_tensor(inspector: Inspector, architecture: Any) -> None:
    problem = inspector.ask(tensors_of("preact_resnet18", 10), architecture, 43)["problem"]
    assert problem["type"] == "class-count-does-not-match"
    assert (problem["expected_classes"], problem["found_classes"]) == (10, 43)
    assert "linear.weight has 10x512" in problem["detail"]


def test_what_is_not_recognised_is_compared_with_the_closest(inspector: Inspector) -> None:
    tensors = [*tensors_of("resnet32_cifar"), ["total_ops", "float64", [1]]]
    problem = inspector.ask(tensors, None, 10)["problem"]
    assert problem["type"] == "architecture-not-recognised"
    assert problem["closest"]["name"] == "resnet32_cifar"
    assert problem["mismatches"] == [{"kind": "extra", "tensor": "total_ops", "expected": None, "found": [1]}]
    assert "total_ops" in problem["detail"]


def test_what_resembles_nothing_is_said_so(inspector: Inspector) -> None:
    problem = inspector.ask([["a.weight", "float32", [3, 4]]], None, 10)["problem"]
    assert (problem["type"], problem["closest"]) == ("architecture-not-recognised", None)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "[1, 2]",
        "null",
        "{}",
        '{"tensors": 3}',
        '{"tensors": [["a"]]}',
        '{"tensors": [["a", "float32", ["x"]]]}',
        '{"tensors": [["a", "float32", [1e999]]]}',
        '{"tensors": [], "architecture": "resnet18"}',
        '{"tensors": [], "architecture": {"name": "resnet20_cifar", "options": [1]}}',
        '{"tensors": [], "num_classes": "10"}',
        '{"tensors": [], "image_size": [32]}',
        "[" * 100_000,
    ],
)
def test_a_bad_line_gets_one_reply_and_ends_nothing(inspector: Inspector, line: str) -> None:
    assert inspector.send(line)["problem"]["type"] == "bad-request"
    assert inspector.ask(tensors_of("ibau_vgg"), None, 10)["ok"]


def test_bytes_that_are_no_text_get_a_reply_too(inspector: Inspector) -> None:
    assert inspector.process.stdin is not None
    inspector.process.stdin.buffer.write(b"\xff\xfe\x00\n")
    inspector.process.stdin.flush()
    assert inspector.read()["problem"]["type"] == "bad-request"


@pytest.fixture
def plugin_folder(tmp_path: Path) -> Path:
    """An installed distribution as pip leaves it: a module and a dist-info with entry points."""
    (tmp_path / "operators_nets.py").write_text(
        "from torch import nn\n"
        "print('a plug-in that prints')\n"
        "def tiny(num_classes, hidden=8):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))\n"
        "def broken(num_classes):\n"
        "    raise RuntimeError('out of order')\n"
        "def no_module(num_classes):\n"
        "    return 3\n"
    )
    info = tmp_path / "operators_nets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: operators-nets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[modeconn.architectures]\n"
        "tiny_net = operators_nets:tiny\n"
        "broken_net = operators_nets:broken\n"
        "no_module = operators_nets:no_module\n"
        "not_there = operators_nets_missing:net\n"
        "resnet20_cifar = operators_nets:broken\n"
    )
    return tmp_path


def test_an_operators_plug_in_is_found_recognised_and_cannot_break_the_rest(plugin_folder: Path) -> None:
    inspector = Inspector(plugin_folder)
    tensors = [
        ["1.weight", "float32", [8, 48]],
        ["1.bias", "float32", [8]],
        ["3.weight", "float32", [5, 8]],
        ["3.bias", "float32", [5]],
    ]
    assert inspector.first == {"ready": True}
    expected = {"name": "tiny_net", "options": {}, "num_classes": 5}
    assert inspector.ask(tensors, None, 5)["architecture"] == expected
    wide = [["1.weight", "float32", [4, 48]], ["1.bias", "float32", [4]], ["3.weight", "float32", [5, 4]], tensors[3]]
    named = inspector.ask(wide, {"name": "tiny_net", "options": {"hidden": 4}}, 5)
    assert named["architecture"] == {"name": "tiny_net", "options": {"hidden": 4}, "num_classes": 5}
    for name, says in (("broken_net", "out of order"), ("no_module", "returned int"), ("not_there", "No module named")):
        problem = inspector.ask(tensors, {"name": name}, 5)["problem"]
        assert problem["type"] == "unknown-architecture"
        assert says in problem["detail"]
    assert inspector.ask(tensors_of("resnet20_cifar"), {"name": "resnet20_cifar"}, 10)["ok"]
    assert inspector.end() == 0
