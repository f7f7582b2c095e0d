"""Projected gradient descent against a model: the attack, and the box of images that it stays in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.device import autocast

Norm = Literal["linf", "l2"]
BATCH = 250  # images attacked at once, so that the memory stays flat
SLACK = 1e-4  # by which stored images may leave [0, 1]: rounding
SMALLEST_NORM = 1e-12  # of a gradient that has a direction


@dataclass(frozen=True, kw_only=True, slots=True)
class PgdSettings:
    """The attack, in units of images in [0, 1]; the defaults are the paper's (Zhao et al. 2020, section 5).

    epsilon: radius of the ball, 0 for no attack; steps; step_size; random_start: inside the ball; norm: of the ball.
    """

    epsilon: float = 8 / 255
    steps: int = 10
    step_size: float = 2 / 255
    random_start: bool = True
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        if self.epsilon < 0 or self.step_size <= 0:
            raise ValueError("epsilon must not be negative, and step_size must be positive")
        if self.steps < 1:
            raise ValueError("PGD needs at least one step")
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"norm must be 'linf' or 'l2', not {self.norm!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBox:
    """The images in [0, 1] behind what a model takes: (x - mean) / std, one value per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or any(value <= 0 for value in self.std):
            raise ValueError("mean and std need one value per channel, and std must be positive")

    def to_unit(self, x_NCHW: Tensor) -> Tensor:
        """What a model takes -> images in [0, 1]. Raises ValueError where they are not."""
        mean, std = self._like(x_NCHW)
        unit_NCHW = x_NCHW * std + mean
        low, high = unit_NCHW.min().item(), unit_NCHW.max().item()
        if low < -SLACK or high > 1 + SLACK:
            raise ValueError(
                f"before their normalisation the images reach from {low:.3g} to {high:.3g} and not from 0 to 1: "
                "mean and std are not those that they were normalised with"
            )
        return unit_NCHW.clamp(0, 1)

    def to_model(self, unit_NCHW: Tensor) -> Tensor:
        """Images in [0, 1] -> what a model takes."""
        mean, std = self._like(unit_NCHW)
        return (unit_NCHW - mean) / std

    def _like(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        if x_NCHW.shape[1] != len(self.mean):
            raise ValueError(f"the images have {x_NCHW.shape[1]} channels, mean and std {len(self.mean)}")
        mean, std = (
            torch.tensor(values, dtype=x_NCHW.dtype, device=x_NCHW.device).view(1, -1, 1, 1)
            for values in (self.mean, self.std)
        )
        return mean, std


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, no gradient of the parameters is computed: those of the images alone cost less."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def pgd(
    module: nn.Module,
    x_NCHW: Tensor,
    labels_N: Tensor,
    settings: PgdSettings,
    box: ImageBox,
    generator: torch.Generator,
) -> Tensor:
    """Images near ``x_NCHW`` (normalised, like what is given back) on which ``module`` is as wrong as PGD can make it.

    Ascends the cross-entropy of the true labels inside the ball and the box [0, 1] (Madry et al. 2018, arXiv
    1706.06083, section 2.1). ``module`` is in eval mode and not changed. ``generator`` is on the CPU: the same start
    everywhere. Raises ValueError where the images do not come from [0, 1].
    """
    unit_NCHW = box.to_unit(x_NCHW)
    if settings.epsilon == 0:
        return x_NCHW.clone()
    starts_NCHW = _starts(unit_NCHW, settings, generator)
    with frozen(module):
        attacked = [
            _ascend(module, *part, settings, box)
            for part in zip(unit_NCHW.split(BATCH), starts_NCHW.split(BATCH), labels_N.split(BATCH), strict=True)
        ]
    return box.to_model(torch.cat(attacked)).contiguous(memory_format=torch.channels_last)


def _starts(unit_NCHW: Tensor, settings: PgdSettings, generator: torch.Generator) -> Tensor:
    """Where the ascent begins: the images, or uniform draws from the ball around them."""
    if not settings.random_start:
        return unit_NCHW
    shape = unit_NCHW.shape
    if settings.norm == "linf":
        shift = 2 * torch.rand(shape, generator=generator) - 1
    else:
        shift = _unit_norm(torch.randn(shape, generator=generator))
        dimensions = shift[0].numel()
        shift *= torch.rand(len(shift), 1, 1, 1, generator=generator) ** (1 / dimensions)
    return (unit_NCHW + settings.epsilon * shift.to(unit_NCHW)).clamp(0, 1)


def _ascend(
    module: nn.Module, unit_BCHW: Tensor, start_BCHW: Tensor, labels_B: Tensor, settings: PgdSettings, box: ImageBox
) -> Tensor:
    attacked = start_BCHW
    for _ in range(settings.steps):
        attacked = attacked.detach().requires_grad_(True)
        x_BCHW = box.to_model(attacked).contiguous(memory_format=torch.channels_last)
        with torch.enable_grad(), autocast(x_BCHW.device):
            outputs = module(x_BCHW)
        loss = F.cross_entropy(outputs.float(), labels_B, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, attacked)
        direction = gradient.sign() if settings.norm == "linf" else _unit_norm(gradient)
        shift = attacked.detach() + settings.step_size * direction - unit_BCHW
        attacked = (unit_BCHW + _into_ball(shift, settings)).clamp(0, 1)
    return attacked.detach()


def _into_ball(shift_BCHW: Tensor, settings: PgdSettings) -> Tensor:
    if settings.norm == "linf":
        return shift_BCHW.clamp(-settings.epsilon, settings.epsilon)
    norms = shift_BCHW.flatten(1).norm(dim=1).clamp_min(SMALLEST_NORM)
    return shift_BCHW * (settings.epsilon / norms).clamp_max(1.0).view(-1, 1, 1, 1)


def _unit_norm(x_BCHW: Tensor) -> Tensor:
    return x_BCHW / x_BCHW.flatten(1).norm(dim=1).clamp_min(SMALLEST_NORM).view(-1, 1, 1, 1)
