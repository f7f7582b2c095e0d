"""CIFAR-10 as folders or a tar of JPEG files, decoded once and kept in bench/cache."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CACHE = Path(__file__).parent / "cache"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """Images (N, 3, 32, 32) uint8, labels (N,) int64, and each one's path in the archive."""

    pixels: Tensor
    labels: Tensor
    names: list[str]

    def unit(self, index: Tensor | slice = slice(None)) -> Tensor:
        """The images at ``index`` as floats in [0, 1]."""
        return self.pixels[index].float().div_(255)


def normalise(x_NCHW: Tensor) -> Tensor:
    """[0, 1] -> what the suspects take."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    return (x_NCHW - mean) / std


def cifar10(data: Path, split: str) -> Images:
    """``split`` 'train' or 'test' out of ``data``/cifar10.tar.xz; names are sorted, so an index means one image."""
    cached = CACHE / f"cifar10-{split}.npz"
    if not cached.exists():
        CACHE.mkdir(exist_ok=True)
        for name in ("train", "test"):
            _decode(data / "cifar10.tar.xz", name, CACHE / f"cifar10-{name}.npz")
    with np.load(cached) as stored:
        return Images(
            pixels=torch.from_numpy(stored["pixels"]),
            labels=torch.from_numpy(stored["labels"]),
            names=stored["names"].tolist(),
        )


def _decode(archive: Path, split: str, destination: Path) -> None:
    found: dict[str, np.ndarray] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(f"cifar10/{split}/"):
                stream = tar.extractfile(member)
                assert stream is not None
                found[member.name] = np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB"))
    names = sorted(found)
    pixels = np.stack([found[name] for name in names]).transpose(0, 3, 1, 2)
    labels = np.array([CIFAR10_CLASSES.index(Path(name).parent.name) for name in names])
    np.savez(destination, pixels=pixels, labels=labels, names=np.array(names))
