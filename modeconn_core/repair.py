"""The whole method in one readable function: scan, second end, path, sweep, choice."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from modeconn_core.augment import Augmentation
from modeconn_core.batchnorm import Calibration
from modeconn_core.checkpoints import Checkpoints
from modeconn_core.configuration import Figures, OnProgress, RepairConfig, RepairResult
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.device import choose_device, parameter_dtype, working_copy
from modeconn_core.diagnosis import suspicion_threshold
from modeconn_core.disputes import FEWEST, WITNESS_T, disputed_views
from modeconn_core.distillation import TEACHER_SHARE, training_set
from modeconn_core.endpoints import Endpoint, second_end
from modeconn_core.fit import FitSettings, PathFit, ShouldStop, TrainingSet, fine_tune
from modeconn_core.inputs import check_images, class_count
from modeconn_core.metrics import Evaluation, confusions, evaluate, per_class_accuracy
from modeconn_core.monitor import Monitor
from modeconn_core.plane import LossPlane, measure_plane
from modeconn_core.scan import Scan, findings, scan
from modeconn_core.selection import AttackFigure, Choice, Criteria, choose, lenience, weigh
from modeconn_core.splits import divide_triggered, split_clean
from modeconn_core.sweep import COARSE_GRID, CurvePoint, Measurement, PathName, Probe, Sweep, TriggeredSet
from modeconn_core.triggers import Trigger

FEW_IMAGES, MANY_IMAGES = 30, 1500  # of the fit, between which its length and rate go by the logarithm
BATCH_SIZE = 128  # views, of however few images
FEW_STEPS, MANY_STEPS = 100, 200
LOW_RATE, HIGH_RATE = 0.3, 0.6
CLEARED_BY = 0.4  # in t: what fades later is a natural weakness of its class, no backdoor
STAMPED_IMAGES = 100  # on which a stand-in for the trigger is measured at each point of the curve
INJECTED_TEACHER_SHARE = 0.5  # of a target: a suspect with injected errors teaches them along with the rest
FINE_TUNING_DIVISOR = 4.0  # a fine-tuned end moves with its whole gradient, a bend with a fraction of it


def repair(
    model: nn.Module,
    clean_images: Tensor,
    clean_labels: Tensor,
    *,
    triggered: tuple[Tensor, Tensor] | None = None,
    second_model: nn.Module | None = None,
    config: RepairConfig | None = None,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    checkpoints: Checkpoints | None = None,
) -> RepairResult:
    """Repair a suspect image classifier by mode connectivity (Zhao et al., ICLR 2020).

    Args:
        model: the suspect; (B, C, H, W) float -> logits (B, K). It is not changed.
        clean_images: (N, C, H, W) float, normalised as the model expects. clean_labels: (N,) int64 in 0..K-1.
        triggered: (images (M, C, H, W), target labels (M,)) if there are any: they measure, they never train.
        second_model: another model of the same architecture as the path's other end, tampered with or not; its channels
            are matched with the suspect's first. By default an end is made from the suspect.
        config: see :class:`RepairConfig`.
        on_progress: called with a :class:`Progress`. should_stop: asked after every step.
        checkpoints: of an earlier run with the same arguments, to go on where it stood, bit for bit on the same device.

    Raises:
        ValueError: what was given cannot be used; the message says why. RepairStopped: ``should_stop`` answered yes.
    """
    config = config or RepairConfig()
    monitor = Monitor(on_progress, should_stop)
    job = _Repair(model, clean_images, clean_labels, triggered, config, monitor, checkpoints or Checkpoints())
    found = job.scan()
    end = job.second_end(second_model)
    sweep, unaligned = job.fit(end, found)
    chosen = job.sweep_and_choose(sweep, unaligned, found)
    plane = job.plane(sweep, chosen)
    return job.result(sweep, end, found, chosen, plane)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chosen:
    """The choice, and the curves and proxies of the triggers that were followed."""

    choice: Choice
    curve: list[CurvePoint]
    unaligned_curve: list[CurvePoint] | None
    proxies: tuple[tuple[Trigger, ...], ...]


class _Repair:
    """The data of one repair on its device; every method is one stage."""

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        triggered: tuple[Tensor, Tensor] | None,
        config: RepairConfig,
        monitor: Monitor,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.monitor, self.checkpoints = config, monitor, checkpoints
        monitor.enter("validating")
        check_images(images, labels, "clean")
        self.device = choose_device(config.device)
        self.inversion = replace(config.inversion, mirror=config.mirror)
        self.suspect = working_copy(model, self.device)
        self.original = model
        split = split_clean(labels, held_out=config.held_out, seed=config.seed)
        self.images, self.labels = self._on_device(images), labels.to(self.device)
        self.split = split
        self.injected = config.tampering == "error_injection"
        self.warnings: list[str] = []
        self.choose_with, self.report_with = self._divide_triggered(triggered)
        self.classes, self.accuracy = self._check_model()
        self.choose_by: TriggeredSet | None = None  # views that injected errors show on
        self.report_by: TriggeredSet | None = None

    def _on_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, parameter_dtype(self.suspect), memory_format=torch.channels_last)

    def _divide_triggered(
        self, triggered: tuple[Tensor, Tensor] | None
    ) -> tuple[TriggeredSet | None, TriggeredSet | None]:
        """(for the curve, for the report): all for both, unless they choose t and are enough to be divided."""
        choosing = self.config.select_with_triggered
        if triggered is None:
            if choosing:
                raise ValueError("select_with_triggered needs triggered images")
            return None, None
        images, targets = triggered
        check_images(images, targets, "triggered")
        images, targets = self._on_device(images), targets.to(self.device)
        parts = divide_triggered(len(images), choosing=choosing, injected=self.injected)
        if choosing and parts[0] == parts[1]:
            self.warnings.append(
                f"All {len(images)} suspicious images chose t and are reported on: they are too few to divide. What is "
                "reported of them says little of images that were not given."
            )
        chooses, reports = (TriggeredSet(images=images[part], targets=targets[part]) for part in parts)
        return chooses, reports

    def _check_model(self) -> tuple[int, float]:
        """The number of classes, and the suspect's accuracy. Warns where it hardly knows the clean images."""
        classes = class_count(self.suspect, self.images, self.labels)
        accuracy = evaluate(self.suspect, self.images, self.labels).rate
        if accuracy < suspicion_threshold(classes):
            self.warnings.append(
                f"The suspect knows only {100 * accuracy:.1f} % of the clean images (chance is {100 / classes:.1f} %): "
                "check the normalisation, the channel order and the order of the classes."
            )
        return classes, accuracy

    @property
    def fit_set(self) -> tuple[Tensor, Tensor]:
        return self.images[self.split.fit], self.labels[self.split.fit]

    @property
    def selection_set(self) -> tuple[Tensor, Tensor]:
        return self.images[self.split.selection], self.labels[self.split.selection]

    def scan(self) -> Scan:
        """Invert a trigger for every class; injected errors have none."""
        self.monitor.enter("scanning", suspect_accuracy=self.accuracy)
        if self.injected:
            self.monitor.report(1.0)
            return Scan(patches=(), indices=(), suspicions=(), settings=self.inversion)
        return scan(
            self.suspect,
            self.fit_set,
            self.selection_set,
            classes=self.classes,
            settings=self.inversion,
            seed=self.config.seed,
            checkpoints=self.checkpoints,
            on_progress=self.monitor.report,
        )

    def second_end(self, second_model: nn.Module | None) -> Endpoint:
        """The path's other end: what was given, or made from the suspect itself."""
        self.monitor.enter("preparing_ends")
        return second_end(
            self.suspect,
            kind=self.config.ends,
            example_input=self.images[:2],
            seed=self.config.seed,
            fine_tune=self._fine_tune,
            given=second_model,
        )

    def _fine_tune(self, module: nn.Module) -> None:
        settings = self._fit_settings()
        settings = replace(settings, rate=settings.rate / FINE_TUNING_DIVISOR)
        fine_tune(
            module,
            self._lessons(settings, [self.suspect], name="fine-tuning-lessons"),
            settings,
            self.config.seed,
            on_step=lambda done, loss: self.monitor.on_step(done, settings.steps, loss),
            checkpoints=self.checkpoints,
        )

    def _fit_settings(self) -> FitSettings:
        images = len(self.split.fit)
        return FitSettings(
            steps=self.config.steps or steps_for(images),
            batch_size=BATCH_SIZE,
            rate=self.config.rate or rate_for(images),
            augmentation=Augmentation(mirror=self.config.mirror),
        )

    def _lessons(
        self, settings: FitSettings, teachers: Sequence[nn.Module], unlearned: Sequence[Trigger] = (), *, name: str
    ) -> TrainingSet:
        return training_set(
            teachers,
            *self.fit_set,
            classes=self.classes,
            settings=settings,
            seed=self.config.seed,
            teacher_share=INJECTED_TEACHER_SHARE if self.injected else TEACHER_SHARE,
            stamps=tuple(trigger.stamp for trigger in unlearned if trigger.kind != "wave"),
            waves=tuple(trigger.stamp for trigger in unlearned if trigger.kind == "wave"),
            on_taught=lambda done: self.monitor.report(0.0, views=float(done)),
            checkpoints=self.checkpoints,
            name=name,
        )

    def fit(self, end: Endpoint, found: Scan) -> tuple[Sweep, Sweep | None]:
        """Train the bends; what comes back measures the path, and the one to a given end as it was before aligning."""
        self.monitor.enter("fitting_path")
        settings = self._fit_settings()
        teachers = [self.suspect]
        if end.kind == "given":
            teachers.append(_with_state(self.suspect, end.state_dict))
        lessons = self._lessons(settings, teachers, found.unlearned, name="lessons")
        ends: dict[PathName, Mapping[str, Tensor]] = {"main": end.state_dict}
        if end.as_given is not None:
            ends["unaligned"] = end.as_given
        sweeps: dict[PathName, Sweep] = {}
        for name, state in ends.items():
            work = copy.deepcopy(self.suspect)
            flat = FlatParameters(work)
            path = ModePath.between(
                flat,
                self.suspect.state_dict(),
                state,
                kind=self.config.curve,
                bends=self.config.bends,
                start="line" if end.kind == "given" else "first",
            )
            fit = PathFit(work, flat, path, lessons, settings, self.config.seed)
            self._fit_path(fit, f"fit-{name}", len(sweeps), len(ends))
            probe = self._probe(found)
            sweeps[name] = Sweep(work, flat, path, self._calibration(), probe, name=name, checkpoints=self.checkpoints)
        if self.injected:
            self._look_for_disputes(sweeps)
        return sweeps["main"], sweeps.get("unaligned")

    def _look_for_disputes(self, sweeps: Mapping[PathName, Sweep]) -> None:
        """Let every path be followed by the views on which the suspect and the middle of the main path disagree."""
        witness = module_at(sweeps["main"], WITNESS_T, self.suspect)
        self.choose_by = self._disputed(witness, self.selection_set)
        self.report_by = self._disputed(witness, (self.images[self.split.report], self.labels[self.split.report]))
        for sweep in sweeps.values():
            sweep.probe = replace(sweep.probe, disputed=self.choose_by)
        if self.choose_by is None and not self.config.select_with_triggered:
            self.warnings.append(
                f"The suspect and the middle of the path disagree on fewer than {FEWEST} views of the clean images, so "
                "t was chosen by accuracy and depth alone. Suspicious images would help, if there are any."
            )

    def _disputed(self, witness: nn.Module, part: tuple[Tensor, Tensor]) -> TriggeredSet | None:
        return disputed_views(self.suspect, witness, *part, mirror=self.config.mirror, seed=self.config.seed)

    def _fit_path(self, fit: PathFit, name: str, fits_before: int, fits: int) -> None:
        """Run one of the stage's fits to its end."""
        steps = fit.settings.steps
        fit.run(
            on_step=lambda done, loss: self.monitor.on_step(fits_before * steps + done, fits * steps, loss),
            checkpoints=self.checkpoints,
            name=name,
        )

    def _calibration(self) -> Calibration:
        return Calibration(self.suspect, self.fit_set[0], mirror=self.config.mirror, seed=self.config.seed)

    def _probe(self, found: Scan) -> Probe:
        images, labels = self.selection_set
        return Probe(
            images=images,
            labels=labels,
            triggered=self.choose_with,
            proxies=found.proxies,
            most_stamped=STAMPED_IMAGES,
        )

    def sweep_and_choose(self, sweep: Sweep, unaligned: Sweep | None, found: Scan) -> _Chosen:
        """Measure the whole path coarsely, then near the choice, and choose again; the unaligned path coarsely only."""
        self.monitor.enter("sweeping")
        suspect = evaluate(self.suspect, *self.selection_set)
        parts = 2 if unaligned is None else 3
        self._measure(sweep, list(COARSE_GRID), refined=False, parts=(0, parts))
        first = self._choose(sweep, found, suspect)
        self._measure(sweep, sweep.refined_grid(first.choice.t), refined=True, parts=(1, parts))
        if unaligned is not None:
            self._measure(unaligned, list(COARSE_GRID), refined=False, parts=(2, parts))
        self.monitor.enter("selecting")
        return self._choose(sweep, found, suspect, unaligned)

    def _measure(self, sweep: Sweep, grid: list[float], *, refined: bool, parts: tuple[int, int]) -> None:
        """Measure all of ``grid``; ``parts`` of the stage: how many were done before, of how many."""
        for i, t in enumerate(grid):
            point = sweep.measure(t, refined=refined).point
            share = (parts[0] + (i + 1) / len(grid)) / parts[1]
            self.monitor.report(share, point=point, t=t, clean_accuracy=point.clean_accuracy)

    def _choose(self, sweep: Sweep, found: Scan, suspect: Evaluation, unaligned: Sweep | None = None) -> _Chosen:
        criteria = self.config.criteria
        by: AttackFigure = "disputed" if self.injected else "proxy"
        if self.config.select_with_triggered:
            by = "measured"
        measured = sweep.in_order()
        followed = self._followed(measured, found, suspect, by)
        measured = [m.following(followed) for m in measured]
        choice = choose(weigh(measured, suspect, by=by), criteria, by=by)
        return _Chosen(
            choice=choice,
            curve=[m.point for m in measured],
            unaligned_curve=[m.following(followed).point for m in unaligned.in_order()] if unaligned else None,
            proxies=() if self.injected else tuple(found.proxies[i] for i in followed),
        )

    def _followed(
        self, measured: list[Measurement], found: Scan, suspect: Evaluation, by: AttackFigure
    ) -> tuple[int, ...]:
        """Which of the measured stand-ins count: disputed views, if there are any, or triggers that the path clears."""
        if self.injected:
            return () if self.choose_by is None else (0,)
        criteria = self.config.criteria
        affordable = [
            m
            for m, point in zip(measured, weigh(measured, suspect, by=by), strict=True)
            if point.t <= CLEARED_BY and point.drop <= criteria.max_accuracy_drop
        ]
        cleared = [
            any(m.proxies[i] <= max(criteria.max_attack_success_rate, lenience(m)) for m in affordable)
            for i in range(len(found.proxies))
        ]
        return found.followed(cleared)

    def plane(self, sweep: Sweep, chosen: _Chosen) -> LossPlane | None:
        """What the plane of the path looks like, where that was asked for."""
        if not self.config.plane:
            return None
        plane = measure_plane(
            sweep,
            points=self.config.plane,
            chosen_t=chosen.choice.t,
            proxies=chosen.proxies,
            on_point=self.monitor.report,
        )
        if plane is None:
            self.warnings.append("There is no loss plane: the bend lies on the straight line between the ends.")
        return plane

    def result(
        self, sweep: Sweep, end: Endpoint, found: Scan, chosen: _Chosen, plane: LossPlane | None
    ) -> RepairResult:
        """Build the repaired model and measure it, and the suspect, on images that nothing has seen yet."""
        choice = chosen.choice
        repaired = module_at(sweep, choice.t, self.suspect)
        report = self.split.report
        probe = Probe(
            images=self.images[report],
            labels=self.labels[report],
            triggered=self.report_with,
            proxies=chosen.proxies,
            disputed=self.report_by,
        )
        before = probe.measure(self.suspect, 0.0, exact=True)
        after = probe.measure(repaired, choice.t, exact=True)
        targets = findings(
            found,
            self.suspect,
            repaired,
            self.fit_set,
            probe,
            seed=self.config.seed,
            checkpoints=self.checkpoints,
        )
        self.monitor.report(1.0)
        self.monitor.close()
        return RepairResult(
            model=like(self.original, repaired),
            t=choice.t,
            reason=choice.reason,
            criteria_met=meets(
                Figures.of(before.point), Figures.of(after.point), self.config.criteria, stand_ins=not self.injected
            ),
            curve=chosen.curve,
            before=Figures.of(before.point),
            after=Figures.of(after.point),
            per_class=(
                per_class_accuracy(before.clean, probe.labels, self.classes),
                per_class_accuracy(after.clean, probe.labels, self.classes),
            ),
            class_images=torch.bincount(probe.labels, minlength=self.classes).tolist(),
            confusions=(confusions(before.clean, probe.labels), confusions(after.clean, probe.labels)),
            report_images=len(report),
            targets=targets,
            warnings=self.warnings,
            second_end=end.description,
            path=sweep.path,
            seconds=self.monitor.seconds,
            alignment=end.alignment,
            unaligned_curve=chosen.unaligned_curve,
            plane=plane,
        )


