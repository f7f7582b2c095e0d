"""CIFAR-10 and GTSRB as tars of JPEG files, decoded once and kept in bench/cache."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CACHE = Path(__file__).parent / "cache"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A data set and how its models are fed. ``archive`` holds <name>/{train,test}/<class>/<file>."""

    name: str
    archive: str
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mirror: bool

    def normalise(self, x_NCHW: Tensor) -> Tensor:
        """[0, 1] -> what models of this data set take."""
        mean, std = (torch.tensor(v, device=x_NCHW.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (x_NCHW - mean) / std


CIFAR10 = DataSet(
    name="cifar10",
    archive="cifar10.tar.xz",
    classes=CIFAR10_CLASSES,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    mirror=True,
)
GTSRB = DataSet(
    name="gtsrb32",
    archive="gtsrb32.tar.xz",
    classes=tuple(f"{number:05d}" for number in range(43)),
    mean=(0.3337, 0.3064, 0.3171),
    std=(0.2672, 0.2564, 0.2629),
    mirror=False,
)
DATA_SETS = {data_set.name: data_set for data_set in (CIFAR10, GTSRB)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """Images (N, 3, 32, 32) uint8, labels (N,) int64, and each one's path in the archive."""

    pixels: Tensor
    labels: Tensor
    names: list[str]

    def unit(self, index: Tensor | slice = slice(None)) -> Tensor:
        """The images at ``index`` as floats in [0, 1]."""
        return self.pixels[index].float().div_(255)


@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """Indices into a test set: ``clean`` is what a defender has, ``held_out`` is what every figure is taken on."""

    clean: Tensor
    held_out: Tensor


def divide(test: Images, *, images: int, held_out: int, seed: int) -> Division:
    """A random clean set, a pure function of the seed, and other images; smaller sets are parts of larger ones.

    Both come out of the test images: in GTSRB's training images every sign appears many times, in the test images not.
    """
    if images + held_out > len(test.labels):
        raise ValueError(f"{len(test.labels)} test images are too few for {images} clean and {held_out} held-out ones")
    order = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(1000 + seed))
    return Division(clean=order[:images], held_out=order[-held_out:])


def load(data: Path, data_set: DataSet, split: str) -> Images:
    """``split`` 'train' or 'test' out of ``data``; names are sorted, so an index means one image."""
    cached = CACHE / f"{data_set.name}-{split}.npz"
    if not cached.exists():
        CACHE.mkdir(exist_ok=True)
        for name in ("train", "test"):
            _decode(data / data_set.archive, data_set.name, name, data_set.classes)
    with np.load(cached) as stored:
        return Images(
            pixels=torch.from_numpy(stored["pixels"]),
            labels=torch.from_numpy(stored["labels"]),
            names=stored["names"].tolist(),
        )


def _decode(archive: Path, folder: str, split: str, classes: Sequence[str]) -> None:
    found: dict[str, np.ndarray] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(f"{folder}/{split}/"):
                stream = tar.extractfile(member)
                assert stream is not None
                found[member.name] = np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB"))
    names = sorted(found)
    pixels = np.stack([found[name] for name in names]).transpose(0, 3, 1, 2)
    labels = np.array([classes.index(Path(name).parent.name) for name in names])
    np.savez(CACHE / f"{folder}-{split}.npz", pixels=pixels, labels=labels, names=np.array(names))
