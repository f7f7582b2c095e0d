"""From an uploaded data set of any kind to the canonical npz, or to the reason why not."""

from __future__ import annotations

from typing import BinaryIO

from intake.archives import ZIP_MAGIC, Archive, ArchiveFault, open_archive
from intake.facts import DatasetFacts, DatasetKind
from intake.formats import HEAD_BYTES, check_not_a_pointer, name_of
from intake.limits import Limits
from intake.problems import IntakeRefused, refusal

# numpy, Pillow and pyarrow are imported only once the file is known to need them: a bad file is answered sooner.


def convert(source: BinaryIO, size: int, target: BinaryIO, limits: Limits, kind: DatasetKind) -> DatasetFacts:
    """Write the canonical form of the data set in `source` (`size` bytes) to `target`; raises `IntakeRefused`."""
    if size > limits.max_dataset_bytes:
        raise refusal(
            "dataset-too-large", f"The file has {size:,} bytes; at most {limits.max_dataset_bytes:,} are accepted."
        )
    head = source.read(HEAD_BYTES)
    check_not_a_pointer(head)
    if head.startswith(ZIP_MAGIC):
        try:
            return _convert_zip(open_archive(source, size, limits), target, limits, kind)
        except ArchiveFault as fault:
            raise IntakeRefused(f"dataset-archive-{fault.kind}", fault.detail, dict(fault.extra)) from None
    if head.startswith(b"PAR1"):
        from intake.parquet import convert_parquet

        source.seek(0)
        return convert_parquet(source, target, limits, kind)
    found = name_of(head)
    raise refusal(
        "dataset-format-not-accepted",
        f"The file is {found}. Accepted are a zip with one folder of PNG, JPEG or WebP images per class, an npz of "
        "images and labels, and a Parquet file with encoded images.",
        found=found,
    )


def _convert_zip(archive: Archive, target: BinaryIO, limits: Limits, kind: DatasetKind) -> DatasetFacts:
    if archive.members and all("/" not in m.filename and m.filename.endswith(".npy") for m in archive.members):
        from intake.arrays import convert_arrays

        return convert_arrays(archive, target, limits, kind)
    from intake.folders import convert_folders

    return convert_folders(archive, target, limits, kind)
