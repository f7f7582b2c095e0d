"""Reads the header of an untrusted safetensors file, and writes the canonical one."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from intake.limits import MIB, Limits
from intake.problems import is_plain_text, refusal, shown
from intake.tensors import ITEM_BYTES, check_finite, check_name, check_shape

CHUNK_BYTES = 4 * MIB  # a multiple of every item size
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor on its way to the canonical file; `chunks()` yields its contiguous little-endian bytes."""

    name: str
    dtype: str
    shape: list[int]
    chunks: Callable[[], Iterable[bytes]]

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def read_entries(file: BinaryIO, size: int, limits: Limits) -> tuple[list[Entry], dict[str, str]]:
    """Entries in the order of their bytes, and the metadata, of a safetensors file of `size` bytes.

    Raises `IntakeRefused`; nothing but the header is read until an entry's chunks are asked for.
    """
    file.seek(0)
    (header_bytes,) = struct.unpack("<Q", file.read(8))
    if header_bytes > limits.max_header_bytes:
        raise refusal(
            "model-header-too-large",
            f"The safetensors header says it takes {header_bytes:,} bytes; at most {limits.max_header_bytes:,} "
            "are accepted.",
        )
    start = 8 + header_bytes
    if start > size:
        raise refusal(
            "model-file-broken", f"The file ends within its header, at {size:,} of {start:,} bytes. Upload it again."
        )
    header = _parse_header(file.read(header_bytes))
    metadata = _check_metadata(header.pop("__metadata__", {}))
    if not header:
        raise refusal("model-no-tensors", "The safetensors file holds no tensors.")
    if len(header) > limits.max_tensors:
        raise refusal(
            "model-too-many-tensors",
            f"The file holds {len(header):,} tensors; at most {limits.max_tensors:,} are accepted.",
        )
    spans = sorted((_check_entry(name, value, limits) for name, value in header.items()), key=lambda span: span[3:])
    end = 0
    entries = []
    for name, dtype, shape, begin, stop in spans:
        if begin != end:
            raise refusal(
                "model-file-broken",
                f"The bytes of {shown(name)!r} start at {begin:,}, but the tensor before it ends at {end:,}: "
                "tensors must follow each other without gap or overlap.",
                tensor=shown(name),
            )
        end = stop
        entries.append(Entry(name, dtype, shape, _reader(file, name, start + begin, stop - begin)))
    if start + end != size:
        short = "ends too early" if start + end > size else "goes on after its last tensor"
        raise refusal("model-file-broken", f"The file {short}: it has {size:,} bytes, its header says {start + end:,}.")
    return entries, metadata


def _reader(file: BinaryIO, name: str, start: int, length: int) -> Callable[[], Iterator[bytes]]:
    return lambda: read_span(file, name, start, length)


def read_span(file: BinaryIO, name: str, start: int, length: int) -> Iterator[bytes]:
    """`length` bytes from `start` in chunks; raises `model-file-broken` where the file ends before."""
    while length:
        file.seek(start)
        wanted = min(length, CHUNK_BYTES)
        chunk = file.read(wanted)
        if len(chunk) != wanted:
            raise refusal(
                "model-file-broken", f"The file ends within {shown(name)!r}. Upload it again.", tensor=shown(name)
            )
        yield chunk
        start += len(chunk)
        length -= len(chunk)


def _parse_header(text: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise refusal(
                "model-duplicate-names", f"The header has the key {shown(twice)!r} twice.", tensor=shown(twice)
            )
        return result

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates, parse_int=_natural)
    except (ValueError, RecursionError) as error:
        raise refusal("model-file-broken", f"The safetensors header is not JSON: {shown(error)}.") from None
    if not isinstance(header, dict):
        raise refusal("model-file-broken", "The safetensors header is not a JSON object.")
    return header


def _natural(digits: str) -> int:
    """A header has no negative numbers; -0, which Python takes for 0, is no number of safetensors' reader."""
    if digits.startswith("-"):
        raise ValueError(f"the negative number {digits[:20]}")
    return int(digits)


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise refusal("model-file-broken", "The header's __metadata__ is not a map from texts to texts.")
    if any("\0" in text or not is_plain_text(text.translate(_BLANKS)) for pair in metadata.items() for text in pair):
        raise refusal("model-file-broken", "The header's __metadata__ holds control characters.")
    return metadata


_BLANKS = {ord(c): " " for c in "\n\r\t"}


def _check_entry(name: str, value: Any, limits: Limits) -> tuple[str, str, list[int], int, int]:
    check_name(name, limits)
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise refusal(
            "model-file-broken",
            f"The header's entry for {shown(name)!r} is not exactly dtype, shape and data_offsets.",
            tensor=shown(name),
        )
    dtype, offsets = value["dtype"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise refusal(
            "model-dtype-not-accepted",
            f"{shown(name)!r} has the number type {shown(dtype)}. Accepted: {', '.join(ITEM_BYTES)}. "
            "Convert it, then save again.",
            tensor=shown(name),
            dtype=shown(dtype),
        )
    shape = check_shape(name, value["shape"], limits)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_position, offsets)):
        raise refusal(
            "model-file-broken", f"The data_offsets of {shown(name)!r} are not two positions.", tensor=shown(name)
        )
    if offsets[1] - offsets[0] != math.prod(shape) * ITEM_BYTES[dtype]:
        raise refusal(
            "model-tensor-out-of-range",
            f"{shown(name)!r} has {math.prod(shape):,} values of {dtype}, but {offsets[1] - offsets[0]:,} bytes.",
            tensor=shown(name),
        )
    return name, dtype, shape, offsets[0], offsets[1]


def _is_position(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def write_canonical(file: BinaryIO, entries: Sequence[Entry], metadata: Mapping[str, str], limits: Limits) -> None:
    """Write `entries` in their order with the given metadata; the values are checked on the way.

    Raises `model-too-large`, `model-tensor-not-finite`, and what the entries' chunks raise.
    """
    total = sum(entry.bytes for entry in entries)
    if total > limits.max_model_bytes:
        raise refusal(
            "model-too-large",
            f"The tensors take {total:,} bytes when each name has its own; at most {limits.max_model_bytes:,} "
            "are accepted.",
        )
    file.write(_header([(entry.name, entry.dtype, entry.shape, entry.bytes) for entry in entries], metadata))
    for entry in entries:
        for chunk in entry.chunks():
            check_finite(entry.name, entry.dtype, chunk)
            file.write(chunk)


def _header(tensors: Sequence[tuple[str, str, list[int], int]], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, dtype, shape, length in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
