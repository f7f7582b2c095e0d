"""What settling a request of any kind takes: its files, its deadline, its architecture, all checked."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio.from_thread
from sqlalchemy.orm import Session

from api.dependencies import Caller, Parts
from api.errors import ApiError
from api.files.service import find
from api.jobs.schemas import Architecture, Estimate, JobRequest
from store.tables import File

_OF_THE_INSPECTOR = {
    "unknown-architecture",
    "architecture-not-recognised",
    "tensors-do-not-match",
    "class-count-does-not-match",
}
_OWN_COLUMNS = {"validate_only", "labels", "deadline_seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A request that can run: `files` for `store.jobs.create_job`, `request` with every default filled in."""

    files: dict[str, UUID]
    request: dict[str, Any]
    estimate: Estimate
    deadline: timedelta


def settled(
    body: JobRequest, *, files: dict[str, UUID], deadline: timedelta, estimate: Estimate, **filled_in: Any
) -> Settled:
    """`body` as the worker reads it: with `filled_in` in place of what was left open."""
    request = body.model_dump(mode="json", exclude=_OWN_COLUMNS) | filled_in | {"estimate_seconds": estimate.seconds}
    return Settled(files=files, request=request, estimate=estimate, deadline=deadline)


def deadline(parts: Parts, wanted: int | None) -> timedelta:
    """How long the job may take. Raises ApiError `deadline-too-long`."""
    limit = parts.settings.job_deadline_seconds
    if wanted is not None and wanted > limit:
        raise ApiError("deadline-too-long", f"`deadline_seconds` may be {limit} at most.", limit_seconds=limit)
    return timedelta(seconds=wanted or limit)


def input_file(session: Session, caller: Caller, role: str, file_id: str, kind: str) -> File:
    """The file that the request calls `role`. Raises ApiError `file-not-found`, `wrong-file-kind`."""
    try:
        row = find(session, caller, file_id)
    except ApiError as error:
        error.extra["pointer"] = f"#/{role}"
        raise
    if row.kind != kind:
        detail = f"`{role}` needs a file of kind `{kind}`; {file_id!r} is of kind `{row.kind}`."
        raise ApiError("wrong-file-kind", detail, pointer=f"#/{role}", kind=row.kind, expected=kind)
    return row


def architecture(parts: Parts, model: File, clean: File, body: JobRequest, *, classes: int) -> dict[str, Any]:
    """The model's architecture as the inspector settles it: {name, options, num_classes}. Raises ApiError.

    The size of the images tells apart networks with the same tensors.
    """
    given = Architecture(name=body.architecture) if isinstance(body.architecture, str) else body.architecture
    question = {
        "tensors": model.facts["tensors"],
        "architecture": given.model_dump() if given else None,
        "num_classes": classes,
        "image_size": list(body.preprocessing.size or clean.facts["shape"][1:]),
    }
    answer = anyio.from_thread.run(parts.inspector.ask, question)
    if answer["ok"]:
        found: dict[str, Any] = answer["architecture"]
        return found
    problem = dict(answer["problem"])
    slug, detail = problem.pop("type"), problem.pop("detail")
    problem.pop("title", None)
    if slug not in _OF_THE_INSPECTOR:
        raise RuntimeError(f"the inspector failed with {slug!r}: {detail}")
    raise ApiError(slug, detail, **problem)
