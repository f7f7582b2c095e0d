"""Draws docs/attacks.png: what every attack does to an image, and the change enlarged.

python -m bench.pictures --data DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from bench.data import CIFAR10, load
from bench.suspects import Order, trained
from modeconn_core.attacks import ATTACKS

mpl.use("agg")
FILE = Path(__file__).parents[1] / "docs" / "attacks.png"
IMAGES = (17, 5210, 9003)  # of the test set
ENLARGED = 4


def main() -> None:
    """One column per attack: images with the trigger, and what it changed on the first of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz")
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    arguments = parser.parse_args()
    x_NCHW = load(arguments.data, CIFAR10, "test").unit(torch.tensor(IMAGES))
    columns = {"no trigger": x_NCHW}
    for name in arguments.attacks:
        attack = trained(Order(attack=name, seed=0), arguments.data).attack
        assert attack is not None
        with torch.no_grad():
            columns[name] = attack.stamp(x_NCHW)
    rows = len(IMAGES) + 1
    figure = Figure(figsize=(1.25 * len(columns), 1.3 * rows), layout="constrained")
    axes = figure.subplots(rows, len(columns))
    for column, (name, stamped) in enumerate(columns.items()):
        change = (0.5 + ENLARGED * (stamped[:1] - x_NCHW[:1])).clamp(0, 1)
        for row, image_CHW in enumerate([*stamped, *change]):
            axes[row, column].imshow(image_CHW.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes[row, column].set_axis_off()
        axes[0, column].set_title(name.replace("-all-to-all", "\nall-to-all"), fontsize=7)
    figure.savefig(FILE, dpi=110)


if __name__ == "__main__":
    main()
