"""Trigger inversion and the scan that is made of it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modeconn_core.attacks import ATTACKS
from modeconn_core.scan import Scan, scan
from modeconn_core.sweep import Probe
from modeconn_core.triggers import InversionSettings, Trigger, anomaly_indices, invert_trigger

SETTINGS = InversionSettings()


def test_the_smallest_trigger_of_the_backdoors_target_is_found_and_works_on_other_images(
    suspect, clean, unseen
) -> None:
    before = copy.deepcopy(suspect.state_dict())
    found = invert_trigger(suspect, clean.images, clean.labels, 0, settings=SETTINGS, seed=0)
    probe = Probe(images=unseen.images, labels=unseen.labels, triggered=None, proxies=())
    assert probe.proxy_success(suspect, found) > 0.8
    assert found.size < 20
    assert ((found.mask >= 0) & (found.mask <= 1)).all()
    low, high = clean.images.amin(), clean.images.amax()
    assert ((found.pattern >= low - 1e-5) & (found.pattern <= high + 1e-5)).all()
    assert all(torch.equal(before[name], tensor) for name, tensor in suspect.state_dict().items())


def test_the_scan_singles_out_the_true_target_and_no_class_of_an_honest_model(suspect, honest, clean, unseen) -> None:
    seen: list[int] = []

    def run(model):
        return scan(
            model,
            (clean.images, clean.labels),
            (unseen.images, unseen.labels),
            classes=6,
            settings=SETTINGS,
            seed=0,
            on_class=lambda done, _: seen.append(done),
        )

    found = run(suspect)
    assert found.candidates == (0,)
    assert found.indices[0] == max(found.indices) > 3
    assert {trigger.target_class for trigger in found.unlearned} == {0}
    assert len(found.proxies) == 1
    assert found.proxies[0][0].success_rate > 0.9
    assert not any(torch.equal(found.proxies[0][0].mask, trigger.mask) for trigger in found.unlearned)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert run(honest).candidates == ()


def test_a_pattern_the_path_does_not_clear_is_followed_only_when_it_is_blatant() -> None:
    def trigger(target_class: int, size: int) -> Trigger:
        mask = torch.zeros(1, 8, 8)
        mask.view(-1)[:size] = 1
        return Trigger(target_class=target_class, mask=mask, pattern=torch.zeros(3, 8, 8), success_rate=1.0)

    triggers = tuple(trigger(i, size) for i, size in enumerate([4, 15, 40, 42, 38, 41]))
    found = Scan(triggers=triggers, indices=(9.0, 6.0, 0, 0, 1.0, 0), candidates=(0, 1), unlearned=(), proxies=())
    assert found.followed([True, True]) == (0, 1)
    assert found.followed([False, False]) == (0,)


def test_the_region_of_a_trigger_is_filled_with_plain_colours() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2, 2], mask[0, 5, 5] = 0.9, 0.1
    pattern = torch.arange(3.0).view(3, 1, 1).expand(3, 8, 8)
    trigger = Trigger(target_class=1, mask=mask, pattern=pattern, success_rate=1.0)
    fills = trigger.fills(torch.zeros(3), torch.full((3,), 9.0))
    assert len(fills) == 9
    for fill in fills:
        assert fill.mask[0, 1:4, 1:4].min() == 1
        assert fill.mask.sum() == 9  # the faint pixel does not count
    colours = {tuple(fill.pattern[:, 0, 0].tolist()) for fill in fills}
    assert {(0.0, 0.0, 0.0), (9.0, 9.0, 9.0), (9.0, 0.0, 0.0)} < colours
    assert any(abs(a) < 1e-6 and abs(b - 1) < 1e-6 and abs(c - 2) < 1e-6 for a, b, c in colours)


@pytest.mark.parametrize("mask", [torch.full((1, 8, 8), 0.9), torch.eye(8)[None] * 0.2])
def test_a_veil_or_a_large_pattern_is_not_filled_for_that_would_hide_the_image(mask: Tensor) -> None:
    trigger = Trigger(target_class=1, mask=mask, pattern=torch.zeros(3, 8, 8), success_rate=1.0)
    assert trigger.fills(torch.zeros(3), torch.ones(3)) == []


@given(sizes=st.lists(st.floats(0.1, 1000), min_size=3, max_size=40))
def test_anomaly_indices_count_deviations_below_the_median(sizes: list[float]) -> None:
    indices = anomaly_indices(sizes)
    middle = float(torch.tensor(sizes, dtype=torch.float64).median())
    for size, index in zip(sizes, indices, strict=True):
        assert index >= 0
        assert (index > 0) == (size < middle)
    assert indices[sizes.index(min(sizes))] == max(indices)


def test_stamping_mixes_pattern_and_image_by_the_mask() -> None:
    mask = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])
    trigger = Trigger(target_class=0, mask=mask, pattern=torch.full((3, 2, 2), 4.0), success_rate=1.0)
    stamped = trigger.stamp(torch.zeros(1, 3, 2, 2))
    assert torch.equal(stamped[0, 0], torch.tensor([[0.0, 4.0], [2.0, 0.0]]))
    assert trigger.size == 1.5


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_changes_images_a_little_and_poisons_as_its_paper_says(name: str) -> None:
    attack = ATTACKS[name]()
    images: Tensor = torch.rand(400, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(400) % 10
    untouched = images.clone()
    stamped, _ = attack.test_set(images, labels, 10)
    assert torch.equal(images, untouched)
    assert ((stamped >= 0) & (stamped <= 1)).all()
    assert len(stamped) == (400 if name == "badnets-all-to-all" else 360)
    poisoned = attack.poison(images, labels, seed=3)
    assert torch.equal(images, untouched)
    again = attack.poison(images, labels, seed=3)
    assert torch.equal(poisoned.images, again.images)
    touched = (poisoned.images != images).flatten(1).any(dim=1)
    relabelled = poisoned.labels != labels
    shares = {"badnets": 0.05, "badnets-all-to-all": 0.1, "blend": 0.05, "sig": 0.08, "wanet": 0.3}
    assert touched.float().mean().item() == pytest.approx(shares[name], abs=0.001)
    assert bool(relabelled.any()) == (name != "sig")
    assert not (relabelled & ~touched).any()
    if name == "sig":
        assert (labels[touched] == 0).all()
