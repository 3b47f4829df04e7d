"""From predictions to everything a report says of them: figures with intervals, curves, operating points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.arguments import check_prevalence, has_both_classes
from pneumokeras.evaluation.bootstrap import BOOTSTRAPPED_SCORES, HEADLINE_METRICS, bootstrapped_figures
from pneumokeras.evaluation.calibration import Calibration, calibration_of, fit_scalings
from pneumokeras.evaluation.delong import delong_interval
from pneumokeras.evaluation.intervals import patient_bootstrap, percentile_interval, proportion_interval
from pneumokeras.evaluation.net_benefit import net_benefit, predictive_values
from pneumokeras.evaluation.presentation import TextReport, evaluation_html, report_text, subgroup_lines
from pneumokeras.evaluation.subgroups import check_columns, results_by_subgroup
from pneumokeras.evaluation.thresholds import DEFAULT_POINT, SweptThreshold, oracle_point, sweep
from pneumokeras.evaluation.types import (
    Curve,
    Interval,
    Misclassified,
    NetBenefit,
    OperatingPoint,
    OperatingPointResult,
    Predictions,
    Subgroup,
    plain,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from pneumokeras.evaluation.displays.curves import (
        ConfusionMatrixDisplay,
        PrecisionRecallDisplay,
        RocCurveDisplay,
    )

REPORT_SCHEMA = 1


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How good a model's predictions of one set are.

    Attributes:
        split: which set, such as `"test"`.
        predictions: what was evaluated.
        operating_points: what happens at `default` (0.5), at each given point, and at `oracle`, chosen on
            these very predictions and so no result; without `oracle` where a class is missing.
        roc_auc: area under the ROC curve.
        roc_auc_delong: the same with DeLong's interval, patients allowed for.
        average_precision: of PNEUMONIA.
        brier: mean squared error of the probabilities.
        calibration_error: expected calibration error, 10 bins.
        calibration: reliability curve, Brier score in its parts, what scaling on validation would mend.
        roc: ROC curve.
        precision_recall: precision-recall curve.
        net_benefit: decision curve.
        sweep: what happens at 0.30 to 0.80 by 0.05.
        subgroups: results for each value of the columns given.
        patients: number of patients.
        prevalence: share of PNEUMONIA, in [0, 1].
        stated_prevalence: the share of PNEUMONIA, in (0, 1), that each operating point's `predictive_values`
            are for, if one was stated.
        run: the run folder's name, if there is one.
        data: the path of the radiographs, if they are not the run's own.
    """

    split: str
    predictions: Predictions
    operating_points: Mapping[str, OperatingPointResult]
    roc_auc: Interval
    roc_auc_delong: Interval
    average_precision: Interval
    brier: Interval
    calibration_error: Interval
    calibration: Calibration
    roc: Curve
    precision_recall: Curve
    net_benefit: NetBenefit
    sweep: tuple[SweptThreshold, ...]
    patients: int
    prevalence: float
    subgroups: tuple[Subgroup, ...] = ()
    stated_prevalence: float | None = None
    run: str | None = None
    data: str | None = None

    @property
    def chosen(self) -> str:
        """Name of the operating point to speak of first: `validation` if there is one, else `default`."""
        return "validation" if "validation" in self.operating_points else "default"

    @property
    def chosen_result(self) -> OperatingPointResult:
        """What happens at that operating point."""
        return self.operating_points[self.chosen]

    @property
    def headline(self) -> dict[str, Interval]:
        """ROC AUC, average precision, Brier score and calibration error, by name: they need no threshold."""
        return {name: getattr(self, name) for name in HEADLINE_METRICS}

    @property
    def description(self) -> str:
        """One line that says which radiographs were evaluated."""
        run = f"{self.run}, " if self.run else ""
        source = f" of {self.data}" if self.data else ""
        share = f"{self.prevalence:.1%} {self.predictions.class_names[1]}"
        images = f"{len(self.predictions)} radiographs of {self.patients} patients"
        return f"{run}{self.split}{source}: {images} ({share})"

    def json(self) -> dict[str, Any]:
        """The content of report.json: plain numbers and strings, `None` for what is undefined."""
        return {
            "schema": REPORT_SCHEMA,
            "run": self.run,
            "split": self.split,
            "data": self.data,
            "images": len(self.predictions),
            "patients": self.patients,
            "prevalence": self.prevalence,
            **{name: interval.json() for name, interval in self.headline.items()},
            "operating_points": {name: result.json() for name, result in self.operating_points.items()},
            "roc_auc_delong": self.roc_auc_delong.json(),
            "stated_prevalence": self.stated_prevalence,
            "calibration": self.calibration.json(),
            "net_benefit": plain(asdict(self.net_benefit)),
            "sweep": [plain(asdict(row)) for row in self.sweep],
            "subgroups": [subgroup.json() for subgroup in self.subgroups],
        }

    def report(self, point: str | None = None) -> TextReport:
        """Headline figures, scores and scikit-learn's report at one operating point, as a text.

        Args:
            point: name of the operating point; by default `chosen`.

        Raises:
            DataError: if there is no such point.
        """
        if point is None:
            point = self.chosen
        return TextReport(
            report_text(
                description=self.description,
                headline=self.headline,
                scalings=self.calibration.scalings,
                name=point,
                result=self._result(point),
                subgroups=subgroup_lines(self.subgroups, self.chosen),
                classification_report=self.classification_report(point),
            )
        )

    def classification_report(self, point: str = "default") -> str:
        """scikit-learn's classification report at one operating point; `nan` for what is undefined.

        Raises:
            DataError: if there is no such point.
        """
        called = self._result(point).point.calls(self.predictions.probabilities)
        return sklearn_metrics.classification_report(
            self.predictions.labels,
            called.astype(int),
            labels=[0, 1],
            target_names=self.predictions.class_names,
            zero_division=np.nan,
        )

    def misclassified(self, point: str = "default") -> Misclassified:
        """Which radiographs are called wrong at one operating point, the most confident mistake first.

        Raises:
            DataError: if there is no such point.
        """
        probabilities = self.predictions.probabilities
        called = self._result(point).point.calls(probabilities)
        positive = self.predictions.labels == 1
        rising = np.argsort(probabilities, kind="stable")
        falling = np.argsort(-probabilities, kind="stable")
        return Misclassified(
            false_negatives=rising[(positive & ~called)[rising]],
            false_positives=falling[(~positive & called)[falling]],
        )

    def rows(self) -> list[dict[str, Any]]:
        """Every figure with its interval, a row each.

        Each row has `subgroup` and `operating_point` (empty where a figure has none), `figure`, `estimate`,
        `low`, `high` and `method`; NaN is what is undefined.
        """
        figures: list[tuple[str, str, str, Interval]] = [
            ("", "", name, interval)
            for name, interval in {**self.headline, "roc_auc_delong": self.roc_auc_delong}.items()
        ]
        for point, result in self.operating_points.items():
            figures += [("", point, name, score) for name, score in result.scores.items()]
            if result.predictive_values is not None:
                stated = result.predictive_values
                figures += [
                    ("", point, f"{name} at prevalence {stated.prevalence:g}", getattr(stated, name))
                    for name in ("ppv", "npv")
                ]
        for subgroup in self.subgroups:
            whose = f"{subgroup.column}={subgroup.value}"
            figures.append((whose, "", "roc_auc_delong", subgroup.roc_auc))
            figures += [(whose, self.chosen, name, score) for name, score in subgroup.scores.items()]
        return [
            {"subgroup": whose, "operating_point": point, "figure": name, **asdict(interval)}
            for whose, point, name, interval in figures
        ]

    def frame(self) -> pandas.DataFrame:
        """`rows()` as a pandas table.

        Raises:
            DataError: if pandas is not installed; pneumokeras does without it.
        """
        try:
            import pandas
        except ImportError as error:
            raise DataError(
                "Expected pandas for a frame, which is not installed: pip install pandas."
                " rows() gives the same without it."
            ) from error
        return pandas.DataFrame(self.rows())

    def plot_roc(self, ax: Axes | None = None) -> RocCurveDisplay:
        """Draw the ROC curve with the operating points, into `ax` or a figure of its own.

        Raises:
            DataError: if a class is missing.
        """
        from pneumokeras.evaluation.displays.curves import RocCurveDisplay

        self._require_curves()
        return RocCurveDisplay(self.roc, self.roc_auc, self.operating_points).plot(ax)

    def plot_precision_recall(self, ax: Axes | None = None) -> PrecisionRecallDisplay:
        """Draw the precision-recall curve with the operating points, into `ax` or a figure of its own.

        Raises:
            DataError: if a class is missing.
        """
        from pneumokeras.evaluation.displays.curves import PrecisionRecallDisplay

        self._require_curves()
        return PrecisionRecallDisplay(
            self.precision_recall, self.average_precision, self.prevalence, self.operating_points
        ).plot(ax)

    def plot_confusion_matrix(
        self, point: str | None = None, ax: Axes | None = None
    ) -> ConfusionMatrixDisplay:
        """Draw the counts at one operating point, into `ax` or a figure of its own.

        Args:
            point: name of the operating point; by default `chosen`.
            ax: axes to draw into.

        Raises:
            DataError: if there is no such point.
        """
        from pneumokeras.evaluation.displays.curves import ConfusionMatrixDisplay

        result = self._result(self.chosen if point is None else point)
        title = f"Threshold {result.point.threshold:.4g}"
        return ConfusionMatrixDisplay(result, self.predictions.class_names, title).plot(ax)

    def __repr__(self) -> str:
        """One line: the set and its ROC AUC."""
        return f"<Evaluation of {self.split}: {len(self.predictions)} radiographs, ROC AUC {self.roc_auc}>"

    def _repr_html_(self) -> str:
        return evaluation_html(
            description=self.description,
            headline=self.headline,
            operating_points=self.operating_points,
            subgroups=subgroup_lines(self.subgroups, self.chosen),
        )

    def _require_curves(self) -> None:
        if not self.roc.x.size:
            raise DataError("Expected radiographs of both classes to draw a curve, received one class only.")

    def _result(self, point: str) -> OperatingPointResult:
        if point not in self.operating_points:
            raise DataError(
                f"Expected one of the operating points {list(self.operating_points)}, received {point!r}."
            )
        return self.operating_points[point]


