"""Decodes one untrusted PNG, JPEG or WebP image to RGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from intake.limits import Limits
from intake.problems import IntakeRefused, refusal, shown


def image_format(data: bytes) -> str | None:
    """ "PNG", "JPEG" or "WEBP" by the first bytes, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def decode(data: bytes, name: str, limits: Limits) -> np.ndarray:
    """RGB pixels (3, H, W), uint8. Alpha is dropped and EXIF rotation is not applied, as torchvision's folders do.

    Raises `IntakeRefused`; the size is checked before any pixel is decoded.
    """
    kind = image_format(data)
    if kind is None:
        raise refusal(
            "dataset-not-an-image",
            f"{shown(name)!r} is not a PNG, JPEG or WebP image. Remove or convert it.",
            file=shown(name),
        )
    if kind == "WEBP":
        from PIL import WebPImagePlugin  # noqa: F401  registers itself; the other two are known already
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own bound only warns; _check_size refuses before any pixel is decoded
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_size(image, name, limits)
            return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    except (IntakeRefused, MemoryError):
        raise
    except UnidentifiedImageError:
        raise _broken(name, "its header is damaged") from None
    except Exception as error:  # decoders raise whatever they like on damaged bytes
        raise _broken(name, str(error)) from None


def _check_size(image: Image.Image, name: str, limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise refusal(
            "dataset-image-too-large",
            f"{shown(name)!r} has {width:,} x {height:,} = {width * height:,} pixels; at most {limits.max_pixels:,} "
            "are accepted. Resize the images to what the model expects.",
            file=shown(name),
        )
    # A phone's JPEG may carry a second picture (depth, HDR): the first one is the photo.
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise refusal("dataset-image-animated", f"{shown(name)!r} is animated. Upload single images.", file=shown(name))
    if image.mode.startswith(("I", "F")):
        raise refusal(
            "dataset-image-not-8-bit",
            f"{shown(name)!r} has more than 8 bits per channel. Convert it to 8 bits.",
            file=shown(name),
        )


def _broken(name: str, why: str) -> IntakeRefused:
    return refusal(
        "dataset-image-broken",
        f"{shown(name)!r} cannot be decoded ({shown(why)}). Remove or replace it.",
        file=shown(name),
    )
