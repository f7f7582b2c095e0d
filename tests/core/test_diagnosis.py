"""The diagnosis: does the suspect get what it was trained on, and what would fit better?"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modeconn_core.diagnosis import MAX_IMAGES, diagnose, outputs_are_probabilities, suspicion_threshold

CLASSES = 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
RIGHT = {"mean": MEAN, "std": STD}


class NearestTemplate(nn.Module):
    """A classifier that is exact under one pre-processing only: the nearest of K templates, in normalised space."""

    def __init__(self, templates_01: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        templates = normalise(templates_01, mean, std).flatten(1)
        self.norm = nn.BatchNorm2d(templates_01.shape[1], affine=False)
        self.linear = nn.Linear(templates.shape[1], len(templates))
        with torch.no_grad():
            self.linear.weight.copy_(templates)
            self.linear.bias.copy_(-templates.square().sum(1) / 2)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.linear(self.norm(x).flatten(1))


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (images - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def problem(
    *, classes: int = CLASSES, channels: int = 3, per_class: int = 40, noise: float = 0.2, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """(templates, images, labels): every image is a noisy template; of three channels, green says nothing."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.linspace(0.25, 1, classes).view(-1, 1, 1, 1)
    templates = torch.rand(classes, channels, 8, 8, generator=generator) * brightness
    if channels == 3:
        templates[:, 0] *= brightness[:, 0].flip(0)
        templates[:, 1] = 0.5
    labels = torch.arange(classes).repeat_interleave(per_class)
    images = templates[labels] + noise * torch.randn(len(labels), channels, 8, 8, generator=generator)
    return templates, images.clamp(0, 1), labels


def accuracy_under(model: nn.Module, images: Tensor, labels: Tensor, value: dict[str, Any]) -> float:
    """What a user gets who copies the suggestion's `value`."""
    seen = images.flip(1) if value["channels"] == "BGR" else images
    said = model.eval()(normalise(seen, value["mean"], value["std"])).argmax(1)
    meant = torch.tensor(value["order"])[said] if value["order"] else said
    return (meant == labels).float().mean().item()


def test_the_right_statement_is_not_suspicious():
    templates, images, labels = problem()
    found = diagnose(NearestTemplate(templates, MEAN, STD), images, labels, CLASSES, **RIGHT)
    assert found.images == len(images)
    assert found.accuracy_interval[0] < found.accuracy <= found.accuracy_interval[1] + 1e-9
    assert 1 / CLASSES < found.confidence <= 1
    assert found.accuracy > 0.9
    assert found.chance == pytest.approx(0.1)
    assert not found.suspicious
    assert found.suggestions == []


def test_a_missing_normalisation_is_named_and_holds_on_new_images():
    templates, images, labels = problem()
    model = NearestTemplate(templates, MEAN, STD)
    found = diagnose(model, images, labels, CLASSES, **NONE)
    assert found.suspicious
    best = found.suggestions[0]
    assert best.kind == "normalisation"
    _, fresh, fresh_labels = problem(seed=0, per_class=60)
    assert accuracy_under(model, fresh, fresh_labels, best.value) > 0.85
    assert f"{best.accuracy:.1%}".replace("%", " %") in best.description
    assert " instead of " in best.description


def test_suggestions_come_best_first_and_beat_the_statement():
    templates, images, labels = problem()
    found = diagnose(NearestTemplate(templates, MEAN, STD), images, labels, CLASSES, **NONE)
    scores = [one.accuracy for one in found.suggestions]
    assert scores == sorted(scores, reverse=True)
    assert all(score > found.accuracy for score in scores)


def test_values_given_on_the_0_to_255_scale_are_recognised():
    templates, images, labels = problem()
    stated = {"mean": tuple(255 * m for m in MEAN), "std": tuple(255 * s for s in STD)}
    found = diagnose(NearestTemplate(templates, MEAN, STD), images, labels, CLASSES, **stated)
    assert any("divided by 255" in one.description for one in found.suggestions)


@pytest.mark.parametrize(("trained_on", "stated"), [("BGR", "RGB"), ("RGB", "BGR")])
def test_the_other_channel_order_is_found(trained_on: str, stated: str):
    templates, images, labels = problem()
    seen = templates.flip(1) if trained_on == "BGR" else templates
    found = diagnose(NearestTemplate(seen, MEAN, STD), images, labels, CLASSES, channels=stated, **RIGHT)
    best = found.suggestions[0]
    assert best.kind == "channel_order"
    assert best.value["channels"] == trained_on
    assert best.accuracy > 0.9


def test_another_class_order_is_found_and_named():
    templates, images, labels = problem()
    shuffle = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(3))
    names = [f"class-{index}" for index in range(CLASSES)]
    model = NearestTemplate(templates, MEAN, STD)
    found = diagnose(model, images, shuffle[labels], CLASSES, class_names=names, **RIGHT)
    best = found.suggestions[0]
    assert best.kind == "class_order"
    assert best.value["order"] == shuffle.tolist()
    assert best.value["classes"] == [names[label] for label in shuffle]
    assert accuracy_under(model, images, shuffle[labels], best.value) > 0.9
    assert str(best.value["classes"]) in best.description


def test_wrong_normalisation_and_wrong_class_order_together():
    templates, images, labels = problem()
    shuffle = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(4))
    model = NearestTemplate(templates, MEAN, STD)
    found = diagnose(model, images, shuffle[labels], CLASSES, **NONE)
    assert accuracy_under(model, images, shuffle[labels], found.suggestions[0].value) > 0.85


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_guesses_gets_no_suggestion(seed: int):
    """An order fitted to 100 guesses over 20 classes looks far better than chance on those same guesses."""
    templates, images, labels = problem(classes=20, per_class=5, seed=seed)
    guessed = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    found = diagnose(NearestTemplate(templates, MEAN, STD), images, guessed, 20, **RIGHT)
    assert found.suspicious
    assert found.suggestions == []


