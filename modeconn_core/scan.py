"""Looks for backdoors in the suspect: inverts triggers of several families for every class, picks the odd ones."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from modeconn_core.checkpoints import Checkpoints
from modeconn_core.configuration import TriggerFinding
from modeconn_core.fooled import fooled_images
from modeconn_core.inversion import InversionSettings, PatchInversion, invert_patches, one_target_each
from modeconn_core.sweep import Probe
from modeconn_core.triggers import (
    ANOMALY_THRESHOLD,
    LEAST_SPREAD,
    Patch,
    Trigger,
    Warp,
    anomaly_indices,
    images_range,
)
from modeconn_core.warps import invert_warps
from modeconn_core.waves import surest_waves

CANDIDATE_INDEX = 1.5  # from here on an inverted patch is unlearned and followed along the path,
CANDIDATE_SIZE = 0.6  # if its mask is at most this share of the median one
BLATANT_SIZE = 0.3  # so small a mask is followed even where the path does not clear it
MOST_CANDIDATES = 3
CLEAR_INDEX = 5.0  # of a backdoor's trigger; beside one as clear as this
DOUBTFUL_INDEX = 3.0  # one below this is taken for the natural weakness that most models have
ALL_TO_ALL_STARTS = 2
TRANSFERS = 0.7  # of the wanted success, on images that the search has not seen: more than a chance find has,
SMALL = 0.4  # and so has a patch that is this much smaller than the median one to a single target
MORE_STARTS = 2  # further inversions of a candidate: unlearning one pattern is not enough
EFFECTIVE = 0.5  # success on the suspect from which a plain fill of the region stands in for the trigger,
MOST_FILLS = 3  # the best of them
GROWTH = 2.0  # a real backdoor's smallest trigger is at least this many times larger on the repaired model
WORKS = 0.7  # share of the wanted success from which an inversion has found anything
WAVE_CONFIDENCE = 0.85  # in the target of a backdoor's wave, 0.93 or more; natural textures reach 0.75
WARP_SUCCESS = 0.6  # of a backdoor's warp; clean models reach 0.12
SUCCESS_SPREAD = 0.1  # least spread of the classes' successes, for the anomaly index of waves and warps
SHOWN_FOOLED = 12  # classes, the most anomalous, of which images are shown that their triggers fool
FADED = 0.15  # of the success on the suspect: what a backdoor's wave or warp has at most on the repaired model


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspicion:
    """A possible backdoor.

    trigger: as the scan found it. unlearned: triggers for training images; of a patch several inversions and their
    regions in plain colours, a wave as it is, no warps. proxies: found on other images, so that they can measure (waves
    are tried, not fitted). blatant: followed in any case.
    """

    trigger: Trigger
    index: float
    unlearned: tuple[Trigger, ...] = ()
    proxies: tuple[Trigger, ...]
    blatant: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """The smallest patch of every class with its anomaly index, and what is treated as a possible backdoor.

    settings: how long the patches were searched for, in the end.
    """

    patches: tuple[Patch, ...]
    indices: tuple[float, ...]
    suspicions: tuple[Suspicion, ...]
    settings: InversionSettings

    @property
    def unlearned(self) -> list[Trigger]:
        return [trigger for suspicion in self.suspicions for trigger in suspicion.unlearned]

    @property
    def proxies(self) -> list[tuple[Trigger, ...]]:
        return [suspicion.proxies for suspicion in self.suspicions]

    def followed(self, cleared: Sequence[bool]) -> tuple[int, ...]:
        """Positions of the suspicions that the choice of t follows: those that the path ``cleared``, and blatant ones.

        A pattern that is merely natural for its class fades slowly, and chasing it would cost accuracy for nothing.
        """
        return tuple(i for i, suspicion in enumerate(self.suspicions) if cleared[i] or suspicion.blatant)


def scan(
    suspect: nn.Module,
    fit: tuple[Tensor, Tensor],
    selection: tuple[Tensor, Tensor],
    *,
    classes: int,
    settings: InversionSettings,
    seed: int,
    checkpoints: Checkpoints,
    on_progress: Callable[[float], None],
) -> Scan:
    """Scan ``suspect`` (eval mode). ``fit`` and ``selection`` are (images, labels); classes are those of the model.

    Patches are searched for every target class and for the all-to-all attack of the literature (class k becomes k + 1);
    then waves and warps. Where nothing stands out, patches are searched twice as long; a find of that second look must
    be clearer than the natural weakness that many models have.
    """
    looks = _Looks(suspect, fit, selection, settings, seed, checkpoints)
    searches = _PatchSearches(looks, classes)
    found = searches.go_on(settings.steps, on_progress=lambda share: on_progress(0.6 * share))
    on_progress(0.7)
    suspicions = [*found.suspicions]
    known = {suspicion.trigger.target_class for suspicion in suspicions}
    suspicions += looks.at_waves(classes, known)
    known |= {suspicion.trigger.target_class for suspicion in suspicions}
    suspicions += looks.at_warps(classes, known)
    if all(suspicion.index < ANOMALY_THRESHOLD for suspicion in suspicions):
        # on some networks masks shrink slowly: before it is said that nothing was found, they get as long again
        again = searches.go_on(settings.steps, on_progress=lambda share: on_progress(0.7 + 0.3 * share))
        undoubted = [suspicion for suspicion in again.suspicions if suspicion.index >= DOUBTFUL_INDEX]
        if undoubted:
            found, suspicions = again, undoubted
    on_progress(1.0)
    return replace(found, suspicions=_without_doubtful(suspicions))


class _PatchSearches:
    """Patches to every class and to all of them (class k becomes k + 1), looked at as far as they have come."""

    def __init__(self, looks: _Looks, classes: int) -> None:
        device = looks.fit[0].device
        next_class_K = (torch.arange(classes, device=device) + 1) % classes
        wanted_SK = torch.cat([one_target_each(classes, device), next_class_K.expand(ALL_TO_ALL_STARTS, -1)])
        self._looks, self._classes = looks, classes
        self._enough = looks.settings.wanted_for(wanted_SK).tolist()
        self._steps = 0
        self._inversion = PatchInversion(looks.suspect, *looks.fit, wanted_SK, settings=looks.settings, seed=looks.seed)

    def go_on(self, steps: int, *, on_progress: Callable[[float], None]) -> Scan:
        """Search for ``steps`` more, and look closer at what is anomalous then, for as long as that took."""
        classes, enough = self._classes, self._enough
        self._steps += steps
        looks = self._looks.with_steps(self._steps)
        patches = self._inversion.search(
            steps, looks.checkpoints, "patches", on_searched=lambda done: on_progress(done / len(enough))
        )
        sizes = [_size(patch, least) for patch, least in zip(patches, enough, strict=True)]
        median = statistics.median(sizes[:classes])
        indices = anomaly_indices(sizes[:classes])
        anomalous = [i for i in range(classes) if _is_anomalous(sizes[i], indices[i], median)]
        candidates = sorted(anomalous, key=lambda i: -indices[i])[:MOST_CANDIDATES]
        best = min(range(classes, len(sizes)), key=lambda i: sizes[i])
        # no patch moves every class of a clean model one on: that one works at all is the anomaly, however large
        all_to_all_index = math.log(patches[best].mask.numel() / sizes[best]) / LEAST_SPREAD
        if all_to_all_index >= CANDIDATE_INDEX and (
            sizes[best] <= SMALL * median
            or looks.unseen.proxy_success(looks.suspect, patches[best])
            >= TRANSFERS * looks.settings.wanted_success_all_to_all
        ):
            candidates.append(best)
        again = looks.again([patches[i] for i in candidates])
        suspicions = []
        for i, starts in zip(candidates, again, strict=True):
            index, size = all_to_all_index, sizes[i]
            if i < classes:
                # the smallest of ten masks is small by chance, too: the index that counts is of searches made afresh
                size = statistics.geometric_mean(_size(start, enough[i]) for start in starts)
                index = indices[i] = anomaly_indices([*sizes[:i], size, *sizes[i + 1 : classes]])[i]
                if not _is_anomalous(size, index, median):
                    continue
            suspicions.append(looks.at_patch([patches[i], *starts], index, blatant=size <= BLATANT_SIZE * median))
        return Scan(
            patches=tuple(patches[:classes]),
            indices=tuple(indices[:classes]),
            suspicions=tuple(suspicions),
            settings=looks.settings,
        )


def _size(patch: Patch, wanted_success: float) -> float:
    """The mask's size, the whole image's where the patch does not work."""
    return patch.size if patch.success_rate >= WORKS * wanted_success else float(patch.mask.numel())


def _is_anomalous(size: float, index: float, median: float) -> bool:
    return index >= CANDIDATE_INDEX and size <= CANDIDATE_SIZE * median


def _without_doubtful(suspicions: Sequence[Suspicion]) -> tuple[Suspicion, ...]:
    """Unlearning and following a natural weakness costs accuracy: not beside a backdoor that leaves no doubt."""
    clear = any(suspicion.index >= CLEAR_INDEX for suspicion in suspicions)
    return tuple(suspicion for suspicion in suspicions if suspicion.index >= DOUBTFUL_INDEX or not clear)


@dataclass(frozen=True, slots=True)
class _Looks:
    """Closer looks at the suspect, one for each family of triggers."""

    suspect: nn.Module
    fit: tuple[Tensor, Tensor]
    selection: tuple[Tensor, Tensor]
    settings: InversionSettings
    seed: int
    checkpoints: Checkpoints

    def with_steps(self, steps: int) -> _Looks:
        """Looks by inversions of ``steps``."""
        return replace(self, settings=replace(self.settings, steps=steps))

    @property
    def unseen(self) -> Probe:
        """Images that no search has seen."""
        return Probe(images=self.selection[0], labels=self.selection[1], triggered=None, proxies=())

    def again(self, patches: Sequence[Patch]) -> list[list[Patch]]:
        """Invert each on the same images from other starts."""
        if not patches:
            return []
        wanted = torch.stack([patch.wanted for patch in patches]).repeat_interleave(MORE_STARTS, dim=0)
        found = self._invert(self.fit, wanted, "again", seed=self.seed + 1)
        return [found[i : i + MORE_STARTS] for i in range(0, len(found), MORE_STARTS)]

    def at_patch(self, starts: Sequence[Patch], index: float, *, blatant: bool) -> Suspicion:
        """What is known of one patch: its inversions on the fit's images are unlearned, what measures is found on the
        selection's, and on just these, so that it is the last to fade."""
        wanted = starts[0].wanted[None]
        (apart,) = self._invert(
            self.selection, wanted, f"apart-{starts[0].target_class}", seed=self.seed - 1, vary=False
        )
        colours = images_range(self.fit[0])
        return Suspicion(
            trigger=starts[0],
            index=index,
            unlearned=(*starts, *(fill for start in starts for fill in start.fills(*colours))),
            proxies=(apart, *_effective(apart.fills(*colours), self.suspect, self.selection)),
            blatant=blatant,
        )

    def _invert(
        self, images: tuple[Tensor, Tensor], wanted_SK: Tensor, name: str, *, seed: int, vary: bool = True
    ) -> list[Patch]:
        return invert_patches(
            self.suspect,
            *images,
            wanted_SK,
            settings=self.settings,
            seed=seed,
            vary=vary,
            checkpoints=self.checkpoints,
            name=name,
        )

    def at_waves(self, classes: int, known: set[int | None]) -> list[Suspicion]:
        """Waves to classes that are not suspected already."""
        waves = surest_waves(self.suspect, *self.fit, classes, checkpoints=self.checkpoints)
        indices = success_indices([confidence for _, confidence in waves])
        return [
            Suspicion(trigger=wave, index=index, unlearned=(wave,), proxies=(wave,))
            for (wave, confidence), index in zip(waves, indices, strict=True)
            if confidence >= WAVE_CONFIDENCE and index >= ANOMALY_THRESHOLD and wave.target_class not in known
        ]

    def at_warps(self, classes: int, known: set[int | None]) -> list[Suspicion]:
        """Warps to classes that are not suspected already."""
        everyone = torch.arange(classes, device=self.fit[0].device)
        warps = self._invert_warps(self.fit, everyone, classes, "warps", seed=self.seed)
        indices = success_indices([warp.success_rate for warp in warps])
        odd = [
            i
            for i, warp in enumerate(warps)
            if warp.success_rate >= WARP_SUCCESS and indices[i] >= ANOMALY_THRESHOLD and i not in known
        ]
        if not odd:
            return []
        apart = self._invert_warps(self.selection, everyone[odd], classes, "warps-apart", seed=self.seed - 1)
        return [
            Suspicion(trigger=warps[i], index=indices[i], proxies=(proxy,)) for i, proxy in zip(odd, apart, strict=True)
        ]

    def _invert_warps(
        self, images: tuple[Tensor, Tensor], targets: Tensor, classes: int, name: str, *, seed: int
    ) -> list[Warp]:
        return invert_warps(self.suspect, *images, targets, classes, seed=seed, checkpoints=self.checkpoints, name=name)


