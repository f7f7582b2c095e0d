"""Adversarially trained models, the robust ends of the paper's section 5 (Madry et al. 2018, arXiv 1706.06083).

python -m bench.adversarial --data DIR --seeds 0
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from bench.data import CACHE, DATA_SETS, DataSet, Images, load
from bench.suspects import CLEAN, Order, new_model
from modeconn_core import PgdSettings
from modeconn_core.augment import random_crop_and_mirror
from modeconn_core.device import autocast, choose_device
from modeconn_core.metrics import evaluate
from modeconn_core.robustness import ImageBox, pgd

ATTACK = PgdSettings(steps=2, step_size=6 / 255)  # in training: few steps, each as long as needed to cross the ball
STEPS, BATCH, PEAK_RATE, WEIGHT_DECAY = 2000, 128, 0.15, 5e-4
REPORT_EVERY = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """Random crops of a training set's images, normalised."""

    training: Images
    data_set: DataSet
    generator: torch.Generator

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(len(self.training.labels), (BATCH,), generator=self.generator)
        x = random_crop_and_mirror(
            self.training.unit(chosen), padding=4, mirror=self.data_set.mirror, generator=self.generator
        )
        return self.data_set.normalise(x).contiguous(memory_format=torch.channels_last), self.training.labels[chosen]


def adversarially_trained(order: Order, data: Path) -> nn.Module:
    """A model of the order's architecture trained on PGD examples of itself; from the cache where it is there."""
    file = CACHE / f"{order.stem}-robust.safetensors"
    model = new_model(order)
    if not file.exists():
        save_file(train(order, data).state_dict(), file)
    model.load_state_dict(load_file(file))
    return model.eval()


def train(order: Order, data: Path) -> nn.Module:
    """STEPS batches under one cycle of the rate; the attacked batch is all that the model learns from."""
    data_set = DATA_SETS[order.data_set]
    box = ImageBox(mean=data_set.mean, std=data_set.std)
    device = choose_device("auto")
    torch.manual_seed(order.seed)
    model = new_model(order).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=PEAK_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=STEPS)
    generator = torch.Generator().manual_seed(order.seed)
    batches = Batches(training=load(data, data_set, "train"), data_set=data_set, generator=generator)
    for step in range(STEPS):
        x_BCHW, labels_B = (part.to(device) for part in batches.draw())
        attacked = pgd(model.eval(), x_BCHW, labels_B, ATTACK, box, generator)
        model.train()
        with autocast(device):
            outputs = model(attacked)
        loss = F.cross_entropy(outputs.float(), labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % REPORT_EVERY == 0:
            print(f"step {step + 1} of {STEPS}: loss under attack {loss.item():.3f}", flush=True)
    return model.eval().cpu().to(memory_format=torch.contiguous_format)


def main() -> None:
    """Train what is missing, and say how accurate and how robust it is on 1,000 test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.tar.xz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for seed in arguments.seeds:
        order = Order(attack=CLEAN, seed=seed)
        model = adversarially_trained(order, arguments.data)
        data_set = DATA_SETS[order.data_set]
        test, some = load(arguments.data, data_set, "test"), torch.arange(1000)
        x, labels = data_set.normalise(test.unit(some)), test.labels[some]
        box = ImageBox(mean=data_set.mean, std=data_set.std)
        attacked = pgd(model, x, labels, PgdSettings(), box, torch.Generator().manual_seed(seed))
        print(
            f"seed {seed}: accuracy {evaluate(model, x, labels).rate:.3f}, "
            f"under PGD {evaluate(model, attacked, labels).rate:.3f}"
        )


if __name__ == "__main__":
    main()
