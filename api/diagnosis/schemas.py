"""Bodies of the diagnosis routes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.jobs.schemas import FileId, Interval, Job, JobRequest, JobResult


class DiagnosisRequest(JobRequest):
    """Which model to measure, and what is believed of it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "suspect": "6f1c1f0e-7f55-4e0e-9a53-6a3b8d2f7c11",
                    "clean": "0b9d3a52-1a0e-4d55-8f5e-0f2f6f1f9a77",
                    "preprocessing": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
                }
            ]
        },
    )

    suspect: FileId = Field(description="Id of the model that is not trusted.")
    clean: FileId = Field(description="Id of the clean images.")


class Statement(BaseModel):
    """What to state in the next request: `mean`, `std` and `channels` belong into `preprocessing`."""

    mean: list[float]
    std: list[float]
    channels: Literal["RGB", "BGR"]
    order: list[int] | None = Field(description="For each output of the model the class it seems to mean; null: as is.")
    classes: list[str] | None = Field(description="The names of the classes in that order.")


class Suggestion(BaseModel):
    """Another statement under which the model scores better, on images that it was not found on."""

    kind: Literal["normalisation", "class_order", "channel_order"]
    description: str
    accuracy: float
    value: Statement


class DiagnosisResult(JobResult):
    """How the model does on at most 1,000 of the clean images, evenly over the classes. The interval is 95 %."""

    images: int
    accuracy: float
    accuracy_interval: Interval
    confidence: float = Field(description="The largest probability among a model's outputs, on average.")
    chance: float
    least_expected: float = Field(description="A repair refuses a model that does worse, unless told to accept it.")
    suspicious: bool = Field(description="It does worse than that.")
    outputs_are_probabilities: bool
    suggestions: list[Suggestion] = Field(description="What would do far better, best first.")


class Links(BaseModel):
    """Where the rest of a diagnosis is."""

    self: str
    events: str
    cancel: str
    retry: str


class Diagnosis(Job):
    """A diagnosis job."""

    result: DiagnosisResult | None
    links: Links


class DiagnosisPage(BaseModel):
    """One page of diagnoses, newest first."""

    items: list[Diagnosis]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")
