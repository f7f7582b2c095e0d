"""Statistics at a point of the path."""

from __future__ import annotations

import copy

import torch
from torch import nn

from modeconn_core.batchnorm import calibration_set, distance, reestimate, statistics


def test_statistics_are_those_of_the_images() -> None:
    layer = nn.BatchNorm2d(3, momentum=0.3)
    images = torch.randn(600, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 2 + 1
    reestimate(layer, images, batch_size=200, exact=True)
    torch.testing.assert_close(layer.running_mean, images.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.running_var, images.var(dim=(0, 2, 3)), rtol=1e-2, atol=1e-2)
    assert layer.momentum == 0.3
    assert not layer.training


def test_what_was_there_before_leaves_no_trace(suspect, clean) -> None:
    fresh, spoiled = copy.deepcopy(suspect), copy.deepcopy(suspect)
    spoiled.bn1.running_mean.fill_(1e6)
    reestimate(fresh, clean.images)
    reestimate(spoiled, clean.images)
    for (mean, variance), (mean_2, variance_2) in zip(statistics(fresh), statistics(spoiled), strict=True):
        assert torch.equal(mean, mean_2)
        assert torch.equal(variance, variance_2)


def test_dropout_stays_off_while_statistics_are_taken() -> None:
    net = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3))
    images = torch.ones(64, 3, 4, 4)
    reestimate(net, images)
    torch.testing.assert_close(net[1].running_mean, torch.ones(3))


def test_a_left_over_image_makes_no_batch_of_its_own() -> None:
    layer = nn.BatchNorm2d(1)
    reestimate(layer, torch.randn(251, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
    assert layer.running_var.isfinite().all()


def test_modules_without_batchnorm_are_left_alone() -> None:
    net = nn.Linear(3, 2)
    before = copy.deepcopy(net.state_dict())
    reestimate(net, torch.randn(4, 3))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_the_kind_of_images_that_fits_the_suspects_own_statistics_is_used() -> None:
    images = torch.randn(300, 3, 16, 16, generator=torch.Generator().manual_seed(0)) + 4  # blank borders show
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    reestimate(net, images)
    plain = calibration_set(net, images, mirror=True, seed=0)
    assert torch.equal(plain, images)
    cropped = calibration_set(net, images, mirror=True, seed=1)
    assert torch.equal(cropped, images)
    shifted = torch.nn.functional.pad(images, (2, 0, 2, 0))[:, :, :16, :16]
    reestimate(net, shifted)
    chosen = calibration_set(net, images, mirror=True, seed=0)
    assert len(chosen) > len(images)
    trial = copy.deepcopy(net)
    reestimate(trial, chosen)
    plain_trial = copy.deepcopy(net)
    reestimate(plain_trial, images)
    wanted = statistics(net)
    assert distance(statistics(trial), wanted) < distance(statistics(plain_trial), wanted)
