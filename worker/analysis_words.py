"""The sentences of an analysis report: verdict, correlation, definitions."""

from collections.abc import Mapping, Sequence
from typing import Any

from modeconn_core import Barrier, PathFigures

SEEN = 0.05  # nats: a barrier is said to be there when its interval lies above this


def verdict(paths: Sequence[PathFigures]) -> str:
    """The outcome in a sentence or two."""
    standard = paths[0]
    text = (
        f"On the path between the two models the standard loss {_rise(standard.clean_barrier)}, and the robustness "
        f"loss {_rise(standard.robust_barrier)}."
    )
    for robust in paths[1:]:
        text += f" On the path trained under attack the robustness loss {_rise(robust.robust_barrier)}."
    return text


def _rise(barrier: Barrier) -> str:
    low, high = barrier.interval
    if low > SEEN:
        return (
            f"rises {barrier.height:.2f} nats above the line between its ends (95 % interval {low:.2f} to {high:.2f})"
        )
    if high <= SEEN:
        return f"has no barrier (at most {high:.2f} nats)"
    return f"has no barrier that these images could show ({barrier.height:.2f} nats, {low:.2f} to {high:.2f})"


def correlation(paths: Sequence[PathFigures]) -> str:
    """How the eigenvalues go with the robustness loss."""
    said = []
    for path in paths:
        found = path.correlation
        if found is None:
            said.append(f"On the {path.path} path one of both does not vary enough for a correlation.")
            continue
        said.append(
            f"On the {path.path} path its correlation with the robustness loss is {found.pearson:.2f} "
            f"({found.pearson_interval[0]:.2f} to {found.pearson_interval[1]:.2f}, Pearson) and {found.spearman:.2f} "
            f"({found.spearman_interval[0]:.2f} to {found.spearman_interval[1]:.2f}, Spearman)."
        )
    return " ".join(said) + (
        " The intervals take the points for independent, which neighbours on a path are not: they are too narrow."
    )


def definitions(pgd: Mapping[str, Any]) -> list[str]:
    """Of every term that the page uses."""
    ball = "every pixel may change by at most" if pgd["norm"] == "linf" else "the whole image may change by at most"
    start = "from a random place in the ball" if pgd["random_start"] else "from the image itself"
    return [
        "Barrier: how far a loss rises above the straight line between its values at the two ends, at the highest "
        "point; in brackets the 95 % interval, by bootstrap over the images. A path below that line has none.",
        "Standard loss: the mean cross-entropy on the images as they are. Robustness loss: the same on images that an "
        "attacker has changed against the very model.",
        f"The attack is projected gradient descent (PGD): {pgd['steps']} steps of {_on_255(pgd['step_size'], pgd)} "
        f"{start}; {ball} {_on_255(pgd['epsilon'], pgd)} in images scaled to [0, 1] ({pgd['norm']} norm).",
    ]


def _on_255(value: float, pgd: Mapping[str, Any]) -> str:
    """0.0314 -> "8/255" for the usual sizes of a pixel's change."""
    steps = value * 255
    return f"{round(steps)}/255" if pgd["norm"] == "linf" and abs(steps - round(steps)) < 0.01 else f"{value:g}"
