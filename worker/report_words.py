"""The sentences of a report: verdict, cautions, definitions, limits, and how figures are written."""

import math

from worker.report_facts import ReportFacts

DEFINITIONS = {
    "clean_accuracy": "Clean accuracy: the share of untouched images that the model gets right. Higher is better.",
    "attack_success_rate": (
        "Attack success rate (ASR): the share of the triggered images whose true class is not the attacker's target "
        "that the model nevertheless assigns to that target. Lower is better. An untampered model has a few per cent, "
        "by plain confusion."
    ),
    "proxy_success_rate": (
        "Estimated attack success: a trigger is reconstructed (inverted) from the suspect alone and stamped on clean "
        "images of other classes; this is the share then assigned to its target. An estimate: it can be lower than the "
        "true rate, most of all where the curve is steep."
    ),
    "interval": (
        "Ranges and bands are 95\u00a0% intervals: how far chance alone, with this many images, may move a figure."
    ),
}


def percent(fraction: float | None) -> str:
    """0.827 -> "82.7 %", with a space that does not break; an en dash where nothing was measured."""
    return "–" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}\u00a0%"


def points(fraction: float) -> str:
    """0.0158 -> "1.6": percentage points, with a true minus sign."""
    return "–" if not math.isfinite(fraction) else f"{100 * fraction:.1f}".replace("-", "\u2212")


def standing_limits(has_triggered: bool) -> list[str]:
    """What no repair report of this version covers, in sentences for `ReportFacts.not_tested`."""
    limits = [
        "Triggers other than those supplied or inverted: warps, natural features and triggers made for each image "
        "can go unseen.",
        "Whether the tampering returns when the repaired model is trained further.",
        "Adversarial examples: images changed on purpose, one by one, still fool most classifiers.",
        "Images unlike the clean images supplied: other cameras, other sources, other classes.",
    ]
    if not has_triggered:
        limits.insert(0, "The true attack success rate: no triggered images were supplied.")
    return limits


def verdict(facts: ReportFacts) -> str:
    """The outcome in one sentence."""
    before, after = facts.before, facts.after
    accuracy = f"clean accuracy went from {percent(before.clean_accuracy)} to {percent(after.clean_accuracy)}"
    if after.attack_success_rate is not None:
        attack = f"the attack now succeeds on {percent(after.attack_success_rate)} of the triggered images"
        limit = after.attack_success_rate
        if before.attack_success_rate is not None:
            attack += f" instead of {percent(before.attack_success_rate)}"
    elif after.proxy_success_rate is not None and any(finding.flagged for finding in facts.triggers):
        attack = (
            f"the trigger found in the suspect now works on an estimated {percent(after.proxy_success_rate)} of images"
        )
        limit = after.proxy_success_rate
        if before.proxy_success_rate is not None:
            attack += f" instead of {percent(before.proxy_success_rate)}"
    else:
        attack, limit = "no trigger stood out, so how well an attack would work is not known", None
    if facts.criteria_met:
        return f"The repair met its criteria: {accuracy}, and {attack}."
    drop = before.clean_accuracy - after.clean_accuracy
    if drop > facts.max_accuracy_drop:
        accuracy += f", {points(drop)} points lost where {points(facts.max_accuracy_drop)} are allowed"
    if limit is not None and limit > facts.max_attack_success_rate:
        attack += f", where {percent(facts.max_attack_success_rate)} is allowed"
    return f"The repair did not meet its criteria: {accuracy}; {attack}."


def cautions(facts: ReportFacts) -> list[str]:
    """What a reader of the verdict must know before relying on it."""
    said = []
    interval = facts.after.attack_success_rate_interval
    if facts.after.attack_success_rate is None:
        said.append("No triggered images were supplied, so the attack success rate could not be measured.")
    elif facts.criteria_met and interval and interval[1] > facts.max_attack_success_rate:
        said.append(
            f"With this many triggered images the true attack success rate may be as high as {percent(interval[1])}, "
            f"above the {percent(facts.max_attack_success_rate)} allowed; more triggered images would settle it."
        )
    return said
