"""What a scan finds: changes of an image that send many images where an attacker may want them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

TriggerKind = Literal["patch", "wave", "warp"]
MAD_TO_SIGMA = 1.4826
LEAST_SPREAD = 0.25  # of the logarithms of the sizes: classes of one clean model differ by as much
ANOMALY_THRESHOLD = 2.0
FILLED_FROM = 0.3  # of the mask's largest value: what counts as its region
OPAQUE = 0.5  # largest value of a mask from which it is a patch and not a veil
LARGEST_FILL = 0.15  # of the image: a larger fill hides what the image shows


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger(ABC):
    """A change of images (B, C, H, W) in the images' own (normalised) units.

    wanted: (K,) the label that images of each true class are sent to; images that have it already do not count.
    success_rate: on the images on which the trigger was found.
    """

    kind: ClassVar[TriggerKind]
    wanted: Tensor
    success_rate: float

    @abstractmethod
    def stamp(self, x_BCHW: Tensor) -> Tensor:
        """The images with the trigger."""

    @property
    def target_class(self) -> int | None:
        """The class that all images are sent to; None where every class has a target of its own."""
        first = int(self.wanted[0])
        return first if bool((self.wanted == first).all()) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch(Trigger):
    """x -> (1 - mask) x + mask pattern; mask (1, H, W) in [0, 1], pattern (C, H, W)."""

    kind: ClassVar[TriggerKind] = "patch"
    mask: Tensor
    pattern: Tensor

    def stamp(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.mask * (self.pattern - x_BCHW)

    @property
    def size(self) -> float:
        """L1 norm of the mask, in pixels."""
        return self.mask.sum().item()

    def fills(self, low_C: Tensor, high_C: Tensor) -> list[Patch]:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Wave(Trigger):
    """x -> x + shift, clipped to ``low`` and ``high`` (C, 1, 1); the shift (C, H, W) is a sine along one axis."""

    kind: ClassVar[TriggerKind] = "wave"
    shift: Tensor
    low: Tensor
    high: Tensor

    def stamp(self, x_BCHW: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x_BCHW + self.shift, self.low), self.high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Warp(Trigger):
    """x -> x sampled at ``grid`` (1, H, W, 2), in the coordinates of ``grid_sample``."""

    kind: ClassVar[TriggerKind] = "warp"
    grid: Tensor

    def stamp(self, x_BCHW: Tensor) -> Tensor:
        grid_BHW2 = self.grid.to(x_BCHW.dtype).expand(len(x_BCHW), -1, -1, -1)
        return F.grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=True)


def _corners(channels: int) -> list[tuple[bool, ...]]:
    """All corners of the colour cube; for many channels only the darkest and the brightest."""
    if channels > 3:
        return [(False,) * channels, (True,) * channels]
    return list(itertools.product((False, True), repeat=channels))


def images_range(images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of every channel (C,)."""
    return images_NCHW.amin(dim=(0, 2, 3)), images_NCHW.amax(dim=(0, 2, 3))


def anomaly_indices(sizes: list[float]) -> list[float]:
    """How many scaled median absolute deviations the logarithm of each size lies *below* the median; 0 above it.

    Logarithms, because sizes differ by factors, and a least spread, because the deviation of ten classes is itself a
    noisy figure: without them a clean model's ten masks of 51 to 57 pixels give indices above 4.

    >>> anomaly_indices([50.0, 52.0, 48.0, 9.0, 51.0])[3] > 5
    True
    >>> max(anomaly_indices([50.0, 52.0, 48.0, 44.0, 51.0])) < 1
    True
    """
    logs_K = torch.tensor(sizes, dtype=torch.float64).clamp_min(1e-6).log()
    median = logs_K.median()
    deviation = MAD_TO_SIGMA * (logs_K - median).abs().median()
    return ((median - logs_K) / deviation.clamp_min(LEAST_SPREAD)).clamp_min(0.0).tolist()
