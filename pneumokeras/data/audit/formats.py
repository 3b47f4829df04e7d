"""What a file's own bytes say of it before it is decoded: format, mode, whether its end is there."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pneumokeras.data import dicom

_PNG_MODES = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGB with alpha"}
_JPEG_MODES = {1: "gray", 3: "RGB", 4: "CMYK"}
_MAGIC = {b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_SUFFIXES = {
    "JPEG": (".jpeg", ".jpg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "DICOM": ("", *dicom.SUFFIXES),  # archives leave the ending out
    "TIFF": (".tif", ".tiff"),
}
_SCAN, _END = 0xDA, b"\xff\xd9"
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # between the markers of frames, but tables and reserved


@dataclass(frozen=True)
class FileFormat:
    """What kind of image a file holds.

    Attributes:
        name: such as JPEG; empty where the bytes are of no format known here.
        mode: such as `gray` or `gray 16-bit`; empty where it is not looked up.
        complete: whether the format's end mark is there, or the format has none.
    """

    name: str
    mode: str = ""
    complete: bool = True

    @property
    def title(self) -> str:
        """Format and mode, such as "PNG gray 16-bit"."""
        return f"{self.name} {self.mode}".strip() or "other"

    def fits(self, suffix: str) -> bool:
        """Whether files of this format are called so; `suffix` is in lower case, as in ".png"."""
        return suffix in _SUFFIXES.get(self.name, (suffix,))


def format_of(content: bytes) -> FileFormat:
    """The format of a file.

    Args:
        content: all of the file's bytes. Any bytes will do; nothing is raised.
    """
    if content.startswith(b"\xff\xd8"):
        return _jpeg(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(content)
    if content[128:132] == b"DICM":
        return FileFormat("DICOM")
    return FileFormat(next((name for magic, name in _MAGIC.items() if content.startswith(magic)), ""))


def _png(content: bytes) -> FileFormat:
    if len(content) < 26:
        return FileFormat("PNG", complete=False)
    depth, colour = content[24], content[25]
    return FileFormat("PNG", _mode(_PNG_MODES.get(colour, ""), depth), complete=b"IEND" in content)


def _jpeg(content: bytes) -> FileFormat:
    """Go from segment to segment to the first scan, behind which the end mark counts.

    Earlier ones belong to thumbnails, which cameras and viewers put into the first segments.
    """
    mode, place = "", 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            return FileFormat("JPEG", mode)  # garbled: decoding will tell
        marker = content[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == _SCAN:
            return FileFormat("JPEG", mode, complete=content.find(_END, place) > 0)
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME and place + 10 <= len(content):
            mode = _mode(_JPEG_MODES.get(content[place + 9], ""), content[place + 4])
        place += 2 + max(2, struct.unpack_from(">H", content, place + 2)[0])
    return FileFormat("JPEG", mode, complete=False)


def _mode(name: str, depth: int) -> str:
    return name if depth <= 8 else f"{name} {depth}-bit".strip()
