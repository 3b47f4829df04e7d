"""The trials of a search, and the CSV that keeps them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumokeras.core.files import write_csv

TRIAL_COLUMNS = ("trial", "status", "score", "epochs", "seconds", "reason")
"""Columns of trials.csv; the hyperparameters follow, one column each."""

_MARK = "hp:"
"""Put before a hyperparameter that has the name of such a column."""

_NAMED = {"True": True, "False": False, "null": None}


@dataclass(frozen=True)
class Trial:
    """One configuration that a search tried.

    Attributes:
        number: counted from 1.
        status: `"completed"` or `"failed"`.
        score: the objective at its best epoch; `None` if it failed.
        epochs: number of epochs trained.
        seconds: wall time.
        reason: why it failed; empty if it did not.
        hyperparameters: the values tried.
    """

    number: int
    status: str
    score: float | None
    epochs: int | None
    seconds: float | None
    reason: str
    hyperparameters: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """Return the trial by the columns of trials.csv.

        A hyperparameter that is called like one of `TRIAL_COLUMNS`, such as `epochs`, is in `hp:epochs`.
        """
        figures = {name: getattr(self, name) for name in TRIAL_COLUMNS[1:]}
        drawn = {_column(name): value for name, value in self.hyperparameters.items()}
        return {"trial": self.number, **figures, **drawn}


def format_hyperparameters(hyperparameters: Mapping[str, Any]) -> str:
    """Return hyperparameters as text, such as "units 128, dropout 0.3"."""
    values = (f"{value:.4g}" if isinstance(value, float) else value for value in hyperparameters.values())
    return ", ".join(f"{name} {value}" for name, value in zip(hyperparameters, values, strict=True))


def write_trials(trials: tuple[Trial, ...], path: Path) -> None:
    """Write trials.csv, one row per trial, so that `trials_from_rows` reads each value in its type."""
    rows = [
        trial.row() | {_column(name): _cell(value) for name, value in trial.hyperparameters.items()}
        for trial in trials
    ]
    write_csv(path, tuple(dict.fromkeys((*TRIAL_COLUMNS, *(name for row in rows for name in row)))), rows)


def trials_from_rows(rows: list[dict[str, str]]) -> tuple[Trial, ...]:
    """Return the trials in the rows of a trials.csv."""
    return tuple(
        Trial(
            number=int(row["trial"]),
            status=row["status"],
            score=float(row["score"]) if row["score"] else None,
            epochs=int(row["epochs"]) if row["epochs"] else None,
            seconds=float(row["seconds"]) if row["seconds"] else None,
            reason=row["reason"],
            hyperparameters={
                _name(column): _value(text)
                for column, text in row.items()
                if text and column not in TRIAL_COLUMNS
            },
        )
        for row in rows
    )


def _is_taken(name: str) -> bool:
    """Return whether a name, without our mark, is that of a column of its own."""
    while name.startswith(_MARK):
        name = name.removeprefix(_MARK)
    return name in TRIAL_COLUMNS


def _column(name: str) -> str:
    return f"{_MARK}{name}" if _is_taken(name) else name


def _name(column: str) -> str:
    return column.removeprefix(_MARK) if _is_taken(column) else column


def _cell(value: Any) -> Any:
    """Return a hyperparameter's cell: a text that would be read as something else is put in quotes."""
    if value is None:
        return "null"
    is_ambiguous = isinstance(value, str) and (not value or _value(value) != value)
    return json.dumps(value, ensure_ascii=False) if is_ambiguous else value


def _value(text: str) -> float | int | bool | str | None:
    """Return a hyperparameter's value from its cell, its type guessed unless it is in quotes."""
    if text in _NAMED:
        return _NAMED[text]
    if text.startswith('"'):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
