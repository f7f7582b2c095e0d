"""What an attack is: a trigger, the labels that its author wants, and how a training set is poisoned with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Poisoned:
    """A poisoned training set: images (N, C, H, W) in [0, 1] and the labels the attacker gave them (N,)."""

    images: Tensor
    labels: Tensor


class Backdoor(ABC):
    """A backdoor attack on images (N, C, H, W) in [0, 1]."""

    name: str
    target_class: int | None  # None where every class has its own target

    @abstractmethod
    def stamp(self, x_NCHW: Tensor) -> Tensor:
        """The images with the trigger, still in [0, 1]; the input is left as it is."""

    @abstractmethod
    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        """A poisoned copy of a training set, as the attack's paper makes it."""

    def wanted_labels(self, labels_N: Tensor, classes: int) -> Tensor:
        """The label the attacker wants for a triggered image of each true class (N,)."""
        if self.target_class is None:
            return (labels_N + 1) % classes
        return torch.full_like(labels_N, self.target_class)

    def test_set(self, images_NCHW: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """What attack success is measured on.

        Triggered images whose true class is not the wanted one, and the wanted labels.
        """
        wanted_N = self.wanted_labels(labels_N, classes)
        keep = wanted_N != labels_N
        return self.stamp(images_NCHW[keep]), wanted_N[keep]


def chosen_images(count: int, share: float, *, seed: int) -> Tensor:
    """Indices of a random ``share`` of ``count`` images."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: round(share * count)]