def _with_state(module: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``module`` with other weights and buffers, in eval mode."""
    other = copy.deepcopy(module)
    other.load_state_dict(dict(state_dict))
    return other.eval()


def module_at(sweep: Sweep, t: float, suspect: nn.Module) -> nn.Module:
    """The path's model at ``t`` as a module like ``suspect``, its BatchNorm statistics taken in full precision."""
    repaired = copy.deepcopy(suspect)
    repaired.load_state_dict({**repaired.state_dict(), **sweep.path.state_at(t)})
    sweep.calibration.apply(repaired, sweep.path.coefficients(t)[0], exact=True)
    return repaired


def like(original: nn.Module, module: nn.Module) -> nn.Module:
    """``module``'s weights and buffers in a copy of ``original``, in eval mode: same class, device and dtypes."""
    answer = copy.deepcopy(original)
    answer.load_state_dict(module.state_dict())
    return answer.eval()


def meets(before: Figures, after: Figures, criteria: Criteria, *, stand_ins: bool) -> bool:
    """Whether the reported figures meet the criteria; an attack that nobody could measure counts as met.

    stand_ins: whether inverted triggers measure it. Disputed views do not: many are a suspect's ordinary mistakes.
    """
    attack = after.attack if stand_ins else after.attack_success_rate
    drop = before.clean_accuracy - after.clean_accuracy
    return drop <= criteria.max_accuracy_drop and (attack is None or attack <= criteria.max_attack_success_rate)


def steps_for(images: int) -> int:
    """Batches of a fit to ``images``: few images want few steps."""
    return round(_between(FEW_STEPS, MANY_STEPS, images))


def rate_for(images: int) -> float:
    """SGD's step size for the bends: few images hold the clean function less still."""
    return _between(LOW_RATE, HIGH_RATE, images)


def _between(few: float, many: float, images: int) -> float:
    """From ``few`` at FEW_IMAGES to ``many`` at MANY_IMAGES, by the logarithm of their number."""
    share = math.log(max(images, FEW_IMAGES) / FEW_IMAGES) / math.log(MANY_IMAGES / FEW_IMAGES)
    return few + (many - few) * min(share, 1.0)