@pytest.mark.parametrize("seed", range(8))
def test_a_middling_model_that_is_fed_right_gets_no_suggestion(seed: int):
    templates, images, labels = problem(noise=0.7, per_class=60, seed=seed)
    found = diagnose(NearestTemplate(templates, MEAN, STD), images, labels, CLASSES, **RIGHT)
    assert 0.5 < found.accuracy < 0.9
    assert found.suggestions == []


def test_what_suits_a_model_better_is_named_also_where_it_does_not_badly():
    templates, images, labels = problem()
    shuffle = torch.arange(CLASSES)
    shuffle[[2, 5]] = torch.tensor([5, 2])  # two classes are taken for each other
    found = diagnose(NearestTemplate(templates, MEAN, STD), images, shuffle[labels], CLASSES, **RIGHT)
    assert found.accuracy == pytest.approx(0.8, abs=0.1)
    assert not found.suspicious
    assert found.suggestions[0].value["order"] == shuffle.tolist()
    half_way = {"mean": tuple(value / 2 for value in MEAN), "std": STD}
    found = diagnose(NearestTemplate(templates, MEAN, STD), images, labels, CLASSES, **half_way)
    assert not found.suspicious
    assert found.suggestions[0].accuracy > found.accuracy


def test_what_would_still_be_suspicious_is_not_suggested():
    templates, images, labels = problem(noise=3.0, per_class=100)
    shuffle = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(3))
    model = NearestTemplate(templates, MEAN, STD)
    in_order = diagnose(model, images, labels, CLASSES, **RIGHT).accuracy
    assert 0.15 < in_order < suspicion_threshold(CLASSES)
    assert diagnose(model, images, shuffle[labels], CLASSES, **RIGHT).suggestions == []


def test_grey_images_are_diagnosed_too():
    templates, images, labels = problem(channels=1, noise=0.2)
    model = NearestTemplate(templates, (0.1307,), (0.3081,))
    found = diagnose(model, images, labels, CLASSES, mean=(255 * 0.1307,), std=(255 * 0.3081,))
    assert found.suspicious
    assert accuracy_under(model, images, labels, found.suggestions[0].value) > 0.9


def test_the_model_comes_back_as_it_was():
    templates, images, labels = problem()
    model = NearestTemplate(templates, MEAN, STD).train()
    model.linear.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    diagnose(model, images, labels, CLASSES, **NONE)
    assert model.training
    assert not model.linear.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_cost_is_bounded_whatever_the_size_of_the_clean_set():
    templates, images, labels = problem(per_class=600)
    model = NearestTemplate(templates, MEAN, STD)
    diagnose(model, images, labels, CLASSES, **RIGHT)
    assert model.seen <= MAX_IMAGES
    model.seen = 0
    diagnose(model, images, labels, CLASSES, **NONE)
    assert model.seen <= 5 * MAX_IMAGES


def test_the_images_used_cover_all_classes_even_when_sorted_by_class():
    templates, images, labels = problem(per_class=600)
    model = NearestTemplate(templates, MEAN, STD)
    with torch.no_grad():
        model.linear.bias[5:] = -1e9  # half of the classes are never answered
    assert diagnose(model, images, labels, CLASSES, **RIGHT).accuracy == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: x.softmax(1), True),
        (lambda x: x.softmax(1).bfloat16(), True),
        (lambda x: x, False),
        (lambda x: x.log_softmax(1), False),
        (lambda x: x.sigmoid(), False),
        (lambda x: x.softmax(1) * float("nan"), False),
        (lambda x: x[:0].softmax(1), False),
    ],
    ids=["softmax", "softmax in bfloat16", "logits", "log-softmax", "sigmoid", "nan", "no rows"],
)
def test_outputs_are_probabilities(make: Any, expected: bool):
    assert outputs_are_probabilities(make(torch.randn(50, 7, generator=torch.Generator().manual_seed(0)))) is expected


def test_a_softmax_inside_forward_is_reported():
    templates, images, labels = problem()
    model = NearestTemplate(templates, MEAN, STD)
    assert not diagnose(model, images, labels, CLASSES, **RIGHT).outputs_are_probabilities
    soft = nn.Sequential(model, nn.Softmax(1))
    assert diagnose(soft, images, labels, CLASSES, **RIGHT).outputs_are_probabilities


def test_few_classes_are_not_asked_for_the_impossible():
    assert suspicion_threshold(100) == pytest.approx(0.03)
    assert suspicion_threshold(10) == pytest.approx(0.3)
    assert all(suspicion_threshold(classes) < 0.8 for classes in (2, 3, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5,)}, "3 values"),
        ({"std": (0.2, 0.0, 0.2)}, "positive"),
        ({"channels": "RBG"}, "channels"),
        ({"num_classes": 9}, "0..8"),
        ({"class_names": ["a"]}, "1 class names for 10"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels"),
        ({"images_01": torch.zeros(1, 3, 8, 8), "labels": torch.zeros(1, dtype=torch.int64)}, "too few"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], message: str):
    templates, images, labels = problem(per_class=2)
    given: dict[str, Any] = {"images_01": images, "labels": labels, "num_classes": CLASSES, **RIGHT} | change
    with pytest.raises(ValueError, match=message):
        diagnose(NearestTemplate(templates, MEAN, STD), **given)
