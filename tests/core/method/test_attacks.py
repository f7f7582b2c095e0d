"""Attacks: what they do to images and to training sets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.attacks import ATTACKS, Backdoor, DataPoisoning, InputAware, JointlyTrained

CLASSES = 10
OPTIONS: dict[str, dict[str, object]] = {
    "input-aware": {"width": 4, "mask_steps": 1},
    "input-aware-all-to-all": {"width": 4, "mask_steps": 1},
    "label-consistent": {"steps": 3},
    "trojan": {"steps": 5},
    "invisible-l2": {"steps": 5},
    "invisible-l0": {"steps": 5},
}
CLEAN_LABEL = ("sig", "label-consistent")
SHARES = {
    "badnets": 0.05, "badnets-all-to-all": 0.1, "blend": 0.05, "sig": 0.08, "wanet": 0.3,
    "label-consistent": 0.015, "trojan": 0.05, "invisible-l2": 0.05, "invisible-l0": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(400, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.arange(400) % CLASSES


@pytest.fixture(scope="module")
def surrogate() -> nn.Module:
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten())
    return nn.Sequential(hidden, nn.Linear(72, CLASSES)).requires_grad_(False).eval()


def prepared(name: str, surrogate: nn.Module, images: Tensor, labels: Tensor) -> Backdoor:
    torch.manual_seed(0)
    attack = ATTACKS[name](**OPTIONS.get(name, {}))
    attack.prepare(surrogate, images, labels, seed=0)
    if isinstance(attack, InputAware):
        open_masks(attack)
    return attack


def open_masks(attack: InputAware) -> None:
    """A mask of one step's training is shut or open everywhere; half open it shows what the patterns do."""
    with torch.no_grad():
        attack.masks[-1].bias.fill_(0.5)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_trigger_stays_an_image_and_is_measured_on_images_of_other_classes(name, surrogate, images, labels) -> None:
    attack = prepared(name, surrogate, images, labels)
    assert attack.name == name
    untouched = images.clone()
    stamped, wanted = attack.test_set(images, labels, CLASSES)
    assert torch.equal(images, untouched)
    assert ((stamped >= 0) & (stamped <= 1)).all()
    assert not stamped.requires_grad
    assert len(stamped) == len(wanted) == (400 if name.endswith("all-to-all") else 360)
    plain = images[attack.wanted_labels(labels, CLASSES) != labels]
    assert (stamped != plain).flatten(1).any(dim=1).float().mean() > 0.9


@pytest.mark.parametrize("name", SHARES)
def test_poisoned_data_is_that_of_the_paper_and_repeatable(name, surrogate, images, labels) -> None:
    attack = prepared(name, surrogate, images, labels)
    assert isinstance(attack, DataPoisoning)
    poisoned, again = (attack.poison(images, labels, seed=3) for _ in range(2))
    assert torch.equal(poisoned.images, again.images)
    touched = (poisoned.images != images).flatten(1).any(dim=1)
    relabelled = poisoned.labels != labels
    assert touched.float().mean().item() == pytest.approx(SHARES[name], abs=0.0011)
    assert bool(relabelled.any()) == (name not in CLEAN_LABEL)
    assert not (relabelled & ~touched).any()
    if name in CLEAN_LABEL:
        assert (labels[touched] == 0).all()


@pytest.mark.parametrize("name", ["trojan", "invisible-l2", "invisible-l0", "label-consistent"])
def test_attacks_that_search_need_a_surrogate_and_keep_what_they_found(name, surrogate, images, labels) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        ATTACKS[name]().prepare(None, images, labels, seed=0)
    attack = prepared(name, surrogate, images, labels)
    restored = ATTACKS[name](**OPTIONS[name])
    restored.load_state_dict(attack.state_dict())
    assert torch.equal(restored.stamp(images), attack.stamp(images))


@pytest.mark.parametrize("name", ["trojan", "invisible-l2"])
def test_searched_triggers_excite_the_neurons_that_speak_for_the_target(name, surrogate, images, labels) -> None:
    attack = ATTACKS[name](steps=40)
    attack.prepare(surrogate, images, labels, seed=0)
    clean = F.softmax(surrogate(images), dim=1)[:, 0].mean()
    assert F.softmax(surrogate(attack.stamp(images)), dim=1)[:, 0].mean() > clean


def test_invisible_triggers_keep_within_their_bounds(surrogate, images, labels) -> None:
    faint = prepared("invisible-l2", surrogate, images, labels)
    assert faint.trigger_CHW.norm() <= faint.radius * 1.001
    sparse = prepared("invisible-l0", surrogate, images, labels)
    assert 0 < (sparse.trigger_CHW != 0).any(dim=0).sum() <= sparse.pixels


def test_input_aware_triggers_differ_from_image_to_image_and_are_trained_with_the_classifier(images, labels) -> None:
    attack = ATTACKS["input-aware"](width=4, mask_steps=1)
    assert isinstance(attack, InputAware)
    assert isinstance(attack, JointlyTrained)
    attack.prepare(None, images, labels, seed=0)
    open_masks(attack)
    x, y, extra = attack.poison_batch(images[:50], labels[:50])
    assert (y[:5] == 0).all()
    assert torch.equal(y[5:], labels[5:50])
    assert torch.equal(x[10:], images[10:50])
    assert (x[5:10] != images[5:10]).any()  # the cross-triggers, with true labels
    before = [parameter.clone() for parameter in attack.patterns.parameters()]
    masks = [parameter.clone() for parameter in attack.masks.parameters()]
    (x.mean() + extra).backward()
    attack.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, attack.patterns.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(masks, attack.masks.parameters(), strict=True))
    change = attack.stamp(images[:2]) - images[:2]
    assert not torch.equal(change[0], change[1])
