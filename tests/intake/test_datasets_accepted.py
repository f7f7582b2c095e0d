"""Data sets that people have: the canonical form holds the very pixels and labels."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from .builders import arrays, encoded, folders, npz, pixels, png, zip_of


def rgb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def parquet(
    rows: list[tuple[bytes, int]], *, names: list[str] | None = None, columns: tuple[str, str] = ("image", "label")
) -> bytes:
    """A Parquet file as Hugging Face's datasets writes it."""
    table = pa.table(
        {columns[0]: [{"bytes": data, "path": None} for data, _ in rows], columns[1]: [i for _, i in rows]}
    )
    if names is not None:
        info = {
            "info": {"features": {columns[0]: {"_type": "Image"}, columns[1]: {"names": names, "_type": "ClassLabel"}}}
        }
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=7)
    return buffer.getvalue()


@pytest.mark.parametrize("prefix", ["", "my clean set/"])
@pytest.mark.parametrize("compression", [0, 8])
def test_a_zip_of_class_folders(prefix: str, compression: int, read_dataset: Callable) -> None:
    members = folders(("dog", "cat", "emu"), 6, prefix)
    facts, path = read_dataset(zip_of(members, compression=compression))
    assert facts == {
        "images": 18,
        "classes": ["cat", "dog", "emu"],
        "per_class": [6, 6, 6],
        "shape": [3, 8, 8],
        "dtype": "uint8",
        "duplicates": 0,
    }
    canonical = np.load(path)
    assert canonical["labels"].dtype == np.int64
    assert canonical["labels"].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    expected = [rgb(data) for _, data in sorted(members.items())]
    np.testing.assert_array_equal(canonical["images"], expected)


def test_the_canonical_form_is_stored_and_the_same_for_every_packing(read_dataset: Callable) -> None:
    members = folders()
    _, path = read_dataset(zip_of(members))
    first = path.read_bytes()
    _, path = read_dataset(zip_of(dict(reversed(members.items())), compression=8))
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("kind", "suffix", "options"),
    [
        ("PNG", "PNG", {}),
        ("JPEG", "jpg", {"quality": 90}),
        ("JPEG", "JPEG", {"progressive": True}),
        ("WEBP", "webp", {}),
    ],
)
def test_each_image_format_decodes_as_pillow_does(
    kind: str, suffix: str, options: dict, read_dataset: Callable
) -> None:
    members = {f"{c}/{i}.{suffix}": encoded(pixels(10 * c + i), kind, **options) for c in range(2) for i in range(5)}
    facts, path = read_dataset(zip_of(members))
    assert facts["classes"] == ["0", "1"]
    np.testing.assert_array_equal(np.load(path)["images"], [rgb(data) for data in members.values()])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_other_colour_modes_become_rgb(mode: str, read_dataset: Callable) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    members = folders()
    odd = encoded(Image.fromarray(pixels(99)).convert(mode), kind)
    members["cat/9.jpg"] = odd
    _, path = read_dataset(zip_of(members))
    np.testing.assert_array_equal(np.load(path)["images"][5], rgb(odd))


def test_the_first_picture_of_a_phone_jpeg_with_two(read_dataset: Callable) -> None:
    photo, depth = Image.fromarray(pixels(1)), Image.fromarray(pixels(2))
    members = folders() | {"cat/9.jpg": encoded(photo, "MPO", save_all=True, append_images=[depth])}
    _, path = read_dataset(zip_of(members))
    np.testing.assert_array_equal(np.load(path)["images"][5], rgb(encoded(photo, "JPEG")))


def test_junk_of_operating_systems_is_left_out(read_dataset: Callable) -> None:
    junk = {
        "__MACOSX/cat/._1.png": b"x",
        ".DS_Store": b"x",
        "cat/.DS_Store": b"x",
        "dog/Thumbs.db": b"x",
        "cat/desktop.ini": b"x",
        ".ipynb_checkpoints/1.png": b"x",
    }
    facts, _ = read_dataset(zip_of(folders() | junk | {"empty/": b""}))
    assert facts["images"] == 10


