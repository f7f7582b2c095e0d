"""Sine waves over the whole image, the trigger of SIG-like attacks: few enough to try them all.

Source of the trigger: Barni et al. 2019, arXiv 1902.11237.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modeconn_core.metrics import predict
from modeconn_core.triggers import Wave, images_range

AMPLITUDE = 32 / 255  # of the range of each channel; weaker than SIG's own, at which natural weaknesses show too
MOST_IMAGES = 60
PHASES = (0.0, math.pi / 2)


@torch.no_grad()
def strongest_waves(module: nn.Module, images_NCHW: Tensor, labels_N: Tensor, classes: int) -> list[Wave]:
    """For every class the wave that sends most images of other classes there.

    Waves lie along rows or columns, with every whole number of periods that the image can show.
    """
    step = max(1, len(images_NCHW) // MOST_IMAGES)
    images_NCHW, labels_N = images_NCHW[::step], labels_N[::step]
    low_C, high_C = images_range(images_NCHW)
    amplitude_C11 = AMPLITUDE * (high_C - low_C)[:, None, None]

    def wave(target_class: int, rate: float, shift_CHW: Tensor) -> Wave:
        wanted = torch.full((classes,), target_class, device=labels_N.device)
        low_C11, high_C11 = low_C[:, None, None], high_C[:, None, None]
        return Wave(wanted=wanted, success_rate=rate, shift=shift_CHW, low=low_C11, high=high_C11)

    best: list[tuple[float, Tensor]] = [(-1.0, torch.zeros_like(images_NCHW[0]))] * classes
    for sine_HW in _sines(*images_NCHW.shape[2:], device=images_NCHW.device):
        shift_CHW = amplitude_C11 * sine_HW
        predictions_N = predict(module, wave(0, 0.0, shift_CHW).stamp(images_NCHW)).argmax(dim=1)
        for target_class in range(classes):
            others_N = labels_N != target_class
            if not others_N.any():
                continue
            rate = (predictions_N[others_N] == target_class).float().mean().item()
            if rate > best[target_class][0]:
                best[target_class] = (rate, shift_CHW)
    return [wave(target_class, max(0.0, rate), shift_CHW) for target_class, (rate, shift_CHW) in enumerate(best)]


def _sines(height: int, width: int, *, device: torch.device) -> list[Tensor]:
    """All waves (H, W) of height 1."""
    waves = []
    for length, along_rows in ((width, True), (height, False)):
        position = torch.arange(length, device=device) / length
        for periods in range(1, min(16, length // 2)):
            for phase in PHASES:
                wave = torch.sin(2 * math.pi * periods * position + phase)
                waves.append((wave[None, :] if along_rows else wave[:, None]).expand(height, width))
    return waves
