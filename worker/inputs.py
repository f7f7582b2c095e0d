"""From stored files to what the method takes: tensors, labels as the model counts them, a loaded module."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from modeconn_core import architectures
from modeconn_core.preprocessing import Preprocessing
from store.errors import StorageCorrupt, StorageMissing
from store.storage import LocalStorage
from worker.problems import JobProblem
from worker.spec import InputRef, JobSpec
from worker.weights import TensorSlot, load_into, read_layout

_RESIZE_BATCH = 256


def stated_preprocessing(request: dict[str, Any]) -> Preprocessing:
    """What the request says is done to images in [0, 1]; mean and std are in the order that the model sees."""
    stated = request["preprocessing"]
    return Preprocessing(
        name="as stated", mean=tuple(stated["mean"]), std=tuple(stated["std"]), channels=stated["channels"]
    )


def resized(images_NCHW: Tensor, size: Sequence[int] | None) -> Tensor:
    """Images in [0, 1] at `size` (H, W): bilinear, antialiased, in batches so that the memory stays flat."""
    if size is None or list(images_NCHW.shape[-2:]) == list(size):
        return images_NCHW
    parts = [
        interpolate(part, size=tuple(size), mode="bilinear", antialias=True, align_corners=False).clamp_(0, 1)
        for part in images_NCHW.split(_RESIZE_BATCH)
    ]
    return torch.cat(parts)


def as_picture(pattern_CHW: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The way back from what the model takes to an RGB picture in [0, 1]."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    picture = pattern_CHW.detach().float().cpu() * std + mean
    return (picture.flip(0) if preprocessing.channels == "BGR" else picture).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """A stored data set: RGB images in [0, 1] at the model's size, labels as the model counts its classes."""

    pixels: Tensor  # float32 (N, C, H, W)
    labels: Tensor  # int64 (N,)


def read_images(storage: LocalStorage, ref: InputRef, request: dict[str, Any]) -> Images:
    """Read a canonical data set for the model that `request` describes.

    `request["classes"]` names the model's classes in the order of its outputs; the numbers of an `.npz` are indices
    into it. Raises JobProblem for pixels that are no images.
    """
    with np.load(verified(storage, ref), allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    found = ref.facts["classes"]
    classes: list[str] = request["classes"]
    index_of = torch.tensor([entry if isinstance(entry, int) else classes.index(entry) for entry in found])
    return Images(
        pixels=resized(_to_unit(images, ref.name), request["preprocessing"]["size"]),
        labels=index_of[torch.from_numpy(labels.astype(np.int64))],
    )


def _to_unit(images: np.ndarray, name: str) -> Tensor:
    """(N, C, H, W) in [0, 1], float32. Bytes and floats up to 255 are divided by 255."""
    pixels = torch.from_numpy(images).to(torch.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255:
        raise JobProblem(
            "images-out-of-range",
            "The images are neither 0..1 nor 0..255",
            f"The values of {name!r} reach from {low:.3g} to {high:.3g}. Upload plain pixel values; state the "
            "normalisation as mean and std in the request.",
        )
    return pixels.div_(255) if images.dtype == np.uint8 or high > 1 else pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Which module a state dict belongs to."""

    name: str
    num_classes: int
    options: dict[str, Any]

    @classmethod
    def from_request(cls, request: dict[str, Any]) -> Self:
        return cls(**request["architecture"])

    @property
    def words(self) -> str:
        """Such as `preact_resnet18 (width=16)`."""
        options = ", ".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        return f"{self.name} ({options})" if options else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A loaded upload: the module, and the layout in which its weights go back to the user."""

    module: nn.Module
    layout: list[TensorSlot]
    prefix: str


def read_model(storage: LocalStorage, ref: InputRef, architecture: Architecture) -> Model:
    """Build the module and load the stored weights strictly. Raises JobProblem where they do not fit."""
    path = verified(storage, ref)
    layout = read_layout(path)
    prefix = architectures.strip_prefix([slot.name for slot in layout])
    try:
        module = architectures.build(architecture.name, architecture.num_classes, **architecture.options)
        load_into(module, path, prefix=prefix)
    except (RuntimeError, TypeError, ValueError) as error:
        raise JobProblem(
            "tensors-do-not-match",
            "The weights do not fit the architecture",
            f"{ref.name!r} does not load into {architecture.words}: {error}",
        ) from error
    return Model(module=module.eval(), layout=layout, prefix=prefix)


def verified(storage: LocalStorage, ref: InputRef) -> Path:
    """Path of a stored input after its SHA-256 was checked. Raises JobProblem when it is gone or damaged."""
    problem = JobProblem(
        "stored-file-gone",
        "A stored file is gone or damaged",
        f"The stored copy of {ref.name!r} was deleted, has expired or is not the one that was uploaded. Upload it "
        "again and post a new job.",
    )
    if ref.canonical_path is None:
        raise problem
    try:
        return storage.verify(ref.canonical_path, ref.canonical_sha256)
    except (StorageMissing, StorageCorrupt) as error:
        raise problem from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Everything a repair reads, ready for the method."""

    architecture: Architecture
    preprocessing: Preprocessing
    suspect: Model
    second_model: Model | None
    clean: Images
    triggered: Images | None


def read_inputs(storage: LocalStorage, spec: JobSpec) -> Inputs:
    """Read and check all of a job's files. Raises JobProblem."""
    architecture = Architecture.from_request(spec.request)
    return Inputs(
        architecture=architecture,
        preprocessing=stated_preprocessing(spec.request),
        suspect=read_model(storage, spec.suspect, architecture),
        second_model=read_model(storage, spec.second_model, architecture) if spec.second_model else None,
        clean=read_images(storage, spec.clean, spec.request),
        triggered=read_images(storage, spec.triggered, spec.request) if spec.triggered else None,
    )