def test_a_triggered_set_may_be_one_small_class(read_dataset: Callable) -> None:
    facts, path = read_dataset(zip_of({"airplane/1.png": png(1), "airplane/2.png": png(2)}), kind="triggered")
    assert (facts["classes"], facts["per_class"]) == (["airplane"], [2])
    assert np.load(path)["labels"].tolist() == [0, 0]


def test_some_duplicates_are_counted(read_dataset: Callable) -> None:
    members = folders() | {"cat/copy.png": png(0), "dog/copy.png": png(0)}
    facts, _ = read_dataset(zip_of(members))
    assert facts["duplicates"] == 2


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "stored"), [(np.uint8, np.uint8), (np.float32, np.float32), (np.float16, np.float32)]
)
def test_an_npz(compressed: bool, dtype: Any, stored: Any, read_dataset: Callable) -> None:
    given = arrays(dtype=dtype)
    facts, path = read_dataset(npz(compressed=compressed, **given))
    assert (facts["classes"], facts["per_class"], facts["shape"]) == ([0, 1], [5, 5], [3, 4, 4])
    assert facts["dtype"] == np.dtype(stored).name
    canonical = np.load(path)
    assert canonical["images"].dtype == stored
    np.testing.assert_array_equal(canonical["images"], given["images"])
    np.testing.assert_array_equal(canonical["labels"], given["labels"])


def test_an_npz_with_channels_last_and_sparse_class_ids(read_dataset: Callable) -> None:
    given = arrays()
    facts, path = read_dataset(
        npz(images=given["images"].transpose(0, 2, 3, 1).copy(), labels=given["labels"].astype("u1") * 7 + 1)
    )
    assert facts["classes"] == [1, 8]
    np.testing.assert_array_equal(np.load(path)["images"], given["images"])
    np.testing.assert_array_equal(np.load(path)["labels"], given["labels"])


def test_an_npz_larger_than_one_chunk(read_dataset: Callable) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 256, 256), np.uint8)
    labels = np.arange(30) % 3
    _, path = read_dataset(npz(images=images, labels=labels))
    np.testing.assert_array_equal(np.load(path)["images"], images)


def test_sorted_labels_that_compress_more_than_a_hundredfold(read_dataset: Callable) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4000, 1, 2, 4), np.uint8)
    upload = npz(compressed=True, images=images, labels=np.repeat([0, 1], 2000))
    facts, _ = read_dataset(upload)
    assert facts["per_class"] == [2000, 2000]


@pytest.mark.parametrize("columns", [("image", "label"), ("img", "fine_label")])
def test_parquet_as_hugging_face_writes_it(columns: tuple[str, str], read_dataset: Callable) -> None:
    rows = [(png(i), (i + 1) % 2) for i in range(20)]
    facts, path = read_dataset(parquet(rows, names=["zebra", "ant"], columns=columns))
    assert (facts["classes"], facts["per_class"]) == (["zebra", "ant"], [10, 10])
    np.testing.assert_array_equal(np.load(path)["images"], [rgb(data) for data, _ in rows])
    assert np.load(path)["labels"].tolist() == [label for _, label in rows]


def test_parquet_without_names_gives_class_ids(read_dataset: Callable) -> None:
    facts, path = read_dataset(parquet([(png(i), 3 + 2 * (i % 2)) for i in range(10)]))
    assert facts["classes"] == [3, 5]
    assert np.load(path)["labels"].tolist() == [0, 1] * 5


def test_triggered_parquet_names_only_the_classes_that_occur(read_dataset: Callable) -> None:
    facts, _ = read_dataset(parquet([(png(1), 2), (png(2), 2)], names=["a", "b", "c"]), kind="triggered")
    assert (facts["classes"], facts["per_class"]) == (["c"], [2])
