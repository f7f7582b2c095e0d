"""A good file of every accepted format and variant, so that the guards do not refuse what people have."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...intake.builders import (
    a_dict,
    arrays,
    call,
    encoded,
    f32,
    folders,
    integer,
    npz,
    pixels,
    png,
    safetensors,
    storage,
    tensor,
    torch_zip,
    zip_of,
)

_STORAGES = {
    "FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip


def good_models() -> dict[str, bytes]:
    """name -> model file that must be accepted."""
    state = a_dict(w=tensor())
    parameter = call("torch._utils", "_rebuild_parameter", tensor(), b"\x88", call("collections", "OrderedDict"))
    tied = b"}(" + b"".join(b"X\x02\x00\x00\x00" + name + tensor() for name in (b"w0", b"w1", b"w2")) + b"u"
    return {
        "safetensors": safetensors({"a": f32(0, 3), "b": f32(12)}, bytes(16)),
        "safetensors with metadata": safetensors({"__metadata__": {"format": "pt"}, "a": f32(0)}, bytes(4)),
        "safetensors with an empty tensor": safetensors(
            {"a": f32(0), "e": {"dtype": "F32", "shape": [0, 3], "data_offsets": [4, 4]}}, bytes(4)
        ),
        "safetensors with blanks after the header": safetensors(
            b'{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}   ', b"x"
        ),
        "a bare state dict": torch_zip(state),
        "tied weights": torch_zip(tied),
        "a parameter": torch_zip(a_dict(w=parameter)),
        "a transposed weight": torch_zip(a_dict(w=tensor(shape=(2, 2), stride=(1, 2)))),
        "a prefix": torch_zip(a_dict(**{"module.w": tensor(), "module.b": tensor()})),
        "another root": torch_zip(state, root="model_best.pth"),
        "a byte order": torch_zip(state, others={"archive/byteorder": b"little"}),
        "alignment records": torch_zip(state, others={"archive/.data/serialization_id": b"1" * 40}),
        **{
            f"{kind}": torch_zip(a_dict(w=tensor(of=storage(kind=kind))), {"0": bytes(4 * size)})
            for kind, size in _STORAGES.items()
        },
        **{
            f"under {wrapper}": torch_zip(a_dict(epoch=integer(3), **{wrapper: state}))
            for wrapper in ("state_dict", "model", "net", "model_state_dict")
        },
    }


def good_datasets() -> dict[str, bytes]:
    """name -> data set that must be accepted."""
    images = {
        f"{kind} {options}": zip_of(
            {f"{c}/{i}.{kind}": encoded(pixels(10 * c + i), kind, **options) for c in range(2) for i in range(5)}
        )
        for kind, options in (("png", {}), ("jpeg", {}), ("jpeg", {"progressive": True}), ("webp", {}))
    }
    return {
        **images,
        "class folders, deflated": zip_of(folders(), compression=zipfile.ZIP_DEFLATED),
        "class folders in a folder": zip_of(folders(prefix="my set/")),
        "class folders with junk": zip_of(folders() | {".DS_Store": b"x", "__MACOSX/cat/._1.png": b"x"}),
        "names in other scripts": zip_of(folders(("猫", "собака"))),
        **{f"npz of {dtype}": npz(**arrays(dtype=dtype)) for dtype in ("u1", "f2", "f4")},
        "npz, deflated": npz(compressed=True, **arrays()),
        "npz with channels last": npz(
            images=np.ascontiguousarray(arrays()["images"].transpose(0, 2, 3, 1)), labels=arrays()["labels"]
        ),
        **{f"Parquet, {compression}": _parquet(compression) for compression in ("snappy", "zstd", "gzip", "none")},
    }


def _parquet(compression: str) -> bytes:
    buffer = io.BytesIO()
    rows = [{"bytes": png(i), "path": None} for i in range(10)]
    pq.write_table(pa.table({"image": rows, "label": [0, 1] * 5}), buffer, compression=compression)
    return buffer.getvalue()
