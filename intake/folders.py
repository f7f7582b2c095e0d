"""A data set as a zip with one folder of images per class."""

from __future__ import annotations

import zipfile
from collections import Counter
from typing import BinaryIO, Final

from intake.archives import ARCHIVE_SUFFIXES, ZIP_MAGIC, Archive
from intake.canonical_set import CanonicalSet, check_classes
from intake.facts import DatasetFacts, DatasetKind
from intake.limits import Limits
from intake.problems import IntakeRefused, refusal, shown

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_JUNK_FILES: Final = {"thumbs.db", "desktop.ini"}
_LAYOUT_ADVICE: Final = "Pack one folder per class, each with its images: cat/1.png, cat/2.png, dog/1.png, ..."


def convert_folders(archive: Archive, target: BinaryIO, limits: Limits, kind: DatasetKind) -> DatasetFacts:
    """Decode every image, in the order of class and file name, into the canonical npz; raises `IntakeRefused`."""
    found = sorted(_classified(archive), key=lambda item: (item[0], item[1].filename))
    counts = Counter(name for name, _ in found)
    classes = sorted(counts)
    index = {name: i for i, name in enumerate(classes)}
    labels = [index[name] for name, _ in found]
    check_classes(classes, [counts[name] for name in classes], kind, limits)
    from intake.images import decode

    with CanonicalSet(target, len(found), limits) as canonical:
        for _, member in found:
            data = archive.read(member, limits.max_image_bytes)
            if data.startswith(ZIP_MAGIC):
                raise _nested(member.filename)
            canonical.add(decode(data, member.filename, limits), member.filename)
        return canonical.finish(labels, classes)


def _classified(archive: Archive) -> list[tuple[str, zipfile.ZipInfo]]:
    """(class name, member) of every image; operating systems' junk is left out, anything else refused."""
    members = [(member.filename.split("/"), member) for member in archive.members if not _is_junk(member.filename)]
    for parts, _ in members:
        if parts[-1].lower().endswith(ARCHIVE_SUFFIXES):
            raise _nested("/".join(parts))
    roots = {parts[0] for parts, _ in members}
    if len(roots) == 1 and members and all(len(parts) == 3 for parts, _ in members):
        members = [(parts[1:], member) for parts, member in members]
    for parts, member in members:
        name = shown(member.filename)
        if not parts[-1].lower().endswith(IMAGE_SUFFIXES):
            raise refusal(
                "dataset-not-an-image", f"{name!r} is not a PNG, JPEG or WebP file. Remove or convert it.", file=name
            )
        if len(parts) != 2:
            where = "lies in no class folder" if len(parts) == 1 else "lies too deep"
            raise refusal("dataset-layout", f"{name!r} {where}. {_LAYOUT_ADVICE}", file=name)
    return [(parts[0], member) for parts, member in members]


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    return any(part.startswith((".", "__MACOSX")) for part in parts) or parts[-1].lower() in _JUNK_FILES


def _nested(name: str) -> IntakeRefused:
    return refusal(
        "dataset-archive-nested",
        f"{shown(name)!r} is an archive within the archive. {_LAYOUT_ADVICE}",
        file=shown(name),
    )
