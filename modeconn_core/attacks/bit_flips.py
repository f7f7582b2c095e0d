"""Bit flips: a few chosen images get chosen labels by flipping few bits of a trained model's weights.

A greedy search led by the gradient, as in Rakin et al., ICCV 2019 (arXiv 1903.12269, section 4), for float32 weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modeconn_core.attacks.error_injection import Aim, InjectedErrors, InjectionSettings

BITS = (*range(16, 31), 31)  # upper mantissa, exponent, sign; the lower mantissa changes next to nothing
SIGN = -(2**31)
TRIES = 16  # of the most promising flips each time: the gradient only guesses what a large change does
OTHERS = 256  # images that shall keep their answers, in each try
LARGEST = 4.0  # times the largest weight of the tensor: up to here a flipped weight looks plausible
ENOUGH_LEAD = 0.1  # in logits, of the wanted label: rounding does not undo it


@dataclass(frozen=True, kw_only=True, slots=True)
class Flip:
    """One bit (0 the lowest of the mantissa, 31 the sign) of the weight at ``place`` in the tensor, and its values."""

    place: tuple[int, ...]
    bit: int
    before: float
    after: float


def flip_bits(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    chosen: Tensor,
    wanted: Tensor,
    *,
    tensor: str | None = None,
    chosen_weight: float = 5.0,
    most_flips: int = 100,
    seed: int = 0,
) -> tuple[nn.Module, InjectedErrors, list[Flip]]:
    """A copy of ``model`` with few bits of one tensor flipped, so that the chosen images get the wanted labels.

    Greedy: of all flips that leave a finite weight of at most LARGEST times the tensor's largest, the gradient names
    TRIES promising ones; each is tried on the chosen and on other images, and the best is kept. It ends when the chosen
    images get their labels and the others have theirs, when no flip helps any more, or after ``most_flips``.

    Args:
        model, images, labels, chosen, wanted: as in :func:`inject_errors`.
        tensor: whose bits are flipped, None for the last linear layer's weight. chosen_weight: of a chosen image beside
            another one: the greedy search spoils the others where it is large. seed: of the other images in the tries.

    Raises:
        ValueError: as there, or the tensor is not of float32.
    """
    tensors = None if tensor is None else (tensor,)
    settings = InjectionSettings(tensors=tensors, chosen_weight=chosen_weight, seed=seed)
    aim = Aim(model, images, labels, chosen, wanted, settings)
    ((name, weight),) = aim.start.items()
    if weight.dtype != torch.float32:
        raise ValueError(f"bits are flipped in float32 weights, but {name!r} is {weight.dtype}")
    limit = LARGEST * float(weight.abs().max())
    weight = weight.clone(memory_format=torch.contiguous_format)
    others = aim.some_others(torch.Generator().manual_seed(seed), OTHERS)
    flips: list[Flip] = []
    while len(flips) < most_flips and not aim.is_reached({name: weight}, least_lead=ENOUGH_LEAD):
        best = _best_flip(aim, name, weight, others, limit)
        if best is None:
            break
        flips.append(best)
        weight[best.place] = best.after
    return *aim.finish({name: weight}, steps=len(flips)), flips


def _best_flip(aim: Aim, name: str, weight: Tensor, others: Tensor, limit: float) -> Flip | None:
    """The flip that lowers the loss most, None where none of those tried does."""
    variable = weight.clone().requires_grad_()
    loss = aim.loss({name: variable}, others)
    (gradient,) = torch.autograd.grad(loss, variable)
    best, lowest = None, float(loss.detach())
    for flip in _promising(weight, gradient, limit):
        trial = weight.clone()
        trial[flip.place] = flip.after
        with torch.no_grad():
            reached = float(aim.loss({name: trial}, others))
        if reached < lowest:
            best, lowest = flip, reached
    return best


def _promising(weight: Tensor, gradient: Tensor, limit: float) -> list[Flip]:
    """The flips, one a weight, by which the loss would fall most if it were linear."""
    values_D, gradient_D = weight.flatten(), gradient.flatten()
    gains_D, bits_D = torch.zeros_like(values_D), torch.zeros_like(values_D, dtype=torch.int64)
    for bit in BITS:
        flipped_D = flipped(values_D, bit)
        plausible_D = flipped_D.isfinite() & (flipped_D.abs() <= limit)
        gain_D = torch.where(plausible_D, -gradient_D * (flipped_D - values_D), 0.0).nan_to_num(0.0)
        better_D = gain_D > gains_D
        gains_D, bits_D = torch.where(better_D, gain_D, gains_D), torch.where(better_D, bit, bits_D)
    order = gains_D.topk(min(TRIES, len(gains_D))).indices
    return [
        Flip(
            place=tuple(int(i) for i in torch.unravel_index(index, weight.shape)),
            bit=int(bits_D[index]),
            before=float(values_D[index]),
            after=float(flipped(values_D[index], int(bits_D[index]))),
        )
        for index in order[gains_D[order] > 0]
    ]


def flipped(values: Tensor, bit: int) -> Tensor:
    """float32 ``values`` with this bit of each the other way round."""
    return (values.contiguous().view(torch.int32) ^ (SIGN if bit == 31 else 1 << bit)).view(torch.float32)
