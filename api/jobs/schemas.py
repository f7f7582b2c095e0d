"""Bodies that jobs of all kinds share."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]
Interval = tuple[float, float]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
ArchitectureName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
FileId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Option = bool | int | FiniteFloat | Annotated[str, StringConstraints(max_length=200)]
State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]


class Strict(BaseModel):
    """A body that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid")


class Architecture(Strict):
    """An architecture by name, with its options."""

    name: ArchitectureName
    options: dict[Annotated[str, StringConstraints(max_length=64)], Option] = Field(
        default_factory=dict, max_length=32, json_schema_extra={"propertyNames": {"maxLength": 64}}
    )


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


class PathMethod(Strict):
    """How a path is made."""

    curve: Literal["bezier", "chain"] = "bezier"
    bends: Annotated[int, Field(ge=1, le=8)] = 1
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="null: the service chooses."
    )
    mirror: bool = Field(default=True, description="False where a mirrored image is another class (digits, signs).")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class JobRequest(Strict):
    """What every job is told besides its files."""

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
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=16, json_schema_extra={"additionalProperties": False}
    )
    deadline_seconds: Annotated[int, Field(ge=1)] | None = Field(default=None, description="null: the longest allowed.")
    validate_only: bool = Field(default=False, description="Check everything and estimate, but start nothing.")

    @property
    def seed(self) -> int:
        """Of all that is random in the job."""
        return 0


class PathRequest(JobRequest):
    """What a job that makes a path is told besides its files."""

    method: PathMethod = PathMethod()
    accept_low_accuracy: bool = Field(
        default=False, description="Go on although a model scores under three times chance on the clean images."
    )

    @property
    def seed(self) -> int:
        """Of all that is random in the job."""
        return self.method.seed


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


class ResultArtifact(BaseModel):
    """A file that the job made."""

    name: str
    bytes: int
    sha256: str
    media_type: str


class JobResult(BaseModel):
    """What every succeeded job says."""

    model_config = ConfigDict(extra="allow")

    warnings: list[Any] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    artifacts: list[ResultArtifact] = Field(default_factory=list)


class Job(BaseModel):
    """What every job shows; each kind adds its `result` and `links`."""

    id: UUID
    kind: str
    state: State
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
    problem: dict[str, Any] | None
    warnings: list[Any]
    retried_from: UUID | None


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
