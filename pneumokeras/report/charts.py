"""The page's charts: the places of their lines and marks in an SVG, which a template writes.

They take their colors from the page, light or dark, and its script moves a mark over those with a threshold.
The files under figures/ show the same charts, drawn by `pneumokeras.evaluation.displays`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from pneumokeras.evaluation import Evaluation
from pneumokeras.evaluation.charts import (
    EPOCH_CHARTS,
    Chart,
    Line,
    epoch_chart,
    net_benefit_chart,
    perturbation_chart,
    precision_recall_chart,
    reliability_chart,
    roc_chart,
    roc_comparison_chart,
    score_chart,
)

if TYPE_CHECKING:
    from pneumokeras.explain.sanity_checks import ExplanationChecks
    from pneumokeras.report.contents import ComparedRuns


@dataclass(frozen=True)
class Frame:
    """The place of the axes in every chart, in the units of its SVG."""

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
class SvgChart:
    """A chart in the frame of its SVG.

    Attributes:
        chart: its contents.
        follows: the name by which the script moves a mark in it; empty if it does not.
    """

    chart: Chart
    follows: str = ""

    def x(self, value: float) -> float:
        """Return the place of a value along the x axis, in the SVG's units."""
        low, high = self.chart.x_range
        return round(FRAME.left + (value - low) / (high - low) * FRAME.plot_width, 1)

    def y(self, value: float) -> float:
        """Return the place of a value along the y axis, in the SVG's units, from the top."""
        low, high = self.chart.y_range
        return round(FRAME.top + (high - value) / (high - low) * FRAME.plot_height, 1)

    def path(self, line: Line) -> str:
        """Return a line as `M x y L x y ...`; points that fall on the place before them are left out."""
        places = [(self.x(x), self.y(y)) for x, y in zip(line.xs, line.ys, strict=True)]
        distinct = [place for i, place in enumerate(places) if i == 0 or place != places[i - 1]]
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in distinct)

    @property
    def x_ticks(self) -> list[float]:
        """Values to write along the x axis."""
        return _ticks(self.chart.x_range, whole=self.chart.whole_x)

    @property
    def y_ticks(self) -> list[float]:
        """Values to write along the y axis."""
        return _ticks(self.chart.y_range)

    @property
    def axes(self) -> dict[str, list[float]]:
        """Ends of both axes, in the data's units and then in the SVG's, as the script takes them."""
        return {
            "x": [*self.chart.x_range, FRAME.left, FRAME.left + FRAME.plot_width],
            "y": [*self.chart.y_range, FRAME.top + FRAME.plot_height, FRAME.top],
        }

    @property
    def legend(self) -> list[tuple[str, str, str]]:
        """For each entry whether it is a `line` or a `mark`, its style and its label."""
        lines = [("line", line.style, line.label) for line in self.chart.lines]
        return lines + [("mark", mark.style, mark.label) for mark in self.chart.marks if mark.label]


def threshold_charts(evaluation: Evaluation) -> list[SvgChart]:
    """Return the charts that follow the threshold; the curves only if both classes are present."""
    points = evaluation.operating_points
    charts = {"scores": score_chart(evaluation.predictions)}
    if evaluation.roc.x.size:
        charts["roc"] = roc_chart(evaluation.roc, evaluation.roc_auc, points)
        charts["precision-recall"] = precision_recall_chart(
            evaluation.precision_recall, evaluation.average_precision, evaluation.prevalence, points
        )
    charts["net-benefit"] = net_benefit_chart(evaluation.net_benefit)
    return [SvgChart(chart, follows) for follows, chart in charts.items()]


def calibration_charts(evaluation: Evaluation) -> list[SvgChart]:
    """Return the reliability curve."""
    positive = evaluation.predictions.class_names[1]
    bins, error = evaluation.calibration.bins, evaluation.calibration_error
    return [SvgChart(reliability_chart(bins, error, positive=positive))]


def comparison_charts(compared: ComparedRuns | None) -> list[SvgChart]:
    """Return the ROC curves of both runs, if there are two and both classes."""
    if compared is None or not compared.comparison.first.roc.x.size:
        return []
    return [SvgChart(roc_comparison_chart(*compared.roc_curves))]


def training_charts(history: Mapping[str, Sequence[float]], kept_epoch: int | None) -> list[SvgChart]:
    """Return loss, accuracy and AUC by epoch, as far as the history has them."""
    return [
        SvgChart(replace(epoch_chart(score, history, kept_epoch), y_label=""))  # the title says it
        for score in EPOCH_CHARTS
        if {score, f"val_{score}"} <= history.keys()
    ]


def perturbation_charts(checks: ExplanationChecks | None) -> list[SvgChart]:
    """Return the deletion and the insertion curve of the heatmaps, if they were checked."""
    if checks is None:
        return []
    charts = []
    for curve in (checks.deletion, checks.insertion):
        chart = perturbation_chart(curve.kind, curve.shares, curve.scores, curve.control)
        areas = f"{chart.title}: area under the curve {curve.area}, in a random order {curve.control_area}"
        charts.append(SvgChart(replace(chart, description=areas)))
    return charts


def _ticks(ends: tuple[float, float], *, whole: bool = False) -> list[float]:
    locator = MaxNLocator(5, integer=whole, steps=[1, 2, 2.5, 5, 10], min_n_ticks=1)
    low, high = ends
    slack = 1e-9 * (high - low)
    values = np.asarray(locator.tick_values(low, high))
    return [round(float(value), 10) + 0.0 for value in values if low - slack <= value <= high + slack]
