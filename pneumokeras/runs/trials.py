"""The trials of a search, and the CSV that keeps them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumokeras.core.files import write_csv

TRIAL_COLUMNS = ("trial", "status", "score", "epochs", "seconds", "reason")
"""Columns of trials.csv; the hyperparameters follow, one column each."""


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
        """Return the trial as a row of trials.csv."""
        figures = {name: getattr(self, name) for name in TRIAL_COLUMNS[1:]}
        return {"trial": self.number, **figures, **self.hyperparameters}


def format_hyperparameters(hyperparameters: Mapping[str, Any]) -> str:
    """Return hyperparameters as text, such as "units 128, dropout 0.3"."""
    values = (f"{value:.4g}" if isinstance(value, float) else value for value in hyperparameters.values())
    return ", ".join(f"{name} {value}" for name, value in zip(hyperparameters, values, strict=True))


def write_trials(trials: tuple[Trial, ...], path: Path) -> None:
    """Write trials.csv, one row per trial."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    write_csv(path, (*TRIAL_COLUMNS, *names), (trial.row() for trial in trials))


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
                name: _value(text) for name, text in row.items() if text and name not in TRIAL_COLUMNS
            },
        )
        for row in rows
    )


def _value(text: str) -> float | int | bool | str:
    """Return a hyperparameter's value from its cell, its type guessed from the text."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
