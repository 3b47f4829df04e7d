"""Masks of a phantom's opacities and thorax, as files beside the radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import CLASS_NAMES

OPACITY_MASKS, THORAX_MASKS = "masks", "thorax"  # folders


def mask_of(drawn: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where at least half of a pixel at `(height, width)` lies in what was drawn at 255: booleans."""
    if drawn.shape != size:
        drawn = cv2.resize(drawn, size[::-1], interpolation=cv2.INTER_AREA)
    return drawn > 127


@dataclass(frozen=True, eq=False)
class PhantomMasks:
    """What is known of where things are in phantoms.

    Attributes:
        opacities: `(n, height, width)` booleans; nothing in a NORMAL radiograph.
        thoraxes: `(n, height, width)` booleans, the chest of each.
    """

    opacities: np.ndarray
    thoraxes: np.ndarray


def read_masks(files: Sequence[Path], size: tuple[int, int], *, pad: bool = False) -> PhantomMasks:
    """The masks of phantoms, brought to a model's size as the radiographs themselves are.

    Args:
        files: radiographs where `write_phantoms` wrote them.
        size: `(height, width)` in pixels.
        pad: whether the radiographs are padded to the square instead of stretched; phantoms are square.

    Raises:
        DataError: if a radiograph has no masks beside it.
    """
    if pad and size[0] != size[1]:
        raise DataError(f"Expected a square size for padded phantoms. Received {size[0]} x {size[1]}.")
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
    drawn = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if drawn is None:
        raise DataError(f"There is no mask at {path}. Draw the phantoms anew: pneumokeras data phantoms.")
    return mask_of(drawn, size)
