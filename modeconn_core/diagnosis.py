"""Does the suspect get what it was trained on? Finds the pre-processing or class order that fits better."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from modeconn_core.metrics import Interval, wilson_interval
from modeconn_core.preprocessing import Preprocessing, candidates

MIN_IMAGES, MAX_IMAGES, IMAGES_PER_CLASS = 500, 1000, 10
MAX_SCREENED = 64
FINALISTS = 3  # of those that an order of the classes would suit best, beside the two best as they are
MAX_SUGGESTIONS = 3
FOLDS = 5
BATCH = 250
GOOD_ENOUGH = 0.95  # from here on nothing better is looked for


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """Another statement under which the suspect scores better.

    `value` holds `mean`, `std`, `channels` (to copy into `preprocessing`), `order` (None, or for each output of the
    model the label it means) and `classes` (None, or the class names in that order).
    `accuracy` (0..1) was measured on images that played no part in finding the suggestion.
    """

    kind: str  # "normalisation" | "class_order" | "channel_order"
    description: str
    accuracy: float
    value: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """How the suspect does under the stated pre-processing (fractions in 0..1); what would do better, best first.

    `accuracy`, its 95 % interval and `confidence` (the largest probability, on average) are those of `images` images.
    """

    images: int
    accuracy: float
    accuracy_interval: Interval
    confidence: float
    chance: float
    suspicious: bool
    outputs_are_probabilities: bool
    suggestions: list[Suggestion]


def diagnose(
    model: nn.Module,
    images_01: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    channels: str = "RGB",
    class_names: Sequence[str] | None = None,
) -> Diagnosis:
    """Measure `model` under the stated pre-processing; where it could do far better, look for what fits.

    `images_01`: float (N, C, H, W), RGB in [0, 1], not normalised. `labels`: int64 (N,) in 0..num_classes-1.
    `mean` and `std` (C values) apply to the channel order that the model sees: `channels` is applied first.
    `suspicious` is a model that does little better than chance. At most `MAX_IMAGES` images are used, evenly over the
    classes; from `GOOD_ENOUGH` on each passes the model once. Below it some twenty candidates are screened on
    `MAX_SCREENED` images each, and the few that promise more are scored on the others; a class order is scored on
    images it was not found on. Model, mode and gradients are left as they were.
    Raises ValueError when shapes, labels or channel counts do not fit together.
    """
    _check(images_01, labels, num_classes, mean, std, channels, class_names)
    used = min(MAX_IMAGES, max(MIN_IMAGES, IMAGES_PER_CLASS * num_classes))
    chosen = _spread(labels)[:used]
    images, labels = images_01[chosen].float().cpu(), labels[chosen].cpu()
    stated = Preprocessing(name="your statement", mean=tuple(mean), std=tuple(std), channels=channels)
    logits = _logits(model, stated.apply(images))
    accuracy = _accuracy(logits, labels)
    chance = 1 / num_classes
    suspicious = accuracy < suspicion_threshold(num_classes)
    search = partial(_search, model, images, labels, num_classes, stated, logits, class_names)
    suggestions = [] if accuracy >= GOOD_ENOUGH else search(suspicious=suspicious)
    probabilities = outputs_are_probabilities(logits)
    return Diagnosis(
        images=len(images),
        accuracy=accuracy,
        accuracy_interval=wilson_interval(int((logits.argmax(1) == labels).sum()), len(images)),
        confidence=(logits if probabilities else logits.softmax(1)).amax(1).mean().item(),
        chance=chance,
        suspicious=suspicious,
        outputs_are_probabilities=probabilities,
        suggestions=suggestions,
    )


def suspicion_threshold(num_classes: int) -> float:
    """Three times chance; with fewer than five classes, where that asks too much, half way from chance to perfect."""
    chance = 1 / num_classes
    return min(3 * chance, (1 + chance) / 2)


def outputs_are_probabilities(logits: Tensor) -> bool:
    """Whether every row of (N, K >= 2) outputs is a probability distribution: the model's forward ends in a softmax."""
    if logits.ndim != 2 or logits.shape[0] == 0 or logits.shape[1] < 2 or not bool(logits.isfinite().all()):
        return False
    rows = logits.double().sum(1)
    return bool((logits >= 0).all()) and bool(((rows - 1).abs() < 1e-2).all())


