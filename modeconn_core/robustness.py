"""Projected gradient descent against a model: the attack, and what a model keeps under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Norm = Literal["linf", "l2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PgdSettings:
    """The attack, in units of images in [0, 1]; the defaults are the paper's (Zhao et al. 2020, section 5).

    epsilon: radius of the ball, 0 for no attack; steps; step_size; random_start: inside the ball; norm: of the ball.
    """

    epsilon: float = 8 / 255
    steps: int = 10
    step_size: float = 2 / 255
    random_start: bool = True
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        if self.epsilon < 0 or self.step_size <= 0:
            raise ValueError("epsilon must not be negative, and step_size must be positive")
        if self.steps < 1:
            raise ValueError("PGD needs at least one step")
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"norm must be 'linf' or 'l2', not {self.norm!r}")
