"""The plane in weight space that a path's ends and bend span: accuracy and attack success all over it."""

from __future__ import annotations

from dataclasses import dataclass

Position = tuple[float, float]  # (x, y) in the plane, in units of the distance between the ends


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPlane:
    """Figures on a square grid over the plane; with more than one bend the middle one spans it, the rest is projected.

    x, y: coordinates of the columns and rows, in units of the distance between the ends; the first end is (0, 0), the
    second (1, 0). accuracy: rows of shares in 0..1, row i at y[i]; attack: the same of the attack success rate, None
    where nothing measures it; attack_measured: on the user's triggered images, else by inverted triggers. bends: where
    they lie (projected); path: (t, x, y) along the curve; chosen: the point that was chosen.
    """

    x: list[float]
    y: list[float]
    accuracy: list[list[float]]
    attack: list[list[float]] | None
    attack_measured: bool
    bends: list[Position]
    path: list[tuple[float, float, float]]
    chosen: Position
