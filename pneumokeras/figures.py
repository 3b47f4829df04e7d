"""One Display class per figure: each holds what it shows and draws it; none of them computes anything.

In the manner of scikit-learn's Displays, `plot(ax=None)` draws into the given axes or into a figure of its
own, keeps `ax_` and `figure_`, and returns the display. Displays of several pictures take and keep a grid of
axes, `axes_`. Matplotlib's object interface only: nothing is registered with pyplot, nothing is shown.

The colours are those of Okabe & Ito (2008), which most colour-blind people can tell apart; line styles,
markers, hatches and words say the same once more, for print in gray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike
from typing import Any, Literal, Protocol, Self

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from pneumokeras.evaluation.calibration import ReliabilityBin
from pneumokeras.evaluation.comparison import Comparison
from pneumokeras.evaluation.decisions import NetBenefit
from pneumokeras.evaluation.results import Curve, Interval, OperatingPointResult, Predictions
from pneumokeras.evaluation.subgroups import Subgroup
from pneumokeras.files import replacing

BLUE = "#0072b2"
ORANGE = "#e69f00"
VERMILLION = "#d55e00"
SKY = "#56b4e9"
INK = "#222222"
GRAY = "#767676"
RIGHT_GREEN = "#00714f"
WRONG_RED = "#b3261e"
TICK, CROSS = "✓", "✗"

DPI = 150
CHART_SIZE = (4.4, 4.4)  # inches: small, so that 9-point text is still read on a telephone
PICTURE_SIZE = 2.0  # inches a side
PICTURES_PER_ROW = 4
HEATMAP_COLOURS = "inferno"
SCORE_BINS = 50

POINT_STYLES: dict[str, dict[str, Any]] = {
    "default": {"marker": "o", "markersize": 8, "color": INK},
    "validation": {"marker": "D", "markersize": 8, "color": VERMILLION},
    "oracle": {
        "marker": "s",
        "markersize": 14,
        "color": GRAY,
        "markerfacecolor": "none",
        "markeredgewidth": 1.6,
    },
}
OTHER_POINT_STYLE: dict[str, Any] = {"marker": "^", "markersize": 8, "color": ORANGE}
POINT_LABELS = {
    "default": "threshold 0.5",
    "validation": "chosen on validation",
    "oracle": "chosen on these radiographs, not achievable",
}


class Display(Protocol):
    """A figure that can be drawn."""

    figure_: Figure

    def plot(self) -> Display:
        """Draw into a figure of its own."""


def save(display: Display, *paths: str | PathLike[str], dpi: int = DPI) -> None:
    """Draw a display into files, each whole or not at all; the same display gives the same files.

    Args:
        display: what to draw.
        *paths: the files; the suffix of each, such as `.png` or `.svg`, is its format.
        dpi: dots per inch.
    """
    figure = display.plot().figure_
    for path in paths:
        dateless: dict[str, Any] = {"metadata": {"Date": None}} if str(path).endswith(".svg") else {}
        with replacing(path) as temporary, mpl.rc_context({"svg.hashsalt": "pneumokeras"}):
            figure.savefig(temporary, dpi=dpi, **dateless)


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
        self.ax_, self.figure_ = _chart(ax, "Radiographs by split and class")
        positions = np.arange(len(self.counts))
        class_names = list(dict.fromkeys(name for counts in self.counts.values() for name in counts))
        width = 0.8 / len(class_names)
        for i, name in enumerate(class_names):
            bars = self.ax_.bar(
                positions + (i - (len(class_names) - 1) / 2) * width,
                [counts.get(name, 0) for counts in self.counts.values()],
                width * 0.94,
                label=_plain(name),
                color=(SKY, VERMILLION)[i % 2],
                edgecolor="white",
                hatch=("", "///")[i % 2],
            )
            _number_bars(self.ax_, bars)
        self.ax_.set_xticks(positions, [_plain(name) for name in self.counts])
        self.ax_.tick_params(axis="x", length=0)
        self.ax_.set_ylabel("radiographs")
        self.ax_.margins(y=0.12)
        self.ax_.grid(visible=False, axis="x")
        self.ax_.legend(loc="upper right", frameon=False, fontsize=9)
        return self


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
        self.axes_, self.figure_ = _picture_grid(axes, len(self.images))
        for ax, image, title in zip(self.axes_.flat, self.images, self.titles, strict=False):
            _show_radiograph(ax, image)
            ax.set_title(_plain(title), fontsize=10, color=INK)
        return self


@dataclass(eq=False)
class ConfusionMatrixDisplay:
    """Images by truth (rows) and call (columns) at one operating point.

    Attributes:
        result: the operating point's counts.
        class_names: names of class 0 and class 1.
        title: what stands above.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    result: OperatingPointResult
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    title: str = "Confusion matrix"
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw four cells, each with its count, its share of the row, and its name."""
        self.ax_, self.figure_ = _chart(ax, self.title)
        result = self.result
        counts = np.array([[result.tn, result.fp], [result.fn, result.tp]])
        names = (("true negatives", "false positives"), ("false negatives", "true positives"))
        totals = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(totals, 1)
        self.ax_.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
        for row, column in np.ndindex(2, 2):
            share = f"{shares[row, column]:.1%} of row" if totals[row, 0] else "no such radiographs"
            colour = "white" if shares[row, column] > 0.6 else INK
            centred: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
            self.ax_.text(column, row - 0.17, f"{counts[row, column]:,}", fontsize=20, **centred)
            self.ax_.text(column, row + 0.08, share, fontsize=10, **centred)
            self.ax_.text(column, row + 0.25, names[row][column], fontsize=8.5, **centred)
        labels = [_plain(name) for name in self.class_names]
        self.ax_.set_xticks([0, 1], labels)
        self.ax_.set_yticks([0, 1], labels, rotation=90, va="center")
        self.ax_.tick_params(length=0)
        self.ax_.set_xlabel("predicted")
        self.ax_.set_ylabel("true")
        self.ax_.grid(visible=False)
        self.ax_.spines[:].set_visible(False)
        return self


@dataclass(eq=False)
class RocCurveDisplay:
    """ROC curve with the operating points on it.

    Attributes:
        curve: x = false positive rate, y = true positive rate.
        auc: the area under it.
        operating_points: results by name; `oracle` is drawn hollow, for it is not achievable.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    curve: Curve
    auc: Interval
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the curve, the diagonal of chance and the operating points."""
        self.ax_, self.figure_ = _chart(ax, "ROC curve")
        self.ax_.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="chance")
        self.ax_.plot(self.curve.x, self.curve.y, color=BLUE, linewidth=2, label=f"AUC {self.auc}")
        for name, result in self.operating_points.items():
            specificity, sensitivity = (
                result.scores[score].estimate for score in ("specificity", "sensitivity")
            )
            _mark_point(self.ax_, name, 1 - specificity, sensitivity)
        self.ax_.set_xlabel("false positive rate (1 - specificity)")
        self.ax_.set_ylabel("true positive rate (sensitivity)")
        _unit_square(self.ax_)
        _legend_inside(self.ax_, "lower right")
        return self


@dataclass(eq=False)
class PrecisionRecallDisplay:
    """Precision-recall curve with the operating points on it.

    Attributes:
        curve: x = recall, y = precision.
        average_precision: the area under it, in steps.
        prevalence: share of PNEUMONIA, in [0, 1]: the precision of calling at random.
        operating_points: results by name; `oracle` is drawn hollow, for it is not achievable.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    curve: Curve
    average_precision: Interval
    prevalence: float
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the curve, the line of chance and the operating points."""
        self.ax_, self.figure_ = _chart(ax, "Precision-recall curve")
        self.ax_.axhline(
            self.prevalence,
            color=GRAY,
            linestyle="--",
            linewidth=1,
            label=f"prevalence {self.prevalence:.3f}",
        )
        self.ax_.plot(
            self.curve.x,
            self.curve.y,
            color=BLUE,
            linewidth=2,
            drawstyle="steps-post",
            label=f"average precision {self.average_precision}",
        )
        for name, result in self.operating_points.items():
            _mark_point(
                self.ax_, name, result.scores["sensitivity"].estimate, result.scores["precision"].estimate
            )
        self.ax_.set_xlabel("recall (sensitivity)")
        self.ax_.set_ylabel("precision")
        _unit_square(self.ax_)
        _legend_inside(self.ax_, "lower left")
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
        self.ax_, self.figure_ = _chart(ax, "Accuracy at threshold 0.5")
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
        self.ax_, self.figure_ = _chart(ax, "Loss")
        labels = {
            "loss": "training (class-weighted, with penalty)",
            "val_loss": "validation (plain cross-entropy)",
        }
        _draw_epochs(self.ax_, self.history, self.best_epoch, labels)
        self.ax_.set_ylabel("loss")
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
        self.axes_, self.figure_ = _picture_grid(axes, len(self.images), title_lines=3)
        for ax, image, label, probability in zip(
            self.axes_.flat, self.images, self.labels, self.probabilities, strict=False
        ):
            _show_radiograph(ax, image)
            called = int(probability >= self.threshold)
            right = called == label
            colour = RIGHT_GREEN if right else WRONG_RED
            confidence = probability if called else 1 - probability
            ax.set_title(
                f"{TICK if right else CROSS} true {_plain(self.class_names[int(label)])}\n"
                f"predicted {_plain(self.class_names[called])}\nconfidence {confidence:.0%}",
                fontsize=9,
                color=colour,
            )
            ax.spines[:].set(visible=True, color=colour, linewidth=2)
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
        self.axes_, self.figure_ = _grid(axes, 3, len(self.images), row_height=PICTURE_SIZE + 0.1)
        for ax in self.axes_.flat:
            _bare(ax)
        for column, title in enumerate(self.titles):
            _show_radiograph(self.axes_[0, column], self.images[column])
            self.axes_[1, column].imshow(self.overlays[column], interpolation="lanczos")
            self.axes_[2, column].imshow(self.heatmaps[column], cmap=HEATMAP_COLOURS, vmin=0, vmax=1)
            self.axes_[0, column].set_title(_plain(title), fontsize=9, color=INK)
        for ax, name in zip(self.axes_[:, 0], ("radiograph", "overlay", "heatmap"), strict=True):
            ax.set_ylabel(name, fontsize=10, color=INK)
        return self


@dataclass(eq=False)
class ScoreDistributionDisplay:
    """What a model says of the radiographs of either class, with the thresholds.

    Attributes:
        predictions: labelled.
        operating_points: results by name.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    predictions: Predictions
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a histogram of the probabilities of each class and a line at each threshold."""
        self.ax_, self.figure_ = _chart(ax, "What the model says")
        edges = np.linspace(0, 1, SCORE_BINS + 1)
        counts = score_histogram(self.predictions)
        styles = ((SKY, ""), (VERMILLION, "///"))
        for row, name, (colour, hatch) in zip(counts, self.predictions.class_names, styles, strict=True):
            self.ax_.stairs(row, edges, label=_plain(name), color=colour, linewidth=1.6, hatch=hatch)
        for name, result in self.operating_points.items():
            style = POINT_STYLES.get(name, OTHER_POINT_STYLE)
            dashes = {"default": "--", "validation": "-"}.get(name, ":")
            self.ax_.axvline(
                result.point.threshold,
                color=style["color"],
                linestyle=dashes,
                linewidth=1.4,
                label=_plain(POINT_LABELS.get(name, name)),
            )
        self.ax_.set_xlim(0, 1)
        self.ax_.set_xlabel(f"probability of {_plain(self.predictions.class_names[1])}")
        self.ax_.set_ylabel("radiographs")
        _legend_below(self.ax_)
        return self


@dataclass(eq=False)
class ReliabilityDisplay:
    """Reliability curve: whether probabilities mean what they say.

    Attributes:
        bins: of equal width; the empty ones are left out.
        calibration_error: the expected one.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    bins: Sequence[ReliabilityBin]
    calibration_error: Interval
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the share of PNEUMONIA in each bin with its interval, and the diagonal of perfection."""
        self.ax_, self.figure_ = _chart(ax, "Reliability")
        bins = [bin_ for bin_ in self.bins if bin_.images]
        said = [bin_.mean_probability for bin_ in bins]
        seen = np.array([bin_.observed.estimate for bin_ in bins])
        ends = np.array([[bin_.observed.low for bin_ in bins], [bin_.observed.high for bin_ in bins]])
        self.ax_.plot(
            [0, 1],
            [0, 1],
            color=GRAY,
            linestyle="--",
            linewidth=1,
            label="probabilities mean what they say",
        )
        self.ax_.errorbar(
            said,
            seen,
            yerr=np.maximum(np.abs(ends - seen), 0),
            color=BLUE,
            marker="o",
            markersize=5,
            capsize=2,
            elinewidth=1,
            label=f"calibration error {self.calibration_error}",
        )
        self.ax_.set_xlabel("mean probability in the bin")
        self.ax_.set_ylabel("share of PNEUMONIA")
        _unit_square(self.ax_)
        _legend_below(self.ax_)
        return self


@dataclass(eq=False)
class NetBenefitDisplay:
    """Decision curve: what calling by the model is worth, against calling all and calling none.

    Attributes:
        benefit: the curves.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    benefit: NetBenefit
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the three curves, from a little below 0 upward."""
        self.ax_, self.figure_ = _chart(ax, "Net benefit")
        curves = (
            (self.benefit.model, BLUE, "-", "this model"),
            (self.benefit.treat_all, VERMILLION, "-.", "call all"),
            (self.benefit.treat_none, GRAY, "--", "call none"),
        )
        for values, colour, dashes, name in curves:
            self.ax_.plot(self.benefit.thresholds, values, color=colour, linestyle=dashes, label=name)
        highest = max(float(self.benefit.model.max()), float(self.benefit.treat_all.max()), 0.05)
        self.ax_.set_xlim(0, 1)
        self.ax_.set_ylim(-0.25 * highest, 1.08 * highest)
        self.ax_.set_xlabel("threshold")
        self.ax_.set_ylabel("net benefit, true calls per radiograph")
        _legend_below(self.ax_)
        return self


@dataclass(eq=False)
class SubgroupsDisplay:
    """Sensitivity and specificity of subgroups, with their intervals.

    Attributes:
        subgroups: one row each.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    subgroups: Sequence[Subgroup]
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a row for each subgroup, from above; hollow where there are few patients."""
        if ax is None:
            ax = _figure(5.6, 1.5 + 0.45 * len(self.subgroups)).add_subplot()
        self.ax_, self.figure_ = _chart(ax, "Subgroups")
        styles = {"sensitivity": (BLUE, "o", -0.12), "specificity": (VERMILLION, "s", 0.12)}
        for score, (colour, marker, offset) in styles.items():
            for row, group in enumerate(self.subgroups):
                interval = group.scores[score]
                self.ax_.plot(
                    [interval.low, interval.high], [row + offset] * 2, color=colour, linewidth=1.4, zorder=2
                )
                self.ax_.plot(
                    [interval.estimate],
                    [row + offset],
                    color=colour,
                    marker=marker,
                    markersize=7,
                    markerfacecolor="white" if group.small else colour,
                    linestyle="none",
                    label=score if row == 0 else None,
                    zorder=3,
                )
        names = [f"{group.column}: {group.value}\n{group.images} radiographs" for group in self.subgroups]
        self.ax_.set_yticks(range(len(names)), [_plain(name) for name in names])
        self.ax_.set_ylim(len(names) - 0.5, -0.5)
        self.ax_.set_xlim(-0.02, 1.02)
        self.ax_.set_xlabel("share, with its 95 % interval; hollow: few patients")
        self.ax_.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False, borderaxespad=0.3
        )
        return self


@dataclass(eq=False)
class RocComparisonDisplay:
    """The ROC curves of two models on the same radiographs, each with the point at which it calls.

    Attributes:
        comparison: both evaluations and the test of their areas.
        names: of the first and the second.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    comparison: Comparison
    names: tuple[str, str] = ("first", "second")
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw both curves and the diagonal of chance."""
        self.ax_, self.figure_ = _chart(ax, "ROC curves")
        self.ax_.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="chance")
        sides = (self.comparison.first, self.comparison.second)
        styles: tuple[dict[str, Any], ...] = (
            {"color": BLUE, "linestyle": "-", "marker": "o"},
            {"color": VERMILLION, "linestyle": "-.", "marker": "s"},
        )
        for side, name, style in zip(sides, self.names, styles, strict=True):
            scores = side.operating_points[side.chosen].scores
            line = {**style, "marker": "none"}
            self.ax_.plot(
                side.roc.x, side.roc.y, linewidth=2, label=f"{_plain(name)}, AUC {side.roc_auc}", **line
            )
            self.ax_.plot(
                [1 - scores["specificity"].estimate],
                [scores["sensitivity"].estimate],
                markersize=8,
                zorder=3,
                **{**style, "linestyle": "none"},
            )
        self.ax_.set_xlabel("false positive rate (1 - specificity)")
        self.ax_.set_ylabel("true positive rate (sensitivity)")
        _unit_square(self.ax_)
        _legend_below(self.ax_)
        return self


@dataclass(eq=False)
class PerturbationDisplay:
    """What a model says while pixels are taken away, or given back, in a heatmap's order and at random.

    Attributes:
        kind: `"deletion"` or `"insertion"`.
        shares: `(k,)` floats in [0, 1], the share of the pixels that was changed.
        scores: `(k,)` floats, the mean probability in the heatmaps' order.
        control: `(k,)` floats, the same in a random order.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    kind: str
    shares: np.ndarray
    scores: np.ndarray
    control: np.ndarray
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw both curves."""
        self.ax_, self.figure_ = _chart(ax, f"{self.kind.capitalize()} in the heatmaps' order")
        self.ax_.plot(self.shares, self.scores, color=BLUE, linewidth=2, label="heatmap's order")
        self.ax_.plot(self.shares, self.control, color=VERMILLION, linestyle="--", label="random order")
        self.ax_.set_xlim(0, 1)
        self.ax_.set_ylim(0, 1.02)
        changed = "taken away" if self.kind == "deletion" else "given back"
        self.ax_.set_xlabel(f"share of pixels {changed}")
        self.ax_.set_ylabel("mean probability of PNEUMONIA")
        _legend_below(self.ax_)
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
        self.ax_, self.figure_ = _chart(ax, self.title)
        if self.labels is None:
            self.ax_.plot(*self.points.T, color=GRAY, marker="o", markersize=3, linestyle="none")
        else:
            styles = ((SKY, "o"), (VERMILLION, "^"))
            for value, (name, (colour, marker)) in enumerate(zip(self.class_names, styles, strict=True)):
                chosen = self.points[np.asarray(self.labels) == value]
                self.ax_.plot(
                    *chosen.T,
                    color=colour,
                    marker=marker,
                    markersize=4,
                    alpha=0.75,
                    linestyle="none",
                    label=_plain(name),
                )
            _legend_below(self.ax_)
        self.ax_.set_xticks([])
        self.ax_.set_yticks([])
        return self


def score_histogram(predictions: Predictions) -> np.ndarray:
    """How many radiographs of each class have a probability in each of `SCORE_BINS` bins of equal width.

    Returns:
        `(2, SCORE_BINS)` integers.
    """
    labels = predictions.require_labels()
    return np.stack(
        [
            np.histogram(predictions.probabilities[labels == label], SCORE_BINS, range=(0, 1))[0]
            for label in (0, 1)
        ]
    )


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


def heatmap_pixels(heatmap: np.ndarray) -> np.ndarray:
    """A heatmap in the colours of `GradCamDisplay`.

    Args:
        heatmap: `(height, width)` floats in [0, 1].

    Returns:
        `(height, width, 3)` `uint8`, RGB.
    """
    return colormaps[HEATMAP_COLOURS](heatmap, bytes=True)[..., :3]


def _figure(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), layout=layout)


def _chart(ax: Axes | None, title: str) -> tuple[Axes, Figure]:
    """The given axes, or those of a new figure, in the style that all charts share."""
    if ax is None:
        ax = _figure(*CHART_SIZE).add_subplot()
    ax.set_title(_plain(title), loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    ax.tick_params(colors=INK, labelsize=9)
    ax.set_axisbelow(True)
    ax.grid(color="#e4e4e4", linewidth=0.8)
    return ax, ax.get_figure()  # type: ignore[return-value]  # axes always have a figure


def _grid(
    axes: np.ndarray | None, rows: int, columns: int, *, row_height: float
) -> tuple[np.ndarray, Figure]:
    if axes is None:
        figure = _figure(columns * PICTURE_SIZE + 0.3, rows * row_height)
        return figure.subplots(rows, columns, squeeze=False), figure
    grid = np.asarray(axes, dtype=object)
    if grid.size < rows * columns:
        raise ValueError(f"Expected at least {rows * columns} axes, received {grid.size}.")
    grid = grid.reshape(rows, -1)
    return grid, grid[0, 0].get_figure()


def _picture_grid(axes: np.ndarray | None, count: int, *, title_lines: int = 1) -> tuple[np.ndarray, Figure]:
    """Axes for so many pictures and their titles, bare; the last row may hold more than are needed."""
    if axes is None:
        columns = min(count, PICTURES_PER_ROW)
        rows = -(-count // columns)
    else:
        rows, columns = 1, count
    grid, figure = _grid(axes, rows, columns, row_height=PICTURE_SIZE + 0.1 + 0.16 * title_lines)
    for ax in grid.flat:
        _bare(ax)
    return grid, figure


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _show_radiograph(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="lanczos")


def _number_bars(ax: Axes, bars: BarContainer) -> None:
    ax.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=9, color=INK)


def _mark_point(ax: Axes, name: str, x: float, y: float) -> None:
    style = POINT_STYLES.get(name, OTHER_POINT_STYLE)
    label = _plain(POINT_LABELS.get(name, name))
    ax.plot([x], [y], linestyle="none", clip_on=False, zorder=3, label=label, **style)


def _legend_inside(ax: Axes, legend_at: Literal["lower left", "lower right"]) -> None:
    ax.legend(loc=legend_at, fontsize=9, framealpha=0.95, edgecolor="none", markerscale=0.8)


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
    _legend_below(ax)  # inside, it would lie on one line or another


def _unit_square(ax: Axes) -> None:
    """Both axes from 0 to 1, at one scale."""
    ax.set_aspect("equal")
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)


def _legend_below(ax: Axes) -> None:
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=9, frameon=False, markerscale=0.8)


def _plain(text: str) -> str:
    """Text in which Matplotlib finds no mathematics, whatever dollars a name holds."""
    return text.replace("$", r"\$")
