"""The table of a reproduction as Markdown and as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from jinja2 import Environment

from pneumokeras.core.html import environment
from pneumokeras.recipes.recipe import FIGURES

if TYPE_CHECKING:
    from pneumokeras.evaluation import Interval
    from pneumokeras.recipes.recipe import Recipe
    from pneumokeras.recipes.reproduce import Reproduction
    from pneumokeras.recipes.rows import Row

_TITLES = {"roc_auc": "AUC", "f1": "F1", "balanced_accuracy": "balanced accuracy"}
COLUMNS = {name: _TITLES.get(name, name) for name in FIGURES}
"""The figures by their names, as the table heads them."""

COSTS = ("parameters", "MB", "minutes")


@dataclass(frozen=True)
class Group:
    """A recipe with its rows, as a page shows them.

    Attributes:
        recipe: whose rows they are.
        rows: of published, as published and corrected those that there are.
    """

    recipe: Recipe
    rows: tuple[Row, ...]

    @property
    def notes(self) -> dict[str, tuple[str, ...]]:
        """What is to be said of it by what it is about; nothing that is empty."""
        published = self.recipe.published
        notes = {
            "\N{DAGGER} Published": published.footnotes if published else (),
            "Not in the document, ours": self.recipe.assumed,
            "Corrected": self.recipe.mended,
        }
        return {about: sentences for about, sentences in notes.items() if sentences}

    def way(self, row: Row) -> str:
        """Which way a row is; a dagger tells that a note says more of the document's figures."""
        noted = row.variant == "published" and self.recipe.published and self.recipe.published.footnotes
        return f"{row.variant} \N{DAGGER}" if noted else row.variant


def render_markdown(table: Reproduction) -> str:
    """The table, then a list for each recipe that has something to say."""
    heads = ["system", "", *COLUMNS.values(), *COSTS]
    lines = [_line(heads), _line(["---"] * 2 + ["---:"] * (len(heads) - 2))]
    for group in groups(table):
        for row in group.rows:
            how = "; ".join([group.way(row), *details(row)])
            figures = [f"{figure(row, name)} {_in_brackets(interval(row, name))}" for name in COLUMNS]
            lines.append(_line(map(_plain, [row.title, how, *figures, *costs(row).values()])))
    for group in groups(table):
        if group.notes:
            lines += ["", f"**{_plain(group.recipe.title)}** ({_plain(group.recipe.source)})", ""]
        for about, sentences in group.notes.items():
            lines += [f"- {about}: {_plain(sentence)}" for sentence in sentences]
    return "\n".join([caption(table), "", *lines]) + "\n"


def render_html(table: Reproduction, *, whole: bool = True) -> str:
    """The table and its notes.

    Args:
        table: what was reached.
        whole: a page of its own; or a piece of one, for a notebook.
    """
    template = _templates().get_template("reproduction.html.jinja")
    return template.render(table=table, groups=groups(table), caption=caption(table), whole=whole)


def groups(table: Reproduction) -> tuple[Group, ...]:
    """The recipes with their rows."""
    rows = {recipe.name: [row for row in table.rows if row.recipe == recipe.name] for recipe in table.recipes}
    return tuple(Group(recipe, tuple(rows[recipe.name])) for recipe in table.recipes)


def caption(table: Reproduction) -> str:
    """What the figures are about."""
    normals, pneumonias = table.test
    return (
        f"Here: {normals + pneumonias} test radiographs ({normals} NORMAL, {pneumonias} PNEUMONIA). "
        "Published: 624 (234 and 390). Brackets hold 95 % intervals; of several seeds the estimates and the "
        "ends of the intervals are means."
    )


def figure(row: Row, name: str) -> str:
    """One figure of a row, `0.912`; empty if it has none, such as a document that does not print it."""
    if name not in row.figures:
        return ""
    estimate = row.figures[name].estimate
    return "undefined" if math.isnan(estimate) else f"{estimate:.3f}"


def interval(row: Row, name: str) -> str:
    """Its 95 % interval, `0.880, 0.938`; empty if it has none."""
    found: Interval | None = row.figures.get(name)
    return "" if found is None or math.isnan(found.low) else f"{found.low:.3f}, {found.high:.3f}"


def spread(row: Row, name: str) -> str:
    """Lowest and highest of several seeds, `0.905 to 0.921`; empty if one of them has no such figure."""
    return "{:.3f} to {:.3f}".format(*row.spread[name]) if row.spread and name in row.spread else ""


def costs(row: Row) -> dict[str, str]:
    """What it takes, by `COSTS`."""
    parameters = "" if row.parameters is None else f"{row.parameters:,}"
    size, minutes = ("" if value is None else f"{value:.1f}" for value in (row.size, row.minutes))
    return dict(zip(COSTS, (parameters, size, minutes), strict=True))


def details(row: Row) -> list[str]:
    """Seeds, weights, threshold and what was changed; why there are no figures, or not of every seed."""
    if row.not_run:
        return [f"not run: {row.reason}"]
    found = []
    if row.spread:
        found.append(f"{row.seeds} seeds, AUC {spread(row, 'roc_auc')}")
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


def _plain(text: str) -> str:
    """Text that means nothing to Markdown, on one line."""
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
