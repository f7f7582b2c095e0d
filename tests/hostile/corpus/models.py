"""Every crafted model file."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np

from ...intake.builders import a_dict, tensor, torch_zip, zip_of
from .case import Bait, Crafted
from .pickles import BROKEN, pickles
from .safetensors_files import safetensors_files
from .zips import BROKEN_LIES, COUNT_LIES, LOCAL, NAMES, central, named, patched, quoted, two_directories, zip64

FORMAT = "model-format-not-accepted"
NAME = "model-tensor-name-not-accepted"
RANGE = "model-tensor-out-of-range"
GOOD = torch_zip(a_dict(w=tensor()))
MEMBERS = [("archive/data.pkl", b"\x80\x02" + a_dict(w=tensor()) + b"."), ("archive/data/0", bytes(16))]


def models(bait: Bait) -> Crafted:
    """name -> (file, problem): pickles, zips, safetensors, other formats."""
    groups = {"pickle": pickles(bait), "zip": _zips(), "safetensors": safetensors_files(), "format": _formats(bait)}
    return {f"{group}: {case}": value for group, cases in groups.items() for case, value in cases.items()}


def _zips() -> Crafted:
    two = zip_of({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(16)})
    repeated = zip_of([*MEMBERS, ("archive/data/1", b"x")]).replace(b"archive/data/1", b"archive/data/0")
    big = {"archive/byteorder": b"little" * 10}
    return {
        **{f"a name with {case}": (named(MEMBERS, name), BROKEN) for case, name in NAMES.items()},
        **{case: (lie(GOOD), BROKEN) for case, lie in (BROKEN_LIES | COUNT_LIES).items()},
        "a directory of no size": (BROKEN_LIES["a directory of no size"](GOOD), FORMAT),
        "a NUL in a name": (named(MEMBERS, "archive/data/1").replace(b"data/1", b"data\x00\x31"), BROKEN),
        "one record twice": (repeated, BROKEN),
        "two directories": (two_directories(GOOD, two), BROKEN),
        "records that share their bytes": (quoted(["a/data.pkl", "a/data/0", "a/data/1"], bytes(999)), BROKEN),
        "a deflated pickle": (torch_zip(a_dict(w=tensor()), compression=zipfile.ZIP_DEFLATED), BROKEN),
        "a bomb beside the pickle": (
            lambda: zip_of({**dict(MEMBERS), "archive/x": bytes(50 << 20)}, compression=zipfile.ZIP_DEFLATED),
            BROKEN,
        ),
        "a byte order that is nobody's": (zip_of({**dict(MEMBERS), "archive/byteorder": b"middle"}), BROKEN),
        "a byte order that goes on": (zip_of({**dict(MEMBERS), **big}), BROKEN),
        "an encrypted pickle": (
            GOOD[:6] + b"\x01" + GOOD[7:].replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
            BROKEN,
        ),
        "a record that calls itself a folder": (patched(GOOD, central(GOOD, 2) + 38, "<L", 0x10), BROKEN),
        "a record that ends half a number after the file": (
            patched(GOOD, GOOD.rindex(LOCAL) + 26, "<H", len(GOOD) - GOOD.rindex(LOCAL) - 30 - 7),
            BROKEN,
        ),
        "a linked record": (_linked(), BROKEN),
        "three top folders": (torch_zip(a_dict(w=tensor()), others={"b/x": b"1", "c/x": b"1"}), BROKEN),
        "a byte order that only torch sees": (
            torch_zip(a_dict(w=tensor()), others={"archive/Byteorder": b"big"}),
            BROKEN,
        ),
        "a record beside the folder": (torch_zip(a_dict(w=tensor()), others={"x": b"1"}), BROKEN),
        "50,001 records": (lambda: _many(50_001), BROKEN),
        "wrong bytes under a checksum": (GOOD.replace(np.arange(4, dtype="<f4").tobytes(), bytes(16)), BROKEN),
        "a checksum of the tied twin": (
            torch_zip(a_dict(w=tensor(), v=tensor())).replace(np.arange(4, dtype="<f4").tobytes(), bytes(16)),
            BROKEN,
        ),
        "nothing but folders": (zip_of({"archive/": b"", "archive/data/": b""}), FORMAT),
        "data.pkl as a folder": (zip_of({"archive/data.pkl/x": b""}), FORMAT),
        "a zip64 of pictures": (zip64(zip_of({"cat/1.png": b"x"})), FORMAT),
        "a Keras archive": (
            zip_of({"config.json": b"{}", "model.weights.h5": b"\x89HDF", "metadata.json": b"{}"}),
            FORMAT,
        ),
        "an npz": (zip_of({"w.npy": b"\x93NUMPY"}), FORMAT),
        "TorchScript that hides its code": (torch_zip(a_dict(w=tensor()), others={"archive/code/x.py": b""}), FORMAT),
        "TorchScript for phones": (
            torch_zip(a_dict(w=tensor()), others={"archive/constants.pkl": b".", "archive/bytecode.pkl": b"."}),
            FORMAT,
        ),
        "torch.export with weights": (
            torch_zip(a_dict(w=tensor()), others={"archive/models/model.json": b"{}"}),
            FORMAT,
        ),
        "AOTInductor with a library": (
            zip_of({"m/data/aotinductor/model/x.so": b"\x7fELF", "m/archive_format": b"pt2"}),
            FORMAT,
        ),
        "a CoreML package": (zip_of({"x.mlpackage/Manifest.json": b"{}"}), FORMAT),
        "a Java archive": (zip_of({"META-INF/MANIFEST.MF": b"", "x.class": b"\xca\xfe\xba\xbe"}), FORMAT),
        "a wheel": (zip_of({"x/__init__.py": b"", "x-1.dist-info/METADATA": b""}), FORMAT),
    }


def _linked() -> bytes:
    link = zipfile.ZipInfo("archive/data/1")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    return zip_of([*MEMBERS, (link, b"/etc/passwd")])


def _many(count: int) -> bytes:
    return zip_of([*MEMBERS, *((f"archive/x{i}", b"") for i in range(count - len(MEMBERS)))])


def _tar(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _formats(bait: Bait) -> Crafted:
    shell = b"cposix\nsystem\n(V" + bait.command.encode() + b"\ntR."
    legacy = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    return {
        **{f"a pickle of protocol {n}": (b"\x80" + bytes([n]) + shell, FORMAT) for n in range(2, 6)},
        "a pickle of protocol 0": (shell, FORMAT),
        "the legacy format with code": (legacy + b"\x80\x02" + shell, FORMAT),
        "the tar format with code": (_tar(pickle=shell, storages=b"", tensors=b""), FORMAT),
        "a gzipped pickle": (gzip.compress(shell, mtime=0), FORMAT),
        "a gzipped state dict": (gzip.compress(GOOD, mtime=0), FORMAT),
        "a zip after a pickle": (shell + GOOD, FORMAT),
        "a zip after a picture": (b"\x89PNG\r\n\x1a\n" + GOOD, FORMAT),
        "a zip after a script": (b"#!/bin/sh\n" + bait.command.encode() + b"\n" + GOOD, FORMAT),
        "an executable": (b"\x7fELF\x02\x01\x01" + bytes(100), FORMAT),
        "a library of Windows": (b"MZ" + bytes(100), FORMAT),
        "ONNX with data elsewhere": (b"\x08\x07:\x20\x0a\x08location\x12\x0e../../etc/passwd", FORMAT),
        "GGUF with a lying count": (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60), FORMAT),
        "TensorFlow Lite": (struct.pack("<I", 28) + b"TFL3" + bytes(60), FORMAT),
        "HDF5 with a lambda layer": (b"\x89HDF\r\n\x1a\n" + bytes(48) + bait.code.encode(), FORMAT),
        "an array of objects": (
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n" + b"\x80\x02" + shell,
            FORMAT,
        ),
        "a flax msgpack": (b"\x81\xa6params\x81\xa1w\xc7\x04\x01" + bytes(8), FORMAT),
        "a Paddle model": (b"\x80\x02}q\x00(X\x01\x00\x00\x00wq\x01cpaddle\nTensor\n.", FORMAT),
        "JSON": (b'{"w": [1.0]}', FORMAT),
        "YAML with code": (b"!!python/object/apply:os.system ['" + bait.command.encode() + b"']", FORMAT),
        "a Parquet file": (b"PAR1" + bytes(40) + b"PAR1", FORMAT),
        "eight bytes": (bytes(8), FORMAT),
        "one byte": (b"P", FORMAT),
        "PK and nothing": (b"PK\x03\x04", BROKEN),
        "an end record alone": (b"PK\x05\x06" + bytes(18), FORMAT),
        "a megabyte of zeros": (bytes(1 << 20), FORMAT),
        "a web page after blanks": (b"\n \t<HTML><script>alert(1)</script>", "file-not-the-real-thing"),
    }
