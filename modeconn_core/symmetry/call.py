"""One traced operation, and the register of rules that say how operations carry channel permutations.

A rule gets a `Call` and returns the layouts of the outputs' axes. Permuting every input as its layout allows must
permute the outputs as theirs do, with no other effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from modeconn_core.symmetry.layout import Fixed, Layout, pin, tie

Axes = list[Layout]


@dataclass(frozen=True, slots=True)
class Call:
    """One operation as it ran: its arguments by schema name, its tensor outputs, and the layouts known for the inputs.

    strides: of the first tensor argument before the operation ran.
    """

    name: str
    args: dict[str, Any]
    outputs: list[Tensor]
    strides: tuple[int, ...]
    axes: Callable[[Tensor], Axes]
    from_input: Callable[[Tensor], bool] = field(repr=False)

    def tensors(self) -> list[Tensor]:
        found: list[Tensor] = []
        for value in self.args.values():
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, Tensor):
                    found.append(item)
        return found

    def first(self) -> Tensor:
        return self.tensors()[0]

    def dims(self, key: str = "dim") -> list[int]:
        """The dimensions named by an argument, counted from 0; all of them if the argument is None or empty."""
        ndim = self.first().ndim
        value = self.args.get(key)
        if value is None or value == []:
            return list(range(ndim))
        return [dim % max(ndim, 1) for dim in (value if isinstance(value, list | tuple) else [value])]


class Unsupported(ValueError):
    """This call is outside what its rule understands."""


Rule = Callable[[Call], list[Axes]]
RULES: dict[str, Rule] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operations (their names without `aten::`; in-place forms included)."""

    def register(function: Rule) -> Rule:
        for name in names.split():
            RULES[name] = function
        return function

    return register


def fixed(tensor: Tensor) -> Axes:
    return [Fixed(size) for size in tensor.shape]


def frozen(tensor: Tensor, call: Call) -> Axes:
    """Axes of a by-product that does not depend on any permutation; only an empty one is certain not to."""
    if tensor.numel():
        raise Unsupported(call.name)
    return fixed(tensor)


def pin_all(axes: Sequence[Layout]) -> None:
    for axis in axes:
        pin(axis)


def tie_all(left: Sequence[Layout], right: Sequence[Layout]) -> None:
    for a, b in zip(left, right, strict=True):
        tie(a, b)
