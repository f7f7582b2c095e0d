"""From a measured curve to one t, with the reason in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from modeconn_core.metrics import Evaluation
from modeconn_core.sweep import Measurement

SMOOTHING_REACH = 0.026  # neighbours in t whose accuracy is averaged before it is compared with the budget
AttackFigure = Literal["measured", "proxy", "disputed"]
ATTACK_NAMES: dict[AttackFigure, str] = {
    "measured": "attack success rate",
    "proxy": "success rate of the inverted triggers above their floor",
    "disputed": "share of disputed views still answered as the suspect does",
}
NOTHING_FOLLOWED: dict[AttackFigure, str] = {
    "measured": "Nothing measured the attack",
    "proxy": "The scan found no trigger to follow",
    "disputed": "Hardly any view is disputed between the suspect and the path",
}
DEPTH = 0.25  # in t from the suspect: triggers that were unlearned are gone there, most that were not as well
DEPTH_BUDGET = 0.01  # accuracy that going there may cost
MARGIN = 0.051  # in t: how far around the chosen point the attack must be clear
MOST_LENIENCE = 0.2  # of attack success, where very few images measure it
DISPUTED_LEFT = 0.1  # of the disputed views: the rest are mostly a suspect's ordinary mistakes, which fade later
USUAL_DROP, USUAL_SPREAD = 0.02, 0.03  # accuracy that paths cost around DEPTH, on the development suspects


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
    """A point as the choice sees it: expected accuracy drop, its standard error, and the attack success that counts.

    lenience: attack success that few images can show of themselves, or share of disputed views that errors leave.
    """

    t: float
    drop: float
    drop_error: float
    attack: float | None
    lenience: float = 0.0

    def is_clear(self, criteria: Criteria) -> bool:
        """Whether the attack is known to be gone."""
        return self.attack is not None and self.attack <= self.limit(criteria)

    def limit(self, criteria: Criteria) -> float:
        """Attack success up to which the attack counts as gone."""
        return max(criteria.max_attack_success_rate, self.lenience)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The chosen point and why."""

    t: float
    reason: str
    within_criteria: bool


def weigh(measurements: Sequence[Measurement], suspect: Evaluation, *, by: AttackFigure) -> list[Candidate]:
    """What the choice sees at every measured t. ``suspect`` was evaluated on the very same images: drops are paired.

    A patch misleads any model now and then, so stand-ins are weighed above the least success they have inside the path.
    A handful of images says little about a drop of some points: the smoothed drop is combined with the usual one, each
    by its precision (normal prior and likelihood). One of them may follow a stand-in by mistake.
    """
    inner = [m.point.proxy_success_rate for m in measurements if 0.0 < m.t < 1.0]
    floor = min((rate for rate in inner if rate is not None), default=0.0)
    drops, errors = [], []
    for measurement in measurements:
        lost = suspect.correct.float() - measurement.clean.correct.float()
        drops.append(lost.mean().item())
        # one disagreement more than was seen: a handful of images without any proves nothing
        errors.append(math.sqrt(lost.var(correction=0).item() + 1 / len(lost)) / math.sqrt(len(lost)))
    result = []
    for i, measurement in enumerate(measurements):
        near = [j for j, other in enumerate(measurements) if abs(other.t - measurement.t) <= SMOOTHING_REACH]
        point = measurement.point
        proxy = None if point.proxy_success_rate is None else max(0.0, point.proxy_success_rate - floor)
        attack = point.attack_success_rate if by == "measured" else proxy
        smoothed = sum(drops[j] for j in near) / len(near)
        seen, usual = errors[i] ** -2, USUAL_SPREAD**-2
        expected = (seen * smoothed + usual * USUAL_DROP) / (seen + usual)
        result.append(
            Candidate(
                t=measurement.t,
                drop=expected,
                drop_error=(seen + usual) ** -0.5,
                attack=attack,
                lenience=_LENIENCE[by](measurement),
            )
        )
    return result


def lenience(measurement: Measurement) -> float:
    """What one of the images that measure the stand-ins makes."""
    return min(1 / len(measurement.clean.correct), MOST_LENIENCE)


_LENIENCE: dict[AttackFigure, Callable[[Measurement], float]] = {
    "measured": lambda _: 0.0,
    "proxy": lenience,
    "disputed": lambda _: DISPUTED_LEFT,
}


