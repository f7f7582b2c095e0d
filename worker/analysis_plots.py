"""The pictures of an analysis: losses, errors and the input Hessian against t."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from modeconn_core import AnalysisPoint, PathFigures
from worker.plot_style import PALETTE, Interval, dress, inline_svg, legend_above

ENDS = "t: 0 = the regular model, 1 = the robust model"
_LINES = {"standard": "solid", "robust": (0, (4, 2))}
_MARKERS = {"standard": "o", "robust": "s"}
_WIDE = 5.0  # inches, from which two columns of a legend fit
Value = Callable[[AnalysisPoint], float | None]
Band = Callable[[AnalysisPoint], Interval | None]


def loss_svg(paths: Sequence[PathFigures], *, size: tuple[float, float], name: str) -> str:
    """Losses against t as inline SVG; `size` in inches."""
    return inline_svg(_losses(paths, size), name=name)


def error_svg(paths: Sequence[PathFigures], *, size: tuple[float, float], name: str) -> str:
    """Error rates against t as inline SVG."""
    return inline_svg(_errors(paths, size), name=name)


def eigenvalue_svg(paths: Sequence[PathFigures], *, size: tuple[float, float], name: str) -> str:
    """The mean largest eigenvalue of the input Hessian against t as inline SVG."""
    return inline_svg(_eigenvalues(paths, size), name=name)


def draw_losses(paths: Sequence[PathFigures], path: Path) -> None:
    """The losses as a picture file."""
    _losses(paths, (7.6, 4.3)).savefig(path, dpi=160, facecolor=PALETTE["paper"])


def draw_eigenvalues(paths: Sequence[PathFigures], path: Path) -> None:
    """The eigenvalues as a picture file."""
    _eigenvalues(paths, (7.6, 4.3)).savefig(path, dpi=160, facecolor=PALETTE["paper"])


def _losses(paths: Sequence[PathFigures], size: tuple[float, float]) -> Figure:
    def draw(axes: Axes) -> None:
        for path in paths:
            name = f"{path.path} path"
            _line(axes, path, lambda p: p.clean_loss, None, f"Standard loss, {name}", "accuracy")
            _line(
                axes,
                path,
                lambda p: p.robust_loss,
                lambda p: p.robust_loss_interval,
                f"Robustness loss, {name}",
                "attack",
            )
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylabel("cross-entropy, nats", fontsize=9)
        axes.set_ylim(bottom=0)

    return _figure(draw, size)


def _errors(paths: Sequence[PathFigures], size: tuple[float, float]) -> Figure:
    def draw(axes: Axes) -> None:
        for path in paths:
            name = f"{path.path} path"
            clean_band, robust_band = (lambda p: p.clean_error_interval), (lambda p: p.robust_error_interval)
            _line(axes, path, lambda p: p.clean_error, clean_band, f"Error, {name}", "accuracy")
            _line(axes, path, lambda p: p.robust_error, robust_band, f"Error under attack, {name}", "attack")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))

    return _figure(draw, size)


def _eigenvalues(paths: Sequence[PathFigures], size: tuple[float, float]) -> Figure:
    def draw(axes: Axes) -> None:
        for path in paths:
            label = f"Largest eigenvalue, {path.path} path"
            _line(axes, path, lambda p: p.eigenvalue, lambda p: p.eigenvalue_interval, label, "ink")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylabel("mean over the images, nats", fontsize=9)
        axes.set_ylim(bottom=0)

    return _figure(draw, size)


def _figure(draw: Callable[[Axes], None], size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    dress(axes, ENDS)
    legend_above(figure, axes, columns=2 if size[0] > _WIDE else 1)
    return figure


def _line(axes: Axes, path: PathFigures, value: Value, band: Band | None, label: str, role: str) -> None:
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
        linestyle=_LINES[path.path],
        marker=_MARKERS[path.path],
        markersize=3.2,
        markeredgewidth=0,
        label=label,
        clip_on=False,
    )
