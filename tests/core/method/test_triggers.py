"""Trigger inversion and the scan that is made of it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modeconn_core.attacks import ATTACKS
from modeconn_core.scan import scan
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
    assert [trigger.target_class for trigger in found.unlearned] == [0]
    assert not torch.equal(found.proxies[0].mask, found.unlearned[0].mask)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert run(honest).candidates == ()


def test_a_pattern_the_path_does_not_clear_is_followed_only_when_it_is_blatant(suspect, clean) -> None:
    found = scan(
        suspect,
        (clean.images, clean.labels),
        (clean.images, clean.labels),
        classes=6,
        settings=InversionSettings(steps=40),
        seed=0,
        on_class=lambda *_: None,
    )
    assert found.followed([True]) == (0,)
    median = sorted(trigger.size for trigger in found.triggers)[3]
    assert found.followed([False]) == ((0,) if found.triggers[0].size <= 0.15 * median else ())


@given(sizes=st.lists(st.floats(0.1, 1000), min_size=3, max_size=40))
def test_anomaly_indices_count_deviations_below_the_median(sizes: list[float]) -> None:
    indices = anomaly_indices(sizes)
    middle = float(torch.tensor(sizes, dtype=torch.float64).median())
    for size, index in zip(sizes, indices, strict=True):
        assert index >= 0
        assert (index > 0) == (size < middle)
    assert indices.index(max(indices)) == sizes.index(min(sizes)) or max(indices) == 0


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