def evaluate_predictions(
    predictions: Predictions,
    *,
    operating_points: Mapping[str, OperatingPoint] | None = None,
    split: str = "test",
    run: str | None = None,
    data: str | None = None,
    validation: Predictions | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    prevalence: float | None = None,
    seed: int = 0,
    replicates: int = 2000,
) -> Evaluation:
    """Evaluate a model's predictions of a labeled set, each figure with its 95 % interval.

    Args:
        predictions: at least one radiograph, with labels. If only one class is there, what needs both is NaN.
        operating_points: thresholds chosen elsewhere, by name, such as `validation`. `default` (0.5) is
            added, and where both classes are there `oracle`, chosen on these very predictions.
        split: which set this is, for the record.
        run: the run folder's name, for the record.
        data: the path of the radiographs, for the record, if they are not the run's own.
        validation: the same model's predictions of the validation split, to fit scalings on.
        columns: what divides the radiographs into subgroups, by name: `(n,)` values in the predictions'
            order.
        prevalence: share of PNEUMONIA, in (0, 1), to state predictive values at.
        seed: of the bootstrap over patients.
        replicates: how many bootstrap samples.

    Returns:
        `Evaluation`.

    Raises:
        DataError: if there are no labels, no radiographs, a given point takes a name that is not its own,
            validation lacks a class, a column has not one value for each radiograph, or the prevalence does
            not lie between 0 and 1.
    """
    y_true, probabilities = _labeled(predictions)
    columns = check_columns(columns or {}, len(predictions))
    if prevalence is not None:
        check_prevalence(prevalence)
    scalings = None if validation is None else fit_scalings(*_labeled(validation))
    points = _all_points(y_true, probabilities, operating_points or {}, split)
    patient_names, patients = np.unique(predictions.patients, return_inverse=True)
    replicated = patient_bootstrap(
        partial(bootstrapped_figures, y_true, probabilities, points),
        patients,
        replicates=replicates,
        rng=np.random.default_rng(seed),
    )
    headline = {
        name: percentile_interval(metric(y_true, probabilities), replicated[name])
        for name, metric in HEADLINE_METRICS.items()
    }
    evaluation = Evaluation(
        split=split,
        predictions=predictions,
        operating_points={
            name: _at_point(
                point,
                _scores(name, point, y_true, probabilities, patients, replicated),
                metrics.confusion_counts(y_true, probabilities, point.threshold),
                prevalence,
            )
            for name, point in points.items()
        },
        roc_auc=headline["roc_auc"],
        average_precision=headline["average_precision"],
        brier=headline["brier"],
        calibration_error=headline["calibration_error"],
        roc_auc_delong=delong_interval(y_true, probabilities, patients),
        calibration=calibration_of(y_true, probabilities, patients, scalings=scalings),
        roc=metrics.roc_curve(y_true, probabilities),
        precision_recall=metrics.precision_recall_curve(y_true, probabilities),
        net_benefit=net_benefit(y_true, probabilities),
        sweep=sweep(y_true, probabilities),
        patients=patient_names.size,
        prevalence=float(y_true.mean()),
        stated_prevalence=prevalence,
        run=run,
        data=data,
    )
    return replace(evaluation, subgroups=subgroup_results(evaluation, columns))


