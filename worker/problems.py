"""Problems a job can end with: RFC 9457 bodies that say what is wrong and what to do."""

from typing import Any


class JobProblem(Exception):
    """The job cannot succeed as posted; another attempt would end the same way.

    `slug` becomes the problem's `type` (`/problems/<slug>`), `extra` its further members.
    """

    def __init__(self, slug: str, title: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.body: dict[str, Any] = problem(slug, title, detail, **extra)


def problem(slug: str, title: str, detail: str, **extra: Any) -> dict[str, Any]:
    """An RFC 9457 body."""
    return {"type": f"/problems/{slug}", "title": title, "detail": detail, **extra}


def attempts_exhausted(attempts: int, reason: str, last_lines: list[str]) -> dict[str, Any]:
    """`reason`: how the last attempt was lost; `last_lines`: what it printed last."""
    return problem(
        "attempts-exhausted",
        "Every attempt at the selection was lost",
        f"None of {attempts} attempts came to an end: {reason} Ask for this t again, or ask the operator whether the "
        "workers have enough memory.",
        attempts=attempts,
        reason=reason,
        last_lines=last_lines,
    )


def crashed(error: str) -> dict[str, Any]:
    """`error`: the exception's class and first line, never a traceback (that one goes to the operator's log)."""
    return problem(
        "repair-crashed",
        "The job stopped with an unexpected error",
        f"{error}. This is a fault of the service or of the model's architecture; the operator's log has the details "
        "under this job's id.",
        error=error,
    )


def out_of_memory(device: str) -> dict[str, Any]:
    return problem(
        "out-of-memory",
        "The job ran out of memory",
        f"The {device} has not enough memory for this model and these images. Use fewer clean images or a smaller "
        "input size, or ask the operator for a larger worker.",
        device=device,
    )
