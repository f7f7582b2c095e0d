"""The service's JSON as typed, frozen values. Fractions are in 0..1; members that a newer service adds are kept."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


class Answer(BaseModel):
    """Base of what the service sends."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Statement(BaseModel):
    """Base of what the user states; a wrong word is an error here, before anything is uploaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(Statement):
    """How images become the model's input: scaled to [0, 1], resized to `size` (H, W), then (x - mean) / std.

    `mean` and `std` have one value per channel; None stands for 0 and 1.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    channels: Literal["RGB", "BGR"] = "RGB"


class Criteria(Statement):
    """What counts as repaired: fractions in 0..1."""

    max_accuracy_drop: float = 0.025
    max_attack_success_rate: float = 0.05


class Method(Statement):
    """How the path is fitted; the defaults suit most models. `plane`: points per side of the loss plane, 0 for none."""

    curve: Literal["bezier", "chain"] = "bezier"
    bends: int = 1
    ends: Literal["permuted", "fine_tuned"] = "permuted"
    steps: int | None = None
    mirror: bool = True
    plane: int = 0
    seed: int = 0


class Architecture(Statement):
    """An architecture by name, with its options, e.g. `width`."""

    name: str
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)


class JobSettings(Statement):
    """What a job of any kind is told besides its files. `classes` are the names in the model's index order.

    Defaults: the architecture is recognised, the classes are the sorted folder names, images are only scaled to [0, 1].
    """

    architecture: str | Architecture | None = None
    preprocessing: Preprocessing = Preprocessing()
    classes: tuple[str, ...] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    deadline_seconds: int | None = None


class RepairSettings(JobSettings):
    """What a repair is told. `tampering`: what the suspect may have suffered."""

    accept_low_accuracy: bool = False
    tampering: Literal["backdoor", "error_injection"] = "backdoor"
    select_with_triggered: bool = False
    criteria: Criteria = Criteria()
    method: Method = Method()


class AnalysisMethod(Statement):
    """How the paths are fitted and where they are measured: `points` values of t, at most `max_images` images each."""

    curve: Literal["bezier", "chain"] = "bezier"
    bends: int = 1
    steps: int | None = None
    mirror: bool = True
    seed: int = 0
    align: bool = True
    points: int = 31
    robust_path: bool = True
    max_images: int = 500


class Pgd(Statement):
    """The attack, in units of images in [0, 1]."""

    epsilon: float = 8 / 255
    steps: int = 10
    step_size: float = 2 / 255
    random_start: bool = True
    norm: Literal["linf", "l2"] = "linf"


class Eigenvalues(Statement):
    """How the largest eigenvalue of the input Hessian is found."""

    iterations: int = 20
    tolerance: float = 1e-3
    images: int = 100


class AnalysisSettings(JobSettings):
    """What an analysis is told. `eigenvalues`: None leaves them out."""

    accept_low_accuracy: bool = False
    method: AnalysisMethod = AnalysisMethod()
    pgd: Pgd = Pgd()
    eigenvalues: Eigenvalues | None = Eigenvalues()


class StoredFile(Answer):
    """An uploaded file; `facts` are what the intake read from it."""

    id: str
    kind: Literal["model", "clean", "triggered"]
    name: str
    bytes: int
    sha256: str
    facts: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime | None = None
    expires_at: datetime | None = None


class Figures(Answer):
    """What was measured of one model, on images that neither the fit nor the choice saw."""

    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float] | None = None
    attack_success_rate: float | None = None
    attack_success_rate_interval: tuple[float, float] | None = None
    proxy_success_rate: float | None = None
    clean_confidence: float | None = None


class Artifact(Answer):
    """A file that a job made."""

    name: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"


class JobResult(Answer):
    """What every finished job has."""

    warnings: list[Any] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    artifacts: list[Artifact] = Field(default_factory=list)

    def artifact(self, name: str) -> Artifact | None:
        """The entry of that name, or None."""
        return next((artifact for artifact in self.artifacts if artifact.name == name), None)


class Result(JobResult):
    """How a repair came out: the chosen point `t`, why, and the figures before and after."""

    t: float
    reason: str
    criteria_met: bool
    before: Figures
    after: Figures
    targets: list[dict[str, Any]] = Field(default_factory=list)
    alignment: str | None = None
    plane: dict[str, Any] | None = None


