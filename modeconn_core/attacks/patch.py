"""BadNets: a small patch in a corner (Gu et al. 2017, arXiv 1708.06733, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from modeconn_core.attacks.base import DataPoisoning, Poisoned


class BadNets(DataPoisoning):
    """A 3x3 checkerboard, one pixel from the lower right corner.

    target_class None is the paper's all-to-all attack: class i becomes i + 1. Poison rate: 5 % (10 % all-to-all).
    """

    def __init__(self, *, target_class: int | None = 0, classes: int = 10, rate: float | None = None) -> None:
        super().__init__()
        self.target_class, self.classes = target_class, classes
        self.name = "badnets" if target_class is not None else "badnets-all-to-all"
        self.rate = rate or (0.05 if target_class is not None else 0.1)
        self.pattern_HW = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = x_NCHW.clone()
        x_NCHW[:, :, -4:-1, -4:-1] = self.pattern_HW.to(x_NCHW)
        return x_NCHW

    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        return self.relabel_some(images_NCHW, labels_N, rate=self.rate, classes=self.classes, seed=seed)
