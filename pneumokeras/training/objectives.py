"""Objectives a search or a fit can be judged by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from pneumokeras.core.errors import DataError, ModelError

OBJECTIVES = {"val_auc": "max", "val_accuracy": "max", "val_loss": "min"}


def require_objective(objective: str) -> None:
    """Refuse what no epoch can be chosen by.

    Raises:
        DataError: if there is no such objective.
    """
    if objective not in OBJECTIVES:
        raise DataError(f"Unknown objective {objective!r}. Expected one of {', '.join(OBJECTIVES)}.")


def best_of(scores: Iterable[float], objective: str) -> float | None:
    """The best of some scores; `None` if none is a number."""
    best = max if OBJECTIVES[objective] == "max" else min
    return best((score for score in scores if not math.isnan(score)), default=None)


def best_epoch(history: Mapping[str, list[float]], objective: str = "val_auc") -> int:
    """The epoch whose weights `fit` gives back, counted from 0.

    Raises:
        ModelError: if the objective was NaN in every epoch.
    """
    scores = np.asarray(history[objective])
    if np.isnan(scores).all():
        raise ModelError(f"{objective} was never a number: the fit diverged. Lower the learning rate.")
    return int(np.nanargmax(scores) if OBJECTIVES[objective] == "max" else np.nanargmin(scores))
