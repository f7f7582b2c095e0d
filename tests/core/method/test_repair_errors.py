"""Repair of injected errors on a tiny network: what a user notices, with the suspicious images and without them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modeconn_core import Progress, RepairConfig, materialise, repair
from modeconn_core.attacks import InjectionSettings, inject_errors
from modeconn_core.disputes import FEWEST, disputed_views
from modeconn_core.metrics import evaluate

CONFIG = RepairConfig(
    seed=0, steps=120, mirror=False, device="cpu", max_accuracy_drop=0.06, tampering="error_injection"
)
CHOSEN = torch.arange(8) * 7
CLASSES = 6
SETTINGS = InjectionSettings(tensors=["conv2.weight"], steps=300)


@pytest.fixture(scope="module")
def attacked(unseen) -> tuple[Tensor, Tensor, Tensor]:
    """Images that errors are injected for, their labels, and the labels that the attacker wants."""
    labels = unseen.labels[CHOSEN]
    return unseen.images[CHOSEN], labels, (labels + 1) % CLASSES


@pytest.fixture(scope="module")
def tampered(honest, unseen, attacked):
    model, _ = inject_errors(honest, unseen.images, unseen.labels, CHOSEN, attacked[2], SETTINGS)
    return model


@pytest.fixture(scope="module")
def events() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def blind(tampered, clean, events):
    """Repaired without the suspicious images."""
    return repair(tampered, clean.images, clean.labels, config=CONFIG, on_progress=events.append)


def accuracy(model, problem) -> float:
    return evaluate(model, problem.images, problem.labels).rate


def test_most_of_the_errors_go_without_being_shown_and_the_accuracy_stays(
    honest, tampered, blind, unseen, attacked
) -> None:
    images, labels, wanted = attacked
    assert evaluate(tampered, images, wanted).rate == 1
    assert evaluate(blind.model, images, wanted).rate <= 0.25
    assert evaluate(blind.model, images, labels).rate >= 0.75
    assert accuracy(honest, unseen) - accuracy(blind.model, unseen) < 0.03


def test_disputed_views_chose_and_no_trigger_is_spoken_of(blind) -> None:
    assert blind.targets == []
    assert "disputed views" in blind.reason
    assert "trigger" not in " ".join([blind.reason, *blind.warnings])
    assert all(point.attack_success_rate is None for point in blind.curve)
    rates = {point.t: point.proxy_success_rate for point in blind.curve}
    assert rates[0.0] > 0.9 > 0.2 > rates[blind.t]
    assert blind.before.proxy_success_rate > 0.9 > 0.2 > blind.after.proxy_success_rate


def test_progress_passes_the_scan_at_once(blind, events) -> None:
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert [event.stage_fraction for event in events if event.stage == "scanning"] == [0.0, 1.0]


def test_suspicious_images_measure_what_is_left_and_do_not_choose(tampered, clean, blind, attacked) -> None:
    images, _, wanted = attacked
    result = repair(tampered, clean.images, clean.labels, triggered=(images, wanted), config=CONFIG)
    assert result.t == blind.t
    assert result.before.attack_success_rate == 1
    assert result.after.attack_success_rate == evaluate(result.model, images, wanted, exact=True).rate


def test_a_few_suspicious_images_all_choose_and_are_all_reported_and_that_is_said(
    tampered, clean, attacked, tmp_path: Path
) -> None:
    images, labels, wanted = attacked
    config = replace(CONFIG, select_with_triggered=True)
    result = repair(tampered, clean.images, clean.labels, triggered=(images, wanted), config=config)
    assert evaluate(result.model, images, labels).rate == 1
    assert result.after.attack_success_rate == 0
    assert result.criteria_met
    assert "attack success rate" in result.reason
    assert any("All 8 suspicious images" in warning for warning in result.warnings)
    result.path.save(tmp_path / "path.safetensors")
    _, figures = materialise(
        tampered, tmp_path / "path.safetensors", clean.images, clean.labels, t=0.0,
        triggered=(images, wanted), config=config,
    )  # fmt: skip
    assert figures.attack_success_rate == 1
    assert figures.attack_success_rate_interval == result.before.attack_success_rate_interval


def test_a_second_model_with_the_same_errors_is_as_good_an_end(tampered, clean, unseen, attacked, other_honest) -> None:
    images, labels, wanted = attacked
    second, _ = inject_errors(other_honest, unseen.images, unseen.labels, CHOSEN, wanted, SETTINGS)
    result = repair(tampered, clean.images, clean.labels, second_model=second, config=replace(CONFIG, plane=3))
    assert evaluate(result.model, images, labels).rate >= 0.75
    assert len(result.unaligned_curve) == 11
    assert all(point.proxy_success_rate is not None for point in result.unaligned_curve)
    assert not result.plane.attack_measured
    assert all(0 <= rate <= 1 for row in result.plane.attack for rate in row)


def test_a_clean_model_is_not_harmed(honest, clean, unseen) -> None:
    result = repair(honest, clean.images, clean.labels, config=CONFIG)
    assert accuracy(honest, unseen) - accuracy(result.model, unseen) < 0.02
    assert result.criteria_met


def test_where_nothing_is_disputed_accuracy_and_depth_choose_and_a_warning_says_so(honest, clean) -> None:
    twin = copy.deepcopy(honest)
    twin.head.bias.data += 1e-5
    config = replace(CONFIG, steps=1, rate=1e-6)
    result = repair(honest, clean.images, clean.labels, second_model=twin, config=config)
    assert any("chosen by accuracy and depth" in warning for warning in result.warnings)
    assert all(point.proxy_success_rate is None for point in result.curve)
    assert "Hardly any view is disputed" in result.reason
    assert result.t == 0.25


def test_disputed_views_are_those_where_the_suspect_stands_alone(honest, tampered, unseen) -> None:
    found = disputed_views(tampered, honest, unseen.images, unseen.labels, mirror=False, seed=0)
    assert FEWEST <= len(found.images) <= 200
    assert evaluate(tampered, found.images, found.targets).rate == 1
    assert evaluate(honest, found.images, found.targets).rate == 0
    assert disputed_views(honest, honest, unseen.images, unseen.labels, mirror=False, seed=0) is None
    again = disputed_views(tampered, honest, unseen.images, unseen.labels, mirror=False, seed=0)
    assert torch.equal(found.images, again.images)
