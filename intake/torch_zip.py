"""Turns a state dict written by torch.save (a zip) into entries, without torch and without Python's pickle."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from intake.archives import Archive, ArchiveFault, open_archive
from intake.limits import Limits
from intake.pickle_machine import EXPORT_ADVICE, TensorSpec, interpret, not_accepted
from intake.problems import IntakeRefused, refusal, shown
from intake.safetensors_file import Entry, read_span
from intake.tensors import ITEM_BYTES, check_name, check_shape, dense_order

WRAPPERS: Final = ("state_dict", "model", "net", "model_state_dict")


@dataclass(frozen=True, slots=True)
class StateDict:
    """A state dict as it lay in the upload."""

    entries: list[Entry]
    wrapper: str | None


def read_state_dict(file: BinaryIO, size: int, limits: Limits) -> StateDict:
    """The tensors of a zip file of `size` bytes written by torch.save; raises `IntakeRefused`."""
    try:
        archive = open_archive(file, size, limits)
        records = _records(archive)
        root = interpret(archive.read(records["data.pkl"], limits.max_header_bytes), limits)
    except ArchiveFault as fault:
        raise as_model_refusal(fault) from None
    wrapper, tensors = _find_state_dict(root)
    if len(tensors) > limits.max_tensors:
        raise refusal(
            "model-too-many-tensors",
            f"The file holds {len(tensors):,} tensors; at most {limits.max_tensors:,} are accepted.",
        )
    entries = [_entry(archive, records, name, spec) for name, spec in tensors.items()]
    _check_expansion(entries, size, limits)
    return StateDict(entries, wrapper)


def _check_expansion(entries: Sequence[Entry], size: int, limits: Limits) -> None:
    """Tied tensors are written once per name: 64 KiB under 20,000 names would take more than a gigabyte."""
    total = sum(entry.bytes for entry in entries)
    if total > max(limits.ratio_floor_bytes, limits.max_ratio * size):
        raise refusal(
            "model-too-large",
            f"The tensors share their bytes: in the file of {size:,} bytes they take {total:,} when each name has its "
            f"own, more than {limits.max_ratio} times. {EXPORT_ADVICE}",
        )


def as_model_refusal(fault: ArchiveFault) -> IntakeRefused:
    """A model's archive is either whole or broken: one slug for all faults."""
    return IntakeRefused("model-file-broken", fault.detail, dict(fault.extra))


def _records(archive: Archive) -> dict[str, zipfile.ZipInfo]:
    """Record name within the one root folder -> member; refuses every other kind of zip."""
    names = {member.filename for member in archive.members}
    roots = {name.partition("/")[0] for name in names}
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise _wrong_format("TorchScript", "it holds a program, which is not run here")
    if any(name.startswith("models/") or name == "serialized_exported_program.json" for name in inner | names):
        raise _wrong_format("a torch.export archive (.pt2)", "it holds a program, which is not run here")
    if "data.pkl" not in inner:
        raise _wrong_format("a zip file without a state dict", "no data.pkl is in it")
    if len(roots) != 1:
        raise refusal(
            "model-file-broken", f"The zip file has {len(roots)} top folders; torch.save writes one. {EXPORT_ADVICE}"
        )
    records = {member.filename.partition("/")[2]: member for member in archive.members}
    for name, member in records.items():
        if name != name.lower():  # torch.load takes Byteorder for byteorder, and then turns every number round
            raise refusal(
                "model-file-broken", f"torch.save never writes a record named {shown(name)!r}. {EXPORT_ADVICE}"
            )
        if member.compress_type != zipfile.ZIP_STORED:
            raise refusal(
                "model-file-broken",
                f"{shown(name)!r} is compressed. torch.save never compresses: upload its file as it is.",
            )
    if "byteorder" in records and archive.read(records["byteorder"], 16).strip() != b"little":
        raise refusal("model-file-broken", f"The file is not little-endian. {EXPORT_ADVICE}")
    return records


def _wrong_format(what: str, why: str) -> IntakeRefused:
    return refusal("model-format-not-accepted", f"This is {what}: {why}. {EXPORT_ADVICE}", found=what)


