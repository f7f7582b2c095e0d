"""Broken and hostile data sets: each is refused for its own reason, which is part of the public contract."""

from __future__ import annotations

import io
import json
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from intake.limits import Limits
from intake.problems import PROBLEMS, IntakeRefused

from .builders import arrays, encoded, folders, npz, pixels, png, zip_of


def with_mode(path: str, mode: int, data: bytes = b"x") -> list[tuple[Any, bytes]]:
    """The good data set and one member of another file type, such as a link."""
    member = zipfile.ZipInfo(path)
    member.create_system, member.external_attr = 3, mode << 16
    return [*folders().items(), (member, data)]


def encrypted() -> bytes:
    upload = bytearray(zip_of(folders()))
    upload[6] |= 1
    upload[upload.index(b"PK\x01\x02") + 8] |= 1
    return bytes(upload)


def overlapping() -> bytes:
    """Two directory entries that point to one member: the trick of the 46 MB zip that expands to 4.5 PB."""
    upload = zip_of({"cat/1.png": png(), "cat/2.png": png()})
    buffer = io.BytesIO(upload)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.filelist[1].header_offset = archive.filelist[0].header_offset
        archive.writestr("cat/3.png", png())
    return buffer.getvalue()


def damaged(upload: bytes, needle: bytes) -> bytes:
    at = upload.index(needle) + len(needle) // 2
    return upload[:at] + bytes([upload[at] ^ 0xFF]) + upload[at + 1 :]


def overwritten(upload: bytes) -> bytes:
    return upload[:4] + b"\xff" * 200 + upload[204:]


