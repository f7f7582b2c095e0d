"""From the losses along a path to its barrier, and from its points to a correlation. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy import stats
from torch import Tensor

from modeconn_core.analysis_result import AnalysisPoint, Barrier, Correlation
from modeconn_core.metrics import Z_95, Interval

RESAMPLES = 2000
LEAST_POINTS = 5  # for an interval of a correlation
NEARLY_ONE = 1 - 1e-12


def mean_interval(values_N: Tensor) -> Interval:
    """95 % interval of the mean, normal approximation.

    >>> low, high = mean_interval(torch.tensor([1.0, 3.0]))
    >>> round(low, 2), round(high, 2)
    (0.04, 3.96)
    """
    mean = values_N.mean().item()
    half = Z_95 * values_N.std().item() / math.sqrt(len(values_N))
    return mean - half, mean + half


def barrier(t: Sequence[float], losses_TN: Tensor, *, seed: int) -> Barrier:
    """The loss's largest excess over the straight line between the path's ends, from each image's loss at each ``t``.

    ``t`` begins with 0 and ends with 1. The interval is the bootstrap's (Efron and Tibshirani 1993, chapter 13), over
    the images.
    """
    share_T1 = torch.tensor(t, dtype=losses_TN.dtype)[:, None]
    excess_TN = losses_TN - torch.lerp(losses_TN[:1], losses_TN[-1:], share_T1)
    excess_T = excess_TN.mean(dim=1)
    highest = int(excess_T.argmax())
    images = losses_TN.shape[1]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(images, (RESAMPLES, images), generator=generator)
    counts_RN = torch.zeros(RESAMPLES, images, dtype=losses_TN.dtype)
    counts_RN.scatter_add_(1, drawn, torch.ones_like(counts_RN))
    heights_R = (counts_RN @ excess_TN.T / images).amax(dim=1).clamp_min(0.0)
    low, high = torch.quantile(heights_R, torch.tensor([0.025, 0.975], dtype=heights_R.dtype)).tolist()
    return Barrier(height=max(0.0, excess_T[highest].item()), interval=(low, high), t=t[highest])


def correlation(points: Sequence[AnalysisPoint]) -> Correlation | None:
    """Of the mean largest eigenvalue with the robustness loss; None without eigenvalues, or where one does not vary.

    Intervals: Fisher's z; for Spearman's coefficient with the variance of Bonett and Wright 2000.
    """
    eigenvalues = [point.eigenvalue for point in points if point.eigenvalue is not None]
    losses = [point.robust_loss for point in points]
    if len(eigenvalues) < LEAST_POINTS or min(eigenvalues) == max(eigenvalues) or min(losses) == max(losses):
        return None
    pearson = stats.pearsonr(eigenvalues, losses)
    spearman = float(stats.spearmanr(eigenvalues, losses).statistic)
    interval = pearson.confidence_interval(0.95)
    spread = math.sqrt((1 + spearman**2 / 2) / (len(points) - 3))
    z = math.atanh(max(-NEARLY_ONE, min(NEARLY_ONE, spearman)))
    return Correlation(
        pearson=float(pearson.statistic),
        pearson_interval=(float(interval.low), float(interval.high)),
        spearman=spearman,
        spearman_interval=(math.tanh(z - Z_95 * spread), math.tanh(z + Z_95 * spread)),
    )
