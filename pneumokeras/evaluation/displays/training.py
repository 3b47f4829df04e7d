"""Displays of the data and of a training: class counts, losses and scores by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes

from pneumokeras.core.errors import SettingsError
from pneumokeras.evaluation.charts import epoch_chart
from pneumokeras.evaluation.displays.draw import draw
from pneumokeras.evaluation.displays.style import INK, SKY, VERMILLION, Display, chart_axes, without_mathtext


@dataclass(eq=False, repr=False)
class ClassDistributionDisplay(Display):
    """Number of radiographs of each class in each split.

    Attributes:
        counts: for each split, images by class, as in `splits.counts`; splits are taken for their counts.

    Raises:
        SettingsError: if the counts are something else.
    """

    counts: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        """Take splits for their counts, and refuse what has none."""
        self.counts = getattr(self.counts, "counts", self.counts)
        if not isinstance(self.counts, Mapping):
            raise SettingsError(
                "Expected `counts` as splits, or as images by class for each split. "
                f"Received {type(self.counts).__name__}.",
                parameter="counts",
            )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw a group of bars for each split, each bar with its number; `kwargs` go to the bars."""
        self.ax_, self.figure_ = chart_axes(ax, "Radiographs by split and class")
        positions = np.arange(len(self.counts))
        class_names = list(dict.fromkeys(name for counts in self.counts.values() for name in counts))
        width = 0.8 / len(class_names)
        for i, name in enumerate(class_names):
            options: dict[str, Any] = {
                "label": without_mathtext(name),
                "color": (SKY, VERMILLION)[i % 2],
                "edgecolor": "white",
                "hatch": ("", "///")[i % 2],
            }
            bars = self.ax_.bar(
                positions + (i - (len(class_names) - 1) / 2) * width,
                [counts.get(name, 0) for counts in self.counts.values()],
                width * 0.94,
                **options | kwargs,
            )
            self.ax_.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=9, color=INK)
        self.ax_.set_xticks(positions, [without_mathtext(name) for name in self.counts])
        self.ax_.tick_params(axis="x", length=0)
        self.ax_.set_ylabel("radiographs")
        self.ax_.margins(y=0.12)
        self.ax_.grid(visible=False, axis="x")
        self.ax_.legend(loc="upper right", frameon=False, fontsize=9)
        return self


def history_display(
    history: Mapping[str, Sequence[float]], score: str = "loss", *, best_epoch: int | None = None
) -> AccuracyCurvesDisplay | LossCurvesDisplay:
    """Return the display of one score of a fit's history, not drawn yet.

    Args:
        history: as for the displays.
        score: `"loss"` or `"accuracy"`.
        best_epoch: as for the displays.

    Raises:
        SettingsError: if there is no such display, or the history has no such score.
    """
    displays: dict[str, type[AccuracyCurvesDisplay | LossCurvesDisplay]] = {
        "loss": LossCurvesDisplay,
        "accuracy": AccuracyCurvesDisplay,
    }
    drawn = [name for name in displays if name in history]
    if score not in drawn:
        raise SettingsError(
            f"Expected `score` as one of {drawn} in this history. Received {score!r}.", parameter="score"
        )
    return displays[score](history, best_epoch)


@dataclass(eq=False, repr=False)
class AccuracyCurvesDisplay(Display):
    """Accuracy over the epochs of a fit.

    Attributes:
        history: one float an epoch for `accuracy` and `val_accuracy`, and perhaps `learning_rate`.
        best_epoch: the epoch whose weights were kept, counted from 1.
    """

    history: Mapping[str, Sequence[float]]
    best_epoch: int | None = None

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw training and validation accuracy; `kwargs` go to the curve of training."""
        self.ax_, self.figure_ = draw(epoch_chart("accuracy", self.history, self.best_epoch), ax, **kwargs)
        return self


@dataclass(eq=False, repr=False)
class LossCurvesDisplay(Display):
    """Loss over the epochs of a fit.

    Attributes:
        history: one float an epoch for `loss` and `val_loss`, and perhaps `learning_rate`.
        best_epoch: the epoch whose weights were kept, counted from 1.
    """

    history: Mapping[str, Sequence[float]]
    best_epoch: int | None = None

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw training and validation loss; `kwargs` go to the curve of training.

        The labels say that these are not the same quantity.
        """
        self.ax_, self.figure_ = draw(epoch_chart("loss", self.history, self.best_epoch), ax, **kwargs)
        return self
