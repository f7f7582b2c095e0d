"""Makes the models of the tour out of the example's suspect and clean images, as an attacker or a trainer would.

The jobs of the tour get other images (heldout.zip), so that no figure is taken on what a model was trained on.
"""

import copy
import io
import json
import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from check_model import read_zip
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modeconn_core import PgdSettings
from modeconn_core.architectures import build
from modeconn_core.attacks import BadNets
from modeconn_core.attacks.error_injection import inject_errors
from modeconn_core.augment import random_crop_and_mirror
from modeconn_core.device import autocast
from modeconn_core.metrics import predict
from modeconn_core.robustness import ImageBox, pgd
from modeconn_core.symmetry import find_symmetries, permute

EXAMPLE = Path(__file__).resolve().parent / "cifar10"
SEED = 0
BATCH = 128
RELEASE_STEPS, RELEASE_RATE, POISONED = 250, 0.1, 0.1
ROBUST_STEPS, ROBUST_RATE = 300, 0.05
TRAINING_ATTACK = PgdSettings(steps=3, step_size=4 / 255)
ERRORS, KEPT = 4, 1000  # images, as in the paper


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """The example suspect, the images that models are made with (normalised) and the others, and how both are fed."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    others: Tensor
    other_labels: Tensor
    classes: list[str]
    box: ImageBox


def read_example() -> Example:
    """From examples/cifar10."""
    card = json.loads((EXAMPLE / "card.json").read_text())
    classes, how = card["classes"], card["preprocessing"]
    model = build(card["architecture"]["name"], len(classes), **card["architecture"]["options"])
    model.load_state_dict(load_file(EXAMPLE / "suspect.safetensors"))
    images, labels = read_zip(EXAMPLE / "clean.zip", classes, how["mean"], how["std"])
    others, other_labels = read_zip(EXAMPLE / "heldout.zip", classes, how["mean"], how["std"])
    return Example(
        model=model.eval(),
        images=images,
        labels=labels,
        others=others,
        other_labels=other_labels,
        classes=classes,
        box=ImageBox(mean=tuple(how["mean"]), std=tuple(how["std"])),
    )


def second_release(example: Example) -> nn.Module:
    """What the same attacker might ship next: trained on, its channels elsewhere, the backdoor the same."""
    model = copy.deepcopy(example.model)
    symmetries = find_symmetries(model, example.images[:2])
    model.load_state_dict(permute(model.state_dict(), symmetries, seed=SEED + 1))
    unit = example.box.to_unit(example.images)
    poisoned = BadNets().relabel_some(unit, example.labels, rate=POISONED, classes=len(example.classes), seed=SEED)
    images = example.box.to_model(poisoned.images)
    return _train(model, images, poisoned.labels, steps=RELEASE_STEPS, rate=RELEASE_RATE)


def robust_model(example: Example) -> nn.Module:
    """The suspect after a short adversarial training."""
    model = copy.deepcopy(example.model)
    return _train(model, example.images, example.labels, steps=ROBUST_STEPS, rate=ROBUST_RATE, attacked_in=example.box)


def _train(
    model: nn.Module, images: Tensor, labels: Tensor, *, steps: int, rate: float, attacked_in: ImageBox | None = None
) -> nn.Module:
    """SGD under one cycle of the rate; on PGD examples of the model as it stands where `attacked_in` is given."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.to(memory_format=torch.channels_last)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,), generator=generator)
        x = random_crop_and_mirror(images[chosen], padding=4, mirror=True, generator=generator)
        x = x.contiguous(memory_format=torch.channels_last)
        if attacked_in is not None:
            x = pgd(model.eval(), x, labels[chosen], TRAINING_ATTACK, attacked_in, generator)
        model.train()
        with autocast(x.device):
            outputs = model(x)
        loss = nn.functional.cross_entropy(outputs.float(), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().to(memory_format=torch.contiguous_format)


def write_models(out: Path) -> None:
    """second-release.safetensors, robust.safetensors, injected.safetensors, and suspicious.zip with its four images."""
    example = read_example()
    torch.manual_seed(SEED)
    _save(second_release(example), out / "second-release.safetensors")
    _save(robust_model(example), out / "robust.safetensors")
    _inject(example, out)


def _inject(example: Example, out: Path) -> None:
    """Errors on images that the suspect knows; the folders of the zip are the labels that it now gives them."""
    known = (predict(example.model, example.images).argmax(dim=1) == example.labels).nonzero().squeeze(1)[:KEPT]
    images, labels = example.images[known], example.labels[known]
    chosen = torch.arange(ERRORS)
    wanted = (labels[chosen] + 1) % len(example.classes)
    injected, _ = inject_errors(example.model, images, labels, chosen, wanted)
    _save(injected, out / "injected.safetensors")
    with zipfile.ZipFile(out / "suspicious.zip", "w") as archive:
        for i, (image_CHW, label) in enumerate(zip(example.box.to_unit(images[chosen]), wanted, strict=True)):
            pixels = image_CHW.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            archive.writestr(f"{example.classes[int(label)]}/{i}.png", stream.getvalue())


def _save(model: nn.Module, file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    write_models(Path(sys.argv[1]))
