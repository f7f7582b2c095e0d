"""Every architecture by name: built-in CIFAR families, plug-ins, torchvision and timm."""

import difflib
import re
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import nn

from modeconn_core.architectures import (
    cifar_mobilenet,
    cifar_preact_resnet,
    cifar_resnet,
    cifar_vgg,
    cifar_wide_resnet,
    libraries,
)
from modeconn_core.architectures.errors import ArchitectureError, UnknownArchitecture
from modeconn_core.architectures.family import Family

PLUGIN_GROUP = "modeconn.architectures"

BUILT_IN: dict[str, Family] = {
    family.name: family
    for room in (cifar_preact_resnet, cifar_resnet, cifar_vgg, cifar_wide_resnet, cifar_mobilenet)
    for family in room.FAMILIES
}


@lru_cache(maxsize=1)
def plugins() -> dict[str, Family]:
    """Families from the entry-point group `modeconn.architectures`: name -> callable(num_classes, **options).

    Loaded when first built. A plug-in cannot take a built-in name or one that starts with `torchvision/` or `timm/`.
    """
    found: dict[str, Family] = {}
    for entry in entry_points(group=PLUGIN_GROUP):
        taken = entry.name in BUILT_IN or entry.name.startswith((libraries.TORCHVISION, libraries.TIMM))
        if not taken:

            def make(num_classes: int, _entry: Any = entry, **options: Any) -> nn.Module:
                with torch.device("cpu"):  # its module may be imported here, inside a meta-device build
                    builder = _entry.load()
                return builder(num_classes, **options)

            found[entry.name] = Family(name=entry.name, make=make, options=None)
    return found


def find(name: str) -> Family:
    """The family of this name. Raises UnknownArchitecture with the nearest names."""
    try:
        if name in BUILT_IN:
            return BUILT_IN[name]
        if name in plugins():
            return plugins()[name]
        if name.startswith(libraries.TORCHVISION):
            return libraries.torchvision_family(name)
        if name.startswith(libraries.TIMM):
            return libraries.timm_family(name)
    except UnknownArchitecture:
        pass
    raise UnknownArchitecture(name, nearest(name))


def names() -> list[str]:
    """All names: plug-ins and built-in families first, then torchvision's, then timm's. Imports both libraries."""
    return [
        *plugins(),
        *BUILT_IN,
        *(libraries.TORCHVISION + name for name in libraries.torchvision_names()),
        *(libraries.TIMM + name for name in libraries.timm_names()),
    ]


def _plain(name: str) -> str:
    """The name without its source, suffix, case and separators: `torchvision/ResNet_18` and `resnet18_cifar` meet."""
    return re.sub(r"[^a-z0-9]", "", name.lower().rpartition("/")[2].removesuffix("_cifar"))


def nearest(name: str, count: int = 5) -> list[str]:
    """Up to `count` known names that look most like `name`, best first; equal likeness keeps the order of `names()`."""
    known = names()
    wanted = _plain(name)
    alike = difflib.get_close_matches(wanted, {_plain(each) for each in known}, n=count, cutoff=0.6)
    return [each for plain in alike for each in known if _plain(each) == plain][:count]


def build(name: str, num_classes: int, **options: Any) -> nn.Module:
    """The architecture with fresh weights, in training mode, on the default device.

    Raises UnknownArchitecture, OptionsNotAccepted, or ArchitectureError if its own code fails or returns no module.
    """
    model = find(name).build(num_classes, options)
    if not isinstance(model, nn.Module):
        raise ArchitectureError(f"{name} returned {type(model).__name__} where a torch.nn.Module was expected.")
    return model
