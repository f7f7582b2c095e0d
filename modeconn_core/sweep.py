"""The curve: accuracy and attack success at values of t, coarse over the whole path, then refined near the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from modeconn_core.batchnorm import Calibration
from modeconn_core.checkpoints import Checkpoints, State
from modeconn_core.curve import FlatParameters, ModePath
from modeconn_core.metrics import Evaluation, Interval, evaluate
from modeconn_core.triggers import Trigger

COARSE_GRID = tuple(round(0.1 * i, 3) for i in range(11))
PathName = Literal["main", "unaligned"]
REFINED_STEP = 0.01
REFINED_REACH = 0.11  # with the coarse grid 31 values, as many as the paper's
SWEEP_IMAGES = 500  # for BatchNorm at a point of the curve; the model that is handed out gets all of them


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """The path at ``t``; rates and intervals (95 %, Wilson) lie in 0..1.

    attack_success_rate: on the user's triggered images, None without any.
    proxy_success_rate: the most successful of the inverted triggers that the fit has not seen, None where the scan
    found no candidate; for injected errors the share of disputed views that are still answered as the suspect does.
    clean_confidence: the largest softmax probability on clean images, on average.
    path: "unaligned" is the path to a given second model whose channels were left as they are.
    """

    t: float
    clean_accuracy: float
    clean_accuracy_interval: Interval
    attack_success_rate: float | None
    attack_success_rate_interval: Interval | None
    proxy_success_rate: float | None
    clean_loss: float
    clean_confidence: float
    refined: bool
    path: PathName = "main"


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggeredSet:
    """Triggered images (M, C, H, W) and the labels that the attacker wants for them (M,)."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A curve point with the answers behind it: which selection images were right, and the success of each followed
    class's best proxy (or of the disputed views)."""

    point: CurvePoint
    clean: Evaluation
    proxies: tuple[float, ...]

    @property
    def t(self) -> float:
        return self.point.t

    def to_state(self) -> State:
        """What a checkpoint keeps of it."""
        clean = {name: getattr(self.clean, name) for name in ("correct", "loss", "predictions", "confidence")}
        return {"point": asdict(self.point), "clean": clean, "proxies": self.proxies}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> Measurement:
        """The way back."""
        clean = state["clean"]
        evaluation = Evaluation(
            correct=clean["correct"].to(device),
            loss=clean["loss"],
            predictions=clean["predictions"].to(device),
            confidence=clean["confidence"],
        )
        return cls(point=CurvePoint(**state["point"]), clean=evaluation, proxies=tuple(state["proxies"]))

    def following(self, positions: Sequence[int]) -> Measurement:
        """The same measurement, with the proxies at ``positions`` only."""
        proxies = tuple(self.proxies[i] for i in positions)
        point = replace(self.point, proxy_success_rate=max(proxies, default=None))
        return replace(self, point=point, proxies=proxies)


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What is measured on a model.

    Clean images with labels, the user's triggered images, and for each
    candidate class the triggers that stand in for an unknown one, on at most ``most_stamped`` images each.
    disputed: views with the suspect's answers, which stand in for injected errors; a probe has these or triggers.
    """

    images: Tensor
    labels: Tensor
    triggered: TriggeredSet | None
    proxies: Sequence[Sequence[Trigger]]
    most_stamped: int | None = None
    disputed: TriggeredSet | None = None

    def measure(self, module: nn.Module, t: float, *, refined: bool = False, exact: bool = False) -> Measurement:
        """Evaluate ``module`` (in eval mode) as the point ``t`` of a curve."""
        clean = evaluate(module, self.images, self.labels, exact=exact)
        attack = None
        if self.triggered is not None:
            attack = evaluate(module, self.triggered.images, self.triggered.targets, exact=exact)
        proxies = tuple(max(self.proxy_success(module, trigger) for trigger in group) for group in self.proxies)
        if self.disputed is not None:
            proxies = (evaluate(module, self.disputed.images, self.disputed.targets, exact=exact).rate,)
        point = CurvePoint(
            t=t,
            clean_accuracy=clean.rate,
            clean_accuracy_interval=clean.interval,
            attack_success_rate=attack.rate if attack else None,
            attack_success_rate_interval=attack.interval if attack else None,
            proxy_success_rate=max(proxies, default=None),
            clean_loss=clean.loss,
            clean_confidence=clean.confidence,
            refined=refined,
        )
        return Measurement(point=point, clean=clean, proxies=proxies)

    def proxy_success(self, module: nn.Module, proxy: Trigger) -> float:
        """Attack success rate of an inverted trigger on the probe's images of other classes."""
        others = (proxy.wanted[self.labels] != self.labels).nonzero().squeeze(1)
        if len(others) == 0:
            return 0.0
        if self.most_stamped is not None:
            others = others[:: max(1, len(others) // self.most_stamped)]
        return evaluate(module, proxy.stamp(self.images[others]), proxy.wanted[self.labels[others]]).rate


class Sweep:
    """Measures points of a fitted path, each with its own BatchNorm statistics.

    Memory does not grow with the points.
    """

    def __init__(
        self,
        module: nn.Module,
        flat: FlatParameters,
        path: ModePath,
        calibration: Calibration,
        probe: Probe,
        *,
        name: PathName = "main",
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.module, self.flat, self.path, self.name = module, flat, path, name
        self.checkpoints = checkpoints or Checkpoints()
        self.calibration, self.probe = calibration, probe
        self.measurements: dict[float, Measurement] = {}

    def measure(self, t: float, *, refined: bool) -> Measurement:
        """The point ``t``: one BatchNorm pass and one evaluation."""
        state = self.checkpoints.part(f"{self.name}-{t!r}", lambda: self._measured(t, refined=refined).to_state())
        self.measurements[t] = Measurement.from_state(state, self.flat.vector.device)
        return self.measurements[t]

    def _measured(self, t: float, *, refined: bool) -> Measurement:
        coefficients = self.path.write(t, self.flat.vector)
        self.calibration.apply(self.module, coefficients[0], most=SWEEP_IMAGES)
        measurement = self.probe.measure(self.module, t, refined=refined)
        return replace(measurement, point=replace(measurement.point, path=self.name))

    def in_order(self) -> list[Measurement]:
        return [self.measurements[t] for t in sorted(self.measurements)]

    def refined_grid(self, centre: float) -> list[float]:
        """Values of t around ``centre`` that have not been measured."""
        count = round(REFINED_REACH / REFINED_STEP)
        around = [round(centre + i * REFINED_STEP, 3) for i in range(-count, count + 1)]
        return [t for t in around if 0.0 < t < 1.0 and t not in self.measurements]
