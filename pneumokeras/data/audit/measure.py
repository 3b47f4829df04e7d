"""Each file is decoded once; all later questions are asked of what is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import RadiographSet, in_threads
from pneumokeras.data.duplicates import THUMBNAIL_SIDE, pixel_digest, thumbnail_of
from pneumokeras.data.images.formats import FileFormat, format_of
from pneumokeras.data.images.image import decode_radiograph, read_content

BORDER_SHARE = 1 / 16
BLACK, WHITE = 8, 248  # gray levels under and from which a pixel counts as black and white
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
"""What is measured of each radiograph: sides in log pixels, gray levels 0 to 255, shares 0 to 1."""


@dataclass(frozen=True, eq=False)
class Collection:
    """The radiographs of all splits in a row.

    Attributes:
        sets: the sets by split.
        names: `(n,)` strings.
        splits: `(n,)` strings.
        labels: `(n,)` integers, 1 = PNEUMONIA.
        patients: `(n,)` strings.
        origins: the set of each radiograph and its row there.
    """

    sets: Mapping[str, RadiographSet]
    names: np.ndarray
    splits: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    origins: tuple[tuple[RadiographSet, int], ...]

    @classmethod
    def of(cls, sets: Mapping[str, RadiographSet]) -> Collection:
        """Put sets with labels one after the other.

        Raises:
            DataError: if a set has no labels.
        """
        return cls(
            sets=sets,
            names=np.concatenate([radiographs.names for radiographs in sets.values()]),
            splits=np.repeat(np.array(list(sets), dtype=object), [len(found) for found in sets.values()]),
            labels=np.concatenate([radiographs.require_labels() for radiographs in sets.values()]),
            patients=np.concatenate([radiographs.patients for radiographs in sets.values()]),
            origins=tuple((found, row) for found in sets.values() for row in range(len(found))),
        )

    @property
    def class_names(self) -> tuple[str, str]:
        """Names of class 0 and class 1."""
        return next(iter(self.sets.values())).class_names

    def read(self, index: int) -> np.ndarray:
        """The gray levels of one radiograph in its own size; see `RadiographSet.read`."""
        radiographs, row = self.origins[index]
        return radiographs.read(row)


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured of the m radiographs that could be decoded.

    Attributes:
        indices: `(m,)` integers, their places in the collection, ascending.
        digests: `(m,)` strings, equal where the decoded pixels are.
        formats: `(m,)` strings such as "JPEG gray".
        misnamed: `(m,)` booleans, whether the file's ending is another format's.
        statistics: `(m, len(STATISTICS))` floats.
        thumbnails: `(m, 32, 32)` array of `uint8`.
        problems: what is wrong with each of the others, by their places.
    """

    indices: np.ndarray
    digests: np.ndarray
    formats: np.ndarray
    misnamed: np.ndarray
    statistics: np.ndarray
    thumbnails: np.ndarray
    problems: dict[int, Problem]

    @property
    def sizes(self) -> np.ndarray:
        """`(m, 2)` integers, height and width in pixels."""
        return np.rint(np.exp(self.statistics[:, :2])).astype(int)

    def statistic(self, name: str) -> np.ndarray:
        """`(m,)` floats, one column of `statistics` by its name."""
        return self.statistics[:, STATISTICS.index(name)]


@dataclass(frozen=True)
class Problem:
    """Why nothing can be measured of a file.

    Attributes:
        kind: `unreadable`, `empty`, `truncated` or `undecodable`.
        reason: a sentence or two.
    """

    kind: str
    reason: str


@dataclass(frozen=True, eq=False)
class _Measured:
    digest: str
    kind: FileFormat
    misnamed: bool
    statistics: np.ndarray
    thumbnail: np.ndarray


def measure(collection: Collection) -> Measurements:
    """Decode every radiograph once, in several threads.

    Args:
        collection: the radiographs. A file that is unreadable, empty, truncated or undecodable becomes one
            of `problems` and raises nothing.
    """
    found = in_threads(lambda index: _measure_one(collection, index), len(collection.names))
    results = dict(enumerate(found))
    measured = {index: result for index, result in results.items() if isinstance(result, _Measured)}
    thumbnails = np.empty((len(measured), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    statistics = np.empty((len(measured), len(STATISTICS)))
    for row, one in enumerate(measured.values()):
        thumbnails[row], statistics[row] = one.thumbnail, one.statistics
    return Measurements(
        indices=np.array(list(measured), dtype=int),
        digests=np.array([one.digest for one in measured.values()], dtype=object),
        formats=np.array([one.kind.title for one in measured.values()], dtype=object),
        misnamed=np.array([one.misnamed for one in measured.values()], dtype=bool),
        statistics=statistics,
        thumbnails=thumbnails,
        problems={index: result for index, result in results.items() if isinstance(result, Problem)},
    )


def _measure_one(collection: Collection, index: int) -> _Measured | Problem:
    """What is measured of one radiograph, or what is wrong with it."""
    radiographs, row = collection.origins[index]
    kind, misnamed = FileFormat("array", "gray"), False
    if isinstance(radiographs.images, np.ndarray):
        pixels = radiographs.read(row)
    else:
        path = radiographs.images[row]
        try:
            content = read_content(path)
        except DataError as error:
            return Problem("unreadable", str(error))
        kind = format_of(content.tobytes())
        misnamed = not kind.fits(path.suffix.lower())
        if not kind.complete:
            return Problem("truncated", "Its end mark is missing: the file was cut, or not copied whole.")
        try:
            pixels = decode_radiograph(content, "It")
        except DataError as error:
            return Problem("undecodable" if content.size else "empty", str(error))
    return _Measured(
        digest=pixel_digest(pixels),
        kind=kind,
        misnamed=misnamed,
        statistics=_statistics(pixels),
        thumbnail=thumbnail_of(pixels),
    )


def _statistics(pixels: np.ndarray) -> np.ndarray:
    """`(len(STATISTICS),)` floats of a `(height, width)` array of `uint8`."""
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
