"""The pictures of an analysis: losses, errors and the input Hessian against t."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from modeconn_core import AnalysisPoint, Barrier, PathFigures, PathKind
from worker.analysis_words import is_there
from worker.plot_style import PALETTE, Interval, dress, inline_svg, legend_above

ENDS = "t: 0 = the regular model, 1 = the robust model"
Dashes = tuple[float, tuple[float, ...]]
_SOLID: Dashes = (0, ())
_LINES: dict[PathKind, Dashes] = {"standard": _SOLID, "robust": (0, (4, 2))}
_MARKERS: dict[PathKind, str] = {"standard": "o", "robust": "s"}
_WIDE = 5.0  # inches, from which two panels stand side by side
_FILE_SIZE = (9.0, 4.2)
Size = tuple[float, float]
Value = Callable[[AnalysisPoint], float | None]
Band = Callable[[AnalysisPoint], Interval | None]


def loss_svg(paths: Sequence[PathFigures], *, size: Size, name: str) -> str:
    """Losses against t as inline SVG; `size` in inches."""
    return inline_svg(_losses(paths, size), name=name)


def error_svg(paths: Sequence[PathFigures], *, size: Size, name: str) -> str:
    """Error rates against t as inline SVG."""
    return inline_svg(_errors(paths, size), name=name)


def eigenvalue_svg(paths: Sequence[PathFigures], *, size: Size, name: str) -> str:
    """The mean largest eigenvalue of the input Hessian against t, with the robustness loss, as inline SVG."""
    return inline_svg(_eigenvalues(paths, size), name=name)


def draw_losses(paths: Sequence[PathFigures], path: Path) -> None:
    """The losses as a picture file."""
    _losses(paths, _FILE_SIZE).savefig(path, dpi=160, facecolor=PALETTE["paper"])


def draw_eigenvalues(paths: Sequence[PathFigures], path: Path) -> None:
    """The eigenvalues, with the robustness loss, as a picture file."""
    _eigenvalues(paths, _FILE_SIZE).savefig(path, dpi=160, facecolor=PALETTE["paper"])


def _losses(paths: Sequence[PathFigures], size: Size) -> Figure:
    """A panel for each loss: scales of their own, linear ones, so that a barrier is as high as it is."""
    figure, (clean, robust) = _panels(2, size)
    for path in paths:
        _line(clean, path, lambda p: p.clean_loss, None, "accuracy", linestyle=_LINES[path.path])
        _line(robust, path, lambda p: p.robust_loss, _robust_band, "attack", linestyle=_LINES[path.path])
    ends = paths[0].points[0], paths[0].points[-1]
    _mark_barriers(clean, [path.clean_barrier for path in paths], (ends[0].clean_loss, ends[1].clean_loss))
    _mark_barriers(robust, [path.robust_barrier for path in paths], (ends[0].robust_loss, ends[1].robust_loss))
    for axes, title in ((clean, "Standard loss, nats"), (robust, "Robustness loss, nats")):
        _finish_panel(axes, title)
        axes.set_ylim(bottom=0)
    _path_legend(figure, paths, size, reference=True)
    return figure


def _mark_barriers(axes: Axes, barriers: Sequence[Barrier], ends: tuple[float, float]) -> None:
    """The straight line between the ends, and the height of each barrier that is there, from that line up."""
    colour = PALETTE["muted"]
    axes.plot((0, 1), ends, color=colour, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    for barrier in filter(is_there, barriers):
        foot = ends[0] + barrier.t * (ends[1] - ends[0])
        axes.plot((barrier.t, barrier.t), (foot, foot + barrier.height), color=colour, linewidth=1.2, zorder=1)
        axes.annotate(
            f"+{barrier.height:.2f}",
            (barrier.t, foot + barrier.height / 3),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=PALETTE["ink"],
        )


def _errors(paths: Sequence[PathFigures], size: Size) -> Figure:
    figure, (clean, robust) = _panels(2, size)
    for path in paths:
        clean_band, robust_band = (lambda p: p.clean_error_interval), (lambda p: p.robust_error_interval)
        _line(clean, path, lambda p: p.clean_error, clean_band, "accuracy", linestyle=_LINES[path.path])
        _line(robust, path, lambda p: p.robust_error, robust_band, "attack", linestyle=_LINES[path.path])
    for axes, title in ((clean, "Error"), (robust, "Error under attack")):
        _finish_panel(axes, title)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    _path_legend(figure, paths, size, reference=False)
    return figure


def _eigenvalues(paths: Sequence[PathFigures], size: Size) -> Figure:
    """A panel for each path: the eigenvalue on the left scale, the robustness loss on the right one."""
    figure, panels = _panels(len(paths), size)
    for path, left in zip(paths, panels, strict=True):
        _line(left, path, lambda p: p.eigenvalue, lambda p: p.eigenvalue_interval, "ink")
        _finish_panel(left, f"The {path.path} path")
        right = left.twinx()
        _line(right, path, lambda p: p.robust_loss, _robust_band, "attack")
        right.spines[:].set_visible(False)
        right.tick_params(length=0, labelsize=9, labelcolor=PALETTE["attack"])
        left.tick_params(axis="y", labelcolor=PALETTE["ink"])
        for axes in (left, right):
            axes.set_ylim(bottom=0)
    named = {"ink": "Largest eigenvalue, nats (left scale)", "attack": "Robustness loss, nats (right scale)"}
    handles = [Line2D([], [], color=PALETTE[role], label=label) for role, label in named.items()]
    legend_above(figure, handles, columns=2 if size[0] > _WIDE else 1)
    return figure


def _robust_band(point: AnalysisPoint) -> Interval:
    return point.robust_loss_interval


def _panels(count: int, size: Size) -> tuple[Figure, list[Axes]]:
    """Side by side where there is room, else one above the other."""
    figure = Figure(figsize=size, layout="constrained")
    rows, columns = (1, count) if size[0] > _WIDE else (count, 1)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _finish_panel(axes: Axes, title: str) -> None:
    dress(axes, ENDS)
    axes.set_title(title, fontsize=10, color=PALETTE["ink"], loc="left")


def _path_legend(figure: Figure, paths: Sequence[PathFigures], size: Size, *, reference: bool) -> None:
    """Which line is which path; both panels share it, so it is in no panel's colour."""
    handles = [
        Line2D(
            [],
            [],
            color=PALETTE["ink"],
            linestyle=_LINES[path.path],
            marker=_MARKERS[path.path],
            markersize=3.2,
            label=f"The {path.path} path",
        )
        for path in paths
    ]
    if reference:
        label = "Straight line between the ends"
        handles.append(Line2D([], [], color=PALETTE["muted"], linewidth=1, linestyle=(0, (1, 2)), label=label))
    legend_above(figure, handles, columns=3 if size[0] > _WIDE else 1)


def _line(
    axes: Axes,
    path: PathFigures,
    value: Value,
    band: Band | None,
    role: str,
    *,
    linestyle: Dashes = _SOLID,
) -> None:
    t = np.array([point.t for point in path.points])
    values = np.array([np.nan if (known := value(point)) is None else known for point in path.points], dtype=float)
    colour = PALETTE[role]
    if band is not None:
        pairs = [band(point) or (np.nan, np.nan) for point in path.points]
        low, high = np.maximum(np.array(pairs, dtype=float).T, 0)
        axes.fill_between(t, low, high, color=colour, alpha=0.14, linewidth=0)
    axes.plot(
        t,
        values,
        color=colour,
        linewidth=1.6,
        linestyle=linestyle,
        marker=_MARKERS[path.path],
        markersize=3.2,
        markeredgewidth=0,
        clip_on=False,
    )
