"""Read a file's format, mode and end mark from its bytes, before it is decoded.

Pillow's modes do not distinguish 8 from 16 bits in color, and it looks for an end mark only by decoding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pneumokeras.data.images import dicom
from pneumokeras.data.images.headers import JPEG_END, JPEG_FRAMES, JPEG_SCAN, jpeg_segments, kind_of

_PNG_MODES = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGB with alpha"}
_JPEG_MODES = {1: "gray", 3: "RGB", 4: "CMYK"}
_SUFFIXES = {
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "DICOM": ("", *dicom.SUFFIXES),  # archives omit the ending
    "TIFF": (".tif", ".tiff"),
}


@dataclass(frozen=True)
class FileFormat:
    """What kind of image a file holds.

    Attributes:
        name: such as JPEG; empty if the format is unknown.
        mode: such as `gray` or `gray 16-bit`; empty for formats other than JPEG and PNG.
        complete: whether the file has the format's end mark, or the format has none.
    """

    name: str
    mode: str = ""
    complete: bool = True

    @property
    def title(self) -> str:
        """Format and mode, such as "PNG gray 16-bit"."""
        return f"{self.name} {self.mode}".strip() or "other"

    def fits(self, suffix: str) -> bool:
        """Return whether files of this format have the ending `suffix`, in lower case, as in ".png"."""
        return suffix in _SUFFIXES.get(self.name, (suffix,))


def format_of(content: bytes) -> FileFormat:
    """Return the format of a file.

    Args:
        content: the whole file. No content raises an error.
    """
    kind = kind_of(content)
    if kind == "JPEG":
        return _jpeg(content)
    return _png(content) if kind == "PNG" else FileFormat(kind)


def _png(content: bytes) -> FileFormat:
    if len(content) < 26:
        return FileFormat("PNG", complete=False)
    depth, color = content[24], content[25]
    return FileFormat("PNG", _mode(_PNG_MODES.get(color, ""), depth), complete=b"IEND" in content)


def _jpeg(content: bytes) -> FileFormat:
    """Return the format of a JPEG; an end mark counts after the first scan: thumbnails have their own."""
    mode = ""
    try:
        for marker, place in jpeg_segments(content):
            if marker in JPEG_FRAMES:
                mode = _mode(_JPEG_MODES.get(content[place + 7], ""), content[place + 2])
            elif marker == JPEG_SCAN[1]:
                return FileFormat("JPEG", mode, complete=JPEG_END in content[place:])
    except (struct.error, IndexError):
        return FileFormat("JPEG", mode, complete=False)
    return FileFormat("JPEG", mode)  # garbled: decoding will show it


def _mode(name: str, depth: int) -> str:
    return name if depth <= 8 else f"{name} {depth}-bit".strip()
