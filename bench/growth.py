"""How a repair's cost grows with clean images, steps of the fit and classes: each alone, on one untrained network.

python -m bench.growth
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from bench.results import RESULTS, keep
from modeconn_core import RepairConfig, repair
from modeconn_core.architectures import build

mpl.use("agg")

IMAGES = (250, 500, 1000, 2000)
STEPS = (25, 50, 100, 200)
CLASSES = (5, 10, 20, 40, 80)
USUAL_IMAGES, USUAL_STEPS, USUAL_CLASSES = 500, 25, 10
SCANNING = "scanning"


def stages(*, images: int, steps: int, classes: int) -> dict[str, float]:
    """Seconds of every stage of one repair. What the weights are does not matter to the clock."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = build("preact_resnet18", classes, width=16).eval()
    pixels = torch.randn(images, 3, 32, 32, generator=generator)
    labels = torch.arange(images) % classes
    return repair(model, pixels, labels, config=RepairConfig(steps=steps)).seconds


def rest(seconds: dict[str, float]) -> float:
    """All but the scan."""
    return sum(seconds.values()) - seconds[SCANNING]


def measured() -> dict[str, list[tuple[int, float]]]:
    """(size, seconds) along each axis, the other two as usual."""
    axes: dict[str, tuple[Sequence[int], str, Callable[[dict[str, float]], float]]] = {
        "clean images": (IMAGES, "images", rest),
        "steps of the fit": (STEPS, "steps", lambda seconds: seconds["fitting_path"]),
        "classes: all but the scan": (CLASSES, "classes", rest),
        "classes: the scan": (CLASSES, "classes", lambda seconds: seconds[SCANNING]),
    }
    usual = {"images": USUAL_IMAGES, "steps": USUAL_STEPS, "classes": USUAL_CLASSES}
    taken: dict[tuple[int, ...], dict[str, float]] = {}
    result: dict[str, list[tuple[int, float]]] = {}
    for axis, (sizes, name, seconds) in axes.items():
        result[axis] = []
        for size in sizes:
            setting = usual | {name: size}
            key = tuple(setting.values())
            taken[key] = taken.get(key) or stages(**setting)
            result[axis].append((size, seconds(taken[key])))
            print(axis, size, round(result[axis][-1][1], 1), flush=True)
    return result


def line(points: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """(seconds at 0, seconds for each unit, R squared) of the straight line through the points."""
    sizes, seconds = np.array(points, dtype=float).T
    slope, start = np.polyfit(sizes, seconds, 1)
    unexplained = ((seconds - (start + slope * sizes)) ** 2).sum() / ((seconds - seconds.mean()) ** 2).sum()
    return float(start), float(slope), float(1 - unexplained)


def draw(axes: dict[str, list[tuple[int, float]]]) -> None:
    """One panel for each axis: what was measured, and the straight line through it."""
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    for panel, (axis, points) in zip(figure.subplots(1, len(axes)), axes.items(), strict=True):
        start, slope, _ = line(points)
        sizes, seconds = zip(*points, strict=True)
        panel.plot(sizes, seconds, "o", color="tab:blue")
        panel.plot([0, sizes[-1]], [start, start + slope * sizes[-1]], color="tab:blue", alpha=0.4)
        panel.set(xlabel=axis, xlim=(0, 1.08 * sizes[-1]), ylim=(0, 1.08 * max(seconds)))
    figure.axes[0].set_ylabel("seconds")
    figure.savefig(RESULTS / "growth.png", dpi=70)


def main() -> None:
    """Measure, print and keep the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    axes = measured()
    rows: list[dict[str, Any]] = []
    for axis, points in axes.items():
        start, slope, explained = line(points)
        rows.append(
            {
                "axis": axis,
                "seconds": " ".join(f"{size}: {seconds:.1f}" for size, seconds in points),
                "at 0": round(start, 2),
                "for 100 more": round(100 * slope, 2),
                "R² of the line": round(explained, 4),
            }
        )
    usual = {"images": USUAL_IMAGES, "steps": USUAL_STEPS, "classes": USUAL_CLASSES}
    keep("growth", rows, {f"usual {name}": value for name, value in usual.items()})
    draw(axes)


if __name__ == "__main__":
    main()
