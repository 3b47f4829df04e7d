"""Radiographs with their heatmaps, ready to be looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import keras
import numpy as np

from pneumokeras.data.datasets import RadiographSet
from pneumokeras.data.radiographs import resize
from pneumokeras.errors import DataError
from pneumokeras.explain.gradcam import grad_cam, overlay
from pneumokeras.files import write_bytes
from pneumokeras.models.saved import describe

SMALLEST_PANEL = 256
"""Panels are drawn at the model's size, or at this side in pixels if that is larger."""


@dataclass(frozen=True, eq=False)
class Panels:
    """Radiographs, heatmaps and one laid over the other.

    Attributes:
        names: `(k,)` strings.
        images: `(k, height, width)` `uint8` gray levels.
        heatmaps: `(k, height, width)` `float32` in [0, 1].
        overlays: `(k, height, width, 3)` `uint8`, RGB.
    """

    names: np.ndarray
    images: np.ndarray
    heatmaps: np.ndarray
    overlays: np.ndarray

    def write(self, folder: str | PathLike[str]) -> list[Path]:
        """Write each overlay as `<name>-heatmap.png`, and give back the paths in order.

        Raises:
            DataError: if a radiograph itself lies where its overlay would be written.
        """
        folder = Path(folder)
        seen: Counter[str] = Counter()
        paths = []
        for name in self.names:
            stem = Path(name).stem
            seen[stem] += 1
            number = f"-{seen[stem]}" if seen[stem] > 1 else ""
            paths.append(folder / f"{stem}{number}-heatmap.png")
        taken = {Path(name).resolve() for name in self.names} & {path.resolve() for path in paths}
        if taken:
            raise DataError(
                f"{min(taken)} is one of the radiographs. Write the heatmaps into another folder."
            )
        for path, picture in zip(paths, self.overlays, strict=True):
            write_bytes(path, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
        return paths


def read_panels(radiographs: RadiographSet, image_size: tuple[int, int], *, pad: bool = False) -> np.ndarray:
    """Radiographs at the size panels are drawn at: `(k, height, width)` array of `uint8`."""
    return radiographs.pixels(panel_size(image_size), pad=pad)


def explain(model: keras.Model, radiographs: RadiographSet) -> Panels:
    """Grad-CAM of PNEUMONIA for each radiograph of a set.

    Args:
        model: as for `grad_cam`.
        radiographs: the set; each is read at the model's size to be explained, and larger to be looked at.

    Returns:
        The panels, in the set's order.

    Raises:
        DataError: if a radiograph cannot be read.
        ModelError: if the model cannot be explained.
    """
    description = describe(model)
    heatmaps = grad_cam(model, radiographs.pixels(description.image_size, pad=description.pad))
    images = read_panels(radiographs, description.image_size, pad=description.pad)
    enlarged = np.stack([np.clip(resize(heatmap, images.shape[1:3]), 0, 1) for heatmap in heatmaps])
    overlays = np.stack([overlay(image, heatmap) for image, heatmap in zip(images, enlarged, strict=True)])
    return Panels(radiographs.names, images, enlarged, overlays)


def panel_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """The size panels of a model are drawn at."""
    factor = max(1, SMALLEST_PANEL / min(image_size))
    return round(image_size[0] * factor), round(image_size[1] * factor)
