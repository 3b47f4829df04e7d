"""Displays of an evaluation: confusion matrix, curves, scores, calibration, net benefit, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError
from pneumokeras.core.words import number_of
from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.arguments import check_labeled, has_both_classes
from pneumokeras.evaluation.bootstrap import headline_interval
from pneumokeras.evaluation.calibration import reliability
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
from pneumokeras.evaluation.displays.style import (
    BLUE,
    INK,
    VERMILLION,
    Display,
    chart_axes,
    without_mathtext,
)
from pneumokeras.evaluation.net_benefit import net_benefit
from pneumokeras.evaluation.types import (
    Curve,
    Interval,
    NetBenefit,
    OperatingPoint,
    OperatingPointResult,
    Predictions,
    ReliabilityBin,
    Subgroup,
)


@dataclass(eq=False, repr=False)
class ConfusionMatrixDisplay(Display):
    """Confusion matrix: images by true class (rows) and predicted class (columns) at one operating point.

    Attributes:
        result: the operating point's counts.
        class_names: names of class 0 and class 1.
        title: shown above it.
    """

    result: OperatingPointResult
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")
    title: str = "Confusion matrix"

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        threshold: float = 0.5,
        class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA"),
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the confusion matrix of labels and probabilities at a threshold.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1], or predicted classes 0 and 1.
            threshold: in [0, 1]; PNEUMONIA is predicted if and only if p >= threshold.
            class_names: names of class 0 and class 1.
            ax: axes to draw into; by default those of a new figure.
            **kwargs: as for `plot`.

        Raises:
            DataError: if the arrays do not match.
            SettingsError: if the threshold lies outside [0, 1].
        """
        point = OperatingPoint(threshold)
        labels, values = check_labeled(y_true, probabilities)
        result = OperatingPointResult(point, *metrics.confusion_counts(labels, values, point.threshold))
        return cls(result, class_names=class_names).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw four cells, each with count, share of the row, and name; `kwargs` go to `imshow`."""
        self.ax_, self.figure_ = chart_axes(ax, self.title)
        result = self.result
        counts = np.array([[result.tn, result.fp], [result.fn, result.tp]])
        names = (("true negatives", "false positives"), ("false negatives", "true positives"))
        totals = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(totals, 1)
        options: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": 1.15}
        self.ax_.imshow(shares, **options | kwargs)
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


@dataclass(eq=False, repr=False)
class RocCurveDisplay(Display):
    """ROC curve with the operating points on it.

    Attributes:
        curve: x = false positive rate, y = true positive rate.
        auc: the area under it.
        operating_points: results by name; `oracle` is drawn hollow, since it is not achievable.
    """

    curve: Curve
    auc: Interval
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        patients: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the ROC curve of labels and probabilities, its area with an interval.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1].
            patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.
            ax: axes to draw into; by default those of a new figure.
            **kwargs: as for `plot`.

        Raises:
            DataError: if the arrays do not match, or a class is missing.
        """
        labels, values = _of_both_classes(y_true, probabilities)
        auc = headline_interval("roc_auc", labels, values, patients)
        return cls(metrics.roc_curve(labels, values), auc).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curve, the diagonal of chance and the operating points; `kwargs` go to the curve."""
        chart = roc_chart(self.curve, self.auc, self.operating_points)
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


@dataclass(eq=False, repr=False)
class PrecisionRecallDisplay(Display):
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

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        patients: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the precision-recall curve of labels and probabilities, its area with an interval.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1].
            patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.
            ax: axes to draw into; by default those of a new figure.
            **kwargs: as for `plot`.

        Raises:
            DataError: if the arrays do not match, or a class is missing.
        """
        labels, values = _of_both_classes(y_true, probabilities)
        area = headline_interval("average_precision", labels, values, patients)
        curve = metrics.precision_recall_curve(labels, values)
        return cls(curve, area, float(labels.mean())).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curve, the line of chance and the operating points; `kwargs` go to the curve."""
        chart = precision_recall_chart(
            self.curve, self.average_precision, self.prevalence, self.operating_points
        )
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


@dataclass(eq=False, repr=False)
class ScoreDistributionDisplay(Display):
    """Probabilities that a model gives to the radiographs of either class, with the thresholds.

    Attributes:
        predictions: labeled.
        operating_points: results by name.
    """

    predictions: Predictions
    operating_points: Mapping[str, OperatingPointResult] = field(default_factory=dict)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw a histogram of each class and a line at each threshold; `kwargs` go to that of NORMAL."""
        chart = score_chart(self.predictions, self.operating_points)
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