def choose(points: Sequence[Candidate], criteria: Criteria, *, by: AttackFigure) -> Choice:
    """Pick t from ``points`` in order of t: where the attack is clear, about DEPTH from the suspect, and in the other
    end's half (a copy that fits less well) only where no point of the suspect's will do.

    Stand-ins for the trigger clear a little before the trigger itself, and there may be tampering that the scan does
    not see; both fade far from the ends (Zhao et al. 2020, section 4), where distilled paths hardly lose accuracy.
    """
    known = all(point.attack is not None for point in points)
    inner = [point for point in points if 0.0 < point.t < 1.0]
    settled = _settled(inner, criteria) if known else inner
    # nothing past the knee: then the single points at which the attack is clear
    pool = settled or [point for point in inner if point.is_clear(criteria)]
    for half in ([point for point in pool if point.t <= 0.5], [point for point in pool if point.t > 0.5]):
        cheap = [point for point in half if point.drop - point.drop_error <= DEPTH_BUDGET]
        affordable = cheap or [point for point in half if point.drop <= criteria.max_accuracy_drop]
        if affordable:
            best = min(affordable, key=lambda point: _preference(point) if cheap else (point.drop, point.t))
            reason = _praise(best, by, steady=bool(settled))
            return Choice(t=best.t, within_criteria=True, reason=reason)
    best = min(inner, key=lambda point: _excess(point, criteria))
    return Choice(t=best.t, within_criteria=False, reason=_regret(best, criteria, by))


def _settled(points: Sequence[Candidate], criteria: Criteria) -> list[Candidate]:
    """Points past the knee, not on it: the attack is clear next to them and everywhere within MARGIN."""
    clear = [point.is_clear(criteria) for point in points]
    return [
        point
        for i, point in enumerate(points)
        if all(clear[max(i - 1, 0) : i + 2])
        and all(clear[j] for j, other in enumerate(points) if abs(other.t - point.t) <= MARGIN)
    ]


def _depth(point: Candidate) -> float:
    """Distance from the nearer end, in t."""
    return round(min(point.t, 1 - point.t), 4)


def _preference(point: Candidate) -> tuple[float, float]:
    """Small is good: close to DEPTH."""
    return round(abs(point.t - DEPTH), 4), point.t


def _praise(best: Candidate, by: AttackFigure, *, steady: bool) -> str:
    """Why ``best`` was taken, and what speaks against it. ``steady``: the attack is clear on both sides as well."""
    accuracy = f"accuracy expected to change by {_change(best.drop)}"
    if best.attack is None:
        attack = f"{NOTHING_FOLLOWED[by]}, so t = {best.t:g} rests on accuracy ({accuracy})"
    else:
        sides = "and stays low on both sides" if steady else "but not on both sides"
        attack = f"At t = {best.t:g} the {ATTACK_NAMES[by]} is {_percent(best.attack)} {sides} ({accuracy})"
    if _depth(best) >= DEPTH - MARGIN:
        return f"{attack}. It lies far from both ends, where tampering that nothing shows fades too."
    return (
        f"{attack}. It lies only {_depth(best):g} from an end, because other points were less clear or less accurate: "
        "tampering that nothing shows may be left."
    )


def _regret(best: Candidate, criteria: Criteria, by: AttackFigure) -> str:
    attack_name = ATTACK_NAMES[by]
    limit = _points(criteria.max_accuracy_drop)
    if best.attack is None:
        return (
            f"{NOTHING_FOLLOWED[by]}, and every point of the path costs more than {limit} of accuracy; "
            f"t = {best.t:g} costs least (accuracy expected to change by {_change(best.drop)})."
        )
    return (
        f"No point of the path brings the {attack_name} down to {_percent(best.limit(criteria))} "
        f"for at most {limit} of accuracy; t = {best.t:g} is the best trade-off "
        f"({attack_name} {_percent(best.attack)}, accuracy {_change(best.drop)})."
    )


def _excess(point: Candidate, criteria: Criteria) -> float:
    over_attack = 0.0 if point.attack is None else max(0.0, point.attack - point.limit(criteria))
    return max(0.0, point.drop - criteria.max_accuracy_drop) + over_attack


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _points(rate: float) -> str:
    return f"{100 * rate:.1f} points"


def _change(drop: float) -> str:
    return f"{-100 * drop:+.1f} points"
