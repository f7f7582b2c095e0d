"""The largest eigenvalue of the input Hessian, against a dense Hessian."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.hessian import EigenSettings, largest_eigenvalues
from modeconn_core.robustness import ImageBox

BOX = ImageBox(mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
ENOUGH = EigenSettings(iterations=60, tolerance=1e-9)


def network(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), activation, nn.Flatten(), nn.Linear(64, 5)]
    return nn.Sequential(*layers).double().eval()


def images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    unit = torch.rand(count, 3, 4, 4, generator=generator, dtype=torch.float64)
    return unit, torch.randint(5, (count,), generator=generator)


def dense(module: nn.Module, unit_CHW: Tensor, label: Tensor) -> Tensor:
    """All eigenvalues of one image's Hessian."""

    def loss(flat_D: Tensor) -> Tensor:
        return F.cross_entropy(module(BOX.to_model(flat_D.view(1, *unit_CHW.shape))), label[None])

    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, unit_CHW.flatten()))


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Softplus(), nn.ReLU()], ids=["tanh", "softplus", "relu"])
def test_agrees_with_the_dense_hessian(activation: nn.Module) -> None:
    module = network(activation)
    unit, labels = images(6)
    found = largest_eigenvalues(module, BOX.to_model(unit), labels, ENOUGH, BOX, torch.Generator().manual_seed(2))
    wanted = torch.stack([dense(module, image, label)[-1] for image, label in zip(unit, labels, strict=True)])
    assert found.converged.all()
    torch.testing.assert_close(found.values, wanted, rtol=1e-4, atol=1e-9)


def test_the_largest_eigenvalue_counts_even_where_a_negative_one_is_larger_in_magnitude() -> None:
    module = network(nn.Tanh())
    unit, labels = images(40)
    spectra = torch.stack([dense(module, image, label) for image, label in zip(unit, labels, strict=True)])
    bent_down = -spectra[:, 0] > spectra[:, -1]
    assert bent_down.any(), "the case must be among the images"
    found = largest_eigenvalues(module, BOX.to_model(unit), labels, ENOUGH, BOX, torch.Generator().manual_seed(2))
    torch.testing.assert_close(found.values[bent_down], spectra[bent_down, -1], rtol=1e-4, atol=1e-9)


def test_says_which_images_did_not_converge() -> None:
    module = network(nn.Tanh())
    unit, labels = images(6)
    few = EigenSettings(iterations=2, tolerance=1e-9)
    found = largest_eigenvalues(module, BOX.to_model(unit), labels, few, BOX, torch.Generator().manual_seed(2))
    assert not found.converged.any()
    assert found.iterations.tolist() == [2] * 6


def test_a_flat_loss_has_the_eigenvalue_zero() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).double().eval()
    nn.init.zeros_(module[1].weight)
    unit, labels = images(3)
    found = largest_eigenvalues(module, BOX.to_model(unit), labels, ENOUGH, BOX, torch.Generator().manual_seed(2))
    assert found.values.tolist() == [0.0] * 3
    assert found.converged.all()


def test_leaves_the_module_as_it_is() -> None:
    module = network(nn.ReLU())
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    unit, labels = images(3)
    largest_eigenvalues(module, BOX.to_model(unit), labels, ENOUGH, BOX, torch.Generator().manual_seed(2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def test_refuses_images_that_do_not_come_from_the_unit_interval() -> None:
    unit, labels = images(3)
    with pytest.raises(ValueError, match="not from 0 to 1"):
        largest_eigenvalues(
            network(nn.ReLU()), BOX.to_model(unit * 3), labels, ENOUGH, BOX, torch.Generator().manual_seed(2)
        )
