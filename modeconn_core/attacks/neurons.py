"""Triggers that are optimised to excite chosen neurons of a clean surrogate, then poisoned into the training set.

Trojan patch: Liu et al., NDSS 2018, section 4.2. Invisible triggers under an L2 or L0 bound: Li et al., IEEE TDSC 2020
(arXiv 1909.02742), section 4.2.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from modeconn_core.attacks.base import DataPoisoning, Poisoned

NEURONS = 2  # that are excited: those with the largest weights towards the target class
AMPLIFIED = 10.0  # times the largest activation seen on clean images (Li et al., section 4.2)


class NeuronTrigger(DataPoisoning):
    """A trigger (C, H, W) that excites neurons of the surrogate's last hidden layer on any image.

    target_class: the wanted label. steps, rate: of Adam on the trigger, in [0, 1] units. poison_rate: share of the
    training images that get it.
    """

    target_class: int
    needs_surrogate = True

    def __init__(
        self,
        *,
        target_class: int = 0,
        size: tuple[int, int, int] = (3, 32, 32),
        poison_rate: float = 0.05,
        steps: int = 200,
        rate: float = 0.05,
    ) -> None:
        super().__init__()
        self.target_class, self.poison_rate = target_class, poison_rate
        self.steps, self.rate = steps, rate
        self.trigger_CHW: Tensor
        self.register_buffer("trigger_CHW", torch.zeros(size))

    @abstractmethod
    def within_bounds(self, trigger_CHW: Tensor) -> Tensor:
        """The closest trigger that the attack allows."""

    @abstractmethod
    def put(self, x_NCHW: Tensor, trigger_CHW: Tensor) -> Tensor:
        """The images with this trigger, in [0, 1]."""

    @abstractmethod
    def start(self, generator: torch.Generator) -> Tensor:
        """Where the search begins (C, H, W)."""

    def stamp(self, x_NCHW: Tensor) -> Tensor:
        return self.put(x_NCHW, self.trigger_CHW.to(x_NCHW))

    def poison(self, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> Poisoned:
        return self.relabel_some(images_NCHW, labels_N, rate=self.poison_rate, classes=0, seed=seed)

    def prepare(self, surrogate: nn.Module | None, images_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> None:
        """Search the trigger: raise the chosen neurons to AMPLIFIED times what clean images give them."""
        if surrogate is None:
            raise ValueError(f"the {self.name} attack needs a clean surrogate model")
        last = [layer for layer in surrogate.modules() if isinstance(layer, nn.Linear)][-1]
        neurons = last.weight[self.target_class].detach().topk(NEURONS).indices
        hidden: list[Tensor] = []
        hook = last.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
        try:
            generator = torch.Generator().manual_seed(seed)
            sample = images_NCHW[torch.randperm(len(images_NCHW), generator=generator)[:1000]]
            with torch.no_grad():
                surrogate(sample)
            wanted = AMPLIFIED * hidden.pop()[:, neurons].amax(dim=0)
            trigger = self.within_bounds(self.start(generator)).requires_grad_(True)
            optimizer = torch.optim.Adam([trigger], lr=self.rate)
            for step in range(self.steps):
                batch = sample[(step * 50) % 1000 : (step * 50) % 1000 + 50]
                surrogate(self.put(batch, trigger))
                loss = (hidden.pop()[:, neurons] - wanted).square().mean()
                (trigger.grad,) = torch.autograd.grad(loss, trigger)
                optimizer.step()
                with torch.no_grad():
                    trigger.copy_(self.within_bounds(trigger))
        finally:
            hook.remove()
        self.trigger_CHW.copy_(trigger.detach())


class TrojanPatch(NeuronTrigger):
    """An opaque square of 7 % of the image (the paper's middle size) one pixel from the lower right corner."""

    name = "trojan"

    def __init__(self, *, share: float = 0.07, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        side = round((share * self.trigger_CHW[0].numel()) ** 0.5)
        self.mask_HW = torch.zeros(self.trigger_CHW.shape[1:])
        self.mask_HW[-1 - side : -1, -1 - side : -1] = 1.0

    def start(self, generator: torch.Generator) -> Tensor:
        return torch.rand(self.trigger_CHW.shape, generator=generator)

    def within_bounds(self, trigger_CHW: Tensor) -> Tensor:
        return trigger_CHW.clamp(0, 1) * self.mask_HW

    def put(self, x_NCHW: Tensor, trigger_CHW: Tensor) -> Tensor:
        return torch.lerp(x_NCHW, trigger_CHW.expand_as(x_NCHW), self.mask_HW.to(x_NCHW))


class Invisible(NeuronTrigger):
    """A faint additive trigger: of L2 norm 2 over the image in [0, 1] units, or on 10 pixels only (L0)."""

    def __init__(self, *, norm: str = "l2", radius: float = 2.0, pixels: int = 10, **options: object) -> None:
        if norm not in ("l2", "l0"):
            raise ValueError(f"norm must be 'l2' or 'l0', not {norm!r}")
        super().__init__(**options)  # type: ignore[arg-type]
        self.name = f"invisible-{norm}"
        self.norm, self.radius, self.pixels = norm, radius, pixels

    def start(self, generator: torch.Generator) -> Tensor:
        return 0.1 * torch.randn(self.trigger_CHW.shape, generator=generator)

    def within_bounds(self, trigger_CHW: Tensor) -> Tensor:
        if self.norm == "l2":
            return trigger_CHW * (self.radius / trigger_CHW.norm().clamp_min(1e-9)).clamp_max(1.0)
        strength_HW = trigger_CHW.norm(dim=0)
        smallest = strength_HW.flatten().topk(self.pixels).values[-1]
        return (trigger_CHW * (strength_HW >= smallest)).clamp(-1, 1)

    def put(self, x_NCHW: Tensor, trigger_CHW: Tensor) -> Tensor:
        return (x_NCHW + trigger_CHW).clamp(0, 1)
