"""Weight matching: permutes the channels of a second model so that its weights lie near those of the first.

Two networks trained apart have their channels in different orders, and most of the barrier between them is that.
Source: Ainsworth et al. 2023, "Git Re-Basin" (arXiv 2209.04836), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from modeconn_core.symmetry.find import find_symmetries
from modeconn_core.symmetry.groups import Group, Placement, gather

ORDERS = 3  # of the groups that are tried; the nearest result counts
MOST_ROUNDS = 50  # over all groups; it ends long before, when nothing improves
LEAST_GAIN = 1e-6  # of the squared norm of the weights: less is rounding

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """A second model with its channels in the first one's order.

    state_dict: the same function as before, with the first model's names, order, dtypes and device. before, after:
    Euclidean distance of the parameters from the first model's. channels: those that could move, ``moved`` of them did.
    report: of the search for symmetries, in words.
    """

    state_dict: dict[str, Tensor]
    before: float
    after: float
    channels: int
    moved: int
    report: str

    @property
    def description(self) -> str:
        """What was done, in words, or why nothing could be."""
        if not self.channels:
            return f"The second model was taken as it is: nothing could be aligned. {self.report}"
        if not self.moved:
            return (
                f"The second model was taken as it is: none of its {self.channels} interchangeable channels lies "
                f"nearer to the suspect in another order (distance of the weights {self.before:.4g})."
            )
        return (
            f"The second model's channels were matched with the suspect's: {self.moved} of {self.channels} moved, and "
            f"the distance of the weights went from {self.before:.4g} to {self.after:.4g}. It computes what it did."
        )


def align(module: nn.Module, example_input: Tensor, other: State, *, seed: int) -> Alignment:
    """Permute the channels of the model with the tensors ``other`` so that it lies near ``module`` in weight space.

    Coordinate descent over the groups of interchangeable channels, residual streams included: each group in turn gets
    the permutation with the largest inner product with the first model's weights. The distance never grows. Only
    parameters count; BatchNorm statistics and other buffers move along.

    Args:
        module: the first model; left as it is.
        example_input: float (N, C, H, W) of the shape that it takes; its values do not matter.
        other: the second model's state dict, with the first one's names and shapes.
        seed: of the orders in which the groups are taken.
    """
    symmetries = find_symmetries(module, example_input)
    reference = {name: parameter.detach() for name, parameter in module.named_parameters()}
    start = {name: other[name].detach().to(tensor) for name, tensor in module.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    tries = []
    for _ in range(ORDERS):
        order = torch.randperm(len(symmetries.groups), generator=generator).tolist()
        tries.append(_Matching(reference, start).descend([symmetries.groups[i] for i in order]))
    best = max(tries, key=lambda found: found.gained)
    return Alignment(
        state_dict=best.state,
        before=_distance(reference, start),
        after=_distance(reference, best.state),
        channels=sum(group.size for group in symmetries.groups),
        moved=sum(int((index != torch.arange(len(index))).sum()) for index in best.permutations.values()),
        report=symmetries.report,
    )


def _distance(first: State, second: State) -> float:
    """Euclidean distance of the tensors of ``first`` from those of the same names in ``second``."""
    return math.sqrt(
        sum(float((tensor.double() - second[name].double()).square().sum()) for name, tensor in first.items())
    )


class _Matching:
    """The second model as it has been moved so far; ``permutations`` holds what was done, by the groups' places."""

    def __init__(self, reference: State, start: State) -> None:
        self.reference = reference
        self.state = dict(start)
        self.permutations: dict[Group, Tensor] = {}
        self.gained = 0.0  # of the inner product of both models' weights
        self._least_gain = LEAST_GAIN * _inner(reference, reference, reference)

    def descend(self, groups: list[Group]) -> _Matching:
        """Move one group after another until none gains anything; one is looked at again when a neighbour moved."""
        names = [{placement.name for placement in group.placements} for group in groups]
        due = dict.fromkeys(range(len(groups)), True)
        for _ in range(MOST_ROUNDS):
            for i in [i for i in due if due[i]]:
                due[i] = False
                gain = self._move(groups[i])
                self.gained += gain
                if gain:
                    due.update((j, True) for j in due if names[i] & names[j])
            if not any(due.values()):
                break
        return self

    def _move(self, group: Group) -> float:
        """Give the group its best permutation, if that is an improvement; what the inner product gained."""
        counted = {placement.name for placement in group.placements if placement.name in self.reference}
        if not counted:
            return 0.0
        permutation = self._best_permutation(group)
        moved = _moved(self.state, group, permutation)
        # a group on both axes of one tensor makes the problem quadratic: what it really gains must be looked at
        gain = _inner(self.reference, moved, counted) - _inner(self.reference, self.state, counted)
        if gain <= self._least_gain:
            return 0.0
        self.state.update(moved)
        earlier = self.permutations.get(group, torch.arange(group.size))
        self.permutations[group] = earlier[permutation]
        return gain

    def _best_permutation(self, group: Group) -> Tensor:
        """Channel k of the first model is met by channel ``permutation[k]`` of the second; int64 (size,)."""
        similarity_KK = sum(
            _channels(self.reference[placement.name], placement, group.size)
            @ _channels(self.state[placement.name], placement, group.size).T
            for placement in group.placements
            if placement.name in self.reference
        )
        assert isinstance(similarity_KK, Tensor)
        _, columns = linear_sum_assignment(similarity_KK.cpu().numpy(), maximize=True)
        return torch.from_numpy(columns)


def _channels(tensor: Tensor, placement: Placement, count: int) -> Tensor:
    """The values of each of ``count`` channels at this placement, float32 (count, values of one)."""
    positions = placement.positions(torch.arange(count)).to(tensor.device)  # (copies, count, block)
    picked = tensor.movedim(placement.dim, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]
    return picked[positions].float().transpose(0, 1).flatten(1)


def _moved(state: State, group: Group, permutation: Tensor) -> dict[str, Tensor]:
    """The group's tensors after the permutation; position k of a channel axis receives channel ``permutation[k]``."""
    result: dict[str, Tensor] = {}
    for placement in group.placements:
        tensor = result.get(placement.name, state[placement.name])
        index = placement.index(permutation, tensor.shape[placement.dim])
        result[placement.name] = gather(tensor, {placement.dim: index})
    return result


def _inner(first: State, second: State, names: Iterable[str]) -> float:
    """Inner product of the tensors called ``names``, in float64."""
    return sum(float(torch.dot(first[name].flatten().double(), second[name].flatten().double())) for name in names)
