"""The sentences of an analysis report: verdict, correlation, definitions."""

from collections.abc import Mapping, Sequence
from typing import Any

from modeconn_core import Barrier, Correlation, PathFigures
from worker.report_page import figure

SEEN = 0.05  # nats: a barrier is said to be there when its interval lies above this, and not there when it lies below


def is_there(barrier: Barrier) -> bool:
    """Whether more than chance and more than a trifle rises."""
    return barrier.interval[0] > SEEN


def verdict(paths: Sequence[PathFigures]) -> list[str]:
    """The outcome: a sentence for every path, the standard one first."""
    where = {"standard": "Between the two models", "robust": "Along the path trained on attacked images"}
    return [_outcome(where[path.path], path) for path in paths]


def _outcome(where: str, path: PathFigures) -> str:
    joint = "but" if is_there(path.clean_barrier) != is_there(path.robust_barrier) else "and"
    return (
        f"{where} the standard loss {_rise(path.clean_barrier)}, {joint} the robustness loss "
        f"{_rise(path.robust_barrier)}."
    )


def _rise(barrier: Barrier) -> str:
    low, high = barrier.interval
    chance = f"95 % interval {low:.2f} to {high:.2f}"
    if is_there(barrier):
        return f"rises {barrier.height:.2f} nats above the line between its ends at t = {barrier.t:.2f} ({chance})"
    if high <= SEEN:
        return f"has no barrier ({barrier.height:.2f} nats, {chance})"
    return f"shows no certain barrier ({barrier.height:.2f} nats, {chance})"


def correlation(paths: Sequence[PathFigures]) -> list[str]:
    """How the eigenvalues go with the robustness loss: a sentence for every path, and what to think of the intervals.

    Empty where no path has eigenvalues.
    """
    said = [_relation(path) for path in paths if path.points[0].eigenvalue is not None]
    if any(path.correlation for path in paths):
        said.append(
            "The intervals take the points for independent, which neighbours on a path are not: they are too narrow."
        )
    return said


def _relation(path: PathFigures) -> str:
    found = path.correlation
    if found is None:
        return f"On the {path.path} path there are too few points for a correlation, or one of the two does not vary."
    return (
        f"On the {path.path} path the eigenvalue and the robustness loss {_direction(found)}: "
        f"Pearson {_coefficient(found.pearson, found.pearson_interval)}, "
        f"Spearman {_coefficient(found.spearman, found.spearman_interval)}."
    )


def _direction(found: Correlation) -> str:
    """What both intervals allow to say."""
    (pearson_low, pearson_high), (spearman_low, spearman_high) = found.pearson_interval, found.spearman_interval
    if min(pearson_low, spearman_low) > 0:
        return "rise and fall together"
    if max(pearson_high, spearman_high) < 0:
        return "go in opposite directions"
    if max(pearson_low, spearman_low) > min(pearson_high, spearman_high):
        return "go together at a few extreme points only, or not along a straight line (the two coefficients disagree)"
    return "show no clear relation"


def _coefficient(value: float, interval: tuple[float, float]) -> str:
    return f"{figure(value)} (95 % interval {figure(interval[0])} to {figure(interval[1])})"


def definitions(pgd: Mapping[str, Any]) -> dict[str, str]:
    """Of every term that the page uses."""
    ball = "every pixel may change by at most" if pgd["norm"] == "linf" else "the whole image may change by at most"
    start = "from a random place in the ball" if pgd["random_start"] else "from the image itself"
    return {
        "barrier": (
            "Barrier: how far a loss rises above the straight line between its values at the two ends, at the highest "
            "point, with the 95 % interval by bootstrap over the images. A path that stays below that line has "
            f"none. This report says that a barrier is there where the whole interval lies above {SEEN} nats, and that "
            "there is none where it lies below; between them the images do not decide."
        ),
        "losses": (
            "Standard loss: the mean cross-entropy on the images as they are, in nats (0 is a model that is sure and "
            "right; guessing among K classes costs ln K, such as 2.3 among ten). Robustness loss: the same on images "
            "that an attacker has changed against the very model."
        ),
        "attack": (
            f"The attack is projected gradient descent (PGD): {pgd['steps']} steps of {_on_255(pgd['step_size'], pgd)} "
            f"{start}; {ball} {_on_255(pgd['epsilon'], pgd)} in images scaled to [0, 1] ({pgd['norm']} norm)."
        ),
        "eigenvalue": (
            "Largest eigenvalue of the input Hessian: how sharply the loss bends when an image in [0, 1] changes in "
            "the direction in which it bends most."
        ),
        "correlation": (
            "Correlation over the points of a path, from −1 to 1: Pearson's asks how well a straight line describes "
            "it, Spearman's only whether the two have the same order."
        ),
        "converged": (
            "Converged: the share of these images whose eigenvalue was found within its tolerance; of the others the "
            "last estimate counts."
        ),
    }


def _on_255(value: float, pgd: Mapping[str, Any]) -> str:
    """0.0314 -> "8/255" for the usual sizes of a pixel's change."""
    steps = value * 255
    return f"{round(steps)}/255" if pgd["norm"] == "linf" and abs(steps - round(steps)) < 0.01 else f"{value:g}"
