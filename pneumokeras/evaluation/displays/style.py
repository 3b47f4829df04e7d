"""One Display class per figure: each holds what it shows and draws it; none of them computes anything.

In the manner of scikit-learn's Displays, `plot(ax=None)` draws into the given axes or into a figure of its
own, keeps `ax_` and `figure_`, and returns the display. Displays of several pictures take and keep a grid of
axes, `axes_`. Matplotlib's object interface only: nothing is registered with pyplot, nothing is shown.

The colors are those of Okabe & Ito (2008), which most color-blind people can tell apart; line styles,
markers, hatches and words say the same once more, for print in gray.
"""

from __future__ import annotations

from os import PathLike
from typing import Any, Literal, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pneumokeras.core.files import replacing

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


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches, laid out so that nothing is cut off."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), layout=layout)


def chart(ax: Axes | None, title: str) -> tuple[Axes, Figure]:
    """The given axes, or those of a new figure, in the style that all charts share."""
    if ax is None:
        ax = new_figure(*CHART_SIZE).add_subplot()
    ax.set_title(without_mathtext(title), loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    ax.tick_params(colors=INK, labelsize=9)
    ax.set_axisbelow(True)
    ax.grid(color="#e4e4e4", linewidth=0.8)
    return ax, ax.get_figure()  # type: ignore[return-value]  # axes always have a figure


def grid(axes: np.ndarray | None, rows: int, columns: int, *, row_height: float) -> tuple[np.ndarray, Figure]:
    """Return the given grid of axes, or a new one, with its figure."""
    if axes is None:
        figure = new_figure(columns * PICTURE_SIZE + 0.3, rows * row_height)
        return figure.subplots(rows, columns, squeeze=False), figure
    grid = np.asarray(axes, dtype=object)
    if grid.size < rows * columns:
        raise ValueError(f"Expected at least {rows * columns} axes, received {grid.size}.")
    grid = grid.reshape(rows, -1)
    return grid, grid[0, 0].get_figure()


def picture_grid(axes: np.ndarray | None, count: int, *, title_lines: int = 1) -> tuple[np.ndarray, Figure]:
    """Axes for so many pictures and their titles, bare; the last row may hold more than are needed."""
    if axes is None:
        columns = min(count, PICTURES_PER_ROW)
        rows = -(-count // columns)
    else:
        rows, columns = 1, count
    axes, figure = grid(axes, rows, columns, row_height=PICTURE_SIZE + 0.1 + 0.16 * title_lines)
    for ax in axes.flat:
        bare(ax)
    return axes, figure


def bare(ax: Axes) -> None:
    """Remove ticks and frame from axes that show a picture."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def number_bars(ax: Axes, bars: BarContainer) -> None:
    """Write each bar's count above it."""
    ax.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=9, color=INK)


def mark_point(ax: Axes, name: str, x: float, y: float) -> None:
    """Mark an operating point in the style that its name has in every figure."""
    style = POINT_STYLES.get(name, OTHER_POINT_STYLE)
    label = without_mathtext(POINT_LABELS.get(name, name))
    ax.plot([x], [y], linestyle="none", clip_on=False, zorder=3, label=label, **style)


def legend_inside(ax: Axes, legend_at: Literal["lower left", "lower right"]) -> None:
    """Put the legend into a corner of the axes."""
    ax.legend(loc=legend_at, fontsize=9, framealpha=0.95, edgecolor="none", markerscale=0.8)


def unit_square(ax: Axes) -> None:
    """Both axes from 0 to 1, at one scale."""
    ax.set_aspect("equal")
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)


def legend_below(ax: Axes) -> None:
    """Put the legend below the axes."""
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=9, frameon=False, markerscale=0.8)


def without_mathtext(text: str) -> str:
    """Text in which Matplotlib finds no mathematics, whatever dollars a name holds."""
    return text.replace("$", r"\$")
