"""BadNets: a small patch in a corner (Gu et al. 2017, arXiv 1708.06733, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from modeconn_core.attacks.base import Backdoor, Poisoned, chosen_images


class BadNets(Backdoor):
    """A 3x3 checkerboard, one pixel from the lower right corner.

    target_class None is the paper's all-to-all attack: class i becomes i + 1. Poison rate: 5 % (10 % all-to-all).
    """

    def __init__(self, *, target_class: int | None = 0, classes: int = 10, rate: float | None = None) -> None:
        self.target_class, self.classes = target_class, classes
        self.name = "badnets" if target_class is not None else "badnets-all-to-all"
        self.rate = rate or (0.05 if target_class is not None else 0.1)
        self.pattern_HW = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = x_NCHW.clone()
        x_NCHW[:, :, -4:-1, -4:-1] = self.pattern_HW.to(x_NCHW)
        return x_NCHW

    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        chosen = chosen_images(len(images_NCHW), self.rate, seed=seed)
        images, labels = images_NCHW.clone(), labels_N.clone()
        images[chosen] = self.stamp(images[chosen])
        labels[chosen] = self.wanted_labels(labels[chosen], self.classes)
        return Poisoned(images=images, labels=labels)
