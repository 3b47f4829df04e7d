"""Render the table of reproduced systems as Markdown and as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from jinja2 import Environment

from pneumokeras.core.html import environment
from pneumokeras.evaluation.vocabulary import format_count, format_estimate, score_name
from pneumokeras.recipes.recipe import FIGURES

if TYPE_CHECKING:
    from pneumokeras.evaluation import Interval
    from pneumokeras.recipes.recipe import Recipe
    from pneumokeras.recipes.rows import Row

COLUMNS = {name: score_name(name) for name in FIGURES}
"""Column headings by the scores' names."""

COSTS = ("parameters", "MB", "minutes")


@dataclass(frozen=True)
class Group:
    """A recipe with its rows, as the table shows them.

    Attributes:
        recipe: the recipe.
        rows: published, as published and corrected, as far as they exist.
    """

    recipe: Recipe
    rows: tuple[Row, ...]

    @property
    def notes(self) -> dict[str, tuple[str, ...]]:
        """Notes by heading; empty headings are omitted."""
        published = self.recipe.published
        notes = {
            "\N{DAGGER} Published": published.footnotes if published else (),
            "Not in the document, ours": self.recipe.assumed,
            "Corrected": self.recipe.corrections,
        }
        return {heading: sentences for heading, sentences in notes.items() if sentences}

    def variant(self, row: Row) -> str:
        """Return a row's variant, with a dagger where a footnote comments on the document's figures."""
        noted = row.variant == "published" and self.recipe.published and self.recipe.published.footnotes
        return f"{row.variant} \N{DAGGER}" if noted else row.variant


def render_markdown(rows: Sequence[Row], recipes: Iterable[Recipe], *, test: tuple[int, int]) -> str:
    """Return the table, followed by a list of notes for each recipe that has any.

    Args:
        rows: of all recipes.
        recipes: in the order of the table.
        test: number of NORMAL and of PNEUMONIA test radiographs.
    """
    groups = _groups(rows, recipes)
    heads = ["system", "", *COLUMNS.values(), *COSTS]
    lines = [_line(heads), _line(["---"] * 2 + ["---:"] * (len(heads) - 2))]
    for group in groups:
        for row in group.rows:
            variant = "; ".join([group.variant(row), *details(row)])
            figures = [f"{figure(row, name)} {_in_brackets(interval(row, name))}" for name in COLUMNS]
            lines.append(_line(map(_escaped, [row.title, variant, *figures, *costs(row).values()])))
    for group in groups:
        if group.notes:
            lines += ["", f"**{_escaped(group.recipe.title)}** ({_escaped(group.recipe.source)})", ""]
        for heading, sentences in group.notes.items():
            lines += [f"- {heading}: {_escaped(sentence)}" for sentence in sentences]
    return "\n".join([_caption(test), "", *lines]) + "\n"


def render_html(
    rows: Sequence[Row], recipes: Iterable[Recipe], *, test: tuple[int, int], data: str, whole: bool = True
) -> str:
    """Return the table and its notes.

    Args:
        rows: of all recipes.
        recipes: in the order of the table.
        test: number of NORMAL and of PNEUMONIA test radiographs.
        data: where the radiographs are, for the page's heading.
        whole: return a complete page; otherwise a fragment for a notebook.
    """
    return (
        _templates()
        .get_template("reproduction.html.jinja")
        .render(
            groups=_groups(rows, recipes),
            caption=_caption(test),
            several_seeds=any(row.spread for row in rows),
            data=data,
            whole=whole,
        )
    )


def _groups(rows: Sequence[Row], recipes: Iterable[Recipe]) -> tuple[Group, ...]:
    """Return each recipe with its rows."""
    return tuple(Group(one, tuple(row for row in rows if row.recipe == one.name)) for one in recipes)


def _caption(test: tuple[int, int]) -> str:
    """Return which radiographs the figures refer to, and what the brackets hold."""
    normals, pneumonias = test
    return (
        f"Here: {normals + pneumonias} test radiographs ({normals} NORMAL, {pneumonias} PNEUMONIA). "
        "Published: 624 (234 and 390). Brackets hold 95% intervals; of several seeds the estimates and the "
        "ends of the intervals are means."
    )


def figure(row: Row, name: str) -> str:
    """Format a score, such as `0.912`; empty if the row does not have it."""
    return format_estimate(row.figures[name]) if name in row.figures else ""


def interval(row: Row, name: str) -> str:
    """Format a score's 95% interval, such as `0.880, 0.938`; empty if the row does not have it."""
    found: Interval | None = row.figures.get(name)
    return "" if found is None or math.isnan(found.low) else f"{found.low:.3f}, {found.high:.3f}"


def spread(row: Row, name: str) -> str:
    """Format the range over seeds, such as `0.905 to 0.921`; empty unless every seed has the score."""
    return "{:.3f} to {:.3f}".format(*row.spread[name]) if row.spread and name in row.spread else ""


def costs(row: Row) -> dict[str, str]:
    """Format parameters, size and time by the names in `COSTS`."""
    parameters = "" if row.parameters is None else format_count(row.parameters)
    size, minutes = ("" if value is None else f"{value:.1f}" for value in (row.size, row.minutes))
    return dict(zip(COSTS, (parameters, size, minutes), strict=True))


def details(row: Row) -> list[str]:
    """Return remarks on a row: seeds, weights, threshold, changed settings, and why runs failed."""
    if row.not_run:
        return [f"not run: {row.reason}"]
    found = []
    if row.spread:
        found.append(f"{row.seeds} seeds, {COLUMNS['roc_auc']} {spread(row, 'roc_auc')}")
    if row.weights:
        found.append(f"weights: {row.weights}")
    if row.thresholds:
        found.append(_threshold(row))
    found += [f"{name}: {value}" for name, value in (row.changes or {}).items()]
    return [*found, f"further seeds not run: {row.reason}"] if row.reason else found


def _threshold(row: Row) -> str:
    low, high = (f"{end:.3g}" for end in (min(row.thresholds), max(row.thresholds)))
    values = f"threshold {low}" if low == high else f"thresholds {low} to {high}"
    return values if row.chosen_on == "fixed" else f"{values}, chosen on {row.chosen_on}"


def _in_brackets(text: str) -> str:
    return f"[{text}]" if text else ""


def _escaped(text: str) -> str:
    """Return text on one line without markup; brackets stay, since the table is also printed at a prompt."""
    marked = "".join(f"\\{character}" if character in "\\|*`" else character for character in text)
    return escape(" ".join(marked.split()), quote=False)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _templates() -> Environment:
    templates = environment("pneumokeras.recipes")
    functions = (figure, interval, spread, costs, details)
    templates.globals |= {function.__name__: function for function in functions}
    templates.globals |= {"columns": COLUMNS, "cost_names": COSTS}
    return templates
