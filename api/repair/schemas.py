"""Bodies of the repair routes."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]
Interval = tuple[Fraction, Fraction]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
ArchitectureName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
FileId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Option = bool | int | FiniteFloat | Annotated[str, StringConstraints(max_length=200)]


class Strict(BaseModel):
    """A body that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid")


class Architecture(Strict):
    """An architecture by name, with its options."""

    name: ArchitectureName
    options: dict[Annotated[str, StringConstraints(max_length=64)], Option] = Field(default_factory=dict, max_length=32)


class Preprocessing(Strict):
    """What is done to an image before the model sees it. Images are scaled to 0..1 first."""

    mean: list[FiniteFloat] | None = Field(
        default=None, min_length=1, max_length=16, description="One value per channel on the scale 0..1; null: 0."
    )
    std: list[FiniteFloat] | None = Field(
        default=None, min_length=1, max_length=16, description="One value per channel, above 0; null: 1."
    )
    size: tuple[Annotated[int, Field(ge=8, le=1024)], Annotated[int, Field(ge=8, le=1024)]] | None = Field(
        default=None, description="[height, width] that images are resized to; null: as they are."
    )
    channels: Literal["RGB", "BGR"] = "RGB"


class Criteria(Strict):
    """When the repair counts as met. All fractions are in 0..1."""

    max_accuracy_drop: Fraction = 0.025
    max_attack_success_rate: Fraction = 0.05


class Method(Strict):
    """How the path is made."""

    curve: Literal["bezier", "chain"] = "bezier"
    bends: Annotated[int, Field(ge=1, le=8)] = 1
    ends: Literal["permuted", "fine_tuned"] = Field(
        default="permuted", description="How the second end is made from the suspect where no `second_model` is given."
    )
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="null: the service chooses."
    )
    mirror: bool = Field(default=True, description="False where a mirrored image is another class (digits, signs).")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class RepairRequest(Strict):
    """What to repair, with what, and when it counts as repaired."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "suspect": "6f1c1f0e-7f55-4e0e-9a53-6a3b8d2f7c11",
                    "clean": "0b9d3a52-1a0e-4d55-8f5e-0f2f6f1f9a77",
                    "preprocessing": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
                    "labels": {"model": "traffic-signs-v3"},
                }
            ]
        },
    )

    suspect: FileId = Field(description="Id of the model that is not trusted.")
    clean: FileId = Field(description="Id of the clean images.")
    triggered: FileId | None = Field(default=None, description="Id of triggered images: measured, never trained on.")
    second_model: FileId | None = Field(default=None, description="Id of a model of the same make, as second end.")
    architecture: ArchitectureName | Architecture | None = Field(
        default=None, description="Name, or name and options; null: find out."
    )
    preprocessing: Preprocessing = Preprocessing()
    classes: list[ClassName] | None = Field(
        default=None,
        min_length=2,
        max_length=100_000,
        description="In index order; null: sorted folder names.",
    )
    select_with_triggered: bool = Field(default=False, description="Choose t by the rate measured on `triggered`.")
    criteria: Criteria = Criteria()
    method: Method = Method()
    accept_low_accuracy: bool = Field(
        default=False, description="Go on although the suspect scores under three times chance on the clean images."
    )
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=16)
    deadline_seconds: Annotated[int, Field(ge=1)] | None = Field(default=None, description="null: the longest allowed.")
    validate_only: bool = Field(default=False, description="Check everything and estimate, but start nothing.")


class ResolvedArchitecture(BaseModel):
    """The architecture as the inspector settled it."""

    name: str
    options: dict[str, Any]
    num_classes: int


class Progress(BaseModel):
    """How far a job is."""

    stage: str | None = None
    fraction: float = Field(default=0.0, description="0..1 over the whole job.")
    stage_fraction: float = Field(default=0.0, description="0..1 in this stage.")
    seconds_left: float | None = None
    numbers: dict[str, float] = Field(default_factory=dict)


class Figures(BaseModel):
    """What was measured on images that neither the fit nor the choice saw. Intervals are 95 %."""

    model_config = ConfigDict(extra="allow")

    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float] | None = None
    attack_success_rate: float | None = None
    attack_success_rate_interval: tuple[float, float] | None = None
    proxy_success_rate: float | None = None


class ResultArtifact(BaseModel):
    """A file that the job made."""

    name: str
    bytes: int
    sha256: str
    media_type: str


class Result(BaseModel):
    """What a succeeded job found."""

    model_config = ConfigDict(extra="allow")

    t: float
    reason: str
    criteria_met: bool
    before: Figures
    after: Figures
    targets: list[dict[str, Any]] = Field(default_factory=list)
    warnings: list[Any] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    artifacts: list[ResultArtifact] = Field(default_factory=list)


class Links(BaseModel):
    """Where the rest of a job is."""

    self: str
    events: str
    curve: str
    weights: str
    report: str
    manifest: str
    selections: str
    cancel: str
    retry: str


class Job(BaseModel):
    """A repair job."""

    id: UUID
    state: Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
    stage: str | None
    progress: Progress
    queue_position: int | None = Field(description="1 is next; null once the job has started.")
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    expires_at: datetime | None
    labels: dict[str, str]
    request: dict[str, Any]
    architecture: ResolvedArchitecture | None
    result: Result | None
    problem: dict[str, Any] | None
    warnings: list[Any]
    retried_from: UUID | None
    links: Links


class JobPage(BaseModel):
    """One page of jobs, newest first."""

    items: list[Job]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")


class Estimate(BaseModel):
    """What the service expects; a rough figure."""

    seconds: float
    basis: str


class Queue(BaseModel):
    """What waits before this job."""

    jobs_before: int
    seconds: float


class Preflight(BaseModel):
    """What `validate_only` answers: nothing was started."""

    valid: Literal[True] = True
    would_run: dict[str, Any]
    architecture: ResolvedArchitecture
    classes: list[str]
    estimate: Estimate
    queue: Queue


class CurvePoint(BaseModel):
    """One point of the path. Intervals are 95 %."""

    t: float
    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float]
    attack_success_rate: float | None
    attack_success_rate_interval: tuple[float, float] | None
    proxy_success_rate: float | None
    clean_loss: float
    set: Literal["coarse", "refined"]


class Curve(BaseModel):
    """The path as far as it has been swept, in the order of t."""

    points: list[CurvePoint]
    chosen_t: float | None
