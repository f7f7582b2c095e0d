"""Bezier curves and chains through the weights of any module."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from modeconn_core.curve import FlatParameters, ModePath, bezier_coefficients, chain_coefficients

KINDS = ("bezier", "chain")


class Odd(nn.Module):
    """Shared weights, a half-precision parameter, a scalar and a 4-D weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.first = nn.Linear(5, 5, bias=False)
        self.tied = nn.Linear(5, 5, bias=False)
        self.tied.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.low_precision = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.first(x)) * self.scale


def random_state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=generator).to(p.dtype) for name, p in module.named_parameters()}


@pytest.fixture
def ends() -> tuple[FlatParameters, dict[str, Tensor], dict[str, Tensor]]:
    module = Odd()
    return FlatParameters(module), random_state(module, 1), random_state(module, 2)


@given(t=st.floats(0, 1), bends=st.integers(1, 6))
def test_coefficients_are_a_partition_of_one(t: float, bends: int) -> None:
    for coefficients in (bezier_coefficients(t, bends), chain_coefficients(t, bends)):
        assert len(coefficients) == bends + 2
        assert min(coefficients) >= 0
        assert sum(coefficients) == pytest.approx(1)


def test_one_bend_gives_the_papers_formulas() -> None:
    assert bezier_coefficients(0.3, 1) == pytest.approx([0.49, 0.42, 0.09])
    assert chain_coefficients(0.3, 1) == pytest.approx([0.4, 0.6, 0.0])
    assert chain_coefficients(0.8, 1) == pytest.approx([0.0, 0.4, 0.6])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bends", [1, 3])
@pytest.mark.parametrize("start", ["line", "first"])
def test_the_ends_come_back_bit_for_bit(ends, kind, bends, start) -> None:
    flat, first, second = ends
    first["scale"] = torch.tensor(-0.0)  # a sum of products would lose the sign
    path = ModePath.between(flat, first, second, kind=kind, bends=bends, start=start)
    for t, end in ((0.0, first), (1.0, second)):
        for name, tensor in path.state_at(t).items():
            assert torch.equal(tensor, end[name].to(tensor.dtype)), name
            assert torch.equal(torch.signbit(tensor), torch.signbit(end[name])), name


@pytest.mark.parametrize("kind", KINDS)
def test_between_the_ends_every_weight_follows_the_coefficients(ends, kind) -> None:
    flat, first, second = ends
    path = ModePath.between(flat, first, second, kind=kind, bends=2)
    path.points[1:-1].normal_(generator=torch.Generator().manual_seed(3))
    weights = path.coefficients(0.37)
    for slot in flat.slots:
        expected = sum(w * slot.view(point) for w, point in zip(weights, path.points, strict=True))
        torch.testing.assert_close(path.state_at(0.37)[slot.name], expected)


def test_a_module_behind_a_flat_vector_computes_the_same_and_shares_its_memory() -> None:
    module = Odd().eval()
    x = torch.randn(2, 5)
    before = module(x)
    flat = FlatParameters(module)
    assert torch.equal(module(x), before)
    assert module.tied.weight.data_ptr() == module.first.weight.data_ptr()
    flat.vector.zero_()
    assert module(x).abs().max() == 0
    module(x).sum().backward()
    assert module.scale.grad is not None
    assert module.scale.grad.data_ptr() >= flat.gradient.data_ptr()


def test_a_stored_path_comes_back_exactly(ends, tmp_path: Path) -> None:
    flat, first, second = ends
    path = ModePath.between(flat, first, second, kind="chain", bends=2)
    path.points[1:-1].normal_()
    path.save(tmp_path / "path.safetensors")
    again = ModePath.load(tmp_path / "path.safetensors", FlatParameters(copy.deepcopy(Odd())))
    assert again.kind == "chain"
    assert torch.equal(again.points, path.points)


def test_wrong_requests_are_refused_by_name(ends, tmp_path: Path) -> None:
    flat, first, second = ends
    path = ModePath.between(flat, first, second, kind="bezier", bends=1)
    with pytest.raises(ValueError, match="lie in"):
        path.state_at(1.5)
    with pytest.raises(ValueError, match="at least one bend"):
        ModePath.between(flat, first, second, kind="bezier", bends=0)
    with pytest.raises(ValueError, match="no tensor 'scale'"):
        flat.pack({})
    with pytest.raises(ValueError, match=r"'conv.weight' has shape \(1,\)"):
        flat.pack({**first, "conv.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="no parameters"):
        FlatParameters(nn.ReLU())
    path.save(tmp_path / "path.safetensors")
    with pytest.raises(ValueError, match="no tensor"):
        ModePath.load(tmp_path / "path.safetensors", FlatParameters(nn.Linear(2, 2)))
