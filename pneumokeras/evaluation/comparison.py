"""Comparison of two models on the same radiographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.core.former_names import former_arguments
from pneumokeras.core.words import some_names
from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.arguments import check_labels, patients_or_images
from pneumokeras.evaluation.bootstrap import REPLICATES, replicated_headline
from pneumokeras.evaluation.delong import delong_test
from pneumokeras.evaluation.evaluation import Evaluation
from pneumokeras.evaluation.intervals import patient_bootstrap, percentile_interval
from pneumokeras.evaluation.presentation import TextReport, comparison_html, comparison_text
from pneumokeras.evaluation.types import Interval, McNemar, PairedTest, Predictions, plain
from pneumokeras.evaluation.vocabulary import describe_point

COMPARISON_SCHEMA = 1
SCORES = {
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "f1": metrics.f1,
    "mcc": metrics.mcc,
}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Comparison of two models on the same radiographs; differences are the second's minus the first's.

    Attributes:
        first: evaluation of the first model, the reference.
        second: evaluation of the second model, its predictions in the first's order.
        roc_auc: paired DeLong test.
        differences: of `roc_auc`, `average_precision`, `brier`, `calibration_error`, and of `sensitivity`,
            `specificity`, `accuracy`, `balanced_accuracy`, `f1`, `mcc` at each model's chosen operating
            point; intervals by bootstrap over patients, both models on the same resamples.
        mcnemar: McNemar's test of the predicted classes at each model's chosen operating point.
        disagreements: `(k,)` indices of the radiographs whose predicted classes differ, the largest
            difference of probabilities first.

    Example:
        >>> test = pk.load_splits("chest_xray").test
        >>> evaluation = pk.evaluate(pk.load_model("model.keras"), test)
        >>> comparison = pk.compare(evaluation, evaluation)
        >>> comparison.roc_auc.p_value, comparison.disagreements.size
        (1.0, 0)
    """

    first: Evaluation
    second: Evaluation
    roc_auc: PairedTest
    differences: Mapping[str, Interval]
    mcnemar: McNemar
    disagreements: np.ndarray

    def json(self) -> dict[str, Any]:
        """Return plain numbers and strings, `None` for undefined figures."""
        return {
            "schema": COMPARISON_SCHEMA,
            **{
                name: {
                    "run": side.run,
                    "split": side.split,
                    "operating_point": side.chosen_result.point.json(),
                }
                for name, side in (("first", self.first), ("second", self.second))
            },
            "images": len(self.first.predictions),
            "patients": self.first.patients,
            "roc_auc": plain(asdict(self.roc_auc)),
            "differences": {name: interval.json() for name, interval in self.differences.items()},
            "mcnemar": plain(asdict(self.mcnemar)),
            "disagreements": self.first.predictions.names[self.disagreements].tolist(),
        }

    def report(self) -> TextReport:
        """Return both tests in three lines: the ROC AUCs', and the predicted classes'."""
        runs = self.first.run, self.second.run
        first, second = ("the first", "the second") if None in runs or runs[0] == runs[1] else map(str, runs)
        return TextReport(
            comparison_text(
                first=first,
                second=second,
                images=len(self.first.predictions),
                roc_auc=self.roc_auc,
                mcnemar=self.mcnemar,
                disagreements=self.disagreements.size,
            )
        )

    def __repr__(self) -> str:
        """Return one line with the number of radiographs and the difference of the ROC AUCs."""
        return (
            f"<Comparison on {len(self.first.predictions)} radiographs,"
            f" difference of ROC AUC {self.roc_auc.difference} by DeLong>"
        )

    def _repr_html_(self) -> str:
        first, second = ({**side.headline, **side.chosen_result.scores} for side in (self.first, self.second))
        return comparison_html(
            sides={
                name: f"{side.description}; {describe_point(side.chosen_result.point)}"
                for name, side in (("first", self.first), ("second", self.second))
            },
            figures={
                name: (first[name], second[name], difference) for name, difference in self.differences.items()
            },
            roc_auc=self.roc_auc,
            mcnemar=self.mcnemar,
        )


