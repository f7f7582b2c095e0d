"""Which architecture a set of tensors is, and what is wrong where it is not: from names, dtypes and shapes alone.

BatchNorm's `num_batches_tracked` may be absent (files written before PyTorch 0.4.1): torch fills it in on loading, and
nothing here needs it. Every other tensor must be there, and no other may be.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modeconn_core.architectures import index
from modeconn_core.architectures.errors import ArchitectureError
from modeconn_core.architectures.family import Family, Options, Shape, Shapes
from modeconn_core.architectures.libraries import TORCHVISION
from modeconn_core.architectures.registry import BUILT_IN, find, plugins
from modeconn_core.architectures.signature import OPTIONAL_SUFFIX, Signature, signature

WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and DistributedDataParallel; torch.compile
RESIZED_TRIES = 4
SMALL_IMAGE = 64  # pixels; up to here a CIFAR form is likelier than the ImageNet form with the same tensors

Tensors = Mapping[str, tuple[str, Shape]]  # name -> (dtype, shape)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that has exactly these tensors; `options` are those that differ from its defaults."""

    name: str
    num_classes: int
    options: Options


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One tensor that does not fit. `tensor` is spelled as in the file, prefix and all; shapes are tuples of ints.

    `expected` is None for an extra tensor, `found` for a missing one; for kind "dtype" both hold dtype names.
    """

    kind: Literal["missing", "extra", "shape", "dtype"]
    tensor: str
    expected: Shape | str | None
    found: Shape | str | None


def strip_prefix(names: Iterable[str]) -> str:
    """The wrapper prefix that every name starts with: "module.", "_orig_mod.", both in either order, or ""."""
    rest, prefix = list(names), ""
    while rest:
        wrapper = next((each for each in WRAPPERS if all(name.startswith(each) for name in rest)), None)
        if wrapper is None:
            break
        prefix += wrapper
        rest = [name.removeprefix(wrapper) for name in rest]
    return prefix


def plain_shapes(tensors: Tensors) -> dict[str, Shape]:
    """Name (without wrapper prefix) -> shape."""
    prefix = strip_prefix(tensors)
    return {name.removeprefix(prefix): tuple(shape) for name, (_, shape) in tensors.items()}


def _fits(expected: Mapping[str, Shape], shapes: Shapes) -> bool:
    return all(expected.get(name) == shape for name, shape in shapes.items()) and all(
        name in shapes or name.endswith(OPTIONAL_SUFFIX) for name in expected
    )


def _match(family: Family, options: Mapping[str, Any], shapes: Shapes) -> Candidate | None:
    """The candidate, if this family with these options has exactly these tensors for some number of classes."""
    try:
        settled = family.settle(options)
        found: Signature = signature(family.name, settled)
    except ArchitectureError:
        return None
    classes = found.classes_in(shapes)
    if classes is None or classes < 2 or not _fits(found.for_classes(classes), shapes):
        return None
    return Candidate(family.name, classes, settled)


def _in_libraries(shapes: Shapes) -> list[Candidate]:
    """torchvision's and timm's candidates. One is built and compared; twins that the index gives the same shapes are
    listed behind it unbuilt, since building each would cost the answer its second."""
    same, resized = index.lookup(shapes)
    for names, tries in ((same, len(same)), (resized, RESIZED_TRIES)):
        for position, name in enumerate(names[:tries]):
            try:
                matches = _matches(find(name), shapes)
            except ArchitectureError:  # the installed library no longer has it
                continue
            if matches:
                first = matches[0]
                twins = names[position + 1 :] if names is same and not first.options else []
                return [*matches, *(Candidate(twin, first.num_classes, {}) for twin in twins)]
    return []


def _matches(family: Family, shapes: Shapes) -> list[Candidate]:
    """The candidates among the family's guesses."""
    return [found for options in family.guess(shapes) if (found := _match(family, options, shapes)) is not None]


