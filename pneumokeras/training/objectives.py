"""Objectives that epochs and trials are ranked by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from pneumokeras.core.errors import ModelError, SettingsError

OBJECTIVES = {"val_auc": "max", "val_accuracy": "max", "val_loss": "min"}
"""Whether each objective is to be maximized or minimized."""


def require_objective(objective: str) -> None:
    """Refuse an unknown objective.

    Raises:
        SettingsError: if there is no such objective.
    """
    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise SettingsError(
            f"Unknown objective {objective!r}. Expected `objective` as one of {', '.join(OBJECTIVES)}.",
            parameter="objective",
        )


def best_of(scores: Iterable[float], objective: str) -> float | None:
    """Return the best score; `None` if none is a number."""
    best = max if OBJECTIVES[objective] == "max" else min
    return best((score for score in scores if not math.isnan(score)), default=None)


def best_epoch(history: Mapping[str, list[float]], objective: str = "val_auc") -> int:
    """Return the best epoch of a history, counted from 0; of several, the first.

    Raises:
        ModelError: if the objective was NaN in every epoch.
    """
    scores = np.asarray(history[objective])
    if np.isnan(scores).all():
        raise ModelError(
            f"{objective} was never a number: the model's outputs are not finite. Lower the learning rate, "
            "or check the weights that the fit starts from and the precision."
        )
    return int(np.nanargmax(scores) if OBJECTIVES[objective] == "max" else np.nanargmin(scores))


def kept_epoch_of(history: Mapping[str, list[float]], objective: str, keep: str = "best") -> int:
    """Return the epoch whose weights a fit keeps, counted from 0: the best, or the last where asked.

    Raises:
        ModelError: if the objective was NaN in that epoch.
    """
    if keep != "last":
        return best_epoch(history, objective)
    scores = history[objective]
    return len(scores) - 1 + best_epoch({objective: scores[-1:]}, objective)
