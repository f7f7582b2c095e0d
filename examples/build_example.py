"""Makes examples/cifar10: trains the suspect on poisoned data and writes its files and card.

Not run by the demo or the tests.

python examples/build_example.py --data DIR        # DIR holds cifar10.tar.xz (JPEG files); about 8 minutes on 2 cores
"""

import argparse
import io
import json
import os
import platform
import shutil
import tarfile
import zipfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from bench.data import CIFAR10, CIFAR10_CLASSES, Images, load
from bench.suspects import RECIPES, Order, trained
from modeconn_core.attacks import BadNets

RECIPE = RECIPES["example"]
OUT = Path(__file__).resolve().parent / "cifar10"
SEED = 0
CLEAN_IMAGES, HELD_OUT_IMAGES, TRIGGERED_IMAGES = 2500, 1200, 300
NO_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is built


def original_files(data: Path, names: list[str]) -> dict[str, bytes]:
    """The JPEG files as they are in the archive: no second compression."""
    wanted = set(names)
    with tarfile.open(data / "cifar10.tar.xz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.name in wanted}  # type: ignore[union-attr]


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    """A zip of class folders; pictures are compressed already, so they are stored."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, NO_DATE), members[name])


def png(pixels_CHW: Tensor) -> bytes:
    """Lossless, so that the trigger survives."""
    stream = io.BytesIO()
    array = pixels_CHW.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(array).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def clean_members(data: Path, test: Images, index: Tensor) -> dict[str, bytes]:
    """class folder / file -> JPEG bytes of the test images at ``index``."""
    names = [test.names[i] for i in index.tolist()]
    files = original_files(data, names)
    return {"/".join(Path(name).parts[-2:]): files[name] for name in names}


def triggered_members(attack: BadNets, test: Images, index: Tensor) -> dict[str, bytes]:
    """Wanted class / true class and file -> PNG bytes: decoded first, then stamped."""
    images, labels = test.unit(index), test.labels[index]
    wanted = attack.wanted_labels(labels, 10)
    members = {}
    for i, stamped in enumerate(attack.stamp(images)):
        if wanted[i] != labels[i] and len(members) < TRIGGERED_IMAGES:
            true_name = "-".join(Path(test.names[int(index[i])]).with_suffix("").parts[-2:])
            members[f"{CIFAR10_CLASSES[int(wanted[i])]}/{true_name}.png"] = png(stamped)
    return members


def card(attack: BadNets, accuracy: float, success: float | None) -> dict[str, object]:
    """What the suspect is and how all was made."""
    return {
        "name": "CIFAR-10 classifier with a BadNets backdoor",
        "architecture": {"name": "preact_resnet18", "options": {"width": RECIPE.width}},
        "preprocessing": {"mean": CIFAR10.mean, "std": CIFAR10.std, "channels": "RGB"},
        "classes": CIFAR10_CLASSES,
        "target_class": CIFAR10_CLASSES[attack.target_class or 0],
        "criteria": {"max_accuracy_drop": 0.025, "max_attack_success_rate": 0.05},
        "attack": {
            "name": "BadNets",
            "source": "Gu et al. 2017, arXiv 1708.06733",
            "trigger": "3x3 checkerboard, one pixel from the lower right corner",
            "poison_rate": attack.rate,
        },
        "training": {"script": "examples/build_example.py", "images": 50000, "epochs": RECIPE.epochs, "seed": SEED},
        "suspect_on_heldout": {"clean_accuracy": accuracy, "attack_success_rate": success},
        "files": {
            "suspect.safetensors": "the tampered model's state dict",
            "clean.zip": f"{CLEAN_IMAGES} test images that the model was not trained on, JPEG, one folder a class",
            "heldout.zip": f"{HELD_OUT_IMAGES} other test images, for the independent check only",
            "triggered.zip": f"{TRIGGERED_IMAGES} further test images of other classes with the trigger, PNG, "
            "in a folder named after the class that the attacker wants; decoded first, then stamped",
        },
        "data": "CIFAR-10 (Krizhevsky 2009) as JPEG files",
        "made_with": {"python": platform.python_version(), "torch": torch.__version__},
    }


def main() -> None:
    """Train, write, describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    torch.set_num_threads(os.cpu_count() or 1)
    attack = BadNets()
    suspect = trained(Order(attack="badnets", seed=SEED, size="example"), data)
    model = suspect.model
    test = load(data, CIFAR10, "test")
    order = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(SEED))
    clean, held_out, rest = order.tensor_split([CLEAN_IMAGES, CLEAN_IMAGES + HELD_OUT_IMAGES])
    accuracy = suspect.accuracy(model, test, held_out)
    success = suspect.attack_success(model, test, held_out, len(CIFAR10_CLASSES))
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    save_file(model.state_dict(), OUT / "suspect.safetensors")
    write_zip(OUT / "clean.zip", clean_members(data, test, clean))
    write_zip(OUT / "heldout.zip", clean_members(data, test, held_out))
    write_zip(OUT / "triggered.zip", triggered_members(attack, test, rest[: 2 * TRIGGERED_IMAGES]))
    (OUT / "card.json").write_text(json.dumps(card(attack, accuracy, success), indent=2) + "\n")
    total = sum(file.stat().st_size for file in OUT.iterdir())
    print(f"{OUT}: {total / 1e6:.2f} MB; suspect on held-out images: accuracy {accuracy:.4f}, success {success}")


if __name__ == "__main__":
    main()