def recognise(tensors: Tensors, *, image_size: tuple[int, int] | None = None) -> list[Candidate]:
    """All architectures with exactly these tensors, likeliest first; [] if there is none.

    Several can share all names and shapes and still compute different things (strides, pooling). Plug-ins come first,
    then built-in families, torchvision, timm. A torchvision network moves ahead of a built-in one with the same tensors
    if the images (height, width) are larger than 64 pixels, or if their size is not given and the classes are neither
    10 nor 100.
    """
    shapes = plain_shapes(tensors)
    own = [*plugins().values(), *BUILT_IN.values()]
    candidates = [found for family in own for found in _matches(family, shapes)]
    candidates += _in_libraries(shapes)
    if any(found.name.startswith(TORCHVISION) for found in candidates) and not _looks_small(candidates, image_size):
        candidates.sort(key=lambda found: found.name in BUILT_IN)
    return candidates


def _looks_small(candidates: list[Candidate], image_size: tuple[int, int] | None) -> bool:
    if image_size is not None:
        return max(image_size) <= SMALL_IMAGE
    return candidates[0].num_classes in (10, 100)


def check(name: str, num_classes: int, options: Mapping[str, Any], tensors: Tensors) -> list[Mismatch]:
    """What keeps these tensors from loading into `build(name, num_classes, **options)`; [] if nothing does.

    Missing first, then mis-shaped, then wrong dtype, then extra, each in the order of the architecture or of the file.
    Any floating dtype is accepted where the architecture has one. Raises what `build` raises.
    """
    prefix = strip_prefix(tensors)
    wanted = signature(name, find(name).settle(options))
    expected = wanted.for_classes(num_classes)
    found = {each.removeprefix(prefix): (dtype, tuple(shape)) for each, (dtype, shape) in tensors.items()}
    missing = [
        Mismatch("missing", prefix + each, shape, None)
        for each, shape in expected.items()
        if each not in found and not each.endswith(OPTIONAL_SUFFIX)
    ]
    shapes = [
        Mismatch("shape", prefix + each, shape, found[each][1])
        for each, shape in expected.items()
        if each in found and found[each][1] != shape
    ]
    dtypes = [
        Mismatch("dtype", prefix + each, "a floating dtype", found[each][0])
        for each in expected
        if each in found and each not in wanted.integers and not is_floating(found[each][0])
    ]
    extra = [
        Mismatch("extra", prefix + each, None, shape) for each, (_, shape) in found.items() if each not in expected
    ]
    return [*missing, *shapes, *dtypes, *extra]


def is_floating(dtype: str) -> bool:
    """True for "float32", "bfloat16", "torch.float16", and safetensors' "F32", "BF16", "F8_E4M3"."""
    return dtype.lower().removeprefix("torch.").startswith(("f", "bf"))


def fit_options(family: Family, options: Mapping[str, Any], tensors: Tensors) -> Options:
    """The options with which the family comes closest to the tensors, keeping those that were given.

    Raises OptionsNotAccepted for the given options, and what `build` raises if no guess can be built.
    """
    given = family.settle(options)
    shapes = plain_shapes(tensors)
    best: tuple[int, Options] | None = None
    for guess in [*family.guess(shapes), {}]:
        try:
            merged = family.settle({**guess, **options})
            classes = signature(family.name, merged).classes_in(shapes) or 2
            wrong = len(check(family.name, classes, merged, tensors))
        except ArchitectureError:
            continue
        if best is None or wrong < best[0]:
            best = (wrong, merged)
    return best[1] if best is not None else given


def closest(tensors: Tensors) -> tuple[Candidate, list[Mismatch]] | None:
    """The built-in or plug-in family with the fewest mismatches, if at most a third of its tensors; else None."""
    shapes = plain_shapes(tensors)
    best: tuple[Candidate, list[Mismatch]] | None = None
    for family in [*plugins().values(), *BUILT_IN.values()]:
        for guess in family.guess(shapes):
            try:
                options = family.settle(guess)
                found = signature(family.name, options)
                classes = found.classes_in(shapes) or 2
                wrong = check(family.name, classes, options, tensors)
            except ArchitectureError:
                continue
            if 3 * len(wrong) <= len(found.shapes) and (best is None or len(wrong) < len(best[1])):
                best = (Candidate(family.name, classes, options), wrong)
    return best
