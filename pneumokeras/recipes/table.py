"""The table of a reproduction as Markdown and as HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jinja2 import Environment

from pneumokeras.pages import environment
from pneumokeras.recipes.recipe import FIGURES

if TYPE_CHECKING:
    from pneumokeras.evaluation import Interval
    from pneumokeras.recipes.reproducing import Reproduction, Row

_TITLES = {"roc_auc": "AUC", "f1": "F1", "balanced_accuracy": "balanced"}
COLUMNS = {name: _TITLES.get(name, name) for name in FIGURES}
"""The figures by their names, as the table heads them."""


def render_markdown(table: Reproduction) -> str:
    """The table, then a paragraph for each recipe that has something to say."""
    heads = ["system", "", *COLUMNS.values(), "parameters", "MB", "minutes"]
    lines = [_line(heads), _line(["---"] * 2 + ["---:"] * (len(heads) - 2))]
    lines += [
        _line(
            [
                row.title,
                _how(row),
                *(cell(row, name) for name in COLUMNS),
                "" if row.parameters is None else f"{row.parameters:,}",
                "" if row.size is None else f"{row.size:.1f}",
                "" if row.minutes is None else f"{row.minutes:.1f}",
            ]
        )
        for row in table.rows
    ]
    notes = [f"**{title}.** {' '.join(sentences)}" for title, sentences in _notes(table).items() if sentences]
    return "\n".join([_caption(table), "", *lines, "", *("\n" + note for note in notes)]) + "\n"


def render_html(table: Reproduction, *, whole: bool = True) -> str:
    """The table and its notes.

    Args:
        table: what was reached.
        whole: a page of its own; or a piece of one, for a notebook.
    """
    return (
        _templates()
        .get_template("reproduction.html.jinja")
        .render(table=table, columns=COLUMNS, caption=_caption(table), notes=_notes(table), whole=whole)
    )


def cell(row: Row, name: str) -> str:
    """One figure of a row: `0.912 [0.880, 0.938]`, and the seeds' spread below it."""
    figure: Interval | None = row.figures.get(name)
    if figure is None:
        return ""
    if math.isnan(figure.low):
        return f"{figure.estimate:.3f}"
    return str(figure)


def spread(row: Row, name: str) -> str:
    """Lowest and highest of the seeds, if there are several."""
    if not row.spread:
        return ""
    low, high = row.spread[name]
    return f"{low:.3f} to {high:.3f}"


def _caption(table: Reproduction) -> str:
    normals, pneumonias = table.test
    return (
        f"Here: {normals + pneumonias} test radiographs ({normals} NORMAL, {pneumonias} PNEUMONIA). "
        "Published: 624 (234, 390). Brackets hold 95 % intervals; "
        "of several seeds estimates and ends are means."
    )


def _how(row: Row) -> str:
    """Which variant, on what weights, at which threshold, or why not."""
    parts = [row.variant]
    if row.reason:
        parts.append(f"not run: {row.reason}")
    if row.seeds > 1:
        parts.append(f"{row.seeds} seeds, AUC {spread(row, 'roc_auc')}")
    if row.weights:
        parts.append(f"weights: {row.weights}")
    if row.threshold:
        parts.append(f"threshold {row.threshold}")
    parts += [f"{name} {value}" for name, value in (row.changes or {}).items()]
    return "; ".join(parts)


def _notes(table: Reproduction) -> dict[str, list[str]]:
    """What cannot be right in a document, what is ours, what is mended, by title."""
    return {
        recipe.title: [
            *(recipe.published.footnotes if recipe.published else ()),
            *(f"Ours: {sentence}" for sentence in recipe.assumed),
            *(f"Corrected: {sentence}" for sentence in recipe.mended),
        ]
        for recipe in table.recipes
    }


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|').replace(chr(10), ' ') for text in cells)} |"


def _templates() -> Environment:
    templates = environment("pneumokeras.recipes")
    templates.globals |= {"cell": cell, "how": _how}
    return templates
