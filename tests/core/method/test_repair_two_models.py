"""A repair between two models that were trained apart: what a user of a second model notices."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modeconn_core import Progress, RepairConfig, materialise, repair
from modeconn_core.metrics import evaluate
from modeconn_core.sweep import COARSE_GRID
from modeconn_core.symmetry import find_symmetries, permute

CONFIG = RepairConfig(seed=0, steps=120, rate=1.0, mirror=False, device="cpu", max_accuracy_drop=0.06)


@pytest.fixture(scope="module")
def events() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def repaired(suspect, other_suspect, clean, unseen, events):
    return repair(
        suspect,
        clean.images,
        clean.labels,
        triggered=unseen.attacked(),
        second_model=other_suspect,
        config=CONFIG,
        on_progress=events.append,
    )


def test_a_backdoor_that_both_models_carry_goes(suspect, other_suspect, repaired, unseen) -> None:
    images, targets = unseen.attacked()
    assert evaluate(suspect, images, targets).rate > 0.9
    assert evaluate(other_suspect, images, targets).rate > 0.9
    assert evaluate(repaired.model, images, targets).rate < 0.15
    lost = (
        evaluate(suspect, unseen.images, unseen.labels).rate
        - evaluate(repaired.model, unseen.images, unseen.labels).rate
    )
    assert lost < 0.06
    assert [finding.target_class for finding in repaired.targets if finding.flagged] == [0]


def test_the_other_end_is_the_second_model_with_its_channels_in_another_order(
    suspect, other_suspect, repaired, unseen
) -> None:
    end = copy.deepcopy(other_suspect)
    end.load_state_dict({**end.state_dict(), **repaired.path.state_at(1.0)})
    assert not torch.equal(end.conv2.weight, other_suspect.conv2.weight)
    assert torch.equal(end.conv2.weight.flatten().sort().values, other_suspect.conv2.weight.flatten().sort().values)
    assert torch.equal(end.head.bias, other_suspect.head.bias)
    before, after = (
        sum(float((state[name] - p.detach()).square().sum()) for name, p in suspect.named_parameters()) ** 0.5
        for state in (other_suspect.state_dict(), end.state_dict())
    )
    assert after < before
    assert f"from {before:.4g} to {after:.4g}" in repaired.alignment
    assert repaired.second_end == "The second model that was given."


def test_the_path_to_the_model_as_it_was_given_is_measured_too(other_suspect, repaired, unseen) -> None:
    points = repaired.unaligned_curve
    assert [point.t for point in points] == list(COARSE_GRID)
    assert {point.path for point in points} == {"unaligned"}
    assert {point.path for point in repaired.curve} == {"main"}
    assert points[-1].attack_success_rate > 0.9 > 0.5 > min(point.attack_success_rate for point in points)
    assert all(point.proxy_success_rate is not None for point in points)
    inside = [point for point in repaired.curve if point.t in COARSE_GRID and 0 < point.t < 1]
    assert [p.attack_success_rate for p in inside] != [p.attack_success_rate for p in points[1:-1]]


def test_every_point_of_both_paths_is_told_as_it_comes(repaired, events) -> None:
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    told = [event.point for event in events if event.point]
    for name, curve in (("main", repaired.curve), ("unaligned", repaired.unaligned_curve)):
        assert sorted(point.t for point in told if point.path == name) == [point.t for point in curve]


def test_another_t_of_a_path_between_two_models_needs_no_new_fit(
    suspect, clean, unseen, repaired, tmp_path: Path
) -> None:
    repaired.path.save(tmp_path / "path.safetensors")
    module, figures = materialise(
        suspect, tmp_path / "path.safetensors", clean.images, clean.labels, t=repaired.t,
        triggered=unseen.attacked(), config=CONFIG,
    )  # fmt: skip
    assert figures.clean_accuracy == repaired.after.clean_accuracy
    assert figures.attack_success_rate == repaired.after.attack_success_rate
    assert all(torch.equal(tensor, repaired.model.state_dict()[name]) for name, tensor in module.state_dict().items())


def test_a_second_model_that_lies_right_already_has_one_path_only(suspect, clean) -> None:
    near = copy.deepcopy(suspect)
    for parameter in near.parameters():
        parameter.data += 0.01 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
        )
    config = replace(CONFIG, steps=10, bends=2)
    result = repair(suspect, clean.images, clean.labels, second_model=near, config=config)
    assert torch.equal(result.path.state_at(1.0)["conv1.weight"], near.conv1.weight)
    assert result.path.bends == 2
    assert result.unaligned_curve is None
    assert "taken as it is" in result.alignment


def test_a_second_model_that_is_the_suspect_shuffled_still_makes_a_path(suspect, clean) -> None:
    shuffled = copy.deepcopy(suspect)
    symmetries = find_symmetries(suspect, clean.images[:2])
    shuffled.load_state_dict(permute(suspect.state_dict(), symmetries, seed=1))
    result = repair(suspect, clean.images, clean.labels, second_model=shuffled, config=replace(CONFIG, steps=10))
    assert torch.equal(result.path.state_at(1.0)["conv1.weight"], shuffled.conv1.weight)
    assert "the suspect with its channels in another order" in result.alignment


def test_without_a_second_model_nothing_is_said_of_alignment(suspect, clean) -> None:
    result = repair(suspect, clean.images, clean.labels, config=replace(CONFIG, steps=5))
    assert result.alignment is None
    assert result.unaligned_curve is None