def subgroup_results(evaluation: Evaluation, columns: Mapping[str, np.ndarray]) -> tuple[Subgroup, ...]:
    """Evaluate each value of each column at the evaluation's chosen operating point.

    Args:
        evaluation: of the whole set.
        columns: as for `results_by_subgroup`.

    Returns:
        A subgroup for each value, columns in the order given, values sorted.

    Raises:
        DataError: if a column has not one value for each radiograph.
    """
    return results_by_subgroup(evaluation.predictions, evaluation.chosen_result.point, columns)


def _labeled(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    labels = predictions.require_labels()
    if not len(predictions):
        raise DataError("Expected at least one radiograph to evaluate, received none.")
    return labels, predictions.probabilities


def _all_points(
    y_true: np.ndarray, probabilities: np.ndarray, given: Mapping[str, OperatingPoint], split: str
) -> dict[str, OperatingPoint]:
    """`default`, the given points, `oracle`, in that order."""
    if "oracle" in given or given.get("default", DEFAULT_POINT) != DEFAULT_POINT:
        raise DataError(
            "Expected no operating point named 'oracle', and 'default' at 0.5 only; received "
            + ", ".join(f"{name!r} at {point.threshold:g}" for name, point in given.items())
            + ". Give it another name."
        )
    points = {"default": DEFAULT_POINT, **given}
    if has_both_classes(y_true):
        points["oracle"] = oracle_point(y_true, probabilities, split=split)
    return points


def _at_point(
    point: OperatingPoint,
    scores: Mapping[str, Interval],
    counts: metrics.ConfusionCounts[int],
    prevalence: float | None,
) -> OperatingPointResult:
    stated = None
    if prevalence is not None:
        stated = predictive_values(scores["sensitivity"], scores["specificity"], prevalence)
    return OperatingPointResult(point, *counts, scores=scores, predictive_values=stated)


def _scores(
    name: str,
    point: OperatingPoint,
    y_true: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    replicated: Mapping[str, np.ndarray],
) -> dict[str, Interval]:
    counts = metrics.confusion_counts(y_true, probabilities, point.threshold)
    return _proportions(y_true == 1, point.calls(probabilities), patients) | {
        score: percentile_interval(float(function(counts)), replicated[f"{name}/{score}"])
        for score, function in BOOTSTRAPPED_SCORES.items()
    }


def _proportions(positive: np.ndarray, called: np.ndarray, patients: np.ndarray) -> dict[str, Interval]:
    """The scores that are a share of images: of which images, and what is counted among them."""
    everyone = np.ones_like(positive)
    questions = {
        "accuracy": (everyone, called == positive),
        "sensitivity": (positive, called),
        "specificity": (~positive, ~called),
        "precision": (called, positive),
        "npv": (~called, ~positive),
    }
    return {
        name: proportion_interval(counted[among], patients[among])
        for name, (among, counted) in questions.items()
    }
