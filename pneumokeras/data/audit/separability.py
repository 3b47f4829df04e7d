"""How well linear classifiers tell what they ought not to: the class from the exposure, train from test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FOLDS = 5
MIN_IMAGES, MIN_PATIENTS = 20, FOLDS
"""Of each side; fewer would give a figure of chance."""

MAX_IMAGES = 5_000
"""Of each side; of more, as many are drawn, so that the time stays bounded."""


@dataclass(frozen=True, eq=False)
class Separation:
    """How well a linear classifier tells two sides apart, in cross-validation that keeps patients whole.

    Attributes:
        auc: area under the ROC curve in [0, 1]; 0.5 is chance.
        chance: what `auc` reaches in one of 40 cases where there is nothing to tell, given so many patients.
        rows: `(n,)` integers, the radiographs it was measured on.
        scores: `(n,)` floats, out of fold; the higher, the more like the second side.
        alone: AUC of each feature by itself, at least 0.5, the most telling first; empty without names.
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
    strength: float = 1.0,
    seed: int = 0,
) -> Separation | None:
    """Tell side 1 from side 0 by logistic regression on standardized features.

    Args:
        features: `(n, k)` floats.
        sides: `(n,)` integers, 0 or 1.
        patients: `(n,)` strings; a patient is never in the fold that is predicted and in those learned from.
        names: of the k features, if their own AUC is wanted.
        strength: inverse of the penalty on large weights.
        seed: of the folds, and of the draw where a side has more than `MAX_IMAGES`.

    Returns:
        `None` where a side has under `MIN_IMAGES` radiographs or under `MIN_PATIENTS` patients.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = _drawn(sides, np.random.default_rng(seed))
    features, sides, patients = features[rows], sides[rows], patients[rows].astype(str)
    people = [len(np.unique(patients[sides == side])) for side in (0, 1)]
    if min(np.bincount(sides, minlength=2)) < MIN_IMAGES or min(people) < MIN_PATIENTS:
        return None
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    scores = np.empty(len(rows))
    for learned, held_out in folds.split(features, sides, patients):
        scores[held_out] = model.fit(features[learned], sides[learned]).decision_function(features[held_out])
    columns = zip(names, features.T if names else (), strict=True)
    alone = {name: _either_way(float(roc_auc_score(sides, column))) for name, column in columns}
    return Separation(
        auc=float(roc_auc_score(sides, scores)),
        chance=_chance(*people),
        rows=rows,
        scores=scores,
        alone=dict(sorted(alone.items(), key=lambda item: -item[1])),
    )


def shift_features(thumbnails: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    """What train and test are told apart by: a coarse picture and the statistics of the whole one.

    Args:
        thumbnails: `(n, side, side)` array of `uint8`, side even.
        statistics: `(n, k)` floats.

    Returns:
        `(n, side * side / 4 + k)` floats.
    """
    count, side, _ = thumbnails.shape
    coarse = thumbnails.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    return np.concatenate([coarse.reshape(count, side * side // 4), statistics], axis=1)


def _drawn(sides: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows in order, at most `MAX_IMAGES` of each side."""
    kept = [rng.permutation(np.flatnonzero(sides == side))[:MAX_IMAGES] for side in (0, 1)]
    return np.sort(np.concatenate(kept))


def _either_way(auc: float) -> float:
    return max(auc, 1 - auc)


def _chance(first: int, second: int) -> float:
    """Upper end of the 95 % range of a chance AUC, by the variance of the Mann-Whitney statistic."""
    return min(1.0, 0.5 + 1.96 * math.sqrt((first + second + 1) / (12 * first * second)))
