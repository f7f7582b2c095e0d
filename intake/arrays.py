"""A data set as an npz of `images` and `labels`, read array by array with the header checked first."""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Final

import numpy as np

from intake.archives import BROKEN_MEMBER, Archive, broken_member
from intake.canonical_set import CanonicalSet, check_classes
from intake.facts import DatasetFacts, DatasetKind
from intake.limits import MIB, Limits
from intake.problems import refusal, shown

_IMAGE_DTYPES: Final = ("|u1", "<f2", "<f4")
_LABEL_DTYPES: Final = ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<i8")
_SAVE_ADVICE: Final = (
    "Save with np.savez('set.npz', images=x, labels=y), x of uint8 or float32 (N, C, H, W) and y of int64 (N,)."
)
_CHUNK_BYTES: Final = 4 * MIB


@dataclass(frozen=True, slots=True)
class _Header:
    """What an npy header says, and where it ends."""

    dtype: np.dtype
    shape: tuple[int, ...]
    bytes: int


def convert_arrays(archive: Archive, target: BinaryIO, limits: Limits, kind: DatasetKind) -> DatasetFacts:
    """Copy the images of the npz, checked, into the canonical npz; raises `IntakeRefused` or `ArchiveFault`."""
    members = {member.filename: member for member in archive.members}
    if members.keys() != {"images.npy", "labels.npy"}:
        names = [shown(name.removesuffix(".npy"), 40) for name in sorted(members)[:20]]
        raise refusal(
            "dataset-arrays-missing",
            f"The npz must hold exactly the arrays images and labels; it holds {', '.join(names)}. {_SAVE_ADVICE}",
            found=names,
        )
    labels_header = _read_header(archive, members["labels.npy"], _LABEL_DTYPES)
    images_header = _read_header(archive, members["images.npy"], _IMAGE_DTYPES)
    channels_last = _check_shapes(images_header.shape, labels_header.shape, limits)
    labels = np.frombuffer(
        b"".join(_chunks(archive, members["labels.npy"], labels_header, _CHUNK_BYTES)), labels_header.dtype
    )
    ids, labels = index_labels(labels.astype(np.int64), limits)
    check_classes(ids, np.bincount(labels).tolist(), kind, limits)
    with CanonicalSet(target, len(labels), limits) as canonical:
        for position, image in enumerate(_images(archive, members["images.npy"], images_header)):
            canonical.add(image.transpose(2, 0, 1) if channels_last else image, f"images[{position}]")
        return canonical.finish(labels, ids)


def index_labels(labels: np.ndarray, limits: Limits) -> tuple[list[int], np.ndarray]:
    """(ids that occur, ascending; labels as indices into them), of class ids (N,), int64.

    Raises `dataset-label-out-of-range`.
    """
    if not len(labels):
        return [], labels
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > limits.max_class_id:
        raise refusal(
            "dataset-label-out-of-range",
            f"Labels are class ids from 0 to {limits.max_class_id:,}; these go from {low:,} to {high:,}. "
            "Remove images without a label, and number the classes from 0.",
            lowest=low,
            highest=high,
        )
    ids, indices = np.unique(labels, return_inverse=True)
    return ids.tolist(), indices.astype(np.int64)


def _read_header(archive: Archive, member: zipfile.ZipInfo, dtypes: tuple[str, ...]) -> _Header:
    try:
        with archive.zip.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
                version
            ]
            shape, fortran_order, dtype = read(stream)
            header_bytes = stream.tell()
    except BROKEN_MEMBER as error:
        raise broken_member(member, error) from None
    # Python's parser calls a text that nests too deeply a MemoryError; numpy reads at most 10,000 characters of it.
    except (KeyError, ValueError, TypeError, SyntaxError, tokenize.TokenError, MemoryError) as error:
        raise refusal(
            "dataset-array-broken",
            f"{shown(member.filename)!r} has no valid npy header ({shown(error)}). {_SAVE_ADVICE}",
        ) from None
    if dtype.hasobject or dtype.str not in dtypes:
        what = "Python objects" if dtype.hasobject else f"values of type {shown(dtype)}"
        raise refusal(
            "dataset-array-dtype",
            f"{member.filename!r} holds {what}; accepted are {', '.join(np.dtype(d).name for d in dtypes)}. "
            f"{_SAVE_ADVICE}",
            array=member.filename,
        )
    if fortran_order and len(shape) > 1:
        raise refusal(
            "dataset-array-shape",
            f"{member.filename!r} is in Fortran order. Use np.ascontiguousarray before saving it.",
        )
    if (
        any(type(n) is not int or n < 0 for n in shape)
        or header_bytes + math.prod(shape) * dtype.itemsize != member.file_size
    ):
        raise refusal(
            "dataset-array-broken",
            f"{member.filename!r} says it has the shape {shown(shape)}, which does not fit its "
            f"{member.file_size:,} bytes. {_SAVE_ADVICE}",
        )
    return _Header(dtype, shape, header_bytes)


def _check_shapes(images: tuple[int, ...], labels: tuple[int, ...], limits: Limits) -> bool:
    """Whether the images are (N, H, W, C) rather than (N, C, H, W); raises where they are neither."""
    if len(images) != 4 or len(labels) != 1 or images[0] != labels[0]:
        raise refusal(
            "dataset-array-shape",
            f"images has the shape {list(images)} and labels {list(labels)}; (N, C, H, W) and (N,) are expected. "
            f"{_SAVE_ADVICE}",
        )
    channels_last = images[1] not in (1, 3) and images[3] in (1, 3)
    height, width = images[1:3] if channels_last else images[2:4]
    if not channels_last and images[1] not in (1, 3):
        raise refusal(
            "dataset-array-shape", f"images has the shape {list(images)}: 1 or 3 channels are expected. {_SAVE_ADVICE}"
        )
    if height * width > limits.max_pixels or height * width == 0:
        raise refusal(
            "dataset-image-too-large" if height * width else "dataset-array-shape",
            f"The images are {width:,} x {height:,} pixels; 1 to {limits.max_pixels:,} pixels are accepted.",
        )
    return channels_last


def _chunks(archive: Archive, member: zipfile.ZipInfo, header: _Header, step: int) -> Iterator[bytes]:
    """The array's bytes after the header, `step` at a time."""
    try:
        with archive.zip.open(member) as stream:
            stream.read(header.bytes)
            while chunk := _read_fully(stream, step):
                yield chunk
    except BROKEN_MEMBER as error:
        raise broken_member(member, error) from None


def _read_fully(stream: IO[bytes], count: int) -> bytes:
    pieces = []
    while count and (piece := stream.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _images(archive: Archive, member: zipfile.ZipInfo, header: _Header) -> Iterator[np.ndarray]:
    """Each image of the array as it is stored, finite, uint8 or float32."""
    image_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
    step = max(1, _CHUNK_BYTES // image_bytes) * image_bytes
    position = 0
    for chunk in _chunks(archive, member, header, step):
        images = np.frombuffer(chunk, header.dtype).reshape(-1, *header.shape[1:])
        if header.dtype.kind == "f":
            images = images.astype(np.float32)
            bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
            if len(bad):
                raise refusal(
                    "dataset-not-finite",
                    f"images[{position + int(bad[0])}] holds NaN or infinity. Remove it or repair its values.",
                    index=position + int(bad[0]),
                )
        yield from images
        position += len(images)
