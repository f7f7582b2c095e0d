"""The path's second end: a permuted copy of the suspect, a fine-tuned copy of it, or a second model that was given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from modeconn_core.symmetry import Symmetries, align, find_symmetries, permute, share_moved

EndKind = Literal["permuted", "fine_tuned", "given"]
LEAST_SHARE_MOVED = 0.5  # of the weights; a copy that shares more with the suspect is not at another place
COPY = 0.01  # of the distance is left when a permuted copy of the suspect is aligned with it, or less
_NAMED = 5  # tensors named in an error


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One end of a path.

    state_dict: detached tensors with the module's names, shapes, dtypes and device.
    description: how the end was made, in words; where a fall-back was taken, why.
    share_moved: fraction 0..1 of the floating-point values that differ from the suspect's.
    alignment: what was done to the channels of a given model, in words. as_given: its tensors before that, None where
    nothing was moved.
    """

    state_dict: dict[str, Tensor]
    kind: EndKind
    description: str
    share_moved: float
    alignment: str | None = None
    as_given: dict[str, Tensor] | None = None


class NoSymmetryError(ValueError):
    """The module has no channel permutation, or none that moves enough weights; the message says why and names the
    fall-back."""


def permuted_copy(module: nn.Module, example_input: Tensor, seed: int) -> Endpoint:
    """The suspect itself with interchangeable channels shuffled: the same function, exactly as tampered, elsewhere.

    Channels inside branches (residual blocks, chains, MLPs, attention heads) are shuffled; the residual streams too
    where the branches alone hold less than half of the weights.

    Args:
        module: left as it is.
        example_input: float (N, C, H, W) of the shape that the module takes; its values do not matter.
        seed: of the shuffle.

    Raises:
        NoSymmetryError: no symmetry was found, or less than half of the weights would move.
    """
    symmetries = find_symmetries(module, example_input)
    if not symmetries:
        raise NoSymmetryError(f"{symmetries.report} A fine-tuned copy can serve as the second end instead.")
    state = module.state_dict()
    inside, everywhere = symmetries.inside_branches, symmetries
    choices = [(inside, "inside blocks, chains and heads"), (everywhere, "everywhere, residual streams included")]
    share = 0.0
    for chosen, where in choices if inside else choices[1:]:
        moved = permute(state, chosen, seed=seed)
        share = share_moved(state, moved)
        if share >= LEAST_SHARE_MOVED:
            return Endpoint(
                state_dict=moved, kind="permuted", description=_describe(chosen, where, share), share_moved=share
            )
    raise NoSymmetryError(
        f"Permuting channels would move only {share:.1%} of the weights. {symmetries.report} "
        "A fine-tuned copy can serve as the second end instead."
    )


def second_end(
    module: nn.Module,
    *,
    kind: Literal["permuted", "fine_tuned"],
    example_input: Tensor,
    seed: int,
    fine_tune: Callable[[nn.Module], None],
    given: nn.Module | None = None,
) -> Endpoint:
    """The second end, as asked for, or the fall-back that the description names.

    Args:
        module: the suspect; left as it is.
        kind: what to make of the suspect when no model is given.
        example_input: float (N, C, H, W); see `permuted_copy`.
        seed: of the permutation, or of the alignment.
        fine_tune: trains, in place, the copy of the suspect that it gets; called only if a fine-tuned end is needed.
        given: a second model of the same architecture; its channels are matched with the suspect's.

    Raises:
        ValueError: `given` does not have the suspect's tensors; the message names them.
    """
    if given is not None:
        return _given_end(module, given, example_input, seed)
    reason = ""
    if kind == "permuted":
        try:
            return permuted_copy(module, example_input, seed)
        except NoSymmetryError as error:
            reason = f" Chosen because no permuted copy could be made: {error}"
    tuned = copy.deepcopy(module)
    fine_tune(tuned)
    state = _detached(tuned)
    share = share_moved(module.state_dict(), state)
    return Endpoint(
        state_dict=state,
        kind="fine_tuned",
        description=f"A copy of the suspect, fine-tuned on the clean images.{reason}",
        share_moved=share,
    )


def check_same_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], *, first: str = "suspect") -> None:
    """Refuse a second model whose tensors are not those of the first, which the message calls ``first``.

    Raises:
        ValueError: naming the missing, extra and mis-shaped tensors.
    """
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = [
        f"{what}: {_listed(names)}"
        for what, names in (("missing", missing), (f"not in the {first}", extra), ("other shape", shapes))
        if names
    ]
    if problems:
        raise ValueError(f"The second model does not have the {first}'s tensors; " + "; ".join(problems) + ".")


def _given_end(module: nn.Module, given: nn.Module, example_input: Tensor, seed: int) -> Endpoint:
    suspect, other = module.state_dict(), _detached(given)
    check_same_tensors(suspect, other)
    state = {name: other[name].to(suspect[name]) for name in suspect}
    if share_moved(suspect, state) == 0.0:
        raise ValueError("The second model has exactly the suspect's weights: there is no path between them.")
    found = align(module, example_input, state, seed=seed)
    words, moved = found.description, found.moved > 0
    if moved and found.after <= COPY * found.before:
        words, moved = (
            (
                "The second model is the suspect with its channels in another order. It was taken as it is: aligned, "
                "there would be no path between them."
            ),
            False,
        )
    end = found.state_dict if moved else state
    return Endpoint(
        state_dict=end,
        kind="given",
        description="The second model that was given.",
        share_moved=share_moved(suspect, end),
        alignment=words,
        as_given=state if moved else None,
    )


def _detached(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def _describe(symmetries: Symmetries, where: str, share: float) -> str:
    channels = sum(group.size for group in symmetries.groups)
    return (
        f"A permuted copy of the suspect: the same function with {channels} channels in "
        f"{len(symmetries.groups)} groups shuffled {where}; {share:.1%} of the weights moved."
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
