"""Masks of a phantom's opacities and thorax, stored as files beside the radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.dataset import CLASS_NAMES

OPACITY_MASKS, THORAX_MASKS = "masks", "thorax"  # folders


@dataclass(frozen=True, eq=False)
class PhantomMasks:
    """Masks of n phantoms.

    Attributes:
        opacities: `(n, height, width)` booleans; all false for a NORMAL radiograph.
        thoraxes: `(n, height, width)` booleans.
    """

    opacities: np.ndarray
    thoraxes: np.ndarray


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask, 0 or 255, at `(height, width)` as booleans: true if at least half a pixel is inside."""
    if mask.shape != size:
        mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA)
    return mask > 127


def read_masks(files: Sequence[Path], size: tuple[int, int], *, pad: bool = False) -> PhantomMasks:
    """Read the masks of phantoms at a model's size.

    Args:
        files: radiographs, where `write_phantoms` wrote them.
        size: `(height, width)` in pixels.
        pad: whether radiographs are padded instead of stretched; the size must then be square.

    Raises:
        DataError: if a radiograph has no masks beside it.
        SettingsError: if radiographs are padded and the size is not square.
    """
    if pad and size[0] != size[1]:
        raise SettingsError(
            f"Expected a square size for padded phantoms. Received {size[0]} x {size[1]}.", parameter="size"
        )
    thoraxes = [_read_mask(_mask_path(file, THORAX_MASKS), size) for file in files]
    opacities = [
        _read_mask(_mask_path(file, OPACITY_MASKS), size)
        if file.parent.name == CLASS_NAMES[1]
        else np.zeros(size, bool)
        for file in files
    ]
    return PhantomMasks(np.stack(opacities), np.stack(thoraxes))


def _mask_path(file: Path, kind: str) -> Path:
    split = file.resolve().parent.parent
    return split.parent / kind / split.name / file.parent.name / f"{file.stem}.png"


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if mask is None:
        raise DataError(
            f"There is no mask at {path}. Draw the phantoms again with pneumokeras.write_phantoms.", path=path
        )
    return resized_mask(mask, size)
