"""What a report is made of: the facts that the worker hands over after a repair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modeconn_core import LossPlane, Tampering
from worker.plot_style import Interval
from worker.plots import CurvePointLike


class FiguresLike(Protocol):
    """The figures of one model; `modeconn_core.Figures` offers them. Fractions in 0..1."""

    @property
    def clean_accuracy(self) -> float: ...
    @property
    def clean_accuracy_interval(self) -> Interval: ...
    @property
    def attack_success_rate(self) -> float | None: ...
    @property
    def attack_success_rate_interval(self) -> Interval | None: ...
    @property
    def proxy_success_rate(self) -> float | None: ...
    @property
    def clean_confidence(self) -> float: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file that went in or came out."""

    role: str  # "suspect" | "clean" | "triggered" | "second_model" | "repaired" | "regular" | "robust"
    name: str  # as the user called it; hostile text is fine
    sha256: str
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FooledImage:
    """An image that the suspect gets right, and wrong with an inverted trigger; the classes by their names."""

    image: NDArray[np.floating]  # (C, H, W), C = 1 or 3, RGB, in [0, 1]
    stamped: NDArray[np.floating]  # the same with the trigger
    label: str
    taken_for: str  # by the suspect, with the trigger
    repaired_says: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InvertedTrigger:
    """One class's inverted trigger, as the suspect showed it; without a target class every class has its own."""

    kind: str  # patch, wave or warp
    target_class: int | None
    class_name: str
    anomaly_index: float
    success_rate: float  # on the suspect, 0..1
    flagged: bool
    pattern: NDArray[np.floating]  # (C, H, W), C = 1 or 3, RGB, in [0, 1]: NOT normalised
    mask: NDArray[np.floating]  # (1, H, W) in [0, 1]
    success_rate_after: float | None = None  # the same trigger on the repaired model, where it was measured
    fooled: Sequence[FooledImage] = ()

    @property
    def picture(self) -> str:
        return f"trigger-{self._target}.png"

    @property
    def fooled_picture(self) -> str | None:
        """Of the images that it fools; None without any."""
        return f"fooled-{self._target}.png" if self.fooled else None

    @property
    def _target(self) -> str:
        return "all" if self.target_class is None else str(self.target_class)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAccuracy:
    """Clean accuracy of one class, before and after, 0..1."""

    index: int
    name: str
    before: float
    after: float
    images: int | None = None  # how many images of the class were measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Images of one class that were taken for another, before and after; classes by their names."""

    label: str
    taken_for: str
    before: int
    after: int

    @property
    def change(self) -> int:
        return self.after - self.before


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFacts:
    """Everything a report says. Fractions in 0..1, times in seconds; strings may come from users and are escaped."""

    job_id: str
    architecture: str  # in words: "preact_resnet18 (width=16)"
    settings: Mapping[str, Any]  # the request as it was carried out, JSON values
    files: Sequence[InputFile]
    before: FiguresLike
    after: FiguresLike
    curve: Sequence[CurvePointLike]  # both paths' points, where a second model was aligned
    chosen_t: float
    reason: str  # RepairResult.reason
    max_accuracy_drop: float
    max_attack_success_rate: float
    criteria_met: bool
    triggers: Sequence[InvertedTrigger]
    per_class: Sequence[ClassAccuracy]
    confusions: Sequence[Confusion]
    warnings: Sequence[str]
    seconds: Mapping[str, float]  # stage -> seconds
    versions: Mapping[str, str]  # "modeconn", "torch", "python", ... -> version
    device: str
    assumptions: Sequence[str]  # one sentence each
    not_tested: Sequence[str]  # one sentence each
    tampering: Tampering = "backdoor"
    alignment: str | None = None  # what was done to a given second model
    plane: LossPlane | None = None
    evaluated_on: str = ""  # "500 clean images that ..., and on the 300 triggered images"; follows "Measured on"
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))
