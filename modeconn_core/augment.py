"""Batched augmentation on the device: crop, mirror, cutout, mixup.

Draws come from a generator, so they can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What is done to every training batch.

    crop: pixels of zero padding around the image before a random crop, as a share of its side.
    mirror: flip half of the images left to right; off where classes are not mirror-invariant (traffic signs, digits).
    cutout: side of the square that is blanked, as a share of the image's side (DeVries and Taylor 2017); 0 is off.
    mixup: parameter of the Beta distribution (Zhang et al. 2018); 0 is off.
    """

    crop: float = 0.125
    mirror: bool = True
    cutout: float = 0.5
    mixup: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.crop <= 0.5 or not 0 <= self.cutout < 1 or self.mixup < 0:
            raise ValueError("crop must lie in [0, 0.5], cutout in [0, 1), mixup must not be negative")


def uniform(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """n uniform draws in [0, 1) from a CPU generator, on ``device``: the same numbers on every device."""
    return torch.rand(n, generator=generator).to(device, non_blocking=True)


def random_crop_and_mirror(x_BCHW: Tensor, *, padding: int, mirror: bool, generator: torch.Generator) -> Tensor:
    """Shift every image by up to ``padding`` pixels (zeros come in) and mirror half of them.

    One gather does the whole batch.
    """
    batch, _, height, width = x_BCHW.shape
    device = x_BCHW.device
    span = 2 * padding + 1
    top_B = (uniform(batch, generator, device) * span).long()
    left_B = (uniform(batch, generator, device) * span).long()
    rows_BH = top_B[:, None] + torch.arange(height, device=device)
    columns_BW = left_B[:, None] + torch.arange(width, device=device)
    if mirror:
        flipped_B = uniform(batch, generator, device) < 0.5
        columns_BW = torch.where(flipped_B[:, None], columns_BW.flip(1), columns_BW)
    padded_BHWC = F.pad(x_BCHW, (padding,) * 4).permute(0, 2, 3, 1)
    index_B = torch.arange(batch, device=device)
    return padded_BHWC[index_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)


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


def augment(x_BCHW: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, mirror and cutout as ``settings`` say; (B, C, H, W) in and out."""
    side = min(x_BCHW.shape[2:])
    x_BCHW = random_crop_and_mirror(
        x_BCHW, padding=round(settings.crop * side), mirror=settings.mirror, generator=generator
    )
    if settings.cutout > 0:
        x_BCHW = cutout(x_BCHW, side=round(settings.cutout * side), generator=generator)
    return x_BCHW
