"""What a report shows, gathered by whoever knows the run, the model and the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import Comparison, Evaluation, OperatingPointResult

if TYPE_CHECKING:
    from pneumokeras.data.audit import Audit
    from pneumokeras.explain.sanity_checks import ExplanationChecks


@dataclass(frozen=True, eq=False)
class Examples:
    """Some radiographs of the evaluated set, to be shown.

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
        """Refuse what does not fit together."""
        if (self.heatmaps is None) != (self.overlays is None):
            raise DataError("Expected heatmaps and overlays together, received one without the other.")
        parts = (self.names, self.images, self.labels, self.probabilities, self.heatmaps, self.overlays)
        _require_one_length([part for part in parts if part is not None])

    def __len__(self) -> int:
        """Number of radiographs."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Small pictures of those radiographs of the evaluated set that the page's table shows.

    Attributes:
        indices: `(k,)` integers into the evaluation's predictions, the one to be kept first first.
        images: `(k, height, width)` `uint8`, gray levels 0 to 255.
        heatmaps: `(k, rows, columns)` floats in [0, 1], of PNEUMONIA, as coarse as is wanted.

    Raises:
        DataError: if the lengths differ.
    """

    indices: np.ndarray
    images: np.ndarray
    heatmaps: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        _require_one_length([self.indices, self.images, self.heatmaps])

    def __len__(self) -> int:
        """Number of radiographs."""
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class ComparedRuns:
    """Another run beside this one, on the same radiographs.

    Attributes:
        comparison: the other run's evaluation first, this one's second: differences are what this one adds.
        names: of the other run and of this one.
        disagreements: the first few radiographs of `comparison.disagreements`, to be shown; empty if none
            may be.
    """

    comparison: Comparison
    names: tuple[str, str]
    disagreements: Examples | None = None


@dataclass(frozen=True, eq=False)
class ReportContents:
    """What a report shows. What is missing or empty is left out of the page, its section and all.

    Attributes:
        title: the page's title, such as the run's name.
        evaluation: figures, curves and operating points.
        class_counts: for each split, images by class.
        history: of the fit; for each figure one float an epoch.
        kept_epoch: the one whose weights the model has, counted from 1, if anybody noted it.
        trials: of the search, each a row as in trials.csv: `TRIAL_COLUMNS`, then its hyperparameters.
        objective: what trials and epochs were chosen by; of `val_loss` the lowest is best, else the highest.
        facts: how it was made, by name: command, data, fingerprint, seed, weights, versions, times.
        notices: what a reader must know, such as "The weights are random."
        samples: random radiographs of both classes.
        predictions: radiographs drawn blindly, to be shown with what they are called.
        mistakes: the most confident mistakes, with heatmaps if there are any.
        explanations: radiographs with heatmaps and overlays.
        pictures: what the table of all radiographs shows.
        columns: what else is known of each radiograph, by name: `(n,)` strings in the predictions' order.
        audit: of the evaluated radiographs.
        explanation_checks: how far heatmaps can be believed.
        compared: another run on the same radiographs.
        model: what the model says of itself, as its archive's `pneumokeras.json` does, for the model card.
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
    model: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The content of report.json: the evaluation's, and what was compared and checked if anything was."""
        content = self.evaluation.json()
        if self.compared is not None:
            content["comparison"] = self.compared.comparison.json()
        if self.explanation_checks is not None:
            content["explanation_checks"] = self.explanation_checks.json()
        return content

    @property
    def chosen(self) -> str:
        """Name of the operating point the page speaks of, the evaluation's own choice."""
        return self.evaluation.chosen

    @property
    def chosen_result(self) -> OperatingPointResult:
        """What happens at that operating point."""
        return self.evaluation.operating_points[self.chosen]

    @property
    def kept_is_best(self) -> bool:
        """Whether the epoch kept is the best by the objective, as it is unless a recipe keeps the last."""
        scores = np.asarray((self.history or {}).get(self.objective, ()), dtype=np.float64)
        if self.kept_epoch is None or np.isnan(scores).all():
            return False
        best = np.nanmin(scores) if self.objective == "val_loss" else np.nanmax(scores)
        return bool(scores[self.kept_epoch - 1] == best)

    @property
    def best_trial(self) -> int | None:
        """Number of the trial that is best by the objective, if any was completed."""
        scores = {trial["trial"]: trial["score"] for trial in self.trials if trial["score"] is not None}
        best = min if self.objective == "val_loss" else max
        return best(scores, key=scores.__getitem__) if scores else None


def _require_one_length(parts: Sequence[Sequence[Any] | np.ndarray]) -> None:
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise DataError(f"Expected one entry for each radiograph in each array, received lengths {lengths}.")