class Barrier(Answer):
    """How far a loss rises above the line between the ends, in nats, and where; the interval is 95 %."""

    height: float
    interval: tuple[float, float]
    t: float


class Correlation(Answer):
    """Of the largest eigenvalue of the input Hessian with the robustness loss."""

    pearson: float
    pearson_interval: tuple[float, float]
    spearman: float
    spearman_interval: tuple[float, float]


class PathFigures(Answer):
    """One path of an analysis."""

    path: Literal["standard", "robust"]
    clean_barrier: Barrier
    robust_barrier: Barrier
    correlation: Correlation | None = None


class AnalysisResult(JobResult):
    """How an analysis came out."""

    paths: list[PathFigures]
    alignment: str
    fit_images: int
    report_images: int


class Suggestion(Answer):
    """Another statement under which the model scores better (`accuracy` in 0..1, on images it was not found on).

    `value` holds `mean`, `std` and `channels`, which belong into `Preprocessing`, and `classes` in their order.
    """

    kind: Literal["normalisation", "class_order", "channel_order"]
    description: str
    accuracy: float
    value: dict[str, Any]


class DiagnosisResult(JobResult):
    """How a model does on `images` clean images, evenly over the classes; `suspicious`: worse than `least_expected`."""

    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    confidence: float
    chance: float
    least_expected: float
    suspicious: bool
    outputs_are_probabilities: bool
    suggestions: list[Suggestion] = Field(default_factory=list)


class Progress(Answer):
    """Where a running job is; `fraction` covers the whole job, `stage_fraction` the stage."""

    stage: str | None = None
    fraction: float = 0.0
    stage_fraction: float = 0.0
    seconds_left: float | None = None
    numbers: dict[str, float] = Field(default_factory=dict)


class AnyJob(Answer):
    """What the service says of a job of any kind."""

    id: str
    state: State
    stage: str | None = None
    progress: Progress | None = None
    queue_position: int | None = None
    attempt: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    result: JobResult | None = None
    problem: dict[str, Any] | None = None
    warnings: list[Any] = Field(default_factory=list)
    links: dict[str, str] = Field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True once the state cannot change any more."""
        return self.state in TERMINAL


class Job(AnyJob):
    """One repair as the service knows it."""

    result: Result | None = None


class AnalysisJob(AnyJob):
    """One analysis as the service knows it."""

    result: AnalysisResult | None = None


class DiagnosisJob(AnyJob):
    """One diagnosis as the service knows it."""

    result: DiagnosisResult | None = None


class Preflight(Answer):
    """What would run, and an estimate of its seconds and of the queue; nothing was started."""

    valid: bool
    architecture: dict[str, Any]
    classes: list[str]
    estimate: dict[str, Any]
    queue: dict[str, Any]


class Event(Answer):
    """One entry of a job's history: `state`, `stage`, `progress`, `point`, `warning`, or the terminal state."""

    id: str
    type: str
    data: dict[str, Any] = Field(default_factory=dict)


class CurvePoint(Answer):
    """One evaluated point of the path."""

    t: float
    clean_accuracy: float
    attack_success_rate: float | None = None
    proxy_success_rate: float | None = None
    clean_loss: float | None = None
    clean_confidence: float | None = None


class AnalysisPoint(Answer):
    """One path of an analysis at `t`; errors are fractions, losses in nats."""

    path: Literal["standard", "robust"]
    t: float
    clean_loss: float
    clean_error: float
    robust_loss: float
    robust_error: float
    eigenvalue: float | None = None
    eigenvalue_converged: float | None = None


class Share(Answer):
    """What is used of something, and how much may be."""

    used: float
    limit: float


class Quota(Answer):
    """What the tenant uses and may use; `compute_seconds` are those of the last 24 hours."""

    stored_bytes: Share
    queued_jobs: Share
    running_jobs: Share
    compute_seconds: Share


class ApiKey(Answer):
    """An access key; `key` is the secret itself, shown once, when it is made."""

    id: str
    label: str | None = None
    scopes: tuple[str, ...] = ()
    key: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
