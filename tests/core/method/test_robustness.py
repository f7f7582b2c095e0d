"""PGD: stays where it may, and finds what noise does not."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core import ImageBox, PgdSettings
from modeconn_core.robustness import pgd

BOX = ImageBox(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # the tests' images lie in [-1, 1]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def shift(attacked: Tensor, images: Tensor) -> Tensor:
    return BOX.to_unit(attacked) - BOX.to_unit(images)


def test_stays_in_the_ball_and_in_the_box(honest, unseen) -> None:
    settings = PgdSettings(epsilon=0.1, step_size=0.05)
    attacked = pgd(honest, unseen.images, unseen.labels, settings, BOX, generator())
    moved = shift(attacked, unseen.images).abs().amax(dim=(1, 2, 3))
    assert moved.max() <= 0.1 + 1e-6
    assert moved.min() > 0.09, "every image should use its ball"
    assert attacked.min() >= -1 - 1e-6
    assert attacked.max() <= 1 + 1e-6


def test_an_l2_ball_is_one_of_the_euclidean_norm(honest, unseen) -> None:
    settings = PgdSettings(epsilon=0.8, step_size=0.3, norm="l2")
    attacked = pgd(honest, unseen.images, unseen.labels, settings, BOX, generator())
    norms = shift(attacked, unseen.images).flatten(1).norm(dim=1)
    assert norms.max() <= 0.8 + 1e-5
    assert norms.median() > 0.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_raises_the_loss_far_above_what_noise_does(honest, unseen, norm: str) -> None:
    settings = PgdSettings(
        epsilon=0.03 if norm == "linf" else 0.8, step_size=0.01 if norm == "linf" else 0.2, norm=norm
    )
    noise_only = PgdSettings(epsilon=settings.epsilon, step_size=1e-9, steps=1, norm=norm)

    def loss(attack: PgdSettings) -> float:
        attacked = pgd(honest, unseen.images, unseen.labels, attack, BOX, generator())
        return F.cross_entropy(honest(attacked), unseen.labels).item()

    calm = F.cross_entropy(honest(unseen.images), unseen.labels).item()
    assert loss(settings) - calm > 3 * abs(loss(noise_only) - calm)
    assert loss(settings) > calm + 0.1


def test_more_steps_never_find_much_less(honest, unseen) -> None:
    def loss(steps: int) -> float:
        settings = PgdSettings(epsilon=0.05, step_size=0.02, steps=steps)
        attacked = pgd(honest, unseen.images, unseen.labels, settings, BOX, generator())
        return F.cross_entropy(honest(attacked), unseen.labels).item()

    assert loss(1) < loss(10)


def test_no_radius_is_no_attack(honest, unseen) -> None:
    attacked = pgd(honest, unseen.images, unseen.labels, PgdSettings(epsilon=0), BOX, generator())
    assert torch.equal(attacked, unseen.images)


def test_the_same_draws_give_the_same_images(honest, unseen) -> None:
    some, labels = unseen.images[:20], unseen.labels[:20]
    first, again = (pgd(honest, some, labels, PgdSettings(), BOX, generator()) for _ in range(2))
    other = pgd(honest, some, labels, PgdSettings(), BOX, torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_random_start_nothing_is_drawn(honest, unseen) -> None:
    settings = PgdSettings(random_start=False)
    some, labels = unseen.images[:20], unseen.labels[:20]
    first = pgd(honest, some, labels, settings, BOX, generator())
    assert torch.equal(first, pgd(honest, some, labels, settings, BOX, torch.Generator().manual_seed(1)))


def test_the_step_is_in_units_of_the_image_whatever_the_normalisation() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    unit = torch.full((1, 3, 2, 2), 0.5)
    box = ImageBox(mean=(0.2, 0.5, 0.1), std=(0.1, 0.5, 2.0))
    settings = PgdSettings(epsilon=1.0, steps=1, step_size=0.01, random_start=False)
    attacked = pgd(linear.eval(), box.to_model(unit), torch.tensor([0]), settings, box, generator())
    moved = (box.to_unit(attacked) - unit).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), rtol=1e-3, atol=1e-6)


def test_the_module_is_left_as_it_is(honest, unseen) -> None:
    before = {name: tensor.clone() for name, tensor in honest.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in honest.parameters()]
    gradients = [parameter.grad for parameter in honest.parameters()]
    pgd(honest, unseen.images, unseen.labels, PgdSettings(), BOX, generator())
    assert all(torch.equal(tensor, before[name]) for name, tensor in honest.state_dict().items())
    assert [parameter.requires_grad for parameter in honest.parameters()] == wanted
    assert all(parameter.grad is gradient for parameter, gradient in zip(honest.parameters(), gradients, strict=True))


def test_images_from_outside_the_box_are_refused(honest, unseen) -> None:
    with pytest.raises(ValueError, match="reach from"):
        pgd(honest, unseen.images * 2, unseen.labels, PgdSettings(), BOX, generator())
    with pytest.raises(ValueError, match="channels"):
        pgd(honest, unseen.images, unseen.labels, PgdSettings(), ImageBox(mean=(0.5,), std=(0.5,)), generator())


@pytest.mark.parametrize(
    "wrong", [{"epsilon": -0.1}, {"steps": 0}, {"step_size": 0.0}, {"norm": "l1"}], ids=lambda wrong: next(iter(wrong))
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)) if "steps" not in wrong else "step"):
        PgdSettings(**wrong)


def test_a_start_in_an_l2_ball_is_spread_over_its_volume() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    nn.init.zeros_(flat[1].weight)
    unit = torch.full((4000, 1, 2, 2), 0.5)
    box = ImageBox(mean=(0.0,), std=(1.0,))
    settings = PgdSettings(epsilon=0.4, steps=1, step_size=1e-9, norm="l2")
    started = pgd(flat, unit, torch.zeros(4000, dtype=torch.int64), settings, box, generator())
    radii = (started - unit).flatten(1).norm(dim=1)
    inner = (radii <= 0.4 / math.sqrt(math.sqrt(2))).float().mean().item()  # half of a four-dimensional ball
    assert inner == pytest.approx(0.5, abs=0.03)
