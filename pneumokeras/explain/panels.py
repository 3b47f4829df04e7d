"""Radiographs with their heatmaps, at a size for viewing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import keras
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.core.files import write_bytes
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.images.image import resize
from pneumokeras.explain.gradcam import METHOD, heatmap_function, overlay
from pneumokeras.models.saving import ModelDescription, description_of

MIN_PANEL = 256
"""Panels have the model's size, resized so that the shorter side has at least this many pixels."""

PANELS_AT_ONCE = 64  # about 50 MB at 256 pixels


@dataclass(frozen=True, eq=False)
class Panels:
    """Radiographs, their heatmaps, and the heatmaps laid over the radiographs.

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
        """Write each overlay as `<name>-heatmap.png` and return the paths in order.

        Raises:
            DataError: if an overlay would overwrite a radiograph.
        """
        paths = _overlay_paths(self.names, Path(folder))
        _write_overlays(self, paths)
        return paths


def read_panels(radiographs: RadiographSet, image_size: tuple[int, int], *, pad: bool = False) -> np.ndarray:
    """Read radiographs at the size of panels: `(k, height, width)` array of `uint8`."""
    return radiographs.pixels(panel_size(image_size), pad=pad)


def explain(model: keras.Model, radiographs: RadiographSet, *, method: str = METHOD) -> Panels:
    """Return panels with heatmaps of PNEUMONIA for a set of radiographs.

    Args:
        model: as for `grad_cam`.
        radiographs: the set; each is read twice, at the model's size to be explained and at the panels' size.
        method: as for `grad_cam`.

    Returns:
        The panels, in the set's order.

    Raises:
        DataError: if a radiograph cannot be read.
        SettingsError: if there is no such method.
        ModelError: if the model cannot be explained.
    """
    return panels_of(heatmap_function(model, method=method), description_of(model), radiographs)


def write_heatmaps(
    model: keras.Model,
    radiographs: RadiographSet,
    folder: str | PathLike[str],
    *,
    method: str = METHOD,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Write each radiograph's overlay as `Panels.write` does, with memory that does not grow with the set.

    Args:
        model: as for `grad_cam`.
        radiographs: the set.
        folder: the folder to write into.
        method: as for `grad_cam`.
        progress: called after every batch with the number of radiographs done.

    Returns:
        The paths, in the set's order.

    Raises:
        DataError: if a radiograph cannot be read, or an overlay would overwrite one.
        SettingsError: if there is no such method.
        ModelError: if the model cannot be explained.
    """
    heatmaps_of, description = heatmap_function(model, method=method), description_of(model)
    paths = _overlay_paths(radiographs.names, Path(folder))
    for start in range(0, len(radiographs), PANELS_AT_ONCE):
        chosen = np.arange(start, min(start + PANELS_AT_ONCE, len(radiographs)))
        panels = panels_of(heatmaps_of, description, radiographs.subset(chosen))
        _write_overlays(panels, paths[start : start + len(chosen)])
        progress(start + len(chosen))
    return paths


def panels_of(
    heatmaps_of: Callable[[np.ndarray], np.ndarray], description: ModelDescription, radiographs: RadiographSet
) -> Panels:
    """Return panels with heatmaps of a function that `heatmap_function` made, once for several sets.

    Args:
        heatmaps_of: the function.
        description: of its model.
        radiographs: the set.
    """
    radiographs = radiographs.at_depth(description.bits)
    heatmaps = heatmaps_of(radiographs.pixels(description.image_size, pad=description.pad))
    images = read_panels(radiographs, description.image_size, pad=description.pad)
    resized = np.stack([np.clip(resize(heatmap, images.shape[1:3]), 0, 1) for heatmap in heatmaps])
    overlays = np.stack([overlay(image, heatmap) for image, heatmap in zip(images, resized, strict=True)])
    return Panels(radiographs.names, images, resized, overlays)


def _overlay_paths(names: Iterable[str], folder: Path) -> list[Path]:
    """Return a path for each radiograph, `<name>-heatmap.png`, numbered if the name is taken."""
    paths: dict[Path, None] = {}
    numbers: dict[str, int] = {}
    for name in names:
        stem = Path(name).stem
        path = folder / f"{stem}-heatmap.png"
        while path in paths:
            numbers[stem] = numbers.get(stem, 1) + 1
            path = folder / f"{stem}-{numbers[stem]}-heatmap.png"
        paths[path] = None
    taken = {Path(name).resolve() for name in names} & {path.resolve() for path in paths}
    if taken:
        raise DataError(
            f"{min(taken)} is one of the radiographs. Write the heatmaps into another folder.",
            path=min(taken),
        )
    return list(paths)


def _write_overlays(panels: Panels, paths: Sequence[Path]) -> None:
    for path, picture in zip(paths, panels.overlays, strict=True):
        write_bytes(path, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def panel_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the `(height, width)` of a model's panels."""
    factor = max(1, MIN_PANEL / min(image_size))
    return round(image_size[0] * factor), round(image_size[1] * factor)
