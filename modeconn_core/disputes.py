"""Disputed views: where the suspect and the middle of its path disagree, and the middle is more likely to be right.

Injected errors cannot be found by inverting triggers. They bend the suspect's answers around a few unknown images, and
some of that shows on views of clean images: crops, and mixes of two of them, which reach farther into the input space.
Far from both ends injected errors have faded (Zhao et al. 2020, section 4), so the middle of the path is the witness.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modeconn_core.augment import Augmentation, random_crop_and_mirror
from modeconn_core.metrics import predict
from modeconn_core.sweep import TriggeredSet

WITNESS_T = 0.5  # farthest from both ends
VIEWS = 2000  # crops, and as many mixes
FEWEST = 5  # disputed views that say anything
MOST = 200  # that are followed along the path


@torch.no_grad()
def disputed_views(
    suspect: nn.Module, witness: nn.Module, images_NCHW: Tensor, labels_N: Tensor, *, mirror: bool, seed: int
) -> TriggeredSet | None:
    """Views on which ``suspect`` and ``witness`` (both in eval mode) disagree, with the suspect's answers as targets.

    A crop is disputed where the witness gives its image's label and the suspect another; a mix of two images, which has
    no label of its own, where the witness gives the label of one of the two and the suspect that of neither. None where
    fewer than FEWEST are disputed.
    """
    generator = torch.Generator().manual_seed(seed)
    padding = Augmentation().padding(images_NCHW)
    chosen = torch.arange(VIEWS, device=images_NCHW.device) % len(images_NCHW)
    partners = chosen[torch.randperm(VIEWS, generator=generator).to(chosen.device)]
    crops, others = (
        random_crop_and_mirror(images_NCHW[places], padding=padding, mirror=mirror, generator=generator)
        for places in (chosen, partners)
    )
    shares = (0.25 + 0.5 * torch.rand(VIEWS, 1, 1, 1, generator=generator)).to(crops)
    views = torch.cat([crops, torch.lerp(crops, others, shares)]).contiguous(memory_format=torch.channels_last)
    first = labels_N[chosen].repeat(2)
    second = torch.cat([labels_N[chosen], labels_N[partners]])
    suspected, witnessed = predict(suspect, views).argmax(dim=1), predict(witness, views).argmax(dim=1)
    sided = (witnessed == first) | (witnessed == second)
    disputed = (sided & (suspected != first) & (suspected != second)).nonzero().squeeze(1)
    if len(disputed) < FEWEST:
        return None
    disputed = disputed[torch.randperm(len(disputed), generator=generator)[:MOST].to(disputed.device)]
    return TriggeredSet(images=views[disputed], targets=suspected[disputed])
