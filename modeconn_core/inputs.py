"""Checks of what the method is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


@torch.no_grad()
def class_count(module: nn.Module, images_NCHW: Tensor, labels_N: Tensor) -> int:
    """How many classes ``module`` (in eval mode) knows; some of the images are shown to it.

    Raises ValueError where it does not answer with logits, or where a label is none of its classes.
    """
    outputs = module(images_NCHW[:2])
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise ValueError("the model must answer a batch of images with one (batch, classes) tensor of logits")
    classes = outputs.shape[1]
    if int(labels_N.max()) >= classes or int(labels_N.min()) < 0:
        raise ValueError(f"labels must lie in 0..{classes - 1}: the model has {classes} classes")
    return classes
