"""Damage to stored files, as a failing disk or memory does it."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def flipped_bit(path: Path, chance: random.Random, *, unseen: bool = False) -> Iterator[None]:
    """One bit of the file is wrong inside the block. `unseen`: its modification time stays."""
    before = path.stat()
    bit = chance.randrange(before.st_size * 8)
    flip_bit(path, bit)
    if unseen:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    yield
    flip_bit(path, bit)


def flip_bit(path: Path, bit: int) -> None:
    """The bit, counted from the file's beginning, becomes the other one."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        [byte] = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))
