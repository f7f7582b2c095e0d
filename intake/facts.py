"""What the intake tells about an accepted upload: plain JSON objects."""

from __future__ import annotations

from typing import Literal, TypedDict

DatasetKind = Literal["clean", "triggered"]
"""A clean set has images of every class; a triggered set may be all of the one class that the attacker wants."""


class ModelFacts(TypedDict):
    """Facts of a model whose canonical form is a safetensors file in the upload's order."""

    tensors: list[tuple[str, str, list[int]]]
    """[name, safetensors dtype such as "F32", shape], in the upload's order."""
    wrapper: str | None
    """The key under which the state dict lay in a `.pt` file."""
    prefix: str
    """What every name starts with because of DataParallel or torch.compile ("module.", "_orig_mod."), or ""."""
    metadata: dict[str, str]
    format: Literal["safetensors", "pt"]


class DatasetFacts(TypedDict):
    """Facts of a data set whose canonical form is an npz of `images` (N, C, H, W) and `labels` (N,)."""

    images: int
    classes: list[str] | list[int]
    """Folder names, sorted, or class ids, ascending, or the names of a Parquet file's ClassLabel, in its order.
    `labels` of the canonical form are indices into this list."""
    per_class: list[int]
    shape: list[int]
    """[C, H, W]"""
    dtype: Literal["uint8", "float32"]
    duplicates: int
    """Images that equal an earlier image, bit for bit."""
