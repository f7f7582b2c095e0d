"""What a step of the path's fit costs beside a plain SGD step.

Both have the same model, batch and precision, and are interleaved in one run.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from bench.results import keep
from modeconn_core.architectures import build
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.device import choose_device
from modeconn_core.distillation import training_set
from modeconn_core.fit import Batch, FitSettings, PathFit

MODELS: dict[str, Callable[[], nn.Module]] = {
    "preact_resnet18 width 16": lambda: build("preact_resnet18", 10, width=16),
    "vgg16_bn_cifar": lambda: build("vgg16_bn_cifar", 10),
}


def timed(action: Callable[[], object]) -> float:
    """Seconds of one call, the device's queue emptied."""
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """The step that anybody writes."""
    loss = batch.loss(model)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def ratio(name: str, rounds: int) -> dict[str, float | str]:
    """Median path step over median plain step. The two take turns, so that a busy machine disturbs both alike."""
    device = choose_device("auto")
    torch.manual_seed(0)
    suspect = MODELS[name]().to(device, memory_format=torch.channels_last).train()
    images = torch.randn(512, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    settings = FitSettings(rate=1e-3, steps=10 * rounds)
    labels = torch.randint(0, 10, (512,), device=device)
    data = training_set([suspect.eval()], images, labels, classes=10, settings=settings, seed=0)
    suspect.train()
    plain = copy.deepcopy(suspect)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    state = {key: value.clone() for key, value in suspect.state_dict().items()}
    flat = FlatParameters(suspect)
    path = ModePath.between(flat, state, state, kind="bezier", bends=1)
    fit = PathFit(suspect, flat, path, data, settings, 0)
    batch = data.batch(settings, 0, 0)
    plain_seconds, path_seconds = [], []
    for i in range(rounds + 3):
        pair = (timed(lambda: plain_step(plain, optimizer, batch)), timed(lambda: fit.step_on(batch)))
        if i >= 3:
            plain_seconds.append(pair[0])
            path_seconds.append(pair[1])
    return {
        "model": name,
        "plain step, ms": round(1000 * statistics.median(plain_seconds), 1),
        "path step, ms": round(1000 * statistics.median(path_seconds), 1),
        "ratio": round(statistics.median(path_seconds) / statistics.median(plain_seconds), 3),
    }


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(os.cpu_count() or 1)
    keep("step_cost", [ratio(name, rounds) for name in MODELS], {"batch": 128, "bends": 1, "rounds": rounds})


if __name__ == "__main__":
    main()
