"""WaNet: an imperceptible smooth warp (Nguyen and Tran 2021, arXiv 2102.10369, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modeconn_core.attacks.base import DataPoisoning, Poisoned, chosen_images


class WaNet(DataPoisoning):
    """A 4x4 control grid of random shifts, strength 0.75, enlarged bicubically. Poison rate 10 %.

    Twice as many images get the warp plus noise and keep their label (the paper's noise mode), so that only this very
    warp counts.
    """

    name = "wanet"
    target_class: int

    def __init__(
        self,
        *,
        target_class: int = 0,
        size: int = 32,
        strength: float = 0.75,
        controls: int = 4,
        rate: float = 0.1,
        noise_ratio: int = 2,
    ) -> None:
        super().__init__()
        self.target_class = target_class
        self.rate, self.noise_ratio, self.size = rate, noise_ratio, size
        shifts = torch.rand(1, 2, controls, controls, generator=torch.Generator().manual_seed(11)) * 2 - 1
        shifts = shifts / shifts.abs().mean()
        field_1HW2 = F.interpolate(shifts, size=size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        axis = torch.linspace(-1, 1, size)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        identity_1HW2 = torch.stack((columns, rows), dim=2)[None]
        self.grid_1HW2 = (identity_1HW2 + strength * field_1HW2 / size).clamp(-1, 1)

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        return self._sample(x_NCHW, self.grid_1HW2.expand(len(x_NCHW), -1, -1, -1))

    def _sample(self, x_NCHW: Tensor, grid_NHW2: Tensor) -> Tensor:
        return F.grid_sample(x_NCHW, grid_NHW2.to(x_NCHW), align_corners=True).clamp(0, 1)

    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        count = round(self.rate * len(images_NCHW))
        shuffled = chosen_images(len(images_NCHW), 1.0, seed=seed)
        warped, noisy = shuffled[:count], shuffled[count : count * (1 + self.noise_ratio)]
        images, labels = images_NCHW.clone(), labels_N.clone()
        images[warped] = self.stamp(images[warped])
        labels[warped] = self.target_class
        generator = torch.Generator().manual_seed(seed + 1)
        noise = (torch.rand(len(noisy), self.size, self.size, 2, generator=generator) * 2 - 1) / self.size
        images[noisy] = self._sample(images[noisy], (self.grid_1HW2 + noise).clamp(-1, 1))
        return Poisoned(images=images, labels=labels)
