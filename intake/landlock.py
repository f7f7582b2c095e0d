"""Landlock by its system calls: which files this process may still read, write or drive as devices, for good.

Everything that the kernel's version can control is taken away (files, TCP, signals and abstract sockets), and the given
places are given back. Bits and structures: Linux, include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1

_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_FILE, _MOVE, _TRUNCATE, _DRIVE = 1 << 7, 1 << 8, 1 << 13, 1 << 14, 1 << 15
_OF_A_FILE: Final = _WRITE_FILE | _READ_FILE | _TRUNCATE | _DRIVE
_READ: Final = _READ_FILE | _READ_DIR
_WRITE: Final = _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _MOVE
_DEVICE: Final = _READ_FILE | _WRITE_FILE | _DRIVE

_FILE_RIGHTS_BY_VERSION: Final = (0, 13, 14, 15, 15, 16)  # how many bits a version knows; later ones know no more
_TCP: Final = 0b11  # bind and connect, from version 4
_SCOPES: Final = 0b11  # abstract sockets and signals, from version 6

NEWEST: Final = 6  # with all that is asked for here
MOVES: Final = 2  # the first one under which a file can be moved to another folder


def version() -> int:
    """The kernel's version of Landlock; 0 where it has none or has it switched off."""
    return max(0, _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def restrict(*, read: Iterable[Path], write: Iterable[Path] = (), devices: Iterable[Path] = ()) -> None:
    """Leave this thread, and all that it starts, nothing but these files and folders; those that are not there are
    passed over.

    Needs `version() > 0` and no new privileges. Raises OSError.
    """
    known = version()
    rights = (1 << _FILE_RIGHTS_BY_VERSION[min(known, len(_FILE_RIGHTS_BY_VERSION) - 1)]) - 1
    attributes = struct.pack("=QQQ", rights, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, granted in ((read, _READ), (write, _WRITE), (devices, _DEVICE)):
            for path in paths:
                _grant(ruleset, path, granted & rights)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _grant(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what cannot be reached needs no right
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, place)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    libc = _libc()
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
