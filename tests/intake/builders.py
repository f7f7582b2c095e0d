"""Builds uploads byte by byte, the good and the hostile, so that a test shows exactly what is in its file."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

# --- safetensors


def safetensors(header: Mapping[str, Any] | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with this header, given as an object or as raw JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def f32(start: int, count: int = 1) -> dict[str, Any]:
    """The header's entry of `count` floats from byte `start`."""
    return {"dtype": "F32", "shape": [count], "data_offsets": [start, start + 4 * count]}


# --- pickles, opcode by opcode


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def integers(*values: int) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def storage(key: str = "0", kind: str = "FloatStorage", count: int = 4) -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + integer(count) + b"tQ"


def tensor(
    *,
    of: bytes | None = None,
    offset: int = 0,
    shape: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
) -> bytes:
    of = storage() if of is None else of
    hooks = call("collections", "OrderedDict")
    return call(
        "torch._utils", "_rebuild_tensor_v2", of, integer(offset), integers(*shape), integers(*stride), b"\x89", hooks
    )


def a_dict(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def torch_zip(
    content: bytes,
    records: Mapping[str, bytes] | None = None,
    *,
    root: str = "archive",
    compression: int = zipfile.ZIP_STORED,
    others: Mapping[str, bytes] | None = None,
) -> bytes:
    """A file as torch.save writes it; `content` is the pickle without its first and last opcode."""
    members = {f"{root}/data.pkl": b"\x80\x02" + content + b".", f"{root}/version": b"3\n"}
    for key, data in ({"0": np.arange(4, dtype="<f4").tobytes()} if records is None else records).items():
        members[f"{root}/data/{key}"] = data
    return zip_of(members | dict(others or {}), compression=compression)


# --- zips and images


def zip_of(members: Mapping[str, bytes] | list[tuple[Any, bytes]], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of name -> bytes; a list of pairs may repeat names and give `ZipInfo`s."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for member, data in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(member, data)
    return buffer.getvalue()


def pixels(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    """Random uint8 pixels (H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int = 0, height: int = 8, width: int = 8) -> bytes:
    return encoded(pixels(seed, height, width))


def folders(classes: tuple[str, ...] = ("cat", "dog"), each: int = 5, prefix: str = "") -> dict[str, bytes]:
    """Members of a good data set: `each` different PNGs per class."""
    return {f"{prefix}{folder}/{i}.png": png(100 * c + i) for c, folder in enumerate(classes) for i in range(each)}


def npz(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def arrays(count: int = 10, dtype: Any = np.uint8) -> dict[str, np.ndarray]:
    """Images (N, 3, 4, 4) and labels of a good npz with two classes."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 4)).astype(dtype)
    return {"images": images, "labels": np.arange(count, dtype=np.int64) % 2}
