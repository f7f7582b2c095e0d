"""Random damage to good files: each is accepted or refused by name, and nothing else ever comes out."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from intake import datasets, models
from intake.limits import Limits
from intake.pickle_machine import interpret
from intake.problems import IntakeRefused

from .builders import a_dict, arrays, f32, folders, integer, npz, png, safetensors, tensor, text, torch_zip, zip_of

MODELS = {
    "safetensors": safetensors({"a": f32(0, 3), "b": f32(12), "__metadata__": {"k": "v"}}, bytes(16)),
    "pt": torch_zip(a_dict(net=a_dict(w=tensor(), v=tensor(shape=(2, 2), stride=(1, 2))), acc=integer(3))),
}


def parquet() -> bytes:
    buffer = io.BytesIO()
    rows = [{"bytes": png(i), "path": None} for i in range(10)]
    pq.write_table(pa.table({"image": rows, "label": [0, 1] * 5}), buffer)
    return buffer.getvalue()


DATASETS = {"folders": zip_of(folders(), compression=8), "npz": npz(**arrays()), "parquet": parquet()}

SMALL = Limits(memory_bytes=1 << 30, max_decoded_bytes=1 << 26)
COUNTER = itertools.count()
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damage(draw: Callable, good: bytes) -> bytes:
    """Up to five bytes changed, and perhaps a piece cut out."""
    upload = bytearray(good)
    for _ in range(draw(st.integers(1, 5))):
        upload[draw(st.integers(0, len(upload) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(upload)))
        del upload[at : at + draw(st.integers(0, 64))]
    return bytes(upload)


@pytest.mark.parametrize("kind", MODELS)
@QUICK
@given(data=st.data())
def test_a_damaged_model_is_accepted_or_refused(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    upload = damage(data.draw, MODELS[kind])
    target = tmp_path / str(next(COUNTER))
    with open(target, "wb") as out:
        try:
            facts = models.convert(io.BytesIO(upload), len(upload), out, SMALL)
        except IntakeRefused:
            return
    assert sorted(load_file(target)) == sorted(name for name, _, _ in facts["tensors"])


@pytest.mark.parametrize("kind", DATASETS)
@QUICK
@given(data=st.data())
def test_a_damaged_data_set_is_accepted_or_refused(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    upload = damage(data.draw, DATASETS[kind])
    target = tmp_path / str(next(COUNTER))
    with open(target, "wb") as out:
        try:
            facts = datasets.convert(io.BytesIO(upload), len(upload), out, SMALL, "clean")
        except IntakeRefused:
            return
    canonical = np.load(target)
    assert canonical["images"].shape == (facts["images"], *facts["shape"])
    assert canonical["labels"].max() < len(facts["classes"])


PIECES = [
    b"(",
    b"t",
    b"R",
    b"b",
    b"}",
    b"]",
    b")",
    b"s",
    b"u",
    b"a",
    b"e",
    b"Q",
    b"\x85",
    b"\x86",
    b"\x87",
    b"\x93",
    b"\x94",
]
PIECES += [b"h\x00", b"h\x01", b"q\x00", b"N", b"\x88", b"l", text("w"), text("_metadata"), integer(-1), tensor()]
PIECES += [b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nFloatStorage\n"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_order_of_known_instructions_is_safe(pieces: list[bytes]) -> None:
    try:
        interpret(b"\x80\x02" + b"".join(pieces) + b".", Limits())
    except IntakeRefused:
        return
