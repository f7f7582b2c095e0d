"""Repairs suspects blind and measures them on images that the repair never got: python -m bench.repairs --data DIR."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch

from bench.data import CIFAR10_CLASSES, Images, cifar10, normalise
from bench.results import keep
from bench.suspects import CLEAN, EPOCHS, attack_named, figures, trained
from modeconn_core import RepairConfig, repair
from modeconn_core.attacks import ATTACKS

HELD_OUT = 5000  # test images for the figures; the clean set comes out of the others


def percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f}"


def row(name: str, data: Path, test: Images, *, images: int, seed: int, epochs: int) -> dict[str, Any]:
    """Repair one suspect without showing it any triggered image.

    Every figure is on the held-out half of the test images.
    """
    order = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(1000 + seed))
    clean, held_out = order[:images], order[-HELD_OUT:]
    suspect, attack = trained(name, data, seed=seed, epochs=epochs), attack_named(name)
    accuracy, success = figures(suspect, attack, test, held_out)
    start = time.perf_counter()
    result = repair(suspect, normalise(test.unit(clean)), test.labels[clean], config=RepairConfig(seed=seed))
    seconds = time.perf_counter() - start
    accuracy_after, success_after = figures(result.model, attack, test, held_out)
    flagged = [CIFAR10_CLASSES[finding.target_class] for finding in result.targets if finding.flagged]
    return {
        "suspect": name,
        "seed": seed,
        "ACC before": percent(accuracy),
        "ASR before": percent(success),
        "ACC after": percent(accuracy_after),
        "ASR after": percent(success_after),
        "ACC lost, points": f"{100 * (accuracy - accuracy_after):.2f}",
        "t": result.t,
        "flagged": ", ".join(flagged) or "nothing",
        "seconds": round(seconds),
    }


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz")
    parser.add_argument("--suspects", nargs="+", choices=[*ATTACKS, CLEAN], default=["badnets", "blend", "sig", CLEAN])
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--table", default="repairs", help="name of the table in bench/results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the suspects' training")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    test = cifar10(arguments.data, "test")
    rows = [
        row(name, arguments.data, test, images=arguments.images, seed=seed, epochs=arguments.epochs)
        for name in arguments.suspects
        for seed in arguments.seeds
    ]
    settings = {
        "clean images": arguments.images,
        "held-out images": HELD_OUT,
        "triggered images shown to the repair": 0,
        "epochs of the suspects": arguments.epochs,
    }
    keep(arguments.table, rows, settings)


if __name__ == "__main__":
    main()
