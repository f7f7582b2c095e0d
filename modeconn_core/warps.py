"""Smooth faint warps, the trigger of WaNet-like attacks, searched by gradient for all classes at once.

Source of the trigger: Nguyen and Tran 2021, arXiv 2102.10369; the same family of warps, its control grid free.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.checkpoints import Checkpoints, State
from modeconn_core.device import autocast
from modeconn_core.triggers import Warp

CONTROLS = 4  # control points along each side
STRENGTH = 0.75  # mean shift, in half pixels: warps much stronger than this move natural images too
STEPS, BATCH, RATE = 30, 16, 0.2
JUDGED = 8  # last steps over which the success is averaged


def invert_warps(
    module: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    targets: Tensor,
    classes: int,
    *,
    seed: int,
    checkpoints: Checkpoints,
    name: str,
) -> list[Warp]:
    """For each of ``targets`` (S,) the warp that sends most images of other classes there.

    ``module`` is in eval mode and keeps its weights. ``name``: that of the search in ``checkpoints``.
    """
    search = _WarpSearch(module, images_NCHW, labels_N, targets, seed)
    checkpoints.run(name, search, until=STEPS)
    grids_SHW2 = _grids(search.shifts.detach(), *images_NCHW.shape[2:])
    return [
        Warp(wanted=target.expand(classes), success_rate=rate, grid=grid[None])
        for target, rate, grid in zip(targets, search.success_S.tolist(), grids_SHW2, strict=True)
    ]


class _WarpSearch:
    """The control points' shifts (S, 2, CONTROLS, CONTROLS) under search, and how well the last steps' warps worked."""

    def __init__(self, module: nn.Module, images_NCHW: Tensor, labels_N: Tensor, targets: Tensor, seed: int) -> None:
        self.module, self.images, self.targets = module, images_NCHW, targets
        self.generator = torch.Generator().manual_seed((seed * 1009 + 7) % 2**63)
        device = images_NCHW.device
        start = 0.5 * torch.randn(len(targets), 2, CONTROLS, CONTROLS, generator=self.generator)
        self.shifts = start.to(device).requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.shifts], lr=RATE)
        others = [(labels_N != target).nonzero().squeeze(1) for target in targets]
        self.others = [index if len(index) else torch.arange(len(labels_N), device=device) for index in others]
        self.success_S = torch.zeros(len(targets), device=device)
        self.done = 0

    def step(self) -> None:
        device, searches = self.images.device, len(self.targets)
        index = torch.cat(
            [o[torch.randint(len(o), (BATCH,), generator=self.generator).to(device)] for o in self.others]
        )
        grid = _grids(self.shifts, *self.images.shape[2:]).repeat_interleave(BATCH, dim=0)
        warped = F.grid_sample(self.images[index], grid, padding_mode="border", align_corners=True)
        wanted_B = self.targets.repeat_interleave(BATCH)
        with autocast(device):
            outputs = self.module(warped.contiguous(memory_format=torch.channels_last)).float()
        (self.shifts.grad,) = torch.autograd.grad(F.cross_entropy(outputs, wanted_B) * searches, self.shifts)
        if self.done >= STEPS - JUDGED:
            self.success_S += (outputs.argmax(dim=1) == wanted_B).float().view(searches, BATCH).mean(dim=1) / JUDGED
        if self.done < STEPS - 1:
            self.optimizer.step()
        self.done += 1

    def state_dict(self) -> State:
        """All that the next steps depend on."""
        return {
            "done": self.done,
            "generator": self.generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
            "shifts": self.shifts.detach(),
            "success": self.success_S,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from :meth:`state_dict`."""
        self.done = state["done"]
        self.generator.set_state(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.shifts.copy_(state["shifts"])
        self.success_S.copy_(state["success"])


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
