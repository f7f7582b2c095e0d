"""How all pictures look: colours, axes, legends, and figures as inline SVG that follows the page's theme."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Interval = tuple[float, float]

# Light theme; blue and orange stay apart for every common kind of colour blindness.
PALETTE = {
    "paper": "#ffffff",
    "ink": "#17212b",
    "muted": "#5a6672",
    "grid": "#e3e7eb",
    "accuracy": "#1d5fb8",
    "attack": "#c4450c",
}


def inline_svg(figure: Figure, *, name: str) -> str:
    """An inline `<svg>` whose colours are CSS variables (`--ink`, `--accuracy`, ...).

    `name` keeps the ids of two pictures on one page apart.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "svg.id": f"plot-{name}"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for role, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{role})")
    # ids such as figure_1 and axes_1 are the same in every picture
    return svg.replace('id="', f'id="{name}-').replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')


def dress(axes: Axes, x_label: str) -> None:
    """t from 0 to 1 along the bottom, a light grid, no box."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(x_label, fontsize=9)
    axes.xaxis.label.set_color(PALETTE["muted"])
    axes.yaxis.label.set_color(PALETTE["muted"])
    axes.tick_params(length=0, labelsize=9, labelcolor=PALETTE["muted"], which="both")
    axes.grid(color=PALETTE["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PALETTE["muted"])


def legend_above(figure: Figure, handles: Sequence[Artist], *, columns: int) -> None:
    """The legend above the axes, where it hides nothing; each handle has a label."""
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=PALETTE["ink"],
        borderpad=0.1,
        handlelength=2.4,
    )
