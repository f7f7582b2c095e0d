"""Model files that people have: the canonical form holds the same tensors, in the same order, under the same names."""

from __future__ import annotations

import io
import json
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .builders import a_dict, f32, safetensors, storage, tensor, torch_zip

DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def check_equal(facts: Any, path: Path, expected: Mapping[str, torch.Tensor]) -> None:
    """The canonical file equals `expected` bit for bit, and its tensors lie in that order."""
    loaded = load_file(path)
    assert [name for name, _, _ in facts["tensors"]] == list(expected)
    assert loaded.keys() == expected.keys()
    for name, value in expected.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].shape == value.shape
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(loaded[name].reshape(-1).view(torch.uint8), raw)
    header = header_of(path)
    header.pop("__metadata__", None)
    assert list(header) == list(expected)
    starts = [entry["data_offsets"][0] for entry in header.values()]
    assert starts == sorted(starts)


class Net(nn.Module):
    """A little of everything: convolution, BatchNorm with its integer counter, an odd number of classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3)
        self.bn = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "net", "model_state_dict"])
def test_state_dicts_bare_and_wrapped(protocol: int, wrapper: str | None, read_model: Callable) -> None:
    weights = Net().state_dict()
    upload = saved(
        weights if wrapper is None else {"epoch": 3, wrapper: weights, "acc": 81.5}, pickle_protocol=protocol
    )
    facts, path = read_model(upload)
    check_equal(facts, path, weights)
    assert (facts["wrapper"], facts["format"], facts["prefix"]) == (wrapper, "pt", "")
    Net().load_state_dict(load_file(path), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_type_bit_for_bit(dtype: torch.dtype, read_model: Callable) -> None:
    weights = {
        "scalar": torch.ones((), dtype=dtype),
        "w": (torch.arange(7) - 2).to(dtype),
        "none": torch.zeros(0, 3).to(dtype),
    }
    check_equal(*read_model(saved(weights)), weights)


def test_a_training_checkpoint_with_its_optimiser(read_model: Callable) -> None:
    weights = Net().state_dict()
    # What Adam's state_dict() holds after a step; torch.optim itself takes 8 seconds to import.
    state = {i: {"step": torch.tensor(1.0), "exp_avg": torch.randn(3), "exp_avg_sq": torch.rand(3)} for i in range(4)}
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "foreach": None, "amsgrad": False, "params": [0, 1, 2, 3]}
    upload = {
        "state_dict": weights,
        "optimizer": {"state": state, "param_groups": [group]},
        "epoch": 12,
        "arch": "net",
        "best_acc": 93.1,
        "history": [0.1, (1, None, True)],
    }
    check_equal(*read_model(saved(upload)), weights)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_are_named_and_kept(prefix: str, read_model: Callable) -> None:
    weights = OrderedDict((prefix + name, value) for name, value in Net().state_dict().items())
    facts, path = read_model(saved(weights))
    check_equal(facts, path, weights)
    assert facts["prefix"] == prefix


def test_parameters_count_as_tensors(read_model: Callable) -> None:
    weights = {"w": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(2), requires_grad=False)}
    check_equal(*read_model(saved(weights)), weights)


def test_tied_tensors_get_their_own_bytes_each(read_model: Callable) -> None:
    shared = torch.randn(10)
    weights = {"a": shared, "b": shared, "part": shared[2:6].view(2, 2)}
    upload = saved(weights)
    check_equal(*read_model(upload), weights)
    assert upload.count(shared.numpy().tobytes()) == 1  # they really are tied in the upload


@pytest.mark.parametrize(
    "reorder",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(0, 3),
        lambda x: x.permute(3, 1, 0, 2),
        lambda x: x[:, :1].permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3),
    ],
)
def test_channels_last_and_transposed_weights(reorder: Callable, read_model: Callable) -> None:
    weights = {"w": reorder(torch.randn(4, 3, 2, 5)), "b": torch.randn(3)}
    assert not weights["w"].is_contiguous() or weights["w"].shape[1] == 1
    check_equal(*read_model(saved(weights)), weights)


def test_a_legacy_name_of_the_root_folder_does_not_matter(read_model: Callable) -> None:
    facts, path = read_model(torch_zip(a_dict(net=a_dict(w=tensor())), root="checkpoint_8.pth"))
    assert facts["tensors"] == [("w", "F32", [4])]
    assert load_file(path)["w"].tolist() == [0, 1, 2, 3]


def test_a_slice_of_a_storage(read_model: Callable) -> None:
    values = torch.arange(6, dtype=torch.float64)
    part = tensor(of=storage("k", "DoubleStorage", 6), offset=2, shape=(3, 1), stride=(1, 77))
    facts, path = read_model(torch_zip(a_dict(w=part), {"k": values.numpy().tobytes()}))
    assert facts["tensors"] == [("w", "F64", [3, 1])]
    assert load_file(path)["w"].tolist() == [[2], [3], [4]]


def test_safetensors_keep_order_and_metadata(read_model: Callable, tmp_path: Path) -> None:
    weights = {name: value.contiguous() for name, value in Net().state_dict().items()}
    save_file(weights, tmp_path / "m.safetensors", metadata={"format": "pt", "note": "zwei\nZeilen"})
    upload = (tmp_path / "m.safetensors").read_bytes()
    facts, path = read_model(upload)
    order = [name for name in header_of(tmp_path / "m.safetensors") if name != "__metadata__"]
    check_equal(facts, path, {name: weights[name] for name in order})
    assert facts["metadata"] == {"format": "pt", "note": "zwei\nZeilen"} == header_of(path)["__metadata__"]
    assert (facts["format"], facts["wrapper"]) == ("safetensors", None)


def test_safetensors_whose_header_is_in_another_order_than_its_bytes(read_model: Callable) -> None:
    facts, path = read_model(safetensors({"late": f32(4), "early": f32(0)}, struct.pack("<2f", 1, 2)))
    assert [name for name, _, _ in facts["tensors"]] == ["early", "late"]
    assert {name: value.item() for name, value in load_file(path).items()} == {"early": 1, "late": 2}


def test_the_canonical_form_is_a_fixed_point(read_model: Callable) -> None:
    _, path = read_model(saved(Net().state_dict()))
    once = path.read_bytes()
    _, path = read_model(once)
    assert path.read_bytes() == once


def test_largest_finite_values_are_finite(read_model: Callable) -> None:
    kinds = [d for d in DTYPES if d.is_floating_point]
    weights = {
        str(d).removeprefix("torch."): torch.tensor([torch.finfo(d).max, torch.finfo(d).min], dtype=d) for d in kinds
    }
    check_equal(*read_model(saved(weights)), weights)
