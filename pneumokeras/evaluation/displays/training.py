"""Displays of the data and of a training: class counts, losses and scores by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumokeras.evaluation.charts import epoch_chart
from pneumokeras.evaluation.displays.draw import draw
from pneumokeras.evaluation.displays.style import INK, SKY, VERMILLION, chart_axes, without_mathtext


@dataclass(eq=False)
class ClassDistributionDisplay:
    """Number of radiographs of each class in each split.

    Attributes:
        counts: for each split, images by class.
    """

    counts: Mapping[str, Mapping[str, int]]
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a group of bars for each split, each bar with its number."""
        self.ax_, self.figure_ = chart_axes(ax, "Radiographs by split and class")
        positions = np.arange(len(self.counts))
        class_names = list(dict.fromkeys(name for counts in self.counts.values() for name in counts))
        width = 0.8 / len(class_names)
        for i, name in enumerate(class_names):
            bars = self.ax_.bar(
                positions + (i - (len(class_names) - 1) / 2) * width,
                [counts.get(name, 0) for counts in self.counts.values()],
                width * 0.94,
                label=without_mathtext(name),
                color=(SKY, VERMILLION)[i % 2],
                edgecolor="white",
                hatch=("", "///")[i % 2],
            )
            self.ax_.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=9, color=INK)
        self.ax_.set_xticks(positions, [without_mathtext(name) for name in self.counts])
        self.ax_.tick_params(axis="x", length=0)
        self.ax_.set_ylabel("radiographs")
        self.ax_.margins(y=0.12)
        self.ax_.grid(visible=False, axis="x")
        self.ax_.legend(loc="upper right", frameon=False, fontsize=9)
        return self


@dataclass(eq=False)
class AccuracyCurvesDisplay:
    """Accuracy over the epochs of a fit.

    Attributes:
        history: one float an epoch for `accuracy` and `val_accuracy`, and perhaps `learning_rate`.
        best_epoch: the epoch whose weights were kept, counted from 1.
    """

    history: Mapping[str, Sequence[float]]
    best_epoch: int | None = None
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw training and validation accuracy."""
        self.ax_, self.figure_ = draw(epoch_chart("accuracy", self.history, self.best_epoch), ax)
        return self


@dataclass(eq=False)
class LossCurvesDisplay:
    """Loss over the epochs of a fit.

    Attributes:
        history: one float an epoch for `loss` and `val_loss`, and perhaps `learning_rate`.
        best_epoch: the epoch whose weights were kept, counted from 1.
    """

    history: Mapping[str, Sequence[float]]
    best_epoch: int | None = None
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw training and validation loss; their labels say that these are not the same quantity."""
        self.ax_, self.figure_ = draw(epoch_chart("loss", self.history, self.best_epoch), ax)
        return self
