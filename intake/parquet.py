"""A data set as a Parquet file with encoded images, as Hugging Face's datasets library writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from intake.arrays import index_labels
from intake.canonical_set import CanonicalSet, check_classes
from intake.facts import DatasetFacts, DatasetKind
from intake.images import decode
from intake.limits import Limits
from intake.problems import IntakeRefused, is_plain_text, refusal, shown

_IMAGE_COLUMNS: Final = ("image", "img")
_LABEL_COLUMNS: Final = ("label", "labels", "fine_label")
_BATCH_ROWS: Final = 8  # each row gets its own copy of an image that the file holds once
_BUFFER_BYTES: Final = 1 << 20
_ADVICE: Final = (
    "Write one row per image: a column image with {bytes, path} and a column label with the class's number."
)


def convert_parquet(source: BinaryIO, target: BinaryIO, limits: Limits, kind: DatasetKind) -> DatasetFacts:
    """Decode the image column into the canonical npz, in the file's order; raises `IntakeRefused`."""
    with _broken_file():
        # One thread, and no reading ahead: memory stays small, and no thread pool is needed in the sandbox.
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        rows, schema = file.metadata.num_rows, file.schema_arrow
        _check_expansion(file.metadata, limits)
    image, label = _columns(schema)
    if not 0 < rows <= limits.max_members:
        check_classes([], [max(rows, 0)], kind, limits)
    names = _class_names(schema, label)
    classes, labels = _classes(_labels(file, label, rows), names, kind, limits)
    with CanonicalSet(target, rows, limits) as canonical:
        for row, data in enumerate(_encoded_images(file, image, rows)):
            name = f"row {row}"
            if data is None:
                raise refusal("dataset-image-broken", f"In {name} the image has no bytes. {_ADVICE}", file=name)
            if len(data) > limits.max_image_bytes:
                raise refusal(
                    "dataset-image-too-large",
                    f"In {name} the image takes {len(data):,} bytes. Encode it smaller.",
                    file=name,
                )
            canonical.add(decode(data, name, limits), name)
        return canonical.finish(labels, classes)


@contextmanager
def _broken_file() -> Iterator[None]:
    """Turn what Arrow raises on damaged bytes into a refusal; memory and the disk's own faults pass."""
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _broken((str(error) or type(error).__name__).splitlines()[0]) from None


def _broken(why: str) -> IntakeRefused:
    return refusal(
        "dataset-archive-broken", f"The Parquet file cannot be read: {shown(why)}. Write and upload it again."
    )


def _check_expansion(metadata: pq.FileMetaData, limits: Limits) -> None:
    """Encoded images hardly compress; a file that says otherwise is refused before a page is unpacked."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    packed, unpacked = (
        sum(getattr(c, f"total_{kind}_size") for c in chunks) for kind in ("compressed", "uncompressed")
    )
    if unpacked > max(limits.ratio_floor_bytes, limits.max_ratio * packed):
        raise refusal(
            "dataset-archive-bomb",
            f"The columns expand from {packed:,} to {unpacked:,} bytes, more than {limits.max_ratio} times. {_ADVICE}",
        )


def _columns(schema: pa.Schema) -> tuple[str, str]:
    """(image column, label column); raises `dataset-arrays-missing`."""
    image = next((name for name in _IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in _LABEL_COLUMNS if name in schema.names), None)
    if image is None or label is None or len(set(schema.names)) != len(schema.names):
        found = [shown(name, 40) for name in schema.names[:20]]
        raise refusal("dataset-arrays-missing", f"The file's columns are {', '.join(found)}. {_ADVICE}", found=found)
    kind = schema.field(image).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0 or not _is_binary(kind.field("bytes").type):
        raise refusal("dataset-arrays-missing", f"The column {image} holds {shown(kind)}, not encoded bytes. {_ADVICE}")
    if not pa.types.is_integer(schema.field(label).type):
        raise refusal(
            "dataset-arrays-missing", f"The column {label} holds {shown(schema.field(label).type)}. {_ADVICE}"
        )
    return image, label


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _labels(file: pq.ParquetFile, column: str, rows: int) -> np.ndarray:
    """Class ids (N,), int64."""
    with _broken_file():
        values: list[int | None] = []
        for batch in file.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False):
            values += batch.column(0).to_pylist()
            if len(values) > rows:
                break
    if len(values) != rows:
        raise _broken(f"it says it has {rows:,} rows but has another number of labels")
    # A row without a label, or one beyond int64, is out of range like -1.
    return np.array([-1 if value is None or value >= 1 << 63 else value for value in values], np.int64)


def _class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """The names of the label's classes, in their order, if Hugging Face's metadata give them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(n, str) and n and is_plain_text(n) for n in names):
        return None
    return names if len(set(names)) == len(names) else None


def _classes(
    labels: np.ndarray, names: list[str] | None, kind: DatasetKind, limits: Limits
) -> tuple[list[str] | list[int], np.ndarray]:
    """(classes, labels as indices into them): all named classes of a clean set, else those that occur."""
    ids, indices = index_labels(labels, limits)
    if names is None:
        check_classes(ids, np.bincount(indices).tolist(), kind, limits)
        return ids, indices
    if ids[-1] >= len(names):
        raise refusal(
            "dataset-label-out-of-range",
            f"A label is {ids[-1]:,}, but the file names only {len(names):,} classes, numbered from 0.",
            lowest=ids[0],
            highest=ids[-1],
        )
    if kind == "triggered":
        return [names[i] for i in ids], indices
    check_classes(names, np.bincount(labels, minlength=len(names)).tolist(), kind, limits)
    return names, labels


def _encoded_images(file: pq.ParquetFile, column: str, rows: int) -> Iterator[bytes | None]:
    """Each row's encoded image, exactly `rows` of them."""
    count = 0
    with _broken_file():
        for batch in file.iter_batches(_BATCH_ROWS, columns=[f"{column}.bytes"], use_threads=False):
            for value in batch.column(0).field("bytes"):
                count += 1
                if count > rows:
                    break
                yield value.as_py()
    if count != rows:
        raise _broken(f"it says it has {rows:,} rows but has another number of images")
