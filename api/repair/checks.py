"""Everything about a repair request that can be checked without opening a file: each check is one refusal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import ApiError
from api.repair.schemas import Preprocessing, RepairRequest
from store.tables import File

_SHOWN = 10  # names listed in a problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The files that a request names, all of the caller and of the right kind."""

    suspect: File
    clean: File
    triggered: File | None
    second_model: File | None


def class_names(clean: Mapping[str, Any], given: list[str] | None) -> list[str]:
    """The classes in the order of the model's outputs.

    `clean`: facts of the clean set. Folder names must all be in `given`; class ids (npz) are indices into it.
    Raises ApiError `classes-do-not-match`.
    """
    found: list[str] | list[int] = clean["classes"]
    ids = [item for item in found if isinstance(item, int)]
    if given is None:
        return [str(index) for index in range(max(ids) + 1)] if ids else [str(name) for name in found]
    twice = sorted(name for name, times in Counter(given).items() if times > 1)
    if twice:
        raise ApiError("classes-do-not-match", f"`classes` names {_list(twice)} more than once.", twice=twice)
    if ids and max(ids) >= len(given):
        raise ApiError(
            "classes-do-not-match",
            f"The clean set has the class id {max(ids)}, but `classes` has only {len(given)} names (0 to "
            f"{len(given) - 1}).",
            largest_id=max(ids),
        )
    unknown = [] if ids else sorted(set(map(str, found)) - set(given))
    if unknown:
        raise ApiError(
            "classes-do-not-match",
            f"The clean set has folders that `classes` does not name: {_list(unknown)}.",
            folders=unknown,
        )
    return given


def check_triggered(clean: Mapping[str, Any], triggered: Mapping[str, Any], classes: Sequence[str]) -> None:
    """The triggered set must be of the clean set's classes and shape."""
    known: set[str | int] = {*classes, *range(len(classes))}
    unknown = [name for name in triggered["classes"] if name not in known]
    if unknown:
        raise ApiError(
            "triggered-class-unknown",
            f"The triggered set has folders that are no class of the clean set: {_list(unknown)}.",
            folders=unknown,
            classes=list(classes)[:_SHOWN],
        )
    if triggered["shape"] != clean["shape"]:
        raise ApiError(
            "triggered-shape-differs",
            f"Clean images are {_shape(clean)}, triggered images {_shape(triggered)} (channels x height x width).",
            clean=clean["shape"],
            triggered=triggered["shape"],
        )


def preprocessing(clean: Mapping[str, Any], given: Preprocessing) -> dict[str, Any]:
    """The pre-processing with one mean and std per channel. Raises ApiError `preprocessing-does-not-fit`."""
    channels = clean["shape"][0]
    mean = given.mean if given.mean is not None else [0.0] * channels
    std = given.std if given.std is not None else [1.0] * channels
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise _unfit(
                f"`{name}` has {len(values)} values, but the clean images have {channels} channels.", channels=channels
            )
    if any(value <= 0 for value in std):
        raise _unfit(f"Every value of `std` must be above 0; it is {std}.", std=std)
    if any(not 0 <= value <= 1 for value in (*mean, *std)):
        hint = ""
        if all(0 <= value <= 255 for value in (*mean, *std)):
            hint = f" Did you mean {{mean: {_scaled(mean)}, std: {_scaled(std)}}}?"
        raise _unfit(f"Images are scaled to 0..1, so `mean` and `std` must lie there too.{hint}", mean=mean, std=std)
    if given.channels == "BGR" and channels != 3:
        raise _unfit(f"`channels` BGR needs three channels; the clean images have {channels}.", channels=channels)
    return {"mean": mean, "std": std, "size": list(given.size) if given.size else None, "channels": given.channels}


def check_second_model(suspect: File, second: File) -> None:
    """The second model must have the suspect's tensors and be another model."""
    if second.canonical_sha256 == suspect.canonical_sha256:
        raise ApiError("second-model-is-the-suspect", "`second_model` holds the very same tensors as `suspect`.")
    ours, theirs = _tensors(suspect.facts), _tensors(second.facts)
    missing, extra = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    other = [
        {"tensor": name, "suspect": ours[name], "second_model": theirs[name]}
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    if missing or extra or other:
        parts = [
            f"{len(missing)} tensors are missing ({_list(missing)})" if missing else "",
            f"{len(extra)} are left over ({_list(extra)})" if extra else "",
            f"{len(other)} have another type or shape ({_list([item['tensor'] for item in other])})" if other else "",
        ]
        raise ApiError(
            "second-model-differs",
            "Compared with the suspect, " + ", ".join(part for part in parts if part) + ".",
            missing=missing[:_SHOWN],
            extra=extra[:_SHOWN],
            differing=other[:_SHOWN],
        )


def check_choice(body: RepairRequest) -> None:
    """What the request asks to choose with must be there."""
    if body.select_with_triggered and body.triggered is None:
        raise ApiError("triggered-set-missing", "`select_with_triggered` is true, but `triggered` is null.")


def parameters(facts: Mapping[str, Any]) -> int:
    """Number of weights in tensors of two or more dimensions."""
    return sum(math.prod(shape) for _, _, shape in facts["tensors"] if len(shape) >= 2)


def _tensors(facts: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name.removeprefix(facts["prefix"]): [dtype, shape] for name, dtype, shape in facts["tensors"]}


def _list(names: Sequence[object]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _shape(facts: Mapping[str, Any]) -> str:
    return " x ".join(str(size) for size in facts["shape"])


def _scaled(values: Sequence[float]) -> list[float]:
    return [round(value / 255, 4) for value in values]


def _unfit(detail: str, **extra: Any) -> ApiError:
    return ApiError("preprocessing-does-not-fit", detail, **extra)
