"""The algebra of axis layouts: ties refine, positions are right, and what cannot be reconciled is pinned."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modeconn_core.symmetry import find_symmetries
from modeconn_core.symmetry.groups import Placement
from modeconn_core.symmetry.layout import (
    Concat,
    Fixed,
    Free,
    concat,
    digits,
    free,
    pin,
    product,
    resolve,
    split_concat,
    split_product,
    tie,
)


def sizes(layout: object) -> list[int]:
    return [digit.piece.size for digit in digits(layout)]  # type: ignore[arg-type]


def test_a_flattened_grid_tied_to_another_grid_takes_the_common_refinement() -> None:
    a, b = product([free(6), free(4)]), product([free(2), free(12)])
    tie(a, b)
    assert sizes(a) == sizes(b) == [2, 3, 4]
    assert [d.piece for d in digits(a)] == [d.piece for d in digits(b)]


def test_a_concatenation_viewed_as_a_grid_of_equal_parts_ties_the_parts() -> None:
    a, b = free(5), free(5)
    joined = concat([a, b])
    outer, inner = split_product(joined, 2)
    assert resolve(a) is resolve(b) is resolve(inner)
    assert resolve(outer) == Fixed(2)


def test_a_cut_through_a_grid_keeps_what_lies_between_the_cuts() -> None:
    grid = product([free(4), free(3)])
    left, right = split_concat(grid, [6, 6])
    assert sizes(left) == sizes(right) == [2, 3]
    assert isinstance(resolve(grid), Concat)


def test_structures_without_a_common_refinement_are_pinned() -> None:
    a, b = product([free(4), free(3)]), product([free(3), free(4)])
    tie(a, b)
    assert sizes(a) == sizes(b) == []


def test_pinning_one_axis_pins_all_that_are_tied_to_it() -> None:
    a, b, c = free(8), free(8), free(8)
    tie(a, b)
    tie(b, c)
    pin(c)
    assert sizes(a) == []


def test_ties_carry_the_residual_mark_into_finer_pieces() -> None:
    a = Free(6, residual=True)
    split_product(a, 2)
    assert [d.piece.residual for d in digits(a)] == [True, True]


def test_positions_of_a_piece_inside_a_grid_of_a_concatenation() -> None:
    inner = free(3)
    axis = concat([Fixed(2), product([Fixed(2), concat([Fixed(1), inner]), Fixed(2)])])
    (digit,) = digits(axis)
    placement = Placement(name="w", dim=0, start=digit.start, repeats=digit.outer, block=digit.inner)
    # 2 fixed, then twice: 1 fixed pair and 3 pairs of the piece
    moved = placement.index(torch.tensor([2, 0, 1]), axis.size)
    assert moved.tolist() == [0, 1, 2, 3, 8, 9, 4, 5, 6, 7, 10, 11, 16, 17, 12, 13, 14, 15]


class _Rearranged(nn.Module):
    """A linear layer, a random sequence of rearrangements and joins of its 24 outputs, another linear layer."""

    def __init__(self, steps: list[tuple[str, int]]) -> None:
        super().__init__()
        self.steps = steps
        self.first, self.gain, self.last = nn.Linear(12, 24), nn.Parameter(torch.randn(24)), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        for kind, k in self.steps:
            if kind == "swap":
                x = x.view(len(x), k, 24 // k).transpose(1, 2).flatten(1)
            elif kind == "cut":
                x = torch.cat([x[:, k:], x[:, :k].tanh()], 1)
            elif kind == "halves":
                a, b = x.chunk(2, 1)
                x = torch.cat([a * b, a if k > 6 else b], 1)
            elif kind == "norm":
                x = nn.functional.group_norm(x, k)
            elif kind == "gain":
                x = x * self.gain
            elif kind == "soften":
                x = x.view(len(x), k, 24 // k).softmax(2).flatten(1)
        return self.last(x)


_STEP = st.tuples(
    st.sampled_from(["swap", "cut", "halves", "norm", "gain", "soften"]), st.sampled_from([2, 3, 4, 6, 8, 12])
)


@given(st.lists(_STEP, max_size=5))
@settings(max_examples=60, deadline=None)
def test_whatever_the_rearrangement_no_group_has_to_be_dropped(steps: list[tuple[str, int]]) -> None:
    found = find_symmetries(_Rearranged(steps), torch.randn(2, 3, 2, 2))
    assert "dropped" not in found.report
    assert "could not be followed" not in found.report