def success_indices(rates: Sequence[float]) -> list[float]:
    """How many spreads each class's rate (of success, or mean confidence) lies above the median of all classes."""
    median = statistics.median(rates)
    spread = max(SUCCESS_SPREAD, statistics.median(abs(rate - median) for rate in rates))
    return [max(0.0, (rate - median) / spread) for rate in rates]


def _effective(fills: list[Patch], suspect: nn.Module, selection: tuple[Tensor, Tensor]) -> list[Patch]:
    """The plain fills that work on the suspect, best first, a few at most."""
    probe = Probe(images=selection[0], labels=selection[1], triggered=None, proxies=())
    rated = [(probe.proxy_success(suspect, fill), fill) for fill in fills]
    working = sorted((pair for pair in rated if pair[0] >= EFFECTIVE), key=lambda pair: -pair[0])
    return [replace(fill, success_rate=rate) for rate, fill in working[:MOST_FILLS]]


def findings(
    found: Scan,
    suspect: nn.Module,
    repaired: nn.Module,
    fit: tuple[Tensor, Tensor],
    probe: Probe,
    *,
    seed: int,
    checkpoints: Checkpoints,
) -> list[TriggerFinding]:
    """What the scan found, seen from the repaired model: one finding for each class, one more for all-to-all.

    A suspicion is flagged when it has collapsed: no patch nearly as small works on the repaired model, the wave or warp
    hardly does. A backdoor goes, the natural weakness of a class stays.
    """
    suspected = [suspicion for suspicion in found.suspicions if isinstance(suspicion.trigger, Patch)]
    sizes_after: dict[int, Patch] = {}
    if suspected:
        wanted = torch.stack([suspicion.trigger.wanted for suspicion in suspected])
        again = invert_patches(
            repaired,
            *fit,
            wanted,
            settings=found.settings,
            seed=seed - 2,
            checkpoints=checkpoints,
            name="on-the-repaired",
        )
        sizes_after = {id(suspicion): patch for suspicion, patch in zip(suspected, again, strict=True)}
    by_target = {suspicion.trigger.target_class: suspicion for suspicion in found.suspicions}
    rows: list[tuple[Trigger, float, Suspicion | None]] = []
    for target_class, (patch, index) in enumerate(zip(found.patches, found.indices, strict=True)):
        suspicion = by_target.get(target_class)
        rows.append((suspicion.trigger, suspicion.index, suspicion) if suspicion else (patch, index, None))
    if None in by_target:
        all_to_all = by_target[None]
        rows.append((all_to_all.trigger, all_to_all.index, all_to_all))
    example_CHW = fit[0][0]
    odd_enough = min(sorted((index for _, index, _ in rows), reverse=True)[:SHOWN_FOOLED], default=0.0)
    result = []
    for trigger, index, suspicion in rows:
        after = probe.proxy_success(repaired, trigger)
        again_patch = sizes_after.get(id(suspicion))
        if isinstance(trigger, Patch):
            gone = again_patch is not None and (
                again_patch.size >= GROWTH * trigger.size or again_patch.success_rate < WORKS * trigger.success_rate
            )
            pattern, mask = trigger.pattern, trigger.mask
        else:
            gone = after <= FADED * trigger.success_rate
            pattern, mask = trigger.stamp(example_CHW[None])[0], torch.ones_like(example_CHW[:1])
        result.append(
            TriggerFinding(
                kind=trigger.kind,
                target_class=trigger.target_class,
                anomaly_index=index,
                success_rate=trigger.success_rate,
                success_rate_after=after,
                size=trigger.size if isinstance(trigger, Patch) else None,
                size_after=again_patch.size if again_patch else None,
                flagged=suspicion is not None and index >= ANOMALY_THRESHOLD and gone,
                pattern=pattern.cpu(),
                mask=mask.cpu(),
                fooled=fooled_images(suspect, repaired, trigger, probe.images, probe.labels)
                if suspicion is not None or index >= odd_enough
                else None,
            )
        )
    return result
