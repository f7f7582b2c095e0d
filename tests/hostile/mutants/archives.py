"""Zips written field by field, so that local headers, directory and end record can each tell another story."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from .damage import damaged, number

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_WIDTHS = {"H": 0xFFFF, "L": 0xFFFF_FFFF}
_LOCAL_WIDTHS = [_WIDTHS[c] for c in "HHHHHLLLHH"]
_CENTRAL_WIDTHS = [_WIDTHS[c] for c in "HHHHHHLLLHHHHHLL"]
_END_WIDTHS = [_WIDTHS[c] for c in "HHHHLLH"]
_NAMES = (b"../x", b"/x", b"a//b", b"a\\b", b"C:x", b".", b"a/", b"\xff", b"a\x00b", b"", b"x" * 1100)
_EXTRAS = (
    b"\x01\x00\x08\x00" + b"\xff" * 8,  # zip64: a size of 2^64 - 1
    b"\x01\x00\x18\x00" + struct.pack("<3Q", 10, 10, 0),
    b"\x01\x00\xff\xff",
    b"up\x06\x00\x01\x00\x00\x00\x00x",  # another name in Unicode
    b"\x00",
)


@dataclass(slots=True)
class _Record:
    """A member as it will lie in the file."""

    name: bytes
    body: bytes
    local: list[int]
    central: list[int]
    extra: bytes = b""


def archive(rng: Random, members: Mapping[str, bytes], *, lies: int, deflated: bool = False) -> bytes:
    """The zip of the members, with so many lies in it; where there are some, its end may lie too."""
    records = [_record(name.encode(), data, deflated) for name, data in members.items()]
    for _ in range(lies):
        _lie(rng, records)
    body = b""
    for record in records:
        record.central[15] += len(body)
        body += _packed(_LOCAL, b"PK\x03\x04", record.local, _LOCAL_WIDTHS) + record.name + record.body
    entries = [
        _packed(_CENTRAL, b"PK\x01\x02", record.central, _CENTRAL_WIDTHS) + record.name + record.extra
        for record in records
    ]
    if lies and rng.random() < 0.1:
        entries.insert(rng.randrange(len(entries) + 1), rng.choice(entries))
    directory = b"".join(entries)
    end = [0, 0, len(entries), len(entries), len(directory), len(body), 0]
    if lies and rng.random() < 0.15:
        at = rng.randrange(len(end))
        end[at] = number(rng, end[at])
    upload = body + directory + _wide(rng, lies, end, len(body) + len(directory))
    upload += _packed(_END, b"PK\x05\x06", end, _END_WIDTHS)
    return damaged(rng, upload) if lies and rng.random() < 0.2 else upload


def _record(name: bytes, data: bytes, deflated: bool) -> _Record:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush() if deflated else data
    common = [20, 0, 8 if deflated else 0, 0, 33, zlib.crc32(data), len(body), len(data), len(name), 0]
    return _Record(name, body, common, [20 | 3 << 8, *common, 0, 0, 0, 0o100644 << 16, 0])


def _lie(rng: Random, records: list[_Record]) -> None:
    record = rng.choice(records)
    at = rng.randrange(10)
    match rng.randrange(9):
        case 0:  # only the directory says so
            record.central[at + 1] = number(rng, record.central[at + 1])
        case 1:  # only the member's own header says so
            record.local[at] = number(rng, record.local[at])
        case 2:  # both
            record.local[at] = record.central[at + 1] = number(rng, record.local[at])
        case 3:
            at = rng.randrange(11, 16)
            record.central[at] = number(rng, record.central[at])
        case 4:
            record.name = rng.choice((*_NAMES, rng.choice(records).name, damaged(rng, record.name)))
            record.local[8] = record.central[9] = len(record.name)
        case 5:
            record.extra = rng.choice(_EXTRAS)
            record.central[10] = len(record.extra)
        case 6:
            record.body = damaged(rng, record.body)
            if rng.random() < 0.5:
                record.local[6] = record.central[7] = len(record.body)
        case 7:
            records.remove(record)
            records.insert(rng.randrange(len(records) + 1), record)
            if rng.random() < 0.3 and len(records) > 1:
                records.remove(record)
        case _:
            record.central[14] = rng.choice((0o120777, 0o040755, 0o010666, 0o100777, 0)) << 16


def _wide(rng: Random, lies: int, end: list[int], at: int) -> bytes:
    """Sometimes zip64 end records, which may say something else than the plain one."""
    if rng.random() > 0.05:
        return b""
    numbers = [end[3], end[3], end[4], end[5]]
    if lies:
        which = rng.randrange(4)
        numbers[which] = number(rng, numbers[which])
    last = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *(n & (1 << 64) - 1 for n in numbers))
    if rng.random() < 0.5:
        end[2:6] = [0xFFFF, 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF]
    return last + struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)


def _packed(layout: struct.Struct, magic: bytes, values: list[int], widths: list[int]) -> bytes:
    return layout.pack(magic, *(value & width for value, width in zip(values, widths, strict=True)))
