"""Displays of an evaluation: confusion matrix, curves, scores, calibration, net benefit, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumokeras.evaluation.charts import (
    LabeledRocCurve,
    net_benefit_chart,
    perturbation_chart,
    precision_recall_chart,
    reliability_chart,
    roc_chart,
    roc_comparison_chart,
    score_chart,
)
from pneumokeras.evaluation.displays.draw import draw
from pneumokeras.evaluation.displays.style import BLUE, INK, VERMILLION, chart_axes, without_mathtext
from pneumokeras.evaluation.types import (
    Curve,
    Interval,
    NetBenefit,
    OperatingPointResult,
    Predictions,
    ReliabilityBin,
    Subgroup,
)


@dataclass(eq=False)
class ConfusionMatrixDisplay:
    """Confusion matrix: images by true class (rows) and predicted class (columns) at one operating point.

    Attributes:
        result: the operating point's counts.
        class_names: names of class 0 and class 1.
        title: shown above it.
    """

    result: OperatingPointResult
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    title: str = "Confusion matrix"
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw four cells, each with its count, its share of the row, and its name."""
        self.ax_, self.figure_ = chart_axes(ax, self.title)
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
        operating_points: results by name; `oracle` is drawn hollow, since it is not achievable.
    """

    curve: Curve
    auc: Interval
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curve, the diagonal of chance and the operating points; `kwargs` go to the curve."""
        chart = roc_chart(self.curve, self.auc, self.operating_points)
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


@dataclass(eq=False)
class PrecisionRecallDisplay:
    """Precision-recall curve with the operating points on it.

    Attributes:
        curve: x = recall, y = precision.
        average_precision: the area under it, in steps.
        prevalence: share of PNEUMONIA, in [0, 1]: the precision of predicting at random.
        operating_points: results by name; `oracle` is drawn hollow, since it is not achievable.
    """

    curve: Curve
    average_precision: Interval
    prevalence: float
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curve, the line of chance and the operating points; `kwargs` go to the curve."""
        chart = precision_recall_chart(
            self.curve, self.average_precision, self.prevalence, self.operating_points
        )
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


@dataclass(eq=False)
class ScoreDistributionDisplay:
    """Probabilities that a model gives to the radiographs of either class, with the thresholds.

    Attributes:
        predictions: labeled.
        operating_points: results by name.
    """

    predictions: Predictions
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a histogram of the probabilities of each class and a line at each threshold."""
        self.ax_, self.figure_ = draw(score_chart(self.predictions, self.operating_points), ax)
        return self


@dataclass(eq=False)
class ReliabilityDisplay:
    """Reliability curve: the share of PNEUMONIA observed at each predicted probability.

    Attributes:
        bins: of equal width; empty ones are left out.
        calibration_error: the expected calibration error.
        positive: name of class 1.
    """

    bins: Sequence[ReliabilityBin]
    calibration_error: Interval
    positive: str = "PNEUMONIA"
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the observed share in each bin and the diagonal; `kwargs` go to the curve."""
        chart = reliability_chart(self.bins, self.calibration_error, positive=self.positive)
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


@dataclass(eq=False)
class NetBenefitDisplay:
    """Decision curves: the net benefit of a model, of treating all and of treating none.

    Attributes:
        benefit: the curves.
    """

    benefit: NetBenefit
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the three curves, from a little below 0 upward; `kwargs` go to the model's curve."""
        self.ax_, self.figure_ = draw(net_benefit_chart(self.benefit), ax, **kwargs)
        return self


@dataclass(eq=False)
class SubgroupsDisplay:
    """Sensitivity and specificity of subgroups, with their intervals.

    Attributes:
        subgroups: a row each.
    """

    subgroups: Sequence[Subgroup]
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a row for each subgroup, the first on top; hollow marks mean few patients."""
        size = (5.6, 1.5 + 0.45 * len(self.subgroups))
        self.ax_, self.figure_ = chart_axes(ax, "Subgroups", size=size)
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
        self.ax_.set_xlabel("share, with its 95% interval; hollow: few patients")
        self.ax_.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False, borderaxespad=0.3
        )
        return self


@dataclass(eq=False)
class RocComparisonDisplay:
    """ROC curves of two models on the same radiographs, each with its operating point marked.

    Attributes:
        first: one model's curve.
        second: the other's.
    """

    first: LabeledRocCurve
    second: LabeledRocCurve
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw both curves and the diagonal of chance."""
        self.ax_, self.figure_ = draw(roc_comparison_chart(self.first, self.second), ax)
        return self


@dataclass(eq=False)
class PerturbationDisplay:
    """Probability while pixels are taken away, or given back, in a heatmap's order and at random.

    Attributes:
        kind: `"deletion"` or `"insertion"`.
        shares: `(k,)` floats in [0, 1], the share of the pixels that was changed.
        scores: `(k,)` floats, the mean probability in the heatmaps' order.
        control: `(k,)` floats, the same in a random order.
    """

    kind: str
    shares: np.ndarray
    scores: np.ndarray
    control: np.ndarray
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure = field(init=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw both curves."""
        chart = perturbation_chart(self.kind, self.shares, self.scores, self.control)
        self.ax_, self.figure_ = draw(chart, ax)
        return self