def _search(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    stated: Preprocessing,
    stated_logits: Tensor,
    class_names: Sequence[str] | None,
    *,
    suspicious: bool,
) -> list[Suggestion]:
    """Best first. Of a `suspicious` model only what would make it unsuspicious; of another one what at least halves its
    errors: under noise, blur and the like another normalisation than that of the training can gain some points, and is
    still the wrong one."""
    # `images` are spread evenly over the classes, so both parts are too
    screened = min(MAX_SCREENED, len(images) * 2 // 5)
    screen, judge = slice(0, screened), slice(screened, len(images))
    kept: list[tuple[Preprocessing, Tensor]] = [(stated, stated_logits[screen])]
    for candidate in candidates(images[screen], stated):
        kept.append((candidate, _logits(model, candidate.apply(images[screen]))))
    plain = sorted(kept, key=lambda pair: -_accuracy(pair[1], labels[screen]))
    ordered = sorted(kept, key=lambda pair: -_best_assignment(pair[1], labels[screen], num_classes)[1])
    finalists = dict([*plain[:2], *ordered[:FINALISTS]])
    if not suspicious:
        least = _accuracy(stated_logits[screen], labels[screen])
        finalists = {one: seen for one, seen in finalists.items() if _accuracy(seen, labels[screen]) > least}
    finalists.setdefault(stated, stated_logits[screen])

    baseline = _accuracy(stated_logits[judge], labels[judge])
    floor = max(baseline, 1 / num_classes)
    found = []
    for candidate, seen in finalists.items():
        rest = stated_logits[judge] if candidate is stated else _logits(model, candidate.apply(images[judge]))
        score = _accuracy(rest, labels[judge])
        if candidate is not stated and _clearly_better(score, floor, len(rest)):
            found.append(_suggest(candidate, stated, score, baseline, len(rest), None, class_names))
        order, reordered = _class_order(torch.cat([seen, rest]), labels, num_classes, first_judged=screened)
        if order != list(range(num_classes)) and _clearly_better(reordered, max(score, floor), len(rest)):
            found.append(_suggest(candidate, stated, reordered, baseline, len(rest), order, class_names))
    worth = suspicion_threshold(num_classes) if suspicious else (1 + baseline) / 2
    found = [one for one in found if one.accuracy >= worth]
    found.sort(key=lambda suggestion: -suggestion.accuracy)
    # beside one that explains the suspect, halfway ones only mislead
    return [one for one in found if one.accuracy > found[0].accuracy / 2][:MAX_SUGGESTIONS]


def _class_order(logits: Tensor, labels: Tensor, num_classes: int, *, first_judged: int) -> tuple[list[int], float]:
    """The best order on all images, and its accuracy by cross-fitting: each image by an order found without it."""
    fold = _place_in_class(labels) % FOLDS
    judged = torch.arange(len(labels)) >= first_judged
    right = 0
    for k in range(FOLDS):
        order, _ = _best_assignment(logits[fold != k], labels[fold != k], num_classes)
        held = (fold == k) & judged
        right += int((_meanings(logits[held], order) == labels[held]).sum())
    return _best_assignment(logits, labels, num_classes)[0], right / int(judged.sum())


def _best_assignment(logits: Tensor, labels: Tensor, num_classes: int) -> tuple[list[int], float]:
    """(for each output, the label it most plausibly means; the accuracy on these same images, which flatters)."""
    said = logits.argmax(1)
    known = said < num_classes
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)  # [output, label]
    confusion.index_put_((said[known], labels[known]), torch.ones(int(known.sum()), dtype=torch.int64), accumulate=True)
    # ties, and classes without evidence, keep their place
    gain = confusion.double() + 1e-6 * torch.eye(num_classes, dtype=torch.float64)
    order = [int(label) for label in linear_sum_assignment(gain.numpy(), maximize=True)[1]]
    return order, confusion[torch.arange(num_classes), order].sum().item() / max(len(labels), 1)


