"""Choose the radiographs that a report shows, and make their pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import one_line
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.evaluation import Evaluation, Predictions
from pneumokeras.explain.gradcam import METHOD, heatmap_function
from pneumokeras.explain.panels import PANELS_AT_ONCE, panels_of, read_panels
from pneumokeras.models.saving import ModelDescription
from pneumokeras.report.contents import Examples, Pictures
from pneumokeras.report.page_data import PICTURE_SIDES, shrunk

SAMPLES_PER_CLASS = 4
PREDICTION_EXAMPLES = 8
MISTAKES_PER_KIND = 6
EXPLAINED_PER_OUTCOME = 2
DISAGREEMENTS = 12
PICTURES = 300
HEATMAP_SIDE = 40  # pixels, in the table; the feature maps that are explained are hardly finer


def shown_examples(
    model: keras.Model, radiographs: RadiographSet, evaluation: Evaluation, description: ModelDescription
) -> dict[str, Any]:
    """Return all pictures of a report, by their names in `ReportContents`.

    Args:
        model: the run's model.
        radiographs: the whole set, labeled.
        evaluation: of the model on it.
        description: of the model.

    Raises:
        DataError: if a radiograph cannot be read.
        ModelError: if the model cannot be explained.
    """
    heatmaps_of = heatmap_function(model, method=METHOD)

    def shown(chosen: np.ndarray) -> Examples:
        return examples(radiographs, evaluation.predictions, description, chosen)

    def explained(chosen: np.ndarray) -> Examples:
        panels = panels_of(heatmaps_of, description, radiographs.subset(chosen))
        return replace(
            shown(chosen), images=panels.images, heatmaps=panels.heatmaps, overlays=panels.overlays
        )

    mistakes = most_confident_mistakes(evaluation)
    return {
        "samples": shown(random_by_class(evaluation)),
        "predictions": shown(random_radiographs(evaluation)),
        "mistakes": explained(mistakes) if mistakes.size else None,
        "explanations": explained(most_confident_by_outcome(evaluation)),
        "pictures": pictures(heatmaps_of, radiographs, most_informative(evaluation, PICTURES), description),
    }


def random_by_class(evaluation: Evaluation) -> np.ndarray:
    """Draw up to `SAMPLES_PER_CLASS` radiographs of either class; return their indices."""
    rng = np.random.default_rng(0)
    labels = evaluation.predictions.require_labels()
    return np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:SAMPLES_PER_CLASS] for label in (0, 1)]
    )


def random_radiographs(evaluation: Evaluation) -> np.ndarray:
    """Draw up to `PREDICTION_EXAMPLES` radiographs; return their indices."""
    return np.random.default_rng(1).permutation(len(evaluation.predictions))[:PREDICTION_EXAMPLES]


def most_confident_mistakes(evaluation: Evaluation) -> np.ndarray:
    """Return indices of up to `MISTAKES_PER_KIND` misses, then of as many false alarms."""
    wrong = evaluation.misclassified()
    return np.concatenate(
        [wrong.false_negatives[:MISTAKES_PER_KIND], wrong.false_positives[:MISTAKES_PER_KIND]]
    )


def most_confident_by_outcome(evaluation: Evaluation) -> np.ndarray:
    """Return indices of the most confident radiographs of each outcome, at most `EXPLAINED_PER_OUTCOME`."""
    predictions = evaluation.predictions
    probabilities, labels = predictions.probabilities, predictions.require_labels()
    wrong = evaluation.misclassified()
    mistaken = np.concatenate([wrong.false_negatives, wrong.false_positives])
    right = np.setdiff1d(np.arange(len(predictions)), mistaken)
    rising = right[np.argsort(probabilities[right], kind="stable")]
    outcomes = (
        rising[labels[rising] == 1][::-1],
        wrong.false_negatives,
        wrong.false_positives,
        rising[labels[rising] == 0],
    )
    return np.concatenate([outcome[:EXPLAINED_PER_OUTCOME] for outcome in outcomes]).astype(int)


def pictures(
    heatmaps_of: Callable[[np.ndarray], np.ndarray],
    radiographs: RadiographSet,
    chosen: np.ndarray,
    description: ModelDescription,
) -> Pictures:
    """Make small pictures of some radiographs, with their heatmaps.

    Args:
        heatmaps_of: makes the heatmaps, as `heatmap_function` returns it.
        radiographs: the whole set.
        chosen: `(k,)` indices of those to show, at least one.
        description: of the model, whose proportions the pictures have.
    """
    radiographs = radiographs.at_depth(description.bits)
    heatmaps = [
        np.clip(shrunk(heatmap, HEATMAP_SIDE), 0, 1)
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
    """Return indices of the radiographs that say most about a model at its chosen operating point.

    The gravest mistakes come first, up to half of `count`; then those nearest the threshold, up to a quarter;
    then the most confident predictions of both classes in turn.

    Args:
        evaluation: of the whole set.
        count: maximum number of radiographs.

    Returns:
        `(k,)` indices into the predictions, each once.
    """
    predictions = evaluation.predictions
    labels, probabilities = predictions.require_labels(), predictions.probabilities
    threshold = evaluation.chosen_result.point.threshold
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
    """Read some radiographs and put them together with their predictions.

    Args:
        radiographs: the whole set, labeled.
        predictions: of the same, in the same order.
        description: of the model, whose proportions the pictures have.
        chosen: `(k,)` indices of those to show.
    """
    shown = radiographs.at_depth(description.bits).subset(chosen)
    images = read_panels(shown, description.image_size, pad=description.pad)
    return Examples(
        names=[one_line(name.rpartition("/")[2]) for name in map(str, radiographs.names[chosen])],
        images=images,
        labels=radiographs.require_labels()[chosen],
        probabilities=predictions.probabilities[chosen],
    )
