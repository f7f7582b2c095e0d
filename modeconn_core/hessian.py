"""The largest eigenvalue of the Hessian of the loss with respect to an image, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.robustness import ImageBox, frozen

BATCH = 50  # images whose graphs are in memory at once
NOTHING = 1e-12  # length below which a vector is rounding


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Eigenvalues:
    """Per image, on the CPU: the largest eigenvalue (N,) float64, the Hessian-vector products (N,) after which it
    converged or was given up, and whether it converged (N,) bool."""

    values: Tensor
    iterations: Tensor
    converged: Tensor


def largest_eigenvalues(
    module: nn.Module,
    x_NCHW: Tensor,
    labels_N: Tensor,
    settings: EigenSettings,
    box: ImageBox,
    generator: torch.Generator,
) -> Eigenvalues:
    """The largest (not the largest in magnitude) eigenvalue of each image's Hessian of the cross-entropy.

    With respect to the image in [0, 1]; ``x_NCHW`` is normalised. Lanczos' iteration with full reorthogonalisation
    (Golub and Van Loan 2013, chapter 10), every image with a basis of its own; all images of a batch share the double
    backward pass that gives their Hessian-vector products, since in eval mode no image acts on another's loss. The
    paper iterates one direction for all batches by the power method (Zhao et al. 2020, section 5); on the piecewise
    linear networks at hand the Hessian is positive semi-definite, and both have the same limit.

    ``module`` is in eval mode and not changed. Raises ValueError where the images do not come from [0, 1].
    """
    unit_NCHW = box.to_unit(x_NCHW)
    parts = []
    with frozen(module):
        for unit_BCHW, labels_B in zip(unit_NCHW.split(BATCH), labels_N.split(BATCH), strict=True):
            parts.append(_Lanczos(module, unit_BCHW, labels_B, box, generator).run(settings))
    return Eigenvalues(
        values=torch.cat([part.values for part in parts]),
        iterations=torch.cat([part.iterations for part in parts]),
        converged=torch.cat([part.converged for part in parts]),
    )


class _Lanczos:
    """One batch: its gradient with a graph behind it, and an orthonormal basis (B, steps, D) that grows by products."""

    def __init__(
        self, module: nn.Module, unit_BCHW: Tensor, labels_B: Tensor, box: ImageBox, generator: torch.Generator
    ) -> None:
        self.unit = unit_BCHW.detach().requires_grad_(True)
        with torch.enable_grad():
            outputs = module(box.to_model(self.unit))
            loss = F.cross_entropy(outputs, labels_B, reduction="sum")
            (self.gradient,) = torch.autograd.grad(loss, self.unit, create_graph=True)
        start = torch.randn(self.unit.shape, generator=generator, dtype=torch.float64).flatten(1)
        self.basis = (start / start.norm(dim=1, keepdim=True))[:, None].to(self.unit.device)
        self.diagonal: list[Tensor] = []  # of the tridiagonal matrix, (B,) each
        self.beside: list[Tensor] = []

    def run(self, settings: EigenSettings) -> Eigenvalues:
        images = len(self.unit)
        iterations = torch.full((images,), settings.iterations)
        converged = torch.zeros(images, dtype=torch.bool)
        values = torch.zeros(images, dtype=torch.float64)
        for step in range(1, min(settings.iterations, self.basis.shape[2]) + 1):
            self._grow()
            ritz, residual = (part.cpu() for part in self._ritz())
            values = torch.where(converged, values, ritz)
            now = ~converged & (residual <= settings.tolerance * ritz.abs() + NOTHING)
            iterations[now] = step
            converged |= now
            if converged.all():
                break
        return Eigenvalues(values=values, iterations=iterations, converged=converged)

    def _product(self, vector_BD: Tensor) -> Tensor:
        """Hessian times vector, image by image."""
        if not self.gradient.requires_grad:
            return torch.zeros_like(vector_BD)  # a loss that is linear in the image
        (product,) = torch.autograd.grad(
            self.gradient, self.unit, vector_BD.view_as(self.unit).to(self.unit.dtype), retain_graph=True
        )
        return product.flatten(1).double()

    def _grow(self) -> None:
        """One product more, orthogonal to all that came before."""
        last_BD = self.basis[:, -1]
        product_BD = self._product(last_BD)
        self.diagonal.append((product_BD * last_BD).sum(dim=1))
        for _ in range(2):  # once more, because once loses digits
            product_BD = product_BD - torch.einsum(
                "bsd,bs->bd", self.basis, torch.einsum("bsd,bd->bs", self.basis, product_BD)
            )
        length_B = product_BD.norm(dim=1)
        self.beside.append(torch.where(length_B > NOTHING, length_B, 0.0))
        following_BD = product_BD / length_B.clamp_min(NOTHING)[:, None]
        self.basis = torch.cat(
            [self.basis, torch.where(length_B[:, None] > NOTHING, following_BD, 0.0)[:, None]], dim=1
        )

    def _ritz(self) -> tuple[Tensor, Tensor]:
        """The largest Ritz value (B,) and the length of its residual (B,)."""
        matrix = torch.diag_embed(torch.stack(self.diagonal, dim=1))
        if len(self.diagonal) > 1:
            beside = torch.stack(self.beside[:-1], dim=1)
            matrix = matrix + torch.diag_embed(beside, offset=1) + torch.diag_embed(beside, offset=-1)
        values, vectors = torch.linalg.eigh(matrix)
        return values[:, -1], (self.beside[-1] * vectors[:, -1, -1]).abs()
