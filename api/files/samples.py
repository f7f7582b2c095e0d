"""Some images of a stored data set, as a model would see them after the preprocessing that a person states."""

import base64
import io
import zipfile
from functools import partial
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from api.dependencies import Caller, Parts, missing
from api.errors import ApiError
from api.files.schemas import Sample, Samples
from api.files.service import find
from api.jobs import checks
from api.jobs.schemas import Preprocessing
from store.checked import CheckedFile
from store.database import tenant_transaction

COUNT: Final = 12
_DEVIATIONS_SHOWN: Final = 2.0  # on either side of zero, from black to white

Floats = NDArray[np.float32]


class _Reader(io.RawIOBase):
    """A stored file that can be sought in; every byte is checked as it is read."""

    def __init__(self, parts: Parts, name: str, sha256: str) -> None:
        self._open = partial(parts.checked.open, name, sha256)
        file: CheckedFile = self._open()
        self._bytes, self._at = file.bytes, 0
        file.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._bytes}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._bytes)
        data = b"".join(self._open().read(self._at, end)) if end > self._at else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def samples(parts: Parts, caller: Caller, file_id: str, preprocessing: Preprocessing) -> Samples:
    """Up to twelve images of as many classes.

    Raises ApiError `file-not-found`, `wrong-file-kind`, `preprocessing-does-not-fit`, store.errors.StorageCorrupt.
    """
    with tenant_transaction(parts.factory, caller.tenant_id) as session:
        file = find(session, caller, file_id)
        path, sha256, facts = file.canonical_path, file.canonical_sha256, file.facts
    if file.kind == "model":
        raise ApiError("wrong-file-kind", "This file is a model; only data sets have images.")
    if path is None:
        raise missing("file-not-found", "file", file_id)
    stated = checks.preprocessing(facts, preprocessing)
    with io.BufferedReader(_Reader(parts, path, sha256), 1 << 20) as source:
        images, labels = _some(source)
    seen = _as_seen(images, stated)
    items = [
        Sample(class_name=str(facts["classes"][label]), png=_png(image))
        for image, label in zip(seen, labels, strict=True)
    ]
    channels = (0, 2, 3)
    return Samples(items=items, means=seen.mean(channels).tolist(), deviations=seen.std(channels).tolist())


def _some(source: BinaryIO) -> tuple[Floats, list[int]]:
    """Images (n, C, H, W) in 0..1 and their labels: the first image of up to twelve classes, spread over all."""
    with zipfile.ZipFile(source) as archive:
        with archive.open("labels.npy") as member:
            labels = np.load(io.BytesIO(member.read()), allow_pickle=False)
        present, first = np.unique(labels, return_index=True)
        rows = sorted(first[np.unique(np.linspace(0, len(present) - 1, COUNT).astype(int))].tolist())
        with archive.open("images.npy") as member:
            np.lib.format.read_magic(member)
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            begin, size = member.tell(), int(np.prod(shape[1:])) * dtype.itemsize
            found = []
            for row in rows:
                member.seek(begin + row * size)
                found.append(np.frombuffer(member.read(size), dtype).reshape(shape[1:]))
    scale = np.float32(255 if dtype == np.uint8 else 1)
    return np.stack(found).astype(np.float32) / scale, labels[rows].tolist()


def _as_seen(images: Floats, stated: dict[str, Any]) -> Floats:
    """What the model takes, in the order of its channels."""
    if stated["size"] is not None:
        images = np.stack([_resized(image, *stated["size"]) for image in images])
    if stated["channels"] == "BGR":
        images = images[:, ::-1]
    mean, std = (np.array(stated[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


def _resized(image: Floats, height: int, width: int) -> Floats:
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def _png(image: Floats) -> str:
    """Zero is grey, two deviations below it black and above it white: what is wrongly normalised looks it. Base64."""
    shown = np.clip((image / (2 * _DEVIATIONS_SHOWN) + 0.5) * 255, 0, 255).astype(np.uint8)
    pixels = shown[0] if len(shown) not in (3, 4) else np.moveaxis(shown[:3], 0, -1)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
