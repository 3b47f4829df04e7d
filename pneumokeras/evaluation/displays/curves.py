"""Displays of an evaluation: confusion matrix, curves, scores, calibration, net benefit, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumokeras.evaluation.displays.style import (
    BLUE,
    GRAY,
    INK,
    OTHER_POINT_STYLE,
    POINT_LABELS,
    POINT_STYLES,
    SKY,
    VERMILLION,
    chart,
    legend_below,
    legend_inside,
    mark_point,
    new_figure,
    unit_square,
    without_mathtext,
)
from pneumokeras.evaluation.types import (
    Curve,
    Interval,
    NetBenefit,
    OperatingPointResult,
    Predictions,
    ReliabilityBin,
    Subgroup,
)

SCORE_BINS = 50


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
        self.ax_, self.figure_ = chart(ax, self.title)
        result = self.result
        counts = np.array([[result.tn, result.fp], [result.fn, result.tp]])
        names = (("true negatives", "false positives"), ("false negatives", "true positives"))
        totals = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(totals, 1)
        self.ax_.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
        for row, column in np.ndindex(2, 2):
            share = f"{shares[row, column]:.1%} of row" if totals[row, 0] else "no such radiographs"
            color = "white" if shares[row, column] > 0.6 else INK
            centered: dict[str, Any] = {"ha": "center", "va": "center", "color": color}
            self.ax_.text(column, row - 0.17, f"{counts[row, column]:,}", fontsize=20, **centered)
            self.ax_.text(column, row + 0.08, share, fontsize=10, **centered)
            self.ax_.text(column, row + 0.25, names[row][column], fontsize=8.5, **centered)
        labels = [without_mathtext(name) for name in self.class_names]
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
        self.ax_, self.figure_ = chart(ax, "ROC curve")
        self.ax_.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="chance")
        self.ax_.plot(self.curve.x, self.curve.y, color=BLUE, linewidth=2, label=f"AUC {self.auc}")
        for name, result in self.operating_points.items():
            specificity, sensitivity = (
                result.scores[score].estimate for score in ("specificity", "sensitivity")
            )
            mark_point(self.ax_, name, 1 - specificity, sensitivity)
        self.ax_.set_xlabel("false positive rate (1 - specificity)")
        self.ax_.set_ylabel("true positive rate (sensitivity)")
        unit_square(self.ax_)
        legend_inside(self.ax_, "lower right")
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
        self.ax_, self.figure_ = chart(ax, "Precision-recall curve")
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
            mark_point(
                self.ax_, name, result.scores["sensitivity"].estimate, result.scores["precision"].estimate
            )
        self.ax_.set_xlabel("recall (sensitivity)")
        self.ax_.set_ylabel("precision")
        unit_square(self.ax_)
        legend_inside(self.ax_, "lower left")
        return self


@dataclass(eq=False)
class ScoreDistributionDisplay:
    """What a model says of the radiographs of either class, with the thresholds.

    Attributes:
        predictions: labeled.
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
        self.ax_, self.figure_ = chart(ax, "What the model says")
        edges = np.linspace(0, 1, SCORE_BINS + 1)
        counts = score_histogram(self.predictions)
        styles = ((SKY, ""), (VERMILLION, "///"))
        for row, name, (color, hatch) in zip(counts, self.predictions.class_names, styles, strict=True):
            self.ax_.stairs(row, edges, label=without_mathtext(name), color=color, linewidth=1.6, hatch=hatch)
        for name, result in self.operating_points.items():
            style = POINT_STYLES.get(name, OTHER_POINT_STYLE)
            dashes = {"default": "--", "validation": "-"}.get(name, ":")
            self.ax_.axvline(
                result.point.threshold,
                color=style["color"],
                linestyle=dashes,
                linewidth=1.4,
                label=without_mathtext(POINT_LABELS.get(name, name)),
            )
        self.ax_.set_xlim(0, 1)
        self.ax_.set_xlabel(f"probability of {without_mathtext(self.predictions.class_names[1])}")
        self.ax_.set_ylabel("radiographs")
        legend_below(self.ax_)
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
        self.ax_, self.figure_ = chart(ax, "Reliability")
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
        unit_square(self.ax_)
        legend_below(self.ax_)
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
        self.ax_, self.figure_ = chart(ax, "Net benefit")
        curves = (
            (self.benefit.model, BLUE, "-", "this model"),
            (self.benefit.treat_all, VERMILLION, "-.", "call all"),
            (self.benefit.treat_none, GRAY, "--", "call none"),
        )
        for values, color, dashes, name in curves:
            self.ax_.plot(self.benefit.thresholds, values, color=color, linestyle=dashes, label=name)
        highest = max(float(self.benefit.model.max()), float(self.benefit.treat_all.max()), 0.05)
        self.ax_.set_xlim(0, 1)
        self.ax_.set_ylim(-0.25 * highest, 1.08 * highest)
        self.ax_.set_xlabel("threshold")
        self.ax_.set_ylabel("net benefit, true calls per radiograph")
        legend_below(self.ax_)
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
            ax = new_figure(5.6, 1.5 + 0.45 * len(self.subgroups)).add_subplot()
        self.ax_, self.figure_ = chart(ax, "Subgroups")
        styles = {"sensitivity": (BLUE, "o", -0.12), "specificity": (VERMILLION, "s", 0.12)}
        for score, (color, marker, offset) in styles.items():
            for row, group in enumerate(self.subgroups):
                interval = group.scores[score]
                self.ax_.plot(
                    [interval.low, interval.high], [row + offset] * 2, color=color, linewidth=1.4, zorder=2
                )
                self.ax_.plot(
                    [interval.estimate],
                    [row + offset],
                    color=color,
                    marker=marker,
                    markersize=7,
                    markerfacecolor="white" if group.small else color,
                    linestyle="none",
                    label=score if row == 0 else None,
                    zorder=3,
                )
        names = [f"{group.column}: {group.value}\n{group.images} radiographs" for group in self.subgroups]
        self.ax_.set_yticks(range(len(names)), [without_mathtext(name) for name in names])
        self.ax_.set_ylim(len(names) - 0.5, -0.5)
        self.ax_.set_xlim(-0.02, 1.02)
        self.ax_.set_xlabel("share, with its 95 % interval; hollow: few patients")
        self.ax_.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False, borderaxespad=0.3
        )
        return self


