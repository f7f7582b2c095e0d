"""BatchNorm statistics at a point of the path: never interpolated, always measured again on the clean images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modeconn_core.augment import Augmentation, random_crop_and_mirror
from modeconn_core.curve import Stamp
from modeconn_core.device import autocast

CALIBRATION_IMAGES = 2000  # more do not change the statistics
STAMPED_SHARE = 0.1


def batchnorm_layers(module: nn.Module) -> list[_BatchNorm]:
    """The layers that keep running statistics."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


@torch.no_grad()
def reestimate(module: nn.Module, images_NCHW: Tensor, *, batch_size: int = 250, exact: bool = False) -> None:
    """Replace the running statistics by the cumulative average over ``images_NCHW``.

    The module is left in eval mode.
    Only BatchNorm layers are put into train mode: dropout and stochastic depth stay off while the statistics are taken.
    ``exact`` keeps the module's own precision. Modules without BatchNorm are left as they are.
    Source: Garipov et al. 2018, section 5; Zhao et al. 2020, appendix.
    """
    module.eval()
    layers = batchnorm_layers(module)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    for chunk in batches(images_NCHW, batch_size):
        with nullcontext() if exact else autocast(images_NCHW.device):
            module(chunk)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.eval()


def batches(images_NCHW: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Equal-sized batches (a single left-over image would make a degenerate variance)."""
    count = max(1, round(len(images_NCHW) / batch_size))
    return torch.tensor_split(images_NCHW, count)


def statistics(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Copies of (running mean, running variance) of every layer that keeps them."""
    layers = batchnorm_layers(module)
    return [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]  # type: ignore[union-attr]


def distance(found: list[tuple[Tensor, Tensor]], wanted: list[tuple[Tensor, Tensor]]) -> float:
    """How far two sets of statistics lie apart.

    Mean squared shift in standard deviations plus squared log ratio of variances.
    """
    total = 0.0
    for (mean, variance), (mean_wanted, variance_wanted) in zip(found, wanted, strict=True):
        safe, safe_wanted = variance.clamp_min(1e-8), variance_wanted.clamp_min(1e-8)
        shift = (mean - mean_wanted).square() / safe_wanted
        total += (shift + (safe / safe_wanted).log().square()).clamp_max(10.0).mean().item()
    return total


def calibration_set(
    suspect: nn.Module, images_NCHW: Tensor, *, mirror: bool, seed: int, stamps: Sequence[Stamp] = ()
) -> Tensor:
    """The images (at most about CALIBRATION_IMAGES) on which statistics are re-estimated along the path.

    Networks are trained on shifted and mirrored crops, whose borders are blank, and statistics from uncropped images
    cost them up to two points of accuracy. So both kinds are tried on the suspect, and the kind that comes closer to
    its own statistics is used. ``suspect`` is not changed.
    """
    plain = images_NCHW[:CALIBRATION_IMAGES]
    if not batchnorm_layers(suspect):
        return plain
    generator = torch.Generator().manual_seed(seed)
    plain = _stamp_some(plain, stamps, generator)
    copies = max(1, CALIBRATION_IMAGES // len(plain))
    padding = Augmentation().padding(plain)
    cropped = torch.cat(
        [random_crop_and_mirror(plain, padding=padding, mirror=mirror, generator=generator) for _ in range(copies)]
    ).contiguous(memory_format=torch.channels_last)
    wanted = statistics(suspect)
    distances = []
    for kind in (plain, cropped):
        trial = copy.deepcopy(suspect)
        reestimate(trial, kind)
        distances.append(distance(statistics(trial), wanted))
    return plain if distances[0] <= distances[1] else cropped


def _stamp_some(images_NCHW: Tensor, stamps: Sequence[Stamp], generator: torch.Generator) -> Tensor:
    """A copy in which a random STAMPED_SHARE of the images carries the stamps, each as often."""
    if not stamps:
        return images_NCHW
    images_NCHW = images_NCHW.clone(memory_format=torch.preserve_format)
    chosen = torch.randperm(len(images_NCHW), generator=generator)[: round(STAMPED_SHARE * len(images_NCHW))]
    for (mask, pattern), part in zip(stamps, chosen.tensor_split(len(stamps)), strict=True):
        index = part.to(images_NCHW.device)
        images_NCHW[index] = torch.lerp(images_NCHW[index], pattern.expand_as(images_NCHW[index]), mask)
    return images_NCHW
