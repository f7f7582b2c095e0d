"""Statistics at a point of the path."""

from __future__ import annotations

import copy

import torch
from torch import nn

from modeconn_core.batchnorm import Calibration, reestimate, statistics


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


def convolution_with_statistics(images: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    reestimate(net, images, exact=True)
    return net


def test_at_the_suspect_its_own_statistics_come_out_whatever_the_images_say() -> None:
    generator = torch.Generator().manual_seed(0)
    net = convolution_with_statistics(torch.randn(300, 3, 16, 16, generator=generator) + 4)
    calibration = Calibration(net, 3 * torch.randn(40, 3, 16, 16, generator=generator), mirror=True, seed=0)
    module = copy.deepcopy(net)
    calibration.apply(module, 1.0, exact=True)
    for found, wanted in zip(statistics(module), statistics(net), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_away_from_the_suspect_the_images_decide() -> None:
    images = torch.randn(2000, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net = convolution_with_statistics(images + 4)
    calibration = Calibration(net, images, mirror=False, seed=0)
    module = copy.deepcopy(net)
    calibration.apply(module, 0.0, exact=True)
    assert (module[1].running_mean - net[1].running_mean).abs().max() > 0.1
    seen = statistics(module)
    calibration.apply(module, 0.5, exact=True)
    for (mean, variance), (own_mean, own_variance), (seen_mean, seen_variance) in zip(
        statistics(module), statistics(net), seen, strict=True
    ):
        torch.testing.assert_close(mean, (own_mean + seen_mean) / 2, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(variance, (own_variance * seen_variance).sqrt(), rtol=1e-3, atol=1e-3)


def test_a_dead_channel_does_not_blow_up() -> None:
    net = convolution_with_statistics(torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    net[1].running_var[0] = 0.0
    calibration = Calibration(net, torch.randn(64, 3, 16, 16), mirror=False, seed=0)
    calibration.apply(net, 0.5)
    assert net[1].running_var.isfinite().all()
    assert (net[1].running_var > 0).all()


def test_calibrating_a_module_without_batchnorm_leaves_it_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3))
    before = copy.deepcopy(net.state_dict())
    Calibration(net, torch.randn(4, 3, 8, 8), mirror=True, seed=0).apply(net, 0.3)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not net.training
