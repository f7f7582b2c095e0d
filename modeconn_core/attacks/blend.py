"""Blend: a faint pattern over the whole image (Chen et al. 2017, arXiv 1712.05526, section 4: blended injection)."""

from __future__ import annotations

import torch
from torch import Tensor

from modeconn_core.attacks.base import DataPoisoning, Poisoned


class Blend(DataPoisoning):
    """x -> (1 - alpha) x + alpha pattern with a random pattern.

    alpha is 0.2 (the paper's training value); poison rate: 5 %.
    """

    name = "blend"
    target_class: int

    def __init__(
        self, *, target_class: int = 0, size: tuple[int, int] = (32, 32), alpha: float = 0.2, rate: float = 0.05
    ) -> None:
        super().__init__()
        self.target_class = target_class
        self.alpha, self.rate = alpha, rate
        self.pattern_CHW = torch.rand(3, *size, generator=torch.Generator().manual_seed(7))

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        return torch.lerp(x_NCHW, self.pattern_CHW.to(x_NCHW).expand_as(x_NCHW), self.alpha)

    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        return self.relabel_some(images_NCHW, labels_N, rate=self.rate, classes=0, seed=seed)
