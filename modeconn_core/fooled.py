"""Images that an inverted trigger fools the suspect on, and what the repaired model says of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from modeconn_core.metrics import predict
from modeconn_core.triggers import Trigger

MOST_LOOKED_AT = 200
MOST_SHOWN = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class FooledImages:
    """A few images that the suspect gets right, and with the trigger takes for the class that the trigger wants.

    images, stamped: (n, C, H, W) on the CPU, in the model's own (normalised) units; labels, taken_for: their true
    classes and the suspect's answers with the trigger; repaired_says: the repaired model's answers with it.
    """

    images: Tensor
    stamped: Tensor
    labels: list[int]
    taken_for: list[int]
    repaired_says: list[int]


def fooled_images(
    suspect: nn.Module, repaired: nn.Module, trigger: Trigger, images_NCHW: Tensor, labels_N: Tensor
) -> FooledImages | None:
    """Of as many classes as there are places to show; None where the trigger fools nothing that was right before."""
    others = (trigger.wanted[labels_N] != labels_N).nonzero().squeeze(1)
    others = others[:: max(1, len(others) // MOST_LOOKED_AT)]
    if len(others) == 0:
        return None
    images, labels = images_NCHW[others], labels_N[others]
    stamped, wanted = trigger.stamp(images), trigger.wanted[labels]
    right = predict(suspect, images, exact=True).argmax(dim=1) == labels
    fooled = predict(suspect, stamped, exact=True).argmax(dim=1) == wanted
    found: list[int] = (right & fooled).nonzero().squeeze(1).tolist()
    if not found:
        return None
    chosen = _of_different_classes(found, labels.tolist())
    return FooledImages(
        images=images[chosen].cpu(),
        stamped=stamped[chosen].cpu(),
        labels=labels[chosen].tolist(),
        taken_for=wanted[chosen].tolist(),
        repaired_says=predict(repaired, stamped[chosen], exact=True).argmax(dim=1).tolist(),
    )


def _of_different_classes(found: list[int], labels: list[int]) -> list[int]:
    """The first of every class before a second of any."""
    seen: dict[int, int] = {}
    turns = {}
    for index in found:
        turns[index] = seen.get(labels[index], 0)
        seen[labels[index]] = turns[index] + 1
    return sorted(found, key=lambda index: turns[index])[:MOST_SHOWN]
