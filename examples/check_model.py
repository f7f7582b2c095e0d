"""Checks a weights file as its owner would: own network, held-out images, no service. Prints JSON.

    python examples/check_model.py repaired.safetensors examples/cifar10/card.json heldout.zip triggered.zip

Clean accuracy is the share of the held-out images that get their own class. The attack success rate (ASR) is the share
of the triggered images, whose true class is another one, that get the class the attacker wants (the folder's name).
"""

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from network import PreActResNet18
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor


def read_zip(path: Path, classes: list[str], mean: list[float], std: list[float]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W), normalised, and the class index of the folder each lies in."""
    images, labels = [], []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(name for name in archive.namelist() if not name.endswith("/")):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                images.append(np.asarray(image.convert("RGB")))
            labels.append(classes.index(Path(name).parent.name))
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1), torch.tensor(labels)


@torch.inference_mode()
def share_predicted(model: torch.nn.Module, images: Tensor, wanted: Tensor) -> float:
    """The share of images that get the wanted class."""
    predicted = torch.cat([model(batch).argmax(1) for batch in images.split(250)])
    return (predicted == wanted).float().mean().item()


def main(weights: Path, card_path: Path, heldout: Path, triggered: Path) -> None:
    """Loads the weights strictly and measures both figures."""
    card = json.loads(card_path.read_text())
    how = card["preprocessing"]
    model = PreActResNet18(len(card["classes"]), card["architecture"]["options"]["width"])
    model.load_state_dict(load_file(weights), strict=True)
    model.eval()
    clean, labels = read_zip(heldout, card["classes"], how["mean"], how["std"])
    attacked, targets = read_zip(triggered, card["classes"], how["mean"], how["std"])
    figures = {
        "clean_accuracy": share_predicted(model, clean, labels),
        "attack_success_rate": share_predicted(model, attacked, targets),
        "clean_images": len(clean),
        "triggered_images": len(attacked),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
