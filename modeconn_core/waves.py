"""Sine waves over the whole image, the trigger of SIG-like attacks: few enough to try them all.

Source of the trigger: Barni et al. 2019, arXiv 1902.11237.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from modeconn_core.checkpoints import Checkpoints
from modeconn_core.metrics import predict
from modeconn_core.triggers import Wave, images_range

AMPLITUDE = 32 / 255  # of the range of each channel; weaker than SIG's own, at which natural weaknesses show too
MOST_IMAGES = 60
PHASES = (0.0, math.pi / 2)


@torch.no_grad()
def surest_waves(
    module: nn.Module, images_NCHW: Tensor, labels_N: Tensor, classes: int, *, checkpoints: Checkpoints
) -> list[tuple[Wave, float]]:
    """For every class the wave under which the model takes images of other classes for it with most confidence, and
    the mean probability that it gives to the class.

    Waves lie along rows or columns, with every whole number of periods that the image can show. A texture that is
    natural for a class can send as many images there as a trigger does, but leaves the model in doubt.
    """
    step = max(1, len(images_NCHW) // MOST_IMAGES)
    images_NCHW, labels_N = images_NCHW[::step], labels_N[::step]
    low_C, high_C = images_range(images_NCHW)
    amplitude_C11 = AMPLITUDE * (high_C - low_C)[:, None, None]

    def wave(target_class: int, rate: float, shift_CHW: Tensor) -> Wave:
        wanted = torch.full((classes,), target_class, device=labels_N.device)
        low_C11, high_C11 = low_C[:, None, None], high_C[:, None, None]
        return Wave(wanted=wanted, success_rate=rate, shift=shift_CHW, low=low_C11, high=high_C11)

    best: list[tuple[float, float, Tensor]] = [(0.0, 0.0, torch.zeros_like(images_NCHW[0]))] * classes
    for number, sine_HW in enumerate(_sines(*images_NCHW.shape[2:], device=images_NCHW.device)):
        shift_CHW = amplitude_C11 * sine_HW
        stamped = wave(0, 0.0, shift_CHW).stamp(images_NCHW)
        outputs_NK = checkpoints.part(f"wave-{number}", partial(predict, module, stamped))
        probabilities_NK = outputs_NK.softmax(dim=1)
        predictions_N = probabilities_NK.argmax(dim=1)
        for target_class in range(classes):
            others_N = labels_N != target_class
            if not others_N.any():
                continue
            confidence = probabilities_NK[others_N, target_class].mean().item()
            if confidence > best[target_class][0]:
                rate = (predictions_N[others_N] == target_class).float().mean().item()
                best[target_class] = (confidence, rate, shift_CHW)
    return [
        (wave(target_class, rate, shift_CHW), confidence)
        for target_class, (confidence, rate, shift_CHW) in enumerate(best)
    ]


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
