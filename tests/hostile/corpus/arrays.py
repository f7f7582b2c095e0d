"""Crafted npz files: headers, types, shapes, labels."""

from __future__ import annotations

import io
import struct

import numpy as np

from ...intake.builders import arrays, folders, npz, zip_of
from .case import Bait, Crafted

BOMB = "dataset-archive-bomb"
TWICE = "dataset-archive-duplicate-name"
ARRAY = "dataset-array-broken"
MISSING = "dataset-arrays-missing"
LABEL = "dataset-label-out-of-range"
GOOD = zip_of(folders())


def npy(header: bytes | str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def _raw(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def crafted_arrays(bait: Bait) -> Crafted:
    good, labels = arrays()["images"], arrays()["labels"]
    data, tail = good.tobytes(), _raw(labels)
    plain = "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 3, 4, 4), }"

    def of(header: bytes | str, content: bytes = data, version: int = 1) -> bytes:
        return zip_of({"images.npy": npy(header, content, version), "labels.npy": tail})

    headers = {
        "code": bait.code,
        "code in the shape": plain.replace("10", f"len({bait.code})"),
        "code in the type": plain.replace("'|u1'", bait.code),
        "a comprehension": plain.replace("10", "sum(i for i in range(10**9))"),
        "a power": plain.replace("10", "9**9**9**9"),
        "a sum": plain.replace("10", "5+5"),
        "a long number": plain.replace("10", "1" * 5000),
        "a name": plain.replace("False", "os"),
        "a lambda": "lambda: 0",
        "a fourth key": plain.replace(", }", ", 'x': 1}"),
        "two keys": "{'descr': '|u1', 'shape': (10, 3, 4, 4)}",
        "a set": "{1, 2, 3}",
        "a list": "[1]",
        "nothing": "",
        "a bracket that stays open": plain.replace("), }", ""),
        "NUL": "\0" * 64,
        "no UTF-8": b"\xff\xfe",
        "floats as shape": plain.replace("(10, 3, 4, 4)", "(10.0, 3, 4, 4)"),
        "a text as shape": plain.replace("(10, 3, 4, 4)", "'10'"),
        "a negative size": plain.replace("(10, 3", "(-10, -3"),
        "True as a size": plain.replace("(10, 3, 4, 4)", "(True, 480, 1, 1)"),
        "sizes beyond the bytes": plain.replace("(10", "(1000000"),
        "sizes of 2^64 + 10": plain.replace("(10", f"({2**64 + 10}"),
        "sizes of 2^32 times 2^32": plain.replace("(10, 3, 4, 4)", f"({2**32}, {2**32}, 1, 1)"),
        "fewer sizes than bytes": plain.replace("(10", "(9"),
        "an order that is a number": plain.replace("False", "0"),
        "a type that nobody knows": plain.replace("|u1", "|zz"),
        "parentheses 4,000 deep": plain.replace("10", "(" * 4000 + "10" + ")" * 4000),
        "minus signs 9,000 deep": plain.replace("10", "-" * 9000 + "10"),
        "a header over numpy's limit": plain + " " * 20_000,
    }
    types = {
        "objects": "|O", "texts": "<U4", "bytes": "|S4", "raw bytes": "|V4", "complex": "<c8", "dates": "<M8[s]",
        "booleans": "|b1", "f8": "<f8", "f16": "<f16", "big-endian": ">f4", "signed bytes": "|i1", "u2": "<u2",
    }  # fmt: skip
    nan = good.astype("f4")
    nan[9, 2, 3, 3] = np.nan
    wide = zip_of({"images.npy": npy(plain, data), "labels.npy": _raw(labels.astype(">i8"))})
    objects = np.array([0, 1] * 5, object)
    zeros = "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 3, 2000, 2000), }"
    return {
        **{f"a header of {case}": (of(header), ARRAY) for case, header in headers.items()},
        **{
            f"images of {case}": (of(plain.replace("|u1", kind)), "dataset-array-dtype") for case, kind in types.items()
        },
        "a header of version 3": (zip_of({"images.npy": b"\x93NUMPY\x03\x00" + bytes(80), "labels.npy": tail}), ARRAY),
        "a header of 4 GiB": (zip_of({"images.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "labels.npy": tail}), ARRAY),
        "a header without magic": (zip_of({"images.npy": b"NUMPY", "labels.npy": tail}), ARRAY),
        "an empty array file": (zip_of({"images.npy": b"", "labels.npy": tail}), ARRAY),
        "a pickle for images": (zip_of({"images.npy": b"\x80\x04cposix\nsystem\n.", "labels.npy": tail}), ARRAY),
        "objects with a pickle": (
            of(
                plain.replace("|u1", "|O").replace("(10, 3, 4, 4)", "(1,)"),
                b"\x80\x02cposix\nsystem\n(V" + bait.command.encode() + b"\ntR.",
            ),
            "dataset-array-dtype",
        ),
        "a record with objects": (
            of("{'descr': [('a', '|O'), ('b', '<f4')], 'fortran_order': False, 'shape': (1,), }"),
            "dataset-array-dtype",
        ),
        "a record that is deep": (
            of("{'descr': " + "[('a', " * 50 + "'|u1'" + ")]" * 50 + ", 'fortran_order': False, 'shape': (480,), }"),
            "dataset-array-dtype",
        ),
        "labels of objects": (npz(images=good, labels=objects), "dataset-array-dtype"),
        "labels of floats": (npz(images=good, labels=labels.astype("f8")), "dataset-array-dtype"),
        "labels of booleans": (npz(images=good, labels=labels.astype(bool)), "dataset-array-dtype"),
        "labels of u8": (npz(images=good, labels=labels.astype("u8")), "dataset-array-dtype"),
        "labels big-endian": (wide, "dataset-array-dtype"),
        "images in Fortran order": (npz(images=np.asfortranarray(good), labels=labels), "dataset-array-shape"),
        "a scalar for images": (npz(images=np.uint8(1), labels=labels), "dataset-array-shape"),
        "a scalar for labels": (npz(images=good, labels=np.int64(1)), "dataset-array-shape"),
        "two channels": (npz(images=good[:, :2].copy(), labels=labels), "dataset-array-shape"),
        "32 dimensions": (npz(images=good.reshape(10, 3, 4, 4, *[1] * 28), labels=labels), "dataset-array-shape"),
        "no height": (npz(images=good[:, :, :0], labels=labels), "dataset-array-shape"),
        "one label too many": (npz(images=good, labels=np.arange(11) % 2), "dataset-array-shape"),
        "NaN in the last pixel": (npz(images=nan, labels=labels), "dataset-not-finite"),
        "infinity in half floats": (npz(images=np.full_like(good, -np.inf, "f2"), labels=labels), "dataset-not-finite"),
        "a label of -2^63": (npz(images=good, labels=labels * -(2**62) * 2), LABEL),
        "a label of 100,001": (npz(images=good, labels=labels * 100_001), LABEL),
        "a label of 2^32 - 1": (npz(images=good, labels=(labels * (2**32 - 1)).astype("u4")), LABEL),
        "a third array": (npz(images=good, labels=labels, extra=objects), MISSING),
        "arrays without labels": (npz(images=good), MISSING),
        "arrays in other letters": (npz(Images=good, labels=labels), MISSING),
        "the labels twice": (
            zip_of({"images.npy": _raw(good), "labelz.npy": tail, "labels.npy": tail}).replace(b"labelz", b"labels"),
            TWICE,
        ),
        "images of 2^31 pixels": (
            of(plain.replace("(10, 3, 4, 4)", "(0, 3, 65536, 32768)"), b""),
            "dataset-array-shape",
        ),
        "a bomb of zeros": (
            lambda: zip_of({"images.npy": npy(zeros, bytes(120_000_000)), "labels.npy": tail}, compression=8),
            BOMB,
        ),
        "an array cut off": (zip_of({"images.npy": _raw(good)[:-1], "labels.npy": tail}), ARRAY),
        "an array that goes on": (zip_of({"images.npy": _raw(good) + b"x", "labels.npy": tail}), ARRAY),
        "the same image ten times": (npz(images=np.repeat(good[:1], 10, 0), labels=labels), "dataset-duplicates"),
        "an npy within an npz": (zip_of({"images.npy": GOOD, "labels.npy": tail}), ARRAY),
        "50,001 images": (
            lambda: npz(images=np.zeros((50_001, 1, 1, 1), "u1"), labels=np.arange(50_001) % 2),
            "dataset-too-many-images",
        ),
    }
