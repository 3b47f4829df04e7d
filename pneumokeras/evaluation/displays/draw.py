"""Draw a chart with Matplotlib."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pneumokeras.evaluation.charts import UNIT, Chart
from pneumokeras.evaluation.displays.style import (
    BLUE,
    CHART_SIZE,
    GRAY,
    INK,
    ORANGE,
    VERMILLION,
    chart_axes,
    legend_below,
    without_mathtext,
)

LINE_STYLES: dict[str, dict[str, Any]] = {
    "first": {"color": BLUE, "linewidth": 2},
    "second": {"color": VERMILLION, "linewidth": 2, "linestyle": "--"},
    "third": {"color": VERMILLION, "linewidth": 2, "linestyle": "-."},
    "chance": {"color": GRAY, "linewidth": 1, "linestyle": "--"},
}
DOTS = {"first": "o", "second": "s"}
MARK_STYLES: dict[str, dict[str, Any]] = {
    "first": {"marker": "o", "markersize": 6, "color": BLUE},
    "second": {"marker": "s", "markersize": 6, "color": VERMILLION},
    "default": {"marker": "o", "markersize": 8, "color": INK},
    "validation": {"marker": "D", "markersize": 8, "color": VERMILLION},
    "oracle": {
        "marker": "s",
        "markersize": 14,
        "color": GRAY,
        "markerfacecolor": "none",
        "markeredgewidth": 1.6,
    },
    "other": {"marker": "^", "markersize": 8, "color": ORANGE},
    "kept": {
        "marker": "o",
        "markersize": 13,
        "color": INK,
        "markerfacecolor": "none",
        "markeredgewidth": 1.4,
    },
}
RULE_STYLES: dict[str, dict[str, Any]] = {
    "default": {"color": INK, "linewidth": 1.4, "linestyle": "--"},
    "validation": {"color": VERMILLION, "linewidth": 1.4, "linestyle": "-"},
    "oracle": {"color": GRAY, "linewidth": 1.4, "linestyle": ":"},
    "other": {"color": ORANGE, "linewidth": 1.4, "linestyle": ":"},
    "reduced": {"color": GRAY, "linewidth": 1, "linestyle": ":"},
    "stage": {"color": INK, "linewidth": 1, "linestyle": "-."},
}
LEGEND_LINE = 0.19  # inches
MARGIN = 0.02  # of the unit square, so that a mark at its edge is seen whole


def draw(chart: Chart, ax: Axes | None, **line_options: Any) -> tuple[Axes, Figure]:
    """Draw a chart into the given axes or into a new figure.

    Args:
        chart: what to draw.
        ax: axes to draw into.
        **line_options: for Matplotlib, of the chart's first curve, such as `color` or `label`.

    Returns:
        The axes and their figure.
    """
    labels = {part.label for parts in (chart.lines, chart.marks, chart.rules) for part in parts} - {""}
    width, height = CHART_SIZE
    ax, figure = chart_axes(ax, chart.title, size=(width, height - 0.6 + LEGEND_LINE * len(labels)))
    for line in chart.lines:
        options: dict[str, Any] = {"label": without_mathtext(line.label), **LINE_STYLES[line.style]}
        if line.dots:
            options |= {"marker": DOTS[line.style], "markersize": 4}
        if line.style == "first":
            options |= line_options
        ax.plot(line.xs, line.ys, **options)
    for mark in chart.marks:
        style = MARK_STYLES[mark.style]
        if mark.low is not None and mark.high is not None:
            ax.plot([mark.x, mark.x], [mark.low, mark.high], color=style["color"], linewidth=1)
        label = without_mathtext(mark.label)
        ax.plot([mark.x], [mark.y], linestyle="none", clip_on=False, zorder=3, label=label, **style)
    seen = set()
    for rule in chart.rules:
        label = "" if rule.label in seen else without_mathtext(rule.label)
        ax.axvline(rule.x, label=label, zorder=1, **RULE_STYLES[rule.style])
        seen.add(rule.label)
    ax.set_xlabel(without_mathtext(chart.x_label))
    ax.set_ylabel(without_mathtext(chart.y_label))
    if chart.x_range == chart.y_range == UNIT:
        ax.set(aspect="equal", xlim=(-MARGIN, 1 + MARGIN), ylim=(-MARGIN, 1 + MARGIN))
    else:
        ax.set(xlim=chart.x_range, ylim=chart.y_range)
    if chart.whole_x:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(ax)
    return ax, figure