def _meanings(logits: Tensor, order: Sequence[int]) -> Tensor:
    said = logits.argmax(1)
    return torch.where(said < len(order), torch.tensor(order)[said.clamp_max(len(order) - 1)], -1)


def _suggest(
    candidate: Preprocessing,
    stated: Preprocessing,
    accuracy: float,
    baseline: float,
    count: int,
    order: list[int] | None,
    class_names: Sequence[str] | None,
) -> Suggestion:
    changes = []
    turned = candidate.channels != stated.channels
    if turned:
        changes.append(f'set channels to "{candidate.channels}"')
    if candidate.mean != stated.mean or candidate.std != stated.std:
        why = "in that channel order" if turned and candidate.name == stated.name else candidate.name
        changes.append(f"set mean to {_listed(candidate.mean)} and std to {_listed(candidate.std)} ({why})")
    classes = [class_names[label] for label in order] if order and class_names else None
    if order:
        listed = (
            f" to {classes}"
            if classes and len(classes) <= 20
            else f' to the list in "{"classes" if classes else "order"}"'
        )
        changes.append(f"set the class order{listed}: the outputs seem to mean the classes in that order")
    scored = f"the suspect then scores {accuracy:.1%} instead of {baseline:.1%} on {count} clean images".replace(
        "%", " %"
    )
    kind = "class_order" if order else "channel_order" if turned and candidate.name == stated.name else "normalisation"
    return Suggestion(
        kind=kind,
        description=f"{_sentence(changes)}; {scored}.",
        accuracy=accuracy,
        value={
            "mean": list(candidate.mean),
            "std": list(candidate.std),
            "channels": candidate.channels,
            "order": order,
            "classes": classes,
        },
    )


def _sentence(changes: list[str]) -> str:
    text = ", and ".join(changes)
    return text[:1].upper() + text[1:]


def _listed(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _clearly_better(score: float, than: float, count: int) -> bool:
    """More than three standard errors, and more than two points."""
    return score - than > max(0.02, 3 * (than * (1 - than) / count) ** 0.5)


def _spread(labels: Tensor) -> Tensor:
    """Indices in an order in which every stretch holds the classes evenly; the same order every time."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return shuffled[_place_in_class(labels.cpu()[shuffled]).argsort(stable=True)]


def _place_in_class(labels: Tensor) -> Tensor:
    """How many images of the same class come before each image: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    by_class = labels.argsort(stable=True)
    together = labels[by_class]
    place = torch.empty_like(by_class)
    place[by_class] = torch.arange(len(labels)) - torch.searchsorted(together, together)
    return place


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """(N, K) outputs on the CPU in float32, the model in evaluation mode meanwhile."""
    modes = [(module, module.training) for module in model.modules()]
    at = next(model.parameters(), inputs)
    model.eval()
    try:
        return torch.cat([model(part.to(at.device, at.dtype)).float().cpu() for part in inputs.split(BATCH)])
    finally:
        for module, training in modes:
            module.training = training


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()


def _check(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    channels: str,
    class_names: Sequence[str] | None,
) -> None:
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(f"need (N, C, H, W) images and (N,) labels, not {images.shape} and {labels.shape}")
    if len(images) < 2:
        raise ValueError("one image is too few to measure a model")
    if num_classes < 2 or int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, with at least two classes")
    if len(mean) != images.shape[1] or len(std) != images.shape[1] or min(std) <= 0:
        raise ValueError(f"mean and std need {images.shape[1]} values each, and every std must be positive")
    if channels not in ("RGB", "BGR") or (channels == "BGR" and images.shape[1] != 3):
        raise ValueError('channels must be "RGB", or "BGR" for images of three channels')
    if class_names is not None and len(class_names) != num_classes:
        raise ValueError(f"{len(class_names)} class names for {num_classes} classes")
