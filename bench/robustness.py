"""The paper's figures 3 and 4 at CPU size: losses and input Hessian between a regular and a robust model.

python -m bench.robustness --data DIR --seeds 0
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.adversarial import adversarially_trained
from bench.data import CIFAR10, divide, load
from bench.results import RESULTS, keep, keep_picture
from bench.suspects import CLEAN, Order, trained
from modeconn_core import AnalysisConfig, AnalysisResult, Barrier, Correlation, PathFigures, analyse

CLEAN_IMAGES, HELD_OUT = 2500, 5000
COLOURS = {"standard": "tab:blue", "robust": "tab:orange"}


def measure(seed: int, data: Path) -> AnalysisResult:
    """Both ends trained on all training images, the paths on a defender's clean set."""
    regular = trained(Order(attack=CLEAN, seed=seed), data).model
    robust = adversarially_trained(Order(attack=CLEAN, seed=seed), data)
    test = load(data, CIFAR10, "test")
    division = divide(test, images=CLEAN_IMAGES, held_out=HELD_OUT, seed=seed)
    return analyse(
        copy.deepcopy(regular),
        robust,
        CIFAR10.normalise(test.unit(division.clean)),
        test.labels[division.clean],
        mean=CIFAR10.mean,
        std=CIFAR10.std,
        config=AnalysisConfig(seed=seed),
    )


def row(seed: int, path: PathFigures) -> dict[str, Any]:
    """One path in a line: barriers in nats, error rates of both ends in per cent."""
    first, last = path.points[0], path.points[-1]
    return {
        "seed": seed,
        "path": path.path,
        "standard loss's barrier": _barrier(path.clean_barrier),
        "robustness loss's barrier": _barrier(path.robust_barrier),
        "highest robustness loss": f"{max(point.robust_loss for point in path.points):.2f}",
        "Pearson": _correlation(path.correlation, "pearson"),
        "Spearman": _correlation(path.correlation, "spearman"),
        "regular end, error/robust error, %": f"{100 * first.clean_error:.1f}/{100 * first.robust_error:.1f}",
        "robust end": f"{100 * last.clean_error:.1f}/{100 * last.robust_error:.1f}",
    }


def _barrier(barrier: Barrier) -> str:
    low, high = barrier.interval
    return f"{barrier.height:.2f} ({low:.2f}-{high:.2f}) at t = {barrier.t:.2f}"


def _correlation(correlation: Correlation | None, kind: str) -> str:
    if correlation is None:
        return "-"
    low, high = getattr(correlation, f"{kind}_interval")
    return f"{getattr(correlation, kind):.2f} ({low:.2f}-{high:.2f})"


def draw(results: dict[int, AnalysisResult]) -> Figure:
    """One line of panels per seed: losses, errors, largest eigenvalue, all against t."""
    figure = Figure(figsize=(12, 3.2 * len(results)), layout="constrained")
    grid = figure.subplots(len(results), 3, squeeze=False)
    for (seed, result), (losses, errors, eigenvalues) in zip(results.items(), grid, strict=True):
        for path in result.paths:
            colour, t = COLOURS[path.path], [point.t for point in path.points]
            _pair(losses, t, path, colour, "clean_loss", "robust_loss")
            _pair(errors, t, path, colour, "clean_error", "robust_error")
            eigenvalues.plot(t, [point.eigenvalue for point in path.points], color=colour, label=f"{path.path} path")
        losses.set(title=f"seed {seed}: cross-entropy, nats", xlabel="t", yscale="symlog")
        errors.set(title="error rate", xlabel="t", ylim=(0, 1))
        eigenvalues.set(title="largest eigenvalue, input Hessian", xlabel="t", yscale="symlog")
        losses.legend(fontsize="x-small", loc="lower right")
        eigenvalues.legend(fontsize="x-small", loc="upper right")
    return figure


def _pair(axes: Axes, t: list[float], path: PathFigures, colour: str, clean: str, robust: str) -> None:
    axes.plot(t, [getattr(point, clean) for point in path.points], color=colour, label=f"{path.path} path, as they are")
    axes.plot(
        t, [getattr(point, robust) for point in path.points], color=colour, linestyle="--", label="the same, under PGD"
    )


def main() -> None:
    """Measure, keep the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    results = {seed: measure(seed, arguments.data) for seed in arguments.seeds}
    rows = [row(seed, path) for seed, result in results.items() for path in result.paths]
    config = AnalysisConfig()
    keep(
        "robustness",
        rows,
        {
            "ends": "pre-activation ResNet-18, width 16; t = 0 trained regularly, t = 1 adversarially",
            "images": f"{CLEAN_IMAGES} clean ones, measured on those that no path was trained on",
            "PGD": f"{config.pgd.steps} steps of {255 * config.pgd.step_size:.0f}/255 in a ball of "
            f"{255 * config.pgd.epsilon:.0f}/255 ({config.pgd.norm}), against the model at the same t",
            "alignment": "; ".join(result.alignment for result in results.values()),
            "seconds": {seed: round(sum(result.seconds.values())) for seed, result in results.items()},
        },
    )
    keep_picture(draw(results), RESULTS / "robustness.png")


if __name__ == "__main__":
    main()
