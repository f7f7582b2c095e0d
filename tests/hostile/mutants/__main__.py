"""`python -m tests.hostile.mutants KIND FIRST COUNT`: converts mutants one by one, and tells what came of them.

In a process of its own, which a crash may end, under limits that a mutant of a kilobyte has no reason to reach.
"""

from __future__ import annotations

import faulthandler
import io
import json
import math
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from intake import datasets, models
from intake.limits import GIB, MIB, Limits
from intake.problems import IntakeRefused

from .data_sets import data_set
from .headers import DTYPES, safetensors_file
from .state_dicts import state_dict

SECONDS = 5.0
"""Of computing for one mutant."""
LIMITS = Limits(
    max_model_bytes=MIB,
    max_decoded_bytes=MIB,
    max_header_bytes=4096,
    max_tensors=6,
    max_pickle_steps=2_000,
    max_members=16,
    ratio_floor_bytes=8192,
    max_pixels=4096,
    min_images_per_class=1,
)
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def main(kind: str, first: int, count: int) -> dict[str, Any]:
    """What came of the mutants `first` to `first + count`, by problem, and the faults among them."""
    make, convert = MUTANTS[kind]
    outcomes: Counter[str] = Counter()
    faults: dict[int, str] = {}
    started = time.process_time()
    for index in range(first, first + count):
        upload = make(Random(index))
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            outcomes[convert(upload)] += 1
        except IntakeRefused as refused:
            outcomes[refused.problem_type] += 1
        except Exception as error:
            faults[index] = f"{type(error).__name__}: {error}"
            if len(faults) == 10:
                break
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return {"outcomes": outcomes, "faults": faults, "seconds": time.process_time() - started}


def _safetensors(upload: bytes) -> str:
    """Convert, and hold the tensors against those that safetensors itself finds in the upload."""
    canonical, _ = _model(upload)
    assert _found(canonical) == _found(upload), "safetensors reads other tensors in the upload"
    return "accepted"


def _state_dict(upload: bytes) -> str:
    """Convert, and hold the tensors against those of torch.load, where it can read the upload."""
    canonical, wrapper = _model(upload)
    try:
        loaded = torch.load(io.BytesIO(upload), weights_only=True)
    except Exception:  # torch refuses more zips than the converter does, in many ways
        return "accepted, not by torch"
    weights = loaded if wrapper is None else loaded[wrapper]
    expected = safetensors.torch.save({name: tensor.clone().contiguous() for name, tensor in weights.items()})
    assert _found(canonical) == _found(expected), "torch.load reads other tensors in the upload"
    return "accepted"


def _model(upload: bytes) -> tuple[bytes, str | None]:
    """(canonical form, wrapper); the form is held against the facts and the converter itself."""
    target = io.BytesIO()
    facts = models.convert(io.BytesIO(upload), len(upload), target, LIMITS)
    canonical = target.getvalue()
    safetensors.torch.load(canonical)  # as a worker does
    found = _found(canonical)
    told = {name: (dtype, shape) for name, dtype, shape in facts["tensors"]}
    assert {name: (dtype, shape) for name, (dtype, shape, _) in found.items()} == told
    for name, (dtype, shape, data) in found.items():
        assert len(data) == math.prod(shape) * DTYPES[dtype], f"{name}: {len(data)} bytes"
        assert _finite(dtype, data), f"{name} is not finite"
    again = io.BytesIO()
    models.convert(io.BytesIO(canonical), len(canonical), again, LIMITS)
    assert again.getvalue() == canonical, "the canonical form is not its own canonical form"
    return canonical, facts["wrapper"]


def _found(file: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    """Name -> (number type, shape, bytes), as safetensors reads them."""
    return {
        name: (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
        for name, tensor in safetensors.deserialize(file)
    }


def _finite(dtype: str, data: bytes) -> bool:
    if dtype == "BOOL":
        return set(data) <= {0, 1}
    if dtype == "BF16":
        wide = np.frombuffer(data, "<u2").astype("<u4") << 16
        return bool(np.isfinite(wide.view("<f4")).all())
    return dtype not in _FLOATS or bool(np.isfinite(np.frombuffer(data, _FLOATS[dtype])).all())


def _data_set(upload: bytes) -> str:
    """Convert a data set, and hold the canonical form against the facts."""
    target = io.BytesIO()
    facts = datasets.convert(io.BytesIO(upload), len(upload), target, LIMITS, "clean")
    target.seek(0)
    with np.load(target, allow_pickle=False) as canonical:
        images, labels = canonical["images"], canonical["labels"]
    assert images.shape == (facts["images"], *facts["shape"])
    assert images.dtype == facts["dtype"]
    assert np.isfinite(images).all()
    assert np.bincount(labels, minlength=len(facts["classes"])).tolist() == facts["per_class"]
    return "accepted"


MUTANTS: dict[str, tuple[Callable[[Random], bytes], Callable[[bytes], str]]] = {
    "safetensors": (safetensors_file, _safetensors),
    "pt": (state_dict, _state_dict),
    "zip": (data_set, _data_set),
}


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s of computing")


if __name__ == "__main__":
    faulthandler.enable()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (8 * GIB, 8 * GIB))
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