def compare(
    first: Evaluation, second: Evaluation, *, seed: int = 0, replicates: int = REPLICATES
) -> Comparison:
    """Compare two models evaluated on the same radiographs.

    Args:
        first: evaluation of the first model, the reference.
        second: evaluation of the second model on the same radiographs, in any order.
        seed: seed of the bootstrap over patients.
        replicates: number of bootstrap samples, at least 1.

    Returns:
        `Comparison`.

    Raises:
        DataError: if the two were not evaluated on the same radiographs; the message says what differs.
        SettingsError: if one is no evaluation, or `replicates` is less than 1.

    Example:
        >>> test = pk.load_splits("chest_xray").test
        >>> first = pk.evaluate(pk.load_model("model.keras"), test)
        >>> second = pk.evaluate(pk.load_run("tuner_runs/first").model, test)
        >>> pk.compare(first, second)
        <Comparison on ... radiographs, difference of ROC AUC ...>
    """
    for side, name in ((first, "first"), (second, "second")):
        if not isinstance(side, Evaluation):
            raise SettingsError(
                f"Expected `{name}` as an evaluation, such as evaluate(model, splits.test). "
                f"Received {type(side).__name__}.",
                parameter=name,
            )
    second = replace(second, predictions=require_same_set(first.predictions, second.predictions))
    sides = (first, second)
    y_true, patients = first.predictions.require_labels(), first.predictions.patients
    probabilities = [side.predictions.probabilities for side in sides]
    points = [side.chosen_result.point for side in sides]
    predicted = [
        point.predicted_positive(values) for point, values in zip(points, probabilities, strict=True)
    ]
    difference = partial(
        _differences, y_true, list(zip(probabilities, (point.threshold for point in points), strict=True))
    )
    replicated = patient_bootstrap(
        difference, patients, replicates=replicates, rng=np.random.default_rng(seed)
    )
    differ = np.flatnonzero(predicted[0] != predicted[1])
    gap = np.abs(probabilities[1] - probabilities[0])[differ]
    return Comparison(
        first=first,
        second=second,
        roc_auc=delong_test(y_true, probabilities[0], probabilities[1], patients),
        differences={
            name: percentile_interval(float(values[0]), replicated[name])
            for name, values in difference(np.ones((1, len(first.predictions)))).items()
        },
        mcnemar=mcnemar(y_true, predicted[0], predicted[1], patients),
        disagreements=differ[np.argsort(-gap, kind="stable")],
    )


@former_arguments(calls_a="predicted_a", calls_b="predicted_b")
def mcnemar(
    y_true: ArrayLike, predicted_a: ArrayLike, predicted_b: ArrayLike, patients: ArrayLike | None = None
) -> McNemar:
    """Test whether two models misclassify equally often: McNemar's exact test, over patients.

    If the models are equally good, they can be exchanged, for all radiographs of a patient at once. So for
    each patient the number of images that only the first model classifies correctly, minus the number that
    only the second does, has its sign flipped by a fair coin, and the p-value is the exact probability of a
    total at least as far from 0 as the observed one. With one radiograph per patient this is McNemar's exact
    binomial test; the usual large-sample version for clusters is Durkalski's.

    Args:
        y_true: `(n,)` integers, 1 = PNEUMONIA.
        predicted_a: `(n,)` booleans, which radiographs the first model predicts positive.
        predicted_b: `(n,)` booleans, the same for the second model.
        patients: `(n,)` the patient of each radiograph; by default each is a patient of its own.

    Raises:
        DataError: if the lengths differ or a label or prediction is neither 0 nor 1.

    References: McNemar (1947), Psychometrika 12(2); Fisher (1935), The Design of Experiments, section 21
    (flipping signs); Durkalski, Palesch, Lipsitz & Rust (2003), Statistics in Medicine 22(15).
    """
    labels, first, second = check_labels(y_true), check_labels(predicted_a), check_labels(predicted_b)
    groups = patients_or_images(patients, labels.size)
    if not labels.size == first.size == second.size == groups.size:
        sizes = f"{labels.size}, {first.size}, {second.size} and {groups.size}"
        raise DataError(f"Expected a label, two predictions and a patient per image, received {sizes}.")
    first_right, second_right = first == labels, second == labels
    balance = first_right.astype(int) - second_right
    _, patient_index = np.unique(groups, return_inverse=True)
    return McNemar(
        both_right=int((first_right & second_right).sum()),
        only_first_right=int((first_right & ~second_right).sum()),
        only_second_right=int((~first_right & second_right).sum()),
        both_wrong=int((~first_right & ~second_right).sum()),
        p_value=_sign_flip_p_value(np.bincount(patient_index, weights=balance).astype(int)),
    )


