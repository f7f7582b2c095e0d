"""Opens an untrusted zip file and checks its directory, before any member is read."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from intake.limits import Limits
from intake.problems import shown

ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar", ".npz")
ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")

_END_RECORD = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_END_RECORD = struct.Struct("<4sQ2H2L4Q")
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 65_535
_MEAN_DIRECTORY_ENTRY = 512  # bytes; far above what real archives need
_ENCRYPTED = 0x1
_DOS_FOLDER = 0x10


class ArchiveFault(Exception):
    """What is wrong with an archive: `kind` is the last part of a `dataset-archive-...` slug."""

    def __init__(self, kind: str, detail: str, **extra: str | int) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.extra = extra


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file whose directory is sane: safe unique names, no links, no overlaps, bounded expansion."""

    file: BinaryIO
    zip: zipfile.ZipFile
    members: list[zipfile.ZipInfo]
    """Files only, in the archive's order."""
    limits: Limits

    def read(self, member: zipfile.ZipInfo, max_bytes: int) -> bytes:
        """The whole member; raises `ArchiveFault` when it is broken or larger than `max_bytes`."""
        if member.file_size > max_bytes:
            raise ArchiveFault(
                "bomb",
                f"{shown(member.filename)!r} takes {member.file_size:,} bytes; at most {max_bytes:,} are accepted.",
                file=shown(member.filename),
            )
        try:
            with self.zip.open(member) as stream:
                data = stream.read(member.file_size + 1)
        except BROKEN_MEMBER as error:
            raise broken_member(member, error) from None
        if len(data) != member.file_size:
            raise broken_member(member, "its length is not the one in the directory")
        return data

    def start(self, member: zipfile.ZipInfo) -> int:
        """Where the bytes of a STORED member start in the file."""
        self.file.seek(member.header_offset)
        raw = self.file.read(_LOCAL_HEADER.size)
        if len(raw) != _LOCAL_HEADER.size or raw[:4] != b"PK\x03\x04":
            raise broken_member(member, "its local header is missing")
        name_bytes, extra_bytes = _LOCAL_HEADER.unpack(raw)[9:11]
        return member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes


BROKEN_MEMBER: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # and with it NotImplementedError
    UnicodeDecodeError,
)
"""What reading a damaged member raises."""


def broken_member(member: zipfile.ZipInfo, reason: object) -> ArchiveFault:
    """The fault of a member that cannot be read."""
    name = shown(member.filename)
    return ArchiveFault(
        "broken", f"{name!r} cannot be read from the archive ({shown(reason)}). Pack it again.", file=name
    )


def open_archive(file: BinaryIO, size: int, limits: Limits) -> Archive:
    """The archive in a file of `size` bytes; raises `ArchiveFault`."""
    _check_directory_size(file, size, limits)
    try:
        archive = zipfile.ZipFile(file)
    except (
        zipfile.BadZipFile,
        ValueError,
        OverflowError,
        UnicodeDecodeError,
        NotImplementedError,
        struct.error,
    ) as error:
        raise ArchiveFault(
            "broken", f"The zip file cannot be opened: {shown(error)}. Pack and upload it again."
        ) from None
    infos = archive.infolist()
    _check_count(len(infos), limits)
    seen: set[str] = set()
    for info in infos:
        _check_member(info, seen, limits)
    _check_overlaps(infos, size)
    _check_expansion(infos, limits)
    return Archive(file, archive, [info for info in infos if not info.is_dir()], limits)


def _check_directory_size(file: BinaryIO, size: int, limits: Limits) -> None:
    """Bound the directory from the end record, as Python's reader takes all of it into memory first."""
    tail_bytes = min(size, _END_RECORD.size + _MAX_COMMENT)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END_RECORD.size:
        raise ArchiveFault(
            "broken", "The zip file has no directory at its end: it was cut off. Pack and upload it again."
        )
    record = _END_RECORD.unpack_from(tail, at)
    count, directory_bytes = record[4], record[5]
    locator_at = size - tail_bytes + at - _ZIP64_LOCATOR.size
    if locator_at >= 0:
        file.seek(locator_at)
        locator = _ZIP64_LOCATOR.unpack(file.read(_ZIP64_LOCATOR.size))
        if locator[0] == b"PK\x06\x07":
            file.seek(max(0, locator_at - _ZIP64_END_RECORD.size))
            wide = file.read(_ZIP64_END_RECORD.size)
            if wide[:4] == b"PK\x06\x06":
                count, directory_bytes = _ZIP64_END_RECORD.unpack(wide)[7:9]
    _check_count(count, limits)
    if directory_bytes > limits.max_members * _MEAN_DIRECTORY_ENTRY:
        raise ArchiveFault("too-many-members", f"The zip file's directory takes {directory_bytes:,} bytes.")


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.max_members:
        raise ArchiveFault(
            "too-many-members",
            f"The archive has {count:,} members; at most {limits.max_members:,} are accepted. Upload a sample.",
        )


def _check_member(info: zipfile.ZipInfo, seen: set[str], limits: Limits) -> None:
    name = info.filename
    where = shown(name)
    parts = name.rstrip("/").split("/")
    unsafe = name.startswith("/") or "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts)
    if unsafe or info.orig_filename != name or not name.isprintable() or len(name) > 1024:
        raise ArchiveFault(
            "unsafe-name", f"The name {where!r} is not a plain relative path. Pack the folder again.", file=where
        )
    if name.rstrip("/") in seen:
        raise ArchiveFault("duplicate-name", f"The archive holds {where!r} twice. Pack the folder again.", file=where)
    seen.add(name.rstrip("/"))
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    # torch.load takes a file with the attribute of a folder for one, and hands out memory that nobody has filled.
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (info.external_attr & _DOS_FOLDER and not info.is_dir()):
        raise ArchiveFault(
            "link", f"{where!r} is a link or a special file. Put the file itself into the archive.", file=where
        )
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveFault(
            "encrypted", f"{where!r} is encrypted. Pack the folder again without a password.", file=where
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveFault(
            "broken", f"{where!r} is compressed by an unusual method; use stored or deflate.", file=where
        )
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise ArchiveFault("broken", f"{where!r} is stored, yet its two sizes differ.", file=where)
    if info.file_size > max(limits.ratio_floor_bytes, limits.max_ratio * info.compress_size):
        raise ArchiveFault(
            "bomb",
            f"{where!r} expands from {info.compress_size:,} to {info.file_size:,} bytes, "
            f"more than {limits.max_ratio} times. Pack it without compression.",
            file=where,
        )


def _check_overlaps(infos: Sequence[zipfile.ZipInfo], size: int) -> None:
    end = 0
    # Bytes before the first member, or a second zip in the comment: readers differ on what such a file holds.
    if infos and min(info.header_offset for info in infos) != 0:
        raise ArchiveFault("broken", "The zip file does not start where it should. Pack and upload it again.")
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveFault(
                "bomb", f"{shown(info.filename)!r} shares bytes with another member.", file=shown(info.filename)
            )
        end = info.header_offset + _LOCAL_HEADER.size + info.compress_size
    if end > size:
        raise ArchiveFault("broken", "A member lies outside of the zip file: it was cut off. Pack and upload it again.")


def _check_expansion(infos: Sequence[zipfile.ZipInfo], limits: Limits) -> None:
    packed, unpacked = (sum(getattr(info, field) for info in infos) for field in ("compress_size", "file_size"))
    if unpacked > max(limits.ratio_floor_bytes, limits.max_ratio * packed):
        raise ArchiveFault(
            "bomb", f"The archive expands from {packed:,} to {unpacked:,} bytes, more than {limits.max_ratio} times."
        )
