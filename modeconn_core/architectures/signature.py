"""The tensors of an architecture, by building it on the meta device: names, shapes, and which dims count classes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from modeconn_core.architectures.errors import ArchitectureError
from modeconn_core.architectures.family import Shape
from modeconn_core.architectures.registry import build

PROBES = (11, 13)  # two class counts; the dimensions that follow them are the head's
OPTIONAL_SUFFIX = ".num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Signature:
    """`shapes` in state-dict order, for PROBES[0] classes; `head`: tensor -> the dimension that counts the classes."""

    shapes: dict[str, Shape]
    integers: frozenset[str]
    head: dict[str, int]

    def for_classes(self, num_classes: int) -> dict[str, Shape]:
        """The shapes for this number of classes."""
        shapes = dict(self.shapes)
        for name, dim in self.head.items():
            shapes[name] = (*shapes[name][:dim], num_classes, *shapes[name][dim + 1 :])
        return shapes

    def classes_in(self, shapes: Mapping[str, Shape]) -> int | None:
        """The number of classes these tensors have, or None where the head's tensors are absent or disagree."""
        found = {shapes[name][dim] for name, dim in self.head.items() if len(shapes.get(name, ())) > dim}
        return found.pop() if len(found) == 1 else None


class _NoRandomInit(TorchFunctionMode):
    """Leaves new weights as `torch.empty` made them: their pages are never touched and take no memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        fills = (
            func in (torch.Tensor.normal_, torch.Tensor.uniform_) or getattr(func, "__module__", "") == "torch.nn.init"
        )
        return (args[0] if args else kwargs["tensor"]) if fills else func(*args, **kwargs)


def _tensors(name: str, num_classes: int, options: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict on the meta device, or, for modules that read values while being built, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return dict(build(name, num_classes, **options).state_dict())
        except ArchitectureError:
            with _NoRandomInit():
                return dict(build(name, num_classes, **options).state_dict())


@lru_cache(maxsize=256)
def _cached(name: str, options_json: str) -> Signature:
    first, second = (_tensors(name, classes, json.loads(options_json)) for classes in PROBES)
    shapes = {tensor: tuple(value.shape) for tensor, value in first.items()}
    head: dict[str, int] = {}
    for tensor, shape in shapes.items():
        other = tuple(second[tensor].shape) if tensor in second else ()
        dims = [dim for dim, pair in enumerate(zip(shape, other, strict=False)) if pair == PROBES]
        if len(dims) == 1 and len(shape) == len(other):
            head[tensor] = dims[0]
    integers = frozenset(tensor for tensor, value in first.items() if not value.is_floating_point())
    return Signature(shapes, integers, head)


def signature(name: str, options: Mapping[str, Any] | None = None) -> Signature:
    """The signature, cached. Raises what `build` raises."""
    return _cached(name, json.dumps(options or {}, sort_keys=True))
