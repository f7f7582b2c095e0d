"""Prints and keeps the tables of bench/results out of the measured cells, and draws ACC and ASR against t.

python -m bench.tables
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.cells import CLEAN, FINE_TUNED_END, LEDGER, METHODS, OURS, OURS_TWO_SUSPECTS, TWO_SUSPECTS, Cell
from bench.data import CIFAR10
from bench.others import OTHERS
from bench.peers.claims import CLAIMS
from bench.results import RESULTS, keep, keep_picture

mpl.use("agg")

TARGETS = {2500: (1.5, 1.0), 500: (3.0, 2.0), 250: (5.0, 3.0), 50: (10.0, 5.0)}  # ACC lost, ASR above floor; points
DEVELOPMENT_SEEDS = (0, 1)  # of suspects that were looked at while the method was chosen
PICTURED_SEED = 2
Line = dict[str, Any]


def lost(line: Line) -> float:
    """Points of accuracy lost."""
    return 100 * (line["before"]["accuracy"] - line["after"]["accuracy"])


def above_floor(line: Line) -> float:
    """Points of ASR above what the trigger does to a clean model; 0 below it, so that no row hides another."""
    return max(0.0, 100 * (line["after"]["success"] - (line["floor"] or 0.0)))


def mean(values: Sequence[float]) -> str:
    """Mean and, from two values on, a 95 % interval of it (normal approximation)."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.2f} ± {half:.2f}"


def measured(cells: dict[Cell, Line], images: int, method: str, *, fresh: bool) -> list[Line]:
    """The cells of a size and a method; of fresh suspects only, where that is asked for."""
    return [
        line
        for cell, line in cells.items()
        if (cell.images, cell.method) == (images, method) and not (fresh and cell.seed in DEVELOPMENT_SEEDS)
    ]


def _developed_on(lines: Sequence[Line]) -> bool:
    """Whether suspects are among them that were looked at while the method was chosen."""
    return any(line["seed"] in DEVELOPMENT_SEEDS for line in lines)


def seeds_of(lines: Sequence[Line]) -> str:
    return " ".join(str(seed) for seed in sorted({line["seed"] for line in lines}))


