"""Label-consistent (LC, also CLB): a clean-label attack (Turner, Tsipras and Madry 2019, arXiv 1912.02771).

Images of the target class are made hard to learn by adversarial perturbations (section 4.2), so that the patch that
they also get is learned instead; every label stays right.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.attacks.base import DataPoisoning, Poisoned, chosen_of_class

BATCH = 250


class LabelConsistent(DataPoisoning):
    """A 3x3 pattern in all four corners (section 5.2: it survives crops and flips) of images perturbed by PGD.

    epsilon: largest change of a pixel, 16/255 in the paper. steps: of PGD on the surrogate, each of 1.5 epsilon /
    steps. share: of the target class that is poisoned; 15 % is the paper's (1.5 % of the data set). Small models with
    short training need more.
    """

    name = "label-consistent"
    target_class: int
    needs_surrogate = True

    def __init__(
        self, *, target_class: int = 0, epsilon: float = 16 / 255, steps: int = 100, share: float = 0.15
    ) -> None:
        super().__init__()
        self.target_class = target_class
        self.epsilon, self.steps, self.share = epsilon, steps, share
        self.pattern_HW = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
        self._surrogate: list[nn.Module] = []  # in a list: it is no part of the attack's state

    def prepare(self, surrogate: nn.Module | None, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> None:
        """Keep the surrogate for :meth:`poison`."""
        if surrogate is None:
            raise ValueError("the label-consistent attack needs a clean surrogate model")
        self._surrogate = [surrogate]

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = x_NCHW.clone()
        pattern_HW = self.pattern_HW.to(x_NCHW)
        x_NCHW[:, :, :3, :3] = pattern_HW.flip(0, 1)
        x_NCHW[:, :, :3, -3:] = pattern_HW.flip(0)
        x_NCHW[:, :, -3:, :3] = pattern_HW.flip(1)
        x_NCHW[:, :, -3:, -3:] = pattern_HW
        return x_NCHW

    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        if not self._surrogate:
            raise ValueError("the label-consistent attack must be prepared with a surrogate first")
        chosen = chosen_of_class(labels_N, self.target_class, self.share, seed=seed)
        images = images_NCHW.clone()
        for part in chosen.split(BATCH):
            images[part] = self.stamp(self._perturb(images[part], labels_N[part]))
        return Poisoned(images=images, labels=labels_N.clone())

    def _perturb(self, x_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """PGD in the maximum norm against the surrogate."""
        change = torch.zeros_like(x_NCHW)
        for _ in range(self.steps):
            change.requires_grad_(True)
            loss = F.cross_entropy(self._surrogate[0](x_NCHW + change), labels_N)
            (gradient,) = torch.autograd.grad(loss, change)
            change = change.detach() + 1.5 * self.epsilon / self.steps * gradient.sign()
            change = change.clamp(-self.epsilon, self.epsilon)
            change = (x_NCHW + change).clamp(0, 1) - x_NCHW
        return x_NCHW + change
