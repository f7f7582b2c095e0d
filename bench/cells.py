"""One measurement: a suspect, a clean set, a way of repair. Measured once and kept, line by line, in bench/results.

python -m bench.cells --data DIR --methods ours NAD --images 500 --seeds 0
python -m bench.cells --data DIR --data-set gtsrb32 --suspects badnets clean --images 500
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench import others
from bench.data import CIFAR10, DATA_SETS, Division, Images, divide, load
from bench.ledger import Ledger
from bench.peers import PEERS, Clean
from bench.peers.mcr import connect, fine_tuned_end
from bench.results import RESULTS, machine
from bench.suspects import CLEAN, Order, Suspect, trained
from modeconn_core import RepairConfig, RepairResult, repair
from modeconn_core.attacks import ATTACKS
from modeconn_core.batchnorm import Calibration
from modeconn_core.curve import FlatParameters
from modeconn_core.splits import split_clean

HELD_OUT = 5000  # test images for the figures; the clean set comes out of the others
CURVE_IMAGES = 2000  # of these, for the curve with the true trigger, which only the tables see
CURVE = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)  # the first is the suspect itself
OURS, TWO_SUSPECTS, FINE_TUNED_END = "ours", "MCR, two suspects", "MCR, fine-tuned end"
OURS_TWO_SUSPECTS = "ours, two suspects"
METHODS = (OURS, OURS_TWO_SUSPECTS, *PEERS, TWO_SUSPECTS, FINE_TUNED_END)
RELEARNING_IMAGES, RELEARNING_TRIGGERED, RELEARNING_BATCH = 250, 5, 50
RELEARNING_EPOCHS, RELEARNING_RATE = 5, 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What is measured."""

    suspect: str
    seed: int
    images: int
    method: str
    data_set: str = CIFAR10.name


