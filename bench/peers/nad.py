"""Neural Attention Distillation: a fine-tuned teacher's attention maps guide the suspect.

Source: Li et al., ICLR 2021, arXiv 2101.05930, section 3.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bench.peers.common import Clean, generator_of
from bench.peers.fine_tuning import BATCH, DECAY_EVERY, EPOCHS, fine_tune
from modeconn_core.device import autocast

WEIGHTS = (500.0, 1000.0, 1000.0)  # of the last three groups of layers
TEACHER_EPOCHS = 5
RATE = 0.01  # a tenth of the paper's, whose network is another one: .1 takes our suspects from 81 to 55 %


def groups(module: nn.Module) -> list[nn.Module]:
    """The last three groups of layers: a residual network's stages, elsewhere what ends in pooling."""
    stages = [layer for name, layer in module.named_children() if name.startswith("layer")]
    return (stages or [layer for layer in module.modules() if isinstance(layer, nn.MaxPool2d)])[-3:]


def attention(x_BCHW: Tensor) -> Tensor:
    """The attention map (B, H * W): sums of squares over the channels, of length one (eq. 2 with p = 2)."""
    return nn.functional.normalize(x_BCHW.float().square().sum(dim=1).flatten(1), dim=1)


def nad(module: nn.Module, clean: Clean) -> nn.Module:
    """A teacher fine-tuned for some epochs, then the suspect with attention distillation."""
    teacher = fine_tune(copy.deepcopy(module), clean, epochs=TEACHER_EPOCHS).requires_grad_(False)
    seen: dict[nn.Module, list[Tensor]] = {module: [], teacher: []}
    for network, outputs in seen.items():
        for group in groups(network):
            group.register_forward_hook(lambda _, __, output, outputs=outputs: outputs.append(attention(output)))
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    generator = generator_of(clean)
    module.train()
    for epoch in range(EPOCHS):
        for parameters in optimizer.param_groups:
            parameters["lr"] = RATE * 0.1 ** (epoch // DECAY_EVERY)
        for x, labels in clean.epoch(BATCH, generator, augment=True):
            for outputs in seen.values():
                outputs.clear()
            with autocast(x.device):
                answers = module(x)
                teacher(x)
            loss = nn.functional.cross_entropy(answers.float(), labels)
            for weight, mine, wanted in zip(WEIGHTS[-len(seen[module]) :], seen[module], seen[teacher], strict=True):
                loss = loss + weight * (mine - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for group in groups(module):
        group._forward_hooks.clear()
    return module.eval()
