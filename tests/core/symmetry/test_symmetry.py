"""Finding symmetries never breaks anything, and moving a state along them is exact and repeatable."""

import copy

import pytest
import torch
from torch import Tensor, nn

from modeconn_core.symmetry import find as finder
from modeconn_core.symmetry import find_symmetries, permute

X = torch.randn(2, 3, 8, 8)


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PReLU(12),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(12 * 16, 20),
        nn.ELU(),
        nn.Linear(20, 5),
        nn.LogSoftmax(1),
    )


class _OrderMatters(nn.Module):
    """Operations across channels that nobody can permute: sorting, cumulative sums, an unknown operator."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation, self.stem, self.head = operation, nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean((2, 3))
        if self.operation == "roll":
            x = x.roll(1, 1)
        elif self.operation == "cumsum":
            x = x.cumsum(1)
        elif self.operation == "index":
            x = x[:, [3, 1, 2, 0, 4, 5, 6, 7]]
        elif self.operation == "constant":
            x = x * torch.arange(8, dtype=x.dtype)
        elif self.operation == "every other":
            x = torch.cat([x[:, ::2], x[:, 1::2]], 1)
        elif self.operation == "unknown":
            x = torch.fft.fft(x, dim=1).real
        elif self.operation == "numpy":
            x = x + torch.from_numpy(self.stem.bias.detach().numpy()[::-1].copy())
        return self.head(x)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    "activation",
    ["ReLU", "ReLU6", "Hardtanh", "ELU", "CELU", "SELU", "SiLU", "Mish", "LeakyReLU", "Hardswish", "Hardsigmoid"],
)
def test_every_common_activation_is_followed_in_place_or_not(activation: str, inplace: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), getattr(nn, activation)(inplace=inplace), nn.Conv2d(8, 5, 3))
    assert [group.size for group in find_symmetries(module, X).groups] == [8]


@pytest.mark.parametrize("operation", ["roll", "cumsum", "index", "constant", "every other", "unknown", "numpy"])
def test_order_that_matters_forbids_permutation(operation: str) -> None:
    found = find_symmetries(_OrderMatters(operation), X)
    assert not found
    assert found.report.startswith("No interchangeable channels")


def test_operations_without_a_rule_are_named() -> None:
    assert "fft" in find_symmetries(_OrderMatters("unknown"), X).report


def test_a_wrong_group_is_dropped_by_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = finder._collect

    def with_a_wrong_group(state, tracer):  # type: ignore[no-untyped-def]
        groups = honest(state, tracer)
        half = copy.copy(groups[0])
        object.__setattr__(half, "placements", groups[0].placements[:1])
        return (*groups[1:], half)

    monkeypatch.setattr(finder, "_collect", with_a_wrong_group)
    found = find_symmetries(chain(), X)
    assert len(found.groups) == 2
    assert "1 groups dropped" in found.report


class _Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("needs another input")


def test_a_module_that_cannot_run_has_no_symmetry_and_says_why() -> None:
    found = find_symmetries(_Broken(), X)
    assert not found
    assert "needs another input" in found.report


def test_a_module_that_insists_on_float32_is_followed_too() -> None:
    class Insists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = chain()

        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise TypeError("float32 only")
            return self.body(x)

    assert len(find_symmetries(Insists(), X).groups) == 3


def test_finding_changes_neither_the_module_nor_the_random_state() -> None:
    module = chain().train()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random = torch.get_rng_state()
    find_symmetries(module, X)
    assert module.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()


def test_permutation_is_deterministic_in_the_seed() -> None:
    module = chain()
    symmetries = find_symmetries(module, X)
    state = module.state_dict()
    first, again, other = (permute(state, symmetries, seed=seed) for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in state)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_permutation_keeps_names_order_shapes_dtypes_and_strides() -> None:
    module = chain().half().to(memory_format=torch.channels_last)
    symmetries = find_symmetries(chain(), X)
    state = module.state_dict()
    moved = permute(state, symmetries, seed=0)
    assert list(moved) == list(state)
    assert [(t.shape, t.dtype, t.stride()) for t in moved.values()] == [
        (t.shape, t.dtype, t.stride()) for t in state.values()
    ]


def test_permuting_a_state_of_another_module_is_refused() -> None:
    symmetries = find_symmetries(chain(), X)
    state = chain().state_dict()
    with pytest.raises(ValueError, match=r"no tensor '4\.weight'"):
        permute({name: t for name, t in state.items() if name != "4.weight"}, symmetries, seed=0)
    with pytest.raises(ValueError, match=r"'0\.weight' has shape \(4, 3, 3, 3\)"):
        permute({**state, "0.weight": torch.zeros(4, 3, 3, 3)}, symmetries, seed=0)
