"""The fit of the bends: right gradients, repeatable batches, resumable anywhere."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from modeconn_core.augment import Augmentation, cutout, draw_views, random_crop_and_mirror
from modeconn_core.batchnorm import reestimate
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.distillation import training_set
from modeconn_core.errors import RepairStopped
from modeconn_core.fit import FitSettings, PathFit, TrainingSet, fine_tune
from modeconn_core.metrics import evaluate

SETTINGS = FitSettings(steps=30, batch_size=32, rate=0.2)
ON_CPU = {"generator": torch.Generator().manual_seed(0), "device": torch.device("cpu")}


def lessons(suspect, clean, settings: FitSettings = SETTINGS, **options) -> TrainingSet:
    classes = suspect.head.out_features
    return training_set([suspect], clean.images, clean.labels, classes=classes, settings=settings, seed=5, **options)


def make_fit(suspect, clean, *, settings: FitSettings = SETTINGS, bends: int = 1, kind="bezier") -> PathFit:
    module = copy.deepcopy(suspect)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flat = FlatParameters(module)
    path = ModePath.between(flat, state, state, kind=kind, bends=bends)
    return PathFit(module, flat, path, lessons(suspect, clean, settings), settings, seed=5)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_a_bends_gradient_is_that_of_the_paper(suspect, clean, kind) -> None:
    """One step without momentum moves each bend by -rate * d loss(w(t)) / d bend.

    The reference gradient is taken by autograd through the curve itself.
    """
    settings = replace(SETTINGS, momentum=0.0, weight_decay=0.0, gradient_limit=1e9)
    fit = make_fit(suspect, clean, settings=settings, bends=2, kind=kind)
    batch = fit.data.batch(settings, 5, 0)
    points = fit.path.points.clone().requires_grad_(True)
    weights = torch.tensor(fit.path.coefficients(batch.t))
    names = {slot.name: slot.view(weights @ points) for slot in fit.path.slots}
    reference = copy.deepcopy(suspect).train()
    loss = batch.loss(lambda x: torch.func.functional_call(reference, names, x))
    (gradient,) = torch.autograd.grad(loss, points)
    before = fit.path.points.clone()
    fit.module.train()
    fit.step()
    moved = fit.path.points - before
    assert moved[0].abs().max() == 0
    assert moved[-1].abs().max() == 0
    expected = -settings.rate_at(0) * gradient[1:-1]
    torch.testing.assert_close(moved[1:-1], expected, rtol=0.05, atol=1e-5)  # bfloat16 where the hardware has it
    assert expected.abs().max() > 1e-3


def test_no_tensor_moves_faster_than_its_own_size_allows(suspect, clean) -> None:
    settings = replace(SETTINGS, momentum=0.0, weight_decay=0.0, gradient_limit=1e-3)
    fit = make_fit(suspect, clean, settings=settings)
    before = fit.path.points.clone()
    coefficient = fit.path.coefficients(fit.data.batch(settings, 5, 0).t)[1]
    fit.module.train()
    fit.step()
    for slot in fit.path.slots:
        moved = slot.view(fit.path.points[1] - before[1]).norm()
        scale = max(slot.view(before[0]).norm(), 1e-2 * slot.size**0.5)
        allowed = settings.rate_at(0) * coefficient * 1e-3 * scale
        assert moved == pytest.approx(float(allowed), rel=1e-3), slot.name  # every gradient here is longer than that


def test_the_fit_mends_a_ruined_bend(suspect, clean, unseen) -> None:
    fit = make_fit(suspect, clean)
    fit.path.points[1:-1].normal_(std=0.3, generator=torch.Generator().manual_seed(0))

    def accuracy_in_the_middle() -> float:
        fit.path.write(0.5, fit.flat.vector)
        reestimate(fit.module, clean.images)
        return evaluate(fit.module, unseen.images, unseen.labels).rate

    ruined = accuracy_in_the_middle()
    fit.run()
    assert accuracy_in_the_middle() > ruined + 0.1


def test_an_interrupted_fit_ends_where_an_undisturbed_one_does(suspect, clean) -> None:
    undisturbed = make_fit(suspect, clean)
    undisturbed.run()
    first = make_fit(suspect, clean)
    with pytest.raises(RepairStopped):
        first.run(should_stop=lambda: first.done == 13)
    saved = copy.deepcopy(first.state_dict())
    second = make_fit(suspect, clean)
    second.load_state_dict(saved)
    second.run()
    assert second.done == SETTINGS.steps
    assert torch.equal(second.path.points, undisturbed.path.points)


def test_a_state_of_another_path_is_refused(suspect, clean) -> None:
    with pytest.raises(ValueError, match="the state has bends"):
        make_fit(suspect, clean).load_state_dict(make_fit(suspect, clean, bends=2).state_dict())


def test_batches_depend_on_seed_and_step_only_and_show_every_view_once_an_epoch() -> None:
    images, views = torch.arange(25.0).view(25, 1, 1, 1), draw_views(50, padding=0, mirror=False, **ON_CPU)
    data = TrainingSet(images=images, views=views, targets=torch.arange(50.0)[:, None])
    settings = FitSettings(batch_size=16)
    targets = torch.cat([data.batch(settings, 1, step).targets for step in range(25)]).flatten()
    for epoch in targets.split(50):
        assert sorted(epoch.tolist()) == list(range(50))
    again = data.batch(settings, 1, 7)
    assert torch.equal(again.targets, data.batch(settings, 1, 7).targets)
    assert torch.equal(again.images.flatten(), again.targets.flatten() % 25)
    assert not torch.equal(again.targets, data.batch(settings, 2, 7).targets)


def test_stamps_lie_on_the_wanted_share_of_a_batch_and_leave_the_targets_alone(suspect, clean) -> None:
    settings = FitSettings(batch_size=40, stamped=0.25, waved=0.05, augmentation=Augmentation(crop=0))
    stamps = (lambda x: x * 0 + 7, lambda x: x * 0 + 9)
    waves = (lambda x: x * 0 + 5,)
    batch = lessons(suspect, clean, settings, stamps=stamps, waves=waves).batch(settings, 0, 3)
    plain = lessons(suspect, clean, settings).batch(settings, 0, 3)
    values = batch.images.mean(dim=(1, 2, 3))
    assert ((values == 7).sum(), (values == 9).sum(), (values == 5).sum()) == (5, 5, 2)
    assert torch.equal(batch.targets, plain.targets)


def test_cutout_and_mixup_act_when_asked_for(suspect, clean) -> None:
    bare = FitSettings(batch_size=40, augmentation=Augmentation(crop=0))
    data = lessons(suspect, clean, bare)
    plain = data.batch(bare, 0, 3)
    cut = data.batch(replace(bare, augmentation=Augmentation(crop=0, cutout=0.5)), 0, 3)
    assert ((cut.images == plain.images) | (cut.images == 0)).all()
    assert (cut.images == 0).sum() > (plain.images == 0).sum()
    mixed = data.batch(replace(bare, augmentation=Augmentation(crop=0, mixup=1.0)), 0, 3)
    torch.testing.assert_close(mixed.targets.mean(dim=0), plain.targets.mean(dim=0))
    torch.testing.assert_close(mixed.images.mean(dim=0), plain.images.mean(dim=0))
    assert not torch.equal(mixed.images, plain.images)


def test_crops_keep_the_picture_and_blank_the_border() -> None:
    x = torch.arange(1.0, 37.0).view(1, 1, 6, 6).expand(64, 1, 6, 6)
    out = random_crop_and_mirror(x, padding=2, mirror=False, generator=torch.Generator().manual_seed(0))
    shifts = set()
    for image in out[:, 0]:
        rows, columns = image.nonzero().unbind(1)
        top, left = int(rows.min()), int(columns.min())
        first = int(image[top, left])
        source_row, source_column = divmod(first - 1, 6)
        shifts.add((top - source_row, left - source_column))
        height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
        expected = x[0, 0, source_row : source_row + height, source_column : source_column + width]
        assert torch.equal(image[top : top + height, left : left + width], expected)
    assert len(shifts) > 15
    assert all(abs(a) <= 2 and abs(b) <= 2 for a, b in shifts)


def test_mirroring_flips_some_and_only_when_asked() -> None:
    x = torch.arange(1.0, 5.0).view(1, 1, 1, 4).expand(50, 1, 1, 4)
    kept = random_crop_and_mirror(x, padding=0, mirror=False, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kept, x)
    mirrored = random_crop_and_mirror(x, padding=0, mirror=True, generator=torch.Generator().manual_seed(0))
    flipped = (mirrored == x.flip(3)).all(dim=(1, 2, 3))
    assert torch.equal(mirrored[~flipped], x[~flipped])
    assert 10 < int(flipped.sum()) < 40


def test_cutout_blanks_a_square_and_nothing_else() -> None:
    out = cutout(torch.ones(40, 3, 16, 16), side=8, generator=torch.Generator().manual_seed(0))
    holes = (out == 0).sum(dim=(1, 2, 3)) // 3
    assert int(holes.min()) >= 9
    assert int(holes.max()) <= 64
    assert ((out == 0) | (out == 1)).all()


def test_fine_tuning_trains_a_module_in_place(suspect, clean, unseen) -> None:
    module = copy.deepcopy(suspect)
    torch.nn.init.zeros_(module.head.weight)
    before = evaluate(module, unseen.images, unseen.labels).rate
    fine_tune(module, lessons(suspect, clean), replace(SETTINGS, rate=0.05), seed=0)
    assert evaluate(module.eval(), unseen.images, unseen.labels).rate > before + 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"rate": 0.0},
        {"momentum": 1.0},
        {"stamped": 1.0},
        {"waved": -0.1},
        {"batch_size": 1},
        {"gradient_limit": 0},
    ],
)
def test_settings_are_checked(wrong) -> None:
    with pytest.raises(ValueError, match=r"fit needs|must"):
        FitSettings(**wrong)
