"""Broken and hostile model files: each is refused for its own reason, which is part of the public contract."""

from __future__ import annotations

import argparse
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from intake.limits import Limits
from intake.problems import PROBLEMS, IntakeRefused

from .builders import (
    a_dict,
    call,
    f32,
    integer,
    integers,
    name,
    safetensors,
    storage,
    tensor,
    text,
    torch_zip,
    zip_of,
)


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


def flipped(upload: bytes, needle: bytes) -> bytes:
    at = upload.index(needle)
    return upload[:at] + bytes([upload[at] ^ 1]) + upload[at + 1 :]


def deep_tuple(levels: int) -> bytes:
    """A tuple of tuples that share their halves: small in the file, exponential to hash."""
    return b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(levels))


GOOD = {"a": f32(0), "b": f32(4)}
VALUES = np.arange(4, dtype="<f4").tobytes()
ONE = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


def values_of(dtype: str, raw: bytes) -> bytes:
    count = len(raw) // {"BOOL": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}[dtype]
    return safetensors({"w": {"dtype": dtype, "shape": [count], "data_offsets": [0, len(raw)]}}, raw)


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "cut within the header": (safetensors(GOOD, bytes(8))[:40], "model-file-broken"),
    "cut within the data": (safetensors(GOOD, bytes(7)), "model-file-broken"),
    "bytes after the last tensor": (safetensors(GOOD, bytes(9)), "model-file-broken"),
    "header of 9 MiB": (safetensors(b"{" + b" " * (9 << 20), bytes(8)), "model-header-too-large"),
    "header longer than memory": (safetensors(b"{}", length=1 << 47), "model-header-too-large"),
    "header is not JSON": (safetensors(b"{'a': 1}"), "model-file-broken"),
    "header is not UTF-8": (safetensors(b'{"\xff": 1}'), "model-file-broken"),
    "header nests without end": (safetensors(b'{"a":' + b"[" * 200_000), "model-file-broken"),
    "a number of a million digits": (safetensors(b'{"a":' + b"9" * 1_000_000 + b"}"), "model-file-broken"),
    "one name twice": (
        safetensors(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            b"x",
        ),
        "model-duplicate-names",
    ),
    "one field twice": (
        safetensors(b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        "model-duplicate-names",
    ),
    "an entry with a fourth field": (safetensors({"a": f32(0) | {"x": 1}}, bytes(4)), "model-file-broken"),
    "an entry that is a text": (safetensors({"a": "F32"}, bytes(4)), "model-file-broken"),
    "a hole between tensors": (safetensors({"a": f32(0), "b": f32(8)}, bytes(12)), "model-file-broken"),
    "two tensors that overlap": (safetensors({"a": f32(0, 2), "b": f32(4, 2)}, bytes(12)), "model-file-broken"),
    "offsets that go backwards": (
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        "model-tensor-out-of-range",
    ),
    "a negative offset": (
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, bytes(4)),
        "model-file-broken",
    ),
    "a shape that the bytes do not fill": (
        safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        "model-tensor-out-of-range",
    ),
    "a negative size": (
        safetensors({"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}, bytes(4)),
        "model-file-broken",
    ),
    "a shape of booleans": (
        safetensors({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)),
        "model-file-broken",
    ),
    "nine dimensions": (
        safetensors({"a": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, bytes(4)),
        "model-too-many-dimensions",
    ),
    "100,000 dimensions": (
        safetensors({"a": {"dtype": "F32", "shape": [1] * 100_000, "data_offsets": [0, 4]}}, bytes(4)),
        "model-too-many-dimensions",
    ),
    "20,001 tensors": (
        safetensors({f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}),
        "model-too-many-tensors",
    ),
    "an 8-bit float": (
        safetensors({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"x"),
        "model-dtype-not-accepted",
    ),
    "a dtype that is a list": (
        safetensors({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        "model-dtype-not-accepted",
    ),
    "NaN in f32": (values_of("F32", np.array([0, np.nan], "<f4").tobytes()), "model-tensor-not-finite"),
    "infinity in f16": (values_of("F16", np.array([-np.inf], "<f2").tobytes()), "model-tensor-not-finite"),
    "NaN in bf16": (values_of("BF16", b"\xc0\x7f"), "model-tensor-not-finite"),
    "infinity in f64": (values_of("F64", np.array([np.inf], "<f8").tobytes()), "model-tensor-not-finite"),
    "a boolean of 2": (values_of("BOOL", b"\x00\x02"), "model-file-broken"),
    "an empty name": (safetensors({"": f32(0)}, bytes(4)), "model-tensor-name-not-accepted"),
    "a name with NUL": (safetensors({"a\0b": f32(0)}, bytes(4)), "model-tensor-name-not-accepted"),
    "a name with half a surrogate": (safetensors({"a\ud800": f32(0)}, bytes(4)), "model-tensor-name-not-accepted"),
    "a name of 600 characters": (safetensors({"a" * 600: f32(0)}, bytes(4)), "model-tensor-name-not-accepted"),
    "metadata of numbers": (safetensors({"__metadata__": {"a": 1}, **ONE}, bytes(4)), "model-file-broken"),
    "metadata with NUL": (safetensors({"__metadata__": {"a": "\0"}, **ONE}, bytes(4)), "model-file-broken"),
    "no tensors": (safetensors({"__metadata__": {"a": "b"}}), "model-no-tensors"),
}

PICKLES: dict[str, tuple[bytes, str]] = {
    "os.system": (torch_zip(call("os", "system", text("id"))), "model-pickle-not-accepted"),
    "os.system beside a good state dict": (
        torch_zip(a_dict(net=a_dict(w=tensor()), acc=call("posix", "system", text("id")))),
        "model-pickle-not-accepted",
    ),
    "builtins.eval by STACK_GLOBAL": (
        torch_zip(text("builtins") + text("eval") + b"\x93(" + text("1") + b"tR"),
        "model-pickle-not-accepted",
    ),
    "INST": (torch_zip(b"(" + text("id") + b"ios\nsystem\n"), "model-pickle-not-accepted"),
    "NEWOBJ": (torch_zip(name("collections", "OrderedDict") + b")\x81"), "model-pickle-not-accepted"),
    "BUILD with attributes": (
        torch_zip(call("collections", "OrderedDict") + a_dict(__class__=b"N") + b"b"),
        "model-pickle-not-accepted",
    ),
    "an attribute of an allowed module": (
        torch_zip(call("torch._utils", "_rebuild_sparse_tensor", text("x"))),
        "model-pickle-not-accepted",
    ),
    "a name that hides a dot": (torch_zip(call("torch", "_utils._rebuild_tensor_v2")), "model-pickle-not-accepted"),
    "torch.FloatTensor(n), which shows old memory": (
        torch_zip(a_dict(w=call("torch", "FloatTensor", integer(1000)))),
        "model-pickle-not-accepted",
    ),
    "a storage class called": (
        torch_zip(a_dict(w=call("torch", "FloatStorage", integer(1 << 40)))),
        "model-pickle-not-accepted",
    ),
    "a persistent id that is no storage": (torch_zip(b"(" + text("module") + b"tQ"), "model-pickle-not-accepted"),
    "hash bomb": (torch_zip(b"}" + deep_tuple(60) + b"Ns"), "model-pickle-not-accepted"),
    "hash bomb in an OrderedDict": (
        torch_zip(name("collections", "OrderedDict") + b"(]" + deep_tuple(60) + b"N\x86atR"),
        "model-pickle-not-accepted",
    ),
    "a huge integer": (torch_zip(b"\x8a\xff" + b"\xff" * 255), "model-pickle-not-accepted"),
    "bytes": (torch_zip(b"C\x01x"), "model-pickle-not-accepted"),
    "a text longer than the file": (torch_zip(b"\x8d" + struct.pack("<Q", 1 << 62)), "model-file-broken"),
    "a text that is not UTF-8": (torch_zip(text(b"\xff")), "model-file-broken"),
    "an empty pickle": (torch_zip(b""), "model-file-broken"),
    "a pickle that does not stop": (zip_of({"a/data.pkl": b"\x80\x02N"}), "model-file-broken"),
    "an unknown memo": (torch_zip(b"h\x07"), "model-file-broken"),
    "a mark as a value": (torch_zip(b"(q\x00"), "model-file-broken"),
    "a protocol from the future": (zip_of({"a/data.pkl": b"\x80\x09N."}), "model-file-broken"),
    "a list as a whole": (torch_zip(b"]" + tensor() + b"a"), "model-pickle-not-accepted"),
    "stride 0": (torch_zip(a_dict(w=tensor(shape=(1 << 30,), stride=(0,)))), "model-tensor-out-of-range"),
    "stride 0 within the range": (
        torch_zip(a_dict(w=tensor(shape=(2, 2), stride=(0, 1)))),
        "model-tensor-not-contiguous",
    ),
    "gaps": (torch_zip(a_dict(w=tensor(shape=(2,), stride=(2,)))), "model-tensor-not-contiguous"),
    "a negative stride": (torch_zip(a_dict(w=tensor(offset=0, stride=(-1,)))), "model-tensor-not-contiguous"),
    "fewer strides than sizes": (torch_zip(a_dict(w=tensor(shape=(2, 2), stride=(1,)))), "model-tensor-not-contiguous"),
    "a tensor behind its storage": (torch_zip(a_dict(w=tensor(offset=1))), "model-tensor-out-of-range"),
    "a negative offset": (torch_zip(a_dict(w=tensor(offset=-1))), "model-tensor-out-of-range"),
    "a negative size": (torch_zip(a_dict(w=tensor(shape=(-4,)))), "model-file-broken"),
    "a storage larger than its record": (
        torch_zip(a_dict(w=tensor(of=storage(count=1 << 40), shape=(1 << 20,)))),
        "model-tensor-out-of-range",
    ),
    "a storage without a record": (torch_zip(a_dict(w=tensor(of=storage("7")))), "model-file-broken"),
    "a storage key that climbs": (torch_zip(a_dict(w=tensor(of=storage("../version")))), "model-file-broken"),
    "a complex storage": (
        torch_zip(a_dict(w=tensor(of=storage(kind="ComplexFloatStorage")))),
        "model-pickle-not-accepted",
    ),
    "a quantised storage": (torch_zip(a_dict(w=tensor(of=storage(kind="QInt8Storage")))), "model-pickle-not-accepted"),
    "nine dimensions": (
        torch_zip(a_dict(w=tensor(shape=(4,) + (1,) * 8, stride=(1,) * 9))),
        "model-too-many-dimensions",
    ),
    "a name with NUL": (torch_zip(a_dict(**{"a\0": tensor()})), "model-tensor-name-not-accepted"),
    "a number as a name": (torch_zip(b"}(" + integer(1) + tensor() + b"u"), "model-tensor-name-not-accepted"),
    "no tensors": (torch_zip(a_dict(epoch=integer(3), loss=b"G" + struct.pack(">d", 0.5))), "model-no-tensors"),
    "an empty state dict": (torch_zip(a_dict(state_dict=b"}")), "model-no-tensors"),
    "two state dicts": (
        torch_zip(a_dict(model=a_dict(w=tensor()), net=a_dict(w=tensor()))),
        "model-wrapper-ambiguous",
    ),
    "a number among the tensors": (torch_zip(a_dict(w=tensor(), epoch=integer(3))), "model-entry-not-a-tensor"),
    "a dict among the tensors": (
        torch_zip(a_dict(net=a_dict(w=tensor(), _extra_state=b"}"))),
        "model-entry-not-a-tensor",
    ),
    "NaN": (torch_zip(a_dict(w=tensor()), {"0": np.full(4, np.nan, "<f4").tobytes()}), "model-tensor-not-finite"),
}

ZIPS: dict[str, tuple[bytes, str]] = {
    "compressed members": (torch_zip(a_dict(w=tensor()), compression=zipfile.ZIP_DEFLATED), "model-file-broken"),
    "two top folders": (torch_zip(a_dict(w=tensor()), others={"other/version": b"3"}), "model-file-broken"),
    "big-endian": (torch_zip(a_dict(w=tensor()), others={"archive/byteorder": b"big"}), "model-file-broken"),
    "cut off": (torch_zip(a_dict(w=tensor()))[:-30], "model-file-broken"),
    "a damaged tensor": (flipped(torch_zip(a_dict(w=tensor())), VALUES), "model-file-broken"),
    "a member that climbs": (torch_zip(a_dict(w=tensor()), others={"archive/../x": b"1"}), "model-file-broken"),
    "a zip of pictures": (zip_of({"cat/1.png": b"x"}), "model-format-not-accepted"),
    "an empty zip": (zip_of({}), "model-format-not-accepted"),
    "TorchScript": (
        torch_zip(
            a_dict(w=tensor()), others={"archive/constants.pkl": b"\x80\x02).", "archive/code/__torch__/m.py": b""}
        ),
        "model-format-not-accepted",
    ),
    "torch.export": (
        zip_of({"m/models/model.json": b"{}", "m/archive_format": b"pt2", "m/data/sample_inputs/model.pt": b""}),
        "model-format-not-accepted",
    ),
    "torch.export as it was in 2.1": (
        zip_of({"serialized_exported_program.json": b"{}", "version": b"1"}),
        "model-format-not-accepted",
    ),
}

FORMATS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "file-empty"),
    "a web page": (b"\n<!DOCTYPE html><html>404</html>", "file-not-the-real-thing"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "file-not-the-real-thing"),
    "ONNX": (b"\x08\x09\x12\x07pytorch\x1a\x052.1.0", "model-format-not-accepted"),
    "tar": (tar(), "model-format-not-accepted"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "model-format-not-accepted"),
    "a bare pickle": (pickle.dumps({"w": [1.0]}), "model-format-not-accepted"),
    "noise": (bytes(range(1, 200)), "model-format-not-accepted"),
}

CASES = {
    f"{group}: {case}": value
    for group, cases in (("safetensors", SAFETENSORS), ("pickle", PICKLES), ("zip", ZIPS), ("format", FORMATS))
    for case, value in cases.items()
}


@pytest.mark.parametrize("case", CASES)
def test_the_file_is_refused_for_its_own_reason(case: str, read_model: Callable) -> None:
    upload, slug = CASES[case]
    with pytest.raises(IntakeRefused) as caught:
        read_model(upload)
    assert caught.value.problem_type == slug, caught.value.detail
    assert (caught.value.status, caught.value.title) == PROBLEMS[slug]
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 1000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda: saved(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
        (lambda: saved({"net": {"w": torch.zeros(2).to_sparse()}}), "torch._utils._rebuild_sparse_tensor"),
        (lambda: saved({"net": {"w": torch.zeros(2)}, "args": argparse.Namespace(lr=0.1)}), "argparse.Namespace"),
        (lambda: saved({"w": torch.zeros(2, dtype=torch.float8_e4m3fn)}), "torch._utils._rebuild_tensor_v3"),
    ],
)
def test_what_torch_writes_besides_tensors_is_refused_by_name(
    write: Callable, named: str, read_model: Callable
) -> None:
    with pytest.raises(IntakeRefused) as caught:
        read_model(write())
    assert caught.value.status == 415
    assert caught.value.extra["refused"] == named
    assert "safetensors" in caught.value.detail


def test_the_legacy_format_of_torch_is_named_with_the_way_out(read_model: Callable) -> None:
    with pytest.raises(IntakeRefused, match=r"before torch 1\.6") as caught:
        read_model(saved({"w": torch.zeros(2)}, _use_new_zipfile_serialization=False))
    assert (caught.value.status, caught.value.problem_type) == (415, "model-format-not-accepted")
    assert "save_model(model, 'model.safetensors')" in caught.value.detail


def test_tied_tensors_cannot_blow_up_the_canonical_file(read_model: Callable) -> None:
    tied = {f"w{i}": tensor(of=storage(count=1000), shape=(1000,)) for i in range(50)}
    upload = torch_zip(a_dict(**tied), {"0": bytes(4000)})
    with pytest.raises(IntakeRefused) as caught:
        read_model(upload, Limits(max_model_bytes=100_000))
    assert (caught.value.status, caught.value.problem_type) == (413, "model-too-large")


def test_a_file_over_the_limit_is_too_large(read_model: Callable) -> None:
    with pytest.raises(IntakeRefused) as caught:
        read_model(safetensors(GOOD, bytes(8)), Limits(max_model_bytes=50))
    assert (caught.value.status, caught.value.problem_type) == (413, "model-too-large")


def test_a_pickle_that_takes_too_many_steps_is_refused(read_model: Callable) -> None:
    with pytest.raises(IntakeRefused, match="1,000 steps"):
        read_model(torch_zip(b"N" * 2_000), Limits(max_pickle_steps=1_000))


def test_a_refused_pickle_runs_nothing(read_model: Callable, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    upload = torch_zip(a_dict(net=a_dict(w=tensor()), acc=call("os", "mkdir", text(str(canary)))))
    torch.load(io.BytesIO(upload), weights_only=False)
    assert canary.is_dir()  # the bait works on a reader that trusts it
    canary.rmdir()
    with pytest.raises(IntakeRefused, match=r"os\.mkdir"):
        read_model(upload)
    assert not canary.exists()


def test_integers_as_values_are_fine_but_not_as_shapes_of_text(read_model: Callable) -> None:
    shape = b"(" + text("4") + b"t"
    arguments = (storage(), integer(0), shape, integers(1), b"\x89", call("collections", "OrderedDict"))
    with pytest.raises(IntakeRefused) as caught:
        read_model(torch_zip(a_dict(w=call("torch._utils", "_rebuild_tensor_v2", *arguments))))
    assert caught.value.problem_type == "model-file-broken"
