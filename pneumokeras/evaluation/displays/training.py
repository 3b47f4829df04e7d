"""Displays of the data and of a training: class counts, losses and scores by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pneumokeras.evaluation.displays.style import (
    BLUE,
    GRAY,
    INK,
    SKY,
    VERMILLION,
    chart,
    legend_below,
    number_bars,
    without_mathtext,
)


@dataclass(eq=False)
class ClassDistributionDisplay:
    """How many radiographs of each class there are in each split.

    Attributes:
        counts: for each split, images by class.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    counts: Mapping[str, Mapping[str, int]]
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a group of bars for each split, each bar with its number."""
        self.ax_, self.figure_ = chart(ax, "Radiographs by split and class")
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
            number_bars(self.ax_, bars)
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
        ax_: the axes drawn into.
        figure_: their figure.
    """

    history: Mapping[str, Sequence[float]]
    best_epoch: int | None = None
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw training and validation accuracy."""
        self.ax_, self.figure_ = chart(ax, "Accuracy at threshold 0.5")
        _draw_epochs(
            self.ax_, self.history, self.best_epoch, {"accuracy": "training", "val_accuracy": "validation"}
        )
        self.ax_.set_ylabel("accuracy")
        return self


@dataclass(eq=False)
class LossCurvesDisplay:
    """Loss over the epochs of a fit.

    Attributes:
        history: one float an epoch for `loss` and `val_loss`, and perhaps `learning_rate`.
        best_epoch: the epoch whose weights were kept, counted from 1.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    history: Mapping[str, Sequence[float]]
    best_epoch: int | None = None
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw training and validation loss, and say that they are not the same quantity."""
        self.ax_, self.figure_ = chart(ax, "Loss")
        labels = {
            "loss": "training (class-weighted, with penalty)",
            "val_loss": "validation (plain cross-entropy)",
        }
        _draw_epochs(self.ax_, self.history, self.best_epoch, labels)
        self.ax_.set_ylabel("loss")
        return self


def learning_rate_reductions(history: Mapping[str, Sequence[float]]) -> list[int]:
    """The epochs, counted from 1, that began with a lower learning rate than the one before, stages apart."""
    pairs = pairwise(history.get("learning_rate", ()))
    starts = {epoch for epoch, _ in stage_starts(history)}
    return [
        epoch
        for epoch, (before, after) in enumerate(pairs, start=2)
        if after < before and epoch not in starts
    ]


def stage_starts(history: Mapping[str, Sequence[float]]) -> list[tuple[int, float]]:
    """The epochs, counted from 1, with which a further stage began, and the number of each stage."""
    pairs = pairwise(history.get("stage", ()))
    return [(epoch, after) for epoch, (before, after) in enumerate(pairs, start=2) if after != before]


def _draw_epochs(
    ax: Axes, history: Mapping[str, Sequence[float]], best_epoch: int | None, labels: Mapping[str, str]
) -> None:
    """Draw a training and a validation figure over epochs counted from 1, in that order."""
    (train, train_label), (val, val_label) = labels.items()
    epochs = range(1, len(history[train]) + 1)
    for i, epoch in enumerate(learning_rate_reductions(history)):
        label = "learning rate reduced" if i == 0 else None
        ax.axvline(epoch - 0.5, color=GRAY, linestyle=":", linewidth=1, label=label)
    for i, (epoch, _) in enumerate(stage_starts(history)):
        label = "next stage of fine-tuning" if i == 0 else None
        ax.axvline(epoch - 0.5, color=INK, linestyle="-.", linewidth=1, label=label)
    ax.plot(epochs, history[train], color=BLUE, marker="o", markersize=4, label=train_label)
    ax.plot(epochs, history[val], color=VERMILLION, linestyle="--", marker="s", markersize=4, label=val_label)
    if best_epoch is not None:
        ax.plot(
            [best_epoch],
            [history[val][best_epoch - 1]],
            linestyle="none",
            marker="o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.4,
            label=f"epoch kept ({best_epoch})",
        )
    ax.set_xlabel("epoch")
    ax.set_xlim(0.5, len(epochs) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(ax)  # inside, it would lie on one line or another
