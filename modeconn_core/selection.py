"""From a measured curve to one t, with the reason in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modeconn_core.metrics import Evaluation
from modeconn_core.sweep import Measurement

SMOOTHING_REACH = 0.026  # neighbours in t whose accuracy is averaged before it is compared with the budget
AttackFigure = Literal["measured", "proxy"]
ATTACK_NAMES: dict[AttackFigure, str] = {
    "measured": "attack success rate",
    "proxy": "success rate of the inverted triggers above their floor",
}
UNSEEN_BUDGET = 0.01  # accuracy spent where no trigger is known: walk as far as one point buys
MARGIN = 0.051  # in t: how far around the chosen point the attack must be clear
CAUTION = 1.5  # standard errors added to an accuracy drop that is spent without a trigger to show for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Criteria:
    """What the user accepts: accuracy given up against the suspect, and attack success left; both in 0..1."""

    max_accuracy_drop: float = 0.025
    max_attack_success_rate: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_accuracy_drop <= 1 or not 0 <= self.max_attack_success_rate <= 1:
            raise ValueError("max_accuracy_drop and max_attack_success_rate must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A point as the choice sees it: smoothed accuracy drop, its standard error, and the attack success that counts."""

    t: float
    drop: float
    drop_error: float
    attack: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The chosen point and why."""

    t: float
    reason: str
    within_criteria: bool


def weigh(measurements: Sequence[Measurement], suspect: Evaluation, *, by: AttackFigure) -> list[Candidate]:
    """What the choice sees at every measured t. ``suspect`` was evaluated on the very same images: drops are paired.

    A patch misleads any model now and then, so stand-ins are weighed above the least success they have inside the path.
    """
    inner = [m.point.proxy_success_rate for m in measurements if 0.0 < m.t < 1.0]
    floor = min((rate for rate in inner if rate is not None), default=0.0)
    drops, errors = [], []
    for measurement in measurements:
        lost = suspect.correct.float() - measurement.clean.correct.float()
        drops.append(lost.mean().item())
        errors.append(lost.std(correction=0).item() / math.sqrt(len(lost)))
    result = []
    for i, measurement in enumerate(measurements):
        near = [j for j, other in enumerate(measurements) if abs(other.t - measurement.t) <= SMOOTHING_REACH]
        point = measurement.point
        proxy = None if point.proxy_success_rate is None else max(0.0, point.proxy_success_rate - floor)
        attack = point.attack_success_rate if by == "measured" else proxy
        smoothed = sum(drops[j] for j in near) / len(near)
        result.append(Candidate(t=measurement.t, drop=smoothed, drop_error=errors[i], attack=attack))
    return result


def choose(points: Sequence[Candidate], criteria: Criteria, *, by: AttackFigure) -> Choice:
    """Pick t from ``points`` in order of t: past the attack's knee, or without one as far as little accuracy buys."""
    if any(point.attack is None for point in points):
        return _choose_without_trigger(points, criteria)
    return _choose_by_attack(points, criteria, ATTACK_NAMES[by])


def knee(points: Sequence[Candidate], criteria: Criteria) -> float | None:
    """The t nearest to a tampered end at which the attack is clear: where a finer look pays. None without one."""
    clear = [p for p in points if p.attack is not None and p.attack <= criteria.max_attack_success_rate]
    return min(clear, key=_nearness).t if clear else None


def _nearness(point: Candidate) -> tuple[float, float]:
    return round(min(point.t, 1 - point.t), 4), point.drop


def _choose_by_attack(points: Sequence[Candidate], criteria: Criteria, attack_name: str) -> Choice:
    """Past the knee, not on it: the attack is clear at the next points and everywhere within MARGIN.

    Of such points the one nearest to an end: accuracy falls from there on, more steadily than a few images can tell.
    """
    clear = [_attack(point) <= criteria.max_attack_success_rate for point in points]
    settled = [
        point
        for i, point in enumerate(points)
        if clear[i]
        and clear[max(i - 1, 0)]
        and clear[min(i + 1, len(points) - 1)]
        and all(clear[j] for j, other in enumerate(points) if abs(other.t - point.t) <= MARGIN)
    ]
    pool = settled or [point for point, is_clear in zip(points, clear, strict=True) if is_clear]
    affordable = [point for point in pool if point.drop <= criteria.max_accuracy_drop]
    if affordable:
        best = min(affordable, key=_nearness)
        return Choice(
            t=best.t,
            within_criteria=True,
            reason=(
                f"At t = {best.t:g} the {attack_name} is {_percent(_attack(best))} and stays low on both sides; "
                f"of such points it is the nearest to the suspect's accuracy (on held-out images {_change(best.drop)})."
            ),
        )
    best = min(points, key=lambda point: _excess(point, criteria))
    return Choice(
        t=best.t,
        within_criteria=False,
        reason=(
            f"No point of the path brings the {attack_name} down to {_percent(criteria.max_attack_success_rate)} "
            f"for at most {_points(criteria.max_accuracy_drop)} of accuracy; t = {best.t:g} is the best trade-off "
            f"({attack_name} {_percent(_attack(best))}, accuracy {_change(best.drop)})."
        ),
    )


def _choose_without_trigger(points: Sequence[Candidate], criteria: Criteria) -> Choice:
    """Nothing to follow: go as far from the ends as one point of accuracy surely buys."""
    budget = min(UNSEEN_BUDGET, criteria.max_accuracy_drop)
    affordable = [point for point in points if point.drop + CAUTION * point.drop_error <= budget]
    inner = [point for point in affordable if 0.0 < point.t < 1.0]
    if inner:
        best = max(inner, key=lambda point: (min(point.t, 1 - point.t), -point.drop))
        return Choice(
            t=best.t,
            within_criteria=True,
            reason=(
                f"The scan found no trigger to follow, so t = {best.t:g} is as far from both ends as "
                f"{_points(budget)} of accuracy buys (accuracy on held-out images {_change(best.drop)})."
            ),
        )
    best = min((point for point in points if 0.0 < point.t < 1.0), key=lambda point: point.drop)
    return Choice(
        t=best.t,
        within_criteria=best.drop <= criteria.max_accuracy_drop,
        reason=(
            f"The scan found no trigger to follow and no point of the path costs less than {_points(budget)} of "
            f"accuracy; "
            f"t = {best.t:g} costs least (accuracy on held-out images {_change(best.drop)})."
        ),
    )


def _attack(point: Candidate) -> float:
    assert point.attack is not None
    return point.attack


def _excess(point: Candidate, criteria: Criteria) -> float:
    over_accuracy = max(0.0, point.drop - criteria.max_accuracy_drop)
    return over_accuracy + max(0.0, _attack(point) - criteria.max_attack_success_rate)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _points(rate: float) -> str:
    return f"{100 * rate:.1f} points"


def _change(drop: float) -> str:
    return f"{-100 * drop:+.1f} points"
