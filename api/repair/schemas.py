"""Bodies of the repair routes."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.jobs.schemas import FileId, Fraction, Job, JobResult, PathMethod, PathRequest, Strict


class Criteria(Strict):
    """When the repair counts as met. All fractions are in 0..1."""

    max_accuracy_drop: Fraction = 0.025
    max_attack_success_rate: Fraction = 0.05


def _none_or_a_grid(points: int) -> int:
    if 0 < points < 3:
        raise PydanticCustomError("plane", "A plane needs 3 to 41 points along each side; 0 leaves it out")
    return points


class Method(PathMethod):
    """How the path is made, and what is drawn of it."""

    ends: Literal["permuted", "fine_tuned"] = Field(
        default="permuted", description="How the second end is made from the suspect where no `second_model` is given."
    )
    plane: Annotated[int, Field(ge=0, le=41), AfterValidator(_none_or_a_grid)] = Field(
        default=0, description="Points along each side of the loss plane, 3 to 41; 0 leaves it out."
    )


class RepairRequest(PathRequest):
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
    tampering: Literal["backdoor", "error_injection"] = Field(
        default="backdoor",
        description="What the suspect may have suffered. `error_injection`: no trigger is looked for, and `triggered` "
        "are the images in question, in folders named after the classes that the suspect gives them.",
    )
    select_with_triggered: bool = Field(default=False, description="Choose t by the rate measured on `triggered`.")
    criteria: Criteria = Criteria()
    method: Method = Method()


class Figures(BaseModel):
    """What was measured on images that neither the fit nor the choice saw. Intervals are 95 %."""

    model_config = ConfigDict(extra="allow")

    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float] | None = None
    attack_success_rate: float | None = None
    attack_success_rate_interval: tuple[float, float] | None = None
    proxy_success_rate: float | None = None
    clean_confidence: float | None = Field(
        default=None, description="The largest softmax probability on clean images, on average."
    )


class Plane(BaseModel):
    """The plane that the ends and the bend span, in units of the distance between the ends: (0, 0) and (1, 0).

    `accuracy` and `attack` hold one row per `y`, one value per `x`.
    """

    x: list[float]
    y: list[float]
    accuracy: list[list[float]]
    attack: list[list[float]] | None
    attack_measured: bool = Field(description="On the triggered images; else by inverted triggers.")
    bends: list[tuple[float, float]]
    path: list[tuple[float, float, float]] = Field(description="(t, x, y) along the path.")
    chosen: tuple[float, float]


class Result(JobResult):
    """What a succeeded repair found."""

    t: float
    reason: str
    criteria_met: bool
    before: Figures
    after: Figures
    targets: list[dict[str, Any]] = Field(default_factory=list)
    alignment: str | None = Field(
        default=None, description="What was done to the channels of a given second model; null without one."
    )
    plane: Plane | None = None


class Links(BaseModel):
    """Where the rest of a repair is."""

    self: str
    events: str
    curve: str
    weights: str
    report: str
    manifest: str
    attestation: str
    selections: str
    cancel: str
    retry: str


class Repair(Job):
    """A repair job."""

    result: Result | None
    links: Links


class RepairPage(BaseModel):
    """One page of repairs, newest first."""

    items: list[Repair]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")


class CurvePoint(BaseModel):
    """One point of the path. Intervals are 95 %."""

    t: float
    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float]
    attack_success_rate: float | None
    attack_success_rate_interval: tuple[float, float] | None
    proxy_success_rate: float | None
    clean_loss: float
    clean_confidence: float | None = Field(description="The largest softmax probability on clean images, on average.")
    set: Literal["coarse", "refined"]


class Curve(BaseModel):
    """The path as far as it has been swept, in the order of t."""

    points: list[CurvePoint]
    unaligned: list[CurvePoint] = Field(
        description="The path to a given second model whose channels were left as they are, to compare with."
    )
    chosen_t: float | None
