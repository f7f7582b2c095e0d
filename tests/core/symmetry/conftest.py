"""What the tests of the method share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modeconn_core.symmetry import Symmetries, permute, share_moved


def _distinct(module: nn.Module) -> nn.Module:
    """In eval mode, in float64, with weights that all differ, so that a permutation shows."""
    generator = torch.Generator().manual_seed(1)
    module = module.double().eval()
    for tensor in {id(t): t for t in [*module.parameters(), *module.buffers()]}.values():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.data.mul_(0.9 + 0.2 * noise).add_(0.02 * noise)
    return module


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = module(x)
    return torch.cat([part.flatten() for part in y]) if isinstance(y, tuple) else y


def _assert_same_function(module: nn.Module, symmetries: Symmetries, size: int, *, least_moved: float) -> None:
    module = _distinct(module)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    before = _outputs(module, x)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    moved = permute(state, symmetries, seed=3)
    assert share_moved(state, moved) >= least_moved
    module.load_state_dict(moved)
    torch.testing.assert_close(_outputs(module, x), before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))


@pytest.fixture
def assert_same_function() -> Callable[..., None]:
    """Permutes a module whose weights all differ and compares its outputs on images of this size, in float64."""
    return _assert_same_function
