"""From a curve to one t, and who may see which image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from modeconn_core.metrics import Evaluation, wilson_interval
from modeconn_core.selection import USUAL_DROP, USUAL_SPREAD, Candidate, Criteria, choose, weigh
from modeconn_core.splits import divide_triggered, split_clean
from modeconn_core.sweep import CurvePoint, Measurement

GRID = [round(0.1 * i, 1) for i in range(11)]
CRITERIA = Criteria(max_accuracy_drop=0.03, max_attack_success_rate=0.05)


def curve(drops: list[float], attacks: list[float | None], error: float = 0.005) -> list[Candidate]:
    return [
        Candidate(t=t, drop=drop, drop_error=error, attack=attack)
        for t, drop, attack in zip(GRID, drops, attacks, strict=True)
    ]


def test_the_choice_lies_deep_where_the_attack_is_clear_and_accuracy_cheap() -> None:
    points = curve([0, 0, 0.002, 0.008, 0.012, 0.04, 0.04, 0.03, 0.02, 0.01, 0], [1, 0.6, *[0.02] * 6, 0.3, 0.9, 1])
    choice = choose(points, CRITERIA, by="proxy")
    assert choice.t == 0.3
    assert choice.within_criteria
    assert "2.0 %" in choice.reason
    assert "-0.8 points" in choice.reason
    assert "stays low on both sides" in choice.reason
    assert "far from both ends" in choice.reason


def test_depth_is_given_up_where_it_costs_accuracy() -> None:
    points = curve([0, 0.014, *[0.02] * 7, 0.014, 0], [*[0.01] * 10, 1])
    choice = choose(points, CRITERIA, by="proxy")
    assert choice.t == 0.1  # 1.4 points, give or take 0.5: no surely lost point. 0.9 is as cheap, at the wrong end
    assert "only 0.1 from an end" in choice.reason
    assert "may be left" in choice.reason
    assert choose(curve([0, *[0.02, 0.019] * 5], [1, *[0.01] * 9, 1]), CRITERIA, by="proxy").t == 0.2


def test_the_other_half_is_taken_only_where_no_point_of_the_suspects_half_will_do() -> None:
    points = curve([0, 0.015, 0.016, 0.02, 0.03, 0.03, 0.02, 0, 0, 0, 0], [1, *[0.01] * 9, 1], error=0.001)
    assert choose(points, CRITERIA, by="proxy").t == 0.1
    dear = curve([0, *[0.05] * 6, 0, 0, 0, 0], [1, *[0.01] * 9, 1])
    assert choose(dear, CRITERIA, by="proxy").t == 0.7


def test_a_point_on_the_knee_is_left_alone() -> None:
    points = curve([0] * 11, [1, 1, 0.6, 0.05, 0.02, 0.02, 0.02, 0.6, 1, 1, 1])
    assert choose(points, CRITERIA, by="proxy").t == 0.4  # 0.3 is clear as well, but its neighbour is not


def test_one_of_very_few_images_may_follow_a_stand_in_by_mistake() -> None:
    attack = [1, 0.5, 0.125, 0.125, 0, 0.125, 0.125, 0.125, 0.25, 1, 1]
    strict = curve([0] * 11, attack)
    assert choose(strict, CRITERIA, by="proxy").t == 0.4
    lenient = [replace(point, lenience=1 / 8) for point in strict]
    assert choose(lenient, CRITERIA, by="proxy").t == 0.3
    doubled = [replace(point, attack=2 * point.attack) for point in lenient]
    assert choose(doubled, CRITERIA, by="proxy").t == 0.4


def test_a_single_clear_point_is_taken_when_there_is_no_better() -> None:
    points = curve([0] * 11, [1, 1, 0.9, 0.5, 0.2, 0.04, 0.2, 0.6, 1, 1, 1])
    choice = choose(points, CRITERIA, by="proxy")
    assert choice.t == 0.5
    assert "not on both sides" in choice.reason


def test_when_nothing_meets_the_criteria_the_best_trade_off_comes_back_and_says_so() -> None:
    points = curve([0, 0, 0.02, 0.04, 0.06, 0.2, 0.2, 0.2, 0.1, 0, 0], [1, 1, 0.5, 0.06, 0.04, 0, 0, 0, 0.6, 1, 1])
    choice = choose(points, CRITERIA, by="measured")
    assert choice.t == 0.3
    assert not choice.within_criteria
    assert "No point of the path brings the attack success rate down to 5.0 %" in choice.reason


def test_without_a_trigger_the_choice_lies_as_deep_as_a_point_of_accuracy_buys() -> None:
    cheap = curve([t / 50 for t in GRID], [None] * 11, error=0.001)
    assert choose(cheap, CRITERIA, by="proxy").t == 0.2  # 0.3 is as close, and farther from the suspect
    fine = curve([t / 10 for t in GRID], [None] * 11, error=0.001)
    assert choose(fine, CRITERIA, by="proxy").t == 0.1
    dear = curve([0.012 + t / 100 for t in GRID], [None] * 11, error=0.001)
    assert choose(dear, CRITERIA, by="proxy").t == 0.1
    worst = choose(curve([0.2 + t for t in GRID], [None] * 11), CRITERIA, by="proxy")
    assert worst.t == 0.1
    assert not worst.within_criteria
    assert "every point of the path costs more than 3.0 points" in worst.reason


def test_injected_errors_are_spoken_of_as_disputed_views_and_not_as_triggers() -> None:
    clear = choose(curve([0] * 11, [1, 0.6, *[0.02] * 7, 0.6, 1]), CRITERIA, by="disputed")
    assert "disputed views still answered as the suspect does is 2.0 %" in clear.reason
    none = choose(curve([0.001] * 11, [None] * 11), CRITERIA, by="disputed")
    dear = choose(curve([0.2] * 11, [None] * 11), CRITERIA, by="disputed")
    for choice in (clear, none, dear):
        assert "trigger" not in choice.reason
        assert "scan" not in choice.reason


def measurement(t: float, right: torch.Tensor, attack: float | None, proxy: float | None) -> Measurement:
    clean = Evaluation(correct=right, loss=0.0, predictions=torch.zeros(len(right), dtype=torch.int64), confidence=0.5)
    point = CurvePoint(
        t=t,
        clean_accuracy=clean.rate,
        clean_accuracy_interval=clean.interval,
        attack_success_rate=attack,
        attack_success_rate_interval=None if attack is None else wilson_interval(0, 5),
        proxy_success_rate=proxy,
        clean_loss=0.0,
        clean_confidence=0.5,
        refined=False,
    )
    return Measurement(point=point, clean=clean, proxies=() if proxy is None else (proxy, 0.5))


def spoiled_and_whole(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A tenth of ``images`` wrong, and none."""
    whole = torch.ones(images, dtype=torch.bool)
    spoiled = whole.clone()
    spoiled[: images // 10] = False
    return spoiled, whole


def test_drops_are_paired_and_smoothed_over_close_neighbours_only() -> None:
    spoiled, before = spoiled_and_whole(1_000_000)  # so many that the usual drop has no say
    suspect = measurement(0, before, None, None).clean
    measured = [
        measurement(0.1, before, 0.3, 0.2),
        measurement(0.125, spoiled, 0.3, 0.2),
        measurement(0.5, spoiled, 0, 0),
    ]
    weighed = weigh(measured, suspect, by="measured")
    assert [point.drop for point in weighed] == pytest.approx([0.05, 0.05, 0.1], abs=1e-4)
    assert [point.attack for point in weighed] == [0.3, 0.3, 0]
    assert [point.attack for point in weigh(measured, suspect, by="proxy")] == [0.2, 0.2, 0]


def test_a_handful_of_images_moves_the_expected_drop_little_and_many_decide_it() -> None:
    drops, errors = [], []
    for images in (10, 100, 10_000):
        spoiled, before = spoiled_and_whole(images)
        point = weigh([measurement(0.3, spoiled, 0, 0)], measurement(0, before, None, None).clean, by="measured")[0]
        drops.append(point.drop)
        errors.append(point.drop_error)
    assert USUAL_DROP < drops[0] < 0.03 < drops[1] < 0.08 < drops[2] < 0.1
    assert USUAL_SPREAD > errors[0] > errors[1] > errors[2]
    seen = (0.09 + 0.01) ** 0.5 / 10  # one disagreement more than the ten that were seen among a hundred
    assert drops[1] == pytest.approx((0.1 * USUAL_SPREAD**2 + USUAL_DROP * seen**2) / (USUAL_SPREAD**2 + seen**2))


def test_stand_ins_count_above_the_least_success_inside_the_path_and_measured_attacks_as_they_are() -> None:
    right = torch.ones(10, dtype=torch.bool)
    rates = {0.0: 1.0, 0.1: 0.06, 0.5: 0.02, 0.9: 0.3, 1.0: 0.0}
    measured = [measurement(t, right, rate, rate) for t, rate in rates.items()]
    weighed = weigh(measured, measured[0].clean, by="proxy")
    assert [point.attack for point in weighed] == pytest.approx([0.98, 0.04, 0.0, 0.28, 0.0])
    assert [point.attack for point in weigh(measured, measured[0].clean, by="measured")] == list(rates.values())


def test_a_measurement_can_be_narrowed_to_the_triggers_that_count() -> None:
    both = measurement(0.1, torch.ones(5, dtype=torch.bool), None, 0.2)
    assert both.following([0]).point.proxy_success_rate == 0.2
    assert both.following([1]).point.proxy_success_rate == 0.5
    assert both.following([]).point.proxy_success_rate is None


def test_fit_choice_and_report_never_share_an_image_and_every_class_is_in_each() -> None:
    labels = torch.arange(1000) % 7
    split = split_clean(labels, held_out=0.25, seed=3)
    together = torch.cat([split.fit, split.selection, split.report])
    assert sorted(together.tolist()) == list(range(1000))
    assert len(split.fit) == pytest.approx(750, abs=7)
    assert len(split.report) == pytest.approx(150, abs=7)
    assert len(split.selection) == pytest.approx(100, abs=7)
    for part in (split.fit, split.selection, split.report):
        assert set(labels[part].tolist()) == set(range(7))
    again = split_clean(labels, held_out=0.25, seed=3)
    assert torch.equal(split.fit, again.fit)
    assert not torch.equal(split.fit, split_clean(labels, held_out=0.25, seed=4).fit)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        split_clean(torch.tensor([0, 1, 0]), held_out=0.25, seed=0)


def test_triggered_images_that_choose_are_halved_but_not_the_few_that_errors_were_injected_for() -> None:
    images = list(range(30))
    curve_with, report_with = divide_triggered(30, choosing=True, injected=True)
    assert sorted(images[curve_with] + images[report_with]) == images
    assert divide_triggered(4, choosing=True, injected=True) == (slice(None), slice(None))
    assert divide_triggered(4, choosing=True, injected=False) != (slice(None), slice(None))
    assert divide_triggered(30, choosing=False, injected=False) == (slice(None), slice(None))
    with pytest.raises(ValueError, match="at least two"):
        divide_triggered(1, choosing=True, injected=False)


@pytest.mark.parametrize("wrong", [{"max_accuracy_drop": -0.1}, {"max_attack_success_rate": 1.1}])
def test_criteria_are_checked(wrong) -> None:
    with pytest.raises(ValueError, match="must lie"):
        Criteria(**wrong)
