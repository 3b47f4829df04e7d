"""The page's charts as shapes in the units of an SVG, which a template writes down and a style sheet colors.

They follow the page's colors, light or dark, and its script moves a mark over those that have a threshold.
The files under figures/ are drawn by `pneumokeras.evaluation.displays.style` instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.ticker import MaxNLocator

from pneumokeras.evaluation import Comparison, Curve, Evaluation, OperatingPointResult
from pneumokeras.evaluation.displays.curves import SCORE_BINS, score_histogram
from pneumokeras.evaluation.displays.training import learning_rate_reductions, stage_starts

if TYPE_CHECKING:
    from pneumokeras.explain.sanity_checks import ExplanationChecks

UNIT = (0.0, 1.0)
Style = Literal["first", "second", "third", "guess", "default", "validation", "oracle", "kept", "rule"]
"""What a line or mark is drawn like, in every chart the same; the style sheet says how."""

POINT_NAMES = {
    "default": "default, 0.5",
    "validation": "chosen on validation",
    "oracle": "best on these radiographs: not achievable",
}


@dataclass(frozen=True)
class Frame:
    """Where the axes of every chart lie, in the units of its SVG."""

    width: float = 360
    height: float = 330
    left: float = 46
    right: float = 12
    top: float = 12
    bottom: float = 44

    @property
    def plot_width(self) -> float:
        """Width of the plotted area."""
        return self.width - self.left - self.right

    @property
    def plot_height(self) -> float:
        """Height of the plotted area."""
        return self.height - self.top - self.bottom


FRAME = Frame()


@dataclass(frozen=True)
class Line:
    """A polyline, told apart by color and dashes.

    Attributes:
        xs, ys: `(n,)` floats in the data's units.
        style: how it looks.
        name: what the legend says.
        dots: whether each point has a dot.
    """

    xs: Sequence[float] | np.ndarray
    ys: Sequence[float] | np.ndarray
    style: Style
    name: str
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A point, told apart by color and shape.

    Attributes:
        x, y: in the data's units.
        style: how it looks.
        name: what the legend says; nothing if it is empty.
        low, high: ends of a vertical bar through it, if it has one.
    """

    x: float
    y: float
    style: Style
    name: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rule:
    """A vertical line at `x` with a few words at its top."""

    x: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what stands above.
        described: what it shows, in words, for those who cannot see it.
        x_label, y_label: along the axes.
        lines, marks, rules: what is in it.
        x_range, y_range: ends of the axes.
        whole_x: whether the x axis has whole numbers only.
        follows: under which name the script moves a mark in it; empty if it does not.
    """

    title: str
    described: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    rules: Sequence[Rule] = ()
    x_range: tuple[float, float] = UNIT
    y_range: tuple[float, float] = UNIT
    whole_x: bool = False
    follows: str = ""

    def x(self, value: float) -> float:
        """Where a value lies along the x axis, in the SVG's units."""
        low, high = self.x_range
        return round(FRAME.left + (value - low) / (high - low) * FRAME.plot_width, 1)

    def y(self, value: float) -> float:
        """Where a value lies along the y axis, in the SVG's units, from above."""
        low, high = self.y_range
        return round(FRAME.top + (high - value) / (high - low) * FRAME.plot_height, 1)

    def path(self, line: Line) -> str:
        """A line's points as `M x y L x y ...`, those that fall on one place once."""
        places = [(self.x(x), self.y(y)) for x, y in zip(line.xs, line.ys, strict=True)]
        distinct = [place for i, place in enumerate(places) if i == 0 or place != places[i - 1]]
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in distinct)

    @property
    def x_ticks(self) -> list[float]:
        """Values to be written along the x axis."""
        return _ticks(self.x_range, whole=self.whole_x)

    @property
    def y_ticks(self) -> list[float]:
        """Values to be written along the y axis."""
        return _ticks(self.y_range)

    @property
    def named(self) -> list[tuple[str, Style, str]]:
        """The legend: for each name whether it is a `line` or a `mark`, and its style."""
        lines = [("line", line.style, line.name) for line in self.lines]
        return lines + [("mark", mark.style, mark.name) for mark in self.marks if mark.name]


def threshold_charts(evaluation: Evaluation) -> list[Chart]:
    """The charts through which a threshold moves; none of curves where a class is missing."""
    charts = [_scores_chart(evaluation)]
    if evaluation.roc.x.size:
        charts += [_roc_chart(evaluation), _precision_recall_chart(evaluation)]
    return [*charts, _net_benefit_chart(evaluation)]


