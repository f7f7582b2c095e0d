"""What a job's child does, called directly: the messages it sends, the files it writes, the problems it raises."""

import json
from functools import partial
from typing import Any

import pytest
import torch
from safetensors import safe_open

from worker import job
from worker.problems import JobProblem

WRONG_ORDER = ["green", "red", "blue"]


@pytest.fixture
def run(run_here: Any) -> Any:
    return partial(run_here, job)


def test_the_repaired_file_has_the_upload_s_keys_order_dtypes_and_shapes(bench: Any, run: Any) -> None:
    state = bench.suspect.state_dict()
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    upload = bench.add_model(halves, prefix="module.")
    ended, _ = run(bench.post(model=upload, send=False))
    path = next(one["path"] for one in ended["artifacts"] if one["name"] == "repaired.safetensors")
    before = bench.storage.root / f"files/{bench.tenant_id}/{upload}/canonical.safetensors"
    assert layout(bench.storage.path(path)) == layout(before)


def layout(path: Any) -> list[tuple[str, str, list[int]]]:
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.offset_keys()}
        return [(name, part.get_dtype(), part.get_shape()) for name, part in slices.items()]


def test_a_wrong_class_order_is_answered_with_a_statement_that_works(bench: Any, run: Any) -> None:
    with pytest.raises(JobProblem) as refused:
        run(bench.post(classes=WRONG_ORDER, send=False))
    assert refused.value.body["type"] == "/problems/suspect-accuracy-too-low"
    better = refused.value.body["suggestions"][0]["value"]
    preprocessing = {name: better[name] for name in ("mean", "std", "channels")} | {"size": None}
    ended, _ = run(bench.post(classes=better["classes"], preprocessing=preprocessing, send=False))
    assert ended["result"]["before"]["clean_accuracy"] == 1.0


def test_low_accuracy_can_be_accepted_and_is_then_a_warning(bench: Any, run: Any) -> None:
    ended, messages = run(bench.post(classes=WRONG_ORDER, accept_low_accuracy=True, send=False))
    assert any("class order" in warning for warning in ended["result"]["warnings"])
    assert any(message["kind"] == "warning" for message in messages)


def test_triggered_images_are_measured_with_the_folder_s_class_as_the_target(bench: Any, run: Any) -> None:
    images, labels = bench.images(12)
    said = bench.add_images("triggered", images, (labels + 1) % 3, bench.classes)
    ended, _ = run(bench.post(triggered=said, send=False))
    before = ended["result"]["before"]
    assert (before["clean_accuracy"], before["attack_success_rate"]) == (1.0, 0.0)


def test_weights_of_another_architecture_are_refused_by_tensor(bench: Any, run: Any) -> None:
    state = bench.suspect.state_dict()
    del state["classifier.bias"]
    with pytest.raises(JobProblem, match=r"classifier\.bias"):
        run(bench.post(model=bench.add_model(state), send=False))


def test_too_few_images_are_a_problem_and_not_a_crash(bench: Any, run: Any) -> None:
    images, labels = bench.images(6)
    clean = bench.add_images("clean", images, labels, bench.classes)
    with pytest.raises(JobProblem, match="too few") as refused:
        run(bench.post(clean=clean, send=False))
    assert refused.value.body["type"] == "/problems/input-not-usable"


def test_a_second_model_is_aligned_and_both_paths_and_the_plane_come_out(bench: Any, run: Any) -> None:
    second = bench.add_model(in_another_order(bench.suspect.state_dict()))
    method = {"curve": "bezier", "bends": 1, "ends": "permuted", "steps": 4, "mirror": True, "plane": 3, "seed": 7}
    ended, messages = run(bench.post(second=second, method=method, send=False))
    assert "6 of 12 moved" in ended["result"]["alignment"]
    assert {message["point"]["path"] for message in messages if message["kind"] == "point"} == {"main", "unaligned"}
    plane = ended["result"]["plane"]
    assert [len(row) for row in plane["accuracy"]] == [3, 3, 3]
    files = {one["name"]: bench.storage.path(one["path"]) for one in ended["artifacts"]}
    assert "plane.png" in files
    report = json.loads(files["report.json"].read_text())
    assert {point["path"] for point in report["curve"]} == {"main", "unaligned"}


def in_another_order(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same network but for its first layer's channels, which have changed places, and a little of its weights."""
    order = torch.arange(6).roll(1)
    moved = {
        name: tensor[order] if tensor.ndim and name.startswith(("features.0", "features.1")) else tensor
        for name, tensor in state.items()
    }
    moved["features.3.weight"] = state["features.3.weight"][:, order]
    return {name: tensor * 1.05 if name.endswith("weight") else tensor for name, tensor in moved.items()}
