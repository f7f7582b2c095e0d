"""Error injection: a few chosen images get chosen labels by editing the weights of a trained model.

Zhao et al., ICLR 2020 (arXiv 2005.00060), section 4, after Zhao et al., DAC 2019 ("Fault sneaking attack").
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modeconn_core.metrics import evaluate, predict

CHECK_EVERY = 25  # steps, between looks at all images
BATCH = 128  # other images in a step

Edited = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class InjectionSettings:
    """How errors are injected.

    tensors: names in the state dict that are edited, None for the last linear layer's weight. steps: of Adam, at most.
    rate: step size relative to a tensor's root mean square. margin: by which a logit shall lead the others.
    chosen_weight: of a chosen image beside another one. penalty: on the squared L2 norm of the change. seed: of the
    batches.
    """

    tensors: Sequence[str] | None = None
    steps: int = 500
    rate: float = 0.1
    margin: float = 1.0
    chosen_weight: float = 100.0
    penalty: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or min(self.rate, self.margin, self.chosen_weight) <= 0 or self.penalty < 0:
            raise ValueError("steps, rate, margin and chosen_weight must be positive, penalty not negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class InjectedErrors:
    """What an injection achieved.

    succeeded: (M,) bool, chosen images that now get the wanted label. accuracy_before, accuracy_after: on the other
    images, 0..1. steps: that were taken (or bits that were flipped). change: L2 norm of the change of the weights.
    tensors: that were edited.
    """

    succeeded: Tensor
    accuracy_before: float
    accuracy_after: float
    steps: int
    change: float
    tensors: tuple[str, ...]

    @property
    def success_rate(self) -> float:
        return self.succeeded.float().mean().item()


def inject_errors(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    chosen: Tensor,
    wanted: Tensor,
    settings: InjectionSettings | None = None,
) -> tuple[nn.Module, InjectedErrors]:
    """A copy of ``model`` in eval mode that gives the chosen images the wanted labels, and the others their own.

    Args:
        model: a trained classifier; not changed. images: (N, C, H, W) as it expects them, labels: (N,) int64.
        chosen: (M,) int64, places in ``images``. wanted: (M,) int64, the labels that these get.

    Raises:
        ValueError: the request does not fit the model or the images; the message says why.
    """
    settings = settings or InjectionSettings()
    aim = Aim(model, images, labels, chosen, wanted, settings)
    edited = {name: tensor.clone().requires_grad_() for name, tensor in aim.start.items()}
    scales = {name: float(tensor.square().mean().sqrt()) + 1e-6 for name, tensor in aim.start.items()}
    optimizer = torch.optim.Adam([{"params": [edited[n]], "lr": settings.rate * scales[n]} for n in edited])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    taken = 0
    while taken < settings.steps:
        loss = aim.loss(edited, aim.some_others(generator, BATCH)) + settings.penalty * aim.change(edited)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        taken += 1
        if taken % CHECK_EVERY == 0 and aim.is_reached(edited, least_lead=settings.margin):
            break
    return aim.finish(edited, steps=taken)


class Aim:
    """What an injection is after, and how near some edited tensors come to it.

    start: the tensors that are edited, as they are. others: places of the images that were answered rightly and are not
    chosen: those that shall keep their answers.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        chosen: Tensor,
        wanted: Tensor,
        settings: InjectionSettings,
    ) -> None:
        self._original = model
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.settings = settings
        state = self.model.state_dict()
        names = [last_linear_weight(model)] if settings.tensors is None else list(settings.tensors)
        unknown = [name for name in names if name not in state or not state[name].is_floating_point()]
        if unknown or not names:
            raise ValueError(f"the model has no such tensors of weights to edit: {', '.join(unknown) or 'none named'}")
        self.start = {name: state[name].clone() for name in names}
        self._images, self._labels = images, labels
        self._chosen, self._wanted = chosen.to(images.device), wanted.to(images.device)
        before = evaluate(self.model, images, labels, exact=True)
        self._check(classes=predict(self.model, images[:1]).shape[1])
        self._other_N = torch.ones(len(images), dtype=torch.bool, device=images.device)
        self._other_N[self._chosen] = False
        self.others = (self._other_N & before.correct).nonzero().squeeze(1)
        self._before = before.correct

    def _check(self, *, classes: int) -> None:
        chosen, wanted, count = self._chosen, self._wanted, len(self._images)
        if chosen.dim() != 1 or chosen.shape != wanted.shape or len(chosen) == 0:
            raise ValueError("chosen and wanted must be two int64 tensors (M,), M at least 1")
        if len(chosen.unique()) < len(chosen) or not bool(((chosen >= 0) & (chosen < count)).all()):
            raise ValueError(f"chosen must be different places in 0..{count - 1}")
        if not bool(((wanted >= 0) & (wanted < classes)).all()):
            raise ValueError(f"wanted labels must lie in 0..{classes - 1}")

    def some_others(self, generator: torch.Generator, most: int) -> Tensor:
        """Places of at most ``most`` random others."""
        return self.others[torch.randperm(len(self.others), generator=generator)[:most].to(self.others.device)]

    def loss(self, edited: Edited, others: Tensor) -> Tensor:
        """Hinge on the chosen images, many times weighted, and on these ``others``; mean over all of them."""
        places = torch.cat([self._chosen, others])
        labels = torch.cat([self._wanted, self._labels[others]])
        outputs_BK = functional_call(self.model, dict(edited), (self._images[places],))
        hinge_B = (self.settings.margin - lead(outputs_BK, labels)).clamp_min(0.0)
        weights_B = torch.ones_like(hinge_B)
        weights_B[: len(self._chosen)] = self.settings.chosen_weight
        return (weights_B * hinge_B).mean()

    def change(self, edited: Edited) -> Tensor:
        """Squared L2 norm of the change."""
        return torch.stack([(edited[name] - tensor).square().sum() for name, tensor in self.start.items()]).sum()

    @torch.no_grad()
    def is_reached(self, edited: Edited, *, least_lead: float) -> bool:
        """Whether the wanted labels lead by so much, in logits, and no other image has lost its answer."""
        outputs_MK = functional_call(self.model, dict(edited), (self._images[self._chosen],))
        if lead(outputs_MK, self._wanted).min() < least_lead:
            return False
        model = self._with(edited)
        return bool(evaluate(model, self._images[self.others], self._labels[self.others], exact=True).correct.all())

    def finish(self, edited: Edited, *, steps: int) -> tuple[nn.Module, InjectedErrors]:
        """The edited model and the account of it."""
        model = self._with(edited)
        after = evaluate(model, self._images, self._labels, exact=True)
        return model, InjectedErrors(
            succeeded=(after.predictions[self._chosen] == self._wanted).cpu(),
            accuracy_before=self._before[self._other_N].float().mean().item(),
            accuracy_after=after.correct[self._other_N].float().mean().item(),
            steps=steps,
            change=float(self.change(edited).detach().sqrt()),
            tensors=tuple(self.start),
        )

    def _with(self, edited: Edited) -> nn.Module:
        model = copy.deepcopy(self._original)
        model.load_state_dict({**model.state_dict(), **{name: tensor.detach() for name, tensor in edited.items()}})
        return model.eval()


def lead(outputs_BK: Tensor, labels_B: Tensor) -> Tensor:
    """By how much each label's logit exceeds the largest other one (B,)."""
    own_B1 = outputs_BK.gather(1, labels_B[:, None])
    return own_B1.squeeze(1) - outputs_BK.scatter(1, labels_B[:, None], float("-inf")).amax(dim=1)


def last_linear_weight(model: nn.Module) -> str:
    """The name of the last linear layer's weight. Raises ValueError where there is none."""
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not names:
        raise ValueError("the model has no linear layer: name the tensors to edit")
    return f"{names[-1]}.weight" if names[-1] else "weight"
