"""Fine-Pruning: remove the neurons that clean images leave idle, then fine-tune.

Source: Liu, Dolan-Gavitt and Garg, RAID 2018, arXiv 1805.12185, section 3.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bench.peers.common import Clean, accuracy, last_linear
from bench.peers.fine_tuning import fine_tune

ALLOWED_DROP = 0.04  # of accuracy by pruning alone, the paper's stopping rule


def _masked(mask: Tensor, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0] * mask, *inputs[1:])


def fine_prune(module: nn.Module, clean: Clean) -> nn.Module:
    """Prune channels of the last hidden layer, least active first, while the accuracy allows it; then fine-tune."""
    layer = last_linear(module)
    mask = torch.ones(layer.in_features, device=layer.weight.device)
    hook = layer.register_forward_pre_hook(partial(_masked, mask))
    active = []
    watch = layer.register_forward_pre_hook(lambda _, inputs: active.append(inputs[0].abs().float().mean(dim=0)))
    lowest = accuracy(module, clean) - ALLOWED_DROP
    watch.remove()
    order = torch.stack(active).mean(dim=0).argsort()
    for channel in order[:-1].tolist():
        mask[channel] = 0.0
        if accuracy(module, clean) < lowest:
            mask[channel] = 1.0
            break
    fine_tune(module, clean)
    hook.remove()
    with torch.no_grad():
        layer.weight.mul_(mask)
    return module.eval()
