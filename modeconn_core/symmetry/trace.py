"""Runs a module once and follows every permutable axis of its parameters through the operations it performs.

The module runs for real, under a dispatch mode that sees each ATen operation with its tensors. So any code that runs
can be followed: functional calls, control flow, scripted parts, plug-ins. Nothing needs to be symbolically traceable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from modeconn_core.symmetry.call import Axes, Call, fixed, pin_all
from modeconn_core.symmetry.layout import free, pin, tie
from modeconn_core.symmetry.rules import rule_for


class AxisTracer(TorchDispatchMode):
    """Gives every tensor that passes by the layouts of its axes.

    Args:
        movable: parameters and buffers whose axes may be permuted; all other tensors that come from outside are pinned.
    """

    def __init__(self, movable: Iterable[Tensor]) -> None:
        super().__init__()
        self.not_followed: set[str] = set()
        self._movable = {id(tensor): [free(size) for size in tensor.shape] for tensor in movable}
        self._keep = list(movable)
        self._owners: dict[int, list[int]] = {}
        for tensor in self._keep:
            self._owners.setdefault(_storage(tensor), []).append(id(tensor))
        for owners in self._owners.values():
            if len(owners) > 1:  # different views of one memory
                for owner in owners:
                    pin_all(self._movable[owner])
        self._touched: set[int] = set()
        self._axes = WeakIdKeyDictionary()
        self._from_input = WeakIdKeyDictionary()

    def start(self, example: Tensor) -> None:
        """Pin the network's input and mark it as the source of all activations."""
        self._axes[example] = fixed(example)
        self._from_input[example] = True

    def finish(self, output: Any) -> None:
        """Pin the network's output."""
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                pin_all(self.axes(leaf))

    def untouched(self) -> list[Tensor]:
        return [tensor for tensor in self._keep if tensor.ndim and id(tensor) not in self._touched]

    def axes(self, tensor: Tensor) -> Axes:
        """Layouts of the tensor's axes (a new list)."""
        if id(tensor) in self._movable:
            self._touched.add(id(tensor))
            return list(self._movable[id(tensor)])
        known = self._axes.get(tensor)
        if known is None:
            for owner in self._owners.get(_storage(tensor), ()):  # reached behind our back, as through `.data`
                pin_all(self._movable[owner])
            known = self._axes[tensor] = fixed(tensor)
        return list(known)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        strides = next((leaf.stride() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)), ())
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        bound = _bind(func, args, kwargs)
        call = Call(func._schema.name.removeprefix("aten::"), bound, outputs, strides, self.axes, self._depends)
        inputs = call.tensors()
        depends = any(self._depends(tensor) for tensor in inputs)
        for tensor, axes in zip(outputs, self._apply(func, call, inputs), strict=True):
            self._record(tensor, axes)
            if depends:
                self._from_input[tensor] = True
        return result

    def _depends(self, tensor: Tensor) -> bool:
        return bool(self._from_input.get(tensor, False))

    def _apply(self, func: Any, call: Call, inputs: list[Tensor]) -> list[Axes]:
        rule = rule_for(func)
        if rule is not None:
            # A rule may meet a form of its operation that it was not written for: then the operation is not followed.
            # What it tied before it gave up only forbids permutations, so nothing needs undoing.
            try:
                result = rule(call)
            except (LookupError, TypeError, ValueError):
                result = []
            if [[a.size for a in axes] for axes in result] == [list(t.shape) for t in call.outputs]:
                return result
        if any(tensor.ndim for tensor in (*inputs, *call.outputs)):
            self.not_followed.add(call.name)
        for tensor in inputs:
            pin_all(self.axes(tensor))
        return [fixed(tensor) for tensor in call.outputs]

    def _record(self, tensor: Tensor, axes: Axes) -> None:
        """Store an output's layouts; an in-place operation constrains the tensor it wrote to."""
        known = self._movable.get(id(tensor)) or self._axes.get(tensor)
        if known is None:
            self._axes[tensor] = axes
            return
        for old, new in zip(known, axes, strict=True):
            if old.size == new.size:
                tie(old, new)
            else:  # resized in place
                pin(old)
                pin(new)


def follow(module: nn.Module, example: Tensor, movable: Mapping[str, Tensor]) -> tuple[AxisTracer, Any]:
    """Trace a module, in eval mode and, for parts that only training uses, in train mode too.

    Parameters that neither run touches are pinned. Neither the module's values nor the global random numbers change.

    Returns: the tracer and the eval-mode output.
    """
    distinct = {id(tensor): tensor for tensor in movable.values()}
    tracer = AxisTracer(distinct.values())
    with torch.no_grad(), _plain_attention(), torch.random.fork_rng(devices=[]):
        output = _run(module.eval(), example, tracer)
        idle = tracer.untouched()
        if idle:
            before = {name: tensor.clone() for name, tensor in movable.items()}
            try:
                _run(module.train(), example.clone(), tracer)
                idle = tracer.untouched()
            except Exception:  # whatever the module raises in a mode that nobody asked it to run in
                pass
            module.eval()
            for name, tensor in movable.items():
                tensor.copy_(before[name])
    for tensor in idle:
        pin_all(tracer.axes(tensor))
    return tracer, output


def _run(module: nn.Module, example: Tensor, tracer: AxisTracer) -> Any:
    tracer.start(example)
    with tracer:
        output = module(example)
    tracer.finish(output)
    return output


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products and softmax, so that heads can be followed."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by their schema names, defaults filled in."""
    names = [argument.name for argument in func._schema.arguments]
    bound = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return {**bound, **dict(zip(names, args, strict=False)), **kwargs}


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
