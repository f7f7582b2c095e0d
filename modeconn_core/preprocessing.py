"""Ways in which images are prepared for a classifier, and which to try when the stated way fits badly."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# (what it is called, mean, std) of RGB images in [0, 1], as published training code states them
_COLOUR = (
    ("none (mean 0, std 1)", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ("-1 to 1 (mean 0.5, std 0.5)", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("CIFAR-10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ("CIFAR-10 with the smaller std", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ("CIFAR-100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ("ImageNet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("GTSRB", (0.3337, 0.3064, 0.3171), (0.2672, 0.2564, 0.2629)),
    ("SVHN", (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    ("0 to 255, no normalisation", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    ("0 to 255 less the ImageNet mean", (0.485, 0.456, 0.406), (1 / 255, 1 / 255, 1 / 255)),
)
_ANY_CHANNELS = (
    ("none (mean 0, std 1)", 0.0, 1.0),
    ("-1 to 1 (mean 0.5, std 0.5)", 0.5, 0.5),
    ("MNIST", 0.1307, 0.3081),
    ("0 to 255, no normalisation", 0.0, 1 / 255),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """What is done to RGB images in [0, 1] before the model sees them: first the channel order, then mean and std."""

    name: str
    mean: tuple[float, ...]  # in the channel order the model sees
    std: tuple[float, ...]
    channels: str = "RGB"

    def apply(self, images_01: Tensor) -> Tensor:
        images = images_01.flip(1) if self.channels == "BGR" else images_01
        mean = torch.tensor(self.mean, dtype=images.dtype).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype).view(1, -1, 1, 1)
        return (images - mean) / std

    def reversed(self) -> "Preprocessing":
        """The same pixel values, handed over in the opposite channel order."""
        other = "RGB" if self.channels == "BGR" else "BGR"
        return replace(self, mean=self.mean[::-1], std=self.std[::-1], channels=other)


def candidates(images: Tensor, stated: Preprocessing) -> Iterator[Preprocessing]:
    """Other statements worth trying, without repeats of the stated one."""
    count = images.shape[1]
    table: list[tuple[str, tuple[float, ...], tuple[float, ...]]]
    if count == 3:
        table = list(_COLOUR)
    else:
        table = [(name, (mean,) * count, (std,) * count) for name, mean, std in _ANY_CHANNELS]
    if max(map(abs, (*stated.mean, *stated.std))) > 2:
        by_255 = tuple(m / 255 for m in stated.mean), tuple(s / 255 for s in stated.std)
        table.insert(0, ("your own values divided by 255, since images are scaled to 0..1 first", *by_255))
    spread, centre = torch.std_mean(images, dim=(0, 2, 3))
    own = tuple(round(value, 4) for value in centre.tolist()), tuple(round(max(v, 1e-3), 4) for v in spread.tolist())
    table.append(("the clean images' own mean and std", *own))
    tried = [stated]
    rgb = [Preprocessing(name=name, mean=mean, std=std) for name, mean, std in table]
    pairs = [stated.reversed(), replace(stated.reversed(), mean=stated.mean, std=stated.std)] if count == 3 else []
    for candidate in [*pairs, *rgb, *(c.reversed() for c in rgb if count == 3)]:
        if not any(_same(candidate, other) for other in tried):
            tried.append(candidate)
            yield candidate


def _same(one: Preprocessing, other: Preprocessing) -> bool:
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    return one.channels == other.channels and all(abs(a - b) < 1e-6 for a, b in pairs)