def require_same_set(first: Predictions, second: Predictions) -> Predictions:
    """Return the second model's predictions in the first's order.

    Args:
        first: labeled predictions that determine the order.
        second: labeled predictions for the same radiographs.

    Raises:
        DataError: if class names, number, names, patients or labels of the radiographs differ, or a name that
            occurs twice makes their order ambiguous; the message says what differs.
    """
    if first.class_names != second.class_names:
        raise _different(f"classes {first.class_names} and {second.class_names}")
    if len(first) != len(second):
        raise _different(f"{len(first)} radiographs and {len(second)}")
    if not np.array_equal(first.names, second.names):
        only_first, only_second = (
            list((Counter(a.names.tolist()) - Counter(b.names.tolist())).elements())
            for a, b in ((first, second), (second, first))
        )
        if only_first:
            raise _different(
                f"only the first has {some_names(only_first)}, only the second {some_names(only_second)}"
            )
        if np.unique(first.names).size < len(first):
            raise _different("some names occur twice and not in the same order")
        order = np.argsort(second.names)[np.argsort(np.argsort(first.names))]
        second = replace(
            second,
            names=second.names[order],
            patients=second.patients[order],
            labels=None if second.labels is None else second.labels[order],
            probabilities=second.probabilities[order],
        )
    for what, mine, theirs in (
        ("labels", first.require_labels(), second.require_labels()),
        ("patients", first.patients, second.patients),
    ):
        other = np.flatnonzero(mine != theirs)
        if other.size:
            raise _different(f"the {what} of {some_names(first.names[other].tolist())}")
    return second


def _different(what: str) -> DataError:
    return DataError(
        f"Expected two evaluations of the same radiographs; what differs: {what}."
        " Evaluate both on the same data and split."
    )


def _differences(
    y_true: np.ndarray, sides: list[tuple[np.ndarray, float]], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the second model's figures minus the first's, `(replicates,)` floats each."""
    first, second = (_figures(y_true, *side, weights) for side in sides)
    return {name: second[name] - first[name] for name in first}


def _figures(
    y_true: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    counts = metrics.weighted_confusion_counts(y_true, probabilities, threshold, weights)
    return replicated_headline(y_true, probabilities, weights) | {
        name: score(counts) for name, score in SCORES.items()
    }


def _sign_flip_p_value(balance: np.ndarray) -> float:
    """Return the exact probability that the sum, under random signs, lies at least as far from 0."""
    sizes, patients = np.unique(np.abs(balance[balance != 0]), return_counts=True)
    probabilities = np.ones(1)
    for size, count in zip(sizes.tolist(), patients.tolist(), strict=True):
        flips = np.zeros(2 * size * count + 1)
        flips[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        probabilities = np.convolve(probabilities, flips)
    totals = np.arange(probabilities.size) - probabilities.size // 2
    return min(1.0, float(probabilities[np.abs(totals) >= abs(balance.sum())].sum()))
