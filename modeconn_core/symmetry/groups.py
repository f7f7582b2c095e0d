"""Groups of interchangeable channels, and moving a state dict along them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a group's channels lie on one dimension of one parameter or buffer.

    Channel k is every position `start + sum(i_j * stride_j) + k * block + r`, `0 <= i_j < count_j` over the (count,
    stride) pairs of `repeats`, `0 <= r < block`. A plain channel axis has start 0, no repeats and block 1; the input
    of a linear layer behind `flatten` of C x H x W has block H * W; fused q, k, v have repeats.
    """

    name: str
    dim: int
    start: int
    repeats: tuple[tuple[int, int], ...]
    block: int

    def positions(self, channels: Tensor) -> Tensor:
        """Where these channels lie, int64 (repetitions, channels, block)."""
        offsets = torch.tensor([self.start])
        for count, stride in self.repeats:
            offsets = (offsets[:, None] + torch.arange(count) * stride).flatten()
        return offsets[:, None, None] + channels[None, :, None] * self.block + torch.arange(self.block)

    def index(self, permutation: Tensor, size: int) -> Tensor:
        """The gather index of the whole dimension, int64 (size,): position i receives what lies at index[i]."""
        index = torch.arange(size)
        channels = torch.arange(len(permutation))
        index[self.positions(channels).flatten()] = self.positions(permutation).flatten()
        return index


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """`size` channels (or heads, or channel groups) that may be permuted, alike in every placement, changing nothing.

    residual: the channels of a sum of branches (a residual stream), rather than channels inside one branch.
    """

    size: int
    placements: tuple[Placement, ...]
    residual: bool

    @property
    def name(self) -> str:
        return self.placements[0].name


@dataclass(frozen=True, kw_only=True, slots=True)
class Symmetries:
    """What `find_symmetries` found; `report` says it in words, with the reason where nothing was found."""

    groups: tuple[Group, ...]
    report: str

    def __bool__(self) -> bool:
        return bool(self.groups)

    @property
    def inside_branches(self) -> Symmetries:
        """Without the residual streams: only channels inside a block, a chain or an attention head."""
        return Symmetries(groups=tuple(g for g in self.groups if not g.residual), report=self.report)


def permute(state: Mapping[str, Tensor], symmetries: Symmetries, *, seed: int) -> dict[str, Tensor]:
    """The same function at another place in weight space.

    Every group gets a random cyclic permutation, so that none of its channels stays where it was. Deterministic in
    `seed`. Names, order, shapes, dtypes and devices are kept; tensors that share memory in `state` are moved once and
    still share it.

    Raises:
        ValueError: a tensor of the symmetries is missing from `state` or has another shape.
    """
    indices = _indices(state, symmetries, seed)
    moved: dict[tuple[object, ...], Tensor] = {}
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        key = _memory(tensor)
        if key not in moved:
            moved[key] = gather(tensor.detach(), {dim: index for (n, dim), index in indices.items() if n == name})
        result[name] = moved[key]
    return result


def share_moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Fraction 0..1 of the floating-point values in `before` that differ in `after`."""
    floating = [name for name, tensor in before.items() if tensor.is_floating_point()]
    total = sum(before[name].numel() for name in floating)
    changed = sum(int((before[name] != after[name].to(before[name])).sum()) for name in floating)
    return changed / total if total else 0.0


def _indices(state: Mapping[str, Tensor], symmetries: Symmetries, seed: int) -> dict[tuple[str, int], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    indices: dict[tuple[str, int], Tensor] = {}
    for group in symmetries.groups:
        permutation = _cycle(group.size, generator)
        for placement in group.placements:
            size = _checked_size(state, placement, group.size)
            key = placement.name, placement.dim
            index = placement.index(permutation, size)
            indices[key] = indices[key][index] if key in indices else index
    return indices


def _cycle(size: int, generator: torch.Generator) -> Tensor:
    """A random permutation that is one cycle through all elements, int64 (size,)."""
    order = torch.randperm(size, generator=generator)
    permutation = torch.empty_like(order)
    permutation[order] = order.roll(1)
    return permutation


def _checked_size(state: Mapping[str, Tensor], placement: Placement, channels: int) -> int:
    tensor = state.get(placement.name)
    if tensor is None:
        raise ValueError(f"the state has no tensor {placement.name!r}, which the symmetries move")
    last = (
        placement.start + sum((count - 1) * stride for count, stride in placement.repeats) + channels * placement.block
    )
    if tensor.ndim <= placement.dim or tensor.shape[placement.dim] < last:
        raise ValueError(
            f"{placement.name!r} has shape {tuple(tensor.shape)}: not the module the symmetries were found on"
        )
    return tensor.shape[placement.dim]


def gather(tensor: Tensor, indices: Mapping[int, Tensor]) -> Tensor:
    """``tensor`` with the positions of each dimension in ``indices`` taken in that order; strides are kept."""
    moved = tensor
    for dim, index in indices.items():
        moved = moved.index_select(dim, index.to(tensor.device))
    return torch.empty_like(tensor).copy_(moved)


def _memory(tensor: Tensor) -> tuple[object, ...]:
    if not tensor.numel():
        return (id(tensor),)
    return tensor.data_ptr(), tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride()


def channels_and_share(groups: tuple[Group, ...], shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, float]:
    """Number of channels in the groups, and the fraction of all values that lie in tensors that a group moves."""
    touched = {placement.name for group in groups for placement in group.placements}
    total = sum(math.prod(shape) for shape in shapes.values())
    return sum(g.size for g in groups), sum(math.prod(shapes[name]) for name in touched) / total if total else 0.0
