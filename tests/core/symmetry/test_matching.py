"""Aligning a second model: the same function, nearer to the first, and a permuted copy comes back."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from modeconn_core.architectures import build
from modeconn_core.symmetry import Alignment, align, find_symmetries, permute, share_moved


def network(name: str) -> tuple[nn.Module, Tensor]:
    """An architecture with random weights and statistics, and images for it."""
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    if name == "attention":
        module = timm.create_model(
            "vit_tiny_patch16_224", img_size=32, num_classes=10, depth=2, embed_dim=24, num_heads=3
        )
    elif name == "ibau_vgg":
        module = build(name, 10)
    else:
        module = build(name, 10, width=8)
    for tensor_name, tensor in module.state_dict().items():
        if "running" in tensor_name:
            tensor.uniform_(0.5, 1.5)
    return module.eval(), x


def outputs(module: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    twin = copy.deepcopy(module).double()
    twin.load_state_dict(state)
    with torch.no_grad():
        return twin(x.double())


@pytest.mark.parametrize("name", ["preact_resnet18", "attention"])
def test_a_permuted_copy_is_brought_back(name: str) -> None:
    torch.manual_seed(0)
    module, x = network(name)
    state = module.state_dict()
    moved = permute(state, find_symmetries(module, x), seed=5)
    assert share_moved(state, moved) > 0.9
    found = align(module, x, moved, seed=0)
    assert share_moved(state, found.state_dict) < 0.01
    assert found.after < 0.01 * found.before
    assert list(found.state_dict) == list(state)


@pytest.mark.parametrize("name", ["preact_resnet18", "ibau_vgg", "attention"])
def test_an_unrelated_model_comes_nearer_and_computes_what_it_did(name: str) -> None:
    torch.manual_seed(1)
    module, x = network(name)
    torch.manual_seed(2)
    other, _ = network(name)
    found = align(module, x, other.state_dict(), seed=0)
    assert found.after < found.before
    before = outputs(module, other.state_dict(), x)
    torch.testing.assert_close(outputs(module, found.state_dict, x), before, rtol=1e-9, atol=1e-9)
    apart = [(found.state_dict[n] - p.detach()).square().sum() for n, p in module.named_parameters()]
    assert float(torch.stack(apart).sum().sqrt()) == pytest.approx(found.after, rel=1e-4)
    assert f"{found.moved} of {found.channels} moved" in found.description


class TwiceOnOneTensor(nn.Module):
    """A residual stream that one weight both reads and writes: both its axes move together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.mix(x).relu()).mean((2, 3)))


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_never_grows_where_both_axes_of_a_weight_move_together(seed: int) -> None:
    torch.manual_seed(seed)
    module, other = TwiceOnOneTensor(), TwiceOnOneTensor()
    x = torch.randn(2, 3, 4, 4)
    found = align(module, x, other.state_dict(), seed=seed)
    assert found.after <= found.before
    torch.testing.assert_close(
        outputs(module, found.state_dict, x), outputs(module, other.state_dict(), x), rtol=1e-6, atol=1e-6
    )


def test_alignment_is_deterministic_in_the_seed_and_leaves_both_models_alone() -> None:
    module, x = network("preact_resnet18")
    other, _ = network("preact_resnet18")
    kept = [copy.deepcopy(m.state_dict()) for m in (module, other)]
    first, again = (align(module, x, other.state_dict(), seed=4) for _ in range(2))
    assert all(torch.equal(first.state_dict[name], again.state_dict[name]) for name in kept[0])
    for before, m in zip(kept, (module, other), strict=True):
        assert all(torch.equal(before[name], tensor) for name, tensor in m.state_dict().items())


def test_where_nothing_is_interchangeable_it_says_so() -> None:
    module, other = (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)) for _ in range(2))
    found: Alignment = align(module, torch.randn(2, 3, 2, 2), other.state_dict(), seed=0)
    assert found.moved == 0
    assert "nothing could be aligned" in found.description
    assert all(torch.equal(found.state_dict[name], tensor) for name, tensor in other.state_dict().items())


def test_a_model_that_lies_nearest_already_stays() -> None:
    module, x = network("preact_resnet18")
    near = {n: t + 1e-3 * torch.randn_like(t) if t.is_floating_point() else t for n, t in module.state_dict().items()}
    found = align(module, x, near, seed=0)
    assert found.moved == 0
    assert "another order" in found.description
