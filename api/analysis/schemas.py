"""Bodies of the analysis routes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from api.jobs.schemas import FileId, Interval, Job, JobResult, PathMethod, PathRequest, Strict

PathName = Literal["standard", "robust"]
_FARTHEST = 4096  # between two images of 16 channels and 1024 x 1024 pixels in [0, 1], in the L2 norm


class Method(PathMethod):
    """How the paths are made, and where they are measured."""

    align: bool = Field(default=True, description="Match the robust model's channels with the regular one's first.")
    points: Annotated[int, Field(ge=3, le=101)] = Field(default=31, description="Values of t, evenly from 0 to 1.")
    robust_path: bool = Field(default=True, description="Fit a second path to attacked images.")
    max_images: Annotated[int, Field(ge=2, le=100_000)] = Field(
        default=500, description="Of the held-out images that are attacked at every point."
    )


class Pgd(Strict):
    """The attack (projected gradient descent), in units of images in 0..1; the defaults are the paper's."""

    norm: Literal["linf", "l2"] = "linf"
    epsilon: Annotated[FiniteFloat, Field(ge=0, le=_FARTHEST)] = Field(
        default=8 / 255, description="Radius; 1 at most in the norm linf. 0: no attack."
    )
    steps: Annotated[int, Field(ge=1, le=1000)] = 10
    step_size: Annotated[FiniteFloat, Field(gt=0, le=_FARTHEST)] = 2 / 255
    random_start: bool = Field(default=True, description="Start anywhere in the ball, not at the image.")

    @field_validator("epsilon")
    @classmethod
    def _inside_the_images(cls, epsilon: float, info: ValidationInfo) -> float:
        if epsilon > 1 and info.data.get("norm") == "linf":
            raise PydanticCustomError("epsilon", "In the norm linf it is 1 at most: images lie in 0..1")
        return epsilon


class Eigenvalues(Strict):
    """How the largest eigenvalue of the Hessian with respect to an image is found."""

    iterations: Annotated[int, Field(ge=1, le=200)] = Field(default=20, description="Most Hessian-vector products.")
    tolerance: Annotated[FiniteFloat, Field(gt=0, le=1)] = Field(
        default=1e-3, description="Relative residual at which an image counts as converged."
    )
    images: Annotated[int, Field(ge=2, le=100_000)] = Field(default=100, description="Of those that are attacked.")


class AnalysisRequest(PathRequest):
    """Which two models to connect, and what to measure on the way."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "regular": "6f1c1f0e-7f55-4e0e-9a53-6a3b8d2f7c11",
                    "robust": "0e4f6a7b-1f5c-4a55-8a0c-64a1f3b7d902",
                    "clean": "0b9d3a52-1a0e-4d55-8f5e-0f2f6f1f9a77",
                    "preprocessing": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
                    "pgd": {"epsilon": 0.0314, "steps": 10, "step_size": 0.0078},
                }
            ]
        },
    )

    regular: FileId = Field(description="Id of the model at t = 0, trained without attacks.")
    robust: FileId = Field(description="Id of the model at t = 1, of the same make and trained against attacks.")
    clean: FileId = Field(description="Id of the clean images.")
    method: Method = Method()
    pgd: Pgd = Pgd()
    eigenvalues: Eigenvalues | None = Field(default=Eigenvalues(), description="null: leave them out.")


class Barrier(BaseModel):
    """How far a loss inside the path rises above the straight line between its values at the ends, in nats."""

    height: float = Field(description="0 where it does not rise.")
    interval: Interval = Field(description="95 %, by bootstrap over the images.")
    t: float = Field(description="Where it is highest.")


class Correlation(BaseModel):
    """Between the mean largest eigenvalue and the robustness loss, over the points of a path.

    The intervals (95 %) take the points for independent, which neighbours are not: they are too narrow.
    """

    pearson: float
    pearson_interval: Interval
    spearman: float
    spearman_interval: Interval


class PathFigures(BaseModel):
    """One path in numbers."""

    model_config = ConfigDict(extra="allow")

    path: PathName
    clean_barrier: Barrier
    robust_barrier: Barrier
    correlation: Correlation | None = None


class Result(JobResult):
    """What a succeeded analysis found."""

    paths: list[PathFigures]
    alignment: str = Field(description="What was done to the robust model's channels.")
    fit_images: int
    report_images: int


class Links(BaseModel):
    """Where the rest of an analysis is."""

    self: str
    events: str
    points: str
    standard_path: str
    robust_path: str | None = Field(description="null where no robust path was asked for.")
    report: str
    manifest: str
    attestation: str
    cancel: str
    retry: str


class Analysis(Job):
    """An analysis job."""

    result: Result | None
    links: Links


class AnalysisPage(BaseModel):
    """One page of analyses, newest first."""

    items: list[Analysis]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")


class Point(BaseModel):
    """One path at t, on held-out images: losses in nats, errors as fractions, intervals 95 %.

    The eigenvalue is the mean over the images of the largest one of each; null where it was not asked for.
    """

    path: PathName
    t: float
    clean_loss: float
    clean_error: float
    clean_error_interval: Interval
    robust_loss: float
    robust_loss_interval: Interval
    robust_error: float = Field(description="Share of the images that are wrong under attack.")
    robust_error_interval: Interval
    eigenvalue: float | None
    eigenvalue_interval: Interval | None
    eigenvalue_converged: float | None = Field(description="Share of the images whose iteration converged.")


class Points(BaseModel):
    """The points measured so far: the standard path, then the robust one, each in the order of t."""

    points: list[Point]
