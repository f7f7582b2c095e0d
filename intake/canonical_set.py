"""Writes the canonical form of a data set: a STORED npz of `images` (N, C, H, W) and `labels` (N,), image by image."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from typing import IO, BinaryIO, Self

import numpy as np

from intake.facts import DatasetFacts, DatasetKind
from intake.limits import Limits
from intake.problems import refusal, shown

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same images give the same bytes


class CanonicalSet:
    """Takes `count` images one by one, then the labels; checks shapes, duplicates and the size of the whole.

    A context manager: when the block raises, what was written is closed and of no use.
    """

    def __init__(self, file: BinaryIO, count: int, limits: Limits) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._count = count
        self._limits = limits
        self._stream: IO[bytes] | None = None
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)
        self._first_name = ""
        self._seen: set[bytes] = set()
        self._added = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
        self._zip.close()

    def add(self, image: np.ndarray, name: str) -> None:
        """One image, (C, H, W), uint8 or float32; raises `dataset-sizes-differ` or `dataset-too-large`."""
        if self._stream is None:
            self._stream = self._begin(image, name)
        elif image.shape != self._shape:
            (_, h0, w0), (_, h1, w1) = self._shape, image.shape
            raise refusal(
                "dataset-sizes-differ",
                f"{shown(self._first_name)!r} is {w0} x {h0} pixels and {shown(name)!r} is {w1} x {h1}. "
                "Resize all images to the size that the model expects.",
                files=[shown(self._first_name), shown(name)],
                sizes=[[w0, h0], [w1, h1]],
            )
        data = image.tobytes()
        self._seen.add(hashlib.blake2b(data, digest_size=16).digest())
        self._stream.write(data)
        self._added += 1

    def _begin(self, image: np.ndarray, name: str) -> IO[bytes]:
        total = self._count * image.nbytes
        if total > self._limits.max_decoded_bytes:
            raise refusal(
                "dataset-too-large",
                f"{self._count:,} images of {image.shape[2]} x {image.shape[1]} take {total:,} bytes once decoded; "
                f"at most {self._limits.max_decoded_bytes:,} are accepted. Upload fewer or smaller images.",
            )
        self._shape, self._dtype, self._first_name = image.shape, image.dtype, name
        return self._open("images.npy", (self._count, *image.shape), image.dtype)

    def _open(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> IO[bytes]:
        stream = self._zip.open(zipfile.ZipInfo(name, _EPOCH), "w", force_zip64=True)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        return stream

    def finish(self, labels: Sequence[int] | np.ndarray, classes: list[str] | list[int]) -> DatasetFacts:
        """Write the labels, indices into `classes`, once all images are there; raises `dataset-duplicates`."""
        if self._stream is None or self._added != self._count or len(labels) != self._count:
            raise ValueError(f"{self._added} images and {len(labels)} labels for a set of {self._count}")
        self._stream.close()
        duplicates = self._count - len(self._seen)
        if duplicates >= self._limits.max_duplicate_share * self._count:
            raise refusal(
                "dataset-duplicates",
                f"{duplicates:,} of {self._count:,} images repeat an earlier one bit for bit. Upload different ones.",
                duplicates=duplicates,
                images=self._count,
            )
        column = np.asarray(labels, np.int64)
        with self._open("labels.npy", column.shape, column.dtype) as stream:
            stream.write(column.tobytes())
        return DatasetFacts(
            images=self._count,
            classes=classes,
            per_class=np.bincount(column, minlength=len(classes)).tolist(),
            shape=list(self._shape),
            dtype="uint8" if self._dtype == np.uint8 else "float32",
            duplicates=duplicates,
        )


def check_classes(classes: Sequence[str | int], per_class: Sequence[int], kind: DatasetKind, limits: Limits) -> None:
    """Raise unless there are enough images, classes (of a clean set) and images in each (of a clean set)."""
    total = sum(per_class)
    if not total:
        raise refusal(
            "dataset-empty", "No image was found. Upload a zip with one folder of PNG, JPEG or WebP images per class."
        )
    if total > limits.max_members:
        raise refusal(
            "dataset-too-many-images",
            f"The set has {total:,} images; at most {limits.max_members:,} are accepted. Upload a random sample.",
        )
    if kind == "triggered":
        return
    if len(classes) < limits.min_classes:
        raise refusal(
            "dataset-one-class",
            f"All {total:,} images are of the class {shown(classes[0])}. A clean set needs images of every class "
            "of the model, in one folder per class.",
            classes=[shown(name) for name in classes],
        )
    small = {
        shown(name): count
        for name, count in zip(classes, per_class, strict=True)
        if count < limits.min_images_per_class
    }
    if small:
        listed = ", ".join(f"{name} ({count})" for name, count in list(small.items())[:10])
        raise refusal(
            "dataset-class-too-small",
            f"Each class needs at least {limits.min_images_per_class} images; too few are in {listed}. "
            "Add images of these classes.",
            per_class=dict(list(small.items())[:100]),
        )
