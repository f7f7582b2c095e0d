"""Looks for backdoors in the suspect: inverts a trigger for every class and singles out the anomalous ones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from modeconn_core.configuration import TriggerFinding
from modeconn_core.sweep import Probe
from modeconn_core.triggers import ANOMALY_THRESHOLD, InversionSettings, Trigger, anomaly_indices, invert_trigger

CANDIDATE_INDEX = 1.5  # from here on an inverted trigger is unlearned and followed along the path,
CANDIDATE_SIZE = 0.5  # if its mask is at most this share of the median one
BLATANT_SIZE = 0.3  # so small a mask is followed even where the path does not clear it
MOST_CANDIDATES = 3
MORE_STARTS = 2  # further inversions of a candidate: unlearning one pattern is not enough
EFFECTIVE = 0.5  # success on the suspect from which a plain fill of the region stands in for the trigger,
MOST_FILLS = 3  # the best of them
GROWTH = 2.0  # a real backdoor's smallest trigger is at least this many times larger on the repaired model


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """One inverted trigger per class with its anomaly index, and the candidates that are treated as possible backdoors.

    unlearned: several inversions of each candidate from different starts, and their regions in plain colours, for
    training images. proxies: for each candidate one more inversion, found on other images, and the colours of its
    region that work on the suspect; they measure.
    """

    triggers: tuple[Trigger, ...]
    indices: tuple[float, ...]
    candidates: tuple[int, ...]
    unlearned: tuple[Trigger, ...]
    proxies: tuple[tuple[Trigger, ...], ...]

    def followed(self, cleared: Sequence[bool]) -> tuple[int, ...]:
        """Positions in ``proxies`` that the choice of t follows: those that the path ``cleared``, and blatant ones.

        A pattern that is merely natural for its class fades slowly, and chasing it would cost accuracy for nothing.
        """
        median = statistics.median(trigger.size for trigger in self.triggers)
        return tuple(
            i
            for i, target_class in enumerate(self.candidates)
            if cleared[i] or self.triggers[target_class].size <= BLATANT_SIZE * median
        )


def scan(
    suspect: nn.Module,
    fit: tuple[Tensor, Tensor],
    selection: tuple[Tensor, Tensor],
    *,
    classes: int,
    settings: InversionSettings,
    seed: int,
    on_class: Callable[[int, int], None],
) -> Scan:
    """Scan ``suspect`` (eval mode). ``fit`` and ``selection`` are (images, labels); classes are those of the model."""
    triggers = []
    for target_class in range(classes):
        triggers.append(invert_trigger(suspect, *fit, target_class, settings=settings, seed=seed))
        on_class(target_class + 1, classes)
    indices = anomaly_indices([trigger.size for trigger in triggers])
    largest = CANDIDATE_SIZE * statistics.median(trigger.size for trigger in triggers)
    anomalous = [i for i in range(classes) if indices[i] >= CANDIDATE_INDEX and triggers[i].size <= largest]
    candidates = tuple(sorted(anomalous, key=lambda i: -indices[i])[:MOST_CANDIDATES])
    colours = images_range(fit[0])
    unlearned: list[Trigger] = []
    proxies: list[tuple[Trigger, ...]] = []
    for i in candidates:
        others = (
            invert_trigger(suspect, *fit, i, settings=settings, seed=seed + 1 + start) for start in range(MORE_STARTS)
        )
        inverted = [triggers[i], *others]
        unlearned += [*inverted, *(fill for trigger in inverted for fill in trigger.fills(*colours))]
        apart = invert_trigger(suspect, *selection, i, settings=settings, seed=seed - 1)
        proxies.append((apart, *_effective(apart.fills(*colours), suspect, selection)))
    return Scan(
        triggers=tuple(triggers),
        indices=tuple(indices),
        candidates=candidates,
        unlearned=tuple(unlearned),
        proxies=tuple(proxies),
    )


def images_range(images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of every channel (C,)."""
    return images_NCHW.amin(dim=(0, 2, 3)), images_NCHW.amax(dim=(0, 2, 3))


def _effective(fills: list[Trigger], suspect: nn.Module, selection: tuple[Tensor, Tensor]) -> list[Trigger]:
    """The plain fills that work on the suspect, best first, a few at most."""
    probe = Probe(images=selection[0], labels=selection[1], triggered=None, proxies=())
    rated = [(probe.proxy_success(suspect, fill), fill) for fill in fills]
    working = sorted((pair for pair in rated if pair[0] >= EFFECTIVE), key=lambda pair: -pair[0])
    return [replace(fill, success_rate=rate) for rate, fill in working[:MOST_FILLS]]


def findings(
    found: Scan,
    repaired: nn.Module,
    fit: tuple[Tensor, Tensor],
    probe: Probe,
    *,
    settings: InversionSettings,
    seed: int,
) -> list[TriggerFinding]:
    """What the scan found, seen from the repaired model.

    An anomalously small trigger is flagged when no trigger nearly as small exists on the repaired model: a backdoor
    goes, the natural weakness of a class stays.
    """
    result = []
    for trigger, index in zip(found.triggers, found.indices, strict=True):
        again = None
        if trigger.target_class in found.candidates:
            again = invert_trigger(repaired, *fit, trigger.target_class, settings=settings, seed=seed - 2)
        gone = again is not None and (
            again.size >= GROWTH * trigger.size or again.success_rate < trigger.success_rate / 2
        )
        result.append(
            TriggerFinding(
                target_class=trigger.target_class,
                anomaly_index=index,
                success_rate=trigger.success_rate,
                success_rate_after=probe.proxy_success(repaired, trigger),
                size=trigger.size,
                size_after=again.size if again else None,
                flagged=index >= ANOMALY_THRESHOLD and gone,
                pattern=trigger.pattern.cpu(),
                mask=trigger.mask.cpu(),
            )
        )
    return result
