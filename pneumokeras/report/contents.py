"""The contents of a report, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import Comparison, Evaluation
from pneumokeras.evaluation.charts import LabeledRocCurve
from pneumokeras.training.objectives import best_of

if TYPE_CHECKING:
    from pneumokeras.data.audit import Audit
    from pneumokeras.explain.sanity_checks import ExplanationChecks


@dataclass(frozen=True, eq=False)
class Examples:
    """Radiographs of the evaluated set that are shown.

    Attributes:
        names: `(k,)` strings, the path or key of each.
        images: `(k, height, width)` `uint8`, gray levels 0 to 255.
        labels: `(k,)` integers, 1 = PNEUMONIA.
        probabilities: `(k,)` floats in [0, 1], P(PNEUMONIA).
        heatmaps: `(k, height, width)` floats in [0, 1], of PNEUMONIA, or `None`.
        overlays: `(k, height, width, 3)` `uint8`, RGB, each heatmap over its radiograph, or `None`.

    Raises:
        DataError: if the lengths differ, or there are heatmaps without overlays or overlays without heatmaps.
    """

    names: Sequence[str]
    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    heatmaps: np.ndarray | None = None
    overlays: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Refuse parts of different lengths."""
        if (self.heatmaps is None) != (self.overlays is None):
            raise DataError("Expected heatmaps and overlays together, received one without the other.")
        parts = (self.names, self.images, self.labels, self.probabilities, self.heatmaps, self.overlays)
        _require_one_length([part for part in parts if part is not None])

    def __len__(self) -> int:
        """Return the number of radiographs."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Small pictures of those radiographs of the evaluated set that the page's table shows.

    Attributes:
        indices: `(k,)` integers into the evaluation's predictions, the most important first.
        images: `(k, height, width)` `uint8`, gray levels 0 to 255.
        heatmaps: `(k, rows, columns)` floats in [0, 1], of PNEUMONIA, as coarse as they come.

    Raises:
        DataError: if the lengths differ.
    """

    indices: np.ndarray
    images: np.ndarray
    heatmaps: np.ndarray

    def __post_init__(self) -> None:
        """Refuse parts of different lengths."""
        _require_one_length([self.indices, self.images, self.heatmaps])

    def __len__(self) -> int:
        """Return the number of radiographs."""
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class ComparedRuns:
    """Another run, compared with this one on the same radiographs.

    Attributes:
        comparison: the other run is first, this one second: differences are what this one adds.
        names: of the other run and of this one.
        disagreements: the first few radiographs of `comparison.disagreements`; `None` to show none.
    """

    comparison: Comparison
    names: tuple[str, str]
    disagreements: Examples | None = None

    @property
    def roc_curves(self) -> tuple[LabeledRocCurve, LabeledRocCurve]:
        """ROC curves of the other run and of this one, each with its chosen operating point."""
        first, second = (
            LabeledRocCurve(name, side.roc, side.roc_auc, side.chosen_result)
            for name, side in zip(self.names, (self.comparison.first, self.comparison.second), strict=True)
        )
        return first, second


@dataclass(frozen=True, eq=False)
class ReportContents:
    """What a report shows; the page leaves out the section of anything missing or empty.

    Attributes:
        title: the page's title.
        evaluation: scores, curves and operating points.
        class_counts: for each split, images by class.
        history: of the fit; one float an epoch for each score.
        kept_epoch: the epoch whose weights the model has, counted from 1; `None` if unknown.
        trials: of the search, each a row of trials.csv.
        objective: what trials and epochs were chosen by, one of `OBJECTIVES`.
        facts: how the run was made, by name: command, data, fingerprint, seed, weights, versions, times.
        notices: what a reader must know, a sentence each, such as "The weights are random."
        samples: random radiographs of both classes.
        predictions: random radiographs, shown with the predicted class.
        mistakes: the most confident mistakes, with or without heatmaps.
        explanations: radiographs with heatmaps and overlays.
        pictures: small pictures for the table of all radiographs.
        columns: further columns of that table, by name: `(n,)` strings in the predictions' order.
        audit: of the evaluated radiographs.
        explanation_checks: how far the heatmaps can be trusted.
        compared: another run on the same radiographs.
    """

    title: str
    evaluation: Evaluation
    class_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] | None = None
    kept_epoch: int | None = None
    trials: Sequence[Mapping[str, Any]] = ()
    objective: str = "val_auc"
    facts: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()
    samples: Examples | None = None
    predictions: Examples | None = None
    mistakes: Examples | None = None
    explanations: Examples | None = None
    pictures: Pictures | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    audit: Audit | None = None
    explanation_checks: ExplanationChecks | None = None
    compared: ComparedRuns | None = None

    def json(self) -> dict[str, Any]:
        """Return the content of report.json: the evaluation, and any comparison and checks."""
        content = self.evaluation.json()
        if self.compared is not None:
            content["comparison"] = self.compared.comparison.json()
        if self.explanation_checks is not None:
            content["explanation_checks"] = self.explanation_checks.json()
        return content

    @property
    def kept_is_best(self) -> bool:
        """Whether the epoch kept is the best by the objective; it is not if a recipe keeps the last one."""
        scores = (self.history or {}).get(self.objective, ())
        best = best_of(scores, self.objective)
        return self.kept_epoch is not None and best is not None and scores[self.kept_epoch - 1] == best

    @property
    def best_trial(self) -> int | None:
        """Number of the best trial by the objective; `None` if none was completed."""
        scores = {trial["trial"]: trial["score"] for trial in self.trials if trial["score"] is not None}
        best = best_of(scores.values(), self.objective)
        return next((number for number, score in scores.items() if score == best), None)


def _require_one_length(parts: Sequence[Sequence[Any] | np.ndarray]) -> None:
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise DataError(f"Expected one entry for each radiograph in each array, received lengths {lengths}.")
