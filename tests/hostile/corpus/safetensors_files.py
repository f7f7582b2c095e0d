"""Crafted safetensors files: headers, offsets, numbers, names, values."""

from __future__ import annotations

import json
import struct

from ...intake.builders import a_dict, f32, safetensors, tensor, torch_zip
from .case import Crafted
from .pickles import BROKEN

FORMAT = "model-format-not-accepted"
NAME = "model-tensor-name-not-accepted"
RANGE = "model-tensor-out-of-range"
GOOD = torch_zip(a_dict(w=tensor()))


def _entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def _header(text: str, data: bytes = bytes(4), **options: int) -> bytes:
    return safetensors(text.encode("utf-8", "surrogatepass"), data, **options)


def safetensors_files() -> Crafted:
    field = '"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    shapes = {
        "a text": "1",
        "None": None,
        "floats": [1.0],
        "nested": [[1]],
        "NaN": float("nan"),
        "infinity": float("inf"),
        "2^31": [1 << 31],
        "2^64 + 1": [(1 << 64) + 1],
        "minus zero": [-0.0],
        "10^4000": [10**4000],
        "an object": {"0": 1},
    }
    offsets = {
        "floats": [0.0, 4.0], "texts": ["0", "4"], "three": [0, 4, 4], "one": [4], "an object": {"0": 0}, "None": None,
        "booleans": [False, True], "infinity": [0, float("inf")], "below zero": [-8, -4],
    }  # fmt: skip
    far = {"2^64": [1 << 64, (1 << 64) + 4], "a gap before": [8, 12], "10^4000": [10**4000, 10**4000 + 4]}
    dtypes = ("f32", "F4", "F8_E5M2", "F8_E8M0", "C64", "U16", "U32", "U64", "", "F32\0", "float32", "Ｆ32")
    names = {
        "a tab": "a\tb",
        "an escape": "a\x1b[2J",
        "a DEL": "a\x7fb",
        "a surrogate": "a\udfffb",
        "513 characters": "a" * 513,
        "a line break": "a\nb",
    }
    huge = 8 << 20
    return {
        **{f"a shape of {case}": (_header(json.dumps({"w": _entry(shape=s)})), BROKEN) for case, s in shapes.items()},
        **{
            f"offsets of {case}": (_header(json.dumps({"w": _entry(offsets=o)})), BROKEN) for case, o in offsets.items()
        },
        **{
            f"offsets that start at {case}": (_header(json.dumps({"w": _entry(offsets=o)})), BROKEN)
            for case, o in far.items()
        },
        **{
            f"the number type {d!r}": (_header(json.dumps({"w": _entry(d)})), "model-dtype-not-accepted")
            for d in dtypes
        },
        **{f"a name with {case}": (_header(json.dumps({name: _entry()})), NAME) for case, name in names.items()},
        "offsets that end at 10^4000": (_header(json.dumps({"w": _entry(offsets=[0, 10**4000])})), BROKEN),
        "offsets that start at -0": (_header('{"w":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}'), BROKEN),
        "sizes whose product overflows": (
            _header(json.dumps({"w": _entry(shape=[1 << 30, 1 << 30, 16], offsets=[0, 0])}), b""),
            BROKEN,
        ),
        "sizes whose product is 2^64 + 4": (
            _header(json.dumps({"w": _entry("U8", [65537, 6700417, 42], [0, 4])})),
            RANGE,
        ),
        "an empty tensor whose strides overflow": (
            _header(json.dumps({"w": _entry("U8", [0, *[(1 << 31) - 1] * 4], [0, 0])}), b""),
            BROKEN,
        ),
        "a petabyte": (_header(json.dumps({"w": _entry("U8", [1 << 25, 1 << 25], [0, 1 << 50])})), BROKEN),
        "one name twice, once escaped": (
            _header("{" + field + "," + field.replace('"w"', '"\\u0077"') + "}"),
            "model-duplicate-names",
        ),
        "one name three times": (_header("{" + ",".join([field] * 3) + "}"), "model-duplicate-names"),
        "__metadata__ twice": (_header('{"__metadata__":{},"__metadata__":{},' + field + "}"), "model-duplicate-names"),
        "one offset field twice": (
            _header('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}}'),
            "model-duplicate-names",
        ),
        "metadata twice in itself": (
            _header('{"__metadata__":{"a":"1","a":"2"},' + field + "}"),
            "model-duplicate-names",
        ),
        "metadata as a list": (_header('{"__metadata__":[],' + field + "}"), BROKEN),
        "metadata within metadata": (_header('{"__metadata__":{"a":{"b":"c"}},' + field + "}"), BROKEN),
        "metadata with half a pair": (_header('{"__metadata__":{"a":"\\ud800"},' + field + "}"), BROKEN),
        "metadata with an escape": (_header('{"__metadata__":{"a":"\\u001b[2J"},' + field + "}"), BROKEN),
        "a header that is a list": (b"\x02" + bytes(7) + b"{]", BROKEN),
        "a header of NaN": (_header('{"w":NaN}'), BROKEN),
        "a header that goes on": (_header("{" + field + "}{}"), BROKEN),
        "a header with a comment": (_header("{" + field + "/* */}"), BROKEN),
        "a header with a trailing comma": (_header("{" + field + ",}"), BROKEN),
        "a header with NUL after it": (_header("{" + field + "}\0\0"), BROKEN),
        "a header in UTF-16": (b"\x04" + bytes(7) + "{}".encode("utf-16-le"), BROKEN),
        "a header in overlong UTF-8": (safetensors(b'{"\xc0\xaf":1}'), BROKEN),
        "a header of no length": (struct.pack("<Q", 0) + b"{}", BROKEN),
        "a header one byte short": (_header("{" + field + "}", length=len(field) + 1), BROKEN),
        "a header as long as the file": (_header("{}", b"", length=10), BROKEN),
        "a length of 2^48 - 1": (_header("{}", length=(1 << 48) - 1), "model-header-too-large"),
        "a length of 2^63": (_header("{}", length=1 << 63), FORMAT),
        "a length of 2^64 - 1": (_header("{}", length=(1 << 64) - 1), FORMAT),
        "nine bytes": (struct.pack("<Q", 100) + b"{", BROKEN),
        "1.6 million tensors": (_many_tensors, "model-header-too-large"),
        "130,000 tensors in 8 MiB": (lambda: _many_tensors(130_000), "model-too-many-tensors"),
        "2.6 million objects": (lambda: _header('{"w":[' + "{}," * (huge // 3 - 9) + "{}]}"), BROKEN),
        "2.6 million lists": (lambda: _header('{"w":[' + "[]," * (huge // 3 - 9) + "[]]}"), BROKEN),
        "four million numbers as a shape": (
            lambda: _header('{"w":{"dtype":"F32","data_offsets":[0,4],"shape":[' + "1," * (huge // 2 - 90) + "1]}}"),
            "model-too-many-dimensions",
        ),
        "one million short keys": (
            lambda: _header('{"w":{' + ",".join(f'"{i:x}":0' for i in range(700_000)) + "}}"),
            BROKEN,
        ),
        "objects 100,000 deep": (lambda: _header('{"a":' * 100_000), BROKEN),
        "lists 900 deep": (_header('{"w":' + "[" * 900 + "]" * 900 + "}"), BROKEN),
        "a name of 8 MiB": (lambda: _header('{"' + "a" * (huge - 99) + '":{}}'), NAME),
        "a float of 4 million digits": (lambda: _header('{"w":1.' + "1" * (4 << 20) + "}"), BROKEN),
        "two tensors on one byte": (_header(json.dumps({"a": _entry(), "b": _entry()})), BROKEN),
        "a tensor within another": (
            _header(json.dumps({"a": _entry(shape=[2], offsets=[0, 8]), "b": _entry(offsets=[4, 8])}), bytes(8)),
            BROKEN,
        ),
        "a hole of one byte": (
            _header(json.dumps({"a": _entry("U8", [1], [0, 1]), "b": _entry("U8", [1], [2, 3])}), bytes(3)),
            BROKEN,
        ),
        "an empty tensor in the middle of another": (
            _header(
                json.dumps({"a": _entry(shape=[2], offsets=[0, 8]), "b": _entry(shape=[0], offsets=[4, 4])}), bytes(8)
            ),
            BROKEN,
        ),
        "a missing field": (_header('{"w":{"dtype":"F32","shape":[1]}}'), BROKEN),
        "a pickle behind the tensors": (_header("{" + field + "}", bytes(4) + b"\x80\x04cposix\nsystem\n."), BROKEN),
        "a zip behind the tensors": (_header("{" + field + "}", bytes(4) + GOOD), BROKEN),
        "a signalling NaN": (_header("{" + field + "}", b"\x01\x00\x80\x7f"), "model-tensor-not-finite"),
        "minus infinity in bf16": (
            _header(json.dumps({"w": _entry("BF16", [2], [0, 4])}), b"\x00\x00\x80\xff"),
            "model-tensor-not-finite",
        ),
        "infinity after 4 MiB": (
            lambda: safetensors({"w": f32(0, (1 << 20) + 1)}, bytes(4 << 20) + b"\x00\x00\x80\x7f"),
            "model-tensor-not-finite",
        ),
        "a boolean of 2": (_header(json.dumps({"w": _entry("BOOL", [4], [0, 4])}), b"\x00\x01\x02\x00"), BROKEN),
    }


def _many_tensors(count: int = 1_600_000) -> bytes:
    entries = (f'"{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(count))
    return _header("{" + ",".join(entries) + "}", b"")
