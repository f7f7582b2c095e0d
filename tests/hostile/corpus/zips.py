"""Lies that a zip file can tell, made from good zips record by record; for models and data sets alike."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def patched(upload: bytes, at: int, layout: str, *values: int) -> bytes:
    """The file with other numbers at a position."""
    raw = bytearray(upload)
    struct.pack_into(layout, raw, at, *values)
    return bytes(raw)


def central(upload: bytes, index: int = 0) -> int:
    """Where the directory's entry `index` starts."""
    at = struct.unpack_from("<L", upload, upload.rindex(END) + 16)[0]
    for _ in range(index):
        name, extra, comment = struct.unpack_from("<3H", upload, at + 28)
        at += 46 + name + extra + comment
    return at


def two_directories(upload: bytes, hidden: bytes) -> bytes:
    """A whole other zip in the comment of the first: readers from the front and from the back differ."""
    return upload[:-2] + struct.pack("<H", len(hidden)) + hidden


def zip64(upload: bytes, *, count: int | None = None, size: int | None = None, offset: int | None = None) -> bytes:
    """The zip with zip64 end records, which say what is given instead of the truth."""
    end = upload.rindex(END)
    true_count, true_size, true_offset = struct.unpack_from("<HLL", upload, end + 10)
    wide = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\x06\x06",
        44,
        45,
        45,
        0,
        0,
        count if count is not None else true_count,
        count if count is not None else true_count,
        size if size is not None else true_size,
        offset if offset is not None else true_offset,
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2LH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return upload[:end] + wide + locator + last


def quoted(names: list[str], kernel: bytes, times: int = 1) -> bytes:
    """Members that all point to one deflated kernel: the overlap of the 4.5 PB zip."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(kernel * times) + packed.flush()
    sizes = (zlib.crc32(kernel * times), len(data), len(kernel * times))
    first = names[0].encode()
    body = struct.pack("<4s5H3L2H", LOCAL, 20, 0, 8, 0, 33, *sizes, len(first), 0) + first + data
    entries = b"".join(
        struct.pack("<4s6H3L5H2L", CENTRAL, 20, 20, 0, 8, 0, 33, *sizes, len(raw), *[0] * 6) + raw
        for raw in map(str.encode, names)
    )
    return body + entries + struct.pack("<4s4H2LH", END, 0, 0, len(names), len(names), len(entries), len(body), 0)


Lie = Callable[[bytes], bytes]

BROKEN_LIES: dict[str, Lie] = {
    "a directory far away": lambda z: patched(z, z.rindex(END) + 16, "<L", 0x7FFFFFFF),
    "a directory of no size": lambda z: patched(z, z.rindex(END) + 12, "<L", 0),
    "a directory one byte short": lambda z: patched(z, z.rindex(END) + 12, "<L", len(z) - 22 - central(z) - 1),
    "a local header far away": lambda z: patched(z, central(z) + 42, "<L", 0x7FFFFFFF),
    "a local header without its magic": lambda z: patched(z, z.rindex(LOCAL), "<L", 0),
    "a stored member of two sizes": lambda z: patched(z, central(z) + 24, "<L", 7),
    "a member beyond the file": lambda z: patched(z, central(z) + 20, "<2L", 1 << 30, 1 << 30),
    "a method that nobody knows": lambda z: patched(z, central(z) + 10, "<H", 99),
    "bzip2": lambda z: patched(z, central(z) + 10, "<H", 12),
    "zstd": lambda z: patched(z, central(z) + 10, "<H", 93),
    "a version from the future": lambda z: patched(z, central(z) + 6, "<H", 990),
    "a comment longer than the file": lambda z: patched(z, len(z) - 2, "<H", 0xFFFF)[:-1],
    "an extra field that lies": lambda z: patched(z, central(z) + 30, "<H", 0xFFF0),
    "a zip64 directory far away": lambda z: zip64(z, offset=1 << 62),
    "a zip64 directory before the file": lambda z: zip64(z, offset=(1 << 64) - 1),
    "a zip64 locator alone": lambda z: (
        z[: z.rindex(END)] + struct.pack("<4sLQL", b"PK\x06\x07", 0, 1 << 40, 1) + z[z.rindex(END) :]
    ),
    "a second disk": lambda z: z[: z.rindex(END)] + struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 2) + z[z.rindex(END) :],
    "half of its directory": lambda z: z[: (central(z) + len(z)) // 2],
    "only its local headers": lambda z: z[: central(z)],
    "bytes lost in the middle": lambda z: z[: len(z) // 3] + z[len(z) // 3 + 10 :],
    "another name in the local header": lambda z: z[:30] + b"X" + z[31:],
}
"""Lies after which a zip counts as broken, whatever is in it."""

COUNT_LIES: dict[str, Lie] = {
    "a zip64 count of 2^63": lambda z: zip64(z, count=1 << 63),
    "a zip64 directory of 1 EiB": lambda z: zip64(z, size=1 << 60),
    "a count of 65,535": lambda z: patched(z, z.rindex(END) + 8, "<2H", 65_535, 65_535),
    "a directory of 2 GiB": lambda z: patched(z, z.rindex(END) + 12, "<L", 0x7FFFFFFF),
}
"""Lies about the size of the directory."""

NAMES = {
    "..": "../x",
    ".. within": "a/../../x",
    ".": "./x",
    "an empty part": "a//x",
    "a root": "/etc/passwd",
    "two roots": "//server/x",
    "a drive": "C:/x",
    "a drive without a slash": "C:x",
    "backslashes": "a\\..\\x",
    "a stream of NTFS": "a:x/1",
    "a line break": "a/\n",
    "an escape": "a/\x1b[2J",
    "a DEL": "a/\x7f",
    "text that turns round": "a/\u202egnp.exe",
    "a blank of no width": "a/\u200bx",
    "half a pair": "a/\ue000",
    "1,025 characters": "a/" + "b" * 1023 + "c",
}
"""Names that no member may have."""


def named(upload: list[tuple[str, bytes]], name: str, data: bytes = b"x") -> bytes:
    """The members, and one whose name is written as it is (zipfile would correct some)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in upload:
            archive.writestr(member, content)
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        archive.writestr(info, data)
    return buffer.getvalue()
