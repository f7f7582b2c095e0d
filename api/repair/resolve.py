"""Settles a repair request: its files, classes, pre-processing and architecture, all checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio.from_thread
from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts
from api.errors import ApiError
from api.files.service import find
from api.repair import checks
from api.repair.estimate import estimate
from api.repair.schemas import Architecture, Estimate, RepairRequest
from store import tables

_OF_THE_INSPECTOR = {
    "unknown-architecture",
    "architecture-not-recognised",
    "tensors-do-not-match",
    "class-count-does-not-match",
}
_OWN_COLUMNS = {"validate_only", "labels", "deadline_seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A request that can run. `request` is what the worker reads: every default filled in."""

    inputs: checks.Inputs
    request: dict[str, Any]
    estimate: Estimate
    deadline: timedelta


def resolve(session: Session, parts: Parts, caller: Caller, body: RepairRequest) -> Resolved:
    """Everything static about `body`, checked in the order in which a person would fix it. Raises ApiError."""
    checks.check_choice(body)
    deadline = _deadline(body.deadline_seconds, parts.settings.job_deadline_seconds)
    inputs = _inputs(session, caller, body)
    clean = inputs.clean.facts
    preprocessing = checks.preprocessing(clean, body.preprocessing)
    classes = checks.class_names(clean, body.classes)
    if inputs.triggered is not None:
        checks.check_triggered(clean, inputs.triggered.facts, classes)
    if inputs.second_model is not None:
        checks.check_second_model(inputs.suspect, inputs.second_model)
    architecture = _architecture(
        parts,
        inputs.suspect.facts,
        body.architecture,
        num_classes=len(classes),
        image_size=preprocessing["size"] or clean["shape"][1:],
    )
    expected = estimate(
        clean,
        weights=checks.parameters(inputs.suspect.facts),
        classes=len(classes),
        steps=body.method.steps,
        size=preprocessing["size"],
    )
    settled = {
        "architecture": architecture,
        "preprocessing": preprocessing,
        "classes": classes,
        "estimate_seconds": expected.seconds,
    }
    request = body.model_dump(mode="json", exclude=_OWN_COLUMNS) | settled
    return Resolved(inputs=inputs, request=request, estimate=expected, deadline=deadline)


def _deadline(wanted: int | None, limit: int) -> timedelta:
    if wanted is not None and wanted > limit:
        raise ApiError("deadline-too-long", f"`deadline_seconds` may be {limit} at most.", limit_seconds=limit)
    return timedelta(seconds=wanted or limit)


def _inputs(session: Session, caller: Caller, body: RepairRequest) -> checks.Inputs:
    def file(role: str, file_id: str, kind: str) -> tables.File:
        try:
            row = find(session, caller, file_id)
        except ApiError as error:
            error.extra["pointer"] = f"#/{role}"
            raise
        if row.kind != kind:
            detail = f"`{role}` needs a file of kind `{kind}`; {file_id!r} is of kind `{row.kind}`."
            raise ApiError("wrong-file-kind", detail, pointer=f"#/{role}", kind=row.kind, expected=kind)
        return row

    return checks.Inputs(
        suspect=file("suspect", body.suspect, "model"),
        clean=file("clean", body.clean, "clean"),
        triggered=file("triggered", body.triggered, "triggered") if body.triggered else None,
        second_model=file("second_model", body.second_model, "model") if body.second_model else None,
    )


def _architecture(
    parts: Parts,
    suspect: Mapping[str, Any],
    given: str | Architecture | None,
    *,
    num_classes: int,
    image_size: list[int],
) -> dict[str, Any]:
    """The architecture as the inspector settles it: {name, options, num_classes}. Raises ApiError.

    `image_size` [height, width] tells apart networks with the same tensors.
    """
    named = Architecture(name=given) if isinstance(given, str) else given
    question = {
        "tensors": suspect["tensors"],
        "architecture": named.model_dump() if named else None,
        "num_classes": num_classes,
        "image_size": image_size,
    }
    answer = anyio.from_thread.run(parts.inspector.ask, question)
    if answer["ok"]:
        architecture: dict[str, Any] = answer["architecture"]
        return architecture
    problem = dict(answer["problem"])
    slug, detail = problem.pop("type"), problem.pop("detail")
    problem.pop("title", None)
    if slug not in _OF_THE_INSPECTOR:
        raise RuntimeError(f"the inspector failed with {slug!r}: {detail}")
    raise ApiError(slug, detail, **problem)
