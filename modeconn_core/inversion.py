"""Trigger inversion: the smallest patch that sends images where they do not belong, for many targets at once.

Source: Wang et al., Neural Cleanse, IEEE S&P 2019. Here all searches share their batches, few images each, and the
sparsity pressure follows every search's own success: ten classes cost what one cost, at the same separation. A search
sees new views of its images at every step, or few images are sent elsewhere by what no other image would follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.augment import Augmentation, random_crop_and_mirror
from modeconn_core.checkpoints import Checkpoints, State
from modeconn_core.device import autocast
from modeconn_core.metrics import predict
from modeconn_core.triggers import Patch, images_range

SMOOTHING = 0.6  # of a search's success from step to step
JUDGED_ON = 100  # views of images on which a found trigger's success is measured
MOST_AT_ONCE = 48  # searches that share a batch
FIRST_PRESSURE = 6.0  # loss that a mask over the whole image costs at the start; every search finds its own level


@dataclass(frozen=True, kw_only=True, slots=True)
class InversionSettings:
    """How long and how hard to search.

    steps: Adam steps; batch: images per step and search; rate: Adam's step size. wanted_success: what a mask must reach
    before it may shrink; where every class has a target of its own no backdoor is surer than the model itself.
    mirror: whether classes are mirror-invariant.
    """

    steps: int = 45
    batch: int = 16
    rate: float = 0.3
    wanted_success: float = 0.95
    wanted_success_all_to_all: float = 0.5
    mirror: bool = True

    def wanted_for(self, wanted_SK: Tensor) -> Tensor:
        """(S,) what each search must reach."""
        return torch.where(have_one_target(wanted_SK), self.wanted_success, self.wanted_success_all_to_all)


def have_one_target(wanted_SK: Tensor) -> Tensor:
    """(S,) whether a search sends all images to the same class."""
    return (wanted_SK == wanted_SK[:, :1]).all(dim=1)


OnSearched = Callable[[int], None]


class PatchInversion:
    """S searches, each for the smallest mask and pattern that send images of class k to ``wanted_SK[s, k]``.

    ``module`` is in eval mode and keeps its weights. Patterns stay within the range that each channel of
    ``images_NCHW`` has. Rows may repeat: every search starts elsewhere. ``vary``: show new views at every step; without
    them a patch is found that works on just these images.
    """

    def __init__(
        self,
        module: nn.Module,
        images_NCHW: Tensor,
        labels_N: Tensor,
        wanted_SK: Tensor,
        *,
        settings: InversionSettings,
        seed: int,
        vary: bool = True,
    ) -> None:
        self._parts = [
            _Searches(module, images_NCHW, labels_N, part_SK, settings, (seed * 1009 + i * MOST_AT_ONCE) % 2**63, vary)
            for i, part_SK in enumerate(wanted_SK.split(MOST_AT_ONCE))
        ]

    def search(
        self, steps: int, checkpoints: Checkpoints, name: str, *, on_searched: OnSearched = lambda _: None
    ) -> list[Patch]:
        """Go on for ``steps`` and return the best patch of each search; ``on_searched`` is told how many are done.

        ``name``: that of the searches in ``checkpoints``.
        """
        found: list[Patch] = []
        for i, part in enumerate(self._parts):
            until = part.done + steps
            checkpoints.run(f"{name}-{until}-{i}", part, until=until)
            found += part.found()
            on_searched(len(found))
        return found


def invert_patches(
    module: nn.Module,
    images_NCHW: Tensor,
    labels_N: Tensor,
    wanted_SK: Tensor,
    *,
    settings: InversionSettings,
    seed: int,
    checkpoints: Checkpoints,
    name: str,
    vary: bool = True,
) -> list[Patch]:
    """One inversion of ``settings.steps``, from start to end: see :class:`PatchInversion`."""
    inversion = PatchInversion(module, images_NCHW, labels_N, wanted_SK, settings=settings, seed=seed, vary=vary)
    return inversion.search(settings.steps, checkpoints, name)


# what changes from step to step, besides the optimiser's and the generator's state
_SEARCHED = ("mask_logit", "pattern_logit", "pressure_S", "success_S", "best_S", "best_mask", "best_pattern")


class _Searches:
    """Masks (S, 1, H, W) and patterns (S, C, H, W) under search; Adam moves every search apart from the others."""

    def __init__(
        self,
        module: nn.Module,
        images_NCHW: Tensor,
        labels_N: Tensor,
        wanted_SK: Tensor,
        settings: InversionSettings,
        seed: int,
        vary: bool,
    ) -> None:
        self.module, self.images, self.labels, self.wanted = module, images_NCHW, labels_N, wanted_SK
        self.settings = settings
        self.generator = torch.Generator().manual_seed(seed)
        # images that a search can send elsewhere; where there are none, any will do and it never succeeds
        self.others = [
            eligible if len(eligible) else torch.arange(len(labels_N), device=labels_N.device)
            for eligible in ((wanted_K[labels_N] != labels_N).nonzero().squeeze(1) for wanted_K in wanted_SK)
        ]
        low_C, high_C = images_range(images_NCHW)
        self.low_C11, self.span_C11 = low_C[:, None, None], (high_C - low_C)[:, None, None]
        searches, (channels, height, width) = len(wanted_SK), images_NCHW.shape[1:]
        device = images_NCHW.device
        self.mask_logit = torch.full((searches, 1, height, width), -1.0, device=device).requires_grad_(True)
        start = torch.randn(searches, channels, height, width, generator=self.generator)
        self.pattern_logit = start.to(device).mul_(0.1).requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.mask_logit, self.pattern_logit], lr=settings.rate, betas=(0.5, 0.9))
        self.enough_S = settings.wanted_for(wanted_SK)
        self.varied_S = have_one_target(wanted_SK) & vary
        self.pressure_S = torch.full((searches,), FIRST_PRESSURE / (height * width), device=device)
        self.success_S = torch.zeros(searches, device=device)
        self.best_S = torch.full((searches,), -float(height * width), device=device)
        self.best_mask, self.best_pattern = self._masks().detach(), self._patterns().detach()
        self.done = 0

    def state_dict(self) -> State:
        """All that the next steps depend on."""
        return {
            "done": self.done,
            "generator": self.generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name).detach() for name in _SEARCHED},
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from :meth:`state_dict`."""
        self.done = state["done"]
        self.generator.set_state(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for name in _SEARCHED:
                getattr(self, name).copy_(state[name])

    def _masks(self) -> Tensor:
        return self.mask_logit.sigmoid()

    def _patterns(self) -> Tensor:
        return self.low_C11 + self.span_C11 * self.pattern_logit.sigmoid()

    def _views(self, index_SB: Tensor, varied_S: Tensor) -> Tensor:
        """The images of every search, as new views where it may vary them.

        Those of an all-to-all attack stay as they are: it must know each image's class, which a view can hide.
        """
        x_SBCHW = self.images[index_SB]
        views_BCHW = random_crop_and_mirror(
            x_SBCHW.flatten(0, 1),
            padding=Augmentation().padding(self.images),
            mirror=self.settings.mirror,
            generator=self.generator,
        )
        return torch.where(varied_S.view(-1, 1, 1, 1, 1), views_BCHW.view_as(x_SBCHW), x_SBCHW)

    def step(self) -> None:
        settings = self.settings
        index_SB = torch.stack(
            [
                others[torch.randint(len(others), (settings.batch,), generator=self.generator).to(others.device)]
                for others in self.others
            ]
        )
        x_SBCHW = self._views(index_SB, self.varied_S)
        masks, patterns = self._masks(), self._patterns()
        stamped = x_SBCHW + masks[:, None] * (patterns[:, None] - x_SBCHW)
        wanted_SB = self.wanted.gather(1, self.labels[index_SB])
        with autocast(self.images.device):
            outputs = self.module(stamped.flatten(0, 1).contiguous(memory_format=torch.channels_last)).float()
        losses_SB = F.cross_entropy(outputs, wanted_SB.flatten(), reduction="none").view_as(wanted_SB)
        sizes_S = masks.sum(dim=(1, 2, 3))
        loss = (losses_SB.mean(dim=1) + self.pressure_S * sizes_S).sum()
        self.mask_logit.grad, self.pattern_logit.grad = torch.autograd.grad(loss, [self.mask_logit, self.pattern_logit])
        success_S = (outputs.argmax(dim=1).view_as(wanted_SB) == wanted_SB).float().mean(dim=1)
        self.success_S.lerp_(success_S, 1 - SMOOTHING)
        self._remember(sizes_S.detach(), success_S, masks.detach(), patterns.detach())
        self.optimizer.step()
        self.pressure_S = torch.where(success_S >= self.enough_S, self.pressure_S * 1.3, self.pressure_S / 1.5)
        self.done += 1

    def _remember(self, sizes_S: Tensor, success_S: Tensor, masks: Tensor, patterns: Tensor) -> None:
        """Keep the smallest mask that works steadily; before there is one, the most successful one."""
        nearly_S = self.enough_S - 0.05
        steady_S = (self.success_S >= nearly_S) & (success_S >= nearly_S)
        score_S = torch.where(steady_S, 1e6 - sizes_S, self.success_S)
        better_S = score_S > self.best_S
        self.best_S = torch.where(better_S, score_S, self.best_S)
        choose = better_S.view(-1, 1, 1, 1)
        self.best_mask = torch.where(choose, masks, self.best_mask)
        self.best_pattern = torch.where(choose, patterns, self.best_pattern)

    @torch.no_grad()
    def found(self) -> list[Patch]:
        result = []
        for others, wanted_K, varied, mask, pattern in zip(
            self.others, self.wanted, self.varied_S, self.best_mask, self.best_pattern, strict=True
        ):
            patch = Patch(wanted=wanted_K, mask=mask, pattern=pattern, success_rate=0.0)
            index = others[:: max(1, len(others) // JUDGED_ON)]
            index = index.repeat(max(1, JUDGED_ON // len(index)) if varied else 1)
            labels = self.labels[index]
            stamped = patch.stamp(self._views(index[None], varied[None])[0])
            predictions = predict(self.module, stamped).argmax(dim=1)
            counted = labels != wanted_K[labels]
            rate = (predictions == wanted_K[labels])[counted].float().mean().item() if counted.any() else 0.0
            result.append(Patch(wanted=wanted_K, mask=mask, pattern=pattern, success_rate=rate))
        return result


def one_target_each(classes: int, device: torch.device) -> Tensor:
    """The wanted labels (K, K) of K searches, one for every target class."""
    return torch.arange(classes, device=device)[:, None].expand(classes, classes)
