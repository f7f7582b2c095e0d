"""Trains suspects on poisoned data and keeps them in bench/cache; reads suspects made by others.

python -m bench.suspects --data DIR --attacks blend sig --seeds 0 1
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.data import CACHE, DATA_SETS, DataSet, Images, load
from modeconn_core.architectures import build
from modeconn_core.attacks import ATTACKS, Backdoor, DataPoisoning, JointlyTrained
from modeconn_core.augment import random_crop_and_mirror
from modeconn_core.device import autocast, choose_device
from modeconn_core.metrics import evaluate

CLEAN = "clean"
EPOCH_IMAGES = 50_000  # that a recipe counts as an epoch: all of CIFAR-10
SURROGATE_SEED = 100  # the attackers' own clean model
Size = Literal["small", "full", "example"]  # the last is that of examples/cifar10


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a suspect is trained: SGD with Nesterov momentum, one cycle of the rate, crops and mirroring.

    epochs: over as many images as CIFAR-10 has; over fewer as many more, so that a model takes the same steps.
    """

    epochs: int
    batch_size: int
    peak_rate: float
    weight_decay: float
    width: int


RECIPES: dict[Size, Recipe] = {
    "small": Recipe(epochs=5, batch_size=64, peak_rate=0.12, weight_decay=5e-4, width=16),
    "example": Recipe(epochs=10, batch_size=128, peak_rate=0.25, weight_decay=5e-4, width=16),
    "full": Recipe(epochs=60, batch_size=128, peak_rate=0.2, weight_decay=5e-4, width=64),
}
# What a small model with a short training needs for a backdoor that works, or what two cores can do of a search
SMALL_ATTACKS: dict[str, dict[str, Any]] = {
    "input-aware": {"width": 8, "mask_steps": 300},
    "input-aware-all-to-all": {"width": 8, "mask_steps": 300},
    "label-consistent": {"share": 0.8, "steps": 10},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Which suspect: everything that its file's name says."""

    attack: str
    seed: int
    data_set: str = "cifar10"
    architecture: str = "preact_resnet18"
    size: Size = "small"

    @property
    def stem(self) -> str:
        return f"{self.data_set}-{self.architecture}-{self.size}-{self.attack}-{self.seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A model (in eval mode) with its attack, None for a clean one, and how its images are normalised."""

    name: str
    model: nn.Module
    attack: Backdoor | None
    normalise: Callable[[Tensor], Tensor]

    def accuracy(self, model: nn.Module, test: Images, index: Tensor) -> float:
        """Clean accuracy of a (repaired) model on the test images at ``index``."""
        return evaluate(model, self.normalise(test.unit(index)), test.labels[index], exact=True).rate

    def attack_success(self, model: nn.Module, test: Images, index: Tensor, classes: int) -> float | None:
        """ASR of this suspect's attack on a (repaired) model; images of the wanted class are left out."""
        if self.attack is None:
            return None
        stamped, wanted = self.attack.test_set(test.unit(index), test.labels[index], classes)
        return evaluate(model, self.normalise(stamped), wanted, exact=True).rate


def new_model(order: Order) -> nn.Module:
    """An untrained model; the small one is a pre-activation ResNet-18 of width 16, 0.70 M parameters."""
    options = {"width": RECIPES[order.size].width} if order.architecture.startswith("preact_resnet") else {}
    return build(order.architecture, len(DATA_SETS[order.data_set].classes), **options)


def new_attack(order: Order) -> Backdoor | None:
    """The attack before any search, or None for a clean model."""
    if order.attack == CLEAN:
        return None
    options = dict(SMALL_ATTACKS.get(order.attack, {})) if order.size == "small" else {}
    if order.attack.endswith("all-to-all"):
        options["classes"] = len(DATA_SETS[order.data_set].classes)
    return ATTACKS[order.attack](**options)


def train(
    model: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    *,
    data_set: DataSet,
    recipe: Recipe,
    seed: int,
    joint: JointlyTrained | None = None,
) -> nn.Module:
    """Train on images in [0, 1]; ``joint`` poisons the batches, for attacks that learn their trigger on the way."""
    torch.manual_seed(seed)
    device = choose_device("auto")
    model = model.to(device, memory_format=torch.channels_last).train()
    images_NCHW, labels_N = images_NCHW.to(device), labels_N.to(device)
    steps = len(images_NCHW) // recipe.batch_size
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_rate, total_steps=steps * recipe.epochs, pct_start=0.25, anneal_strategy="linear"
    )
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(images_NCHW), generator=generator).to(device)
        for chosen in order[: steps * recipe.batch_size].split(recipe.batch_size):
            x = random_crop_and_mirror(images_NCHW[chosen], padding=4, mirror=data_set.mirror, generator=generator)
            targets = labels_N[chosen]
            extra = torch.zeros((), device=device)
            if joint is not None:
                x, targets, extra = joint.poison_batch(x, targets)
            with autocast(device):
                outputs = model(data_set.normalise(x).contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(outputs.float(), targets)
            optimizer.zero_grad()
            (loss + extra).backward()
            optimizer.step()
            schedule.step()
            if joint is not None:
                joint.step()
        print(f"epoch {epoch + 1} of {recipe.epochs}: loss {loss.item():.3f}", flush=True)
    return model.eval().cpu().to(memory_format=torch.contiguous_format)


class _Surrogate(nn.Module):
    """The attackers' clean model, taking images in [0, 1]."""

    def __init__(self, model: nn.Module, data_set: DataSet) -> None:
        super().__init__()
        self.model, self.data_set = model, data_set

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.data_set.normalise(x))