LEDGER = Ledger(RESULTS / "cells.jsonl", Cell, ("data_set", "method", "suspect", "seed", "images"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What a cell works with: the suspect, the defender's clean set, the test images and who sees which."""

    suspect: Suspect
    clean: Clean
    test: Images
    division: Division

    def figures(self, model: nn.Module, index: Tensor | None = None) -> dict[str, float | None]:
        index = self.division.held_out if index is None else index
        return {
            "accuracy": self.suspect.accuracy(model, self.test, index),
            "success": self.suspect.attack_success(model, self.test, index, self.clean.classes),
        }


def suspect_of(cell: Cell, data: Path) -> Suspect:
    """One that others have made, or one of ours."""
    if cell.suspect in others.OTHERS:
        return others.read(cell.suspect, data)
    return trained(Order(attack=cell.suspect, seed=cell.seed, data_set=cell.data_set), data)


def enter(cell: Cell, data: Path) -> Room:
    data_set = DATA_SETS[cell.data_set]
    suspect, test = suspect_of(cell, data), load(data, data_set, "test")
    division = divide(test, images=cell.images, held_out=HELD_OUT, seed=cell.seed)
    clean = Clean(
        images=suspect.normalise(test.unit(division.clean)),
        labels=test.labels[division.clean],
        classes=len(data_set.classes),
        std=data_set.std if cell.suspect not in others.OTHERS else (1.0, 1.0, 1.0),
        mirror=data_set.mirror,
        seed=cell.seed,
    )
    return Room(suspect=suspect, clean=clean, test=test, division=division)


def measure(cell: Cell, data: Path, threads: int) -> dict[str, Any]:
    """Everything that the tables need to know about one cell."""
    torch.set_num_threads(threads)
    room = enter(cell, data)
    suspect = copy.deepcopy(room.suspect.model)
    start = time.perf_counter()
    facts: dict[str, Any] = {}
    if cell.method in (OURS, OURS_TWO_SUSPECTS):
        config = RepairConfig(seed=cell.seed, mirror=room.clean.mirror)
        second = _second_suspect(cell, data) if cell.method == OURS_TWO_SUSPECTS else None
        result = repair(suspect, room.clean.images, room.clean.labels, second_model=second, config=config)
        seconds = time.perf_counter() - start
        model = result.model
        facts = _about(result) | {"curve": _true_curve(result, room)}
    elif cell.method in PEERS:
        model = PEERS[cell.method](suspect, room.clean)
        seconds = time.perf_counter() - start
    else:
        model, facts = _paper(cell, room, data)
        seconds = facts.pop("seconds")
    return {
        **asdict(cell),
        **_beforehand(replace(cell, images=2, method=OURS), data),
        "after": room.figures(model),
        "relearned": _relearned(model, room),
        "seconds": round(seconds, 1),
        **facts,
        "machine": machine(),
    }


def _second_suspect(cell: Cell, data: Path) -> nn.Module:
    """The same attack by another training run."""
    return suspect_of(replace(cell, seed=cell.seed + 1), data).model


def _about(result: RepairResult) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "t": result.t,
        "flagged": [[finding.kind, finding.target_class] for finding in result.targets if finding.flagged],
        "stages": {stage: round(seconds, 2) for stage, seconds in result.seconds.items()},
    }
    if result.unaligned_curve is not None:
        coarse = [point for point in result.curve if not point.refined]
        facts["alignment"] = result.alignment
        facts["aligned_accuracy"] = [point.clean_accuracy for point in coarse]
        facts["unaligned_accuracy"] = [point.clean_accuracy for point in result.unaligned_curve]
    return facts


def _true_curve(result: RepairResult, room: Room) -> list[list[float | None]]:
    """[t, ACC, ASR] along the path with the true trigger: what the choice of t could not see."""
    work = copy.deepcopy(room.suspect.model)
    flat = FlatParameters(work)
    fit_images = room.clean.images[split_clean(room.clean.labels, held_out=0.4, seed=room.clean.seed).fit]
    calibration = Calibration(room.suspect.model, fit_images, mirror=room.clean.mirror, seed=room.clean.seed)
    points: list[list[float | None]] = []
    for t in CURVE:
        coefficients = result.path.write(t, flat.vector)
        calibration.apply(work, coefficients[0])
        figures = room.figures(work, room.division.held_out[:CURVE_IMAGES])
        points.append([t, figures["accuracy"], figures["success"]])
    return points


def _paper(cell: Cell, room: Room, data: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The paper's protocol; of its 31 values of t the one that suits it best, with the true trigger in sight."""
    start = time.perf_counter()
    if cell.method == TWO_SUSPECTS:
        second = _second_suspect(cell, data)
    else:
        second = fine_tuned_end(room.suspect.model, room.clean)
    fitted = connect(room.suspect.model, second, room.clean)
    best: tuple[float, float, dict[str, Any]] | None = None
    seconds = time.perf_counter() - start
    for t, model in fitted.points():
        figures = room.figures(model, room.division.held_out[:CURVE_IMAGES])
        score = (figures["accuracy"] or 0.0) - (figures["success"] or 0.0)
        if best is None or score > best[0]:
            best = (score, t, copy.deepcopy(model.state_dict()))
    assert best is not None
    model = copy.deepcopy(room.suspect.model)
    model.load_state_dict(best[2])
    return model.eval(), {"t": best[1], "seconds": seconds}


@cache
def _beforehand(cell: Cell, data: Path) -> dict[str, Any]:
    """The suspect's figures, and what the trigger does to a clean model of its recipe: the natural floor of the ASR."""
    room = enter(cell, data)
    floor, relearned = None, None
    if cell.suspect != CLEAN and cell.suspect not in others.OTHERS:
        honest = suspect_of(replace(cell, suspect=CLEAN), data).model
        floor, relearned = room.figures(honest)["success"], _relearned(honest, room)
    return {"before": room.figures(room.suspect.model), "floor": floor, "clean_model_relearned": relearned}


def _relearned(model: nn.Module, room: Room) -> dict[str, float | None] | None:
    """The figures after five epochs at rate .01 on RELEARNING_IMAGES, five of them triggered; BatchNorm is kept.

    On the five alone any model, never poisoned ones too, ends by answering nothing but the target class.
    """
    attack = room.suspect.attack
    if attack is None:
        return None
    # neither the clean set nor the held-out images: those between them
    generator = torch.Generator().manual_seed(1000 + room.clean.seed)
    spare = torch.randperm(len(room.test.labels), generator=generator)[-HELD_OUT - RELEARNING_IMAGES : -HELD_OUT]
    images, labels = room.test.unit(spare), room.test.labels[spare]
    stamped, wanted = attack.test_set(
        images[: RELEARNING_IMAGES // 2], labels[: RELEARNING_IMAGES // 2], room.clean.classes
    )
    x = room.suspect.normalise(torch.cat([stamped[:RELEARNING_TRIGGERED], images[RELEARNING_TRIGGERED:]]))
    y = torch.cat([wanted[:RELEARNING_TRIGGERED], labels[RELEARNING_TRIGGERED:]])
    model = copy.deepcopy(model).eval().requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=RELEARNING_RATE, momentum=0.9)
    for _ in range(RELEARNING_EPOCHS):
        for chosen in torch.randperm(len(x), generator=generator).split(RELEARNING_BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return room.figures(model, room.division.held_out[:CURVE_IMAGES])


def main() -> None:
    """Measure the cells that are missing, in processes of one thread each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz, gtsrb32.tar.xz, ibau/")
    parser.add_argument("--data-set", choices=list(DATA_SETS), default=CIFAR10.name)
    parser.add_argument("--suspects", nargs="+", choices=[*ATTACKS, CLEAN, *others.OTHERS], default=list(ATTACKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, nargs="+", default=[2500, 500, 250, 50])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[OURS])
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    wanted = [
        Cell(suspect=suspect, seed=seed, images=images, method=method, data_set=arguments.data_set)
        for seed, method, images, suspect in product(
            arguments.seeds, arguments.methods, arguments.images, arguments.suspects
        )
    ]
    LEDGER.measure(wanted, measure, arguments.data, processes=arguments.processes, again=arguments.again)


if __name__ == "__main__":
    main()
