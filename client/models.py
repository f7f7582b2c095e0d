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
    """How the path is fitted; the defaults suit most models."""

    curve: Literal["bezier", "chain"] = "bezier"
    bends: int = 1
    ends: Literal["permuted", "fine_tuned"] = "permuted"
    steps: int | None = None
    mirror: bool = True
    seed: int = 0


class Architecture(Statement):
    """An architecture by name, with its options, e.g. `width`."""

    name: str
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)


class RepairSettings(Statement):
    """All that a repair is told besides its files. `classes` are the names in the model's index order.

    Defaults: the architecture is recognised, the classes are the sorted folder names, images are only scaled to [0, 1].
    """

    architecture: str | Architecture | None = None
    preprocessing: Preprocessing = Preprocessing()
    classes: tuple[str, ...] | None = None
    select_with_triggered: bool = False
    criteria: Criteria = Criteria()
    method: Method = Method()
    accept_low_accuracy: bool = False
    labels: dict[str, str] = Field(default_factory=dict)
    deadline_seconds: int | None = None


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


class Artifact(Answer):
    """A file that a job made."""

    name: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"


class Result(Answer):
    """How a repair came out: the chosen point `t`, why, and the figures before and after."""

    t: float
    reason: str
    criteria_met: bool
    before: Figures
    after: Figures
    targets: list[dict[str, Any]] = Field(default_factory=list)
    warnings: list[Any] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    artifacts: list[Artifact] = Field(default_factory=list)

    def artifact(self, name: str) -> Artifact | None:
        """The entry of that name, or None."""
        return next((artifact for artifact in self.artifacts if artifact.name == name), None)


class Progress(Answer):
    """Where a running job is; `fraction` covers the whole job, `stage_fraction` the stage."""

    stage: str | None = None
    fraction: float = 0.0
    stage_fraction: float = 0.0
    seconds_left: float | None = None
    numbers: dict[str, float] = Field(default_factory=dict)


class Job(Answer):
    """One repair as the service knows it."""

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
    result: Result | None = None
    problem: dict[str, Any] | None = None
    warnings: list[Any] = Field(default_factory=list)
    links: dict[str, str] = Field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True once the state cannot change any more."""
        return self.state in TERMINAL


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


class ApiKey(Answer):
    """An access key; `key` is the secret itself, shown once, when it is made."""

    id: str
    label: str | None = None
    key: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
