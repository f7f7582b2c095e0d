"""Checks of what the method is given."""

from __future__ import annotations

import torch
from torch import Tensor


def check_images(images: Tensor, labels: Tensor, name: str) -> None:
    """Raises ValueError where these are no float images (N, C, H, W) with int64 labels (N,); ``name`` says which."""
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(f"{name} images must be a float tensor (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"{name} labels must be an int64 tensor ({len(images)},), not {labels.dtype} {tuple(labels.shape)}"
        )
    if len(images) == 0:
        raise ValueError(f"there are no {name} images")
    if not images.isfinite().all():
        raise ValueError(f"{name} images contain NaN or infinity")
