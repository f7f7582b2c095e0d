"""VGG networks with BatchNorm for small images, and the small VGG of the I-BAU project's published suspects.

Simonyan and Zisserman 2014, arXiv:1409.1556. Tensor names after the public checkpoints: `naming="kuangliu"` has one
linear layer `classifier` (also BackdoorBench's models/vgg.py), "chenyaofo" three at classifier.0, .3, .6, and
"chengyangfu" three at classifier.1, .4, .6.
"""

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.architectures.family import IN_CHANNELS, WIDTH_LIMIT, Family, Option, Options, Shapes

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
NAMINGS = ("kuangliu", "chenyaofo", "chengyangfu")


def _classifier(naming: str, inputs: int, num_classes: int) -> nn.Module:
    if naming == "kuangliu":
        return nn.Linear(inputs, num_classes)
    first, second, last = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs), nn.Linear(inputs, num_classes)
    if naming == "chenyaofo":
        return nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), last)
    return nn.Sequential(nn.Dropout(), first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), last)


class CifarVGG(nn.Module):
    """Five stages of width * (1, 2, 4, 8, 8) channels, each halved at its end.

    Inputs from 32x32 up: what is left after the last pooling is averaged (one pixel for 32x32, as published).
    """

    def __init__(self, depth: int, *, num_classes: int, width: int, in_channels: int, naming: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = in_channels
        for stage, count in enumerate(CONVOLUTIONS[depth]):
            for _ in range(count):
                outputs = width * min(8, 2**stage)
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = _classifier(naming, inputs, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.classifier(self.features(x_BCHW).mean((2, 3)))


class IbauVGG(nn.Module):
    """Six convolutions with BatchNorm and ELU, dropout after each pooling (Zeng et al. 2022, arXiv:2110.03735).

    32x32 inputs as published; what is left after the last pooling is averaged to 4x4, so larger inputs work too.
    """

    def __init__(self, *, num_classes: int, width: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = in_channels
        for outputs, dropout in ((width, 0.3), (2 * width, 0.4), (4 * width, 0.4)):
            for _ in range(2):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ELU()]
                inputs = outputs
            layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(16 * inputs, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x_BCHW), 4).flatten(1))


def _stem(shapes: Shapes, convolutions: int) -> Options | None:
    """Width and input channels, if there are exactly this many convolutions under `features`."""
    stem = shapes.get("features.0.weight", ())
    found = sum(name.startswith("features.") and len(shape) == 4 for name, shape in shapes.items())
    return {"width": stem[0], "in_channels": stem[1]} if len(stem) == 4 and found == convolutions else None


def _guess(shapes: Shapes, depth: int) -> Iterator[Options]:
    stem = _stem(shapes, sum(CONVOLUTIONS[depth]))
    if stem is None or "features.1.running_mean" not in shapes:
        return
    if "classifier.weight" in shapes:
        yield {**stem, "naming": "kuangliu"}
    else:
        yield {**stem, "naming": "chenyaofo" if "classifier.0.weight" in shapes else "chengyangfu"}


def _guess_ibau(shapes: Shapes) -> Iterator[Options]:
    stem = _stem(shapes, 6)
    if stem is not None and "classifier.weight" in shapes:
        yield stem


def _family(depth: int) -> Family:
    def make(num_classes: int, width: int = 64, in_channels: int = 3, naming: str = "kuangliu") -> nn.Module:
        return CifarVGG(depth, num_classes=num_classes, width=width, in_channels=in_channels, naming=naming)

    return Family(
        name=f"vgg{depth}_bn_cifar",
        make=make,
        options={
            "width": Option(default=64, accepts=WIDTH_LIMIT),
            "in_channels": IN_CHANNELS,
            "naming": Option(default="kuangliu", accepts=NAMINGS),
        },
        guess=partial(_guess, depth=depth),
    )


def _make_ibau(num_classes: int, width: int = 32, in_channels: int = 3) -> nn.Module:
    return IbauVGG(num_classes=num_classes, width=width, in_channels=in_channels)


FAMILIES = (
    *map(_family, CONVOLUTIONS),
    Family(
        name="ibau_vgg",
        make=_make_ibau,
        options={"width": Option(default=32, accepts=WIDTH_LIMIT), "in_channels": IN_CHANNELS},
        guess=_guess_ibau,
    ),
)
