"""Which of the evaluated radiographs a report shows, and their pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import keras
import numpy as np

from pneumokeras.core.errors import one_line
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.evaluation import Evaluation, Predictions
from pneumokeras.explain.gradcam import METHOD, heatmap_function
from pneumokeras.explain.panels import PANELS_AT_ONCE, explain, read_panels
from pneumokeras.models.saving import ModelDescription, description_of
from pneumokeras.report.contents import Examples, Pictures
from pneumokeras.report.page_data import PICTURE_SIDES

SAMPLES_PER_CLASS = 4
PREDICTION_EXAMPLES = 8
MISTAKES_PER_KIND = 6
EXPLAINED_PER_OUTCOME = 2
DISAGREEMENTS = 12
PICTURES = 300
HEATMAP_SIDE = 40  # pixels, of the table's heatmaps: no feature map that is explained is much finer


def shown_examples(model: keras.Model, radiographs: RadiographSet, evaluation: Evaluation) -> dict[str, Any]:
    """All pictures of a report, by their names in `ReportContents`.

    Args:
        model: the run's.
        radiographs: the whole set, labeled.
        evaluation: of the model on it.

    Raises:
        DataError: if a radiograph cannot be read.
        ModelError: if the model cannot be explained.
    """
    description = description_of(model)
    return {
        "samples": samples(radiographs, evaluation, description),
        "predictions": predicted(radiographs, evaluation, description),
        "mistakes": mistakes(model, radiographs, evaluation),
        "explanations": explanations(model, radiographs, evaluation),
        "pictures": pictures(model, radiographs, evaluation),
    }


def samples(radiographs: RadiographSet, evaluation: Evaluation, description: ModelDescription) -> Examples:
    """Radiographs of both classes, drawn blindly."""
    rng = np.random.default_rng(0)
    labels = radiographs.require_labels()
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:SAMPLES_PER_CLASS] for label in (0, 1)]
    )
    return examples(radiographs, evaluation.predictions, description, chosen)


def predicted(radiographs: RadiographSet, evaluation: Evaluation, description: ModelDescription) -> Examples:
    """Radiographs drawn blindly, whatever they are called."""
    chosen = np.random.default_rng(1).permutation(len(radiographs))[:PREDICTION_EXAMPLES]
    return examples(radiographs, evaluation.predictions, description, chosen)


def mistakes(model: keras.Model, radiographs: RadiographSet, evaluation: Evaluation) -> Examples | None:
    """The most confident mistakes with their heatmaps, those missed first; `None` if there are none."""
    wrong = evaluation.misclassified(evaluation.chosen)
    chosen = np.concatenate(
        [wrong.false_negatives[:MISTAKES_PER_KIND], wrong.false_positives[:MISTAKES_PER_KIND]]
    )
    return _explained(model, radiographs, evaluation.predictions, chosen) if chosen.size else None


def explanations(model: keras.Model, radiographs: RadiographSet, evaluation: Evaluation) -> Examples:
    """Heatmaps of the most confident calls and mistakes."""
    probabilities, labels = evaluation.predictions.probabilities, radiographs.require_labels()
    wrong = evaluation.misclassified(evaluation.chosen)
    mistaken = np.concatenate([wrong.false_negatives, wrong.false_positives])
    right = np.setdiff1d(np.arange(len(radiographs)), mistaken)
    rising = right[np.argsort(probabilities[right], kind="stable")]
    outcomes = (
        rising[labels[rising] == 1][::-1],
        wrong.false_negatives,
        wrong.false_positives,
        rising[labels[rising] == 0],
    )
    chosen = np.concatenate([outcome[:EXPLAINED_PER_OUTCOME] for outcome in outcomes]).astype(int)
    return _explained(model, radiographs, evaluation.predictions, chosen)


def pictures(model: keras.Model, radiographs: RadiographSet, evaluation: Evaluation) -> Pictures:
    """Small pictures, with heatmaps, of the radiographs that tell most."""
    chosen = most_informative(evaluation, PICTURES)
    description = description_of(model)
    heatmaps_of = heatmap_function(model, method=METHOD)
    heatmaps = [
        _coarse(heatmap)
        for start in range(0, chosen.size, PANELS_AT_ONCE)
        for heatmap in heatmaps_of(
            radiographs.subset(chosen[start : start + PANELS_AT_ONCE]).pixels(
                description.image_size, pad=description.pad
            )
        )
    ]
    scale = PICTURE_SIDES[0] / max(description.image_size)
    height, width = (max(1, round(scale * side)) for side in description.image_size)
    images = radiographs.subset(chosen).pixels((height, width), pad=description.pad)
    return Pictures(chosen, images, np.stack(heatmaps))


def most_informative(evaluation: Evaluation, count: int) -> np.ndarray:
    """The radiographs that tell most of a model at its chosen operating point.

    The gravest mistakes, up to half of the number; those nearest the threshold, up to a quarter; the most
    confident of both classes in turn.

    Args:
        evaluation: of the whole set.
        count: how many at most.

    Returns:
        `(k,)` indices into the predictions, each once.
    """
    predictions = evaluation.predictions
    labels, probabilities = predictions.require_labels(), predictions.probabilities
    threshold = evaluation.operating_points[evaluation.chosen].point.threshold
    error = np.abs(labels - probabilities)
    gravest = np.argsort(-error, kind="stable")
    wrong = gravest[((probabilities >= threshold) != (labels == 1))[gravest]]
    nearest = np.argsort(np.abs(probabilities - threshold), kind="stable")
    surest = gravest[::-1]
    rank = np.empty(len(predictions), dtype=int)
    for label in (0, 1):
        rank[surest[labels[surest] == label]] = np.arange((labels == label).sum())
    in_turn = np.argsort(rank, kind="stable")
    ordered = dict.fromkeys([*wrong[: count // 2], *nearest[: count // 4], *in_turn])
    return np.array(list(ordered)[:count], dtype=int)


def examples(
    radiographs: RadiographSet, predictions: Predictions, description: ModelDescription, chosen: np.ndarray
) -> Examples:
    """Some radiographs with what is said of them.

    Args:
        radiographs: the whole set, labeled.
        predictions: of the same, in the same order.
        description: of the model, whose proportions the pictures have.
        chosen: `(k,)` indices of those to show.
    """
    images = read_panels(radiographs.subset(chosen), description.image_size, pad=description.pad)
    return Examples(
        names=[one_line(name.rpartition("/")[2]) for name in map(str, radiographs.names[chosen])],
        images=images,
        labels=radiographs.require_labels()[chosen],
        probabilities=predictions.probabilities[chosen],
    )


def _explained(
    model: keras.Model, radiographs: RadiographSet, predictions: Predictions, chosen: np.ndarray
) -> Examples:
    panels = explain(model, radiographs.subset(chosen))
    return replace(
        examples(radiographs, predictions, description_of(model), chosen),
        images=panels.images,
        heatmaps=panels.heatmaps,
        overlays=panels.overlays,
    )


def _coarse(heatmap: np.ndarray) -> np.ndarray:
    scale = min(1.0, HEATMAP_SIDE / max(heatmap.shape))
    shrunk = cv2.resize(heatmap, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.clip(shrunk, 0, 1)
