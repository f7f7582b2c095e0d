"""Who sees which image: the fit, the choice of t, and the report each have their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FEWEST_DIVIDED = 20  # suspicious images that can be divided: with fewer in each half neither says anything
SELECTION_SHARE = 0.4  # of the held-out images; the others are reported on, and the verdict hangs on them


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Disjoint index sets (int64) into the clean images."""

    fit: Tensor
    selection: Tensor
    report: Tensor


def divide_triggered(count: int, *, choosing: bool, injected: bool) -> tuple[slice, slice]:
    """Which of ``count`` triggered images measure the curve and which the report: every second one, if they choose t.

    ``injected``: they are the very images that injected errors are about, mostly a handful, and what is wanted is that
    all of them come right; few of them are not divided. Raises ValueError where there are too few to divide.
    """
    if not choosing or (injected and count < FEWEST_DIVIDED):
        return slice(None), slice(None)
    if count < 2:
        raise ValueError("to choose t with triggered images, give at least two: half of them are kept for the report")
    return slice(0, None, 2), slice(1, None, 2)


def split_clean(labels_N: Tensor, *, held_out: float, seed: int) -> Split:
    """Divide every class alike, a pure function of (labels, held_out, seed).

    Raises ValueError when some part would be empty.
    """
    rng = np.random.default_rng((seed, 3))
    labels = labels_N.cpu().numpy()
    position = np.empty(len(labels))  # where an image stands in its shuffled class, 0..1
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        position[rng.permutation(members)] = (np.arange(len(members)) + rng.random()) / len(members)
    report_share = held_out * (1 - SELECTION_SHARE)
    report = position < report_share
    selection = ~report & (position < held_out)
    fit = ~report & ~selection
    parts = [torch.from_numpy(np.flatnonzero(part)) for part in (fit, selection, report)]
    if any(len(part) < 2 for part in parts):
        raise ValueError(f"{len(labels)} clean images are too few to fit, choose and report on different ones")
    return Split(fit=parts[0], selection=parts[1], report=parts[2])
