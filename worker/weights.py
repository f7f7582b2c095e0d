"""Safetensors in the upload's own layout: load a suspect, write weights back with its keys, order, dtypes, shapes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_HEADER_ALIGNMENT = 8


class ByteSink(Protocol):
    """What the writer writes to: a storage writer or an open file."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """One tensor of an upload: its name there, its safetensors dtype and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def read_layout(path: Path) -> list[TensorSlot]:
    """The tensors of a safetensors file in the order in which their bytes lie (the upload's order)."""
    with safe_open(path, framework="pt") as file:
        slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
        return [TensorSlot(name, part.get_dtype(), tuple(part.get_shape())) for name, part in slices]


def load_into(module: nn.Module, path: Path, *, prefix: str) -> None:
    """Load a safetensors file into `module`, strictly, after taking `prefix` (such as `module.`) off its names.

    Raises RuntimeError where names or shapes do not match.
    """
    tensors = {name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    module.load_state_dict(tensors, strict=True)


def write_like(sink: ByteSink, layout: Sequence[TensorSlot], module: nn.Module, *, prefix: str) -> None:
    """Write `module`'s state as safetensors with exactly the keys, order, dtypes and shapes of `layout`.

    The library's own writer sorts tensors by dtype and name; people compare checkpoints key by key, so the order stays.
    Raises KeyError where the module lacks a tensor of the layout, ValueError where a shape differs.
    """
    state = module.state_dict()
    sink.write(_header(layout))
    for slot in layout:
        sink.write(_bytes_of(state[slot.name.removeprefix(prefix)], slot))


def _header(layout: Sequence[TensorSlot]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for slot in layout:
        end = start + _DTYPES[slot.dtype].itemsize * _elements(slot.shape)
        header[slot.name] = {"dtype": slot.dtype, "shape": list(slot.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes_of(tensor: Tensor, slot: TensorSlot) -> bytes:
    if tuple(tensor.shape) != slot.shape:
        raise ValueError(f"{slot.name}: {tuple(tensor.shape)} to be written where the upload has {slot.shape}")
    return (
        _cast(tensor.detach().cpu(), _DTYPES[slot.dtype]).reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
    )


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in `dtype`; values beyond a narrower float's range become its largest, never infinity."""
    if dtype.is_floating_point and tensor.is_floating_point():
        limits = torch.finfo(dtype)
        if limits.max < torch.finfo(tensor.dtype).max:
            tensor = tensor.clamp(limits.min, limits.max)
    return tensor.to(dtype)


def _elements(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