class LabeledRocCurve(NamedTuple):
    """The ROC curve of a named model.

    Attributes:
        name: the model's, as the legend shows it.
        curve: x = false positive rate, y = true positive rate.
        auc: the area under it.
        result: at the operating point to mark.
    """

    name: str
    curve: Curve
    auc: Interval
    result: OperatingPointResult


@dataclass(eq=False)
class RocComparisonDisplay:
    """ROC curves of two models on the same radiographs, each with its operating point marked.

    Attributes:
        first: one model's curve.
        second: the other's.
        ax_: the axes drawn into.
        figure_: their figure.
    """

    first: LabeledRocCurve
    second: LabeledRocCurve
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw both curves and the diagonal of chance."""
        self.ax_, self.figure_ = chart(ax, "ROC curves")
        self.ax_.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="chance")
        styles: tuple[dict[str, Any], ...] = (
            {"color": BLUE, "linestyle": "-", "marker": "o"},
            {"color": VERMILLION, "linestyle": "-.", "marker": "s"},
        )
        for side, style in zip((self.first, self.second), styles, strict=True):
            scores = side.result.scores
            line = {**style, "marker": "none"}
            self.ax_.plot(
                side.curve.x,
                side.curve.y,
                linewidth=2,
                label=f"{without_mathtext(side.name)}, AUC {side.auc}",
                **line,
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
        unit_square(self.ax_)
        legend_below(self.ax_)
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
        self.ax_, self.figure_ = chart(ax, f"{self.kind.capitalize()} in the heatmaps' order")
        self.ax_.plot(self.shares, self.scores, color=BLUE, linewidth=2, label="heatmap's order")
        self.ax_.plot(self.shares, self.control, color=VERMILLION, linestyle="--", label="random order")
        self.ax_.set_xlim(0, 1)
        self.ax_.set_ylim(0, 1.02)
        changed = "taken away" if self.kind == "deletion" else "given back"
        self.ax_.set_xlabel(f"share of pixels {changed}")
        self.ax_.set_ylabel("mean probability of PNEUMONIA")
        legend_below(self.ax_)
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
