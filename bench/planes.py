"""Draws the loss plane of repairs: accuracy and the true trigger's success over the plane of the ends and the bend.

python -m bench.planes --data DIR --suspects badnets sig
"""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path

import torch
from PIL import Image

from bench.cells import Cell, enter
from bench.data import CIFAR10
from bench.results import RESULTS, keep
from modeconn_core import RepairConfig, repair
from modeconn_core.attacks import ATTACKS
from worker.plane_plot import plane_png

CLEAN_IMAGES, POINTS, TRIGGERED = 500, 21, 300
COLOURS = 96  # of the pictures: few, for their size


def main() -> None:
    """One picture and one row per suspect. The triggered images measure; they do not choose t."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz")
    parser.add_argument("--suspects", nargs="+", choices=list(ATTACKS), default=["badnets"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = []
    for name in arguments.suspects:
        room = enter(Cell(suspect=name, seed=arguments.seed, images=CLEAN_IMAGES, method="ours"), arguments.data)
        index = room.division.held_out[:TRIGGERED]
        assert room.suspect.attack is not None
        stamped, wanted = room.suspect.attack.test_set(
            room.test.unit(index), room.test.labels[index], len(CIFAR10.classes)
        )
        result = repair(
            room.suspect.model,
            room.clean.images,
            room.clean.labels,
            triggered=(room.suspect.normalise(stamped), wanted),
            config=RepairConfig(seed=arguments.seed, plane=POINTS),
        )
        assert result.plane is not None
        picture = Image.open(io.BytesIO(plane_png(result.plane, "Attack success", "Attack success, estimated")))
        picture.quantize(COLOURS).save(RESULTS / f"plane-{name}.png", optimize=True)
        seconds = result.seconds
        rows.append(
            {
                "suspect": name,
                "chosen t": result.t,
                "highest accuracy in the plane, %": f"{100 * max(map(max, result.plane.accuracy)):.1f}",
                "seconds of the repair": round(sum(seconds.values())),
                "of them sweeping and plane": round(seconds["sweeping"] + seconds["selecting"]),
            }
        )
    keep("planes", rows, {"points": f"{POINTS} x {POINTS}", "clean images": CLEAN_IMAGES, "seed": arguments.seed})


if __name__ == "__main__":
    main()