def calibration_chart(evaluation: Evaluation) -> Chart:
    """What is said against what is seen, in bins of equal width."""
    bins = [bin_ for bin_ in evaluation.calibration.bins if bin_.images]
    said = "; ".join(
        f"said {bin_.mean_probability:.2f}, seen {bin_.observed.estimate:.2f} of {bin_.images}"
        for bin_ in bins
    )
    positive = evaluation.predictions.class_names[1].lower()
    return Chart(
        title="Reliability",
        described=f"Reliability curve: {said}",
        x_label="mean probability in the bin",
        y_label=f"share with {positive}",
        lines=[
            Line(UNIT, UNIT, "guess", "probabilities mean what they say"),
            Line(
                [bin_.mean_probability for bin_ in bins],
                [bin_.observed.estimate for bin_ in bins],
                "first",
                "this model",
            ),
        ],
        marks=[
            Mark(
                bin_.mean_probability,
                bin_.observed.estimate,
                "first",
                low=bin_.observed.low,
                high=bin_.observed.high,
            )
            for bin_ in bins
        ],
    )


def comparison_chart(comparison: Comparison, names: tuple[str, str]) -> Chart:
    """Both ROC curves, with the point at which each one calls."""
    lines, marks = [Line(UNIT, UNIT, "guess", "guessing")], []
    for side, name, style in zip(
        (comparison.first, comparison.second), names, _styles("first", "second"), strict=True
    ):
        lines.append(_curve(side.roc, style, f"{name}, AUC {side.roc_auc.estimate:.3f}"))
        at = _roc_place(side.operating_points[side.chosen])
        marks.append(Mark(*at, style))
    return Chart(
        title="Both ROC curves",
        described=f"ROC curves of {names[0]} and {names[1]}; areas {comparison.first.roc_auc}"
        f" and {comparison.second.roc_auc}",
        x_label="false alarms: 1 - specificity",
        y_label="sensitivity",
        lines=lines,
        marks=marks,
    )


def training_charts(history: Mapping[str, Sequence[float]], best_epoch: int | None) -> list[Chart]:
    """Loss, accuracy and AUC by epoch, those the history has, with the stages of fine-tuning."""
    wanted = (
        ("Loss", "loss", "val_loss"),
        ("Accuracy at 0.5", "accuracy", "val_accuracy"),
        ("ROC AUC", "auc", "val_auc"),
    )
    return [
        _epochs_chart(title, history, names, best_epoch)
        for title, *names in wanted
        if set(names) <= history.keys()
    ]


def perturbation_charts(checks: ExplanationChecks | None) -> list[Chart]:
    """What the model says while pixels are taken away, and given back, in the heatmaps' order."""
    if checks is None:
        return []
    changed = {"deletion": "taken away", "insertion": "given back"}
    return [
        Chart(
            title=curve.kind.capitalize(),
            described=f"{curve.kind.capitalize()}: area under the curve {curve.area}, in a random order"
            f" {curve.control_area}",
            x_label=f"share of pixels {changed[curve.kind]}",
            y_label="mean probability",
            lines=[
                Line(curve.shares, curve.scores, "first", "in the heatmaps' order"),
                Line(curve.shares, curve.control, "second", "in a random order"),
            ],
        )
        for curve in (checks.deletion, checks.insertion)
    ]


def _styles(*names: Style) -> tuple[Style, ...]:
    return names


def _scores_chart(evaluation: Evaluation) -> Chart:
    negative, positive = evaluation.predictions.class_names
    counts = score_histogram(evaluation.predictions)
    edges = np.repeat(np.linspace(0, 1, SCORE_BINS + 1), 2)
    lines = [
        Line(edges, [0.0, *np.repeat(row, 2), 0.0], style, name)
        for row, style, name in zip(counts, _styles("second", "first"), (negative, positive), strict=True)
    ]
    return Chart(
        title="What the model says",
        described=f"Histogram of the probabilities of {negative} and {positive} radiographs",
        x_label=f"probability of {positive.lower()}",
        y_label="radiographs",
        lines=lines,
        y_range=(0, 1.05 * max(1, counts.max())),
        follows="scores",
    )


def _roc_chart(evaluation: Evaluation) -> Chart:
    return Chart(
        title="ROC",
        described=f"ROC curve; area under it {evaluation.roc_auc}",
        x_label="false alarms: 1 - specificity",
        y_label="sensitivity",
        lines=[Line(UNIT, UNIT, "guess", "guessing"), _curve(evaluation.roc, "first", "this model")],
        marks=[
            Mark(*_roc_place(result), style, POINT_NAMES[style])
            for style, result in _known_points(evaluation)
        ],
        follows="roc",
    )


