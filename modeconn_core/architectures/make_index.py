"""Writes `index.json`: `python -m modeconn_core.architectures.make_index`, after an update of torchvision or timm."""

import json
import sys
from collections.abc import Iterable
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


def _variants() -> Iterable[tuple[str, dict[str, Any]]]:
    for name in torchvision_names():
        yield TORCHVISION + name, {}
        if name in AUXILIARY:
            yield TORCHVISION + name, {"aux_logits": False}
    for name in sorted(timm_names(), key=lambda name: (len(name), name)):
        yield TIMM + name, {}


def _add(groups: dict[str, list[dict[str, Any]]], name: str, found: Signature) -> None:
    head = sorted(found.head)
    same_names = groups.setdefault(names_key(found.shapes), [])
    group = next((group for group in same_names if group["head"] == head), None)
    if group is None:
        group = {"head": head, "same": {}, "resized": {}}
        same_names.append(group)
    group["same"].setdefault(shapes_key(found.shapes, head), []).append(name)
    if any(position in found.shapes for position in POSITIONS):
        group["resized"].setdefault(shapes_key(found.shapes, (*head, *POSITIONS, *PATCHES)), []).append(name)


def write() -> None:
    """Build every library model on the meta device and write the index (minutes)."""
    import timm
    import torchvision

    groups: dict[str, list[dict[str, Any]]] = {}
    for name, options in _variants():
        try:
            found = signature(name, options)
        except ArchitectureError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if found.head:
            _add(groups, name, found)
        else:
            print(f"left out: {name} has no tensor that counts classes", file=sys.stderr)
    versions = {"torchvision": torchvision.__version__.partition("+")[0], "timm": timm.__version__}
    PATH.write_text(json.dumps({"versions": versions, "groups": groups}, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    write()
