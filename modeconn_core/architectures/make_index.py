"""Writes `index.json`: `python -m modeconn_core.architectures.make_index`, after an update of torchvision or timm."""

import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from modeconn_core.architectures.errors import ArchitectureError
from modeconn_core.architectures.index import PATH, names_key, shapes_key
from modeconn_core.architectures.libraries import (
    AUXILIARY,
    PATCHES,
    POSITIONS,
    TIMM,
    TORCHVISION,
    timm_names,
    torchvision_names,
)
from modeconn_core.architectures.signature import Signature, signature

Groups = dict[str, list[dict[str, Any]]]


def every_variant() -> Iterable[tuple[str, dict[str, Any]]]:
    """Name and options of all that both libraries offer; of twins, the simplest name comes first."""
    for name in torchvision_names():
        yield TORCHVISION + name, {}
        if name in AUXILIARY:
            yield TORCHVISION + name, {"aux_logits": False}
    for name in sorted(timm_names(), key=lambda name: (len(name), name)):
        yield TIMM + name, {}


def _add(groups: Groups, name: str, found: Signature) -> None:
    head = sorted(found.head)
    same_names = groups.setdefault(names_key(found.shapes), [])
    group = next((group for group in same_names if group["head"] == head), None)
    if group is None:
        group = {"head": head, "same": {}, "resized": {}}
        same_names.append(group)
    group["same"].setdefault(shapes_key(found.shapes, head), []).append(name)
    if any(position in found.shapes for position in POSITIONS):
        group["resized"].setdefault(shapes_key(found.shapes, (*head, *POSITIONS, *PATCHES)), []).append(name)


def groups_of(variants: Iterable[tuple[str, dict[str, Any]]]) -> Groups:
    """Builds each variant and groups them by tensor names; what cannot be built or has no classes is left out."""
    groups: Groups = {}
    for name, options in variants:
        try:
            found = signature(name, options)
        except ArchitectureError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if found.head:
            _add(groups, name, found)
        else:
            print(f"left out: {name} has no tensor that counts classes", file=sys.stderr)
    return groups


def write() -> None:
    """Write the index of everything installed (minutes)."""
    versions = {library: version(library) for library in ("torchvision", "timm")}
    index = {"versions": versions, "groups": groups_of(every_variant())}
    PATH.write_text(json.dumps(index, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    write()
