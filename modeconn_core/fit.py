"""Training of the bends: one random t per batch, one ordinary backward pass, deterministic in (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.augment import Augmentation, Views, cutout
from modeconn_core.checkpoints import Checkpoints, Loop, State
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.device import autocast
from modeconn_core.errors import RepairStopped

Stamp = Callable[[Tensor], Tensor]
OnStep = Callable[[int, Tensor], None]
ShouldStop = Callable[[], bool]

SMALLEST_WEIGHT = 1e-2  # root mean square from which a tensor (a fresh bias, say) counts as having a scale


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSettings:
    """How the bends are trained.

    steps: batches; batch_size: images in each; rate: SGD's step size at its height; momentum: heavy ball;
    weight_decay: acts on the sampled point w(t), as in the paper's code; gradient_limit: longest gradient of a tensor,
    relative to its weights; stamped: share of every batch that carries an inverted patch, where the scan found any;
    waved: the same for waves, which are known exactly, so that a few do.
    """

    steps: int = 400
    batch_size: int = 128
    rate: float = 0.6
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gradient_limit: float = 0.05
    stamped: float = 0.2
    waved: float = 0.04
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise ValueError("a fit needs at least one step and two images in a batch")
        if self.gradient_limit <= 0:
            raise ValueError("gradient_limit must be positive")
        if self.rate <= 0 or not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise ValueError("rate must be positive, momentum in [0, 1), weight_decay not negative")
        if self.stamped < 0 or self.waved < 0 or self.stamped + self.waved >= 1:
            raise ValueError("stamped and waved must not be negative, and some images must stay as they are")

    def rate_at(self, step: int) -> float:
        """Warm-up over the first tenth, flat to the half, then linear to one hundredth."""
        done = (step + 1) / self.steps
        return self.rate * min(done / 0.1, 1.0, max(0.01, 2.0 * (1.0 - done)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One batch: images (B, C, H, W), their targets (B, K), which are distributions over the classes, the path's t."""

    images: Tensor
    targets: Tensor
    t: float

    def loss(self, module: nn.Module) -> Tensor:
        """Cross-entropy of ``module`` on the batch."""
        with autocast(self.images.device):
            outputs_BK = main_output(module(self.images)).float()
        return F.cross_entropy(outputs_BK, self.targets)


