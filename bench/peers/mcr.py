"""Mode connectivity repair by the paper's own protocol (Zhao et al., ICLR 2020, arXiv 2005.00060, section 4).

7,900 steps whatever the clean set's size, rate .01, no augmentation, a Bezier curve with one bend, 31 values of t. The
paper has no rule for t; the tables take the value that suits it best, with the true trigger in sight.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from bench.peers.common import Clean, generator_of, loss_of
from modeconn_core.augment import Augmentation, draw_views
from modeconn_core.batchnorm import reestimate
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.fit import FitSettings, PathFit, TrainingSet

STEPS, BATCH, RATE = 7900, 128, 0.01
VALUES_OF_T = tuple(i / 30 for i in range(31))
FINE_TUNING_EPOCHS, FINE_TUNING_RATE = 10, 0.05


class PaperSettings(FitSettings):
    """The paper's schedule: flat for half of the run, then linear to one hundredth at nine tenths of it."""

    def rate_at(self, step: int) -> float:
        done = step / self.steps
        return self.rate * max(0.01, min(1.0, 1.0 - 0.99 * (done - 0.5) / 0.4))


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedPath:
    """A path whose points can be had one after the other."""

    module: nn.Module
    flat: FlatParameters
    path: ModePath
    clean: Clean

    def points(self) -> Iterator[tuple[float, nn.Module]]:
        """(t, the module at t with its BatchNorm statistics): one module, rewritten for every point."""
        for t in VALUES_OF_T:
            self.path.write(t, self.flat.vector)
            reestimate(self.module, self.clean.images)
            yield t, self.module


def connect(first: nn.Module, second: nn.Module, clean: Clean, *, steps: int = STEPS) -> FittedPath:
    """Train the bend between two models."""
    work = copy.deepcopy(first)
    flat = FlatParameters(work)
    path = ModePath.between(flat, first.state_dict(), second.state_dict(), kind="bezier", bends=1, start="line")
    settings = PaperSettings(
        steps=steps,
        batch_size=min(BATCH, len(clean.labels)),
        rate=RATE,
        gradient_limit=float("inf"),
        augmentation=Augmentation(crop=0.0, mirror=False),
    )
    views = draw_views(
        len(clean.labels), padding=0, mirror=False, generator=generator_of(clean), device=clean.images.device
    )
    data = TrainingSet(images=clean.images, views=views, targets=F.one_hot(clean.labels, clean.classes).float())
    PathFit(work, flat, path, data, settings, clean.seed).run()
    return FittedPath(module=work, flat=flat, path=path, clean=clean)


def fine_tuned_end(suspect: nn.Module, clean: Clean) -> nn.Module:
    """The second end where there is one suspect only: a copy fine-tuned on the clean images, no augmentation."""
    module = copy.deepcopy(suspect).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=FINE_TUNING_RATE, momentum=0.9, weight_decay=1e-4)
    generator = generator_of(clean)
    for _ in range(FINE_TUNING_EPOCHS):
        for x, labels in clean.epoch(BATCH, generator, augment=False):
            optimizer.zero_grad()
            loss_of(module, x, labels).backward()
            optimizer.step()
    return module.eval()
