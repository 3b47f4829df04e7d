"""One image file -> one gray `uint8` array, or a clear error."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from pneumokeras.errors import DataError

SUFFIXES = (".jpeg", ".jpg", ".png")
"""File endings that are taken for radiographs, in lower case."""


def read_radiograph(
    path: str | PathLike[str],
    *,
    image_size: tuple[int, int] | None = None,
    pad: bool = False,
) -> np.ndarray:
    """Read one radiograph as gray levels.

    Args:
        path: a JPEG or PNG file; colour is turned into luminance, an EXIF orientation is applied.
        image_size: `(height, width)` to bring it to; `None` keeps its own size.
        pad: keep the proportions and fill up with black, instead of stretching.

    Returns:
        `(height, width)` array of `uint8`, 0 (black) to 255 (white).

    Raises:
        DataError: if the file is missing, empty, or not an image that can be decoded.
    """
    path = Path(path)
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Expected a JPEG or PNG file.") from error
    try:
        pixels = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if content.size else None
    except cv2.error:  # raised, not returned as None, where a header claims more pixels than OpenCV allows
        pixels = None
    if pixels is None:
        state = "is empty" if not content.size else "cannot be decoded"
        raise DataError(f"{path} {state}. Expected a JPEG or PNG image; remove or replace the file.")
    return pixels if image_size is None else resize(pixels, image_size, pad=pad)


def resize(pixels: np.ndarray, image_size: tuple[int, int], *, pad: bool = False) -> np.ndarray:
    """Bring gray levels to a size: averaged over areas when shrinking, interpolated when growing.

    Args:
        pixels: `(height, width)` array of `uint8`.
        image_size: the wanted `(height, width)`.
        pad: keep the proportions and fill up with black, instead of stretching.

    Returns:
        Array of shape `image_size` and the type of `pixels`.
    """
    if pixels.shape == image_size:
        return pixels
    if pad:
        return _padded(pixels, image_size)
    height, width = image_size
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _padded(pixels: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    scale = min(image_size[0] / pixels.shape[0], image_size[1] / pixels.shape[1])
    inner = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    top, left = (image_size[0] - inner[0]) // 2, (image_size[1] - inner[1]) // 2
    canvas = np.zeros(image_size, pixels.dtype)
    canvas[top : top + inner[0], left : left + inner[1]] = resize(pixels, inner)
    return canvas
