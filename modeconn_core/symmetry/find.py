"""Finds a module's channel symmetries: follow its axes, collect the groups, and prove them by running it both ways."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from modeconn_core.symmetry.groups import Group, Placement, Symmetries, channels_and_share, permute
from modeconn_core.symmetry.layout import Free, digits
from modeconn_core.symmetry.trace import AxisTracer, follow

_SEED = (
    20_200_501  # of the numeric proof only; what it draws decides nothing but whether a wrong group could slip through
)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative to the largest output


@dataclass(slots=True)
class _Probe:
    """A private copy of the module with disturbed weights, the input it is tried on, and its output."""

    module: nn.Module
    example: Tensor
    state: dict[str, Tensor]
    tracer: AxisTracer
    reference: Tensor


def find_symmetries(module: nn.Module, example_input: Tensor) -> Symmetries:
    """Groups of channels, heads or channel groups that can be permuted without changing what the module computes.

    The module is copied and the copy run, once traced and once or more to prove the groups: in float64, on the CPU,
    in eval mode, on random input and randomly disturbed weights (so that equal weights prove nothing by accident).
    Operations that are not understood forbid permutations; a group that changes the output all the same is dropped.
    `module` is not changed.

    Args:
        module: any module that takes one image tensor.
        example_input: float tensor (N, C, H, W) of the module's input shape; the values do not matter, two images are
        enough.
    """
    try:
        probe = _follow_copy(module, example_input)
    except Exception as error:  # a foreign module may raise anything; no symmetry is then the right answer
        reason = f"the module could not be followed ({type(error).__name__}: {_first_line(error)})"
        return Symmetries(groups=(), report=f"No interchangeable channels: {reason}.")
    candidates = _collect(probe.state, probe.tracer)
    proven = _prove(probe, candidates)
    return Symmetries(groups=proven, report=_report(probe, len(candidates) - len(proven), proven))


def _follow_copy(module: nn.Module, example_input: Tensor) -> _Probe:
    """Trace in float64; in float32 where the module insists on it."""
    try:
        return _trace_copy(module, example_input, torch.float64)
    except Exception:  # hard-coded float32 inside the module
        return _trace_copy(module, example_input, torch.float32)


def _trace_copy(module: nn.Module, example_input: Tensor, dtype: torch.dtype) -> _Probe:
    generator = torch.Generator().manual_seed(_SEED)
    twin = copy.deepcopy(module).cpu().to(dtype).requires_grad_(False)
    count = min(max(example_input.shape[0], 1), 2)
    example = torch.randn(count, *example_input.shape[1:], generator=generator, dtype=dtype)
    movable = _movable(twin)
    for tensor in {id(t): t for t in movable.values()}.values():
        _disturb(tensor, generator)
    tracer, output = follow(twin, example, movable)
    return _Probe(twin, example, movable, tracer, _flat(output))


def _movable(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that are in the state dict, by name; those that appear under two names appear twice."""
    named: dict[str, Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    return {name: named[name] for name in module.state_dict() if name in named}


def _disturb(tensor: Tensor, generator: torch.Generator) -> None:
    """Make equal channels differ, keeping signs and roughly the scale, so that no permutation is harmless by
    accident."""
    if not tensor.is_floating_point() or not tensor.numel():
        return
    largest = float(tensor.abs().max())
    if not math.isfinite(largest):
        return
    if largest == 0.0:
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
    for dim, size in enumerate(tensor.shape):
        factors = 0.8 + 0.4 * torch.rand(size, generator=generator, dtype=tensor.dtype)
        tensor.mul_(factors.view(-1, *[1] * (tensor.ndim - 1 - dim)))


def _collect(state: Mapping[str, Tensor], tracer: AxisTracer) -> tuple[Group, ...]:
    """Every free piece that lies on a parameter or buffer becomes a group."""
    found: dict[int, tuple[Free, list[Placement]]] = {}
    for name, tensor in state.items():
        for dim, axis in enumerate(tracer.axes(tensor)):
            for digit in digits(axis):
                placement = Placement(name=name, dim=dim, start=digit.start, repeats=digit.outer, block=digit.inner)
                found.setdefault(id(digit.piece), (digit.piece, []))[1].append(placement)
    return tuple(
        Group(size=piece.size, placements=tuple(placements), residual=piece.residual)
        for piece, placements in found.values()
    )


def _prove(probe: _Probe, groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """The groups that, permuted together, leave the output as it is."""
    if not groups or _unchanged(probe, groups):
        return groups
    if len(groups) == 1:
        return ()
    half = len(groups) // 2
    kept = _prove(probe, groups[:half]) + _prove(probe, groups[half:])
    return kept if len(kept) < len(groups) and _unchanged(probe, kept) else ()


def _unchanged(probe: _Probe, groups: tuple[Group, ...]) -> bool:
    original = {name: tensor.data for name, tensor in probe.state.items()}
    moved = permute(original, Symmetries(groups=groups, report=""), seed=_SEED)
    try:
        _point_to(probe.state, moved)
        with torch.no_grad():
            output = _flat(probe.module(probe.example))
    finally:
        _point_to(probe.state, original)
    limit = _TOLERANCE[probe.example.dtype] * probe.reference.abs().max()
    return output.shape == probe.reference.shape and bool(((output - probe.reference).abs() <= limit).all())


def _point_to(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        tensor.data = values[name]


def _flat(output: Any) -> Tensor:
    leaves = [leaf.flatten() for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return torch.cat(leaves) if leaves else torch.empty(0)


def _report(probe: _Probe, dropped: int, groups: tuple[Group, ...]) -> str:
    notes = []
    if probe.tracer.not_followed:
        notes.append(f"not followed through {', '.join(sorted(probe.tracer.not_followed))}")
    if dropped:
        notes.append(f"{dropped} groups dropped because permuting them changed the output")
    suffix = f" ({'; '.join(notes)})" if notes else ""
    if not groups:
        return f"No interchangeable channels were found{suffix}."
    shapes = {name: tuple(t.shape) for name, t in probe.state.items() if t.is_floating_point()}
    channels, share = channels_and_share(groups, shapes)
    streams = sum(group.residual for group in groups)
    return (
        f"{len(groups)} groups of interchangeable channels, {streams} of them along residual streams: "
        f"{channels} channels, in tensors that hold {share:.1%} of the weights{suffix}."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
