"""Fine-tuning: as the baseline of NAD's paper has it (Li et al., ICLR 2021, arXiv 2101.05930, section 4.1), and ours.

``fine_tune_on_lessons`` has all that our path has except the path: same views, same answers of the suspect, same steps.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from bench.peers.common import Clean, generator_of, loss_of
from modeconn_core import fit
from modeconn_core.augment import Augmentation
from modeconn_core.batchnorm import Calibration
from modeconn_core.distillation import training_set
from modeconn_core.repair import FINE_TUNING_DIVISOR, rate_for, steps_for

EPOCHS, BATCH, RATE, DECAY_EVERY = 10, 64, 0.1, 2


def fine_tune(module: nn.Module, clean: Clean, *, epochs: int = EPOCHS) -> nn.Module:
    """SGD with momentum .9, rate .1 divided by ten after every second epoch, crops and mirroring."""
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    generator = generator_of(clean)
    module.train()
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.1 ** (epoch // DECAY_EVERY)
        for x, labels in clean.epoch(BATCH, generator, augment=True):
            optimizer.zero_grad()
            loss_of(module, x, labels).backward()
            optimizer.step()
    return module.eval()


def fine_tune_on_lessons(module: nn.Module, clean: Clean) -> nn.Module:
    """The product's own fine-tuning, with BatchNorm re-estimated as after a path."""
    count = len(clean.labels)
    settings = fit.FitSettings(
        steps=steps_for(count),
        batch_size=min(128, count),
        rate=rate_for(count) / FINE_TUNING_DIVISOR,
        augmentation=Augmentation(mirror=clean.mirror),
    )
    module.eval()
    lessons = training_set(
        [module], clean.images, clean.labels, classes=clean.classes, settings=settings, seed=clean.seed
    )
    calibration = Calibration(copy.deepcopy(module), clean.images, mirror=clean.mirror, seed=clean.seed)
    fit.fine_tune(module, lessons, settings, clean.seed)
    calibration.apply(module, 0.0, exact=True)
    return module
