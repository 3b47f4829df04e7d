"""What each chart shows: lines, marks, words and the ends of its axes, in the data's own units.

`pneumokeras.evaluation.displays` draws these charts with Matplotlib, for print and notebooks;
`pneumokeras.report.charts` as SVG for the page, where they follow its colors, its width and its threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from pneumokeras.evaluation.types import (
    Curve,
    Interval,
    NetBenefit,
    OperatingPointResult,
    Predictions,
    ReliabilityBin,
)
from pneumokeras.evaluation.vocabulary import point_label

UNIT = (0.0, 1.0)
SCORE_BINS = 50

LineStyle = Literal["first", "second", "third", "chance"]
MarkStyle = Literal["first", "second", "default", "validation", "oracle", "other", "kept"]
RuleStyle = Literal["default", "validation", "oracle", "other", "reduced", "stage"]

_POINT_STYLES: dict[str, Literal["default", "validation", "oracle"]] = {
    "default": "default",
    "validation": "validation",
    "oracle": "oracle",
}


@dataclass(frozen=True)
class Line:
    """A polyline.

    Attributes:
        xs, ys: `(n,)` floats in the data's units.
        style: decides color and dashes.
        label: its entry in the legend.
        dots: whether each point has a dot.
    """

    xs: Sequence[float] | np.ndarray
    ys: Sequence[float] | np.ndarray
    style: LineStyle
    label: str
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A point.

    Attributes:
        x, y: in the data's units.
        style: decides color and shape.
        label: its entry in the legend; empty for none.
        low, high: ends of a vertical bar through it, if it has one.
    """

    x: float
    y: float
    style: MarkStyle
    label: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rule:
    """A vertical line.

    Attributes:
        x: in the data's units.
        style: decides color and dashes.
        label: its entry in the legend.
        text: a few words at its top, for charts whose legend omits it.
    """

    x: float
    style: RuleStyle
    label: str
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: shown above it.
        description: what it shows, in words, for those who cannot see it.
        x_label, y_label: along the axes.
        lines, marks, rules: its contents.
        x_range, y_range: ends of the axes.
        whole_x: whether the x axis has whole numbers only.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    rules: Sequence[Rule] = ()
    x_range: tuple[float, float] = UNIT
    y_range: tuple[float, float] = UNIT
    whole_x: bool = False


class LabeledRocCurve(NamedTuple):
    """The ROC curve of a named model.

    Attributes:
        name: the model's, as the legend shows it.
        curve: x = false positive rate, y = true positive rate.
        auc: the area under it.
        result: the operating point to mark.
    """

    name: str
    curve: Curve
    auc: Interval
    result: OperatingPointResult


def roc_chart(curve: Curve, auc: Interval, operating_points: Mapping[str, OperatingPointResult]) -> Chart:
    """Return the ROC curve with the diagonal of chance and the operating points."""
    return Chart(
        title="ROC curve",
        description=f"ROC curve; area under it {auc}",
        x_label="false positive rate (1 - specificity)",
        y_label="true positive rate (sensitivity)",
        lines=[_chance(), Line(curve.x, curve.y, "first", f"AUC {auc}")],
        marks=_point_marks((name, *_roc_place(result)) for name, result in operating_points.items()),
    )


def roc_comparison_chart(first: LabeledRocCurve, second: LabeledRocCurve) -> Chart:
    """Return two ROC curves, each with its operating point marked."""
    sides: tuple[tuple[LabeledRocCurve, Literal["first", "second"]], ...] = (
        (first, "first"),
        (second, "second"),
    )
    return Chart(
        title="Both ROC curves",
        description=f"ROC curves of {first.name} and {second.name}; areas {first.auc} and {second.auc}",
        x_label="false positive rate (1 - specificity)",
        y_label="true positive rate (sensitivity)",
        lines=[
            _chance(),
            *(
                Line(side.curve.x, side.curve.y, style, f"{side.name}, AUC {side.auc}")
                for side, style in sides
            ),
        ],
        marks=[Mark(*_roc_place(side.result), style) for side, style in sides],
    )


def precision_recall_chart(
    curve: Curve,
    average_precision: Interval,
    prevalence: float,
    operating_points: Mapping[str, OperatingPointResult],
) -> Chart:
    """Return the precision-recall curve with the line of chance and the operating points."""
    xs, ys = np.repeat(curve.x, 2)[1:], np.repeat(curve.y, 2)[:-1]  # each y holds until the next x
    return Chart(
        title="Precision-recall curve",
        description=f"Precision-recall curve; average precision {average_precision}",
        x_label="recall (sensitivity)",
        y_label="precision (PPV)",
        lines=[
            Line(UNIT, (prevalence, prevalence), "chance", f"prevalence {prevalence:.3f}"),
            Line(xs, ys, "first", f"average precision {average_precision}"),
        ],
        marks=_point_marks(
            (name, result.scores["sensitivity"].estimate, result.scores["precision"].estimate)
            for name, result in operating_points.items()
        ),
    )


