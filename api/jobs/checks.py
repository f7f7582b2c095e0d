"""What can be checked of every request without opening a file: each check is one refusal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from api.errors import ApiError
from api.jobs.schemas import Preprocessing
from store.tables import File

SHOWN = 10  # names listed in a problem


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
        raise ApiError("classes-do-not-match", f"`classes` names {listed(twice)} more than once.", twice=twice)
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
            f"The clean set has folders that `classes` does not name: {listed(unknown)}.",
            folders=unknown,
        )
    return given


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


def check_same_make(first: File, second: File, *, roles: tuple[str, str], same: str, differs: str) -> None:
    """Two models must have the same tensors and be two models.

    `roles`: what the request calls them. Raises ApiError `same`, `differs`: the kind's own slugs.
    """
    names = f"`{roles[0]}`", f"`{roles[1]}`"
    if second.canonical_sha256 == first.canonical_sha256:
        raise ApiError(same, f"{names[1]} holds the very same tensors as {names[0]}.")
    ours, theirs = _tensors(first.facts), _tensors(second.facts)
    missing, extra = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    other = [
        {"tensor": name, roles[0]: ours[name], roles[1]: theirs[name]}
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    if missing or extra or other:
        parts = [
            f"{len(missing)} tensors are missing ({listed(missing)})" if missing else "",
            f"{len(extra)} are left over ({listed(extra)})" if extra else "",
            f"{len(other)} have another type or shape ({listed([item['tensor'] for item in other])})" if other else "",
        ]
        raise ApiError(
            differs,
            f"Compared with {names[0]}, in {names[1]} " + ", ".join(part for part in parts if part) + ".",
            missing=missing[:SHOWN],
            extra=extra[:SHOWN],
            differing=other[:SHOWN],
        )


def parameters(facts: Mapping[str, Any]) -> int:
    """Number of weights in tensors of two or more dimensions."""
    return sum(math.prod(shape) for _, _, shape in facts["tensors"] if len(shape) >= 2)


def _tensors(facts: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name.removeprefix(facts["prefix"]): [dtype, shape] for name, dtype, shape in facts["tensors"]}


def listed(names: Sequence[object]) -> str:
    """Names for a sentence, the first ten of them."""
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def _scaled(values: Sequence[float]) -> list[float]:
    return [round(value / 255, 4) for value in values]


def _unfit(detail: str, **extra: Any) -> ApiError:
    return ApiError("preprocessing-does-not-fit", detail, **extra)
