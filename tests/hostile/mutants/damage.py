"""Numbers and bytes changed a little, drawn from a generator: what all mutants are made with."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

EDGES = (0, 1, 2, 7, 255, 256, 0xFFFF, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63)


def number(rng: Random, near: int) -> int:
    """A number at the edge of some width, or one that is nearly `near`."""
    match rng.randrange(5):
        case 0:
            return rng.choice(EDGES)
        case 1:
            return near ^ 1 << rng.randrange(64)
        case 2:
            return -near
        case 3:
            return near * rng.choice((2, 4, 1 << 16, 1 << 32))
        case _:
            return near + rng.choice((-8, -4, -1, 1, 4, 8))


def damaged(rng: Random, data: bytes) -> bytes:
    """The bytes with one thing changed: a bit, a byte, a piece that is lost, repeated, moved or put in."""
    if not data:
        return rng.randbytes(3)
    return rng.choice(_DAMAGES)(rng, data, rng.randrange(len(data)))


def _flip(rng: Random, data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _set(rng: Random, data: bytes, at: int) -> bytes:
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def _cut(rng: Random, data: bytes, at: int) -> bytes:
    return data[:at] + data[at + rng.randrange(1, 9) :]


def _end(rng: Random, data: bytes, at: int) -> bytes:
    return data[:at]


def _insert(rng: Random, data: bytes, at: int) -> bytes:
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


def _repeat(rng: Random, data: bytes, at: int) -> bytes:
    return data[:at] + data[at : at + rng.randrange(1, 33)] * rng.randrange(2, 5) + data[at:]


def _move(rng: Random, data: bytes, at: int) -> bytes:
    to = rng.randrange(len(data))
    piece = data[at : at + rng.randrange(1, 33)]
    return data[:to] + piece + data[to + len(piece) :]


_DAMAGES: tuple[Callable[[Random, bytes, int], bytes], ...] = (_flip, _set, _cut, _end, _insert, _repeat, _move)
