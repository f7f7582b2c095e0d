"""What the fit learns from: every view with the answer that the ends give on this very view."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from modeconn_core.augment import Augmentation
from modeconn_core.distillation import MOST_VIEWS, TEACHER_SHARE, TEMPERATURE, training_set
from modeconn_core.fit import FitSettings

SETTINGS = FitSettings(steps=20, batch_size=32)


def lessons(teachers, images, labels, settings: FitSettings = SETTINGS, **options):
    classes = teachers[0].head.out_features
    return training_set(teachers, images, labels, classes=classes, settings=settings, seed=1, **options)


def test_a_target_joins_the_label_and_the_teachers_answer_on_the_very_view(suspect, clean) -> None:
    data = lessons([suspect], clean.images[:40], clean.labels[:40])
    assert len(data.targets) == len(data.views) == 640
    for m in (0, 41, 639):
        image = m % 40
        view = data.views.of(clean.images[image : image + 1], torch.tensor([m]))
        with torch.no_grad():
            expected = TEACHER_SHARE * (suspect(view) / TEMPERATURE).softmax(dim=1)[0]
        expected[clean.labels[image]] += 1 - TEACHER_SHARE
        torch.testing.assert_close(data.targets[m], expected, atol=0.02, rtol=0.02)  # bfloat16 where there is some
    torch.testing.assert_close(data.targets.sum(dim=1), torch.ones(640))


def test_views_of_one_image_differ_and_mirror_only_when_asked(suspect, clean) -> None:
    unmirrored = replace(SETTINGS, augmentation=Augmentation(mirror=False))
    assert not lessons([suspect], clean.images, clean.labels, unmirrored).views.mirrored.any()
    views = lessons([suspect], clean.images[:1], clean.labels[:1]).views
    assert (
        len({(int(a), int(b), bool(c)) for a, b, c in zip(views.tops, views.lefts, views.mirrored, strict=True)}) > 20
    )
    assert len(views) == MOST_VIEWS


def test_two_teachers_teach_their_mean(suspect, clean) -> None:
    other = copy.deepcopy(suspect)
    torch.nn.init.zeros_(other.head.weight)
    torch.nn.init.zeros_(other.head.bias)
    one, two, both = (lessons(t, clean.images, clean.labels).targets for t in ([suspect], [other], [suspect, other]))
    torch.testing.assert_close(both, (one + two) / 2)


def test_teachers_never_see_the_stamps_and_answers_can_be_interrupted(suspect, clean) -> None:
    plain = lessons([suspect], clean.images, clean.labels)
    stamped = lessons([suspect], clean.images, clean.labels, stamps=(lambda x: x * 0 + 7,))
    assert torch.equal(plain.targets, stamped.targets)

    taught: list[int] = []

    def stop(done: int) -> None:
        taught.append(done)
        if len(taught) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        lessons([suspect], clean.images[:40], clean.labels[:40], on_taught=stop)
    assert taught == [500, 640]
