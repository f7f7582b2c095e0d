"""Where the work runs, and in which precision."""

from __future__ import annotations

import copy
import functools
from typing import Literal

import torch
from torch import nn

DeviceChoice = Literal["auto", "cpu", "cuda"]


def choose_device(choice: DeviceChoice) -> torch.device:
    """The device for ``choice``. Raises ValueError when CUDA is asked for and there is none."""
    if choice == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch sees no CUDA device; use 'auto' or 'cpu'")
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


@functools.cache
def has_fast_bfloat16(device_type: str) -> bool:
    """Whether the hardware multiplies bfloat16 natively.

    That is AVX-512 BF16 or AMX on a CPU, and compute capability 8 on CUDA.
    """
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported()


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 autocast where it pays, a no-op elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_fast_bfloat16(device.type))


def working_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """A private copy of ``model`` in eval mode on ``device``.

    Half-precision weights are held in float32, which is exact.
    """
    work = copy.deepcopy(model).to(device).eval()
    halves = {torch.float16, torch.bfloat16}
    return work.float() if any(parameter.dtype in halves for parameter in work.parameters()) else work


def parameter_dtype(module: nn.Module) -> torch.dtype:
    """The dtype that a module's images should have."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