def giant_png(side: int) -> bytes:
    """A small PNG that says it is `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1_000_000), 9)) + chunk(b"IEND", b"")


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(pixels(i)) for i in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npy_zip(**members: bytes) -> bytes:
    return zip_of({f"{name}.npy": data for name, data in members.items()})


def raw(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def parquet(**columns: Any) -> bytes:
    return parquet_table(pa.table(columns))


def parquet_table(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def images(count: int = 10) -> list[dict[str, Any]]:
    return [{"bytes": png(i), "path": None} for i in range(count)]


def named(labels: list[int], names: list[str]) -> bytes:
    table = pa.table({"image": images(len(labels)), "label": labels})
    info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    return parquet_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}))


def parquet_bomb() -> bytes:
    table = pa.table({"image": [*images(9), {"bytes": bytes(4 << 20), "path": None}], "label": [0, 1] * 5})
    return parquet_table(table, compression="zstd")


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("cat/1.png"))
    return buffer.getvalue()


A, LABELS = arrays()["images"], arrays()["labels"]
NAN = arrays(dtype=np.float32)["images"]
NAN[7, 2, 3, 3] = np.nan
NOISE = np.random.default_rng(0).bytes(400_000)
SHORT = {"cat/1.png": png(1), "dog/1.png": png(2)}
DEEP = "{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 5000 + ")" * 5000 + ", }"

ARCHIVES: dict[str, tuple[bytes, str]] = {
    "zip slip": (zip_of(folders() | {"../../etc/x.png": png()}), "dataset-archive-unsafe-name"),
    "zip slip in the middle": (zip_of(folders() | {"cat/../../x.png": png()}), "dataset-archive-unsafe-name"),
    "an absolute name": (zip_of(folders() | {"/etc/x.png": png()}), "dataset-archive-unsafe-name"),
    "a drive letter": (zip_of(folders() | {"C:/x.png": png()}), "dataset-archive-unsafe-name"),
    "backslashes": (zip_of(folders() | {"cat\\..\\x.png": png()}), "dataset-archive-unsafe-name"),
    "a name with a line break": (zip_of(folders() | {"cat/a\nb.png": png()}), "dataset-archive-unsafe-name"),
    "a name that reads backwards": (zip_of(folders() | {"cat/a\u202egnp.png": png()}), "dataset-archive-unsafe-name"),
    "a link": (zip_of(with_mode("cat/x.png", stat.S_IFLNK | 0o777, b"/etc/passwd")), "dataset-archive-link"),
    "a linked folder": (zip_of(with_mode("emu", stat.S_IFLNK | 0o777, b"/")), "dataset-archive-link"),
    "a device": (zip_of(with_mode("cat/x.png", stat.S_IFCHR | 0o666)), "dataset-archive-link"),
    "encryption": (encrypted(), "dataset-archive-encrypted"),
    "a zip within": (zip_of(folders() | {"cat/more.zip": zip_of(folders())}), "dataset-archive-nested"),
    "a zip within that is called png": (zip_of(folders() | {"cat/more.png": zip_of({})}), "dataset-archive-nested"),
    "a tar within": (zip_of(folders() | {"all.tar.gz": b"\x1f\x8b"}), "dataset-archive-nested"),
    "a bomb by ratio": (
        zip_of(folders() | {"cat/x.png": bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED),
        "dataset-archive-bomb",
    ),
    "a bomb of many small members": (
        zip_of({f"cat/{i}.png": bytes(1_000_000) for i in range(8)}, compression=zipfile.ZIP_DEFLATED),
        "dataset-archive-bomb",
    ),
    "a bomb beside what hardly compresses": (
        zip_of(folders() | {"cat/noise.png": NOISE, "cat/x.png": bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED),
        "dataset-archive-bomb",
    ),
    "members that share their bytes": (overlapping(), "dataset-archive-bomb"),
    "a member of 33 MB": (zip_of(folders() | {"cat/x.png": b"\x89PNG" + bytes(33 << 20)}), "dataset-archive-bomb"),
    "an unusual compression": (zip_of(folders(), compression=zipfile.ZIP_LZMA), "dataset-archive-broken"),
    "a zip that was cut off": (zip_of(folders())[:-200], "dataset-archive-broken"),
    "a zip that lost its start": (zip_of(folders())[:4] + zip_of(folders())[1000:], "dataset-archive-broken"),
    "a damaged member": (damaged(zip_of(folders()), png(0)), "dataset-archive-broken"),
    "four bytes of a zip": (b"PK\x03\x04", "dataset-archive-broken"),
}

LAYOUT: dict[str, tuple[bytes, str]] = {
    "an empty zip": (zip_of({}), "dataset-empty"),
    "only junk": (zip_of({".DS_Store": b"x", "__MACOSX/._a.png": b"x"}), "dataset-empty"),
    "one class": (zip_of(folders(("cat",))), "dataset-one-class"),
    "a small class": (zip_of(folders() | {"emu/1.png": png(7)}), "dataset-class-too-small"),
    "two images": (zip_of(SHORT), "dataset-class-too-small"),
    "images without folders": (zip_of({f"{i}.png": png(i) for i in range(10)}), "dataset-layout"),
    "an image beside the folders": (zip_of(folders() | {"x.png": png()}), "dataset-layout"),
    "folders that are too deep": (zip_of(folders(prefix="a/b/")), "dataset-layout"),
    "a list of labels": (zip_of(folders() | {"labels.csv": b"1,cat"}), "dataset-not-an-image"),
    "a text called png": (zip_of(folders() | {"cat/x.png": b"hello"}), "dataset-not-an-image"),
    "a GIF called png": (zip_of(folders() | {"cat/x.png": encoded(pixels(1), "GIF")}), "dataset-not-an-image"),
    "an empty image": (zip_of(folders() | {"cat/x.png": b""}), "dataset-not-an-image"),
    "an SVG": (zip_of(folders() | {"cat/x.svg": b"<svg/>"}), "dataset-not-an-image"),
}

IMAGES: dict[str, tuple[bytes, str]] = {
    "a PNG that was cut off": (png()[:150], "dataset-image-broken"),
    "a PNG of a header alone": (png()[:33], "dataset-image-broken"),
    "a JPEG that was cut off": (encoded(pixels(1, 64, 64), "JPEG")[:-500], "dataset-image-broken"),
    "a WebP of noise": (b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(range(40)), "dataset-image-broken"),
    "a JPEG of noise": (b"\xff\xd8\xff" + bytes(range(200)), "dataset-image-broken"),
    "a bomb by pixels": (giant_png(15_000), "dataset-image-too-large"),
    "a bomb by pixels that only warns": (giant_png(2_500), "dataset-image-too-large"),
    "16 bits per channel": (encoded(Image.fromarray(pixels(1)[..., 0].astype("u2") * 99)), "dataset-image-not-8-bit"),
    "an animated PNG": (animated("PNG"), "dataset-image-animated"),
    "an animated WebP": (animated("WEBP"), "dataset-image-animated"),
    "another size": (png(1, 8, 9), "dataset-sizes-differ"),
}

ARRAYS: dict[str, tuple[bytes, str]] = {
    "labels as objects": (npz(images=A, labels=LABELS.astype(object)), "dataset-array-dtype"),
    "images as objects": (npz(images=A.astype(object), labels=LABELS), "dataset-array-dtype"),
    "images as records": (npy_zip(images=raw(np.zeros(4, "f4,O")), labels=raw(LABELS)), "dataset-array-dtype"),
    "images as f8": (npz(images=A.astype("f8"), labels=LABELS), "dataset-array-dtype"),
    "images as big-endian f4": (npz(images=A.astype(">f4"), labels=LABELS), "dataset-array-dtype"),
    "labels as floats": (npz(images=A, labels=LABELS.astype("f4")), "dataset-array-dtype"),
    "other names": (npz(x=A, y=LABELS), "dataset-arrays-missing"),
    "an array too many": (npz(images=A, labels=LABELS, secret=np.array([object()])), "dataset-arrays-missing"),
    "three dimensions": (npz(images=A[:, 0], labels=LABELS), "dataset-array-shape"),
    "fewer labels than images": (npz(images=A, labels=LABELS[:9]), "dataset-array-shape"),
    "labels as one-hot": (npz(images=A, labels=np.eye(10, dtype="i8")), "dataset-array-shape"),
    "five channels": (npz(images=np.zeros((10, 5, 4, 4), "u1"), labels=LABELS), "dataset-array-shape"),
    "images without pixels": (npz(images=np.zeros((10, 3, 0, 4), "u1"), labels=LABELS), "dataset-array-shape"),
    "Fortran order": (npz(images=np.asfortranarray(A), labels=LABELS), "dataset-array-shape"),
    "images of 9 Mpx": (
        npy_zip(
            images=npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 3, 3000, 3000)}"), labels=raw(LABELS[:0])
        ),
        "dataset-image-too-large",
    ),
    "NaN": (npz(images=NAN, labels=LABELS), "dataset-not-finite"),
    "infinity in f2": (npz(images=np.full_like(A, np.inf, "f2"), labels=LABELS), "dataset-not-finite"),
    "a label of -1": (npz(images=A, labels=LABELS - 1), "dataset-label-out-of-range"),
    "a huge label": (npz(images=A, labels=LABELS * 2**62), "dataset-label-out-of-range"),
    "one class": (npz(images=A, labels=LABELS * 0), "dataset-one-class"),
    "a small class": (npz(images=A, labels=(LABELS.cumsum() > 4).astype("i8")), "dataset-class-too-small"),
    "no images": (npz(images=A[:0], labels=LABELS[:0]), "dataset-empty"),
    "a header that is code": (npy_zip(images=npy(b"__import__('os')"), labels=raw(LABELS)), "dataset-array-broken"),
    "a header that nests": (npy_zip(images=npy(DEEP.encode()), labels=raw(LABELS)), "dataset-array-broken"),
    "a header of another version": (
        npy_zip(images=b"\x93NUMPY\x09\x00" + bytes(99), labels=raw(LABELS)),
        "dataset-array-broken",
    ),
    "a header that promises a petabyte": (
        npy_zip(
            images=npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (10, 3, 1<<20, 1<<20)}"), labels=raw(LABELS)
        ),
        "dataset-array-broken",
    ),
    "a negative size": (
        npy_zip(images=npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3, 4, 4)}"), labels=raw(LABELS)),
        "dataset-array-broken",
    ),
    "an array that was cut off": (npy_zip(images=raw(A)[:-9], labels=raw(LABELS)), "dataset-array-broken"),
    "a damaged array": (damaged(npz(images=A, labels=LABELS), A.tobytes()), "dataset-archive-broken"),
}

PARQUET: dict[str, tuple[bytes, str]] = {
    "noise": (b"PAR1" + bytes(range(256)) + b"PAR1", "dataset-archive-broken"),
    "cut off": (named([0, 1] * 5, ["a", "b"])[:-40], "dataset-archive-broken"),
    "damaged pages": (overwritten(named([0, 1] * 5, ["a", "b"])), "dataset-archive-broken"),
    "a bomb": (parquet_bomb(), "dataset-archive-bomb"),
    "no label": (parquet(image=images()), "dataset-arrays-missing"),
    "pixels instead of bytes": (parquet(image=[[1, 2]] * 10, label=[0, 1] * 5), "dataset-arrays-missing"),
    "labels as texts": (parquet(image=images(), label=["a", "b"] * 5), "dataset-arrays-missing"),
    "a row without an image": (
        parquet(image=[*images(9), {"bytes": None, "path": "x"}], label=[0, 1] * 5),
        "dataset-image-broken",
    ),
    "a row without a label": (parquet(image=images(), label=[0, 1] * 4 + [0, None]), "dataset-label-out-of-range"),
    "the unlabelled test set": (parquet(image=images(), label=[-1] * 10), "dataset-label-out-of-range"),
    "a label beyond int64": (
        parquet(image=images(), label=pa.array([0, 1] * 4 + [0, 2**64 - 1], pa.uint64())),
        "dataset-label-out-of-range",
    ),
    "a label beyond the names": (named([0, 1] * 4 + [0, 2], ["a", "b"]), "dataset-label-out-of-range"),
    "a named class without images": (named([0, 1] * 5, ["a", "b", "c"]), "dataset-class-too-small"),
    "one class": (parquet(image=images(), label=[4] * 10), "dataset-one-class"),
    "no rows": (
        parquet(image=pa.array([], pa.struct([("bytes", pa.binary())])), label=pa.array([], "i8")),
        "dataset-empty",
    ),
    "a text among the images": (
        parquet(image=[*images(9), {"bytes": b"hello", "path": None}], label=[0, 1] * 5),
        "dataset-not-an-image",
    ),
}

FORMATS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "file-empty"),
    "a web page": (b"<html><body>Sign in</body></html>", "file-not-the-real-thing"),
    "a single image": (png(), "dataset-format-not-accepted"),
    "tar": (tar(), "dataset-format-not-accepted"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "dataset-format-not-accepted"),
    "npy": (raw(A), "dataset-format-not-accepted"),
    "a pickle": (b"\x80\x04N.", "dataset-format-not-accepted"),
}

CASES = {
    f"{group}: {case}": value
    for group, cases in (
        ("archive", ARCHIVES),
        ("layout", LAYOUT),
        ("image", {k: (zip_of(folders() | {"dog/9.png": data}), slug) for k, (data, slug) in IMAGES.items()}),
        ("npz", ARRAYS),
        ("parquet", PARQUET),
        ("format", FORMATS),
    )
    for case, value in cases.items()
}


@pytest.mark.parametrize("case", CASES)
def test_the_data_set_is_refused_for_its_own_reason(case: str, read_dataset: Callable) -> None:
    upload, slug = CASES[case]
    with pytest.raises(IntakeRefused) as caught:
        read_dataset(upload)
    assert caught.value.problem_type == slug, caught.value.detail
    assert (caught.value.status, caught.value.title) == PROBLEMS[slug]
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 1000


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["cat/1.png", "cat"])
def test_one_name_twice(again: str, read_dataset: Callable) -> None:
    with pytest.raises(IntakeRefused) as caught:
        read_dataset(zip_of([("cat/", b""), *folders().items(), (again, png(9))]))
    assert caught.value.problem_type == "dataset-archive-duplicate-name"


def test_too_many_members(read_dataset: Callable) -> None:
    with pytest.raises(IntakeRefused, match="10 members; at most 9") as caught:
        read_dataset(zip_of(folders()), Limits(max_members=9))
    assert caught.value.problem_type == "dataset-archive-too-many-members"


def test_a_directory_that_lies_about_its_count(read_dataset: Callable) -> None:
    upload = bytearray(zip_of(folders()))
    upload[-12:-10] = struct.pack("<H", 1)
    with pytest.raises(IntakeRefused) as caught:
        read_dataset(bytes(upload), Limits(max_members=9))
    assert caught.value.problem_type == "dataset-archive-too-many-members"


def test_too_many_images_in_an_array_and_a_table(read_dataset: Callable) -> None:
    for upload in (npz(images=A, labels=LABELS), parquet(image=images(), label=[0, 1] * 5)):
        with pytest.raises(IntakeRefused) as caught:
            read_dataset(upload, Limits(max_members=9))
        assert caught.value.problem_type == "dataset-too-many-images"


def test_sizes_that_differ_are_both_named(read_dataset: Callable) -> None:
    with pytest.raises(IntakeRefused) as caught:
        read_dataset(zip_of(folders() | {"dog/9.png": png(1, 32, 30)}))
    assert caught.value.extra == {"files": ["cat/0.png", "dog/9.png"], "sizes": [[8, 8], [30, 32]]}


def test_more_than_half_duplicates(read_dataset: Callable) -> None:
    members = folders() | {f"cat/copy{i}.png": png(0) for i in range(10)}
    with pytest.raises(IntakeRefused) as caught:
        read_dataset(zip_of(members))
    assert caught.value.problem_type == "dataset-duplicates"
    assert caught.value.extra == {"duplicates": 10, "images": 20}


@pytest.mark.parametrize("limits", [Limits(max_dataset_bytes=100), Limits(max_decoded_bytes=100)])
def test_too_large_as_uploaded_or_as_decoded(limits: Limits, read_dataset: Callable) -> None:
    with pytest.raises(IntakeRefused) as caught:
        read_dataset(zip_of(folders()), limits)
    assert (caught.value.status, caught.value.problem_type) == (413, "dataset-too-large")
