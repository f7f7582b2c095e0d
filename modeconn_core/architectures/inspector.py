"""The answer to the API, which has no torch: do these tensors fit an architecture, and which? Dicts in and out."""

from collections.abc import Mapping
from typing import Any

from modeconn_core.architectures.errors import ArchitectureError, UnknownArchitecture
from modeconn_core.architectures.family import Family, Options
from modeconn_core.architectures.recognition import (
    Candidate,
    Mismatch,
    Tensors,
    check,
    closest,
    fit_options,
    plain_shapes,
    recognise,
    strip_prefix,
)
from modeconn_core.architectures.registry import find
from modeconn_core.architectures.signature import signature

SHOWN = 20  # mismatches listed in full
Reply = dict[str, Any]


class BadRequest(ValueError):
    """The line is not a request as documented in `answer`."""


def answer(request: Any) -> Reply:
    """Answers {"tensors": [[name, dtype, shape], ...], "architecture": null | {"name", "options"}, "num_classes": n}.

    Optional keys: `num_classes` null (take the file's), `image_size` [height, width] (settles twins). Answers
    {"ok": true, "architecture": {"name", "options", "num_classes"}, "candidates": [...], "prefix"} or
    {"ok": false, "problem": {"type", "title", "detail", ...}}. Raises BadRequest.
    """
    tensors = _tensors(request)
    wanted, num_classes = request.get("architecture"), request.get("num_classes")
    if num_classes is not None and type(num_classes) is not int:
        raise BadRequest("num_classes is not a whole number or null")
    if wanted is None:
        return _recognised(tensors, num_classes, _image_size(request))
    if not isinstance(wanted, dict) or not isinstance(wanted.get("name"), str):
        raise BadRequest("architecture is not null or an object with a name")
    options = wanted.get("options") or {}
    if not isinstance(options, dict):
        raise BadRequest("architecture.options is not an object")
    try:
        return _named(find(wanted["name"]), options, tensors, num_classes)
    except UnknownArchitecture as error:
        return _problem("unknown-architecture", "Unknown architecture", str(error), nearest=error.nearest)
    except ArchitectureError as error:
        return _problem("unknown-architecture", "The architecture cannot be built", str(error), nearest=[])


def _tensors(request: Any) -> Tensors:
    try:
        return {
            str(name): (str(dtype), tuple(int(size) for size in shape)) for name, dtype, shape in request["tensors"]
        }
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise BadRequest("tensors is not a list of [name, dtype, shape]") from error


def _image_size(request: Mapping[str, Any]) -> tuple[int, int] | None:
    size = request.get("image_size")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or any(type(side) is not int for side in size):
        raise BadRequest("image_size is not null or [height, width]")
    return size[0], size[1]


def _problem(kind: str, title: str, detail: str, **extra: Any) -> Reply:
    return {"ok": False, "problem": {"type": kind, "title": title, "detail": detail, **extra}}


def _as_dict(candidate: Candidate) -> dict[str, Any]:
    return {"name": candidate.name, "options": candidate.options, "num_classes": candidate.num_classes}


def _accepted(candidates: list[Candidate], tensors: Tensors) -> Reply:
    return {
        "ok": True,
        "architecture": _as_dict(candidates[0]),
        "candidates": [_as_dict(each) for each in candidates],
        "prefix": strip_prefix(tensors),
    }


def _recognised(tensors: Tensors, num_classes: int | None, image_size: tuple[int, int] | None) -> Reply:
    candidates = recognise(tensors, image_size=image_size)
    if candidates:
        if num_classes not in (None, candidates[0].num_classes):
            return _wrong_class_count(candidates[0], num_classes, tensors)
        return _accepted(candidates, tensors)
    near = closest(tensors)
    detail = (
        "No known architecture has exactly these tensors. Name the architecture, or ask the operator for a plug-in."
    )
    if near is None:
        return _problem("architecture-not-recognised", "Architecture not recognised", detail, closest=None)
    candidate, wrong = near
    return _problem(
        "architecture-not-recognised",
        "Architecture not recognised",
        f"{detail} The closest is {candidate.name}, but {_in_words(wrong)}.",
        closest=_as_dict(candidate),
        **_listed(wrong),
    )


def _named(family: Family, options: Options, tensors: Tensors, num_classes: int | None) -> Reply:
    settled = fit_options(family, options, tensors)
    built = signature(family.name, settled)
    found = built.classes_in(plain_shapes(tensors))
    classes = found or num_classes or 2
    wrong = check(family.name, classes, settled, tensors)
    candidate = Candidate(family.name, classes, settled)
    if not wrong:
        if num_classes not in (None, classes):
            return _wrong_class_count(candidate, num_classes, tensors)
        return _accepted([candidate], tensors)
    others = recognise(tensors)
    hint = f" These tensors are those of {others[0].name}." if others else ""
    with_options = f" with {settled}" if settled else ""
    return _problem(
        "tensors-do-not-match",
        "The tensors do not match the architecture",
        f"Against {family.name}{with_options}, {_in_words(wrong)}.{hint}",
        candidates=[_as_dict(each) for each in others],
        **_listed(wrong),
    )


def _wrong_class_count(candidate: Candidate, num_classes: int | None, tensors: Tensors) -> Reply:
    prefix = strip_prefix(tensors)
    head = [prefix + name for name in signature(candidate.name, candidate.options).head]
    return _problem(
        "class-count-does-not-match",
        "The number of classes does not match",
        f"The model has {candidate.num_classes} classes ({head[0]} has {_shape(tensors[head[0]][1])}), the data has "
        f"{num_classes}. Upload images of every class the model knows, or list all its classes in index order.",
        architecture=_as_dict(candidate),
        expected_classes=candidate.num_classes,
        found_classes=num_classes,
        head=head,
    )


def _shape(shape: Any) -> str:
    if not isinstance(shape, tuple):
        return str(shape)
    return "x".join(map(str, shape)) or "a single value"


def _in_words(wrong: list[Mismatch]) -> str:
    """The mismatches as part of a sentence, up to three of each kind by name."""
    parts = []
    for kind, verb in (("missing", "missing"), ("extra", "not expected"), ("shape", "of another shape")):
        these = [each for each in wrong if each.kind == kind]
        if these:
            parts.append(f"{len(these)} {'is' if len(these) == 1 else 'are'} {verb} ({_examples(these)})")
    dtypes = [each for each in wrong if each.kind == "dtype"]
    if dtypes:
        parts.append(f"{len(dtypes)} not of a floating dtype ({_examples(dtypes)})")
    count = len(wrong)
    return f"{count} tensor{'' if count == 1 else 's'} {'does' if count == 1 else 'do'} not fit: {'; '.join(parts)}"


def _examples(these: list[Mismatch]) -> str:
    named = []
    for each in these[:3]:
        differs = each.kind in ("shape", "dtype")
        tail = f": {_shape(each.found)}, expected {_shape(each.expected)}" if differs else ""
        named.append(each.tensor + tail)
    return ", ".join(named) + (", ..." if len(these) > 3 else "")


def _listed(wrong: list[Mismatch]) -> dict[str, Any]:
    shown = [
        {"kind": each.kind, "tensor": each.tensor, "expected": each.expected, "found": each.found}
        for each in wrong[:SHOWN]
    ]
    return {"mismatches": shown, "mismatch_count": len(wrong)}
