"""Every reason for which an upload is refused: a stable slug, an HTTP status and a title."""

from __future__ import annotations

from typing import Any, Final

PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    # any file
    "file-empty": (422, "The file is empty"),
    "file-not-the-real-thing": (422, "The file is a web page or a pointer, not the data itself"),
    "intake-crashed": (422, "Reading the file made the reader crash"),
    "intake-out-of-memory": (422, "Reading the file needs more memory than is allowed"),
    "intake-timeout": (422, "Reading the file takes longer than is allowed"),
    # models
    "model-format-not-accepted": (415, "This model format is not accepted"),
    "model-pickle-not-accepted": (415, "The model file holds more than tensors"),
    "model-file-broken": (422, "The model file is broken"),
    "model-too-large": (413, "The model is too large"),
    "model-header-too-large": (422, "The model file's header is too large"),
    "model-duplicate-names": (422, "The model file names one tensor twice"),
    "model-too-many-tensors": (422, "The model has too many tensors"),
    "model-too-many-dimensions": (422, "A tensor has too many dimensions"),
    "model-tensor-name-not-accepted": (422, "A tensor's name is not accepted"),
    "model-dtype-not-accepted": (422, "A tensor's number type is not accepted"),
    "model-tensor-out-of-range": (422, "A tensor lies outside of the file's data"),
    "model-tensor-not-contiguous": (422, "A tensor is not stored contiguously"),
    "model-tensor-not-finite": (422, "A tensor holds NaN or infinity"),
    "model-no-tensors": (422, "The model file holds no state dict"),
    "model-wrapper-ambiguous": (422, "The model file holds more than one state dict"),
    "model-entry-not-a-tensor": (422, "The state dict holds something that is not a tensor"),
    # data sets
    "dataset-format-not-accepted": (415, "This data set format is not accepted"),
    "dataset-too-large": (413, "The data set is too large"),
    "dataset-archive-broken": (422, "The archive is broken"),
    "dataset-archive-encrypted": (422, "The archive is encrypted"),
    "dataset-archive-unsafe-name": (422, "The archive holds an unsafe file name"),
    "dataset-archive-duplicate-name": (422, "The archive names one file twice"),
    "dataset-archive-link": (422, "The archive holds a link or a special file"),
    "dataset-archive-bomb": (422, "The archive expands too much"),
    "dataset-archive-too-many-members": (422, "The archive has too many members"),
    "dataset-archive-nested": (422, "The archive holds another archive"),
    "dataset-layout": (422, "The archive is not one folder per class"),
    "dataset-not-an-image": (422, "A file of the data set is not an image that is accepted"),
    "dataset-image-broken": (422, "An image cannot be decoded"),
    "dataset-image-too-large": (422, "An image is too large"),
    "dataset-image-not-8-bit": (422, "An image does not have 8 bits per channel"),
    "dataset-image-animated": (422, "An image is animated"),
    "dataset-sizes-differ": (422, "The images are not all of one size"),
    "dataset-empty": (422, "The data set holds no images"),
    "dataset-one-class": (422, "The data set has only one class"),
    "dataset-class-too-small": (422, "A class has too few images"),
    "dataset-too-many-images": (422, "The data set has too many images"),
    "dataset-duplicates": (422, "Too many images of the data set are the same"),
    "dataset-arrays-missing": (422, "The arrays or columns of the data set are not the expected ones"),
    "dataset-array-broken": (422, "An array of the data set is broken"),
    "dataset-array-dtype": (422, "An array has a number type that is not accepted"),
    "dataset-array-shape": (422, "An array has a shape that is not accepted"),
    "dataset-not-finite": (422, "The images hold NaN or infinity"),
    "dataset-label-out-of-range": (422, "A label is out of range"),
}
"""slug -> (HTTP status, title). Slugs are part of the public contract: never rename one."""


class IntakeRefused(Exception):
    """The upload is not accepted; what is wrong and what to do is in `detail`.

    `problem_type` is a key of `PROBLEMS`, which gives `status` (400/413/415/422) and `title`; `extra` holds
    JSON values that a program can act on, such as the tensor's or the file's name.
    """

    def __init__(self, problem_type: str, detail: str, extra: dict[str, Any] | None = None) -> None:
        super().__init__(f"{problem_type}: {detail}")
        self.problem_type = problem_type
        self.status, self.title = PROBLEMS[problem_type]
        self.detail = detail
        self.extra: dict[str, Any] = extra or {}


class IntakeFailed(RuntimeError):
    """The intake itself could not do its work (no space, no permission, not installed): not the upload's fault."""


def refusal(problem_type: str, detail: str, **extra: Any) -> IntakeRefused:
    """An `IntakeRefused` to raise."""
    return IntakeRefused(problem_type, detail, extra)


def shown(text: object, limit: int = 120) -> str:
    """A name from an upload as it may appear in a message: printable, and not longer than `limit`."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def is_plain_text(text: str) -> bool:
    """Whether JSON, Postgres and file systems can all hold this text: no control characters, no surrogates."""
    return all(c >= " " and c != "\x7f" and not "\ud800" <= c <= "\udfff" for c in text)
