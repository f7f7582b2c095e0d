"""From an uploaded model of any kind to the canonical safetensors file, or to the reason why not."""

from __future__ import annotations

import struct
from typing import BinaryIO

from intake.archives import ZIP_MAGIC
from intake.facts import ModelFacts
from intake.formats import HEAD_BYTES, check_not_a_pointer, name_of
from intake.limits import Limits
from intake.pickle_machine import EXPORT_ADVICE
from intake.problems import refusal
from intake.safetensors_file import read_entries, write_canonical
from intake.tensors import common_prefix
from intake.torch_zip import read_state_dict


def convert(source: BinaryIO, size: int, target: BinaryIO, limits: Limits) -> ModelFacts:
    """Write the canonical form of the model in `source` (`size` bytes) to `target`; raises `IntakeRefused`."""
    if size > limits.max_model_bytes:
        raise refusal(
            "model-too-large", f"The file has {size:,} bytes; at most {limits.max_model_bytes:,} are accepted."
        )
    wrapper: str | None = None
    metadata: dict[str, str] = {}
    head = source.read(HEAD_BYTES)
    check_not_a_pointer(head)
    if head.startswith(ZIP_MAGIC):
        state_dict = read_state_dict(source, size, limits)
        entries, wrapper = state_dict.entries, state_dict.wrapper
    elif _is_safetensors(head):
        entries, metadata = read_entries(source, size, limits)
    else:
        found = name_of(head)
        raise refusal(
            "model-format-not-accepted",
            f"The file is {found}. Accepted are .safetensors files, and .pt/.pth/.ckpt files with a state dict. "
            f"{EXPORT_ADVICE}",
            found=found,
        )
    write_canonical(target, entries, metadata, limits)
    return ModelFacts(
        tensors=[(entry.name, entry.dtype, entry.shape) for entry in entries],
        wrapper=wrapper,
        prefix=common_prefix([entry.name for entry in entries]),
        metadata=metadata,
        format="pt" if head.startswith(ZIP_MAGIC) else "safetensors",
    )


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, then a JSON object; a length beyond 2^48 is another format that has "{" by chance."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 1 << 48
