"""Names what an upload is when it is not one of the accepted formats."""

from __future__ import annotations

from typing import Final

from intake.problems import refusal

HEAD_BYTES: Final = 512
"""How much of a file `name_of` looks at."""

_MAGICS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a file of torch.save from before torch 1.6"),
    (0, b"PAR1", "a Parquet file"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a rar archive"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a single NumPy array (.npy)"),
    (0, b"\x89PNG", "a single image"),
    (0, b"\xff\xd8\xff", "a single image"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"GGUF", "a GGUF model"),
    (8, b"{", "a safetensors file"),
    (0, b"\x80", "a pickle"),
    (0, b"\x08", "an ONNX model"),
)


def name_of(head: bytes) -> str:
    """What a file that starts with `head` seems to be, in words."""
    return next(
        (name for at, magic, name in _MAGICS if head[at:].startswith(magic)), "of a kind that is not known here"
    )


def check_not_a_pointer(head: bytes) -> None:
    """Raise for what people upload by mistake: nothing, a web page, or a Git LFS pointer."""
    if not head:
        raise refusal("file-empty", "The upload has 0 bytes. Check the path and upload the file again.")
    if head.startswith(b"version https://git-lfs"):
        raise refusal(
            "file-not-the-real-thing",
            "This is a Git LFS pointer. Fetch the real file with `git lfs pull`, then upload it.",
        )
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise refusal(
            "file-not-the-real-thing", "This is a web page: the download gave an HTML answer. Download the file itself."
        )
