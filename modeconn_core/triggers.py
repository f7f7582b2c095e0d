"""Trigger inversion: for every class the smallest pattern that sends images there; an odd one out betrays a backdoor.

Source: Wang et al., Neural Cleanse, IEEE S&P 2019. The search is shorter and its sparsity pressure follows the success.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.device import autocast

MAD_TO_SIGMA = 1.4826
ANOMALY_THRESHOLD = 2.0
FILLED_FROM = 0.3  # of the mask's largest value: what counts as its region
OPAQUE = 0.5  # largest value of a mask from which it is a patch and not a veil
LARGEST_FILL = 0.15  # of the image: a larger fill hides what the image shows


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """A pattern that sends images to ``target_class``: x -> (1 - mask) x + mask pattern.

    mask (1, H, W) in [0, 1]; pattern (C, H, W) in the images' own (normalised) units; ``success_rate`` on images of
    other classes.
    """

    target_class: int
    mask: Tensor
    pattern: Tensor
    success_rate: float

    def stamp(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.mask * (self.pattern - x_BCHW)

    @property
    def size(self) -> float:
        """L1 norm of the mask, in pixels."""
        return self.mask.sum().item()

    def fills(self, low_C: Tensor, high_C: Tensor) -> list[Trigger]:
        """The region around the mask in plain colours: each corner of the colour range, and the pattern's mean colour.

        An inversion finds where a patch lies better than what is on it: a few pixels of the true patch do already.
        Nothing for a mask that is no small patch.
        """
        region_1HW = F.max_pool2d((self.mask > FILLED_FROM * self.mask.max()).float()[None], 3, stride=1, padding=1)[0]
        if self.mask.max() < OPAQUE or region_1HW.mean() > LARGEST_FILL:
            return []
        mean_C = (self.pattern * self.mask).sum(dim=(1, 2)) / self.mask.sum().clamp_min(1e-6)
        corners = [torch.where(torch.tensor(c, device=low_C.device), high_C, low_C) for c in _corners(len(low_C))]
        return [
            replace(self, mask=region_1HW, pattern=colour_C[:, None, None].expand_as(self.pattern))
            for colour_C in [mean_C, *corners]
        ]


def _corners(channels: int) -> list[tuple[bool, ...]]:
    """All corners of the colour cube; for many channels only the darkest and the brightest."""
    if channels > 3:
        return [(False,) * channels, (True,) * channels]
    return list(itertools.product((False, True), repeat=channels))


@dataclass(frozen=True, kw_only=True, slots=True)
class InversionSettings:
    """How long and how hard to search. steps: Adam steps per class; batch: images per step; rate: Adam's step size."""

    steps: int = 60
    batch: int = 64
    rate: float = 0.3
    wanted_success: float = 0.95


def invert_trigger(
    module: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    target_class: int,
    *,
    settings: InversionSettings,
    seed: int,
) -> Trigger:
    """Search the smallest mask and pattern that send images of other classes to ``target_class``.

    ``module`` is in eval mode and keeps its weights. The pattern stays within the range that each channel of
    ``images_NCHW`` has.
    """
    generator = torch.Generator().manual_seed((seed * 1009 + target_class) % 2**63)
    others_MCHW = images_NCHW[labels_N != target_class]
    low_C11 = images_NCHW.amin(dim=(0, 2, 3))[:, None, None]
    span_C11 = images_NCHW.amax(dim=(0, 2, 3))[:, None, None] - low_C11
    channels, height, width = images_NCHW.shape[1:]
    device = images_NCHW.device
    mask_logit = torch.full((1, height, width), -1.0, device=device, requires_grad=True)
    pattern_logit = torch.randn(channels, height, width, generator=generator).to(device).mul_(0.1).requires_grad_(True)
    optimizer = torch.optim.Adam([mask_logit, pattern_logit], lr=settings.rate, betas=(0.5, 0.9))
    target_B = torch.full((settings.batch,), target_class, device=device)
    pressure = 1.0 / (height * width)
    best: Trigger | None = None
    for _ in range(settings.steps):
        chosen = torch.randint(len(others_MCHW), (settings.batch,), generator=generator).to(device)
        mask, pattern = mask_logit.sigmoid(), low_C11 + span_C11 * pattern_logit.sigmoid()
        x = others_MCHW[chosen]
        with autocast(device):
            outputs = module((x + mask * (pattern - x)).contiguous(memory_format=torch.channels_last))
        outputs = outputs.float()
        loss = F.cross_entropy(outputs, target_B) + pressure * mask.sum()
        optimizer.zero_grad(set_to_none=True)
        gradients = torch.autograd.grad(loss, [mask_logit, pattern_logit])
        mask_logit.grad, pattern_logit.grad = gradients
        optimizer.step()
        success = (outputs.argmax(dim=1) == target_class).float().mean().item()
        pressure = pressure * 1.3 if success >= settings.wanted_success else pressure / 1.5
        found = Trigger(target_class=target_class, mask=mask.detach(), pattern=pattern.detach(), success_rate=success)
        if best is None or _better(found, best, settings.wanted_success):
            best = found
    assert best is not None
    return best


def _better(new: Trigger, old: Trigger, wanted: float) -> bool:
    """Among searches that succeed the smaller mask wins; before that, the more successful one."""
    if new.success_rate >= wanted and old.success_rate >= wanted:
        return new.size < old.size
    return new.success_rate > old.success_rate


def anomaly_indices(sizes: list[float]) -> list[float]:
    """How many scaled median absolute deviations each mask lies *below* the median; 0 for those above it.

    >>> anomaly_indices([50.0, 52.0, 48.0, 9.0, 51.0])[3] > 5
    True
    """
    sizes_K = torch.tensor(sizes, dtype=torch.float64)
    median = sizes_K.median()
    deviation = MAD_TO_SIGMA * (sizes_K - median).abs().median()
    return ((median - sizes_K) / deviation.clamp_min(1e-9)).clamp_min(0.0).tolist()