def _precision_recall_chart(evaluation: Evaluation) -> Chart:
    return Chart(
        title="Precision and recall",
        described=f"Precision-recall curve; average precision {evaluation.average_precision}",
        x_label="recall: sensitivity",
        y_label="precision: PPV here",
        lines=[
            Line(UNIT, (evaluation.prevalence,) * 2, "guess", f"guessing, {evaluation.prevalence:.3f}"),
            _steps(evaluation.precision_recall, "first", "this model"),
        ],
        marks=[
            Mark(
                result.scores["sensitivity"].estimate,
                result.scores["precision"].estimate,
                style,
                POINT_NAMES[style],
            )
            for style, result in _known_points(evaluation)
            if result.tp + result.fp
        ],
        follows="precision-recall",
    )


def _net_benefit_chart(evaluation: Evaluation) -> Chart:
    benefit = evaluation.net_benefit
    highest = max(evaluation.prevalence, 0.05)
    lowest = -0.25 * highest
    return Chart(
        title="Net benefit",
        described="Decision curve: net benefit over thresholds of the model, of calling all and of none",
        x_label="threshold",
        y_label="true calls per radiograph",
        lines=[
            Line(benefit.thresholds, benefit.treat_none, "guess", "call none"),
            _above(lowest, benefit.thresholds, benefit.treat_all, "third", "call all"),
            _above(lowest, benefit.thresholds, benefit.model, "first", "this model"),
        ],
        y_range=(lowest, 1.08 * highest),
        follows="net-benefit",
    )


def _epochs_chart(
    title: str, history: Mapping[str, Sequence[float]], names: Sequence[str], best_epoch: int | None
) -> Chart:
    train, val = (np.asarray(history[name], dtype=np.float64) for name in names)
    epochs = np.arange(1, train.size + 1)
    shown = np.concatenate([train, val])[np.isfinite([*train, *val])]
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
    slack = 0.08 * (high - low) or 0.05
    kept = [] if best_epoch is None else [Mark(best_epoch, val[best_epoch - 1], "kept", "epoch kept")]
    last = f"training {train[-1]:.3f}, validation {val[-1]:.3f}"
    return Chart(
        title=title,
        described=f"{title} by epoch, {epochs.size} in all; at the last, {last}",
        x_label="epoch",
        y_label="",
        lines=[
            Line(epochs, train, "first", "training", dots=True),
            Line(epochs, val, "second", "validation", dots=True),
        ],
        marks=[mark for mark in kept if np.isfinite(mark.y)],
        rules=[
            *(Rule(epoch - 0.5, f"stage {stage:g}") for epoch, stage in stage_starts(history)),
            *(Rule(epoch - 0.5, "") for epoch in learning_rate_reductions(history)),
        ],
        x_range=(0.5, max(epochs.size, 1) + 0.5),
        y_range=(low - slack, high + slack),
        whole_x=True,
    )


def _known_points(evaluation: Evaluation) -> list[tuple[Style, OperatingPointResult]]:
    known = _styles("default", "validation", "oracle")
    return [
        (name, evaluation.operating_points[name]) for name in known if name in evaluation.operating_points
    ]


def _roc_place(result: OperatingPointResult) -> tuple[float, float]:
    return 1 - result.scores["specificity"].estimate, result.scores["sensitivity"].estimate


def _curve(curve: Curve, style: Style, name: str) -> Line:
    return Line(curve.x, curve.y, style, name)


def _steps(curve: Curve, style: Style, name: str) -> Line:
    """A curve that keeps each y until the next x."""
    return Line(np.repeat(curve.x, 2)[1:], np.repeat(curve.y, 2)[:-1], style, name)


def _above(lowest: float, xs: np.ndarray, ys: np.ndarray, style: Style, name: str) -> Line:
    """A line as far as it lies in the chart, and to the edge where it first leaves it."""
    leaves = np.flatnonzero(np.asarray(ys) < lowest)
    end = leaves[0] if leaves.size else len(xs)
    kept_xs, kept_ys = list(xs[:end]), list(ys[:end])
    if leaves.size and end:
        share = (ys[end - 1] - lowest) / (ys[end - 1] - ys[end])
        kept_xs.append(xs[end - 1] + share * (xs[end] - xs[end - 1]))
        kept_ys.append(lowest)
    return Line(kept_xs, kept_ys, style, name)


def _ticks(ends: tuple[float, float], *, whole: bool = False) -> list[float]:
    locator = MaxNLocator(5, integer=whole, steps=[1, 2, 2.5, 5, 10], min_n_ticks=1)
    low, high = ends
    slack = 1e-9 * (high - low)
    values = np.asarray(locator.tick_values(low, high))
    return [round(float(value), 10) + 0.0 for value in values if low - slack <= value <= high + slack]
