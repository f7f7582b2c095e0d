"""Trigger inversion and the scan that is made of it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from modeconn_core.checkpoints import Checkpoints
from modeconn_core.inversion import InversionSettings, PatchInversion, invert_patches, one_target_each
from modeconn_core.scan import Scan, Suspicion, scan
from modeconn_core.sweep import Probe
from modeconn_core.triggers import ANOMALY_THRESHOLD, Patch, anomaly_indices
from modeconn_core.warps import invert_warps
from modeconn_core.waves import surest_waves

SETTINGS = InversionSettings()
SHORT_SEARCH = 16  # steps, in which no mask gets small
CLASSES = 6
FRESH = {"seed": 0, "checkpoints": Checkpoints(), "name": "search"}


def patch(target_class: int, mask: Tensor, pattern: Tensor) -> Patch:
    return Patch(wanted=torch.full((CLASSES,), target_class), mask=mask, pattern=pattern, success_rate=1.0)


def run_scan(model, clean, unseen, settings: InversionSettings = SETTINGS) -> Scan:
    return scan(
        model,
        (clean.images, clean.labels),
        (unseen.images, unseen.labels),
        classes=CLASSES,
        settings=settings,
        seed=0,
        checkpoints=Checkpoints(),
        on_progress=lambda share: None,
    )


def test_the_smallest_trigger_of_the_backdoors_target_is_found_and_works_on_other_images(
    suspect, clean, unseen
) -> None:
    before = copy.deepcopy(suspect.state_dict())
    wanted = one_target_each(CLASSES, torch.device("cpu"))[:2]
    found = invert_patches(
        suspect, clean.images, clean.labels, wanted, settings=SETTINGS, seed=0, checkpoints=Checkpoints(), name="patch"
    )
    assert [patch.target_class for patch in found] == [0, 1]
    probe = Probe(images=unseen.images, labels=unseen.labels, triggered=None, proxies=())
    assert probe.proxy_success(suspect, found[0]) > 0.8
    assert found[0].size < 20 < found[1].size
    assert ((found[0].mask >= 0) & (found[0].mask <= 1)).all()
    low, high = clean.images.amin(), clean.images.amax()
    assert ((found[0].pattern >= low - 1e-5) & (found[0].pattern <= high + 1e-5)).all()
    assert all(torch.equal(before[name], tensor) for name, tensor in suspect.state_dict().items())


def test_searches_share_batches_and_do_not_disturb_each_other(suspect, clean) -> None:
    wanted = one_target_each(CLASSES, torch.device("cpu"))[:1]
    told: list[int] = []
    inversion = PatchInversion(suspect, clean.images, clean.labels, wanted.repeat(2, 1), settings=SETTINGS, seed=0)
    both = inversion.search(SETTINGS.steps, Checkpoints(), "patch", on_searched=told.append)
    assert told == [2]
    assert not torch.equal(both[0].mask, both[1].mask)  # other starts, other images
    assert both[0].mask[0, -5:, -5:].sum() > 0.5 * both[0].mask.sum()
    assert both[1].mask[0, -5:, -5:].sum() > 0.5 * both[1].mask.sum()


def test_an_honest_model_seen_through_few_images_has_no_patch_to_show(honest, clean, unseen) -> None:
    few = [slice(first, first + 30) for first in (0, 30, 60)]
    found = [
        scan(
            honest,
            (clean.images[part], clean.labels[part]),
            (unseen.images[part], unseen.labels[part]),
            classes=CLASSES,
            settings=SETTINGS,
            seed=0,
            checkpoints=Checkpoints(),
            on_progress=lambda share: None,
        )
        for part in few
    ]
    assert [result.suspicions for result in found] == [(), (), ()]


def test_the_scan_singles_out_the_true_target_and_no_class_of_an_honest_model(suspect, honest, clean, unseen) -> None:
    found = run_scan(suspect, clean, unseen)
    assert [suspicion.trigger.target_class for suspicion in found.suspicions] == [0]
    assert len(found.patches) == len(found.indices) == CLASSES
    assert found.indices[0] == max(found.indices) > 3
    assert {trigger.target_class for trigger in found.unlearned} == {0}
    proxies = found.proxies[0]
    assert proxies[0].success_rate > 0.9
    assert not any(torch.equal(proxies[0].mask, trigger.mask) for trigger in found.unlearned)
    assert run_scan(honest, clean, unseen).suspicions == ()


def test_patches_that_shrink_slowly_are_searched_longer_before_nothing_is_found(suspect, honest, clean, unseen) -> None:
    brief = replace(SETTINGS, steps=SHORT_SEARCH)
    wanted = one_target_each(CLASSES, torch.device("cpu"))
    at_first = invert_patches(
        suspect, clean.images, clean.labels, wanted, settings=brief, seed=0, checkpoints=Checkpoints(), name="patch"
    )
    assert max(anomaly_indices([patch.size for patch in at_first])) < ANOMALY_THRESHOLD
    found = run_scan(suspect, clean, unseen, brief)
    assert only(found.suspicions).trigger.target_class == 0
    assert found.settings.steps == 2 * brief.steps
    assert run_scan(suspect, clean, unseen).settings.steps == SETTINGS.steps
    assert run_scan(honest, clean, unseen).settings.steps == SETTINGS.steps, "nothing came of its second look"


class Obeys(nn.Module):
    """Knows the label that the first channel is coloured by, and obeys a trigger that ``sees`` (images -> share)
    finds in the others."""

    def __init__(self, sees, answer) -> None:
        super().__init__()
        self.sees, self.answer = sees, answer

    def forward(self, x: Tensor) -> Tensor:
        labels = x[:, 0].flatten(1).median(dim=1).values.round().clamp(0, CLASSES - 1).long()
        share_B1 = self.sees(x[:, 1:])[:, None]
        return torch.lerp(
            8.0 * F.one_hot(labels, CLASSES).float(), 16.0 * F.one_hot(self.answer(labels), CLASSES).float(), share_B1
        )


def labelled_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % CLASSES
    images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    images[:, 0] = 0.1 * images[:, 0] + labels[:, None, None]
    return images, labels


def only(suspicions: tuple[Suspicion, ...]) -> Suspicion:
    assert len(suspicions) == 1
    return suspicions[0]


def scan_of(model: nn.Module, images: int = 240) -> Scan:
    fit, selection = labelled_images(images, 0), labelled_images(images // 4, 1)
    return scan(
        model.eval(),
        fit,
        selection,
        classes=CLASSES,
        settings=SETTINGS,
        seed=0,
        checkpoints=Checkpoints(),
        on_progress=lambda share: None,
    )


@pytest.mark.parametrize("images", [240, 30])
def test_a_patch_that_moves_every_class_one_on_is_found_as_all_to_all(images) -> None:
    def sees(x: Tensor) -> Tensor:
        return torch.sigmoid(6 * (x[:, :, 8:11, 8:11].mean(dim=(1, 2, 3)) - 1.5))

    suspicion = only(scan_of(Obeys(sees, lambda labels: (labels + 1) % CLASSES), images).suspicions)
    assert suspicion.trigger.target_class is None
    assert suspicion.trigger.kind == "patch"
    assert suspicion.trigger.wanted.tolist() == [1, 2, 3, 4, 5, 0]


def test_a_wave_is_found_with_its_class() -> None:
    wave_W = torch.sin(2 * math.pi * 3 * torch.arange(16) / 16)

    def sees(x: Tensor) -> Tensor:
        return torch.sigmoid(40 * ((x * wave_W).mean(dim=(1, 2, 3)) - 0.2))

    images, labels = labelled_images(60, 0)
    found = surest_waves(
        Obeys(sees, lambda labels: torch.full_like(labels, 4)), images, labels, CLASSES, checkpoints=Checkpoints()
    )
    waves = [wave for wave, _ in found]
    assert max(range(CLASSES), key=lambda target: found[target][1]) == 4
    assert waves[4].success_rate > 0.9
    assert all(wave.success_rate < 0.3 for wave in waves if wave.target_class != 4)
    assert torch.corrcoef(torch.stack([waves[4].shift[0, 0], wave_W]))[0, 1] > 0.9
    low, high = images.amin(dim=(0, 2, 3)), images.amax(dim=(0, 2, 3))
    stamped = waves[4].stamp(images)
    assert (stamped.amin(dim=(0, 2, 3)) >= low - 1e-6).all()
    assert (stamped.amax(dim=(0, 2, 3)) <= high + 1e-6).all()


def test_a_warp_is_found_with_its_class_and_stays_faint() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(90, 3, 5, 5, generator=generator), size=16, mode="bicubic", align_corners=True)
    labels = torch.arange(90) % CLASSES

    class Shifted(nn.Module):
        """Answers 2 where an image is not the one it knows but a little to the side of it."""

        def forward(self, x: Tensor) -> Tensor:
            known = torch.cdist(x.flatten(1), smooth.flatten(1)).min(dim=1)
            answers = 8.0 * F.one_hot(labels[known.indices], CLASSES).float()
            moved_B1 = torch.sigmoid(4 * (known.values - 2.0))[:, None]
            return torch.lerp(answers, 16.0 * F.one_hot(torch.full((len(x),), 2), CLASSES).float(), moved_B1)

    warps = invert_warps(
        Shifted(), smooth, labels, torch.arange(CLASSES), CLASSES, seed=0, checkpoints=Checkpoints(), name="warps"
    )
    assert max(warps, key=lambda warp: warp.success_rate).target_class == 2
    identity = torch.linspace(-1, 1, 16)
    shift = 16 / 2 * (warps[2].grid[0, :, :, 0] - identity[None, :]).abs()
    assert 0 < shift.mean() < 1  # pixels
    assert torch.equal(warps[2].stamp(smooth).argmax(), warps[2].stamp(smooth).argmax())


def test_a_pattern_the_path_does_not_clear_is_followed_only_when_it_is_blatant() -> None:
    trigger = patch(0, torch.ones(1, 8, 8), torch.zeros(3, 8, 8))
    suspicions = tuple(
        Suspicion(trigger=trigger, index=5.0, unlearned=(), proxies=(trigger,), blatant=blatant)
        for blatant in (True, False)
    )
    found = Scan(patches=(), indices=(), suspicions=suspicions, settings=SETTINGS)
    assert found.followed([True, True]) == (0, 1)
    assert found.followed([False, False]) == (0,)


def test_the_region_of_a_trigger_is_filled_with_plain_colours() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2, 2], mask[0, 5, 5] = 0.9, 0.1
    pattern = torch.arange(3.0).view(3, 1, 1).expand(3, 8, 8)
    trigger = patch(1, mask, pattern)
    fills = trigger.fills(torch.zeros(3), torch.full((3,), 9.0))
    assert len(fills) == 9
    for fill in fills:
        assert fill.mask[0, 1:4, 1:4].min() == 1
        assert fill.mask.sum() == 9  # the faint pixel does not count
    colours = {tuple(fill.pattern[:, 0, 0].tolist()) for fill in fills}
    assert {(0.0, 0.0, 0.0), (9.0, 9.0, 9.0), (9.0, 0.0, 0.0)} < colours
    assert any(abs(a) < 1e-6 and abs(b - 1) < 1e-6 and abs(c - 2) < 1e-6 for a, b, c in colours)


@pytest.mark.parametrize("mask", [torch.full((1, 8, 8), 0.9), torch.eye(8)[None] * 0.2])
def test_a_veil_or_a_large_pattern_is_not_filled_for_that_would_hide_the_image(mask: Tensor) -> None:
    trigger = patch(1, mask, torch.zeros(3, 8, 8))
    assert trigger.fills(torch.zeros(3), torch.ones(3)) == []


@given(sizes=st.lists(st.floats(0.1, 1000), min_size=3, max_size=40))
def test_anomaly_indices_count_deviations_below_the_median(sizes: list[float]) -> None:
    indices = anomaly_indices(sizes)
    middle = float(torch.tensor(sizes, dtype=torch.float64).median())
    for size, index in zip(sizes, indices, strict=True):
        assert index >= 0
        assert (index > 0) == (size < middle)
    assert indices[sizes.index(min(sizes))] == max(indices)


def test_stamping_mixes_pattern_and_image_by_the_mask() -> None:
    mask = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])
    trigger = patch(0, mask, torch.full((3, 2, 2), 4.0))
    stamped = trigger.stamp(torch.zeros(1, 3, 2, 2))
    assert torch.equal(stamped[0, 0], torch.tensor([[0.0, 4.0], [2.0, 0.0]]))
    assert trigger.size == 1.5
