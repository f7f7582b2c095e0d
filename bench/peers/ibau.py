"""I-BAU: unlearn a universal perturbation, with the gradient through how the perturbation answers the weights.

Source: Zeng et al., ICLR 2022, arXiv 2110.03735, algorithm 1 and section 3.2 (fixed-point form of the hypergradient).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.peers.common import Clean, generator_of

ROUNDS, BATCH, RADIUS = 5, 100, 10.0
OUTER_RATE = 1e-3  # Adam on the weights
SEARCH_RATE = 10.0  # SGD on the perturbation
FIXED_POINT_STEPS, INNER_RATE = 5, 0.1
NORM_PENALTY = 1e-3
PERTURBED_SHARE = 0.01  # of a batch's images in the outer loss, as in the authors' own runs; all of them ruin a model


class _InUnitPixels(nn.Module):
    """The suspect with a perturbation in [0, 1] units on its normalised images."""

    def __init__(self, module: nn.Module, clean: Clean) -> None:
        super().__init__()
        self.module = module
        self.std_C11 = torch.tensor(clean.std, device=clean.images.device).view(-1, 1, 1)

    def forward(self, x_BCHW: Tensor, change_CHW: Tensor) -> Tensor:
        return self.module(x_BCHW + change_CHW / self.std_C11)


def _inner_loss(module: nn.Module, x: Tensor, labels: Tensor, change_CHW: Tensor) -> Tensor:
    return NORM_PENALTY * change_CHW.square().sum() - F.cross_entropy(module(x, change_CHW), labels)


def ibau(module: nn.Module, clean: Clean) -> nn.Module:
    """Rounds of: search one perturbation for all images; unlearn it. BatchNorm keeps its statistics."""
    perturbed = _InUnitPixels(module.eval(), clean)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=OUTER_RATE)
    generator = generator_of(clean)
    for _ in range(ROUNDS):
        change_CHW = _search(perturbed, clean, generator)
        for x, labels in clean.epoch(BATCH, generator, augment=False):
            for parameter, gradient in zip(
                parameters, _hypergradient(perturbed, parameters, x, labels, change_CHW), strict=True
            ):
                parameter.grad = gradient
            optimizer.step()
    return module.eval()


def _search(module: nn.Module, clean: Clean, generator: torch.Generator) -> Tensor:
    """One epoch of ascent on a perturbation shared by all images, brought back into the ball of RADIUS."""
    change_CHW = torch.zeros_like(clean.images[0])
    for x, labels in clean.epoch(BATCH, generator, augment=False):
        change_CHW.requires_grad_(True)
        (gradient,) = torch.autograd.grad(_inner_loss(module, x, labels, change_CHW), change_CHW)
        change_CHW = change_CHW.detach() - SEARCH_RATE * gradient
    return change_CHW * (RADIUS / change_CHW.norm().clamp_min(1e-9)).clamp_max(1.0)


def _hypergradient(
    module: nn.Module, parameters: list[nn.Parameter], x: Tensor, labels: Tensor, change_CHW: Tensor
) -> list[Tensor]:
    """The outer loss's gradient, directly and through the perturbation's one-step map phi(change, weights)."""
    change_CHW = change_CHW.detach().requires_grad_(True)
    some_B111 = (torch.arange(len(x), device=x.device) < max(1, round(PERTURBED_SHARE * len(x)))).view(-1, 1, 1, 1)
    outer = F.cross_entropy(module(x, change_CHW * some_B111), labels)
    direct = torch.autograd.grad(outer, [change_CHW, *parameters])
    (inner_gradient,) = torch.autograd.grad(_inner_loss(module, x, labels, change_CHW), change_CHW, create_graph=True)
    moved_CHW = change_CHW - INNER_RATE * inner_gradient
    vector_CHW = torch.zeros_like(change_CHW)
    for _ in range(FIXED_POINT_STEPS):
        (pulled,) = torch.autograd.grad(moved_CHW, change_CHW, grad_outputs=vector_CHW, retain_graph=True)
        vector_CHW = pulled + direct[0]
    indirect = torch.autograd.grad(moved_CHW, parameters, grad_outputs=vector_CHW, allow_unused=True)
    return [own if other is None else own + other for own, other in zip(direct[1:], indirect, strict=True)]
