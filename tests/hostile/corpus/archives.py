"""Crafted zips of class folders: directories that lie, names, links, bombs, layouts."""

from __future__ import annotations

import zipfile

from ...intake.builders import encoded, folders, pixels, png, zip_of
from .case import Bait, Crafted
from .images import with_image
from .zips import BROKEN_LIES, COUNT_LIES, NAMES, central, named, patched, quoted, two_directories, zip64

BROKEN = "dataset-archive-broken"
BOMB = "dataset-archive-bomb"
MANY = "dataset-archive-too-many-members"
NAME = "dataset-archive-unsafe-name"
TWICE = "dataset-archive-duplicate-name"
NESTED = "dataset-archive-nested"
LINK = "dataset-archive-link"
NOT_IMAGE = "dataset-not-an-image"
GOOD = zip_of(folders())


def crafted_archives(bait: Bait) -> Crafted:
    members = list(folders().items())
    lies: dict[str, tuple[bytes, str]] = {case: (lie(GOOD), BROKEN) for case, lie in BROKEN_LIES.items()}
    modes = {"a link": 0o120777, "a device": 0o060666, "a terminal": 0o020666, "a pipe": 0o010666, "a socket": 0o140777}
    wraps = {
        ".zip": GOOD,
        ".tar.gz": b"\x1f\x8b",
        ".7z": b"7z",
        ".rar": b"Rar!",
        ".jar": b"PK",
        ".npz": b"PK",
        ".zst": b"",
    }
    return {
        **lies,
        "a member beyond the file": (BROKEN_LIES["a member beyond the file"](GOOD), BOMB),
        "a directory of no size": (BROKEN_LIES["a directory of no size"](GOOD), "dataset-empty"),
        **{case: (lie(GOOD), MANY) for case, lie in COUNT_LIES.items()},
        **{f"a name with {case}": (named(members, name, png()), NAME) for case, name in NAMES.items()},
        **{f"{case} among the images": (_special("cat/9.png", mode), LINK) for case, mode in modes.items()},
        "an image that calls itself a folder": (patched(GOOD, _at() + 38, "<L", 0x10), LINK),
        "a link for a class": (_special("emu", 0o120777, b"/"), LINK),
        "a link that is a folder": (_special("emu/", 0o120777, b"/"), LINK),
        **{
            f"{suffix} within": (zip_of(folders() | {f"cat/x{suffix}": data}), NESTED) for suffix, data in wraps.items()
        },
        "a zip that is called jpg": (with_image(GOOD, "cat/x.jpg"), NESTED),
        "zips five deep": (_nest(5), NESTED),
        "one name twice": (_twice("cat/8.png", "cat/9.png"), TWICE),
        "a file and a folder of one name": (zip_of([*members, ("cat/9.png", png()), ("cat/9.png/", b"")]), TWICE),
        "all members on one kernel": (quoted([f"{c}/{i}.png" for c in ("a", "b") for i in range(5)], png()), BOMB),
        "250 members on one kernel of a megabyte": (quoted([f"a/{i}.png" for i in range(250)], bytes(1 << 20)), BOMB),
        "a member of 2 GiB": (quoted(["a/1.png"], bytes(1 << 20), 20), BOMB),
        "a ratio of 1,000": (lambda: zip_of(folders() | {"cat/x.png": bytes(100 << 20)}, compression=8), BOMB),
        "small members that expand": (
            zip_of({f"cat/{i}.png": bytes(1_000_000) for i in range(8)}, compression=8),
            BOMB,
        ),
        "a size that is too small": (patched(zip_of(folders(), compression=8), _at(8) + 24, "<L", 60), BROKEN),
        "a size that is too large": (patched(zip_of(folders(), compression=8), _at(8) + 24, "<L", 900_000), BROKEN),
        "a size of 4 GiB": (patched(zip_of(folders(), compression=8), _at(8) + 24, "<L", 0xFFFFFFFE), BOMB),
        "a wrong checksum": (patched(GOOD, _at() + 16, "<L", 1), BROKEN),
        "stored called deflated": (patched(patched(GOOD, _at() + 10, "<H", 8), 8, "<H", 8), BROKEN),
        "deflated bytes of noise": (_noise(), BROKEN),
        "encryption by ZipCrypto": (
            patched(patched(GOOD, 6, "<H", 1), _at() + 8, "<H", 1),
            "dataset-archive-encrypted",
        ),
        "strong encryption": (patched(GOOD, _at() + 8, "<H", 0x41), "dataset-archive-encrypted"),
        "patched data": (patched(GOOD, _at() + 8, "<H", 0x20), BROKEN),
        "two directories": (two_directories(zip_of({"cat/1.png": png()}), GOOD), BROKEN),
        "a zip64 of another zip": (zip64(zip_of({"cat/1.png": png()})), "dataset-one-class"),
        "50,001 members": (lambda: zip_of({f"c{i % 2}/{i}.png": b"" for i in range(50_001)}), MANY),
        "50,001 folders": (lambda: zip_of({f"c{i}/": b"" for i in range(50_001)}), MANY),
        "a class that is junk": (zip_of(folders(("cat", "__MACOSX"))), "dataset-one-class"),
        "images in a hidden folder": (zip_of(folders((".cat", ".dog"))), "dataset-empty"),
        "a script beside the images": (zip_of(folders() | {"cat/x.sh": bait.command.encode()}), NOT_IMAGE),
        "a pickle beside the images": (zip_of(folders() | {"cat/x.pkl": b"\x80\x04N."}), NOT_IMAGE),
        "a page beside the images": (zip_of(folders() | {"index.html": b"<script>"}), NOT_IMAGE),
        "three levels": (zip_of(folders(prefix="train/a/")), "dataset-layout"),
        "two roots": (zip_of(folders(prefix="train/") | folders(prefix="test/")), "dataset-layout"),
        "a class of one image": (zip_of(folders() | {"emu/1.png": png(7)}), "dataset-class-too-small"),
        "the same image everywhere": (
            zip_of({f"{c}/{i}.png": png() for c in "ab" for i in range(9)}),
            "dataset-duplicates",
        ),
        "one image in other packings": (_repacked(), "dataset-duplicates"),
    }


def _at(compression: int = 0) -> int:
    return central(zip_of(folders(), compression=compression))


def _special(path: str, mode: int, data: bytes = b"/etc/passwd") -> bytes:
    member = zipfile.ZipInfo(path)
    member.create_system, member.external_attr = 3, mode << 16
    return zip_of([*folders().items(), (member, data)])


def _nest(levels: int) -> bytes:
    upload = GOOD
    for _ in range(levels):
        upload = zip_of(folders() | {"cat/x.png": upload}, compression=8)
    return upload


def _twice(old: str, name: str) -> bytes:
    return zip_of(folders() | {old: png(8), name: png(9)}).replace(old.encode(), name.encode())


def _noise() -> bytes:
    upload = bytearray(zip_of(folders(), compression=8))
    upload[39:139] = bytes(range(100, 200))
    return bytes(upload)


def _repacked() -> bytes:
    image = pixels(1)
    same = {f"cat/x{n}.png": encoded(image, "PNG", compress_level=n) for n in range(10)}
    return zip_of(folders() | same | {f"dog/y{n}.png": encoded(image, "PNG", compress_level=n) for n in range(5)})
