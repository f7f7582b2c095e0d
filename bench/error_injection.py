"""Models with injected errors, repaired: how many of the attacked images stay wrong (Zhao et al. 2020, section 4.2).

python -m bench.error_injection --data DIR --seeds 0
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data import CIFAR10, divide, load
from bench.ledger import Ledger, Line
from bench.peers import PEERS, Clean
from bench.results import RESULTS, keep, machine
from bench.suspects import CLEAN, Order, trained
from modeconn_core import RepairConfig, repair
from modeconn_core.attacks.bit_flips import flip_bits
from modeconn_core.attacks.error_injection import InjectionSettings, inject_errors
from modeconn_core.metrics import evaluate, predict

HELD_OUT, ATTACKED, KEPT = (
    5000,
    4,
    1000,
)  # images: for the figures, with injected errors, whose answers the attacker keeps
SIZES = (2500, 1000, 500, 250, 50)
OURS, OURS_GIVEN, NOISE, FINE_TUNING = "ours", "ours, images given", "noise", "fine-tuning"
METHODS = (OURS, OURS_GIVEN, FINE_TUNING, NOISE)
NOISE_LEVELS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of a tensor's own standard deviation
ALLOWED = 0.025  # of accuracy, for the noise as for a repair


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What is measured."""

    kind: str
    seed: int
    images: int
    method: str


LEDGER = Ledger(RESULTS / "error_injection.jsonl", Cell, ("method", "kind", "seed", "images"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tampered:
    """A model with injected errors: the attacked images (normalised), their own and the attacker's labels."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    wanted: Tensor


def last_layer(model: nn.Module, images: Tensor, labels: Tensor, chosen: Tensor, wanted: Tensor) -> nn.Module:
    """The paper's way: the weight of the classifier."""
    return inject_errors(model, images, labels, chosen, wanted)[0]


def two_tensors(model: nn.Module, images: Tensor, labels: Tensor, chosen: Tensor, wanted: Tensor) -> nn.Module:
    """The classifier and the last convolution."""
    names = [name for name, parameter in model.named_parameters() if parameter.dim() == 4]
    last = [name for name, parameter in model.named_parameters() if parameter.dim() == 2]
    settings = InjectionSettings(tensors=(names[-1], last[-1]))
    return inject_errors(model, images, labels, chosen, wanted, settings)[0]


def bits(model: nn.Module, images: Tensor, labels: Tensor, chosen: Tensor, wanted: Tensor) -> nn.Module:
    """A few flipped bits of the classifier's weights."""
    return flip_bits(model, images, labels, chosen, wanted)[0]


KINDS: dict[str, Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor], nn.Module]] = {
    "last layer": last_layer,
    "two tensors": two_tensors,
    "bit flips": bits,
}


@cache
def tampered(kind: str, seed: int, data: Path) -> Tampered:
    """Of the images that neither defender nor figures have, KEPT that the model knows; ATTACKED get another label."""
    model = trained(Order(attack=CLEAN, seed=seed), data).model
    test = load(data, CIFAR10, "test")
    division = divide(test, images=max(SIZES), held_out=HELD_OUT, seed=seed)
    used = torch.zeros(len(test.labels), dtype=torch.bool)
    used[division.clean] = used[division.held_out] = True
    spare = (~used).nonzero().squeeze(1)
    x = CIFAR10.normalise(test.unit(spare))
    known = (predict(model, x).argmax(dim=1) == test.labels[spare]).nonzero().squeeze(1)[:KEPT]
    images, labels = x[known], test.labels[spare[known]]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(labels), generator=generator)[:ATTACKED]
    shift = torch.randint(1, len(CIFAR10.classes), (ATTACKED,), generator=generator)
    wanted = (labels[chosen] + shift) % len(CIFAR10.classes)
    injected = KINDS[kind](model, images, labels, chosen, wanted)
    return Tampered(model=injected.eval(), images=images[chosen], labels=labels[chosen], wanted=wanted)


