"""Radiographs as a caller has them at hand: files, folders, an array, or a set."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard

import cv2
import numpy as np

from pneumokeras.core.errors import DataError, one_line
from pneumokeras.data.dataset import CLASS_NAMES, RadiographSet
from pneumokeras.data.images.image import resize
from pneumokeras.data.images.patients import patients_of
from pneumokeras.data.readers.folder import radiographs_under, unread_notices
from pneumokeras.data.splits import Splits

logger = logging.getLogger(__name__)

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
Images = RadiographSet | Paths | np.ndarray | Sequence[np.ndarray]
"""A set; files and folders; one image, or several, as arrays of gray levels."""


def are_paths(images: Any) -> TypeGuard[Paths]:
    """Return whether radiographs are given as a path or as several."""
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU":  # such as the names of a set
        images = images.tolist()
    several = images if isinstance(images, list | tuple) else [images]
    return bool(several) and all(isinstance(one, str | PathLike) for one in several)


def radiographs_at(paths: Paths, *, class_names: tuple[str, str] = CLASS_NAMES) -> RadiographSet:
    """Return the radiographs in files and folders, unlabeled, in order.

    Args:
        paths: image files, and folders whose radiographs are all taken. Other files in a folder that look
            like radiographs, such as DICOM files without an image, are left out, and a warning is logged.
        class_names: names of class 0 and class 1.

    Raises:
        DataError: if a folder holds no radiograph or cannot be read.
    """
    unread: dict[str, list[Path]] = {}
    files = list(_files([paths] if isinstance(paths, str | PathLike) else paths, unread))
    for notice in unread_notices(unread):
        logger.warning("%s", one_line(notice))
    return RadiographSet.from_files(files, class_names=class_names, patients=_patients_of(files))


def _patients_of(files: Sequence[Path]) -> Sequence[str]:
    """Return the patients that `load_radiographs` finds, or each file's own path if they cannot be told.

    A prediction needs no patient, so it does not stop where no key for those of DICOM files can be made.
    """
    try:
        return patients_of(files).tolist()
    except DataError:
        return [str(file) for file in files]


def _files(paths: Sequence[str | PathLike[str]], unread: dict[str, list[Path]]) -> Iterator[Path]:
    for path in map(Path, paths):
        left_out: dict[str, list[Path]] = {}
        found = list(radiographs_under(path, left_out)) if path.is_dir() else [path]
        if not found:
            reasons = "".join(f"{line} " for line in unread_notices(left_out))
            raise DataError(
                f"No images under {path}. {reasons}Expected JPEG, PNG, TIFF, BMP or DICOM files.", path=path
            )
        for reason, others in left_out.items():
            unread.setdefault(reason, []).extend(others)
        yield from found


def gray_levels(
    images: Images,
    image_size: tuple[int, int],
    *,
    pad: bool = False,
    bits: int | None = None,
    channels: int = 1,
    fit: bool = True,
) -> np.ndarray:
    """Read or resize radiographs: `(n, height, width)`, or `(n, height, width, channels)` from such arrays.

    Args:
        images: a set, files or folders, or arrays `(height, width)`, `(height, width, 1 or 3)`,
            `(n, height, width)` or `(n, height, width, 1 or 3)`; colors are RGB.
        image_size: wanted `(height, width)`.
        pad: keep the aspect ratio and pad with black, instead of stretching.
        bits: depth that files of more than eight bits are reduced by, as for `RadiographSet.at_depth`.
        channels: number that a model takes: arrays of so many keep them, and for one, colors give their
            luminance.
        fit: resize arrays; otherwise they keep their size.

    Returns:
        `uint8` for a set and for files, else the type of the arrays where nothing had to be changed.

    Raises:
        DataError: if a file cannot be read, or this is nothing of the kind.
    """
    if are_paths(images):
        images = radiographs_at(images)
    if isinstance(images, RadiographSet):
        return images.at_depth(bits).pixels(image_size, pad=pad)
    if isinstance(images, list | tuple) and images:
        parts = [
            gray_levels(one, image_size, pad=pad, bits=bits, channels=channels, fit=fit) for one in images
        ]
        return np.concatenate(parts)
    is_array = hasattr(images, "__array__") or hasattr(images, "__array_interface__")
    array = np.asarray(images if is_array else None)
    known = {1, 3, channels} if channels == 1 else {1, channels}
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in known):
        array = array[np.newaxis]  # one image
    received = array.shape[-1] if array.ndim == 4 else 1
    if array.ndim not in (3, 4) or received not in known or array.dtype.kind not in "uif":
        hint = " Choose one of its sets, such as splits.test." if isinstance(images, Splits) else ""
        kind = type(images).__name__ if array.dtype == object else f"{array.dtype} of shape {array.shape}"
        raise DataError(
            "Expected radiographs as a set, as paths, or as gray levels (height, width) or "
            f"(n, height, width), with or without channels. Received {kind}.{hint}"
        )
    if array.ndim == 4 and received == 1:
        array = array[..., 0]
    elif received == 3 != channels:
        array = np.stack([cv2.cvtColor(_plain(one), cv2.COLOR_RGB2GRAY) for one in array])
    if array.shape[1:3] == image_size or not fit:
        return array
    resized = [resize(_plain(one), image_size, pad=pad) for one in array]
    return np.stack(resized) if resized else np.empty((0, *image_size, *array.shape[3:]), array.dtype)


def require_gray_levels(images: Images) -> None:
    """Refuse arrays that hold no gray levels from 0 to 255, such as those scaled to [0, 1].

    Raises:
        DataError: if they do not; it says what they hold as they were given.
    """
    arrays = [array for array in _arrays_in(images) if array.size]
    if not arrays:
        return
    low, high = float(min(array.min() for array in arrays)), float(max(array.max() for array in arrays))
    # Whole numbers may be the darkest gray levels.
    scaled = 0 <= low <= high <= 1 and any(np.any(array % 1) for array in arrays)
    if not 0 <= low <= high <= 255 or scaled:
        kinds = " and ".join(sorted({str(array.dtype) for array in arrays}))
        raise DataError(
            f"Expected gray levels from 0 to 255. Received {kinds} from {low:g} to {high:g}. "
            + ("Multiply them by 255." if scaled else "Scale them to this range, or give the file's path.")
        )


def _arrays_in(images: Images) -> Iterator[np.ndarray]:
    """Yield the arrays among images: sets and files are gray levels anyway."""
    if isinstance(images, list | tuple):
        for one in images:
            yield from _arrays_in(one)
    elif not are_paths(images) and not isinstance(images, RadiographSet):
        yield np.asarray(images)


def _plain(image: np.ndarray) -> np.ndarray:
    """Return an image in a type that OpenCV resizes."""
    return image if image.dtype == np.uint8 else image.astype(np.float32)
