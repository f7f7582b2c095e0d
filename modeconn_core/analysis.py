"""What lies between a regular and a robust model: losses, errors and input Hessian along a standard and a robust path.

Source: Zhao et al. 2020 (arXiv 2005.00060), section 5 and its figures 3 and 4.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeconn_core.analysis_figures import barrier, correlation, mean_interval
from modeconn_core.analysis_result import (
    AnalysisConfig,
    AnalysisPoint,
    AnalysisResult,
    PathFigures,
    PathKind,
)
from modeconn_core.augment import Augmentation
from modeconn_core.batchnorm import Calibration
from modeconn_core.checkpoints import Checkpoints, State
from modeconn_core.configuration import OnProgress, Stage
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.device import choose_device, parameter_dtype, working_copy
from modeconn_core.diagnosis import suspicion_threshold
from modeconn_core.distillation import labelled_set
from modeconn_core.endpoints import check_same_tensors
from modeconn_core.fit import FitSettings, PathFit, ShouldStop, TrainingSet, drawn_from
from modeconn_core.hessian import largest_eigenvalues
from modeconn_core.inputs import check_images, class_count
from modeconn_core.metrics import evaluate, predict, wilson_interval
from modeconn_core.monitor import Monitor
from modeconn_core.repair import BATCH_SIZE, rate_for, steps_for
from modeconn_core.robustness import ImageBox, PgdSettings, pgd
from modeconn_core.splits import split_clean
from modeconn_core.symmetry import align

# share of an analysis that each stage takes, of one run of bench.robustness; only the progress bar depends on it
STAGE_SHARES: dict[Stage, float] = {
    "validating": 0.01,
    "preparing_ends": 0.01,
    "fitting_path": 0.04,
    "fitting_robust_path": 0.28,
    "sweeping": 0.66,
}
WORST_LOSS = 1e6  # stands for a loss that is not finite: worse than any that is
HARDLY_MORE_ROBUST = 0.05  # of robust error
CALIBRATION_IMAGES = 500  # at a point


def analyse(
    regular: nn.Module,
    robust: nn.Module,
    clean_images: Tensor,
    clean_labels: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    config: AnalysisConfig | None = None,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    checkpoints: Checkpoints | None = None,
) -> AnalysisResult:
    """Connect two models by a path trained on clean images and one trained under attack, and measure both paths.

    Args:
        regular, robust: models of one architecture; (B, C, H, W) float -> logits (B, K). They are not changed. They lie
            at t = 0 and t = 1.
        clean_images: (N, C, H, W) float, normalised as both models expect. clean_labels: (N,) int64 in 0..K-1.
        mean, std: with which the images in [0, 1] were normalised, one value per channel; the attack works in [0, 1].
        config: see :class:`AnalysisConfig`.
        on_progress: called with a :class:`Progress`, whose points are :class:`AnalysisPoint`. should_stop: asked often.
        checkpoints: of an earlier run with the same arguments, to go on where it stood, bit for bit on the same device.

    Raises:
        ValueError: what was given cannot be used; the message says why. RepairStopped: ``should_stop`` answered yes.
    """
    config = config or AnalysisConfig()
    monitor = Monitor(on_progress, should_stop, _stage_shares(config))
    box = ImageBox(mean=tuple(mean), std=tuple(std))
    job = _Analysis(regular, robust, clean_images, clean_labels, box, config, monitor, checkpoints or Checkpoints())
    job.align()
    paths = job.fit()
    return job.result(paths, job.sweep(paths))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """A point, and the losses of every image behind it (N,)."""

    point: AnalysisPoint
    clean_losses: Tensor
    robust_losses: Tensor

    def to_state(self) -> State:
        """What a checkpoint keeps of it."""
        return {"point": asdict(self.point), "clean": self.clean_losses, "robust": self.robust_losses}

    @classmethod
    def from_state(cls, state: State) -> _Measured:
        """The way back."""
        point = AnalysisPoint(**state["point"])
        return cls(point=point, clean_losses=state["clean"], robust_losses=state["robust"])


class _Analysis:
    """The data of one analysis on its device; every method is one stage."""

    def __init__(
        self,
        regular: nn.Module,
        robust: nn.Module,
        images: Tensor,
        labels: Tensor,
        box: ImageBox,
        config: AnalysisConfig,
        monitor: Monitor,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.monitor, self.box, self.checkpoints = config, monitor, box, checkpoints
        monitor.enter("validating")
        check_images(images, labels, "clean")
        box.to_unit(images)
        check_same_tensors(regular.state_dict(), robust.state_dict(), first="regular model")
        self.device = choose_device(config.device)
        self.regular, self.robust = working_copy(regular, self.device), working_copy(robust, self.device)
        self.images = images.to(self.device, parameter_dtype(self.regular), memory_format=torch.channels_last)
        self.labels = labels.to(self.device)
        split = split_clean(labels, held_out=config.held_out, seed=config.seed)
        self.fit_index = split.fit
        report = torch.cat([split.selection, split.report])
        generator = torch.Generator().manual_seed(config.seed)
        self.report_index = report[torch.randperm(len(report), generator=generator)]  # uploads come class by class
        self.warnings: list[str] = []
        self.alignment = "The second model's channels were left as they are."
        self.classes = self._check_models()

    def _check_models(self) -> int:
        """The number of classes. Warns of models that hardly know the images."""
        classes = 0
        for name, module in (("regular", self.regular), ("robust", self.robust)):
            classes = class_count(module, self.images, self.labels)
            accuracy = evaluate(module, self.images, self.labels).rate
            if accuracy < suspicion_threshold(classes):
                self.warnings.append(
                    f"The {name} model knows only {100 * accuracy:.1f} % of the clean images (chance is "
                    f"{100 / classes:.1f} %): check the normalisation, the channel order and the order of the classes."
                )
        return classes

    def align(self) -> None:
        """Permute the robust model's channels towards the regular one's."""
        self.monitor.enter("preparing_ends")
        if not self.config.align:
            return
        found = align(self.regular, self.images[:2], self.robust.state_dict(), seed=self.config.seed)
        self.robust.load_state_dict(found.state_dict)
        self.alignment = (
            f"{found.moved} of the second model's {found.channels} interchangeable channels were moved to match the "
            f"first one's; the distance of the weights went from {found.before:.4g} to {found.after:.4g}."
            if found.channels
            else f"Nothing could be aligned. {found.report}"
        )

    def fit(self) -> dict[PathKind, ModePath]:
        """The standard path, and the one trained on PGD examples of the model at the very t."""
        self.monitor.enter("fitting_path")
        count = len(self.fit_index)
        settings = FitSettings(
            steps=self.config.steps or steps_for(count),
            batch_size=BATCH_SIZE,
            rate=self.config.rate or rate_for(count),
            augmentation=Augmentation(mirror=self.config.mirror),
        )
        # labels alone: a teacher's soft answers would raise the standard loss and lower the robustness loss in between
        lessons = labelled_set(
            self.images[self.fit_index],
            self.labels[self.fit_index],
            classes=self.classes,
            settings=settings,
            seed=self.config.seed,
        )
        paths: dict[PathKind, ModePath] = {"standard": self._fitted(lessons, settings, attack=None)}
        if self.config.robust_path:
            self.monitor.enter("fitting_robust_path")
            paths["robust"] = self._fitted(lessons, settings, attack=self.config.pgd)
        return paths

    def _fitted(self, lessons: TrainingSet, settings: FitSettings, attack: PgdSettings | None) -> ModePath:
        work = copy.deepcopy(self.regular)
        flat = FlatParameters(work)
        path = ModePath.between(
            flat,
            self.regular.state_dict(),
            self.robust.state_dict(),
            kind=self.config.curve,
            bends=self.config.bends,
            start="line",
        )
        seed = self.config.seed
        fit = (
            PathFit(work, flat, path, lessons, settings, seed)
            if attack is None
            else AttackedPathFit(work, flat, path, lessons, settings, seed, attack, self.box)
        )
        fit.run(
            on_step=lambda done, loss: self.monitor.on_step(done, settings.steps, loss),
            checkpoints=self.checkpoints,
            name="fit" if attack is None else "attacked-fit",
        )
        return path

    def sweep(self, paths: dict[PathKind, ModePath]) -> dict[PathKind, list[_Measured]]:
        """Measure every path at evenly spread values of t; both share their ends, which are measured once."""
        self.monitor.enter("sweeping")
        grid = [i / (self.config.points - 1) for i in range(self.config.points)]
        ends = {
            t: self._measure(partial(copy.deepcopy, module), t, "standard")
            for t, module in ((0.0, self.regular), (1.0, self.robust))
        }
        self._warn_of_ends(*ends.values())
        calibrations = [self._calibration(module) for module in (self.regular, self.robust)]
        measured: dict[PathKind, list[_Measured]] = {}
        for number, (kind, path) in enumerate(paths.items()):
            measured[kind] = []
            for i, t in enumerate(grid):
                if t in ends:
                    one = replace(ends[t], point=replace(ends[t].point, path=kind))
                else:
                    one = self._measure(partial(self._at, path, t, calibrations), t, kind)
                measured[kind].append(one)
                share = (number + (i + 1) / len(grid)) / len(paths)
                self.monitor.report(share, point=one.point, t=t, robust_loss=one.point.robust_loss)
        return measured

    def _calibration(self, module: nn.Module) -> Calibration:
        return Calibration(module, self.images[self.fit_index], mirror=self.config.mirror, seed=self.config.seed)

    def _at(self, path: ModePath, t: float, calibrations: Sequence[Calibration]) -> nn.Module:
        """The path's model at ``t``; the error of re-estimated statistics is taken off as far as it is known at the
        ends."""
        module = copy.deepcopy(self.regular)
        module.load_state_dict({**module.state_dict(), **path.state_at(t)})
        coefficients = path.coefficients(t)
        first, last = calibrations
        first.apply(module, coefficients[0], most=CALIBRATION_IMAGES, exact=True)
        last.correct(module, coefficients[-1], most=CALIBRATION_IMAGES, exact=True)
        return module

    def _measure(self, make: Callable[[], nn.Module], t: float, kind: PathKind) -> _Measured:
        """What the model that ``make`` makes does, unless it is remembered."""
        state = self.checkpoints.part(f"{kind}-{t!r}", lambda: self._measured(make(), t, kind).to_state())
        return _Measured.from_state(state)

    def _measured(self, module: nn.Module, t: float, kind: PathKind) -> _Measured:
        """``module`` (in eval mode) on the report's images, as they are and under attack."""
        index = self.report_index[: self.config.max_images]
        images, labels = self.images[index], self.labels[index]
        clean_losses, clean_wrong = _losses(module, images, labels)
        generator = torch.Generator().manual_seed(self.config.seed)  # the same starts at every t
        attacked = pgd(module, images, labels, self.config.pgd, self.box, generator)
        self.monitor.check()
        robust_losses, robust_wrong = _losses(module, attacked, labels)
        eigenvalue, eigenvalue_interval, converged = self._eigenvalue(module, images, labels, generator)
        point = AnalysisPoint(
            path=kind,
            t=t,
            clean_loss=clean_losses.mean().item(),
            clean_error=clean_wrong / len(labels),
            clean_error_interval=wilson_interval(clean_wrong, len(labels)),
            robust_loss=robust_losses.mean().item(),
            robust_loss_interval=mean_interval(robust_losses),
            robust_error=robust_wrong / len(labels),
            robust_error_interval=wilson_interval(robust_wrong, len(labels)),
            eigenvalue=eigenvalue,
            eigenvalue_interval=eigenvalue_interval,
            eigenvalue_converged=converged,
        )
        return _Measured(point=point, clean_losses=clean_losses, robust_losses=robust_losses)

    def _eigenvalue(
        self, module: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[float | None, tuple[float, float] | None, float | None]:
        """(mean over the images, its interval, share that converged)."""
        settings = self.config.eigenvalues
        if settings is None:
            return None, None, None
        some = slice(settings.images)
        found = largest_eigenvalues(module, images[some], labels[some], settings, self.box, generator)
        values = torch.nan_to_num(found.values, nan=WORST_LOSS, posinf=WORST_LOSS)
        self.monitor.check()
        return values.mean().item(), mean_interval(values), found.converged.float().mean().item()

    def _warn_of_ends(self, regular: _Measured, robust: _Measured) -> None:
        gained = regular.point.robust_error - robust.point.robust_error
        if gained < HARDLY_MORE_ROBUST:
            self.warnings.append(
                f"The second model is hardly more robust than the first: under attack {100 * gained:.1f} points fewer "
                "of the images are wrong. A barrier between a regular and a robust model cannot be seen here."
            )

    def result(self, paths: dict[PathKind, ModePath], measured: dict[PathKind, list[_Measured]]) -> AnalysisResult:
        """Barriers and correlations out of the points."""
        figures = [self._figures(kind, points) for kind, points in measured.items()]
        self.monitor.close()
        return AnalysisResult(
            paths=figures,
            alignment=self.alignment,
            fit_images=len(self.fit_index),
            report_images=len(measured["standard"][0].clean_losses),
            warnings=self.warnings,
            weights=paths,
            seconds=self.monitor.seconds,
        )

    def _figures(self, kind: PathKind, measured: list[_Measured]) -> PathFigures:
        t = [one.point.t for one in measured]
        clean_TN = torch.stack([one.clean_losses for one in measured])
        robust_TN = torch.stack([one.robust_losses for one in measured])
        if max(clean_TN.max().item(), robust_TN.max().item()) >= WORST_LOSS:
            self.warnings.append(f"The {kind} path has points whose loss is not a number: its fit has diverged.")
        return PathFigures(
            path=kind,
            points=[one.point for one in measured],
            clean_barrier=barrier(t, clean_TN, seed=self.config.seed),
            robust_barrier=barrier(t, robust_TN, seed=self.config.seed),
            correlation=correlation([one.point for one in measured]),
        )


def _stage_shares(config: AnalysisConfig) -> dict[Stage, float]:
    """Of the stages that this analysis has; they sum to one."""
    shares = {
        stage: share for stage, share in STAGE_SHARES.items() if config.robust_path or stage != "fitting_robust_path"
    }
    return {stage: share / sum(shares.values()) for stage, share in shares.items()}


class AttackedPathFit(PathFit):
    """Trains the bends on PGD examples, made against the model at the sampled t, in train mode like the step itself."""

    def __init__(
        self,
        module: nn.Module,
        flat: FlatParameters,
        path: ModePath,
        data: TrainingSet,
        settings: FitSettings,
        seed: int,
        attack: PgdSettings,
        box: ImageBox,
    ) -> None:
        super().__init__(module, flat, path, data, settings, seed)
        self.attack, self.box = attack, box

    def step(self) -> Tensor:
        with drawn_from(self.seed, self.done, self.flat.vector.device):
            batch = self.data.batch(self.settings, self.seed, self.done)
            self.path.write(batch.t, self.flat.vector)
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.done) % 2**63)
            attacked = pgd(self.module, batch.images, batch.targets, self.attack, self.box, generator)
            return self.step_on(replace(batch, images=attacked))


def _losses(module: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy of every image (N,), on the CPU, and how many images are wrong."""
    outputs_NK = predict(module, images, exact=True)
    losses_N = F.cross_entropy(outputs_NK, labels, reduction="none").double().cpu()
    wrong = int((outputs_NK.argmax(dim=1) != labels).sum())
    return torch.nan_to_num(losses_N, nan=WORST_LOSS, posinf=WORST_LOSS).clamp_max(WORST_LOSS), wrong
