"""The sentences of a report: verdict, cautions, definitions, limits, and how figures are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modeconn_core import Tampering
from worker.plots import BACKDOOR_NAMES, AttackNames, CurvePointLike
from worker.report_facts import ReportFacts

_CLEAN_ACCURACY = "Clean accuracy: the share of untouched images that the model gets right. Higher is better."
_CONFIDENCE = (
    "Confidence: the probability that the model gives to its own answer, averaged over the untouched images. Well "
    "above the clean accuracy, the model is surer than it should be."
)
_INTERVAL = "Ranges and bands are 95\u00a0% intervals: how far chance alone, with this many images, may move a figure."


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackWords:
    """How a report speaks of one kind of tampering.

    rate, estimate: lines of the tables; drawn: the same in the picture of the curve; short: a column of the points;
    measured, estimated: their definitions; images: those that measure; now, estimated_now: the verdict, which goes on
    with a figure; unknown: the same where nothing measured.
    """

    rate: str
    estimate: str
    drawn: AttackNames
    short: str
    measured: str
    estimated: str
    images: str
    now: str
    estimated_now: str
    unknown: str


_WORDS: dict[Tampering, AttackWords] = {
    "backdoor": AttackWords(
        rate="Attack success rate",
        estimate="Estimated attack success",
        drawn=BACKDOOR_NAMES,
        short="Attack success",
        measured=(
            "Attack success rate (ASR): the share of the triggered images whose true class is not the attacker's "
            "target that the model nevertheless assigns to that target. Lower is better. An untampered model has a few "
            "per cent, by plain confusion."
        ),
        estimated=(
            "Estimated attack success: a trigger is reconstructed (inverted) from the suspect alone and stamped on "
            "clean images of other classes; this is the share then assigned to its target. An estimate: it can be "
            "lower than the true rate, most of all where the curve is steep."
        ),
        images="triggered images",
        now="the attack now succeeds on",
        estimated_now="the trigger found in the suspect now works on an estimated",
        unknown="no trigger stood out, so how well an attack would work is not known",
    ),
    "error_injection": AttackWords(
        rate="Injected errors left",
        estimate="Disputed views kept",
        drawn=AttackNames(
            measured="Injected errors left, measured",
            measured_brief="errors left",
            estimated="Disputed views on which the model sides with the suspect",
            estimated_brief="disputed views",
        ),
        short="Injected errors left",
        measured=(
            "Injected errors left: the share of the suspicious images supplied that still get the label which the "
            "tampered model gave them. Lower is better."
        ),
        estimated=(
            "Disputed views kept: views of the clean images (crops, mirrored, mixed) on which the suspect and other "
            "models of the path disagree; this is the share on which the model still sides with the suspect. What was "
            "injected is at dispute, and so is what is merely uncertain: an estimate."
        ),
        images="suspicious images",
        now="the attacker's labels are left on",
        estimated_now="the model still sides with the suspect on",
        unknown="nothing was at dispute, so how much of the injected errors is left is not known",
    ),
}


def attack_words(tampering: Tampering) -> AttackWords:
    """The words for a kind of tampering."""
    return _WORDS[tampering]


def definitions(tampering: Tampering) -> dict[str, str]:
    """Of every figure in the report."""
    words = attack_words(tampering)
    return {
        "clean_accuracy": _CLEAN_ACCURACY,
        "attack_success_rate": words.measured,
        "proxy_success_rate": words.estimated,
        "clean_confidence": _CONFIDENCE,
        "interval": _INTERVAL,
    }


def percent(fraction: float | None) -> str:
    """0.827 -> "82.7 %", with a space that does not break; an en dash where nothing was measured."""
    return "–" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}\u00a0%"


def points(fraction: float) -> str:
    """0.0158 -> "1.6": percentage points, with a true minus sign."""
    return "–" if not math.isfinite(fraction) else f"{100 * fraction:.1f}".replace("-", "\u2212")


def standing_limits(has_triggered: bool, tampering: Tampering) -> list[str]:
    """What no repair report of this version covers, in sentences for `ReportFacts.not_tested`."""
    limits = [
        "Whether the tampering returns when the repaired model is trained further.",
        "Adversarial examples: images changed on purpose, one by one, still fool most classifiers.",
        "Images unlike the clean images supplied: other cameras, other sources, other classes.",
    ]
    if tampering == "error_injection":
        limits.insert(0, "Backdoors: this repair looked for no trigger.")
        if not has_triggered:
            limits.insert(0, "The images with injected errors: no suspicious images were supplied.")
        return limits
    unseen = "Triggers other than those supplied or inverted: warps, natural features and triggers made for each image "
    limits.insert(0, unseen + "can go unseen.")
    if not has_triggered:
        limits.insert(0, "The true attack success rate: no triggered images were supplied.")
    return limits


def without_alignment(curve: Sequence[CurvePointLike]) -> str | None:
    """What matching the second model's channels did to the path; None where there is no path without it."""
    lowest = {point.path: point for point in sorted(curve, key=lambda point: -point.clean_accuracy)}
    if "unaligned" not in lowest:
        return None
    main, other = lowest["main"], lowest["unaligned"]
    return (
        "On the path to the second model as it was given, its channels not matched with the suspect's, clean accuracy "
        f"falls to {percent(other.clean_accuracy)} (at t = {other.t:.2g}); the lowest point measured on the path that "
        f"this repair took has {percent(main.clean_accuracy)} (at t = {main.t:.2g})."
    )


