"""What an analysis of the path between two models is asked to do and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from modeconn_core.curve import CurveKind, ModePath
from modeconn_core.device import DeviceChoice
from modeconn_core.hessian import EigenSettings
from modeconn_core.metrics import Interval
from modeconn_core.robustness import PgdSettings

PathKind = Literal["standard", "robust"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisConfig:
    """How two models are connected and what is measured on the way.

    seed: every random draw follows from it. curve, bends: the paths. steps: batches of each fit, rate: SGD's step size
    for the bends; None lets the number of images decide. mirror: whether classes are mirror-invariant. align: whether
    the second model's channels are first matched with the first one's. held_out: share of the clean images that no
    path is trained on, and that everything is measured on. points: values of t, evenly spread from 0 to 1. robust_path:
    whether a path is also trained on PGD examples. pgd: the attack, in training and measuring. eigenvalues: how the
    largest eigenvalue of the input Hessian is found, None to leave it out. max_images: of the held-out images that are
    attacked at each point; the Hessian takes its own share of these.
    """

    seed: int = 0
    curve: CurveKind = "bezier"
    bends: int = 1
    steps: int | None = None
    rate: float | None = None
    mirror: bool = True
    align: bool = True
    held_out: float = 0.4
    points: int = 31
    robust_path: bool = True
    pgd: PgdSettings = field(default_factory=PgdSettings)
    eigenvalues: EigenSettings | None = field(default_factory=EigenSettings)
    max_images: int = 500
    device: DeviceChoice = "auto"

    def __post_init__(self) -> None:
        if self.curve not in ("bezier", "chain"):
            raise ValueError(f"curve must be 'bezier' or 'chain', not {self.curve!r}")
        if self.bends < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError("bends and steps must be at least 1")
        if self.rate is not None and self.rate <= 0:
            raise ValueError("rate must be positive")
        if not 0 < self.held_out < 1:
            raise ValueError("held_out must lie between 0 and 1")
        if self.points < 3:
            raise ValueError("points must be at least 3: the two ends and something between them")
        if self.max_images < 2:
            raise ValueError("max_images must be at least 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisPoint:
    """One path at ``t``, measured on held-out images; errors are shares in 0..1, intervals are 95 %.

    clean_loss, robust_loss: mean cross-entropy in nats on the images as they are, and under PGD. robust_error counts
    an image that is wrong under PGD. eigenvalue: mean over the images of the largest eigenvalue of the Hessian of the
    loss with respect to the image in [0, 1] units, its interval, and the share of images whose iteration converged;
    None where it was not asked for.
    """

    path: PathKind
    t: float
    clean_loss: float
    clean_error: float
    clean_error_interval: Interval
    robust_loss: float
    robust_loss_interval: Interval
    robust_error: float
    robust_error_interval: Interval
    eigenvalue: float | None
    eigenvalue_interval: Interval | None
    eigenvalue_converged: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Barrier:
    """How far a loss inside the path rises above the straight line between its values at the ends.

    height: in nats, the largest excess over all t (0 where there is none), reached at ``t``; interval: 95 %, by
    bootstrap over the images.
    """

    height: float
    interval: Interval
    t: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Between the mean largest eigenvalue and the robustness loss, over the points of one path.

    Intervals are 95 % (Fisher's z for Pearson, Bonett and Wright's for Spearman). They treat the points as independent,
    which neighbours on a path are not, so they are too narrow.
    """

    pearson: float
    pearson_interval: Interval
    spearman: float
    spearman_interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class PathFigures:
    """One path in numbers. correlation: None where no eigenvalues were asked for or one side does not vary."""

    path: PathKind
    points: list[AnalysisPoint]
    clean_barrier: Barrier
    robust_barrier: Barrier
    correlation: Correlation | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisResult:
    """The paths between two models and what was measured on them.

    alignment: what was done to the second model's channels, in words. fit_images, report_images: how many images the
    paths were trained on, and measured on. weights: the fitted paths by kind. seconds: by stage.
    """

    paths: list[PathFigures]
    alignment: str
    fit_images: int
    report_images: int
    warnings: list[str]
    weights: dict[PathKind, ModePath]
    seconds: dict[str, float]
