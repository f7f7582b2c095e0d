"""Weights at t: Bezier curves and polygonal chains through weight space, over any module, without rewritten layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

CurveKind = Literal["bezier", "chain"]
State = Mapping[str, Tensor]


def bezier_coefficients(t: float, bends: int) -> list[float]:
    """Bernstein weights of the ``bends + 2`` control points at ``t``.

    Source: Garipov et al. 2018, eq. 4; Zhao et al. 2020, eq. 3.
    """
    degree = bends + 1
    return [math.comb(degree, i) * (1 - t) ** (degree - i) * t**i for i in range(degree + 1)]


def chain_coefficients(t: float, bends: int) -> list[float]:
    """Weights of the control points at ``t`` of a polygonal chain with ``bends + 1`` equal segments.

    Source: Zhao et al. 2020, eq. 2.
    """
    position = t * (bends + 1)
    return [max(0.0, 1.0 - abs(position - i)) for i in range(bends + 2)]


COEFFICIENTS = {"bezier": bezier_coefficients, "chain": chain_coefficients}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one parameter lies in the flat vector, and in which memory order."""

    name: str
    start: int
    size: int
    shape: torch.Size
    channels_last: bool

    def view(self, flat_D: Tensor) -> Tensor:
        """The parameter as a view of ``flat_D``; 4-D weights lie channels-last, as convolutions like them."""
        piece = flat_D[self.start : self.start + self.size]
        if self.channels_last:
            out, inner, height, width = self.shape
            return piece.view(out, height, width, inner).permute(0, 3, 1, 2)
        return piece.view(self.shape)


class FlatParameters:
    """One flat vector behind all parameters of a module, and one behind their gradients.

    After construction every parameter of ``module`` is a view of ``vector`` (D,) and its gradient a view of
    ``gradient`` (D,): writing a point of the path is one copy, and reading the whole gradient costs nothing.
    Shared parameters appear once. Half-precision parameters are held in float32.
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = dict(module.named_parameters())
        if not parameters:
            raise ValueError("the module has no parameters, so there is no weight space to draw a path through")
        first = next(iter(parameters.values()))
        dtypes = {p.dtype for p in parameters.values()}
        dtype = torch.float64 if torch.float64 in dtypes else torch.float32
        self.slots: list[Slot] = []
        start = 0
        for name, parameter in parameters.items():
            last = parameter.dim() == 4 and parameter.shape[1] > 1
            self.slots.append(Slot(name, start, parameter.numel(), parameter.shape, last))
            start += parameter.numel()
        self.vector = torch.empty(start, dtype=dtype, device=first.device)
        self.gradient = torch.zeros_like(self.vector)
        for slot, parameter in zip(self.slots, parameters.values(), strict=True):
            slot.view(self.vector).copy_(parameter.detach())
            parameter.requires_grad_(True)
            parameter.data = slot.view(self.vector)
            parameter.grad = slot.view(self.gradient)

    def pack(self, state: State) -> Tensor:
        """Flat copy (D,) of the parameters in ``state``, by name.

        Raises ValueError naming what is missing or mis-shaped.
        """
        flat_D = torch.empty_like(self.vector)
        for slot in self.slots:
            if slot.name not in state:
                raise ValueError(f"the state has no tensor {slot.name!r}")
            tensor = state[slot.name]
            if tensor.shape != slot.shape:
                raise ValueError(f"{slot.name!r} has shape {tuple(tensor.shape)}, expected {tuple(slot.shape)}")
            slot.view(flat_D).copy_(tensor)
        return flat_D

    def unpack(self, flat_D: Tensor) -> dict[str, Tensor]:
        """The named parameters in ``flat_D`` (D,), each a contiguous copy."""
        return {slot.name: slot.view(flat_D).clone(memory_format=torch.contiguous_format) for slot in self.slots}


class ModePath:
    """A curve through weight space: two fixed ends, ``bends`` trainable control points between them.

    ``points`` is (bends + 2, D): first end, bends, second end, as flat vectors in the order of ``slots``.
    At t = 0 and t = 1 the path gives the ends bit for bit.
    """

    def __init__(self, kind: CurveKind, points_PD: Tensor, slots: list[Slot]) -> None:
        if kind not in COEFFICIENTS:
            raise ValueError(f"unknown curve {kind!r}: choose one of {', '.join(COEFFICIENTS)}")
        if points_PD.shape[0] < 3:
            raise ValueError("a path needs at least one bend")
        self.kind = kind
        self.points = points_PD
        self.slots = slots

    @classmethod
    def between(
        cls,
        flat: FlatParameters,
        first: State,
        second: State,
        *,
        kind: CurveKind,
        bends: int,
        start: Literal["line", "first"] = "line",
    ) -> ModePath:
        """A path from state ``first`` to state ``second``.

        Its bends start on the straight line between the ends (the paper's way, for two models that were trained apart)
        or at the first end: between channel-permuted ends the line's middle is a ruin, and the fit need not repair it
        first.
        """
        if bends < 1:
            raise ValueError("a path needs at least one bend")
        end_0, end_1 = flat.pack(first), flat.pack(second)
        line = [torch.lerp(end_0, end_1, i / (bends + 1)) for i in range(1, bends + 1)]
        points = [end_0, *(line if start == "line" else [end_0] * bends), end_1]
        return cls(kind, torch.stack(points), flat.slots)

    @property
    def bends(self) -> int:
        return self.points.shape[0] - 2

    def coefficients(self, t: float) -> list[float]:
        """Weight of each control point at ``t`` in [0, 1]; they sum to one."""
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"t must lie in [0, 1], not {t}")
        return COEFFICIENTS[self.kind](t, self.bends)

    def write(self, t: float, out_D: Tensor) -> list[float]:
        """Write the weights at ``t`` into ``out_D`` (D,) and return the coefficients used."""
        coefficients = self.coefficients(t)
        if t in (0.0, 1.0):
            out_D.copy_(self.points[0 if t == 0.0 else -1])
        else:
            weights_P = torch.tensor(coefficients, dtype=out_D.dtype).to(out_D.device, non_blocking=True)
            torch.mv(self.points.T, weights_P, out=out_D)
        return coefficients

    def state_at(self, t: float) -> dict[str, Tensor]:
        """The named parameters at ``t``."""
        flat_D = torch.empty_like(self.points[0])
        self.write(t, flat_D)
        return {slot.name: slot.view(flat_D).clone(memory_format=torch.contiguous_format) for slot in self.slots}

    def save(self, file: str | Path) -> None:
        """Write the control points to a safetensors file: one tensor per point and parameter, in plain memory order."""
        tensors = {
            f"{index}/{slot.name}": slot.view(point_D).detach().cpu().clone(memory_format=torch.contiguous_format)
            for index, point_D in enumerate(self.points)
            for slot in self.slots
        }
        metadata = {"curve": self.kind, "bends": str(self.bends)}
        save_file(tensors, str(file), metadata=metadata)

    @classmethod
    def load(cls, file: str | Path, flat: FlatParameters) -> ModePath:
        """Read a path written by :meth:`save`. Raises ValueError when it does not fit the module behind ``flat``."""
        with safe_open(str(file), framework="pt") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("curve") not in COEFFICIENTS:
                raise ValueError(f"{Path(file).name} is not a stored path")
            names = set(stored.keys())
            points = []
            for index in range(int(metadata["bends"]) + 2):
                wanted = {slot.name: f"{index}/{slot.name}" for slot in flat.slots}
                state = {name: stored.get_tensor(key) for name, key in wanted.items() if key in names}
                points.append(flat.pack(state))
        return cls(metadata["curve"], torch.stack(points), flat.slots)
