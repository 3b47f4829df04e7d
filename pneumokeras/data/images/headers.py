"""Read kind and size of an image from its header, before anything is decoded or allocated.

`PIL.Image.open` takes four times as long, and accepts files that are refused here because OpenCV would run
for minutes or out of memory: a JPEG of a thousand scans, a PNG with a chunk larger than the file. Its limit
of pixels is a setting of the whole process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike

from pneumokeras.core.errors import DataError

EXPECTED = (
    "Expected a JPEG, PNG, TIFF, BMP or DICOM image; "
    "replace it, or leave such files out with `skip_bad=True`."
)
"""What to do about a bad file; the advice of these errors."""

MAX_PIXELS = 2**26
"""Maximum size of a radiograph, 67 million pixels; the largest detectors have about 30."""

JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that hold a JPEG's size; those between them are of tables, or reserved."""

JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"

_MAX_SEGMENTS = 2**17  # so that a file made of nothing else does not take minutes
_MAX_FILLING = 64
_MAX_SCANS = 256  # decoding each takes as long as the whole image; encoders make about ten
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_JPEG_PROGRESSIVE_FRAME = 0xC2
_TIFF_TAGS = {
    256: "width",
    257: "height",
    258: "bits",
    262: "photometric",
    277: "samples",
    322: "tile width",
    323: "tile height",
}
_TIFF_TYPES = {3: "H", 4: "I"}


class Refused(Exception):
    """A file is refused for the reason in the message, to which the caller adds the file's name."""


@dataclass(frozen=True)
class Header:
    """Kind and size of an image, as claimed in its file.

    Attributes:
        kind: `"JPEG"`, `"PNG"`, `"BMP"`, `"TIFF"` or `"DICOM"`.
        height: in pixels, as stored, before any orientation is applied; 0 for DICOM, whose decoder checks it.
        width: likewise.
    """

    kind: str
    height: int = 0
    width: int = 0


def undecodable(name: str | PathLike[str], reason: str = "") -> DataError:
    """Return the error for a file that cannot be decoded.

    Args:
        name: the file's name in the message.
        reason: a clause such as "its end is missing".
    """
    return DataError(f"{name} cannot be decoded{reason and f': {reason}'}.", EXPECTED, path=name)


def read_header(content: memoryview, name: str | PathLike[str]) -> Header:
    """Return the kind of image that a file holds, by its content, and the size that it claims.

    Args:
        content: the whole file.
        name: the file's name in messages.

    Raises:
        DataError: if it is none of the known kinds, ends within its header, or claims no pixels or more than
            `MAX_PIXELS`.
    """
    kind = kind_of(content)
    if not kind:
        raise undecodable(name)
    if kind == "DICOM":
        return Header(kind)
    try:
        height, width = _SIZES[kind](content)
    except Refused as error:
        raise undecodable(name, str(error)) from None
    except (struct.error, LookupError):
        raise undecodable(name, f"its {kind} header is damaged") from None
    require_size(height, width, name)
    return Header(kind, height, width)


def kind_of(content: bytes | memoryview) -> str:
    """Return the kind of image of a file that begins with `content`, as in `Header`; empty if unknown."""
    if is_dicom(content):
        return "DICOM"
    start = bytes(content[:8])
    return next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), "")


def is_dicom(content: bytes | memoryview) -> bool:
    """Return whether a file that begins with `content` is a DICOM file."""
    return bytes(content[128:132]) == b"DICM"


def require_size(height: int, width: int, name: str | PathLike[str]) -> None:
    """Refuse an image without pixels, and one that would fill the memory.

    Raises:
        DataError: if the size is out of range.
    """
    if not 0 < height * width <= MAX_PIXELS:
        raise undecodable(name, f"it claims {width} x {height} pixels; at most {MAX_PIXELS} are read")


def jpeg_segments(content: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Yield each segment's marker in a JPEG and the place after it, up to the first scan or the end mark.

    The first segments are skipped with the thumbnails that cameras and viewers put there. The iteration stops
    where a marker is missing.

    Raises:
        IndexError: or `struct.error`, if the file ends too early.
    """
    place = 2
    for _ in range(_MAX_SEGMENTS):
        filled = bytes(content[place : place + _MAX_FILLING])  # any number of 0xFF may stand before a marker
        place += len(filled) - len(filled.lstrip(b"\xff")) + 1
        marker = content[place - 1]
        if not filled.startswith(b"\xff") or marker == 0xFF:
            return
        yield marker, place
        if marker in (JPEG_SCAN[1], JPEG_END[1]):
            return
        place += 0 if marker in _JPEG_WITHOUT_LENGTH else struct.unpack_from(">H", content, place)[0]


def _jpeg_size(content: memoryview) -> tuple[int, int]:
    for marker, place in jpeg_segments(content):
        if marker in JPEG_FRAMES:
            if marker == _JPEG_PROGRESSIVE_FRAME and bytes(content).count(JPEG_SCAN) > _MAX_SCANS:
                raise Refused(f"it has more than {_MAX_SCANS} scans")
            height, width = struct.unpack_from(">HH", content, place + 3)
            return height, width
    raise LookupError("no frame")


def _png_size(content: memoryview) -> tuple[int, int]:
    """Return the size after checking all chunks, since the decoder allocates what each claims to hold."""
    place = 8
    for _ in range(_MAX_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", content, place)
        place += 12 + length
        if kind == b"IEND" or place > len(content):
            break
    if kind != b"IEND" or place > len(content):
        raise Refused("the PNG data ends early")
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def _bmp_size(content: memoryview) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", content, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", content, 18)
    return abs(height), abs(width)


def _tiff_size(content: memoryview) -> tuple[int, int]:
    """Return the size of the first image, or of one of its tiles if that claims more."""
    order = "<" if content[0] == ord("I") else ">"
    (directory,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, directory)
    found = {"bits": 1, "photometric": 1, "samples": 1, "tile width": 0, "tile height": 0}
    for place in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", content, place)
        if tag in _TIFF_TAGS:
            (found[_TIFF_TAGS[tag]],) = struct.unpack_from(order + _TIFF_TYPES[kind], content, place + 8)
    if found["photometric"] == 0 and found["samples"] == 1 and found["bits"] > 8:
        raise Refused("its white is zero, which OpenCV heeds for 8 bits only")
    return max(found["height"], found["tile height"]), max(found["width"], found["tile width"])


_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_SIZES = {"JPEG": _jpeg_size, "PNG": _png_size, "BMP": _bmp_size, "TIFF": _tiff_size}
