"""Mutated zips of class folders and npz files: the archive, the images in it, the headers of arrays."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from random import Random

import numpy as np

from ...intake.builders import encoded, pixels
from .archives import archive
from .damage import damaged

_KINDS = (
    ("PNG", {}),
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
)
_NPY_CHANGES = (
    (b"'|u1'", b"'<f4'"),
    (b"'|u1'", b"'|O'"),
    (b"False", b"True"),
    (b"(4, 3", b"(3, 3"),
    (b"(4, ", b"(-4,"),
    (b"2, 2", b"4, 1"),
)
_PNG_HEAD = 8


def data_set(rng: Random) -> bytes:
    """One zip: class folders in two cases of three, else an npz."""
    members = _folders(rng) if rng.random() < 0.67 else _arrays(rng)
    return archive(rng, members, lies=rng.choice((0, 0, 1, 1, 1, 2, 3)), deflated=rng.random() < 0.3)


@cache
def _images(kind: int) -> list[bytes]:
    """Four different images of 4 x 4 pixels."""
    name, options = _KINDS[kind]
    return [encoded(pixels(seed, 4, 4), name, **options) for seed in range(4)]


def _folders(rng: Random) -> dict[str, bytes]:
    images = list(_images(rng.randrange(len(_KINDS))))
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        at = rng.randrange(len(images))
        images[at] = _other_chunk(rng, images[at]) if images[at][:4] == b"\x89PNG" else damaged(rng, images[at])
    return {f"{'ab'[i % 2]}/{i}.png": image for i, image in enumerate(images)}


def _other_chunk(rng: Random, png: bytes) -> bytes:
    """One chunk damaged under a right checksum, so that decoders go on to read it."""
    at = _PNG_HEAD
    while rng.random() < 0.5 and at + 12 + (length := int.from_bytes(png[at : at + 4])) < len(png):
        at += 12 + length
    length = int.from_bytes(png[at : at + 4])
    body = png[at + 4 : at + 8] + damaged(rng, png[at + 8 : at + 8 + length])
    if rng.random() < 0.2:
        body = damaged(rng, body)
    chunk = struct.pack(">I", max(len(body) - 4, 0)) + body + struct.pack(">I", zlib.crc32(body))
    return png[:at] + chunk + png[at + 12 + length :]


@cache
def _members(dtype: str) -> dict[str, bytes]:
    images = np.arange(48).reshape(4, 3, 2, 2).astype(dtype)
    return {"images.npy": _npy(images), "labels.npy": _npy(np.array([0, 1, 0, 1]))}


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _arrays(rng: Random) -> dict[str, bytes]:
    members = dict(_members(rng.choice(("u1", "f2", "f4"))))
    for _ in range(rng.choice((0, 1, 1, 2))):
        which = rng.choice(list(members))
        match rng.randrange(3):
            case 0:
                members[which] = members[which].replace(*rng.choice(_NPY_CHANGES))
            case 1:  # no number, where the array is of floats
                members[which] = members[which][:-4] + b"\xff\x7f" * 2
            case _:
                members[which] = damaged(rng, members[which])
    return members