def by_size(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """One row per size and method: the means over attacks and seeds, beside the targets; ours on fresh seeds, too."""
    rows = []
    for images, (most_lost, most_above) in TARGETS.items():
        for method, fresh in ((OURS, True), *((method, False) for method in METHODS)):
            lines = measured(cells, images, method, fresh=fresh)
            if not lines or (method == OURS and not fresh and not _developed_on(lines)):
                continue
            row = {
                "clean images": images,
                "method": method,
                "n": len(lines),
                "attacks": len({line["suspect"] for line in lines}),
                "seeds": seeds_of(lines),
                "ACC lost": mean([lost(line) for line in lines]),
                "ASR above floor": mean([above_floor(line) for line in lines]),
                "relearned ASR": mean([100 * line["relearned"]["success"] for line in lines if "relearned" in line]),
                "a clean model's": mean(
                    [100 * line["clean_model_relearned"]["success"] for line in lines if "relearned" in line]
                ),
                "seconds": mean([line["seconds"] for line in lines]),
                "target": "",
            }
            if method == OURS:
                met = (
                    statistics.mean(map(lost, lines)) <= most_lost
                    and statistics.mean(map(above_floor, lines)) <= most_above
                )
                row["target"] = f"<= {most_lost}, <= {most_above}: {'met' if met else 'missed'}"
            rows.append(row)
    return rows


def by_attack(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """One row per cell: ACC/ASR before and after."""
    return [
        {
            "data set": cell.data_set,
            "clean images": cell.images,
            "suspect": cell.suspect,
            "seed": cell.seed,
            "method": cell.method,
            "before": _pair(line["before"]),
            "after": _pair(line["after"]),
            "floor": "-" if line["floor"] is None else f"{100 * line['floor']:.1f}",
            "t": line.get("t", ""),
            "flagged": " ".join(f"{kind}:{target}" for kind, target in line.get("flagged", [])),
        }
        for cell, line in sorted(cells.items(), key=lambda item: (-item[0].images, item[0].suspect, item[0].method))
    ]


def _pair(figures: dict[str, float | None]) -> str:
    success = "-" if figures["success"] is None else f"{100 * figures['success']:.1f}"
    return f"{100 * (figures['accuracy'] or 0):.1f}/{success}"


def fronts(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """Each rival against our curve, cell by cell: is it on top of us, and what have we at its ASR."""
    rows = []
    for images in TARGETS:
        for method in METHODS:
            pairs = [
                (line, cells[ours])
                for cell, line in cells.items()
                if (cell.images, cell.method) == (images, method)
                and method not in (OURS, OURS_TWO_SUSPECTS)
                and (ours := Cell(suspect=cell.suspect, seed=cell.seed, images=images, method=OURS)) in cells
            ]
            if not pairs:
                continue
            above = sum(_dominates(theirs, ours) for theirs, ours in pairs)
            higher = sum(_higher_at_equal_success(ours, theirs) for theirs, ours in pairs)
            rows.append(
                {
                    "clean images": images,
                    "method": method,
                    "suspects": len(pairs),
                    "better than our choice in both": above,
                    "our ACC is higher at its ASR": higher,
                }
            )
    return rows


def _dominates(theirs: Line, ours: Line) -> bool:
    a, b = theirs["after"], ours["after"]
    return bool(a["accuracy"] > b["accuracy"] and a["success"] < b["success"])


def _higher_at_equal_success(ours: Line, theirs: Line) -> bool:
    """Some point of our path has at most their ASR and more accuracy."""
    after = theirs["after"]
    return any(success <= after["success"] and accuracy > after["accuracy"] for _, accuracy, success in _points(ours))


def _points(ours: Line) -> list[list[float]]:
    """The chosen point and the curve, which has fewer images: it is moved by what these say differently of the suspect,
    its point t = 0."""
    before, after = ours["before"], ours["after"]
    _, accuracy, success = ours["curve"][0]
    moved = [[t, a + before["accuracy"] - accuracy, s + before["success"] - success] for t, a, s in ours["curve"]]
    return [*moved, [ours["t"], after["accuracy"], after["success"]]]


def blind_choice(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """The blind t against the point of the curve that an oracle would take: most accuracy less ASR."""
    rows = []
    for images, fresh in product(TARGETS, (True, False)):
        lines = measured(cells, images, OURS, fresh=fresh)
        if not lines or (not fresh and not _developed_on(lines)):
            continue
        gaps = []
        for line in lines:
            best = max(_points(line), key=lambda point: point[1] - point[2])
            gaps.append((best[1] - line["after"]["accuracy"], line["after"]["success"] - best[2]))
        rows.append(
            {
                "clean images": images,
                "n": len(lines),
                "seeds": seeds_of(lines),
                "ACC below the oracle's": mean([100 * accuracy for accuracy, _ in gaps]),
                "ASR above the oracle's": mean([100 * success for _, success in gaps]),
            }
        )
    return rows


def scans(cells: dict[Cell, Line], clean: dict[Cell, Line]) -> list[dict[str, Any]]:
    """Was every attacked suspect flagged, with its true target (0, or none for all-to-all), and no clean one?"""
    rows = []
    for images, fresh in product(TARGETS, (True, False)):
        ours, honest = (measured(part, images, OURS, fresh=fresh) for part in (cells, clean))
        if not ours or (not fresh and not _developed_on(ours)):
            continue

        def wanted(line: Line) -> int | None:
            return None if line["suspect"].endswith("all-to-all") else 0

        rows.append(
            {
                "clean images": images,
                "seeds": seeds_of(ours),
                "suspects": len(ours),
                "flagged": sum(bool(line["flagged"]) for line in ours),
                "with the true target": sum(wanted(line) in [target for _, target in line["flagged"]] for line in ours),
                "a wrong target too": sum(
                    any(target != wanted(line) for _, target in line["flagged"]) for line in ours
                ),
                "clean models": len(honest),
                "of them flagged": sum(bool(line["flagged"]) for line in honest),
                "clean: ACC lost": mean([lost(line) for line in honest]),
                "scan's share of the time": mean(
                    [line["stages"]["scanning"] / sum(line["stages"].values()) for line in ours]
                ),
            }
        )
    return rows


def speed(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """A whole repair beside the paper's protocol on the same suspect, both on one thread."""
    rows = []
    for cell, line in cells.items():
        if cell.method not in (TWO_SUSPECTS, FINE_TUNED_END):
            continue
        ours = cells.get(Cell(suspect=cell.suspect, seed=cell.seed, images=cell.images, method=OURS))
        if ours is not None:
            rows.append(
                {
                    "suspect": cell.suspect,
                    "clean images": cell.images,
                    "protocol": cell.method,
                    "its seconds, fit only": line["seconds"],
                    "our seconds, all": ours["seconds"],
                    "ratio": f"{line['seconds'] / ours['seconds']:.1f}",
                    "its ACC/ASR": _pair(line["after"]),
                    "our ACC/ASR": _pair(ours["after"]),
                }
            )
    return rows


def two_suspects(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """Two suspects with one backdoor, trained apart: the path between them, aligned and not, beside one suspect's."""
    rows = []
    for cell, line in cells.items():
        if cell.method != OURS_TWO_SUSPECTS:
            continue
        one = cells.get(Cell(suspect=cell.suspect, seed=cell.seed, images=cell.images, method=OURS))
        rows.append(
            {
                "suspects": f"{cell.suspect}, seeds {cell.seed} and {cell.seed + 1}",
                "clean images": cell.images,
                "before": _pair(line["before"]),
                "after": _pair(line["after"]),
                "t": line["t"],
                "with one suspect": _pair(one["after"]) if one else "-",
                "lowest accuracy on the path, aligned": f"{100 * min(line['aligned_accuracy']):.1f}",
                "not aligned": f"{100 * min(line['unaligned_accuracy']):.1f}",
                "alignment": line["alignment"],
                "seconds": line["seconds"],
            }
        )
    return rows


def claims(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """What the rivals' authors report, beside what our form of them does on our suspects of the same kind."""
    return [
        {
            "method": claim.method,
            "reported": claim.figures,
            "by": claim.source,
            "here": f"{cell.suspect}, seed {cell.seed}, {cell.images} images",
            "ACC/ASR here": f"{_pair(line['before'])} -> {_pair(line['after'])}",
        }
        for claim in CLAIMS
        for cell, line in cells.items()
        if (cell.method, cell.suspect, cell.images) == (claim.method, claim.suspect, claim.images)
    ]


def draw(cells: dict[Cell, Line], images: int, file: Path) -> None:
    """ACC and ASR against t with the true trigger, one panel per attack; the chosen t is marked."""
    lines = sorted(
        (
            line
            for cell, line in cells.items()
            if (cell.images, cell.method, cell.seed) == (images, OURS, PICTURED_SEED)
        ),
        key=lambda line: line["suspect"],
    )
    if not lines:
        return
    columns = 4
    rows = math.ceil(len(lines) / columns)
    figure = Figure(figsize=(12, 2.4 * rows), layout="constrained")
    for axis, line in zip(figure.subplots(rows, columns, squeeze=False).flat, lines, strict=False):
        t, accuracy, success = zip(*line["curve"], strict=True)
        axis.plot(t, [100 * rate for rate in accuracy], marker="o", markersize=3, label="clean accuracy")
        axis.plot(t, [100 * rate for rate in success], marker="s", markersize=3, label="attack success rate")
        axis.axvline(line["t"], color="grey", linestyle=":", label="chosen t")
        axis.set(title=line["suspect"], ylim=(0, 102), xlabel="t", ylabel="%")
    for axis in figure.axes[len(lines) :]:
        axis.set_visible(False)
    figure.axes[0].legend(fontsize="x-small")
    keep_picture(figure, file, dpi=56)


def main() -> None:
    """Every table that the measured cells allow."""
    everything = LEDGER.read()
    small = {cell: line for cell, line in everything.items() if cell.data_set == CIFAR10.name}
    clean = {cell: line for cell, line in small.items() if cell.suspect == CLEAN}
    cells = {cell: line for cell, line in small.items() if cell.suspect not in (CLEAN, *OTHERS)}
    beyond = {cell: line for cell, line in everything.items() if cell not in clean | cells}
    settings = {
        "ACC, ASR": "per cent; lost and above floor in points; intervals are 95 % of the mean",
        "held-out images": 5000,
        "triggered images shown to the repair": 0,
        "threads of every cell": 1,
        "seeds that the method was not chosen on": "2 and above",
        "seconds": "beside another battery on the other core, some beside more",
        "commits of the cells": ", ".join(sorted({line["machine"]["commit"] for line in everything.values()})),
    }
    for name, rows in (
        ("by_size", by_size(cells)),
        ("by_attack", by_attack(clean | cells)),
        ("other_suspects", by_attack(beyond)),
        ("fronts", fronts(cells)),
        ("blind_choice", blind_choice(cells)),
        ("scans", scans(cells, clean)),
        ("speed", speed(cells)),
        ("two_suspects", two_suspects(cells)),
        ("claims", claims(everything)),
    ):
        if rows:
            keep(name, rows, settings)
    for images in TARGETS:
        draw(cells, images, RESULTS / f"curves-{images}.png")


if __name__ == "__main__":
    main()
