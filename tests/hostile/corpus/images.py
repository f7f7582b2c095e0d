"""Crafted images, each of which is put among the good ones of a data set."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from PIL import Image

from ...intake.builders import encoded, folders, pixels, png, zip_of
from .case import Bait
from .zips import patched

NESTED = "dataset-archive-nested"
NOT_IMAGE = "dataset-not-an-image"
IMAGE = "dataset-image-broken"
LARGE = "dataset-image-too-large"
GOOD = zip_of(folders())


def _chunk(kind: bytes, data: bytes, *, length: int | None = None, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", checksum)


def ihdr(width: int = 8, height: int = 8, depth: int = 8, colour: int = 2, *rest: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *(rest or (0, 0, 0))))


def raw_png(*chunks: bytes, header: bytes | None = None, data: bytes | None = None) -> bytes:
    body = zlib.compress(bytes(8 * 25)) if data is None else data
    parts = (ihdr() if header is None else header, *chunks, _chunk(b"IDAT", body), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_image(image: bytes, name: str = "dog/9.png") -> bytes:
    """A good data set with this one image more."""
    return zip_of(folders() | {name: image})


def crafted_images(bait: Bait) -> Mapping[str, tuple[bytes, str]]:
    return {**_pngs(), **_jpegs(), **_others(bait)}


def _pngs() -> Mapping[str, tuple[bytes, str]]:
    zeros = zlib.compress(bytes(64 << 20), 9)
    sizes = {"2^31 - 1": (2**31 - 1, 2**31 - 1), "a line": (4_000_001, 1), "2001 x 2000": (2001, 2000)}
    return {
        **{f"a PNG of {case}": (raw_png(header=ihdr(*size)), LARGE) for case, size in sizes.items()},
        "a PNG without width": (raw_png(header=ihdr(0, 8)), IMAGE),
        "a PNG of no size": (raw_png(header=ihdr(0, 0)), IMAGE),
        "a PNG of 2^32 - 1": (raw_png(header=ihdr(2**32 - 1, 2**32 - 1)), LARGE),
        "a PNG of depth 3": (raw_png(header=ihdr(8, 8, 3)), IMAGE),
        "a PNG of colour 7": (raw_png(header=ihdr(8, 8, 8, 7)), IMAGE),
        "a PNG of a strange filter": (raw_png(data=zlib.compress(b"\x09" * 200)), IMAGE),
        "an interlaced PNG of a strange kind": (raw_png(header=ihdr(8, 8, 8, 2, 0, 0, 9)), IMAGE),
        "an interlaced PNG cut off": (encoded(pixels(1, 64, 64), "PNG")[:500], IMAGE),
        "16 bits of grey": (encoded(Image.fromarray(pixels(1)[..., 0].astype("u2") * 257)), "dataset-image-not-8-bit"),
        "a PNG without data": (raw_png(data=b""), IMAGE),
        "a PNG of too little data": (raw_png(data=zlib.compress(bytes(20))), IMAGE),
        "a PNG of noise": (raw_png(data=bytes(range(100))), IMAGE),
        "a PNG with a wrong checksum": (raw_png(_chunk(b"PLTE", bytes(3), crc=1)), IMAGE),
        "a PNG header with a wrong checksum": (
            raw_png(header=_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), crc=1)),
            IMAGE,
        ),
        "a PNG chunk of 2 GiB": (raw_png(_chunk(b"tEXt", b"a\0b", length=2**31 - 1)), IMAGE),
        "a PNG chunk of 4 GiB": (raw_png(_chunk(b"tEXt", b"a\0b", length=2**32 - 1)), IMAGE),
        "a PNG text bomb": (raw_png(_chunk(b"zTXt", b"a\0\0" + zeros)), IMAGE),
        "a PNG international text bomb": (raw_png(_chunk(b"iTXt", b"a\0\x01\0\0\0" + zeros)), IMAGE),
        "a hundred PNG text bombs": (
            raw_png(*[_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20), 9))] * 100),
            IMAGE,
        ),
        "a PNG without a header": (
            b"\x89PNG\r\n\x1a\n" + _chunk(b"IDAT", zlib.compress(bytes(200))) + _chunk(b"IEND", b""),
            IMAGE,
        ),
        "a PNG with a palette it lacks": (
            raw_png(header=ihdr(8, 8, 8, 3), data=zlib.compress(b"\0" + b"\xff" * 71)),
            IMAGE,
        ),
        "a PNG of a short header": (raw_png(header=_chunk(b"IHDR", b"\0\0\0\x08")), IMAGE),
        "an animated PNG of two": (raw_png(_chunk(b"acTL", struct.pack(">II", 2, 0))), "dataset-image-animated"),
        "an animated PNG": (_animated("PNG"), "dataset-image-animated"),
        "a signature alone": (b"\x89PNG\r\n\x1a\n", IMAGE),
        "a PNG with a pickle for a body": (b"\x89PNG\r\n\x1a\n\x80\x04cposix\nsystem\n.", IMAGE),
    }


def _animated(kind: str) -> bytes:
    frames = [Image.fromarray(pixels(i)) for i in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def _jpegs() -> Mapping[str, tuple[bytes, str]]:
    good = encoded(pixels(1, 64, 64), "JPEG")
    progressive = encoded(pixels(1, 64, 64), "JPEG", progressive=True)
    frame = good.index(b"\xff\xc0")
    scan = progressive.index(b"\xff\xda")
    return {
        "a JPEG of 65,535": (patched(good, frame + 5, ">2H", 65_535, 65_535), LARGE),
        "a progressive JPEG of 65,500": (
            patched(progressive, progressive.index(b"\xff\xc2") + 5, ">2H", 65_500, 65_500),
            LARGE,
        ),
        "a JPEG of 4,001 x 1,000": (patched(good, frame + 5, ">2H", 1000, 4001), LARGE),
        "a JPEG of no height": (patched(good, frame + 5, ">H", 0), IMAGE),
        "a JPEG of no width": (patched(good, frame + 7, ">H", 0), IMAGE),
        "a JPEG of 12 bits": (patched(good, frame + 4, ">B", 12), IMAGE),
        "a JPEG of 255 components": (patched(good, frame + 9, ">B", 255), IMAGE),
        "a JPEG of no components": (patched(good, frame + 9, ">B", 0), IMAGE),
        "a JPEG cut in its header": (good[: frame + 3], IMAGE),
        "a JPEG cut in its pixels": (good[:-600], IMAGE),
        "a JPEG of a start alone": (b"\xff\xd8\xff\xe0", IMAGE),
        "a JPEG of markers": (b"\xff\xd8" + b"\xff\xd0" * 50_000, IMAGE),
        "a JPEG of fill bytes": (b"\xff\xd8" + b"\xff" * 1_000_000, IMAGE),
        "a JPEG segment that lies": (good[:2] + b"\xff\xe1\xff\xffExif\0\0", IMAGE),
        "a lossless JPEG": (patched(good, frame, ">H", 0xFFC3), IMAGE),
        "a JPEG without tables": (good[:2] + good[frame:], IMAGE),
        "a progressive JPEG of a thousand scans, 64 pixels": (
            progressive[:scan] + progressive[scan:-2] * 1000 + b"\xff\xd9",
            "dataset-sizes-differ",
        ),
        "a JPEG in CMYK of another size": (
            encoded(Image.fromarray(pixels(1, 9, 9)).convert("CMYK"), "JPEG"),
            "dataset-sizes-differ",
        ),
        "a JPEG that turns, of another size": (
            encoded(pixels(1, 8, 9), "JPEG", exif=_turned()),
            "dataset-sizes-differ",
        ),
        "a JPEG whose EXIF lies, of another size": (
            encoded(pixels(1, 8, 9), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
            "dataset-sizes-differ",
        ),
    }


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _others(bait: Bait) -> Mapping[str, tuple[bytes, str]]:
    webp = encoded(pixels(1), "WEBP", lossless=True)
    lossy = encoded(pixels(1), "WEBP")
    animation = _animated("WEBP")
    names = ("GIF", "TIFF", "BMP", "PPM", "ICO", "TGA", "PDF", "EPS", "PCX", "SGI", "JPEG2000", "DDS", "AVIF")
    return {
        **{f"a {kind} called png": (encoded(pixels(1), kind), NOT_IMAGE) for kind in names},
        "a script of PostScript": (
            b"%!PS-Adobe-3.0 EPSF\n%%BoundingBox: 0 0 8 8\n(%pipe%" + bait.command.encode() + b") (w) file\n",
            NOT_IMAGE,
        ),
        "an SVG that includes a file": (b'<svg><image href="file:///etc/passwd"/></svg>', NOT_IMAGE),
        "an SVG of entities": (b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>', NOT_IMAGE),
        "commands of ImageMagick": (b"push graphic-context\nimage over 0,0 0,0 'url(http://127.0.0.1/)'", NOT_IMAGE),
        "a list of X bitmaps": (b"#define x_width 8\n#define x_height 8\nstatic char x[] = {0x00};", NOT_IMAGE),
        "a text": (b"hello", NOT_IMAGE),
        "nothing": (b"", NOT_IMAGE),
        "a PNG with a byte before it": (b"\0" + png(), NOT_IMAGE),
        "a PNG in text mode": (png().replace(b"\r\n", b"\n"), NOT_IMAGE),
        "a zip that begins as a GIF": (b"GIF89a" + GOOD, NOT_IMAGE),
        "a zip that begins as a PNG": (b"\x89PNG\r\n\x1a\n" + GOOD, IMAGE),
        "a zip that begins as a JPEG": (b"\xff\xd8\xff\xe0" + GOOD, IMAGE),
        "a zip that begins as a WebP": (b"RIFF\xff\xff\xff\xffWEBP" + GOOD, IMAGE),
        "a zip": (GOOD, NESTED),
        "an animated WebP": (animation, "dataset-image-animated"),
        "an animated WebP cut off": (animation[:60], IMAGE),
        "a WebP of 12,000": (patched(lossy, 26, "<2H", 12_000, 12_000), LARGE),
        "a lossless WebP of 12,000": (patched(webp, 21, "<I", 11_999 << 14 | 11_999), LARGE),
        "a WebP cut off": (lossy[:40], IMAGE),
        "a WebP of a header alone": (b"RIFF\x04\x00\x00\x00WEBP", IMAGE),
        "a WebP whose canvas lies": (
            b"RIFF"
            + struct.pack("<I", len(lossy) + 14)
            + b"WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff"
            + lossy[12:],
            IMAGE,
        ),
        "a WebP without pixels": (b"RIFF\x16\x00\x00\x00WEBPVP8X\x0a\0\0\0\0\0\0\0\x07\0\0\x07\0\0", IMAGE),
    }