def score_chart(
    predictions: Predictions, operating_points: Mapping[str, OperatingPointResult] | None = None
) -> Chart:
    """Return a histogram of the probabilities of each class, with a line at each threshold given."""
    negative, positive = predictions.class_names
    counts = score_histogram(predictions)
    edges = np.repeat(np.linspace(0, 1, SCORE_BINS + 1), 2)
    of_normal, of_pneumonia = ([0.0, *np.repeat(row, 2), 0.0] for row in counts)
    return Chart(
        title="What the model says",
        description=f"Histogram of the probabilities of {negative} and {positive} radiographs",
        x_label=f"probability of {positive}",
        y_label="radiographs",
        lines=[Line(edges, of_normal, "first", negative), Line(edges, of_pneumonia, "second", positive)],
        rules=[
            Rule(result.point.threshold, _POINT_STYLES.get(name, "other"), point_label(name))
            for name, result in (operating_points or {}).items()
        ],
        y_range=(0, 1.05 * max(1, counts.max())),
    )


def reliability_chart(
    bins: Iterable[ReliabilityBin], calibration_error: Interval, *, positive: str = "PNEUMONIA"
) -> Chart:
    """Return the share of the positive class in each bin of probabilities; empty bins are left out."""
    filled = [bin_ for bin_ in bins if bin_.images]
    xs = [bin_.mean_probability for bin_ in filled]
    points = "; ".join(
        f"predicted {bin_.mean_probability:.2f}, observed {bin_.observed.estimate:.2f} of {bin_.images}"
        for bin_ in filled
    )
    return Chart(
        title="Reliability",
        description=f"Reliability curve: {points}",
        x_label="mean probability in the bin",
        y_label=f"share of {positive}",
        lines=[
            Line(UNIT, UNIT, "chance", "perfect calibration"),
            Line(
                xs,
                [bin_.observed.estimate for bin_ in filled],
                "first",
                f"calibration error {calibration_error}",
            ),
        ],
        marks=[
            Mark(x, bin_.observed.estimate, "first", low=bin_.observed.low, high=bin_.observed.high)
            for x, bin_ in zip(xs, filled, strict=True)
        ],
    )


def net_benefit_chart(benefit: NetBenefit) -> Chart:
    """Return the decision curves of a model, of treating all and of treating none, from just below 0."""
    highest = max(float(benefit.model.max()), float(benefit.treat_all.max()), 0.05)
    lowest = -0.25 * highest
    return Chart(
        title="Net benefit",
        description="Decision curve: net benefit over thresholds of the model, of treating all and none",
        x_label="threshold",
        y_label="true positives per radiograph",
        lines=[
            Line(benefit.thresholds, benefit.treat_none, "chance", "treat none"),
            Line(*_from(lowest, benefit.thresholds, benefit.treat_all), "third", "treat all"),
            Line(*_from(lowest, benefit.thresholds, benefit.model), "first", "this model"),
        ],
        y_range=(lowest, 1.08 * highest),
    )


def perturbation_chart(
    kind: str, shares: Sequence[float] | np.ndarray, scores: np.ndarray, control: np.ndarray
) -> Chart:
    """Return a deletion or insertion curve in the heatmaps' order and in a random one.

    Args:
        kind: `"deletion"` or `"insertion"`.
        shares: `(k,)` floats in [0, 1], the share of the pixels that was changed.
        scores: `(k,)` floats, the mean probability in the heatmaps' order.
        control: `(k,)` floats, the same in a random order.
    """
    changed = {"deletion": "taken away", "insertion": "given back"}[kind]
    return Chart(
        title=kind.capitalize(),
        description=f"{kind.capitalize()} in the heatmaps' order and in a random order",
        x_label=f"share of pixels {changed}",
        y_label="mean probability",
        lines=[
            Line(shares, scores, "first", "in the heatmaps' order"),
            Line(shares, control, "second", "in a random order"),
        ],
    )


EPOCH_CHARTS = {
    "loss": ("Loss", "training (class-weighted, with penalty)", "validation (plain cross-entropy)"),
    "accuracy": ("Accuracy at threshold 0.5", "training", "validation"),
    "auc": ("ROC AUC", "training", "validation"),
}
"""By the name of a score in the history: the chart's title, and the labels of its two lines."""


