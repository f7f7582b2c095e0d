"""A folder of class folders as the zip that the service takes."""

import zipfile
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

IMAGES = {".png", ".jpg", ".jpeg", ".webp"}
IN_MEMORY = 32 << 20  # bytes; larger archives go to a temporary file


def zip_folder(folder: Path) -> BinaryIO:
    """An open, rewound zip of `folder/<class>/<image>`, images stored as they are, in a stable order.

    Raises ValueError when there is not one image in a class folder.
    """
    images = sorted(path for path in folder.glob("*/*") if path.is_file() and path.suffix.lower() in IMAGES)
    if not images:
        expected = f"{folder.name}/<class name>/<image>.png, .jpg or .webp"
        raise ValueError(f"{folder} holds no class folders with images: expected {expected}")
    archive = cast(BinaryIO, SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115 - the caller closes it
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as writer:
        for path in images:
            writer.write(path, path.relative_to(folder).as_posix())
    archive.seek(0)
    return archive
