"""Finds torchvision and timm candidates for a set of tensors without building a thousand models.

`index.json` maps a hash of the tensor names to hashes of the shapes to architecture names. It is only a shortlist:
every candidate is then built and compared. `python -m modeconn_core.architectures.make_index` writes it anew after
an update of either library; until then their newest models are known by name, not by their tensors.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from modeconn_core.architectures.family import Shape, Shapes
from modeconn_core.architectures.libraries import PATCHES, POSITIONS
from modeconn_core.architectures.signature import OPTIONAL_SUFFIX

PATH = Path(__file__).with_name("index.json")


def _hash(lines: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(lines)).encode(), digest_size=6).hexdigest()


def names_key(shapes: Mapping[str, Shape]) -> str:
    """A hash of the tensor names."""
    return _hash(name for name in shapes if not name.endswith(OPTIONAL_SUFFIX))


def shapes_key(shapes: Mapping[str, Shape], without: Iterable[str]) -> str:
    """A hash of names and shapes, `without` some tensors."""
    left_out = set(without)
    return _hash(
        f"{name} {shape}"
        for name, shape in shapes.items()
        if name not in left_out and not name.endswith(OPTIONAL_SUFFIX)
    )


@lru_cache(maxsize=1)
def _load() -> dict[str, list[dict[str, Any]]]:
    return json.loads(PATH.read_text())["groups"]


def lookup(shapes: Shapes) -> tuple[list[str], list[str]]:
    """Two lists of library architectures, each simplest name first: with just these shapes (twins of each other), and
    with them after a change of image or patch size (vision transformers)."""
    same: list[str] = []
    resized: list[str] = []
    for group in _load().get(names_key(shapes), ()):
        same += group["same"].get(shapes_key(shapes, group["head"]), ())
        resized += group["resized"].get(shapes_key(shapes, (*group["head"], *POSITIONS, *PATCHES)), ())
    return same, resized
