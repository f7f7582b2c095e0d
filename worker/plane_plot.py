"""The loss plane as a picture: accuracy and attack success over the plane of the path, with the path drawn in it."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from modeconn_core import LossPlane
from worker.plot_style import PALETTE

_OUTLINE = [withStroke(linewidth=3, foreground=PALETTE["ink"])]


def plane_png(plane: LossPlane, measured_name: str, estimated_name: str) -> bytes:
    """PNG of `plane`: accuracy, and beside it what is known of the attack, called by one of the names."""
    maps = [("Clean accuracy", plane.accuracy, "viridis")]
    if plane.attack is not None:
        maps.append((measured_name if plane.attack_measured else estimated_name, plane.attack, "inferno"))
    figure = Figure(figsize=(4.6 * len(maps), 3.3), layout="constrained")
    for axes, (title, values, colours) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
        _draw_map(figure, axes, plane, values, colours)
        _draw_path(axes, plane)
        axes.set_title(title, fontsize=10, color=PALETTE["ink"], loc="left")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=160, facecolor=PALETTE["paper"])
    return drawn.getvalue()


def _draw_map(figure: Figure, axes: Axes, plane: LossPlane, values: Sequence[Sequence[float]], colours: str) -> None:
    mesh = axes.contourf(plane.x, plane.y, np.asarray(values), levels=np.linspace(0, 1, 21), cmap=colours)
    bar = figure.colorbar(mesh, ax=axes, ticks=np.linspace(0, 1, 6), format=PercentFormatter(1, decimals=0), shrink=0.9)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=PALETTE["muted"])
    bar.outline.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw_path(axes: Axes, plane: LossPlane) -> None:
    _, x, y = zip(*plane.path, strict=True)
    axes.plot(x, y, color="white", linewidth=1.8, path_effects=_OUTLINE)
    ends = [(0.0, 0.0, "suspect", "o"), (1.0, 0.0, "second end", "o")]  # the path rises from them
    inside = [(*plane.chosen, "chosen", "*"), *((*bend, "bend", "D") for bend in plane.bends)]
    for left, bottom, label, marker in ends + inside:
        axes.plot(
            left,
            bottom,
            marker,
            color="white",
            markersize=13 if marker == "*" else 6,
            markeredgecolor=PALETTE["ink"],
        )
        axes.annotate(
            label,
            (left, bottom),
            xytext=(0, -8 if marker == "o" else 9),
            textcoords="offset points",
            ha="center",
            va="top" if marker == "o" else "bottom",
            fontsize=8,
            color="white",
            path_effects=_OUTLINE,
        )