def trained(order: Order, data: Path) -> Suspect:
    """The suspect from the cache, trained first where it is not there."""
    file = CACHE / f"{order.stem}.safetensors"
    data_set = DATA_SETS[order.data_set]
    attack, model = new_attack(order), new_model(order)
    if not file.exists():
        torch.manual_seed(order.seed)
        training = load(data, data_set, "train")
        images, labels = training.unit(), training.labels
        if attack is not None:
            surrogate = None
            if attack.needs_surrogate:
                clean = trained(replace(order, attack=CLEAN, seed=SURROGATE_SEED), data)
                surrogate = _Surrogate(clean.model.requires_grad_(False), data_set).eval()
            attack.prepare(surrogate, images, labels, seed=order.seed)
            if isinstance(attack, DataPoisoning):
                poisoned = attack.poison(images, labels, seed=order.seed)
                images, labels = poisoned.images, poisoned.labels
        recipe = RECIPES[order.size]
        model = train(
            model,
            images,
            labels,
            data_set=data_set,
            recipe=replace(recipe, epochs=round(recipe.epochs * EPOCH_IMAGES / len(training.labels))),
            seed=order.seed,
            joint=attack if isinstance(attack, JointlyTrained) else None,
        )
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        if attack is not None:
            tensors |= {f"attack.{name}": tensor for name, tensor in attack.state_dict().items()}
        save_file(tensors, file)
    stored = load_file(file)
    model.load_state_dict(_part(stored, "model."))
    if attack is not None:
        attack.load_state_dict(_part(stored, "attack."))
    return Suspect(name=order.attack, model=model.eval(), attack=attack, normalise=data_set.normalise)


def _part(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}


@cache
def _test_set(data: Path, name: str) -> Images:
    return load(data, DATA_SETS[name], "test")


def _train_and_measure(order: Order, data: Path, threads: int) -> str:
    torch.set_num_threads(threads)
    suspect = trained(order, data)
    test = _test_set(data, order.data_set)
    everything = torch.arange(len(test.labels))
    success = suspect.attack_success(suspect.model, test, everything, len(DATA_SETS[order.data_set].classes))
    attacked = "" if success is None else f", attack success rate {success:.4f}"
    return f"{order.stem}: accuracy {suspect.accuracy(suspect.model, test, everything):.4f}{attacked}"


def train_all(orders: Sequence[Order], data: Path, *, processes: int) -> None:
    """Train what is missing, in processes of one thread each: on a CPU that does half as much again as threads do."""
    surrogates = {replace(order, attack=CLEAN, seed=SURROGATE_SEED) for order in orders if _wants_surrogate(order)}
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for part in (sorted(surrogates, key=lambda order: order.stem), orders):
            for line in pool.map(_train_and_measure, part, [data] * len(part), [threads] * len(part)):
                print(line, flush=True)


def _wants_surrogate(order: Order) -> bool:
    attack = new_attack(order)
    return attack is not None and attack.needs_surrogate


def main() -> None:
    """Train suspects and print how good they and their backdoors are, on all test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz, gtsrb32.tar.xz, ibau/")
    parser.add_argument("--attacks", nargs="+", choices=[*ATTACKS, CLEAN], default=[*ATTACKS, CLEAN])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data-set", choices=list(DATA_SETS), default="cifar10")
    parser.add_argument("--architecture", default="preact_resnet18")
    parser.add_argument("--size", choices=list(RECIPES), default="small")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    orders = [
        Order(
            attack=attack,
            seed=seed,
            data_set=arguments.data_set,
            architecture=arguments.architecture,
            size=arguments.size,
        )
        for seed in arguments.seeds
        for attack in arguments.attacks
    ]
    train_all(orders, arguments.data, processes=arguments.processes)


if __name__ == "__main__":
    main()