@dataclass(eq=False, repr=False)
class ReliabilityDisplay(Display):
    """Reliability curve: the share of PNEUMONIA observed at each predicted probability.

    Attributes:
        bins: of equal width; empty ones are left out.
        calibration_error: the expected calibration error.
        positive: name of class 1.
    """

    bins: Sequence[ReliabilityBin]
    calibration_error: Interval
    positive: str = "PNEUMONIA"

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        patients: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the reliability curve of labels and probabilities.

        Args:
            y_true: `(n,)` integers, 1 = PNEUMONIA.
            probabilities: `(n,)` floats in [0, 1].
            patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.
            ax: axes to draw into; by default those of a new figure.
            **kwargs: as for `plot`.

        Raises:
            DataError: if the arrays do not match.
        """
        labels, values = check_labeled(y_true, probabilities)
        error = headline_interval("calibration_error", labels, values, patients)
        return cls(reliability(labels, values, patients), error).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the observed share in each bin and the diagonal; `kwargs` go to the curve."""
        chart = reliability_chart(self.bins, self.calibration_error, positive=self.positive)
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


@dataclass(eq=False, repr=False)
class NetBenefitDisplay(Display):
    """Decision curves: the net benefit of a model, of treating all and of treating none.

    Attributes:
        benefit: the curves.
    """

    benefit: NetBenefit

    @classmethod
    def from_predictions(
        cls, y_true: ArrayLike, probabilities: ArrayLike, *, ax: Axes | None = None, **kwargs: Any
    ) -> Self:
        """Draw the decision curves of labels and probabilities; arguments are as for `RocCurveDisplay`."""
        return cls(net_benefit(y_true, probabilities)).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the three curves, from a little below 0 upward; `kwargs` go to the model's curve."""
        self.ax_, self.figure_ = draw(net_benefit_chart(self.benefit), ax, **kwargs)
        return self


@dataclass(eq=False, repr=False)
class SubgroupsDisplay(Display):
    """Sensitivity and specificity of subgroups, with their intervals.

    Attributes:
        subgroups: a row each.
    """

    subgroups: Sequence[Subgroup]

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw a row for each subgroup, the first on top; `kwargs` go to the marks (hollow: few patients)."""
        size = (5.6, 1.5 + 0.45 * len(self.subgroups))
        self.ax_, self.figure_ = chart_axes(ax, "Subgroups", size=size)
        styles = {"sensitivity": (BLUE, "o", -0.12), "specificity": (VERMILLION, "s", 0.12)}
        for score, (color, marker, offset) in styles.items():
            for row, group in enumerate(self.subgroups):
                interval = group.scores[score]
                self.ax_.plot(
                    [interval.low, interval.high], [row + offset] * 2, color=color, linewidth=1.4, zorder=2
                )
                options: dict[str, Any] = {
                    "color": color,
                    "marker": marker,
                    "markersize": 7,
                    "markerfacecolor": "white" if group.small else color,
                    "linestyle": "none",
                    "label": score if row == 0 else None,
                    "zorder": 3,
                }
                self.ax_.plot([interval.estimate], [row + offset], **options | kwargs)
        names = [
            f"{group.column}: {group.value}\n{number_of(group.images, 'radiograph')}"
            for group in self.subgroups
        ]
        self.ax_.set_yticks(range(len(names)), [without_mathtext(name) for name in names])
        self.ax_.set_ylim(len(names) - 0.5, -0.5)
        self.ax_.set_xlim(-0.02, 1.02)
        self.ax_.set_xlabel("share, with its 95% interval; hollow: few patients")
        self.ax_.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False, borderaxespad=0.3
        )
        return self


@dataclass(eq=False, repr=False)
class RocComparisonDisplay(Display):
    """ROC curves of two models on the same radiographs, each with its operating point marked.

    Attributes:
        first: one model's curve.
        second: the other's.
    """

    first: LabeledRocCurve
    second: LabeledRocCurve

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw both curves and the diagonal of chance; `kwargs` go to the first curve."""
        self.ax_, self.figure_ = draw(roc_comparison_chart(self.first, self.second), ax, **kwargs)
        return self


@dataclass(eq=False, repr=False)
class PerturbationDisplay(Display):
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

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw both curves; `kwargs` go to that of the heatmaps."""
        chart = perturbation_chart(self.kind, self.shares, self.scores, self.control)
        self.ax_, self.figure_ = draw(chart, ax, **kwargs)
        return self


def _of_both_classes(y_true: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return checked labels and probabilities; refuse those of one class, which have no curve."""
    labels, values = check_labeled(y_true, probabilities)
    if not has_both_classes(labels):
        raise DataError("Expected radiographs of both classes to draw a curve, received one class only.")
    return labels, values
