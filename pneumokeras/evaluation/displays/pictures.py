"""Displays of radiographs and heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumokeras.evaluation.displays.style import (
    CROSS,
    GRAY,
    INK,
    PICTURE_SIZE,
    RIGHT_GREEN,
    SKY,
    TICK,
    VERMILLION,
    WRONG_RED,
    bare,
    chart,
    grid,
    legend_below,
    picture_grid,
    without_mathtext,
)

HEATMAP_COLORS = "inferno"


@dataclass(eq=False)
class SampleRadiographsDisplay:
    """Some radiographs, each with a title.

    Attributes:
        images: `(k, height, width)` gray levels 0 to 255.
        titles: `(k,)` strings.
        axes_: `(rows, columns)` axes drawn into.
        figure_: their figure.
    """

    images: np.ndarray
    titles: Sequence[str]
    axes_: np.ndarray = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, axes: np.ndarray | None = None) -> Self:
        """Draw the radiographs row by row."""
        self.axes_, self.figure_ = picture_grid(axes, len(self.images))
        for ax, image, title in zip(self.axes_.flat, self.images, self.titles, strict=False):
            _show_radiograph(ax, image)
            ax.set_title(without_mathtext(title), fontsize=10, color=INK)
        return self


@dataclass(eq=False)
class PredictionSamplesDisplay:
    """Some radiographs with truth, call and confidence: a green tick where right, a red cross where wrong.

    Attributes:
        images: `(k, height, width)` gray levels 0 to 255.
        labels: `(k,)` integers, 1 = PNEUMONIA.
        probabilities: `(k,)` floats in [0, 1], P(PNEUMONIA).
        threshold: PNEUMONIA is called if and only if p >= threshold.
        class_names: names of class 0 and class 1.
        axes_: `(rows, columns)` axes drawn into.
        figure_: their figure.
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float = 0.5
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    axes_: np.ndarray = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, axes: np.ndarray | None = None) -> Self:
        """Draw the radiographs row by row; the percentage is the probability of the class called."""
        self.axes_, self.figure_ = picture_grid(axes, len(self.images), title_lines=3)
        for ax, image, label, probability in zip(
            self.axes_.flat, self.images, self.labels, self.probabilities, strict=False
        ):
            _show_radiograph(ax, image)
            called = int(probability >= self.threshold)
            right = called == label
            color = RIGHT_GREEN if right else WRONG_RED
            confidence = probability if called else 1 - probability
            ax.set_title(
                f"{TICK if right else CROSS} true {without_mathtext(self.class_names[int(label)])}\n"
                f"predicted {without_mathtext(self.class_names[called])}\nconfidence {confidence:.0%}",
                fontsize=9,
                color=color,
            )
            ax.spines[:].set(visible=True, color=color, linewidth=2)
        return self


@dataclass(eq=False)
class GradCamDisplay:
    """Radiographs, the same under their heatmaps, and the heatmaps: one column for each radiograph.

    Attributes:
        images: `(k, height, width)` gray levels 0 to 255.
        heatmaps: `(k, height, width)` floats in [0, 1].
        overlays: `(k, height, width, 3)` `uint8`, RGB.
        titles: `(k,)` strings.
        axes_: `(3, k)` axes drawn into.
        figure_: their figure.
    """

    images: np.ndarray
    heatmaps: np.ndarray
    overlays: np.ndarray
    titles: Sequence[str]
    axes_: np.ndarray = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, axes: np.ndarray | None = None) -> Self:
        """Draw three rows: radiograph, overlay, heatmap."""
        self.axes_, self.figure_ = grid(axes, 3, len(self.images), row_height=PICTURE_SIZE + 0.1)
        for ax in self.axes_.flat:
            bare(ax)
        for column, title in enumerate(self.titles):
            _show_radiograph(self.axes_[0, column], self.images[column])
            self.axes_[1, column].imshow(self.overlays[column], interpolation="lanczos")
            self.axes_[2, column].imshow(self.heatmaps[column], cmap=HEATMAP_COLORS, vmin=0, vmax=1)
            self.axes_[0, column].set_title(without_mathtext(title), fontsize=9, color=INK)
        for ax, name in zip(self.axes_[:, 0], ("radiograph", "overlay", "heatmap"), strict=True):
            ax.set_ylabel(name, fontsize=10, color=INK)
        return self


@dataclass(eq=False)
class ProjectionDisplay:
    """Radiographs as points of a plane.

    Attributes:
        points: `(n, 2)` floats.
        labels: `(n,)` integers, 1 = PNEUMONIA, or `None` where nobody said.
        title: what was projected and how.
        class_names: names of class 0 and class 1.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    points: np.ndarray
    labels: np.ndarray | None = None
    title: str = "Projection"
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a dot for each radiograph; the axes have no units and carry no numbers."""
        self.ax_, self.figure_ = chart(ax, self.title)
        if self.labels is None:
            self.ax_.plot(*self.points.T, color=GRAY, marker="o", markersize=3, linestyle="none")
        else:
            styles = ((SKY, "o"), (VERMILLION, "^"))
            for value, (name, (color, marker)) in enumerate(zip(self.class_names, styles, strict=True)):
                chosen = self.points[np.asarray(self.labels) == value]
                self.ax_.plot(
                    *chosen.T,
                    color=color,
                    marker=marker,
                    markersize=4,
                    alpha=0.75,
                    linestyle="none",
                    label=without_mathtext(name),
                )
            legend_below(self.ax_)
        self.ax_.set_xticks([])
        self.ax_.set_yticks([])
        return self


def heatmap_pixels(heatmap: np.ndarray) -> np.ndarray:
    """A heatmap in the colors of `GradCamDisplay`.

    Args:
        heatmap: `(height, width)` floats in [0, 1].

    Returns:
        `(height, width, 3)` `uint8`, RGB.
    """
    return colormaps[HEATMAP_COLORS](heatmap, bytes=True)[..., :3]


def _show_radiograph(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
