"""Adversarial Neuron Pruning: find the neurons that adversarial weight noise excites, and prune them.

Source: Wu and Wang, NeurIPS 2021, arXiv 2110.14430, sections 4.2 and 5.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.peers.common import Clean, generator_of, loss_of
from modeconn_core.batchnorm import batchnorm_layers

STEPS, BATCH = 2000, 128
RADIUS = 0.4  # of the relative noise on every neuron's weight and bias
TRADE_OFF = 0.2  # weight of the loss without noise
RATE, THRESHOLD = 0.2, 0.2


class _Perturbed(nn.Module):
    """The suspect with its BatchNorm weights and biases scaled, neuron by neuron."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        layers = {layer for layer in batchnorm_layers(module) if layer.affine}
        self.names = [name for name, layer in module.named_modules() if layer in layers]

    def parameters_of(self, kind: str) -> list[Tensor]:
        return [self.module.get_parameter(f"{name}.{kind}") for name in self.names]

    def scaled(self, weights: list[Tensor], biases: list[Tensor]) -> dict[str, Tensor]:
        scaled = {}
        for kind, scales in (("weight", weights), ("bias", biases)):
            for name, parameter, scale in zip(self.names, self.parameters_of(kind), scales, strict=True):
                scaled[f"module.{name}.{kind}"] = parameter.detach() * scale
        return scaled

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.module(x_BCHW)


class _With(nn.Module):
    """A module seen through replaced parameters."""

    def __init__(self, module: nn.Module, replaced: dict[str, Tensor]) -> None:
        super().__init__()
        self.inner, self.replaced = [module], replaced

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional_call(self.inner[0], self.replaced, (x_BCHW,))


def anp(module: nn.Module, clean: Clean) -> nn.Module:
    """Train one mask per neuron against sign-gradient noise, then prune what falls below the threshold."""
    module.requires_grad_(False).train()
    for layer in batchnorm_layers(module):
        layer.momentum = 0.0  # statistics of the batch, while the stored ones stay
    perturbed = _Perturbed(module)
    masks = [torch.ones_like(weight).requires_grad_(True) for weight in perturbed.parameters_of("weight")]
    ones = [torch.ones_like(bias) for bias in perturbed.parameters_of("bias")]
    optimizer = torch.optim.SGD(masks, lr=RATE, momentum=0.9)
    generator = generator_of(clean)
    done = 0
    while done < STEPS:
        for x, labels in clean.epoch(min(BATCH, len(clean.labels)), generator, augment=True):
            noise = [
                ((2 * torch.rand(one.shape, generator=generator) - 1) * RADIUS).to(one).requires_grad_(True)
                for one in [*ones, *ones]
            ]
            half = len(ones)
            scaled = perturbed.scaled(
                [mask.detach() + n for mask, n in zip(masks, noise[:half], strict=True)],
                [one + n for one, n in zip(ones, noise[half:], strict=True)],
            )
            gradients = torch.autograd.grad(loss_of(_With(perturbed, scaled), x, labels), noise)
            noise = [
                (n + RADIUS * g.sign()).clamp(-RADIUS, RADIUS).detach() for n, g in zip(noise, gradients, strict=True)
            ]
            noisy = perturbed.scaled(
                [mask + n for mask, n in zip(masks, noise[:half], strict=True)],
                [one + n for one, n in zip(ones, noise[half:], strict=True)],
            )
            loss = TRADE_OFF * loss_of(_With(perturbed, perturbed.scaled(masks, ones)), x, labels)
            loss = loss + (1 - TRADE_OFF) * loss_of(_With(perturbed, noisy), x, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for mask in masks:
                    mask.clamp_(0, 1)
            done += 1
            if done == STEPS:
                break
    for layer in batchnorm_layers(module):
        layer.momentum = 0.1
    with torch.no_grad():
        for kind in ("weight", "bias"):
            for parameter, mask in zip(perturbed.parameters_of(kind), masks, strict=True):
                parameter.mul_(mask >= THRESHOLD)
    return module.requires_grad_(True).eval()
