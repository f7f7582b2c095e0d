"""The converter against torch.load: state dicts of real architectures, as people save them, come out bit for bit."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from intake import models
from intake.limits import Limits
from intake.problems import IntakeRefused
from intake.torch_zip import WRAPPERS
from modeconn_core.architectures.errors import ArchitectureError
from modeconn_core.architectures.libraries import TIMM, TORCHVISION
from modeconn_core.architectures.registry import BUILT_IN, build, names

from ..intake.test_models_accepted import DTYPES, check_equal, saved
from ..scale import STATE_DICTS

PREFIXES = ("", "", "module.", "_orig_mod.", "module._orig_mod.")
WIDEST = 5
"""Sizes are cut to this: names, order, dimensions and number types are what matters, not megabytes."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", STATE_DICTS)
def test_state_dicts_equal_what_torch_loads(count: int, tmp_path: Path) -> None:
    equal, different = 0, {}
    for index, (name, shapes) in enumerate(architectures(count)):
        weights = random_weights(shapes, index)
        for form, content, options in forms(weights, Random(index)):
            try:
                compare(saved(content, **options), tmp_path / "canonical")
            except (IntakeRefused, AssertionError) as error:
                different[f"{name}, {form}"] = str(error)
        with pytest.raises(IntakeRefused, match="model-format-not-accepted"):
            compare(saved(weights, _use_new_zipfile_serialization=False), tmp_path / "canonical")
        equal += 1
    assert different == {}
    assert equal == count


def architectures(count: int) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """(name, state dict on the meta device): every built-in family, or a share of them, then both libraries evenly."""
    torchvision, timm = ([name for name in names() if name.startswith(source)] for source in (TORCHVISION, TIMM))
    built_in = list(BUILT_IN)[: count // 5]
    of_torchvision = min(len(torchvision), count // 4)
    chosen = [*built_in, *spread(torchvision, of_torchvision), *spread(timm, count - len(built_in) - of_torchvision)]
    for name in chosen:
        yield name, next(filter(None, map(on_meta, neighbours(name, timm))))


def spread(found: list[str], count: int) -> list[str]:
    """So many of them, evenly."""
    return [found[i * len(found) // count] for i in range(count)]


def neighbours(name: str, timm: list[str]) -> Iterator[str]:
    """The name, and for one that cannot be built on the meta device those that follow it in timm."""
    yield name
    yield from timm[timm.index(name) + 1 :] if name in timm else timm


def on_meta(name: str) -> dict[str, torch.Tensor] | None:
    """The state dict, or None for modules that read values while they are built."""
    try:
        with torch.device("meta"):
            return dict(build(name, 10).state_dict())
    except ArchitectureError:
        return None


def random_weights(shapes: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Small random tensors with these names: floats of one number type for all, the others as they are."""
    rng, generator = Random(seed), torch.Generator().manual_seed(seed)
    prefix, dtype = rng.choice(PREFIXES), DTYPES[seed % len(DTYPES)]
    return {
        prefix + name: (torch.randn([min(n, WIDEST) for n in like.shape], generator=generator) * 50).to(
            dtype if like.is_floating_point() else like.dtype
        )
        for name, like in shapes.items()
    }


def forms(weights: dict[str, torch.Tensor], rng: Random) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(form, what is saved, options of torch.save)."""
    yield "as it is", weights, {}
    wrapper = rng.choice(WRAPPERS)
    yield f"under {wrapper}", {"epoch": 3, wrapper: weights, "accuracy": 0.9}, {"pickle_protocol": rng.randrange(2, 6)}
    yield "channels last", {name: channels_last(value) for name, value in weights.items()}, {}
    yield "with a tied twin", weights | {"tied": next(iter(weights.values()))}, {}
    yield "in one storage for each number type", in_one_storage(weights), {}
    floats = {n: nn.Parameter(v, requires_grad=v.is_floating_point()) for n, v in weights.items()}
    yield "as parameters", floats, {}


def channels_last(value: torch.Tensor) -> torch.Tensor:
    return value.to(memory_format=torch.channels_last) if value.ndim == 4 else value


def in_one_storage(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors as views of flat ones."""
    views: dict[str, torch.Tensor] = {}
    for dtype in {value.dtype for value in weights.values()}:
        own = {name: value for name, value in weights.items() if value.dtype == dtype}
        flat = torch.cat([value.reshape(-1) for value in own.values()])
        for (name, value), part in zip(own.items(), flat.split([v.numel() for v in own.values()]), strict=True):
            views[name] = part.view(value.shape)
    return {name: views[name] for name in weights}


def compare(upload: bytes, target: Path) -> None:
    """Convert the file, and hold the canonical form against what torch.load reads from it."""
    with open(target, "wb") as out:
        facts = models.convert(io.BytesIO(upload), len(upload), out, Limits())
    loaded = torch.load(io.BytesIO(upload), weights_only=False)  # our own file; the other way knows protocol 2 only
    check_equal(facts, target, loaded[facts["wrapper"]] if facts["wrapper"] else loaded)
