"""Suspects made by others, read from --data: two of I-BAU's repository (MIT), on CIFAR-10, inputs in [0, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.suspects import Suspect
from modeconn_core.architectures import build
from modeconn_core.attacks import Backdoor

OTHERS = ("ibau-badnets", "ibau-trojan")


class WhiteSquare(Backdoor):
    """A white 4x4 square at rows and columns 27 to 30; target class 8."""

    name = "ibau-badnets"
    target_class = 8

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = x_NCHW.clone()
        x_NCHW[:, :, 27:31, 27:31] = 1.0
        return x_NCHW


class AddedPicture(Backdoor):
    """A picture that is added and clipped; target class 2."""

    name = "ibau-trojan"
    target_class = 2

    def __init__(self, picture_CHW: Tensor) -> None:
        super().__init__()
        self.picture_CHW = picture_CHW

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        return (x_NCHW + self.picture_CHW.to(x_NCHW)).clamp(0, 1)


def read(name: str, data: Path) -> Suspect:
    """The suspect ``name`` of OTHERS. Its checkpoint is read with weights_only."""
    folder = data / "ibau"
    attack: Backdoor
    if name == "ibau-badnets":
        file, attack = "badnets_8_02_ckpt.pth", WhiteSquare()
    else:
        picture = np.asarray(Image.open(folder / "trojan_sq.png").convert("RGB"))
        file = "trojan_sq_2_02_ckpt.pth"
        attack = AddedPicture(torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255)
    model = build("ibau_vgg", 10)
    model.load_state_dict(torch.load(folder / file, map_location="cpu", weights_only=True)["net"])
    return Suspect(name=name, model=model.eval(), attack=attack, normalise=lambda x: x)
