"""Decode each file once and measure everything that the audit needs."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.audit.collection import Collection
from pneumokeras.data.dataset import BadFile, in_threads
from pneumokeras.data.duplicates import THUMBNAIL_SIDE, pixel_digest, thumbnail_of
from pneumokeras.data.images.formats import FileFormat, format_of
from pneumokeras.data.images.image import decode_radiograph, read_content

BORDER_SHARE = 1 / 16
BLACK, WHITE = 8, 248  # a pixel counts as black below the first gray level, and as white from the second on
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_BORDERS = ("top", "bottom", "left", "right")

STATISTICS = (
    "height",
    "width",
    "brightness",
    "contrast",
    *(f"percentile {percentile}" for percentile in _PERCENTILES),
    "black share",
    "white share",
    *(f"{side} border {what}" for side in _BORDERS for what in ("brightness", "contrast")),
)
"""Statistics of each radiograph: sides in log pixels, gray levels 0 to 255, shares 0 to 1."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Measurements of the m radiographs that could be decoded.

    Attributes:
        indices: `(m,)` integers, their indices in the collection, ascending.
        digests: `(m,)` strings, equal if and only if the decoded pixels are equal.
        formats: `(m,)` strings such as "JPEG gray".
        misnamed: `(m,)` booleans, whether the file's ending belongs to another format.
        statistics: `(m, len(STATISTICS))` floats.
        thumbnails: `(m, 32, 32)` array of `uint8`.
        bad_files: the other files, in the collection's order.
    """

    indices: np.ndarray
    digests: np.ndarray
    formats: np.ndarray
    misnamed: np.ndarray
    statistics: np.ndarray
    thumbnails: np.ndarray
    bad_files: tuple[BadFile, ...]

    @property
    def sizes(self) -> np.ndarray:
        """Heights and widths in pixels, `(m, 2)` integers."""
        return np.rint(np.exp(self.statistics[:, :2])).astype(int)

    def statistic(self, name: str) -> np.ndarray:
        """Return a column of `statistics` by its name, `(m,)` floats."""
        return self.statistics[:, STATISTICS.index(name)]


@dataclass(frozen=True, eq=False)
class _Measured:
    digest: str
    file_format: FileFormat
    misnamed: bool
    statistics: np.ndarray
    thumbnail: np.ndarray


def measure(collection: Collection) -> Measurements:
    """Decode every radiograph once, in several threads.

    Args:
        collection: the radiographs. A file that is unreadable, empty, truncated or undecodable is one of
            `bad_files`, not an error.
    """
    found = in_threads(lambda index: _measure_one(collection, index), len(collection.names))
    measured = {index: result for index, result in enumerate(found) if isinstance(result, _Measured)}
    thumbnails = np.empty((len(measured), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    statistics = np.empty((len(measured), len(STATISTICS)))
    for row, one in enumerate(measured.values()):
        thumbnails[row], statistics[row] = one.thumbnail, one.statistics
    return Measurements(
        indices=np.array(list(measured), dtype=int),
        digests=np.array([one.digest for one in measured.values()], dtype=object),
        formats=np.array([one.file_format.title for one in measured.values()], dtype=object),
        misnamed=np.array([one.misnamed for one in measured.values()], dtype=bool),
        statistics=statistics,
        thumbnails=thumbnails,
        bad_files=tuple(result for result in found if isinstance(result, BadFile)),
    )


def _measure_one(collection: Collection, index: int) -> _Measured | BadFile:
    radiographs, row = collection.origins[index]
    name = collection.shown_names[index]

    def bad(problem: str, reason: str) -> BadFile:
        return BadFile(name=name, split=collection.splits[index], problem=problem, reason=reason)

    file_format, misnamed = FileFormat("array", "gray"), False
    if isinstance(radiographs.images, np.ndarray):
        pixels = radiographs.read(row)
    else:
        path = radiographs.images[row]
        try:
            content = read_content(path)
        except DataError as error:
            return bad("unreadable", str(error))
        file_format = format_of(content.tobytes())
        misnamed = not file_format.fits(path.suffix.lower())
        if not file_format.complete:
            return bad("truncated", f"{name} has no end mark: the file was cut, or not copied whole.")
        try:
            pixels = decode_radiograph(content, name, frame=radiographs.frame_at(row))
        except DataError as error:
            return bad("undecodable" if content.size else "empty", str(error))
    return _Measured(
        digest=pixel_digest(pixels),
        file_format=file_format,
        misnamed=misnamed,
        statistics=_statistics(pixels),
        thumbnail=thumbnail_of(pixels),
    )


def _statistics(pixels: np.ndarray) -> np.ndarray:
    """Return `(len(STATISTICS),)` floats for a `(height, width)` array of `uint8`."""
    height, width = pixels.shape
    counts = cv2.calcHist([pixels], [0], None, [256], [0, 256]).ravel()
    shares = counts / counts.sum()
    levels = np.arange(256)
    mean = float(shares @ levels)
    contrast = float(np.sqrt(shares @ (levels - mean) ** 2))
    percentiles = np.searchsorted(np.cumsum(shares), np.array(_PERCENTILES) / 100)
    rows, columns = max(1, round(BORDER_SHARE * height)), max(1, round(BORDER_SHARE * width))
    borders = (pixels[:rows], pixels[-rows:], pixels[:, :columns], pixels[:, -columns:])
    return np.array(
        [
            np.log(height),
            np.log(width),
            mean,
            contrast,
            *percentiles,
            shares[:BLACK].sum(),
            shares[WHITE:].sum(),
            *(value.item() for border in borders for value in cv2.meanStdDev(border)),
        ]
    )
