"""What the fit learns from: the tampered ends teach the path their own answers on many views of the clean images.

Labels alone make a path of few images forget: every view gets the answer that an end gives on just this view, so the
clean function is held still while the backdoor, which no clean image shows, has nothing to hold it.
Source: Hinton et al. 2015 (arXiv 1503.02531) for soft targets; Beyer et al. 2022 (arXiv 2106.05237) for a teacher that
sees the pupil's very view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.augment import Views, draw_views
from modeconn_core.checkpoints import Checkpoints
from modeconn_core.fit import FitSettings, Stamp, TrainingSet
from modeconn_core.metrics import predict

TEACHER_SHARE = 0.8  # of a target; the label has the rest, so that a teacher's mistakes are not learned for good
TEMPERATURE = 2.0
VIEWS = 12_000  # in all; more are no better and cost a pass each
MOST_VIEWS = 64  # of one image
BATCH = 500


@torch.no_grad()
def training_set(
    teachers: Sequence[nn.Module],
    images_NCHW: Tensor,
    labels_N: Tensor,
    *,
    classes: int,
    settings: FitSettings,
    seed: int,
    teacher_share: float = TEACHER_SHARE,
    stamps: Sequence[Stamp] = (),
    waves: Sequence[Stamp] = (),
    on_taught: Callable[[int], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    name: str = "lessons",
) -> TrainingSet:
    """Views of the clean images and the mean answer of ``teachers`` (in eval mode) on each, mixed with its label.

    ``teacher_share`` of a target is the teachers'. ``stamps`` and ``waves`` are kept for the fit and not shown to the
    teachers. ``on_taught`` is told how many views have their answer, again and again. ``name``: that of the answers in
    ``checkpoints``.
    """
    checkpoints = checkpoints or Checkpoints()
    count = len(images_NCHW)
    views = fixed_views(images_NCHW, settings, seed)
    total = len(views)
    targets_MK = torch.empty(total, classes, device=images_NCHW.device)
    for first in range(0, total, BATCH):
        chosen_B = torch.arange(first, min(first + BATCH, total), device=images_NCHW.device)
        x_BCHW = views.of(images_NCHW[chosen_B % count], chosen_B).contiguous(memory_format=torch.channels_last)
        answers_BK = checkpoints.part(f"{name}-{first}", partial(_mean_answer, teachers, x_BCHW))
        labels_BK = F.one_hot(labels_N[chosen_B % count], classes).float()
        targets_MK[chosen_B] = torch.lerp(labels_BK, answers_BK.to(labels_BK), teacher_share)
        on_taught(first + len(chosen_B))
    return TrainingSet(images=images_NCHW, views=views, targets=targets_MK, stamps=stamps, waves=waves)


def _mean_answer(teachers: Sequence[nn.Module], x_BCHW: Tensor) -> Tensor:
    return torch.stack([(predict(teacher, x_BCHW) / TEMPERATURE).softmax(dim=1) for teacher in teachers]).mean(dim=0)


def labelled_set(
    images_NCHW: Tensor, labels_N: Tensor, *, classes: int, settings: FitSettings, seed: int
) -> TrainingSet:
    """The same views with nothing but their labels to learn, as in the paper."""
    views = fixed_views(images_NCHW, settings, seed)
    labels_M = labels_N[torch.arange(len(views), device=labels_N.device) % len(labels_N)]
    return TrainingSet(images=images_NCHW, views=views, targets=F.one_hot(labels_M, classes).float())


def fixed_views(images_NCHW: Tensor, settings: FitSettings, seed: int) -> Views:
    """As many views of every image as a fit can use."""
    count = len(images_NCHW)
    wanted = min(VIEWS, settings.steps * settings.batch_size)
    return draw_views(
        count * min(max(1, wanted // count), MOST_VIEWS),
        padding=settings.augmentation.padding(images_NCHW),
        mirror=settings.augmentation.mirror,
        generator=torch.Generator().manual_seed(seed),
        device=images_NCHW.device,
    )
