"""Crafted Parquet files: footers, columns, bombs."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...intake.builders import encoded, folders, pixels, png, zip_of
from .case import Crafted
from .images import ihdr, raw_png
from .zips import patched

BOMB = "dataset-archive-bomb"
BROKEN = "dataset-archive-broken"
NOT_IMAGE = "dataset-not-an-image"
IMAGE = "dataset-image-broken"
LARGE = "dataset-image-too-large"
MISSING = "dataset-arrays-missing"
LABEL = "dataset-label-out-of-range"
FORMAT = "dataset-format-not-accepted"
GOOD = zip_of(folders())


def _table(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def _rows(count: int = 10, **columns: Any) -> bytes:
    image = [{"bytes": png(i), "path": None} for i in range(count)]
    return _table(pa.table({"image": image, "label": [i % 2 for i in range(count)]} | columns))


def _footer(upload: bytes, length: int | None = None) -> bytes:
    """The file whose last eight bytes say another length of the metadata."""
    return patched(upload, len(upload) - 8, "<I", 0xFFFFFFFF if length is None else length)


def crafted_parquet() -> Crafted:
    good = _rows()
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    meta = len(good) - 8 - struct.unpack("<I", good[-8:-4])[0]
    deep = pa.array([None] * 10, pa.int32())
    for _ in range(60):
        deep = pa.StructArray.from_arrays([deep], ["x"])
    strings = [{"bytes": "a", "path": None}] * 10
    null = pa.array([None] * 10, struct_type)
    link = pa.array([{"bytes": None, "path": "/etc/passwd"}] * 10, struct_type)
    return {
        "a footer of 4 GiB": (_footer(good), BROKEN),
        "a footer of nothing": (_footer(good, 0), BROKEN),
        "a footer one byte short": (_footer(good, len(good) - 8 - meta - 1), BROKEN),
        "an encrypted footer": (good[:-4] + b"PARE", BROKEN),
        "an encrypted file": (b"PARE" + good[4:-4] + b"PARE", FORMAT),
        "another end": (good[:-4] + b"PAR2", BROKEN),
        "a footer of noise": (
            good[:meta] + bytes(range(256)) * ((len(good) - 8 - meta) // 256 + 1) + good[-8:],
            BROKEN,
        ),
        "a footer of zeros": (good[:meta] + bytes(len(good) - 8 - meta) + good[-8:], BROKEN),
        "a footer of lists": (good[:meta] + b"\xf9" * (len(good) - 8 - meta) + good[-8:], BROKEN),
        "pages of zeros": (good[:4] + bytes(meta - 4) + good[meta:], BROKEN),
        "pages of ones": (good[:4] + b"\xff" * (meta - 4) + good[meta:], BROKEN),
        "only magic": (b"PAR1PAR1", BROKEN),
        "a start alone": (b"PAR1", BROKEN),
        "external images": (_rows(image=link), IMAGE),
        "images that are null": (_rows(image=null), IMAGE),
        "images that are texts": (_rows(image=strings), MISSING),
        "images that are lists": (_rows(image=[[1, 2, 3]] * 10), MISSING),
        "images that are numbers": (_rows(image=list(range(10))), MISSING),
        "images 60 levels deep": (_rows(image=deep), MISSING),
        "images that are maps": (
            _rows(image=pa.array([[("bytes", b"x")]] * 10, pa.map_(pa.string(), pa.binary()))),
            MISSING,
        ),
        "bytes without a struct": (_rows(image=[png(i) for i in range(10)]), MISSING),
        "labels that are floats": (_rows(label=[float("nan")] * 10), MISSING),
        "labels that are texts": (_rows(label=["../x"] * 10), MISSING),
        "labels that are lists": (_rows(label=[[0], [1]] * 5), MISSING),
        "labels that are null": (_rows(label=pa.array([None] * 10, pa.int64())), LABEL),
        "labels of a dictionary": (_rows(label=pa.array(["a", "b"] * 5).dictionary_encode()), MISSING),
        "a label of -2^63": (_rows(label=[0, -(2**63)] * 5), LABEL),
        "a label of 2^64 - 1": (_rows(label=pa.array([0, 2**64 - 1] * 5, pa.uint64())), LABEL),
        "a label of 100,001": (_rows(label=[0, 100_001] * 5), LABEL),
        "other columns": (_table(pa.table({"x": [1], "y": [2]})), MISSING),
        "no columns": (_table(pa.table({})), MISSING),
        "the image twice": (
            _table(
                pa.Table.from_arrays(
                    [pa.array([None], struct_type)] * 2 + [pa.array([0])], names=["image", "image", "label"]
                )
            ),
            MISSING,
        ),
        "10,000 columns": (lambda: _table(pa.table({f"c{i}": [0] for i in range(10_000)})), MISSING),
        "50,001 rows": (
            lambda: _table(
                pa.table(
                    {"image": pa.array([{"bytes": b"", "path": None}] * 50_001, struct_type), "label": [0] * 50_001}
                )
            ),
            "dataset-too-many-images",
        ),
        "a text among the images": (_rows(image=[{"bytes": b"hello", "path": None}] * 10), NOT_IMAGE),
        "a zip among the images": (_rows(image=[{"bytes": GOOD, "path": None}] * 10), NOT_IMAGE),
        "a TIFF among the images": (_rows(image=[{"bytes": encoded(pixels(1), "TIFF"), "path": None}] * 10), NOT_IMAGE),
        "a bomb among the images": (
            _rows(image=[{"bytes": raw_png(header=ihdr(60_000, 60_000)), "path": None}] * 10),
            LARGE,
        ),
        "one image of 33 MiB": (lambda: _wide(_noise(33 << 20), 10), LARGE),
        "a thousand rows of one image of 30 MiB": (lambda: _wide(_noise(30 << 20), 1000), NOT_IMAGE),
        "a bomb of zstd": (lambda: _wide(bytes(200 << 20), 10), BOMB),
        "a bomb of gzip": (lambda: _wide(bytes(200 << 20), 10, "gzip"), BOMB),
        "a bomb of brotli": (lambda: _wide(bytes(200 << 20), 10, "brotli"), BOMB),
        "a bomb that says it is small": (
            _a_small_bomb,
            "intake-out-of-memory",
        ),
        "100,000 names of classes": (lambda: _names([str(i) for i in range(100_000)]), "dataset-class-too-small"),
        "a label beyond the names": (_names(["a"]), LABEL),
        "the same image in every row": (_rows(image=[{"bytes": png(), "path": None}] * 10), "dataset-duplicates"),
    }


def _wide(image: bytes, rows: int, compression: str = "zstd") -> bytes:
    """Rows that share one image, which the file holds once."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([image], pa.binary()))
    column = pa.StructArray.from_arrays([values], ["bytes"])
    table = pa.table({"image": column, "label": [i % 2 for i in range(rows)]})
    return _table(table, compression=compression, store_schema=False)


def _noise(count: int) -> bytes:
    return np.random.default_rng(0).bytes(count)


def _a_small_bomb() -> bytes:
    """Its footer says one byte wherever the truth, which the pages tell, is 200 MiB or up to a kilobyte more."""
    upload = _wide(bytes(200 << 20), 10)
    at = len(upload) - 8 - struct.unpack("<I", upload[-8:-4])[0]
    footer = upload[at:]
    for size in range(200 << 20, (200 << 20) + 1024):
        true = _varint(2 * size)
        footer = footer.replace(true, b"\x82" + b"\x80" * (len(true) - 2) + b"\x00")
    return upload[:at] + footer


def _varint(value: int) -> bytes:
    """As Thrift's compact protocol writes it, seven bits a byte."""
    low = [value >> shift & 0x7F for shift in range(0, value.bit_length(), 7)]
    return bytes([*(byte | 0x80 for byte in low[:-1]), low[-1]])


def _names(names: list[str]) -> bytes:
    info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pq.read_table(io.BytesIO(_rows()))
    return _table(table.replace_schema_metadata({"huggingface": json.dumps(info)}))
