"""The pictures of a repair: the curve of accuracy and attack success along the path, and inverted triggers."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from worker.plot_style import PALETTE, Interval, dress, inline_svg, legend_above

_GAP = 6  # pixels between two pictures of a sheet


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackNames:
    """What the second line is called, where it was measured and where something stands in for it: in the legend, and
    in a word or two."""

    measured: str
    measured_brief: str
    estimated: str
    estimated_brief: str


BACKDOOR_NAMES = AttackNames(
    measured="Attack success rate, measured",
    measured_brief="attack",
    estimated="Attack success, estimated from the inverted trigger",
    estimated_brief="attack",
)


class CurvePointLike(Protocol):
    """What a curve point must offer; `modeconn_core.CurvePoint` does. All figures are fractions in 0..1."""

    @property
    def t(self) -> float: ...
    @property
    def clean_accuracy(self) -> float: ...
    @property
    def clean_accuracy_interval(self) -> Interval: ...
    @property
    def attack_success_rate(self) -> float | None: ...
    @property
    def attack_success_rate_interval(self) -> Interval | None: ...
    @property
    def proxy_success_rate(self) -> float | None: ...
    @property
    def clean_loss(self) -> float: ...
    @property
    def refined(self) -> bool: ...
    @property
    def path(self) -> Literal["main", "unaligned"]: ...


def draw_curve(
    points: Sequence[CurvePointLike],
    chosen_t: float,
    path: Path,
    *,
    attack_names: AttackNames = BACKDOOR_NAMES,
    title: str | None = None,
) -> None:
    """Write clean accuracy and attack success against t to `path` (.png, .svg or .pdf), with the chosen t marked.

    Raises ValueError when `points` is empty.
    """
    figure = _curve_figure(points, chosen_t, attack_names, title=title, size=(7.6, 4.3))
    with matplotlib.rc_context({"svg.hashsalt": "modeconn"}):
        figure.savefig(path, dpi=160, facecolor=PALETTE["paper"])


def curve_svg(
    points: Sequence[CurvePointLike],
    chosen_t: float,
    attack_names: AttackNames,
    *,
    size: tuple[float, float],
    name: str,
) -> str:
    """The same picture as an inline `<svg>` whose colours are CSS variables (`--ink`, `--accuracy`, ...).

    `size` is in inches; `name` keeps the ids of two pictures on one page apart.
    """
    return inline_svg(_curve_figure(points, chosen_t, attack_names, title=None, size=size), name=name)


def _curve_figure(
    points: Sequence[CurvePointLike],
    chosen_t: float,
    attack_names: AttackNames,
    *,
    title: str | None,
    size: tuple[float, float],
) -> Figure:
    if not points:
        raise ValueError("a curve needs at least one point")
    unaligned = sorted((point for point in points if point.path == "unaligned"), key=lambda point: point.t)
    points = sorted((point for point in points if point.path == "main"), key=lambda point: point.t)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    wide = size[0] > 5
    markers = _Series(axes, [point.t for point in points])
    markers.draw(
        "Clean accuracy",
        [point.clean_accuracy for point in points],
        [point.clean_accuracy_interval for point in points],
        colour=PALETTE["accuracy"],
        marker="o",
    )
    measured = any(point.attack_success_rate is not None for point in points)
    if measured:
        markers.draw(
            attack_names.measured,
            [point.attack_success_rate for point in points],
            [point.attack_success_rate_interval for point in points],
            colour=PALETTE["attack"],
            marker="s",
        )
    elif any(point.proxy_success_rate is not None for point in points):
        markers.draw(
            attack_names.estimated,
            [point.proxy_success_rate for point in points],
            None,
            colour=PALETTE["attack"],
            marker="D",
            dashed=True,
        )
    brief = attack_names.measured_brief if measured else attack_names.estimated_brief
    if unaligned:
        _draw_unaligned(axes, unaligned, brief)
    _mark_chosen(axes, chosen_t, points, brief)
    _dress(axes, title, wide=wide)
    legend_above(figure, axes.get_legend_handles_labels()[0], columns=2 if wide else 1)
    return figure


def _draw_unaligned(axes: Axes, points: Sequence[CurvePointLike], attack_name: str) -> None:
    """The path to a second model whose channels were left as they are: thin, without bands."""
    t = [point.t for point in points]
    attack = [
        point.proxy_success_rate if point.attack_success_rate is None else point.attack_success_rate for point in points
    ]
    series: list[tuple[str, list[float | None], str]] = [
        ("Accuracy without alignment", [point.clean_accuracy for point in points], PALETTE["accuracy"]),
        (f"{attack_name.capitalize()} without alignment", attack, PALETTE["attack"]),
    ]
    for label, values, colour in series:
        if any(value is not None for value in values):
            known = [np.nan if value is None else value for value in values]
            axes.plot(t, known, color=colour, linewidth=1.1, linestyle=(0, (1, 2)), label=label, clip_on=False)


class _Series:
    """Draws one figure against t: a line with markers, and its 95 % interval as a band."""

    def __init__(self, axes: Axes, t: Sequence[float]) -> None:
        self.axes, self.t = axes, np.asarray(t, dtype=float)

    def draw(
        self,
        label: str,
        values: Sequence[float | None],
        intervals: Sequence[Interval | None] | None,
        *,
        colour: str,
        marker: str,
        dashed: bool = False,
    ) -> None:
        y = np.array([np.nan if value is None else value for value in values], dtype=float)
        known = np.isfinite(y)
        if intervals is not None:
            low, high = np.array([(np.nan, np.nan) if pair is None else pair for pair in intervals], dtype=float).T
            self.axes.fill_between(self.t[known], low[known], high[known], color=colour, alpha=0.16, linewidth=0)
        self.axes.plot(
            self.t[known],
            y[known],
            color=colour,
            linewidth=1.8,
            linestyle=(0, (4, 2)) if dashed else "solid",
            marker=marker,
            markersize=4.5,
            markeredgewidth=0,
            label=label,
            clip_on=False,
            zorder=3,
        )


def _mark_chosen(axes: Axes, chosen_t: float, points: Sequence[CurvePointLike], attack_name: str) -> None:
    label = f"chosen t = {chosen_t:.3g}"
    for point in points:
        if point.t == chosen_t:
            label += f"\naccuracy {point.clean_accuracy:.1%}"
            rate = point.proxy_success_rate if point.attack_success_rate is None else point.attack_success_rate
            label += "" if rate is None else f"\n{attack_name} {rate:.1%}"
    left = chosen_t > 0.6
    axes.axvline(chosen_t, color=PALETTE["ink"], linewidth=1.2, zorder=2)
    axes.annotate(
        label.replace("%", " %"),
        (chosen_t, 0.5),
        xytext=(-7 if left else 7, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        fontsize=9,
        linespacing=1.35,
        color=PALETTE["ink"],
    )


def _dress(axes: Axes, title: str | None, *, wide: bool) -> None:
    ends = "place on the path (0 = the uploaded suspect, 1 = the second end)" if wide else "0 = suspect, 1 = second end"
    dress(axes, f"t: {ends}")
    axes.set_ylim(0, 1)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    if title:
        # a title may hold a user's file name: never let "$" start a formula
        axes.set_title(title, fontsize=11, fontweight="bold", color=PALETTE["ink"], loc="left", parse_math=False)


def trigger_png(pattern: NDArray[np.floating], mask: NDArray[np.floating], *, least_side: int = 192) -> bytes:
    """PNG of an inverted trigger: `mask * pattern` over mid grey, each pixel enlarged to a square block.

    `pattern` is (C, H, W) with C = 1 or 3, RGB; `mask` is (1, H, W) or (H, W); both in [0, 1].
    Raises ValueError for other shapes.
    """
    pattern = np.nan_to_num(np.asarray(pattern, dtype=np.float64)).clip(0, 1)
    mask = np.nan_to_num(np.asarray(mask, dtype=np.float64)).clip(0, 1)
    mask = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    if pattern.ndim != 3 or pattern.shape[0] not in (1, 3) or mask.shape != pattern.shape[1:]:
        raise ValueError(f"a trigger needs a (1|3, H, W) pattern and an (H, W) mask, not {pattern.shape}, {mask.shape}")
    picture = mask * pattern + (1 - mask) * 0.5
    picture = np.broadcast_to(picture, (3, *mask.shape)).transpose(1, 2, 0)
    scale = max(1, -(-least_side // max(mask.shape)))
    return _png(np.ascontiguousarray((picture * 255).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)))


def fooled_png(pairs: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]], *, side: int = 96) -> bytes:
    """PNG of images, each with the same image below as a trigger changed it; between them it is transparent.

    `pairs`: (image, changed), (C, H, W) with C = 1 or 3, RGB, in [0, 1], each drawn about `side` pixels wide.
    """
    columns = [[_tile(picture, side) for picture in pair] for pair in pairs]
    height, width = columns[0][0].shape[:2]
    sheet = np.zeros((2 * height + _GAP, len(columns) * (width + _GAP) - _GAP, 4), dtype=np.uint8)
    for across, column in enumerate(columns):
        for down, tile in enumerate(column):
            top, left = down * (height + _GAP), across * (width + _GAP)
            sheet[top : top + height, left : left + width] = tile
    return _png(sheet)


def _tile(picture: NDArray[np.floating], side: int) -> NDArray[np.uint8]:
    """(H, W, 4): small pictures enlarged to blocks, large ones reduced."""
    picture = np.nan_to_num(np.asarray(picture, dtype=np.float64)).clip(0, 1)
    pixels = (np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    most = max(pixels.shape[:2])
    if most > side:
        scale = side / most
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    else:
        pixels = pixels.repeat(side // most, 0).repeat(side // most, 1)
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, dtype=np.uint8)])


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True, pnginfo=PngImagePlugin.PngInfo())
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """The PNG as a `data:` address, so that a page needs no second file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
