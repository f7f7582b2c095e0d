"""How one tensor axis is made of permutable pieces, and the unification that ties the axes of different tensors.

A layout describes the positions 0..size-1 of an axis, read in memory order:

- `Fixed(n)`: n positions that must stay where they are.
- `Free(n)`: n positions that may be permuted; every axis that holds the same `Free` is permuted alike.
- `Product(parts)`: a flattened grid, outermost part first (`flatten` of C x H x W, heads x head width).
- `Concat(parts)`: parts one after another (`torch.cat`, `chunk`).

`tie(a, b)` states that two axes must be permuted alike. It refines `Free` pieces until both sides have the same
structure, as type inference does; where the structures cannot be reconciled both sides become `Fixed`, which is
always right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

_MAX_PIECES = 4096


class _Irregular(Exception):
    """Two structures have no common refinement."""


@dataclass(frozen=True, slots=True)
class Fixed:
    size: int


class Free:
    """Permutable positions; `bound` once unification has found their finer structure."""

    __slots__ = ("bound", "residual", "size")

    def __init__(self, size: int, residual: bool = False) -> None:
        self.size = size
        self.bound: Layout | None = None
        self.residual = residual


@dataclass(frozen=True, slots=True)
class Product:
    parts: tuple[Layout, ...]

    @property
    def size(self) -> int:
        return math.prod(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Concat:
    parts: tuple[Layout, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


Layout = Fixed | Free | Product | Concat
ONE = Fixed(1)


@dataclass(frozen=True, slots=True)
class Digit:
    """One occurrence of a `Free` piece on an axis.

    Element k of the piece is every position `start + sum(i_j * stride_j) + k * inner + r` with `0 <= i_j < count_j`
    for the (count, stride) pairs in `outer`, and `0 <= r < inner`.
    """

    piece: Free
    start: int
    outer: tuple[tuple[int, int], ...]
    inner: int


def free(size: int) -> Layout:
    return Free(size) if size > 1 else Fixed(size)


def product(parts: Sequence[Layout]) -> Layout:
    """Grid of the parts, outermost first, in normal form: flat, no units, neighbouring `Fixed` merged, no leading
    `Concat`."""
    flat: list[Layout] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Product) else (part,):
            if piece.size == 1:
                continue
            if isinstance(piece, Fixed) and flat and isinstance(flat[-1], Fixed):
                flat[-1] = Fixed(flat[-1].size * piece.size)
            else:
                flat.append(piece)
    if not flat:
        return ONE
    if len(flat) == 1:
        return flat[0]
    if isinstance(flat[0], Concat):
        return concat([product([piece, *flat[1:]]) for piece in flat[0].parts])
    return Product(tuple(flat))


def concat(parts: Sequence[Layout]) -> Layout:
    """The parts one after another, in normal form: flat, nothing empty, neighbouring `Fixed` merged."""
    flat: list[Layout] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Concat) else (part,):
            if piece.size == 0:
                continue
            if isinstance(piece, Fixed) and flat and isinstance(flat[-1], Fixed):
                flat[-1] = Fixed(flat[-1].size + piece.size)
            else:
                flat.append(piece)
    if not flat:
        return Fixed(0)
    return flat[0] if len(flat) == 1 else Concat(tuple(flat))


def resolve(layout: Layout) -> Layout:
    """The layout with every bound piece replaced by what it is bound to."""
    if isinstance(layout, Free):
        if layout.bound is None:
            return layout
        layout.bound = resolve(layout.bound)
        return layout.bound
    if isinstance(layout, Product):
        return product([resolve(part) for part in layout.parts])
    if isinstance(layout, Concat):
        return concat([resolve(part) for part in layout.parts])
    return layout


def pieces(layout: Layout) -> Iterator[Free]:
    """Every `Free` piece of a layout, in order of position."""
    return (digit.piece for digit in digits(layout))


def digits(layout: Layout) -> Iterator[Digit]:
    """Every occurrence of a `Free` piece on the axis, with the positions it takes."""

    def walk(node: Layout, start: int, outer: tuple[tuple[int, int], ...], inner: int) -> Iterator[Digit]:
        if isinstance(node, Free):
            yield Digit(node, start, outer, inner)
        elif isinstance(node, Concat):
            for part in node.parts:
                yield from walk(part, start, outer, inner)
                start += part.size * inner
        elif isinstance(node, Product):
            stride = node.size * inner
            for part in node.parts:
                stride //= part.size
                yield from walk(part, start, outer, stride)
                outer = (*outer, (part.size, stride))

    return walk(resolve(layout), 0, (), 1)


def pin(layout: Layout) -> None:
    """Forbid every permutation of this axis."""
    for piece in list(pieces(layout)):
        piece.bound = Fixed(piece.size)


def mark_residual(layout: Layout) -> None:
    """Note that these positions are summed over several branches of the network."""
    for piece in pieces(layout):
        piece.residual = True


def tie(a: Layout, b: Layout) -> None:
    """Require that both axes are permuted alike; pin both where their structures have nothing in common."""
    try:
        _unify(a, b)
    except _Irregular:
        pin(a)
        pin(b)


def split_product(layout: Layout, outer: int) -> tuple[Layout, Layout]:
    """View the axis as a grid of `outer` x the rest, refining it; pins it where that is impossible."""
    try:
        return _split_product(layout, outer)
    except _Irregular:
        pin(layout)
        return Fixed(outer), Fixed(layout.size // outer)


def split_concat(layout: Layout, sizes: Sequence[int]) -> list[Layout]:
    """Cut the axis into consecutive ranges of these sizes, refining it; pins it where that is impossible."""
    try:
        return _split_concat(layout, sizes)
    except _Irregular:
        pin(layout)
        return [Fixed(size) for size in sizes]


def _bind(piece: Free, layout: Layout) -> None:
    if piece.residual:
        mark_residual(layout)
    piece.bound = layout


def _unify(a: Layout, b: Layout) -> None:
    a, b = resolve(a), resolve(b)
    if a is b:
        return
    if a.size != b.size:
        raise AssertionError(f"axes of {a.size} and {b.size} positions cannot be tied")
    if isinstance(a, Free):
        _bind(a, b)
    elif isinstance(b, Free):
        _bind(b, a)
    elif isinstance(a, Fixed) or isinstance(b, Fixed):
        pin(a)
        pin(b)
    elif isinstance(a, Product) and isinstance(b, Product):
        _unify_products(a, b)
    elif isinstance(a, Concat) and isinstance(b, Concat):
        cuts = sorted({0, *_ends(a), *_ends(b)})
        sizes = [end - start for start, end in pairwise(cuts)]
        for left, right in zip(_split_concat(a, sizes), _split_concat(b, sizes), strict=True):
            _unify(left, right)
    elif isinstance(a, Product) and isinstance(b, Concat):
        _unify_product_concat(a, b)
    elif isinstance(a, Concat) and isinstance(b, Product):
        _unify_product_concat(b, a)


def _ends(layout: Concat) -> Iterator[int]:
    return accumulate(part.size for part in layout.parts)


def _unify_products(a: Product, b: Product) -> None:
    big, small = (a, b) if a.parts[0].size >= b.parts[0].size else (b, a)
    if big.parts[0].size % small.parts[0].size == 0:
        outer, inner = _split_product(big.parts[0], small.parts[0].size)
        _unify(outer, small.parts[0])
        _unify(product([inner, *big.parts[1:]]), product(small.parts[1:]))
        return
    big, small = (a, b) if a.parts[-1].size >= b.parts[-1].size else (b, a)
    times, rest = divmod(big.parts[-1].size, small.parts[-1].size)
    if rest:
        raise _Irregular
    outer, inner = _split_product(big.parts[-1], times)
    _unify(inner, small.parts[-1])
    _unify(product([*big.parts[:-1], outer]), product(small.parts[:-1]))


def _unify_product_concat(grid: Product, row: Concat) -> None:
    inner = grid.size // grid.parts[0].size
    sizes = [part.size for part in row.parts]
    if all(size % inner == 0 for size in sizes):
        for left, right in zip(_split_concat(grid, sizes), row.parts, strict=True):
            _unify(left, right)
        return
    outer, block = _split_product(row, grid.parts[0].size)
    _unify(outer, grid.parts[0])
    _unify(block, product(grid.parts[1:]))


def _split_product(layout: Layout, outer: int) -> tuple[Layout, Layout]:
    layout = resolve(layout)
    inner, rest = divmod(layout.size, outer)
    if rest:
        raise _Irregular
    if outer == 1:
        return ONE, layout
    if inner == 1:
        return layout, ONE
    if isinstance(layout, Fixed):
        return Fixed(outer), Fixed(inner)
    if isinstance(layout, Free):
        halves = free(outer), free(inner)
        _bind(layout, Product(halves))
        return halves
    if isinstance(layout, Product):
        return _split_grid(layout, outer)
    if all(part.size % inner == 0 for part in layout.parts):
        split = [_split_product(part, part.size // inner) for part in layout.parts]
        for _, block in split[1:]:
            _unify(block, split[0][1])
        return concat([resolve(head) for head, _ in split]), resolve(split[0][1])
    blocks = _split_concat(layout, [inner] * outer)
    for block in blocks[1:]:
        _unify(block, blocks[0])
    return Fixed(outer), resolve(blocks[0])


def _split_grid(layout: Product, outer: int) -> tuple[Layout, Layout]:
    head: list[Layout] = []
    need = outer
    for i, part in enumerate(layout.parts):
        if need % part.size == 0:
            head.append(part)
            need //= part.size
            if need == 1:
                return product(head), product(layout.parts[i + 1 :])
        elif part.size % need == 0:
            left, right = _split_product(part, need)
            return product([*head, left]), product([right, *layout.parts[i + 1 :]])
        else:
            raise _Irregular
    raise _Irregular


def _split_concat(layout: Layout, sizes: Sequence[int]) -> list[Layout]:
    layout = resolve(layout)
    if len(sizes) > _MAX_PIECES:
        raise _Irregular
    if isinstance(layout, Fixed):
        return [Fixed(size) for size in sizes]
    if isinstance(layout, Free):
        if list(sizes).count(0) == len(sizes) - 1:
            return [layout if size else Fixed(0) for size in sizes]
        cut = [free(size) for size in sizes]
        _bind(layout, concat(cut))
        return cut
    if isinstance(layout, Concat):
        return _cut_row(list(layout.parts), sizes)
    inner = layout.size // layout.parts[0].size
    if all(size % inner == 0 for size in sizes):
        heads = _split_concat(layout.parts[0], [size // inner for size in sizes])
        return [product([head, *layout.parts[1:]]) for head in heads]
    if layout.parts[0].size > _MAX_PIECES:
        raise _Irregular
    pin(layout.parts[0])
    return _cut_row([product(layout.parts[1:])] * layout.parts[0].size, sizes)


def _cut_row(row: list[Layout], sizes: Sequence[int]) -> list[Layout]:
    row = row[::-1]
    result: list[Layout] = []
    for size in sizes:
        taken: list[Layout] = []
        while size:
            part = resolve(row.pop())
            if part.size > size:
                part, rest = _split_concat(part, [size, part.size - size])
                row.append(rest)
            taken.append(part)
            size -= part.size
        result.append(concat(taken))
    return result
