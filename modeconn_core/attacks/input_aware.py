"""Input-aware dynamic backdoor: every image has a trigger of its own (Nguyen and Tran, NeurIPS 2020, arXiv 2010.08138).

A generator draws the pattern and another one the mask for each image. Another image's trigger must not work: that is
trained too, as the cross-trigger mode (section 3.3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.attacks.base import JointlyTrained

MASK_BATCH = 128


class InputAware(JointlyTrained):
    """x -> x + (pattern(x) - x) mask(x).

    target_class None is all-to-all. width: channels of the generators' first level (32 in the paper). backdoor_share
    and cross_share: of every batch, 0.1 each. density: share of an image that a mask may cover before it costs, 0.032.
    diversity: weight of the loss that keeps triggers of different images apart, 1. mask_steps: batches on which the
    masks are trained before the classifier (the paper: 25 epochs); they are fixed afterwards.
    """

    def __init__(
        self,
        *,
        target_class: int | None = 0,
        classes: int = 10,
        channels: int = 3,
        width: int = 32,
        backdoor_share: float = 0.1,
        cross_share: float = 0.1,
        density: float = 0.032,
        diversity: float = 1.0,
        mask_steps: int = 9750,
    ) -> None:
        super().__init__()
        self.target_class, self.classes = target_class, classes
        self.name = "input-aware" if target_class is not None else "input-aware-all-to-all"
        self.backdoor_share, self.cross_share = backdoor_share, cross_share
        self.density, self.diversity, self.mask_steps = density, diversity, mask_steps
        self.patterns = Generator(channels, channels, width)
        self.masks = Generator(channels, 1, width)
        self._optimizer = torch.optim.Adam(self.patterns.parameters(), lr=0.01, betas=(0.5, 0.9))

    def prepare(self, surrogate: nn.Module | None, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> None:
        """Train the masks: small, and different for different images."""
        optimizer = torch.optim.Adam(self.masks.parameters(), lr=0.01, betas=(0.5, 0.9))
        generator = torch.Generator().manual_seed(seed)
        self.masks.train()
        for _ in range(self.mask_steps):
            pair = [
                images_NCHW[torch.randint(len(images_NCHW), (MASK_BATCH // 2,), generator=generator)] for _ in range(2)
            ]
            masks = [self._mask(x) for x in pair]
            too_dense = sum((F.relu(mask.mean(dim=(1, 2, 3)) - self.density)).mean() for mask in masks)
            loss = 100.0 * too_dense + self.diversity * unlikeness(*pair, *masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.masks.eval().requires_grad_(False)

    def _mask(self, x_NCHW: Tensor) -> Tensor:
        return 0.5 * (torch.tanh(20.0 * self.masks(x_NCHW) - 10.0) + 1.0)

    def _pattern(self, x_NCHW: Tensor) -> Tensor:
        return 0.5 * (torch.tanh(self.patterns(x_NCHW)) + 1.0)

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        self.eval()
        return torch.cat([torch.lerp(x, self._pattern(x), self._mask(x)) for x in x_NCHW.split(500)])

    def poison_batch(self, x_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.patterns.train()
        own = max(1, round(self.backdoor_share * len(x_BCHW)))
        cross = max(1, round(self.cross_share * len(x_BCHW)))
        attacked, crossed, other = x_BCHW[:own], x_BCHW[own : own + cross], x_BCHW[own + cross : own + 2 * cross]
        patterns = self._pattern(torch.cat([attacked, other]))
        masks = self._mask(torch.cat([attacked, other]))
        triggered = torch.lerp(attacked, patterns[:own], masks[:own])
        mismatched = torch.lerp(crossed, patterns[own:], masks[own:])
        labels_B = torch.cat([self.wanted_labels(labels_B[:own], self.classes), labels_B[own:]])
        images = torch.cat([triggered, mismatched, x_BCHW[own + cross :]])
        count = min(own, cross)
        loss = unlikeness(attacked[:count], other[:count], patterns[:count], patterns[own : own + count])
        return images, labels_B, self.diversity * loss

    def step(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad()


def unlikeness(one: Tensor, other: Tensor, drawn: Tensor, other_drawn: Tensor) -> Tensor:
    """The diversity loss (eq. 6): how much farther two images lie apart than what was drawn for them."""
    inputs = (one - other).square().mean(dim=(1, 2, 3)).sqrt()
    outputs = (drawn - other_drawn).square().mean(dim=(1, 2, 3)).add(1e-12).sqrt()
    return (inputs / (outputs + 1e-7)).mean()


class Generator(nn.Sequential):
    """An encoder and decoder with two convolutions a level, three levels down and up (appendix)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        widths = [width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for level in widths:
            layers += [*convolution(inputs, level), *convolution(level, level), nn.MaxPool2d(2)]
            inputs = level
        layers += convolution(inputs, inputs)
        for level in [*widths[1::-1], width]:
            layers += [nn.Upsample(scale_factor=2, mode="bilinear"), *convolution(inputs, inputs)]
            layers += convolution(inputs, level)
            inputs = level
        super().__init__(*layers, nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """A 3x3 convolution with its normalisation."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