def measure(cell: Cell, data: Path, threads: int) -> dict[str, Any]:
    """The attacked images and the accuracy, before and after."""
    torch.set_num_threads(threads)
    case = tampered(cell.kind, cell.seed, data)
    test = load(data, CIFAR10, "test")
    division = divide(test, images=cell.images, held_out=HELD_OUT, seed=cell.seed)
    clean = Clean(
        images=CIFAR10.normalise(test.unit(division.clean)),
        labels=test.labels[division.clean],
        classes=len(CIFAR10.classes),
        std=CIFAR10.std,
        seed=cell.seed,
    )
    held_out = CIFAR10.normalise(test.unit(division.held_out)), test.labels[division.held_out]

    def figures(model: nn.Module) -> dict[str, float]:
        answers = predict(model, case.images, exact=True).argmax(dim=1)
        return {
            "accuracy": evaluate(model, *held_out, exact=True).rate,
            "attackers label": int((answers == case.wanted).sum()),
            "own label": int((answers == case.labels).sum()),
        }

    start = time.perf_counter()
    repaired, facts = _repaired(cell, case, clean)
    return {
        **asdict(cell),
        "before": figures(case.model),
        "after": figures(repaired),
        "seconds": round(time.perf_counter() - start, 1),
        **facts,
        "machine": machine(),
    }


def _repaired(cell: Cell, case: Tampered, clean: Clean) -> tuple[nn.Module, dict[str, Any]]:
    if cell.method == FINE_TUNING:
        return PEERS["fine-tuning"](copy.deepcopy(case.model), clean), {}
    if cell.method == NOISE:
        return _noisy(case.model, clean)
    given = (case.images, case.wanted) if cell.method == OURS_GIVEN else None
    config = RepairConfig(seed=cell.seed, tampering="error_injection", select_with_triggered=given is not None)
    result = repair(case.model, clean.images, clean.labels, triggered=given, config=config)
    return result.model, {"t": result.t, "warnings": result.warnings}


def _noisy(model: nn.Module, clean: Clean) -> tuple[nn.Module, dict[str, Any]]:
    """Gaussian noise on every weight tensor, as much as the clean images allow."""
    before = evaluate(model, clean.images, clean.labels).rate
    best, level_of = copy.deepcopy(model), 0.0
    for level in NOISE_LEVELS:
        noisy = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(clean.seed)
        with torch.no_grad():
            for parameter in noisy.parameters():
                if parameter.dim() > 1:
                    parameter += level * parameter.std() * torch.randn(parameter.shape, generator=generator)
        if before - evaluate(noisy, clean.images, clean.labels).rate > ALLOWED:
            break
        best, level_of = noisy, level
    return best, {"level": level_of}


def table(cells: dict[Cell, Line]) -> list[dict[str, Any]]:
    """One row per size and method, the kinds of injection together."""
    rows = []
    for images, method in product(SIZES, METHODS):
        lines = [line for cell, line in cells.items() if (cell.images, cell.method) == (images, method)]
        if not lines:
            continue
        rows.append(
            {
                "clean images": images,
                "method": method,
                "models": len(lines),
                "attacked images": ATTACKED * len(lines),
                "of them with the attacker's label": _change(lines, "attackers label"),
                "with their own label": _change(lines, "own label"),
                "accuracy, %": _change(lines, "accuracy"),
                "seconds": round(statistics.mean(line["seconds"] for line in lines), 1),
            }
        )
    return rows


def _change(lines: Sequence[Line], figure: str) -> str:
    """Before -> after: the sum of counts, the mean of rates in per cent."""
    pair = [[line[when][figure] for line in lines] for when in ("before", "after")]
    if figure == "accuracy":
        return " -> ".join(f"{100 * statistics.mean(rates):.1f}" for rates in pair)
    return " -> ".join(str(sum(counts)) for counts in pair)


def main() -> None:
    """Measure the cells that are missing, in processes of one thread each, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--images", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    wanted = [
        Cell(kind=kind, seed=seed, images=images, method=method)
        for seed, method, images, kind in product(arguments.seeds, arguments.methods, arguments.images, arguments.kinds)
    ]
    LEDGER.measure(wanted, measure, arguments.data, processes=arguments.processes)
    settings = {
        "attacked images": f"{ATTACKED} in each model; the attacker keeps {KEPT} others",
        "kinds of injection": ", ".join(sorted({cell.kind for cell in LEDGER.read()})),
        "ours, images given": "the attacked images choose t; all are counted",
        "noise": f"Gaussian, as strong as {100 * ALLOWED:g} points of accuracy on the clean images allow",
        "held-out images": HELD_OUT,
        "threads of every cell": 1,
    }
    keep("error_injection", table(LEDGER.read()), settings)


if __name__ == "__main__":
    main()
