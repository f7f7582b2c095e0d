"""Every crafted data set."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile

from ...intake.builders import encoded, folders, pixels, zip_of
from .archives import crafted_archives
from .arrays import crafted_arrays, npy
from .case import Bait, Crafted
from .images import crafted_images, with_image
from .parquet import crafted_parquet

BROKEN = "dataset-archive-broken"
FORMAT = "dataset-format-not-accepted"
GOOD = zip_of(folders())


def datasets(bait: Bait) -> Crafted:
    """name -> (file, problem): archives, images, arrays, Parquet, other formats."""
    images = {case: (with_image(image), problem) for case, (image, problem) in crafted_images(bait).items()}
    groups = {
        "archive": crafted_archives(bait),
        "image": images,
        "npz": crafted_arrays(bait),
        "parquet": crafted_parquet(),
        "format": _formats(bait),
    }
    return {f"{group}: {case}": value for group, cases in groups.items() for case, value in cases.items()}


def _formats(bait: Bait) -> Crafted:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        link = tarfile.TarInfo("cat")
        link.type, link.linkname = tarfile.SYMTYPE, "/"
        archive.addfile(link)
    return {
        "a tar with a link": (tar.getvalue(), FORMAT),
        "a gzipped tar": (gzip.compress(tar.getvalue(), mtime=0), FORMAT),
        "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(60), FORMAT),
        "rar": (b"Rar!\x1a\x07\x01\x00" + bytes(60), FORMAT),
        "xz": (b"\xfd7zXZ\x00" + bytes(60), FORMAT),
        "bzip2": (b"BZh9" + bytes(60), FORMAT),
        "zstd": (b"\x28\xb5\x2f\xfd" + bytes(60), FORMAT),
        "a pickle": (b"\x80\x04cposix\nsystem\n\x8c\x01x\x85R.", FORMAT),
        "a joblib file": (b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n.", FORMAT),
        "an npy of objects": (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), FORMAT),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(60), FORMAT),
        "a TFRecord": (struct.pack("<Q", 1 << 60) + bytes(60), FORMAT),
        "an Arrow file": (b"ARROW1\0\0" + bytes(60), FORMAT),
        "an LMDB file": (bytes(16) + b"\xde\xc0\xef\xbe" + bytes(60), FORMAT),
        "CSV": (b"label,pixel0\n1,0\n", FORMAT),
        "a script": (b"#!/bin/sh\n" + bait.command.encode(), FORMAT),
        "a zip after a script": (b"#!/bin/sh\n" + bait.command.encode() + b"\n" + GOOD, FORMAT),
        "a JPEG": (encoded(pixels(1), "JPEG"), FORMAT),
        "PK and nothing": (b"PK\x03\x04", BROKEN),
        "a web page": (b"<!doctype html><title>Sign in</title>", "file-not-the-real-thing"),
        "nothing": (b"", "file-empty"),
    }  # fmt: skip
