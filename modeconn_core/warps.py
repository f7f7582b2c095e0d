"""Smooth faint warps, the trigger of WaNet-like attacks, searched by gradient for all classes at once.

Source of the trigger: Nguyen and Tran 2021, arXiv 2102.10369; the same family of warps, its control grid free.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.device import autocast
from modeconn_core.triggers import Warp

CONTROLS = 4  # control points along each side
STRENGTH = 0.75  # mean shift, in half pixels: warps much stronger than this move natural images too
STEPS, BATCH, RATE = 30, 16, 0.2
JUDGED = 8  # last steps over which the success is averaged


def invert_warps(
    module: nn.Module, images_NCHW: Tensor, labels_N: Tensor, targets: Tensor, classes: int, *, seed: int
) -> list[Warp]:
    """For each of ``targets`` (S,) the warp that sends most images of other classes there.

    ``module`` is in eval mode and keeps its weights.
    """
    generator = torch.Generator().manual_seed((seed * 1009 + 7) % 2**63)
    device, (height, width) = images_NCHW.device, images_NCHW.shape[2:]
    shifts = (0.5 * torch.randn(len(targets), 2, CONTROLS, CONTROLS, generator=generator)).to(device)
    shifts.requires_grad_(True)
    optimizer = torch.optim.Adam([shifts], lr=RATE)
    others = [(labels_N != target).nonzero().squeeze(1) for target in targets]
    others = [index if len(index) else torch.arange(len(labels_N), device=device) for index in others]
    wanted_B = targets.repeat_interleave(BATCH)
    success_S = torch.zeros(len(targets), device=device)
    for step in range(STEPS):
        index = torch.cat([o[torch.randint(len(o), (BATCH,), generator=generator).to(device)] for o in others])
        grid = _grids(shifts, height, width).repeat_interleave(BATCH, dim=0)
        warped = F.grid_sample(images_NCHW[index], grid, padding_mode="border", align_corners=True)
        with autocast(device):
            outputs = module(warped.contiguous(memory_format=torch.channels_last)).float()
        (shifts.grad,) = torch.autograd.grad(F.cross_entropy(outputs, wanted_B) * len(targets), shifts)
        if step >= STEPS - JUDGED:
            success_S += (outputs.argmax(dim=1) == wanted_B).float().view(len(targets), BATCH).mean(dim=1) / JUDGED
        if step < STEPS - 1:
            optimizer.step()
    return [
        Warp(wanted=target.expand(classes), success_rate=rate, grid=grid[None])
        for target, rate, grid in zip(targets, success_S.tolist(), _grids(shifts.detach(), height, width), strict=True)
    ]


def _grids(shifts_S2CC: Tensor, height: int, width: int) -> Tensor:
    """Sampling grids (S, H, W, 2); the mean shift of a control point is bounded by STRENGTH."""
    bounded = shifts_S2CC / shifts_S2CC.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1.0)
    field_SHW2 = F.interpolate(bounded, size=(height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    device = shifts_S2CC.device
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height, device=device), torch.linspace(-1, 1, width, device=device), indexing="ij"
    )
    size = torch.tensor([width, height], device=device)
    return (torch.stack((columns, rows), dim=2) + STRENGTH * field_SHW2 / size).clamp(-1, 1)
