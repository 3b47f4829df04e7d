"""The look that all figures share: colors, sizes, axes and files.

The colors are those of Okabe & Ito (2008), which most color-blind people can tell apart; line styles,
markers, hatches and words repeat their meaning, for print in gray.
"""

from __future__ import annotations

import io
import sys
from os import PathLike
from typing import Any, Self

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pneumokeras.core.errors import SettingsError
from pneumokeras.core.files import replacing

BLUE = "#0072b2"
ORANGE = "#e69f00"
VERMILLION = "#d55e00"
SKY = "#56b4e9"
INK = "#222222"
GRAY = "#767676"
LIGHT_GRAY = "#e4e4e4"

CHART_SIZE = (4.4, 4.4)  # inches: small, so that 9-point text is still legible on a telephone
PICTURE_SIZE = 2.0  # inches a side
PICTURES_PER_ROW = 4
DPI = 150
SHOWN_DPI = 96  # in a notebook, so that a figure has more pixels than it takes on the page


class Display:
    """A figure that draws what it holds; as the last expression of a notebook cell it shows itself.

    Attributes:
        ax_: the axes drawn into, once it is drawn.
        axes_: instead of `ax_` in displays of several pictures: the `(rows, columns)` axes drawn into.
        figure_: the figure of the axes.
    """

    ax_: Axes
    axes_: np.ndarray
    figure_: Figure

    def plot(self) -> Self:
        """Draw into a new figure, and return the display."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return the display's name."""
        return f"<{type(self).__name__}>"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        """Return the figure, drawn if it was not; nothing if pyplot shows it at the end of the cell."""
        drawn = self if hasattr(self, "figure_") else self.plot()
        figure = drawn.figure_.canvas.figure  # the whole one, if the axes lie in a part of it
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and getattr(figure, "number", None) in pyplot.get_fignums():
            return None
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI)
        width, height = figure.get_size_inches() * SHOWN_DPI
        return png.getvalue(), {"width": round(width), "height": round(height)}


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


def chart_axes(ax: Axes | None, title: str, *, size: tuple[float, float] = CHART_SIZE) -> tuple[Axes, Figure]:
    """Return the given axes, or those of a new figure of this size in inches, in the style of all charts.

    Raises:
        SettingsError: if they are no axes.
    """
    if ax is None:
        ax = new_figure(*size).add_subplot()
    elif not isinstance(ax, Axes):
        raise SettingsError(
            f"Expected `ax` as Matplotlib's axes, such as plt.gca(). Received {type(ax).__name__}.",
            parameter="ax",
        )
    ax.set_title(without_mathtext(title), loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    ax.tick_params(colors=INK, labelsize=9)
    ax.set_axisbelow(True)
    ax.grid(color=LIGHT_GRAY, linewidth=0.8)
    return ax, ax.get_figure()  # type: ignore[return-value]  # axes always have a figure


def picture_axes(
    axes: np.ndarray | None, rows: int, columns: int, *, row_height: float
) -> tuple[np.ndarray, Figure]:
    """Return the given grid of axes, or that of a new figure, without ticks and frames.

    Args:
        axes: at least `rows * columns` axes to draw into.
        rows: of the grid.
        columns: of the grid.
        row_height: of a new figure, in inches.

    Raises:
        SettingsError: if there are too few axes, or one is none.
    """
    if axes is None:
        figure = new_figure(columns * PICTURE_SIZE + 0.3, rows * row_height)
        grid = figure.subplots(rows, columns, squeeze=False)
    else:
        grid = np.asarray(axes, dtype=object)
        if grid.size < rows * columns or not all(isinstance(ax, Axes) for ax in grid.flat):
            received = grid.size if all(isinstance(ax, Axes) for ax in grid.flat) else repr(axes)
            raise SettingsError(
                f"Expected at least {rows * columns} `axes`, received {received}.", parameter="axes"
            )
        grid = grid.reshape(rows, -1)
        figure = grid[0, 0].get_figure()
    for ax in grid.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    return grid, figure


def legend_below(ax: Axes) -> None:
    """Put the legend below the axes, where it covers no line."""
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=9, frameon=False, markerscale=0.8)


def without_mathtext(text: str) -> str:
    """Return a text in which Matplotlib finds no mathematics, whatever dollars a name holds."""
    return text.replace("$", r"\$")
