"""Displays of radiographs and heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumokeras.evaluation.displays.style import (
    INK,
    PICTURE_SIZE,
    PICTURES_PER_ROW,
    Display,
    picture_axes,
    without_mathtext,
)

HEATMAP_COLORS = "inferno"
RIGHT_GREEN = "#00714f"
WRONG_RED = "#b3261e"
TICK, CROSS = "✓", "✗"


@dataclass(eq=False, repr=False)
class SampleRadiographsDisplay(Display):
    """Radiographs, each with a title.

    Attributes:
        images: `(k, height, width)` gray levels 0 to 255.
        titles: `(k,)` strings.
    """

    images: np.ndarray
    titles: Sequence[str]

    def plot(self, axes: np.ndarray | None = None, **kwargs: Any) -> Self:
        """Draw the radiographs row by row; `kwargs` go to `imshow`."""
        self.axes_, self.figure_ = _rows_of_pictures(axes, len(self.images))
        for ax, image, title in zip(self.axes_.flat, self.images, self.titles, strict=False):
            _show_radiograph(ax, image, **kwargs)
            ax.set_title(without_mathtext(title), fontsize=10, color=INK)
        return self


@dataclass(eq=False, repr=False)
class PredictionSamplesDisplay(Display):
    """Radiographs with true and predicted class and confidence: a green tick if right, a red cross if wrong.

    Attributes:
        images: `(k, height, width)` gray levels 0 to 255.
        labels: `(k,)` integers, 1 = PNEUMONIA.
        probabilities: `(k,)` floats in [0, 1], P(PNEUMONIA).
        threshold: PNEUMONIA is predicted if and only if p >= threshold.
        class_names: names of class 0 and class 1.
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float = 0.5
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")

    def plot(self, axes: np.ndarray | None = None, **kwargs: Any) -> Self:
        """Draw the radiographs row by row; `kwargs` go to `imshow`.

        The percentage is the probability of the predicted class.
        """
        self.axes_, self.figure_ = _rows_of_pictures(axes, len(self.images), title_lines=3)
        for ax, image, label, probability in zip(
            self.axes_.flat, self.images, self.labels, self.probabilities, strict=False
        ):
            _show_radiograph(ax, image, **kwargs)
            predicted = int(probability >= self.threshold)
            right = predicted == label
            color = RIGHT_GREEN if right else WRONG_RED
            confidence = probability if predicted else 1 - probability
            ax.set_title(
                f"{TICK if right else CROSS} true {without_mathtext(self.class_names[int(label)])}\n"
                f"predicted {without_mathtext(self.class_names[predicted])}\nconfidence {confidence:.0%}",
                fontsize=9,
                color=color,
            )
            ax.spines[:].set(visible=True, color=color, linewidth=2)
        return self


@dataclass(eq=False, repr=False)
class GradCamDisplay(Display):
    """Radiographs, the same under their heatmaps, and the heatmaps: one column for each radiograph.

    Attributes:
        images: `(k, height, width)` gray levels 0 to 255.
        heatmaps: `(k, height, width)` floats in [0, 1].
        overlays: `(k, height, width, 3)` `uint8`, RGB.
        titles: `(k,)` strings.
    """

    images: np.ndarray
    heatmaps: np.ndarray
    overlays: np.ndarray
    titles: Sequence[str]

    def plot(self, axes: np.ndarray | None = None, **kwargs: Any) -> Self:
        """Draw three rows: radiograph, overlay, heatmap; `kwargs` go to `imshow` of the radiographs."""
        self.axes_, self.figure_ = picture_axes(axes, 3, len(self.images), row_height=PICTURE_SIZE + 0.1)
        for column, title in enumerate(self.titles):
            _show_radiograph(self.axes_[0, column], self.images[column], **kwargs)
            self.axes_[1, column].imshow(self.overlays[column], interpolation="lanczos")
            self.axes_[2, column].imshow(self.heatmaps[column], cmap=HEATMAP_COLORS, vmin=0, vmax=1)
            self.axes_[0, column].set_title(without_mathtext(title), fontsize=9, color=INK)
        for ax, name in zip(self.axes_[:, 0], ("radiograph", "overlay", "heatmap"), strict=True):
            ax.set_ylabel(name, fontsize=10, color=INK)
        return self


def heatmap_pixels(heatmap: np.ndarray) -> np.ndarray:
    """Color a heatmap like `GradCamDisplay`.

    Args:
        heatmap: `(...)` floats in [0, 1], such as `(height, width)`.

    Returns:
        `(..., 3)` `uint8`, RGB.
    """
    return colormaps[HEATMAP_COLORS](heatmap, bytes=True)[..., :3]


def _show_radiograph(ax: Axes, image: np.ndarray, **options: Any) -> None:
    defaults: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "lanczos"}
    ax.imshow(image, **defaults | options)


def _rows_of_pictures(
    axes: np.ndarray | None, count: int, *, title_lines: int = 1
) -> tuple[np.ndarray, Figure]:
    """Return axes for `count` pictures and their titles; the last row may hold more than are needed."""
    columns = min(count, PICTURES_PER_ROW) if axes is None else count
    row_height = PICTURE_SIZE + 0.1 + 0.16 * title_lines
    return picture_axes(axes, -(-count // columns), columns, row_height=row_height)
