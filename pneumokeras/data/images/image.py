"""Read one image file as a gray `uint8` array, or raise a clear error."""

from __future__ import annotations

import operator
import stat
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.images import dicom
from pneumokeras.data.images.headers import EXPECTED, JPEG_END, Header, read_header, undecodable

SUFFIXES = (".bmp", *dicom.SUFFIXES, ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
"""File endings that folders are searched for, in lower case. A file's content decides what it is."""

UNREAD_SUFFIXES = (".avif", ".gif", ".heic", ".jp2", ".jxl", ".pgm", ".ppm", ".webp")
"""File endings of images that are not read, in lower case."""

MAX_BYTES = 2**29
"""Maximum size of a radiograph's file."""

_DETECTOR_DEPTHS = (8, 10, 12, 14, 16)
_MAY_HAVE_SIXTEEN = (b"\x89PNG", b"II*\0", b"MM\0*")
_PNG_DEPTH = 24  # the place of a PNG's bit depth
_REDUCTIONS = {4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
# Measured on published radiographs at 224 pixels: reduced to no less than 1.1 times the target, they differ
# from the full decode by 0.5 gray levels on average and by 1.3 in the worst file. A reduction to an eighth,
# which keeps only each block's mean, would save hardly more time and differ by 2.
_MIN_OVERSIZE = 1.1
_JPEG_BLOCK = 8
_JPEG_RESTARTS = [bytes([0xFF, marker]) for marker in range(0xD0, 0xD8)]


def read_radiograph(
    path: str | PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    pad: bool = False,
    depth: Depth | None = None,
    frame: int | None = None,
) -> np.ndarray:
    """Read one radiograph as gray levels.

    Args:
        path: a JPEG, PNG, TIFF, BMP or (with pydicom) DICOM file, whatever its ending. Color is turned into
            luminance, transparency is ignored, an EXIF orientation is applied, more than eight bits are
            reduced to eight by `eight_bits`, DICOM is shown with its window. A JPEG much larger than
            `image_size` is decoded at a half or a quarter of its size.
        image_size: wanted side or `(height, width)`; `None` keeps its own size.
        pad: keep the aspect ratio and pad with black, instead of stretching.
        depth: of the collection that it belongs to; `None` if it stands alone.
        frame: number of the wanted frame of a DICOM file, 1 for the first; `None` if it has to hold only one.

    Returns:
        `(height, width)` array of `uint8`, 0 (black) to 255 (white).

    Raises:
        SettingsError: if `image_size` is not as described.
        DataError: if the file is missing, empty, too large, not an image that can be decoded whole, or has no
            such frame.
    """
    size = None if image_size is None else height_and_width(image_size)
    return decode_radiograph(read_content(path), path, image_size=size, pad=pad, depth=depth, frame=frame)


def height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return an image size as `(height, width)`.

    Raises:
        SettingsError: if it is neither a side nor (height, width), in whole pixels.
    """
    try:
        height, width = (image_size, image_size) if isinstance(image_size, int | Integral) else image_size
        size = operator.index(height), operator.index(width)
    except (TypeError, ValueError):
        size = (0, 0)
    if min(size) < 1:
        raise SettingsError(
            "Expected `image_size` as a side or (height, width), in whole pixels of at least 1. "
            f"Received {image_size!r}.",
            parameter="image_size",
        )
    return size


def read_content(path: str | PathLike[str]) -> np.ndarray:
    """Read the bytes of a radiograph's file: `(n,)` array of `uint8`.

    Raises:
        DataError: if it cannot be read, is no regular file, or is larger than `MAX_BYTES`.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device might never end
            raise DataError(f"{path} is not a file.", EXPECTED, path=path)
        if status.st_size > MAX_BYTES:
            raise DataError(
                f"{path} has {status.st_size} bytes; at most {MAX_BYTES} are read.", EXPECTED, path=path
            )
        return np.fromfile(path, dtype=np.uint8)
    except DataError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that holds a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"Cannot read {path}: {reason}.", "Check its name and its permissions.", path=path
        ) from error


def decode_radiograph(
    content: np.ndarray,
    name: str | PathLike[str],
    *,
    image_size: tuple[int, int] | None = None,
    pad: bool = False,
    depth: Depth | None = None,
    frame: int | None = None,
) -> np.ndarray:
    """Turn the bytes of an image file into gray levels.

    Args:
        content: `(n,)` array of `uint8`, the whole file.
        name: the file's name in messages.
        image_size: as for `read_radiograph`.
        pad: as for `read_radiograph`.
        depth: as for `read_radiograph`.
        frame: as for `read_radiograph`.

    Returns:
        `(height, width)` array of `uint8`, 0 (black) to 255 (white).

    Raises:
        DataError: as `read_radiograph`.
    """
    if not content.size:
        raise DataError(f"{name} is empty.", EXPECTED, path=name)
    header = read_header(content.data, name)
    if header.kind == "DICOM":
        pixels = dicom.decode(content, name, frame=frame)
    elif frame not in (None, 1):
        raise undecodable(name, f"it is {header.kind}, which has 1 frame here, so there is no frame {frame}")
    else:
        pixels = eight_bits(_decode(content, header, name, image_size), depth)
    return pixels if image_size is None else resize(pixels, image_size, pad=pad)


def _decode(
    content: np.ndarray, header: Header, name: str | PathLike[str], image_size: tuple[int, int] | None
) -> np.ndarray:
    if header.kind == "JPEG":
        flag = _jpeg_flag(header, image_size)
        pixels = _decode_with_opencv(content, flag)
        if pixels is not None and _ends_in_filling(content, header, pixels, flag):
            raise undecodable(name, "its lower part is missing")
    else:
        pixels = _decode_with_opencv(content, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise undecodable(name, f"the {header.kind} data is damaged or ends early")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise undecodable(name, f"it holds {pixels.dtype}, not 8 or 16 bits per pixel")
    return pixels


def _decode_with_opencv(content: np.ndarray, flag: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(content, flag)
    except cv2.error:  # most damage makes it return None, some makes it raise
        return None


def _jpeg_flag(header: Header, image_size: tuple[int, int] | None) -> int:
    """Return OpenCV's flag for a JPEG: the smallest size that `image_size` allows, in any orientation."""
    if image_size is not None:
        oversize = min(header.height, header.width) / max(image_size)
        for factor, flag in _REDUCTIONS.items():
            if oversize >= factor * _MIN_OVERSIZE:
                return flag
    return cv2.IMREAD_GRAYSCALE


def _ends_in_filling(content: np.ndarray, header: Header, pixels: np.ndarray, flag: int) -> bool:
    """Return whether a JPEG was cut and closed again: its data ends before its image does.

    The decoder silently fills the blocks that are missing with level 128. A picture whose last block is
    filled so is decoded again with other data in place of its end marker: if the picture was whole, nothing
    changes, but libjpeg writes a line on that data to standard error. That data has every restart marker,
    since a decoder that waits for one skips everything before it.

    Pillow has no such check: it opens, verifies and loads these files without an error.
    """
    side = _JPEG_BLOCK // next((factor for factor, how in _REDUCTIONS.items() if how == flag), 1)
    rows, columns = ((length - 1) % side + 1 for length in pixels.shape)
    if np.any(pixels[-rows:, -columns:] != 128):
        return False
    end = content.tobytes().rfind(JPEG_END)
    # More than what is missing would take, and without the value that begins a marker.
    other = np.random.default_rng(0).integers(0, 255, 2 * header.height * header.width, dtype=np.uint8)
    parts = zip(np.array_split(other, 2 * len(_JPEG_RESTARTS)), 2 * _JPEG_RESTARTS, strict=True)
    filling = b"".join(part.tobytes() + marker for part, marker in parts)
    longer = content[:end].tobytes() + filling + JPEG_END
    again = _decode_with_opencv(np.frombuffer(longer, np.uint8), flag)
    return again is None or not np.array_equal(again, pixels)


class Depth:
    """The depth of a collection's images of sixteen bits.

    It is the smallest of 8, 10, 12, 14 and 16 bits that holds the brightest level of all of them, since
    detectors of 10 to 14 bits are stored in files of 16. So two films of one detector are reduced alike,
    however bright each is.

    Args:
        files: the files of the collection.
        bits: the depth, where it is known; `None` finds it in the files.
    """

    def __init__(self, files: Iterable[Path] = (), *, bits: int | None = None):
        self.files = tuple(files)
        self._bits = bits
        self._is_known = bits is not None or not self.files

    @property
    def bits(self) -> int | None:
        """The depth, `None` if no image has more than eight bits; found by reading these when first asked."""
        with _depth_in_search:
            if not self._is_known:
                with ThreadPoolExecutor() as pool:
                    brightest = max(pool.map(_brightest_of_sixteen_bits, self.files))
                self._bits = _smallest_depth(brightest) if brightest else None
                self._is_known = True
        return self._bits


_depth_in_search = threading.Lock()


def _brightest_of_sixteen_bits(path: Path) -> int:
    """Return the brightest level of an image; 0 if it has eight bits, is DICOM or cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_PNG_DEPTH + 1)
        if not start.startswith(_MAY_HAVE_SIXTEEN) or (start[:1] == b"\x89" and start[-1] != 16):
            return 0
        content = read_content(path)
        levels = _decode(content, read_header(content.data, path), path, None)
    except (OSError, DataError):
        return 0
    return int(levels.max()) if levels.dtype == np.uint16 else 0


def _smallest_depth(brightest: int) -> int:
    return next(bits for bits in _DETECTOR_DEPTHS if brightest < 2**bits)


def eight_bits(levels: np.ndarray, depth: Depth | None = None) -> np.ndarray:
    """Reduce gray levels of 8 to 16 bits to eight: the range of their depth becomes 0 to 255, linearly.

    Args:
        levels: array of `uint8` or `uint16`.
        depth: of the collection that they belong to; by default the depth is that of these levels alone.

    Returns:
        Array of `uint8` of the same shape; `levels` itself if they are eight bits already.
    """
    if levels.dtype == np.uint8:
        return levels
    own = _smallest_depth(int(levels.max()))
    bits = max(own, (depth and depth.bits) or 0)
    return cv2.convertScaleAbs(levels, alpha=255 / (2**bits - 1))


def resize(pixels: np.ndarray, image_size: tuple[int, int], *, pad: bool = False) -> np.ndarray:
    """Resize gray levels: averaged over areas when shrinking, interpolated when growing.

    Args:
        pixels: `(height, width)` array of `uint8` or `float32`, or the same with channels.
        image_size: wanted `(height, width)`.
        pad: keep the aspect ratio and pad with black, instead of stretching.

    Returns:
        Array of shape `image_size` and the type of `pixels`.
    """
    if pixels.shape[:2] == image_size:
        return pixels
    if pad:
        return _padded(pixels, image_size)
    height, width = image_size
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _padded(pixels: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    rows, columns = place_in_padded(pixels.shape[:2], image_size)
    canvas = np.zeros((*image_size, *pixels.shape[2:]), pixels.dtype)
    inner = (rows.stop - rows.start, columns.stop - columns.start)
    canvas[rows, columns] = resize(pixels, inner)
    return canvas


def place_in_padded(shape: tuple[int, int], image_size: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns that an image of a shape takes once it is padded to `image_size`."""
    scale = min(image_size[0] / shape[0], image_size[1] / shape[1])
    inner = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))
    top, left = (image_size[0] - inner[0]) // 2, (image_size[1] - inner[1]) // 2
    return slice(top, top + inner[0]), slice(left, left + inner[1])
