"""The largest eigenvalue of the Hessian of the loss with respect to an image, image by image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EigenSettings:
    """How the eigenvalues are found, and on how many images of a point.

    iterations: most Hessian-vector products an image gets. tolerance: relative residual at which an image counts as
    converged. images: of those that are attacked.
    """

    iterations: int = 20
    tolerance: float = 1e-3
    images: int = 100

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.images < 2:
            raise ValueError("eigenvalues need at least one iteration and two images")
        if self.tolerance <= 0:
            raise ValueError("tolerance must be positive")