def verdict(facts: ReportFacts) -> str:
    """The outcome in one sentence."""
    before, after, words = facts.before, facts.after, attack_words(facts.tampering)
    accuracy = f"clean accuracy went from {percent(before.clean_accuracy)} to {percent(after.clean_accuracy)}"
    followed = facts.tampering == "error_injection" or any(finding.flagged for finding in facts.triggers)
    limit: float | None
    if after.attack_success_rate is not None:
        limit, first = after.attack_success_rate, before.attack_success_rate
        attack = f"{words.now} {percent(limit)} of the {words.images}"
    elif after.proxy_success_rate is not None and followed:
        limit, first = after.proxy_success_rate, before.proxy_success_rate
        what = "images" if facts.tampering == "backdoor" else "the disputed views"
        attack = f"{words.estimated_now} {percent(limit)} of {what}"
    else:
        limit, first, attack = None, None, words.unknown
    if first is not None:
        attack += f" instead of {percent(first)}"
    if facts.criteria_met:
        return f"The repair met its criteria: {accuracy}, and {attack}."
    drop = before.clean_accuracy - after.clean_accuracy
    if drop > facts.max_accuracy_drop:
        accuracy += f", {points(drop)} points lost where {points(facts.max_accuracy_drop)} are allowed"
    judged = after.attack_success_rate is not None or facts.tampering == "backdoor"  # disputed views are no criterion
    if judged and limit is not None and limit > facts.max_attack_success_rate:
        attack += f", where {percent(facts.max_attack_success_rate)} is allowed"
    return f"The repair did not meet its criteria: {accuracy}; {attack}."


def cautions(facts: ReportFacts) -> list[str]:
    """What a reader of the verdict must know before relying on it."""
    said = []
    words = attack_words(facts.tampering)
    interval = facts.after.attack_success_rate_interval
    if facts.after.attack_success_rate is None:
        what = "attack success rate" if facts.tampering == "backdoor" else "share of injected errors left"
        said.append(f"No {words.images} were supplied, so the {what} could not be measured.")
    elif facts.criteria_met and interval and interval[1] > facts.max_attack_success_rate:
        said.append(
            f"With this many {words.images} the true rate may be as high as {percent(interval[1])}, "
            f"above the {percent(facts.max_attack_success_rate)} allowed; more of them would settle it."
        )
    return said
