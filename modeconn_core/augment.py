"""Batched augmentation on the device: crop, mirror, cutout.

Draws come from a generator, so they can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What is done to training images.

    crop: pixels of zero padding around the image before a random crop, as a share of its side.
    mirror: flip half of the images left to right; off where classes are not mirror-invariant (traffic signs, digits).
    cutout: side of the square that is blanked, as a share of the image's side (DeVries and Taylor 2017); 0 is off.
    mixup: parameter of the Beta distribution (Zhang et al. 2018); 0 is off.
    """

    crop: float = 0.125
    mirror: bool = True
    cutout: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.crop <= 0.5 or not 0 <= self.cutout < 1 or self.mixup < 0:
            raise ValueError("crop must lie in [0, 0.5], cutout in [0, 1), mixup must not be negative")

    def padding(self, images_NCHW: Tensor) -> int:
        """Pixels around these images before a crop."""
        return round(self.crop * min(images_NCHW.shape[2:]))


def uniform(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """n uniform draws in [0, 1) from a CPU generator, on ``device``: the same numbers on every device."""
    return torch.rand(n, generator=generator).to(device, non_blocking=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """Crops of images as they were drawn, so that each can be taken again: upper left corners in the padded image, in
    pixels, and whether it is mirrored; three tensors (M,)."""

    padding: int
    tops: Tensor
    lefts: Tensor
    mirrored: Tensor

    def __len__(self) -> int:
        return len(self.tops)

    def of(self, x_BCHW: Tensor, chosen_B: Tensor) -> Tensor:
        """View ``chosen_B[i]`` of image i; zeros come in where it reaches over the border. One gather does it all."""
        batch, _, height, width = x_BCHW.shape
        device = x_BCHW.device
        rows_BH = self.tops[chosen_B][:, None] + torch.arange(height, device=device)
        columns_BW = self.lefts[chosen_B][:, None] + torch.arange(width, device=device)
        columns_BW = torch.where(self.mirrored[chosen_B][:, None], columns_BW.flip(1), columns_BW)
        padded_BHWC = F.pad(x_BCHW, (self.padding,) * 4).permute(0, 2, 3, 1)
        index_B = torch.arange(batch, device=device)
        return padded_BHWC[index_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)


def draw_views(count: int, *, padding: int, mirror: bool, generator: torch.Generator, device: torch.device) -> Views:
    """``count`` random views: shifts of up to ``padding`` pixels, half of them mirrored if ``mirror``."""
    span = 2 * padding + 1
    return Views(
        padding=padding,
        tops=(uniform(count, generator, device) * span).long(),
        lefts=(uniform(count, generator, device) * span).long(),
        mirrored=uniform(count, generator, device) < (0.5 if mirror else 0.0),
    )


def random_crop_and_mirror(x_BCHW: Tensor, *, padding: int, mirror: bool, generator: torch.Generator) -> Tensor:
    """One random view of every image."""
    everything_B = torch.arange(len(x_BCHW), device=x_BCHW.device)
    views = draw_views(len(x_BCHW), padding=padding, mirror=mirror, generator=generator, device=x_BCHW.device)
    return views.of(x_BCHW, everything_B)


def cutout(x_BCHW: Tensor, *, side: int, generator: torch.Generator) -> Tensor:
    """Blank a square of at most ``side`` pixels around a random centre of every image."""
    batch, _, height, width = x_BCHW.shape
    device = x_BCHW.device
    row_B1 = (uniform(batch, generator, device) * height).long()[:, None]
    column_B1 = (uniform(batch, generator, device) * width).long()[:, None]
    in_rows_BH = (torch.arange(height, device=device) - row_B1).abs() < side // 2
    in_columns_BW = (torch.arange(width, device=device) - column_B1).abs() < side // 2
    hole_B1HW = (in_rows_BH[:, :, None] & in_columns_BW[:, None, :])[:, None]
    return x_BCHW.masked_fill(hole_B1HW, 0.0)
