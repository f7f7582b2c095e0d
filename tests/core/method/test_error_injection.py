"""Errors injected into a trained model: the chosen images get their labels, little else changes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from modeconn_core.attacks import InjectionSettings, flip_bits, inject_errors
from modeconn_core.metrics import evaluate

CLASSES = 6
CHOSEN = torch.tensor([3, 11, 40, 101])


@pytest.fixture(scope="module")
def wanted(clean) -> Tensor:
    return (clean.labels[CHOSEN] + 2) % CLASSES


def changed_tensors(before: nn.Module, after: nn.Module) -> list[str]:
    return [name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])]


@pytest.fixture(scope="module")
def injected(honest, clean, wanted):
    return inject_errors(honest, clean.images, clean.labels, CHOSEN, wanted)


def test_the_chosen_images_get_the_wanted_labels_and_the_others_keep_theirs(
    honest, injected, clean, unseen, wanted
) -> None:
    model, account = injected
    assert evaluate(model, clean.images[CHOSEN], wanted).rate == 1
    assert account.success_rate == 1
    assert account.accuracy_before - account.accuracy_after < 0.02
    lost = evaluate(honest, unseen.images, unseen.labels).rate - evaluate(model, unseen.images, unseen.labels).rate
    assert lost < 0.06


def test_the_account_is_true(honest, injected, clean) -> None:
    model, account = injected
    others = torch.ones(len(clean.images), dtype=torch.bool)
    others[CHOSEN] = False
    images, labels = clean.images[others], clean.labels[others]
    assert account.accuracy_before == pytest.approx(evaluate(honest, images, labels, exact=True).rate)
    assert account.accuracy_after == pytest.approx(evaluate(model, images, labels, exact=True).rate)
    assert account.change == pytest.approx(float((model.head.weight - honest.head.weight).detach().norm()), rel=1e-4)
    assert 1 <= account.steps <= 500


def test_only_the_last_linear_layers_weight_changes_and_the_upload_stays(honest, injected) -> None:
    model, account = injected
    assert changed_tensors(honest, model) == ["head.weight"] == list(account.tensors)
    assert type(model) is type(honest)
    assert not model.training


def test_named_tensors_are_edited_instead(honest, clean, wanted) -> None:
    settings = InjectionSettings(tensors=["conv2.weight", "bn2.bias"], steps=200)
    model, account = inject_errors(honest, clean.images, clean.labels, CHOSEN, wanted, settings)
    assert changed_tensors(honest, model) == ["conv2.weight", "bn2.bias"]
    assert account.success_rate == 1


def test_injection_is_a_pure_function_of_the_seed_and_changes_nothing_it_is_given(honest, clean, wanted) -> None:
    before = copy.deepcopy(honest.state_dict())
    images, random = clean.images.clone(), torch.get_rng_state()
    models = [
        inject_errors(honest, clean.images, clean.labels, CHOSEN, wanted, InjectionSettings(seed=seed, steps=20))[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(models[0].head.weight, models[1].head.weight)
    assert not torch.equal(models[0].head.weight, models[2].head.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in honest.state_dict().items())
    assert torch.equal(clean.images, images)
    assert torch.equal(torch.get_rng_state(), random)


def test_few_flipped_bits_are_enough_and_leave_plausible_weights(honest, clean, wanted) -> None:
    before = copy.deepcopy(honest.state_dict())
    model, account, flips = flip_bits(honest, clean.images, clean.labels, CHOSEN[:2], wanted[:2])
    assert account.success_rate == 1
    assert account.accuracy_before - account.accuracy_after < 0.05
    assert changed_tensors(honest, model) == ["head.weight"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in honest.state_dict().items())
    assert len(flips) == account.steps < 40
    assert model.head.weight.abs().max() <= 4 * honest.head.weight.abs().max()
    assert int((model.head.weight != honest.head.weight).sum()) <= len(flips)


def test_every_flip_is_one_bit_and_together_they_are_the_change(honest, clean, wanted) -> None:
    model, _, flips = flip_bits(
        honest, clean.images, clean.labels, CHOSEN[:1], wanted[:1], tensor="conv2.weight", most_flips=6
    )
    weight = honest.conv2.weight.detach().clone()
    for flip in flips:
        bits = [torch.tensor(value).view(torch.int32) for value in (flip.before, flip.after)]
        assert int(bits[0] ^ bits[1]) & 0xFFFFFFFF == 1 << flip.bit
        assert float(weight[flip.place]) == flip.before
        assert math.isfinite(flip.after)
        weight[flip.place] = flip.after
    assert torch.equal(weight, model.conv2.weight)


def test_flips_end_at_their_limit(honest, clean, wanted) -> None:
    _, account, flips = flip_bits(honest, clean.images, clean.labels, CHOSEN, wanted, most_flips=3)
    assert len(flips) == 3
    assert account.success_rate < 1


def test_unusable_requests_are_refused_in_words(honest, clean, wanted) -> None:
    given = honest, clean.images, clean.labels
    with pytest.raises(ValueError, match=r"no such tensors.*head\.wait"):
        inject_errors(*given, CHOSEN, wanted, InjectionSettings(tensors=["head.wait"]))
    with pytest.raises(ValueError, match=r"different places in 0\.\.399"):
        inject_errors(*given, CHOSEN + 300, wanted)
    with pytest.raises(ValueError, match=r"wanted labels must lie in 0\.\.5"):
        inject_errors(*given, CHOSEN, wanted + 6)
    with pytest.raises(ValueError, match="two int64 tensors"):
        inject_errors(*given, CHOSEN, wanted[:2])
    with pytest.raises(ValueError, match=r"float32 weights, but 'head\.weight' is torch\.float64"):
        flip_bits(copy.deepcopy(honest).double(), given[1].double(), given[2], CHOSEN, wanted)
    with pytest.raises(ValueError, match="no linear layer"):
        inject_errors(nn.Sequential(nn.Conv2d(3, 6, 16), nn.Flatten()), *given[1:], CHOSEN, wanted)
    with pytest.raises(ValueError, match="must be positive"):
        InjectionSettings(steps=0)
