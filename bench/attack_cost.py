"""What a step of PGD and of the eigenvalue iteration cost beside the bare passes through the network.

Both have the same model, batch and precision, and are interleaved in one run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data import CIFAR10
from bench.results import keep
from modeconn_core import EigenSettings, ImageBox, PgdSettings
from modeconn_core.architectures import build
from modeconn_core.device import autocast, choose_device
from modeconn_core.hessian import BATCH, largest_eigenvalues
from modeconn_core.robustness import frozen, pgd

IMAGES = 100  # of a step of PGD
ITERATIONS = 8  # fewer than any image needs at this tolerance, so that all of them are carried out
ATTACKS = (PgdSettings(), PgdSettings(norm="l2", epsilon=0.5, step_size=0.1))
EIGEN = EigenSettings(iterations=ITERATIONS, tolerance=1e-12)
BOX = ImageBox(mean=CIFAR10.mean, std=CIFAR10.std)


def seconds(action: Callable[[], object]) -> float:
    """Of one call. On a CPU those that this process computed: a busy machine only makes the others longer."""
    if not torch.cuda.is_available():
        start = time.process_time()
        action()
        return time.process_time() - start
    start = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def bare_gradients(model: nn.Module, x_BCHW: Tensor, labels_B: Tensor, times: int) -> None:
    """Forward, and backward to the images only, as anybody would write it."""
    images = x_BCHW.clone().requires_grad_(True)
    for _ in range(times):
        with autocast(images.device):
            outputs = model(images)
        torch.autograd.grad(F.cross_entropy(outputs.float(), labels_B, reduction="sum"), images)


def bare_double_backwards(model: nn.Module, x_BCHW: Tensor, labels_B: Tensor, times: int) -> None:
    """The gradient with a graph behind it, and ``times`` products of the Hessian with a vector."""
    images = x_BCHW.clone().requires_grad_(True)
    loss = F.cross_entropy(model(images), labels_B, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
    vector = torch.randn_like(images)
    for _ in range(times):
        torch.autograd.grad(gradient, images, vector, retain_graph=True)


def eigenvalues(model: nn.Module, x_BCHW: Tensor, labels_B: Tensor, generator: torch.Generator) -> None:
    """Every iteration for every image. Raises RuntimeError where one ended early: its cost would look too low."""
    if largest_eigenvalues(model, x_BCHW, labels_B, EIGEN, BOX, generator).converged.any():
        raise RuntimeError(f"some images converged within {ITERATIONS} iterations: the cost of one is not known")


def compare(work: str, bare: Callable[[], None], ours: Callable[[], object], parts: int, rounds: int) -> dict[str, Any]:
    """Medians of both, each divided into ``parts``. They take turns, so that a busy machine disturbs both alike."""
    pairs = [(seconds(bare), seconds(ours)) for _ in range(rounds + 1)][1:]
    bare_ms, our_ms = (1000 * statistics.median(some) / parts for some in zip(*pairs, strict=True))
    return {
        "work": work,
        "bare passes, ms": round(bare_ms, 2),
        "ours, ms": round(our_ms, 2),
        "ratio": round(our_ms / bare_ms, 3),
    }


def measure(rounds: int) -> list[dict[str, Any]]:
    """One row for each norm of the attack, one for the Hessian."""
    device = choose_device("auto")
    torch.manual_seed(0)
    model = build("preact_resnet18", 10, width=16).to(device, memory_format=torch.channels_last).eval()
    x = BOX.to_model(torch.rand(IMAGES, 3, 32, 32, device=device)).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (IMAGES,), device=device)
    generator = torch.Generator().manual_seed(0)
    rows = []
    with frozen(model):
        for attack in ATTACKS:
            rows.append(
                compare(
                    f"a step of PGD ({attack.norm}), {IMAGES} images",
                    partial(bare_gradients, model, x, labels, attack.steps),
                    partial(pgd, model, x, labels, attack, BOX, generator),
                    attack.steps,
                    rounds,
                )
            )
        some, some_labels = x[:BATCH], labels[:BATCH]
        rows.append(
            compare(
                "an iteration for one image's eigenvalue",
                partial(bare_double_backwards, model, some, some_labels, ITERATIONS),
                partial(eigenvalues, model, some, some_labels, generator),
                ITERATIONS * BATCH,
                rounds,
            )
        )
    return rows


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    settings = {
        "model": "preact_resnet18 width 16",
        "PGD": f"{ATTACKS[0].steps} steps, start included, shared out over the steps",
        "eigenvalue": f"{ITERATIONS} iterations on {BATCH} images; the bare passes build the same graph once, too",
        "time": "CPU seconds of the process; on a GPU those of the clock",
        "rounds": rounds,
    }
    keep("attack_cost", measure(rounds), settings)


if __name__ == "__main__":
    main()
