"""Accuracy, attack success rate and their intervals. Pure functions; all rates lie in 0..1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.device import autocast

Interval = tuple[float, float]
Confusions = dict[tuple[int, int], int]
"""(true class, what the model took it for): how many images."""
Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int) -> Interval:
    """95 % score interval of a binomial rate (Wilson 1927). Raises ValueError when there were no trials.

    >>> low, high = wilson_interval(5, 10)
    >>> round(low, 3), round(high, 3)
    (0.237, 0.763)
    """
    if trials <= 0:
        raise ValueError("an interval needs at least one trial")
    rate = successes / trials
    scale = 1 + Z_95**2 / trials
    centre = (rate + Z_95**2 / (2 * trials)) / scale
    half = Z_95 * math.sqrt(rate * (1 - rate) / trials + Z_95**2 / (4 * trials**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How a model does on labelled images: ``correct`` (N,) bool, mean cross-entropy in nats, what it predicted (N,),
    and how sure it was of that: the largest softmax probability, on average."""

    correct: Tensor
    loss: float
    predictions: Tensor
    confidence: float

    @property
    def rate(self) -> float:
        return self.correct.float().mean().item()

    @property
    def interval(self) -> Interval:
        return wilson_interval(int(self.correct.sum()), len(self.correct))


@torch.no_grad()
def predict(module: nn.Module, images_NCHW: Tensor, *, batch_size: int = 500, exact: bool = False) -> Tensor:
    """Outputs (N, classes) in float32 of ``module`` as it stands; ``exact`` keeps the module's own precision."""
    outputs = []
    for chunk in images_NCHW.split(batch_size):
        if exact:
            outputs.append(module(chunk).float())
        else:
            with autocast(images_NCHW.device):
                outputs.append(module(chunk).float())
    return torch.cat(outputs)


def evaluate(module: nn.Module, images_NCHW: Tensor, labels_N: Tensor, *, exact: bool = False) -> Evaluation:
    """Accuracy and loss on labelled images. With triggered images and the attacker's labels the rate is the attack
    success rate: the share predicted as the attacker's target, over images whose true class is not the target.
    """
    outputs_NK = predict(module, images_NCHW, exact=exact)
    predictions_N = outputs_NK.argmax(dim=1)
    return Evaluation(
        correct=predictions_N == labels_N,
        loss=F.cross_entropy(outputs_NK, labels_N).item(),
        predictions=predictions_N,
        confidence=outputs_NK.softmax(dim=1).amax(dim=1).mean().item(),
    )


def per_class_accuracy(evaluation: Evaluation, labels_N: Tensor, num_classes: int) -> list[float | None]:
    """Accuracy of each class; None where no image of the class was seen."""
    rates: list[float | None] = []
    for index in range(num_classes):
        of_class = labels_N == index
        rates.append(evaluation.correct[of_class].float().mean().item() if of_class.any() else None)
    return rates


def confusions(evaluation: Evaluation, labels_N: Tensor) -> Confusions:
    """The mistakes, counted; pairs without any are left out."""
    wrong = ~evaluation.correct
    pairs = torch.stack([labels_N[wrong], evaluation.predictions[wrong]], dim=1)
    found, counts = pairs.unique(dim=0, return_counts=True)
    return {(true, taken_for): count for (true, taken_for), count in zip(found.tolist(), counts.tolist(), strict=True)}