def main_output(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The logits (B, K): networks with auxiliary heads answer with a tuple in train mode, main head first."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSet:
    """What a fit learns, all on its device: fixed views of clean images, each with its own target, and triggers to
    unlearn.

    images: (N, C, H, W), normalised. views: M of them, view m of image m % N. targets: (M, K) distributions over the
    classes. stamps: put patches on images, waves: waves; what they cover keeps the target it has without them.
    """

    images: Tensor
    views: Views
    targets: Tensor
    stamps: Sequence[Stamp] = ()
    waves: Sequence[Stamp] = ()

    def batch(self, settings: FitSettings, seed: int, step: int) -> Batch:
        """Batch ``step``, a pure function of (seed, step): an interrupted fit needs no random state to go on."""
        rng = np.random.default_rng((seed, 1, step))
        t = float(rng.random())
        chosen_B = self._indices(seed, step, settings.batch_size)
        targets_BK = self.targets[chosen_B]
        stamped_BCHW = self._stamp_some(self.images[chosen_B % len(self.images)], settings, rng)
        x_BCHW = self.views.of(stamped_BCHW, chosen_B)  # triggers move with their images, as poisoned ones did
        if settings.augmentation.cutout > 0:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            x_BCHW = cutout(
                x_BCHW, side=round(settings.augmentation.cutout * min(x_BCHW.shape[2:])), generator=generator
            )
        if settings.augmentation.mixup > 0:
            share = float(rng.beta(settings.augmentation.mixup, settings.augmentation.mixup))
            partner_B = torch.from_numpy(rng.permutation(len(chosen_B))).to(chosen_B.device, non_blocking=True)
            x_BCHW = torch.lerp(x_BCHW[partner_B], x_BCHW, share)
            targets_BK = torch.lerp(targets_BK[partner_B], targets_BK, share)
        return Batch(images=x_BCHW.contiguous(memory_format=torch.channels_last), targets=targets_BK, t=t)

    def _indices(self, seed: int, step: int, batch_size: int) -> Tensor:
        """The views of batch ``step`` out of an endless row of shuffled epochs."""
        count = len(self.targets)
        first, last = step * batch_size, (step + 1) * batch_size - 1
        epochs = [
            np.random.default_rng((seed, 2, epoch)).permutation(count)
            for epoch in range(first // count, last // count + 1)
        ]
        offset = first % count
        chosen = np.concatenate(epochs)[offset : offset + batch_size]
        return torch.from_numpy(chosen).to(self.images.device, non_blocking=True)

    def _stamp_some(self, x_BCHW: Tensor, settings: FitSettings, rng: np.random.Generator) -> Tensor:
        """Put the patches, in turn, on the first images of the batch (which is shuffled already), waves on the next."""
        pieces, first = [], 0
        for stamps, share in ((self.stamps, settings.stamped), (self.waves, settings.waved)):
            if not stamps or share == 0:
                continue
            count = max(1, round(share * len(x_BCHW)))
            turn = int(rng.integers(len(stamps)))
            split = x_BCHW[first : first + count].tensor_split(min(count, len(stamps)))
            pieces += [stamps[(turn + i) % len(stamps)](piece) for i, piece in enumerate(split)]
            first += count
        return torch.cat([*pieces, x_BCHW[first:]])


class PathFit:
    """Trains the bends of a path by SGD on E_t CE(f(x; w(t)), y) (Zhao et al. 2020, eq. 1).

    The gradient of a bend is its coefficient times the gradient at w(t), so a step is one plain SGD step plus one
    copy of the weights. :meth:`state_dict` after any step continues bit for bit in another process on the same device.
    """

    def __init__(
        self,
        module: nn.Module,
        flat: FlatParameters,
        path: ModePath,
        data: TrainingSet,
        settings: FitSettings,
        seed: int,
    ) -> None:
        self.module, self.flat, self.path = module, flat, path
        self.data, self.settings, self.seed = data, settings, seed
        self.momentum_ND = torch.zeros_like(path.points[1:-1])
        self.done = 0
        self._gradients = [slot.view(flat.gradient) for slot in flat.slots]
        weights = torch.stack(torch._foreach_norm([slot.view(path.points[0]) for slot in flat.slots]))
        sizes = torch.tensor([slot.size for slot in flat.slots], device=weights.device)
        self._limits = settings.gradient_limit * torch.maximum(weights, SMALLEST_WEIGHT * sizes.sqrt())

    def step(self) -> Tensor:
        """Train on one batch at its own t; returns the loss, still on the device."""
        with drawn_from(self.seed, self.done, self.flat.vector.device):
            return self.step_on(self.data.batch(self.settings, self.seed, self.done))

    def step_on(self, batch: Batch) -> Tensor:
        """Train on ``batch``; what a step costs beside a plain SGD step is all in here."""
        settings = self.settings
        coefficients = self.path.write(batch.t, self.flat.vector)
        self.flat.gradient.zero_()
        loss = batch.loss(self.module)
        loss.backward()
        self._limit_gradients()
        gradient_D = self.flat.gradient.add_(self.flat.vector, alpha=settings.weight_decay)
        rate = settings.rate_at(self.done)
        for bend_D, momentum_D, coefficient in zip(
            self.path.points[1:-1], self.momentum_ND, coefficients[1:-1], strict=True
        ):
            momentum_D.mul_(settings.momentum).add_(gradient_D, alpha=coefficient)
            bend_D.add_(momentum_D, alpha=-rate)
        self.done += 1
        return loss.detach()

    def _limit_gradients(self) -> None:
        """Shorten every tensor's gradient to at most ``gradient_limit`` times the norm of the suspect's weights in it.

        In networks whose layers differ in scale one rate then suits all of them (Brock et al. 2021, arXiv 2102.06171,
        eq. 3, per tensor). Stays on the device.
        """
        norms = torch.stack(torch._foreach_norm(self._gradients))
        scales = (self._limits / norms.clamp_min(1e-12)).clamp_max(1.0)
        torch._foreach_mul_(self._gradients, list(scales.unbind()))

    def run(
        self,
        *,
        on_step: OnStep | None = None,
        should_stop: ShouldStop | None = None,
        checkpoints: Checkpoints | None = None,
        name: str = "fit",
    ) -> None:
        """Train to the end, calling ``on_step(done, loss)``. Raises RepairStopped when ``should_stop()`` says so.

        ``name``: that of the fit in ``checkpoints``.
        """
        self.module.train()
        _take_steps(self, self.settings.steps, on_step, should_stop, checkpoints, name)

    def state_dict(self) -> State:
        """All that the next steps depend on."""
        return {"done": self.done, "bends": self.path.points[1:-1].clone(), "momentum": self.momentum_ND.clone()}

    def load_state_dict(self, state: State) -> None:
        """Continue from :meth:`state_dict`. Raises ValueError when it belongs to another path."""
        if state["bends"].shape != self.momentum_ND.shape:
            raise ValueError(f"the state has bends {tuple(state['bends'].shape)}, not {tuple(self.momentum_ND.shape)}")
        self.done = int(state["done"])
        self.path.points[1:-1].copy_(state["bends"])
        self.momentum_ND.copy_(state["momentum"])


def fine_tune(
    module: nn.Module,
    data: TrainingSet,
    settings: FitSettings,
    seed: int,
    *,
    on_step: OnStep | None = None,
    should_stop: ShouldStop | None = None,
    checkpoints: Checkpoints | None = None,
    name: str = "fine-tuning",
) -> None:
    """Train ``module`` in place by plain SGD on the same batches and schedule as a path."""
    module.train()
    tuning = _FineTuning(module, data, settings, seed)
    _take_steps(tuning, settings.steps, on_step, should_stop, checkpoints, name)


class _FineTuning:
    """Plain SGD, step by step."""

    def __init__(self, module: nn.Module, data: TrainingSet, settings: FitSettings, seed: int) -> None:
        self.module, self.data, self.settings, self.seed = module, data, settings, seed
        self.optimizer = torch.optim.SGD(
            module.parameters(), lr=settings.rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.done = 0

    def step(self) -> Tensor:
        with drawn_from(self.seed, self.done, self.data.images.device):
            loss = self.data.batch(self.settings, self.seed, self.done).loss(self.module)
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(self.done)
        self.optimizer.step()
        self.done += 1
        return loss.detach()

    def state_dict(self) -> State:
        """All that the next steps depend on."""
        return {"done": self.done, "module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from :meth:`state_dict`."""
        self.done = state["done"]
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])


@contextmanager
def drawn_from(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Inside, what a module draws for itself (dropout, stochastic depth) depends on (seed, step) alone."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.default_rng((seed, 4, step)).integers(2**63)))
        yield


def _take_steps(
    loop: Loop,
    steps: int,
    on_step: OnStep | None,
    should_stop: ShouldStop | None,
    checkpoints: Checkpoints | None,
    name: str,
) -> None:
    def after(loss: Tensor) -> None:
        if on_step is not None:
            on_step(loop.done, loss)
        stop_if_asked()

    def stop_if_asked() -> None:
        if should_stop is not None and should_stop():
            raise RepairStopped

    stop_if_asked()
    (checkpoints or Checkpoints()).run(name, loop, until=steps, on_step=after)
