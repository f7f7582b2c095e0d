"""Mutated `.pt` files: the pickle's instructions, their numbers and names, and the zip around them."""

from __future__ import annotations

import math
from random import Random

from ...intake.builders import integer, name, text
from .archives import archive
from .damage import damaged, number

_KINDS = {
    "FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
_REBUILD = name("torch._utils", "_rebuild_tensor_v2")
_ORDERED = name("collections", "OrderedDict")
_PIECES = (
    *(b"(", b"t", b"R", b"b", b"}", b"]", b")", b"s", b"u", b"a", b"e", b"l", b"Q", b"N", b".", b"0", b"1", b"2"),
    *(b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x93", b"\x94", b"\x81", b"\x8f", b"q\x00", b"h\x00", b"h\x01"),
    *(b"r\xff\xff\xff\xff", b"j\x00\x00\x00\x00", b"J\xff\xff\xff\xff", b"K\x04", b"M\x00\x01", b"\x8a\x00"),
    *(b"G\x7f\xf0\x00\x00\x00\x00\x00\x00", b"X\xff\xff\xff\xff", b"\x8c\x01w", b"\x8d" + b"\xff" * 8, b"\x80\x02"),
    *(b"\x95" + bytes(8), text("0"), text("w"), text("_metadata"), text("model"), integer(-1), integer(1 << 62)),
    *(_REBUILD, _ORDERED, name("torch._utils", "_rebuild_parameter"), name("posix", "system")),
    *(name("torch", kind) for kind in (*_KINDS, "UntypedStorage")),
)  # fmt: skip


def state_dict(rng: Random) -> bytes:
    """One file: good in about one case of five."""
    code: list[bytes] = [b"\x80\x02", b"}"]
    storages: dict[str, bytes] = {}
    wrapped = rng.random() < 0.2
    code += [b"(", text(rng.choice(("state_dict", "model", "net"))), b"}"] if wrapped else []
    code.append(b"(")
    for key in range(rng.randrange(1, 4)):
        code += [text(rng.choice(("w", "b", "module.w", "é"))), *_tensor(rng, str(key), storages)]
    code += [b"u", *([b"u"] if wrapped else []), b"."]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        _change(rng, code)
    pickled = b"".join(code)
    if rng.random() < 0.1:
        pickled = damaged(rng, pickled)
    records = {"a/data.pkl": pickled, "a/version": b"3\n", **storages}
    if rng.random() < 0.3:
        records["a/byteorder"] = rng.choice((b"little", b"little", b"big", b""))
    return archive(rng, records, lies=rng.choice((0, 0, 0, 0, 1, 1, 2)))


def _tensor(rng: Random, key: str, storages: dict[str, bytes]) -> list[bytes]:
    """The instructions of one tensor, on a storage of its own or on the one before; sometimes not contiguous."""
    kind = rng.choice(list(_KINDS))
    shape = [rng.randrange(1, 4) for _ in range(rng.randrange(4))]
    order = rng.sample(range(len(shape)), len(shape)) if rng.random() < 0.2 else list(range(len(shape)))
    stride = [0] * len(shape)
    step = 1
    for dim in reversed(order):
        stride[dim] = step
        step *= shape[dim]
    offset = rng.choice((0, 0, 0, 1))
    count = offset + math.prod(shape)
    storages[f"a/data/{key}"] = (
        rng.randbytes(count * _KINDS[kind]) if rng.random() < 0.2 else bytes(count * _KINDS[kind])
    )
    storage = [b"(", text("storage"), name("torch", kind), text(key), text("cpu"), integer(count), b"t", b"Q"]
    sizes = [b"(", *map(integer, shape), b"t", b"(", *map(integer, stride), b"t"]
    return [_REBUILD, b"(", *storage, integer(offset), *sizes, b"\x89", _ORDERED, b")", b"R", b"t", b"R"]


def _change(rng: Random, code: list[bytes]) -> None:
    at = rng.randrange(len(code))
    match rng.randrange(7):
        case 0:
            code[at] = rng.choice(_PIECES)
        case 1:
            code.insert(at, rng.choice(_PIECES))
        case 2 if len(code) > 1:
            del code[at]
        case 3:
            other = rng.randrange(len(code))
            code[at], code[other] = code[other], code[at]
        case 4:
            code[at:at] = code[at : at + rng.randrange(1, 40)]
        case _:
            numbers = [i for i, piece in enumerate(code) if piece.startswith(b"\x8a\x08")]
            if numbers:
                which = rng.choice(numbers)
                near = number(rng, int.from_bytes(code[which][2:], "little", signed=True))
                code[which] = integer((near + (1 << 63)) % (1 << 64) - (1 << 63))