def epoch_chart(score: str, history: Mapping[str, Sequence[float]], kept_epoch: int | None) -> Chart:
    """Return a training and a validation score by epoch, with the stages of fine-tuning.

    Args:
        score: a key of `EPOCH_CHARTS`; the history has it, and the same with `val_`.
        history: one float an epoch for each score, and perhaps for `learning_rate` and `stage`.
        kept_epoch: the epoch whose weights were kept, counted from 1, if known.
    """
    title, train_label, val_label = EPOCH_CHARTS[score]
    train, val = (np.asarray(history[name], dtype=np.float64) for name in (score, f"val_{score}"))
    epochs = np.arange(1, train.size + 1)
    finite = np.concatenate([train, val])[np.isfinite([*train, *val])]
    low, high = (finite.min(), finite.max()) if finite.size else UNIT
    margin = 0.08 * (high - low) or 0.05
    kept = [] if kept_epoch is None else [(kept_epoch, val[kept_epoch - 1])]
    last = f"training {train[-1]:.3f}, validation {val[-1]:.3f}"
    return Chart(
        title=title,
        description=f"{title} by epoch, {epochs.size} in all; at the last, {last}",
        x_label="epoch",
        y_label=score,
        lines=[
            Line(epochs, train, "first", train_label, dots=True),
            Line(epochs, val, "second", val_label, dots=True),
        ],
        marks=[Mark(x, y, "kept", f"epoch kept ({x})") for x, y in kept if np.isfinite(y)],
        rules=[
            *(
                Rule(epoch - 0.5, "stage", "next stage of fine-tuning", f"stage {stage:g}")
                for epoch, stage in stage_starts(history)
            ),
            *(
                Rule(epoch - 0.5, "reduced", "learning rate reduced")
                for epoch in learning_rate_reductions(history)
            ),
        ],
        x_range=(0.5, max(epochs.size, 1) + 0.5),
        y_range=(low - margin, high + margin),
        whole_x=True,
    )


def score_histogram(predictions: Predictions) -> np.ndarray:
    """Count the radiographs of each class whose probability lies in each of `SCORE_BINS` equal bins.

    Returns:
        `(2, SCORE_BINS)` integers.
    """
    labels = predictions.require_labels()
    return np.stack(
        [
            np.histogram(predictions.probabilities[labels == label], SCORE_BINS, range=UNIT)[0]
            for label in (0, 1)
        ]
    )


def learning_rate_reductions(history: Mapping[str, Sequence[float]]) -> list[int]:
    """Return the epochs, from 1, with a lower learning rate than the one before in the same stage."""
    pairs = pairwise(history.get("learning_rate", ()))
    starts = {epoch for epoch, _ in stage_starts(history)}
    return [
        epoch
        for epoch, (before, after) in enumerate(pairs, start=2)
        if after < before and epoch not in starts
    ]


def stage_starts(history: Mapping[str, Sequence[float]]) -> list[tuple[int, float]]:
    """Return the first epoch, from 1, and the number of every stage after the first."""
    pairs = pairwise(history.get("stage", ()))
    return [(epoch, after) for epoch, (before, after) in enumerate(pairs, start=2) if after != before]


def _chance() -> Line:
    return Line(UNIT, UNIT, "chance", "chance")


def _roc_place(result: OperatingPointResult) -> tuple[float, float]:
    return 1 - result.scores["specificity"].estimate, result.scores["sensitivity"].estimate


def _point_marks(places: Iterable[tuple[str, float, float]]) -> list[Mark]:
    """Return a mark for each operating point whose place is defined."""
    return [
        Mark(x, y, _POINT_STYLES.get(name, "other"), point_label(name))
        for name, x, y in places
        if np.isfinite([x, y]).all()
    ]


def _from(lowest: float, xs: np.ndarray, ys: np.ndarray) -> tuple[list[float], list[float]]:
    """Cut a curve off where it first falls below `lowest`."""
    below = np.flatnonzero(np.asarray(ys) < lowest)
    end = below[0] if below.size else len(xs)
    kept_xs, kept_ys = list(xs[:end]), list(ys[:end])
    if below.size and end:
        share = (ys[end - 1] - lowest) / (ys[end - 1] - ys[end])
        kept_xs.append(xs[end - 1] + share * (xs[end] - xs[end - 1]))
        kept_ys.append(lowest)
    return kept_xs, kept_ys
