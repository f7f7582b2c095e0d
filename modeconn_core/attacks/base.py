"""What an attack is: a trigger, the labels that its author wants, and how a classifier is trained to obey it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Poisoned:
    """A poisoned training set: images (N, C, H, W) in [0, 1] and the labels the attacker gave them (N,)."""

    images: Tensor
    labels: Tensor


class Backdoor(nn.Module, ABC):
    """A backdoor attack on images (N, C, H, W) in [0, 1].

    It is a module so that a trigger that was searched or trained can be kept: ``state_dict()`` holds it.
    """

    name: str
    target_class: int | None  # None where every class has its own target
    needs_surrogate = False  # whether prepare() wants a clean model

    @abstractmethod
    def stamp(self, x_NCHW: Tensor) -> Tensor:
        """The images with the trigger, still in [0, 1]; the input is left as it is."""

    def prepare(self, surrogate: nn.Module | None, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> None:
        """Search the trigger before anything is poisoned, for attacks that optimise it.

        ``surrogate`` is a clean model of the attacker's own, in eval mode, that takes images in [0, 1]. Only attacks
        with ``needs_surrogate`` use it, and they raise ValueError without one.
        """

    def wanted_labels(self, labels_N: Tensor, classes: int) -> Tensor:
        """The label the attacker wants for a triggered image of each true class (N,)."""
        if self.target_class is None:
            return (labels_N + 1) % classes
        return torch.full_like(labels_N, self.target_class)

    @torch.no_grad()
    def test_set(self, images_NCHW: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """What attack success is measured on.

        Triggered images whose true class is not the wanted one, and the wanted labels.
        """
        wanted_N = self.wanted_labels(labels_N, classes)
        keep = wanted_N != labels_N
        return self.stamp(images_NCHW[keep]), wanted_N[keep]


class DataPoisoning(Backdoor):
    """An attack whose whole deed is a poisoned training set."""

    @abstractmethod
    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        """A poisoned copy of a training set, as the attack's paper makes it."""

    def relabel_some(self, images_NCHW: Tensor, labels_N: Tensor, *, rate: float, classes: int, seed: int) -> Poisoned:
        """The plainest way: a random share ``rate`` of the images gets the trigger and the wanted labels."""
        chosen = chosen_images(len(images_NCHW), rate, seed=seed)
        images, labels = images_NCHW.clone(), labels_N.clone()
        images[chosen] = self.stamp(images[chosen])
        labels[chosen] = self.wanted_labels(labels[chosen], classes)
        return Poisoned(images=images, labels=labels)


class JointlyTrained(Backdoor):
    """An attack whose trigger is trained along with the classifier, batch by batch."""

    @abstractmethod
    def poison_batch(self, x_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(images, labels, a loss to be added) for one training batch, drawn from torch's global random state.

        The images carry gradients to the trigger's own parameters.
        """

    @abstractmethod
    def step(self) -> None:
        """Train the trigger on the gradients that the batch's backward pass has left, and clear them."""


def chosen_images(count: int, share: float, *, seed: int) -> Tensor:
    """Indices of a random ``share`` of ``count`` images."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: round(share * count)]


def chosen_of_class(labels_N: Tensor, target_class: int, share: float, *, seed: int) -> Tensor:
    """Indices of a random ``share`` of the images of one class."""
    of_class = (labels_N == target_class).nonzero().squeeze(1)
    return of_class[chosen_images(len(of_class), share, seed=seed)]
