"""What a repair is asked to do and what it answers: typed settings, progress, figures and the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from modeconn_core.analysis_result import AnalysisPoint
from modeconn_core.curve import CurveKind, ModePath
from modeconn_core.device import DeviceChoice
from modeconn_core.fooled import FooledImages
from modeconn_core.inversion import InversionSettings
from modeconn_core.metrics import Confusions, Interval
from modeconn_core.plane import LossPlane
from modeconn_core.selection import Criteria
from modeconn_core.sweep import CurvePoint
from modeconn_core.triggers import TriggerKind

EndKind = Literal["permuted", "fine_tuned"]
Tampering = Literal["backdoor", "error_injection"]
Stage = Literal[
    "validating",
    "scanning",
    "preparing_ends",
    "fitting_path",
    "fitting_robust_path",
    "sweeping",
    "selecting",
    "exporting",
]

# share of a repair that each stage takes, mean of the cells in bench/results; only the progress bar depends on it
STAGE_SHARES: dict[Stage, float] = {
    "validating": 0.01,
    "scanning": 0.24,
    "preparing_ends": 0.01,
    "fitting_path": 0.51,
    "sweeping": 0.17,
    "selecting": 0.06,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairConfig:
    """How a repair is carried out.

    seed: every random draw follows from it. ends: how the second end is made from one suspect. curve, bends: the path.
    steps: batches of the fit; rate: SGD's step size for the bends; None lets the number of images decide. mirror:
    whether classes are mirror-invariant. held_out: share of the clean images kept from the fit; two in five of them
    choose t, the others are reported on. select_with_triggered: choose t by the measured attack success of half of the
    triggered images; the other half is reported on. tampering: what the suspect may have suffered; for injected errors
    no trigger is looked for: t is chosen by accuracy and by views that are disputed between suspect and path, and fewer
    than twenty triggered images are not halved. plane: points along each
    side of the loss plane, 0 for none.
    """

    seed: int = 0
    ends: EndKind = "permuted"
    curve: CurveKind = "bezier"
    bends: int = 1
    steps: int | None = None
    rate: float | None = None
    mirror: bool = True
    held_out: float = 0.4
    max_accuracy_drop: float = 0.025
    max_attack_success_rate: float = 0.05
    select_with_triggered: bool = False
    tampering: Tampering = "backdoor"
    plane: int = 0
    device: DeviceChoice = "auto"
    inversion: InversionSettings = field(default_factory=InversionSettings)

    def __post_init__(self) -> None:
        if self.ends not in ("permuted", "fine_tuned"):
            raise ValueError(f"ends must be 'permuted' or 'fine_tuned', not {self.ends!r}")
        if self.curve not in ("bezier", "chain"):
            raise ValueError(f"curve must be 'bezier' or 'chain', not {self.curve!r}")
        if self.bends < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError("bends and steps must be at least 1")
        if self.rate is not None and self.rate <= 0:
            raise ValueError("rate must be positive")
        if not 0 < self.held_out < 1:
            raise ValueError("held_out must lie between 0 and 1")
        if self.tampering not in ("backdoor", "error_injection"):
            raise ValueError(f"tampering must be 'backdoor' or 'error_injection', not {self.tampering!r}")
        if self.plane and self.plane < 3:
            raise ValueError("a loss plane needs at least 3 points along each side; 0 leaves it out")
        _ = self.criteria

    @property
    def criteria(self) -> Criteria:
        return Criteria(max_accuracy_drop=self.max_accuracy_drop, max_attack_success_rate=self.max_attack_success_rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What ``on_progress`` receives: the stage, the share of it and of everything done (0..1), numbers, a new point."""

    stage: Stage
    stage_fraction: float
    fraction: float
    numbers: dict[str, float]
    point: CurvePoint | AnalysisPoint | None = None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """A model in numbers, on images that neither the fit nor the choice saw; rates and 95 % intervals in 0..1.

    clean_confidence: the largest softmax probability on clean images, on average.
    """

    clean_accuracy: float
    clean_accuracy_interval: Interval
    attack_success_rate: float | None
    attack_success_rate_interval: Interval | None
    proxy_success_rate: float | None
    clean_confidence: float

    @classmethod
    def of(cls, point: CurvePoint) -> Figures:
        return cls(
            clean_accuracy=point.clean_accuracy,
            clean_accuracy_interval=point.clean_accuracy_interval,
            attack_success_rate=point.attack_success_rate,
            attack_success_rate_interval=point.attack_success_rate_interval,
            proxy_success_rate=point.proxy_success_rate,
            clean_confidence=point.clean_confidence,
        )

    @property
    def attack(self) -> float | None:
        """The measured attack success rate where there is one, else the inverted triggers'."""
        return self.proxy_success_rate if self.attack_success_rate is None else self.attack_success_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerFinding:
    """One class's inverted trigger on the suspect; target_class None is an all-to-all attack, class k to k + 1.

    flagged: anomalous on the suspect, and collapsed on the repaired model: for a patch no other nearly as small is to
    be found there (``size_after`` pixels against ``size``), a wave or warp hardly works. pattern (C, H, W) in
    normalised units and mask (1, H, W) in [0, 1] are on the CPU; of a wave or warp they are an image that has it.
    fooled: of the reported images, for suspected classes and the most anomalous; None where it fools none of them.
    """

    kind: TriggerKind
    target_class: int | None
    anomaly_index: float
    success_rate: float
    success_rate_after: float
    size: float | None
    size_after: float | None
    flagged: bool
    pattern: Tensor
    mask: Tensor
    fooled: FooledImages | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairResult:
    """A repaired model and the evidence.

    ``model`` is a plain module of the suspect's class, in eval mode, on the suspect's device. alignment: what was done
    to the channels of a given second model, in words; unaligned_curve: the path fitted without that, to compare with.
    Both are None where no second model was given, and the curve where nothing was moved. per_class: accuracy before
    and after, of ``class_images`` reported images; confusions: the same of what was taken for what.
    """

    model: nn.Module
    t: float
    reason: str
    criteria_met: bool
    curve: list[CurvePoint]
    before: Figures
    after: Figures
    per_class: tuple[list[float | None], list[float | None]]
    class_images: list[int]
    confusions: tuple[Confusions, Confusions]
    report_images: int
    targets: list[TriggerFinding]
    warnings: list[str]
    second_end: str
    path: ModePath
    seconds: dict[str, float]
    alignment: str | None = None
    unaligned_curve: list[CurvePoint] | None = None
    plane: LossPlane | None = None