def _find_state_dict(root: Any) -> tuple[str | None, dict[str, TensorSpec]]:
    """(wrapper key or None, name -> tensor) of the object in the file."""
    if type(root) is not dict:
        raise not_accepted(f"a {type(root).__name__} as its whole content")
    found = [key for key in WRAPPERS if _holds_tensors(root.get(key))]
    if len(found) > 1:
        raise refusal(
            "model-wrapper-ambiguous",
            f"The file holds tensors under each of {', '.join(found)}. Upload the one that is meant, on its own.",
            keys=found,
        )
    wrapper = found[0] if found else None
    tensors = root[wrapper] if wrapper is not None else root
    if wrapper is None and not _holds_tensors(root):
        keys = [shown(key, 40) for key in list(root)[:20]]
        raise refusal(
            "model-no-tensors",
            f"No state dict lies at the top of the file or under {', '.join(WRAPPERS)}; its keys are "
            f"{', '.join(keys) or 'none'}. {EXPORT_ADVICE}",
            keys=keys,
        )
    for key, value in tensors.items():
        if type(value) is not TensorSpec:
            raise refusal(
                "model-entry-not-a-tensor",
                f"{shown(key)!r} in the state dict is of type {type(value).__name__}. {EXPORT_ADVICE}",
                tensor=shown(key),
            )
    return wrapper, tensors


def _holds_tensors(value: Any) -> bool:
    return type(value) is dict and any(type(item) is TensorSpec for item in value.values())


def _entry(archive: Archive, records: Mapping[str, zipfile.ZipInfo], name: Any, spec: TensorSpec) -> Entry:
    """The tensor as an entry, once its range, layout and record are checked."""
    check_name(name, archive.limits)
    shape = check_shape(name, spec.shape, archive.limits)
    storage, item_bytes = spec.storage, ITEM_BYTES[spec.storage.dtype]
    member = records.get(f"data/{storage.key}")
    if member is None:
        raise refusal("model-file-broken", f"The data of {shown(name)!r} is missing from the file.", tensor=shown(name))
    if storage.count < 0 or storage.count * item_bytes != member.file_size:
        raise _out_of_range(
            name, f"its storage should have {storage.count:,} values, but takes {member.file_size:,} bytes"
        )
    count = math.prod(shape)
    if spec.offset < 0 or (count and spec.offset + count > storage.count):
        raise _out_of_range(name, f"it ends at value {spec.offset + count:,} of a storage of {storage.count:,}")
    order = dense_order(shape, spec.stride)
    if order is None:
        raise refusal(
            "model-tensor-not-contiguous",
            f"{shown(name)!r} of shape {shape} has the strides {list(spec.stride)[:8]}: it repeats or skips values. "
            "Save with `{k: v.contiguous() for k, v in model.state_dict().items()}`.",
            tensor=shown(name),
        )
    try:
        start = archive.start(member)
    except ArchiveFault as fault:
        raise as_model_refusal(fault) from None
    whole = _Span(archive.file, name, start + spec.offset * item_bytes, count * item_bytes)
    crc = member.CRC if (spec.offset == 0 and count == storage.count) else None
    if order == list(range(len(shape))):
        return Entry(name, storage.dtype, shape, lambda: whole.checked(crc))
    return Entry(
        name, storage.dtype, shape, lambda: [_reordered(b"".join(whole.checked(crc)), item_bytes, shape, order)]
    )


def _out_of_range(name: str, why: str) -> IntakeRefused:
    return refusal(
        "model-tensor-out-of-range", f"{shown(name)!r} lies outside of the file's data: {why}.", tensor=shown(name)
    )


@dataclass(frozen=True, slots=True)
class _Span:
    """The bytes of one tensor in the file."""

    file: BinaryIO
    name: str
    start: int
    length: int

    def checked(self, crc: int | None) -> Iterator[bytes]:
        """The bytes in chunks; raises `model-file-broken` at the end where their CRC-32 is not `crc`."""
        running = 0
        for chunk in read_span(self.file, self.name, self.start, self.length):
            if crc is not None:
                running = zlib.crc32(chunk, running)
            yield chunk
        if crc is not None and running != crc:
            raise refusal(
                "model-file-broken",
                f"The bytes of {shown(self.name)!r} do not match their checksum: upload the file again.",
                tensor=shown(self.name),
            )


def _reordered(data: bytes, item_bytes: int, shape: Sequence[int], order: Sequence[int]) -> bytes:
    """Contiguous bytes of a dense tensor whose dimensions lie in memory in `order`, outermost first."""
    import numpy as np

    stored = np.frombuffer(data, f"V{item_bytes}").reshape([shape[d] for d in order])
    return stored.transpose([order.index(d) for d in range(len(shape))]).tobytes()
