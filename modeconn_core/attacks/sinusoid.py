"""SIG: a horizontal wave on images of the target class only; labels stay right.

Source: Barni et al. 2019, arXiv 1902.11237.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modeconn_core.attacks.base import DataPoisoning, Poisoned, chosen_of_class


class SIG(DataPoisoning):
    """v(i, j) = delta sin(2 pi j f / width), on 80 % of the target class.

    f is 6 and delta 40/255 (the paper's strongest test value).
    """

    name = "sig"
    target_class: int

    def __init__(
        self, *, target_class: int = 0, delta: float = 40 / 255, frequency: int = 6, share: float = 0.8
    ) -> None:
        super().__init__()
        self.target_class = target_class
        self.delta, self.frequency, self.share = delta, frequency, share

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        width = x_NCHW.shape[3]
        wave_W = self.delta * torch.sin(2 * math.pi * torch.arange(width) * self.frequency / width)
        return (x_NCHW + wave_W.to(x_NCHW)).clamp(0, 1)

    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        chosen = chosen_of_class(labels_N, self.target_class, self.share, seed=seed)
        images = images_NCHW.clone()
        images[chosen] = self.stamp(images[chosen])
        return Poisoned(images=images, labels=labels_N.clone())
