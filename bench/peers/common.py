"""What the rivals share: their batches, their forward pass, and where a network's last hidden layer is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.augment import random_crop_and_mirror
from modeconn_core.device import autocast
from modeconn_core.metrics import evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class Clean:
    """What a defender has: normalised images (N, C, H, W), labels (N,), and whether mirroring keeps a class.

    std: what images in [0, 1] were divided by, per channel: rivals that search perturbations do it in [0, 1] units.
    """

    images: Tensor
    labels: Tensor
    classes: int
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    mirror: bool = True
    seed: int = 0

    def epoch(self, batch_size: int, generator: torch.Generator, *, augment: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches; a last batch of a single image is left out, for BatchNorm's sake."""
        for chosen in torch.randperm(len(self.labels), generator=generator).split(batch_size):
            if len(chosen) < 2:
                continue
            x = self.images[chosen]
            if augment:
                x = random_crop_and_mirror(x, padding=4, mirror=self.mirror, generator=generator)
            yield x.contiguous(memory_format=torch.channels_last), self.labels[chosen]


Peer = Callable[[nn.Module, Clean], nn.Module]  # changes the module that it is given, and returns it in eval mode


def generator_of(clean: Clean) -> torch.Generator:
    return torch.Generator().manual_seed(clean.seed)


def loss_of(module: nn.Module, x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy, in bfloat16 where that pays."""
    with autocast(x_BCHW.device):
        outputs = module(x_BCHW)
    return F.cross_entropy(outputs.float(), labels_B)


def accuracy(module: nn.Module, clean: Clean) -> float:
    """In eval mode; the mode is put back."""
    was = module.training
    rate = evaluate(module.eval(), clean.images, clean.labels).rate
    module.train(was)
    return rate


def last_linear(module: nn.Module) -> nn.Linear:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
