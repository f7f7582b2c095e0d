"""FT-SAM: fine-tuning with adaptive sharpness-aware minimisation, which shrinks backdoor neurons.

Source: Zhu et al., ICCV 2023, arXiv 2304.11823, section 4; the perturbation is that of Kwon et al. 2021 (ASAM).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.peers.common import Clean, generator_of, loss_of

EPOCHS, BATCH, RATE = 100, 128, 0.01
RADIUS, STABILISER = 2.0, 0.01


def ft_sam(module: nn.Module, clean: Clean) -> nn.Module:
    """SGD on the gradient at the adversarial weights within RADIUS, relative to the weights' sizes; cosine rate."""
    parameters = list(module.parameters())
    optimizer = torch.optim.SGD(parameters, lr=RATE, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    generator = generator_of(clean)
    module.train()
    for _ in range(EPOCHS):
        for x, labels in clean.epoch(min(BATCH, len(clean.labels)), generator, augment=True):
            steps = _ascent(parameters, torch.autograd.grad(loss_of(module, x, labels), parameters))
            torch._foreach_add_([p.data for p in parameters], steps)
            optimizer.zero_grad()
            loss_of(module, x, labels).backward()
            torch._foreach_sub_([p.data for p in parameters], steps)
            optimizer.step()
        schedule.step()
    return module.eval()


@torch.no_grad()
def _ascent(parameters: list[nn.Parameter], gradients: tuple[Tensor, ...]) -> list[Tensor]:
    """RADIUS T^2 g / |T g|, with T = |w| + STABILISER."""
    scales = [parameter.abs() + STABILISER for parameter in parameters]
    scaled = [scale * gradient for scale, gradient in zip(scales, gradients, strict=True)]
    length = torch.stack(torch._foreach_norm(scaled)).norm().clamp_min(1e-12)
    return [RADIUS / length * scale * step for scale, step in zip(scales, scaled, strict=True)]
