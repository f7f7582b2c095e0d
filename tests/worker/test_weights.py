"""Files come back in the upload's own layout."""

import io
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import nn

from worker.weights import TensorSlot, load_into, read_layout, write_like


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def layout_of(module: nn.Module, dtypes: dict[str, str], *, prefix: str = "") -> list[TensorSlot]:
    """The module's tensors in reverse order, as some upload might have them."""
    names = {torch.float32: "F32", torch.int64: "I64"}
    return [
        TensorSlot(prefix + name, dtypes.get(name, names[tensor.dtype]), tuple(tensor.shape))
        for name, tensor in reversed(module.state_dict().items())
    ]


def test_a_file_keeps_any_order_and_dtype(module: nn.Module, tmp_path: Path) -> None:
    layout = layout_of(module, {"0.weight": "F64", "0.bias": "BF16", "1.running_var": "F16"}, prefix="module.")
    with (tmp_path / "model.safetensors").open("wb") as file:
        write_like(file, layout, module, prefix="module.")
    assert read_layout(tmp_path / "model.safetensors") == layout
    with safe_open(tmp_path / "model.safetensors", "pt") as stored:
        assert torch.equal(stored.get_tensor("module.0.weight"), module[0].weight.double())
        assert torch.equal(stored.get_tensor("module.0.bias"), module[0].bias.bfloat16())
        assert stored.get_tensor("module.1.num_batches_tracked").shape == ()


def test_what_was_written_loads_strictly_into_the_user_s_own_module(module: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in module.state_dict().items()}, path)
    other = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    load_into(other, path, prefix="module.")
    assert all(
        torch.equal(a, b) for a, b in zip(other.state_dict().values(), module.state_dict().values(), strict=True)
    )


def test_a_missing_tensor_is_refused_by_name(module: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"0.weight": torch.zeros(2, 3)}, path)
    with pytest.raises(RuntimeError, match=r"0\.bias"):
        load_into(module, path, prefix="")


def test_a_value_too_large_for_half_precision_does_not_become_infinite(module: nn.Module) -> None:
    with torch.no_grad():
        module[1].running_var.fill_(1e6)
    out = io.BytesIO()
    write_like(out, layout_of(module, {"1.running_var": "F16"}), module, prefix="")
    assert load(out.getvalue())["1.running_var"].tolist() == [65504.0, 65504.0]


def test_a_shape_that_changed_is_an_error_and_no_file(module: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"0\.weight"):
        write_like(io.BytesIO(), [TensorSlot("0.weight", "F32", (3, 2))], module, prefix="")
