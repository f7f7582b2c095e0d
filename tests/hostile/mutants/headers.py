"""Mutated safetensors files: fields of the header, its text, its length, the bytes behind it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from .damage import damaged, number

DTYPES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}
_NAMES = ("a", "b", "layer.weight", "module.w", "_orig_mod.w", "é", "猫", "w" * 32)
_BAD_NAMES = ("", "__metadata__", "\x00", "a\nb", "\ud800", "w" * 600, "a", "b")
_ODD = (None, True, False, 0, -1, 1.5, "", "F32", [], {}, [0], [0, 4], [[0]], {"a": 1}, float("nan"), 1 << 64, 10**30)
_TOKENS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"null",
    b"1e9",
    b"-0",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"NaN",
    b" ",
)
_Pairs = list[list[Any]]


def safetensors_file(rng: Random) -> bytes:
    """One file: good in about one case of ten."""
    pairs, data = _good(rng)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        rng.choice(_FIELDS)(rng, pairs)
    text = _json(pairs)
    if rng.random() < 0.2:
        text = _other_text(rng, text)
    length = number(rng, len(text)) if rng.random() < 0.03 else len(text)
    upload = struct.pack("<Q", length & (1 << 64) - 1) + text + data
    return damaged(rng, upload) if rng.random() < 0.15 else upload


def _good(rng: Random) -> tuple[_Pairs, bytes]:
    """Header and data of up to four tensors; small random numbers, so that some floats are not finite."""
    pairs: _Pairs = []
    end = 0
    for name in rng.sample(_NAMES, rng.randrange(1, 5)):
        dtype = rng.choice(list(DTYPES))
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        start, end = end, end + math.prod(shape) * DTYPES[dtype]
        pairs.append([name, {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}])
    if rng.random() < 0.2:
        pairs.insert(0, ["__metadata__", {"format": "pt"}])
    if rng.random() < 0.2:
        rng.shuffle(pairs)
    return pairs, rng.randbytes(end) if rng.random() < 0.3 else bytes(end)


def _json(pairs: _Pairs) -> bytes:
    """Pair by pair, so that a name may come twice."""
    return b"{" + b",".join(json.dumps(k).encode() + b":" + json.dumps(v).encode() for k, v in pairs) + b"}"


def _fields(rng: Random, pairs: _Pairs) -> dict[str, Any] | None:
    """A tensor's entry, if the pair drawn is a whole one."""
    value = rng.choice(pairs)[1] if pairs else None
    return value if isinstance(value, dict) and value.keys() == {"dtype", "shape", "data_offsets"} else None


def _other_dtype(rng: Random, pairs: _Pairs) -> None:
    if fields := _fields(rng, pairs):
        fields["dtype"] = rng.choice((*DTYPES, "F8_E4M3", "U16", "C64", "f32", ""))


def _other_size(rng: Random, pairs: _Pairs) -> None:
    if (fields := _fields(rng, pairs)) and isinstance(shape := fields["shape"], list):
        match rng.randrange(4):
            case 0:
                shape.insert(rng.randrange(len(shape) + 1), rng.choice((0, 1, 1, 2)))
            case 1:
                shape.extend(rng.choice(([1] * 9, [0, *[(1 << 31) - 1] * 3])))
            case 2 if shape:
                shape.pop()
            case _ if shape:
                at = rng.randrange(len(shape))
                shape[at] = number(rng, shape[at]) if type(shape[at]) is int else 1


def _other_offset(rng: Random, pairs: _Pairs) -> None:
    if (fields := _fields(rng, pairs)) and isinstance(offsets := fields["data_offsets"], list) and offsets:
        at = rng.randrange(len(offsets))
        offsets[at] = number(rng, offsets[at]) if type(offsets[at]) is int else 0
        if rng.random() < 0.2:
            offsets.reverse()


def _shared_offsets(rng: Random, pairs: _Pairs) -> None:
    if (fields := _fields(rng, pairs)) and (other := _fields(rng, pairs)):
        fields["data_offsets"] = other["data_offsets"]


def _other_field(rng: Random, pairs: _Pairs) -> None:
    if fields := _fields(rng, pairs):
        fields[rng.choice((*fields, "x"))] = rng.choice(_ODD)


def _lost_field(rng: Random, pairs: _Pairs) -> None:
    if fields := _fields(rng, pairs):
        fields.pop(rng.choice(list(fields)))


def _other_name(rng: Random, pairs: _Pairs) -> None:
    if pairs:
        rng.choice(pairs)[0] = rng.choice(_BAD_NAMES)


def _other_value(rng: Random, pairs: _Pairs) -> None:
    if pairs:
        rng.choice(pairs)[1] = rng.choice(_ODD)


def _once_more(rng: Random, pairs: _Pairs) -> None:
    if pairs:
        name, value = rng.choice(pairs)
        pairs.append([name, dict(value) if isinstance(value, dict) else value])


def _one_less(rng: Random, pairs: _Pairs) -> None:
    if pairs:
        pairs.pop(rng.randrange(len(pairs)))


def _metadata(rng: Random, pairs: _Pairs) -> None:
    pairs.append(["__metadata__", rng.choice((*_ODD, {"k": "v"}, {"k": "a\nb"}, {"k": "\x1b"}, {"k": 1}))])


_FIELDS: tuple[Callable[[Random, _Pairs], None], ...] = (
    *(_other_dtype, _other_size, _other_offset, _shared_offsets, _other_field, _lost_field),
    *(_other_name, _other_value, _once_more, _one_less, _metadata),
)  # fmt: skip


def _other_text(rng: Random, text: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return text + b" " * rng.randrange(9)
        case 1:
            at = rng.randrange(len(text) + 1)
            return text[:at] + rng.choice(_TOKENS) + text[at:]
        case 2:
            return text + rng.choice(_TOKENS)
        case _:
            return damaged(rng, text)
