"""Measure how well a linear classifier predicts what it should not, such as the split from the pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FOLDS = 5
MIN_IMAGES, MIN_PATIENTS = 20, FOLDS
"""Per side; with fewer, the AUC would be noise."""

MAX_IMAGES = 5_000
"""Per side; larger sides are subsampled to bound run time."""


@dataclass(frozen=True, eq=False)
class Separation:
    """How well a linear classifier separates two sides, cross-validated with patients kept whole.

    Attributes:
        auc: area under the ROC curve in [0, 1]; 0.5 is chance.
        chance: the AUC that 39 of 40 classifiers without any information stay below, given the number of
            patients.
        rows: `(n,)` integers, the rows it was measured on.
        scores: `(n,)` floats, out of fold; higher means more like side 1.
        alone: AUC of each feature by itself, at least 0.5, largest first; empty without `names`.
    """

    auc: float
    chance: float
    rows: np.ndarray
    scores: np.ndarray
    alone: dict[str, float]


def separation(
    features: np.ndarray,
    sides: np.ndarray,
    patients: np.ndarray,
    *,
    names: tuple[str, ...] = (),
    inverse_penalty: float = 1.0,
    seed: int = 0,
) -> Separation | None:
    """Separate side 1 from side 0 by logistic regression on standardized features.

    Args:
        features: `(n, k)` floats.
        sides: `(n,)` integers, 0 or 1.
        patients: `(n,)` strings; a patient is never in both the training folds and the predicted fold.
        names: names of the k features, to get the AUC of each by itself.
        inverse_penalty: inverse of the penalty on large weights, scikit-learn's `C`.
        seed: seed of the folds, and of the subsample of a side with more than `MAX_IMAGES`.

    Returns:
        `None` if a side has fewer than `MIN_IMAGES` radiographs or fewer than `MIN_PATIENTS` patients.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = _subsample(sides, np.random.default_rng(seed))
    features, sides, patients = features[rows], sides[rows], patients[rows].astype(str)
    num_patients = [len(np.unique(patients[sides == side])) for side in (0, 1)]
    if min(np.bincount(sides, minlength=2)) < MIN_IMAGES or min(num_patients) < MIN_PATIENTS:
        return None
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=1000)
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    scores = np.empty(len(rows))
    for train, held_out in folds.split(features, sides, patients):
        scores[held_out] = model.fit(features[train], sides[train]).decision_function(features[held_out])
    columns = zip(names, features.T if names else (), strict=True)
    alone = {name: _undirected_auc(float(roc_auc_score(sides, column))) for name, column in columns}
    return Separation(
        auc=float(roc_auc_score(sides, scores)),
        chance=_chance(*num_patients),
        rows=rows,
        scores=scores,
        alone=dict(sorted(alone.items(), key=lambda item: -item[1])),
    )


def shift_features(thumbnails: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    """Return the features that separate train from test: a coarse picture and the statistics.

    Args:
        thumbnails: `(n, side, side)` array of `uint8`, side even.
        statistics: `(n, k)` floats.

    Returns:
        `(n, side * side / 4 + k)` floats.
    """
    count, side, _ = thumbnails.shape
    coarse = thumbnails.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    return np.concatenate([coarse.reshape(count, side * side // 4), statistics], axis=1)


def _subsample(sides: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ascending rows, at most `MAX_IMAGES` of each side."""
    kept = [rng.permutation(np.flatnonzero(sides == side))[:MAX_IMAGES] for side in (0, 1)]
    return np.sort(np.concatenate(kept))


def _undirected_auc(auc: float) -> float:
    return max(auc, 1 - auc)


def _chance(first: int, second: int) -> float:
    """Return the upper end of the 95% range of a chance AUC (variance of the Mann-Whitney statistic)."""
    return min(1.0, 0.5 + 1.96 * math.sqrt((first + second + 1) / (12 * first * second)))
