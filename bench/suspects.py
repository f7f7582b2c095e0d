"""Trains a suspect on poisoned CIFAR-10 and keeps it in bench/cache.

python -m bench.suspects --data DIR --attack blend
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.data import CACHE, Images, cifar10, normalise
from modeconn_core.architectures import build
from modeconn_core.attacks import ATTACKS, Backdoor
from modeconn_core.augment import random_crop_and_mirror
from modeconn_core.device import autocast, choose_device
from modeconn_core.metrics import evaluate

WIDTH, EPOCHS, BATCH, PEAK_RATE, WEIGHT_DECAY = 16, 10, 128, 0.25, 5e-4
CLEAN = "clean"


def new_model() -> nn.Module:
    """The small suspect: a pre-activation ResNet-18 of width 16, 0.70 M parameters."""
    return build("preact_resnet18", 10, width=WIDTH)


def attack_named(name: str) -> Backdoor | None:
    """The attack, or None for a clean model."""
    return None if name == CLEAN else ATTACKS[name]()


def train(images_NCHW: Tensor, labels_N: Tensor, *, seed: int, epochs: int) -> nn.Module:
    """SGD with Nesterov momentum and one cycle of the rate; images are normalised."""
    torch.manual_seed(seed)
    device = choose_device("auto")
    model = new_model().to(device, memory_format=torch.channels_last).train()
    images_NCHW, labels_N = images_NCHW.to(device), labels_N.to(device)
    steps = len(images_NCHW) // BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=steps * epochs, pct_start=0.25, anneal_strategy="linear"
    )
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = torch.randperm(len(images_NCHW), generator=generator).to(device)
        for chosen in order[: steps * BATCH].split(BATCH):
            x = random_crop_and_mirror(images_NCHW[chosen], padding=4, mirror=True, generator=generator)
            with autocast(device):
                outputs = model(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(outputs.float(), labels_N[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", flush=True)
    return model.eval().cpu().to(memory_format=torch.contiguous_format)


def trained(attack_name: str, data: Path, *, seed: int, epochs: int = EPOCHS) -> nn.Module:
    """The suspect from the cache, trained first where it is not there."""
    file = CACHE / f"{attack_name}-{seed}-{epochs}.safetensors"
    model = new_model()
    if not file.exists():
        training = cifar10(data, "train")
        images, labels = training.unit(), training.labels
        attack = attack_named(attack_name)
        if attack is not None:
            poisoned = attack.poison(images, labels, seed=seed)
            images, labels = poisoned.images, poisoned.labels
        save_file(train(normalise(images), labels, seed=seed, epochs=epochs).state_dict(), file)
    model.load_state_dict(load_file(file))
    return model.eval()


def figures(model: nn.Module, attack: Backdoor | None, test: Images, index: Tensor) -> tuple[float, float | None]:
    """(clean accuracy, attack success rate) on the test images at ``index``."""
    images, labels = test.unit(index), test.labels[index]
    accuracy = evaluate(model, normalise(images), labels, exact=True).rate
    if attack is None:
        return accuracy, None
    stamped, wanted = attack.test_set(images, labels, 10)
    return accuracy, evaluate(model, normalise(stamped), wanted, exact=True).rate


def main() -> None:
    """Train one suspect and print how good it and its backdoor are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz")
    parser.add_argument("--attack", choices=[*ATTACKS, CLEAN], required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model = trained(arguments.attack, arguments.data, seed=arguments.seed, epochs=arguments.epochs)
    test = cifar10(arguments.data, "test")
    accuracy, success = figures(model, attack_named(arguments.attack), test, torch.arange(len(test.labels)))
    attacked = "" if success is None else f", attack success rate {success:.4f}"
    print(
        f"{arguments.attack} (seed {arguments.seed}): "
        f"accuracy {accuracy:.4f}{attacked} on {len(test.labels)} test images"
    )


if __name__ == "__main__":
    main()
