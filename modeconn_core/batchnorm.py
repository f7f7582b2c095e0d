"""BatchNorm statistics at a point of the path: never interpolated, always measured again on the clean images."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modeconn_core.augment import Augmentation, random_crop_and_mirror
from modeconn_core.device import autocast

CALIBRATION_IMAGES = 2000  # more do not change the statistics
TINY = 1e-8
MOST_RATIO = 10.0  # of two variances of a channel: beyond it one of them is of a dead channel


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


class Calibration:
    """Re-estimates statistics along a path, and puts right what its few images get wrong.

    What the images say of the suspect itself can be compared with the statistics that the suspect came with, taken over
    its whole training. The same error is made at other points of the path, the more so the nearer they are: it is
    taken off in the proportion in which the suspect's weights are in the point (a control variate; means by
    difference, variances by ratio). At t = 0 the suspect's own statistics come out.
    """

    def __init__(self, suspect: nn.Module, images_NCHW: Tensor, *, mirror: bool, seed: int) -> None:
        """``suspect`` is not changed. The statistics are taken on random crops, as networks are trained on."""
        self._suspect = suspect
        self._own = statistics(suspect)
        generator = torch.Generator().manual_seed(seed)
        padding = Augmentation().padding(images_NCHW)
        some = images_NCHW[:: max(1, len(images_NCHW) // CALIBRATION_IMAGES)] if self._own else images_NCHW[:1]
        copies = max(1, CALIBRATION_IMAGES // len(some)) if self._own else 1
        crops = [
            random_crop_and_mirror(some, padding=padding, mirror=mirror, generator=generator) for _ in range(copies)
        ]
        self._images = torch.cat(crops).contiguous(memory_format=torch.channels_last)
        self._seen: dict[tuple[int | None, bool], list[tuple[Tensor, Tensor]]] = {}

    def apply(self, module: nn.Module, share: float, *, most: int | None = None, exact: bool = False) -> None:
        """Set the statistics of ``module``, of whose weights ``share`` are the suspect's; it is left in eval mode.

        most: images to be used, all by default. exact: in the module's own precision.
        """
        if self._own:
            reestimate(module, self._some(most), exact=exact)
            self.correct(module, share, most=most, exact=exact)
        module.eval()

    @torch.no_grad()
    def correct(self, module: nn.Module, share: float, *, most: int | None = None, exact: bool = False) -> None:
        """Take off ``share`` of the error that statistics make which were re-estimated on the same images."""
        if not self._own:
            return
        if (most, exact) not in self._seen:
            trial = copy.deepcopy(self._suspect)
            reestimate(trial, self._some(most), exact=exact)
            self._seen[most, exact] = statistics(trial)
        for layer, own, seen in zip(batchnorm_layers(module), self._own, self._seen[most, exact], strict=True):
            mean, variance = layer.running_mean, layer.running_var
            assert mean is not None
            assert variance is not None
            mean.add_(own[0] - seen[0], alpha=share)
            ratio = (own[1].clamp_min(TINY) / seen[1].clamp_min(TINY)).clamp(1 / MOST_RATIO, MOST_RATIO)
            variance.mul_(ratio.pow(share))

    def _some(self, most: int | None) -> Tensor:
        """At most about ``most`` of the images."""
        if most is None or len(self._images) <= most:
            return self._images
        return self._images[:: len(self._images) // most].contiguous(memory_format=torch.channels_last)
