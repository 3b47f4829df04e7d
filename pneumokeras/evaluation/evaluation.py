"""Evaluation of predictions: figures with intervals, curves, operating points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.core.frames import frame_of
from pneumokeras.core.words import number_of
from pneumokeras.evaluation import metrics
from pneumokeras.evaluation.arguments import check_columns, check_prevalence, has_both_classes
from pneumokeras.evaluation.bootstrap import (
    BOOTSTRAPPED_SCORES,
    HEADLINE_METRICS,
    REPLICATES,
    bootstrapped_figures,
)
from pneumokeras.evaluation.calibration import Calibration, calibration_of, fit_scalings
from pneumokeras.evaluation.delong import delong_interval
from pneumokeras.evaluation.intervals import patient_bootstrap, percentile_interval, proportion_interval
from pneumokeras.evaluation.net_benefit import net_benefit, predictive_values
from pneumokeras.evaluation.presentation import (
    TextReport,
    classification_text,
    evaluation_html,
    report_text,
    subgroup_lines,
)
from pneumokeras.evaluation.subgroups import results_by_subgroup
from pneumokeras.evaluation.thresholds import (
    DEFAULT_POINT,
    SweptThreshold,
    as_operating_point,
    as_operating_points,
    oracle_point,
    sweep,
)
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
from pneumokeras.evaluation.vocabulary import format_share, format_threshold, one_class_warning

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from pneumokeras.evaluation.displays.curves import (
        ConfusionMatrixDisplay,
        PrecisionRecallDisplay,
        RocCurveDisplay,
    )

REPORT_SCHEMA = 1

Point = str | float | OperatingPoint
"""An operating point, by its name, by its threshold, or itself."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Evaluation of a model's predictions for one set; in a notebook it shows itself as a table.

    Attributes:
        split: name of the set, such as `"test"`.
        predictions: the predictions evaluated.
        operating_points: results at `default` (0.5), at each given point, and at `oracle`, which is chosen on
            these very predictions and therefore not achievable; no `oracle` if a class is missing.
        roc_auc: area under the ROC curve.
        roc_auc_delong: the same with DeLong's interval, adjusted for patients.
        average_precision: average precision of PNEUMONIA.
        brier: mean squared error of the probabilities.
        calibration_error: expected calibration error, 10 bins.
        calibration: reliability curve, decomposition of the Brier score, scores after scaling on validation.
        roc: ROC curve.
        precision_recall: precision-recall curve.
        net_benefit: decision curve.
        sweep: scores at thresholds from 0.30 to 0.80 by 0.05.
        subgroups: results for each value of the given columns.
        patients: number of patients.
        prevalence: share of PNEUMONIA, in [0, 1].
        stated_prevalence: the share of PNEUMONIA, in (0, 1), of each operating point's `predictive_values`;
            `None` if none was stated.
        run: name of the run folder; `None` if there is none.
        data: path of the radiographs; `None` if they are the run's own.

    Example:
        >>> evaluation = pk.evaluate(pk.load_model("model.keras"), pk.load_splits("chest_xray").test)
        >>> evaluation.operating_points["default"].point
        OperatingPoint(threshold=0.5, chosen_on='fixed', ...)
        >>> evaluation.roc_auc
        Interval(estimate=..., low=..., high=..., method='bootstrap')
        >>> print(evaluation.report())
        test: ... radiographs of ... patients (... PNEUMONIA)
        ...
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
        """Name of the operating point shown by default: `validation` if there is one, otherwise `default`."""
        return "validation" if "validation" in self.operating_points else "default"

    @property
    def chosen_result(self) -> OperatingPointResult:
        """Result at the operating point `chosen`."""
        return self.operating_points[self.chosen]

    @property
    def headline(self) -> dict[str, Interval]:
        """ROC AUC, average precision, Brier score and calibration error, by name: they need no threshold."""
        return {name: getattr(self, name) for name in HEADLINE_METRICS}

    @property
    def description(self) -> str:
        """One line that states which radiographs were evaluated."""
        run = f"{self.run}, " if self.run else ""
        source = f" of {self.data}" if self.data else ""
        share = f"{format_share(self.prevalence)} {self.predictions.class_names[1]}"
        images = number_of(len(self.predictions), "radiograph")
        patients = number_of(self.patients, "patient")
        return f"{run}{self.split}{source}: {images} of {patients} ({share})"

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence if the operating point `chosen` predicts every radiograph as one class."""
        result = self.chosen_result
        return tuple(
            filter(None, [one_class_warning(result.point, result.counts, self.predictions.class_names)])
        )

    def json(self) -> dict[str, Any]:
        """Return the content of report.json: plain numbers and strings, `None` for undefined figures."""
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

    def report(self, point: Point | None = None) -> TextReport:
        """Return the headline figures, scores and scikit-learn's report at one operating point as text.

        Args:
            point: name of the operating point, or a threshold in [0, 1]; by default `chosen`.

        Raises:
            SettingsError: if there is no such operating point, or the threshold lies outside [0, 1].
        """
        result = self._result(point)
        return TextReport(
            report_text(
                description=self.description,
                headline=self.headline,
                scalings=self.calibration.scalings,
                name=self._named(point)[0],
                result=result,
                warning=one_class_warning(result.point, result.counts, self.predictions.class_names),
                subgroups=subgroup_lines(self.subgroups, self.chosen),
                classification_report=self.classification_report(point),
            )
        )

    def classification_report(self, point: Point | None = None) -> str:
        """Return scikit-learn's classification report at one operating point.

        Undefined scores are `nan`, and so are averages over them.

        Args:
            point: name of the operating point, or a threshold in [0, 1]; by default `chosen`.

        Raises:
            SettingsError: if there is no such operating point, or the threshold lies outside [0, 1].
        """
        predicted = self._named(point)[1].predicted_positive(self.predictions.probabilities)
        labels = self.predictions.require_labels()
        return classification_text(labels, predicted, self.predictions.class_names)

    def misclassified(self, point: Point | None = None) -> Misclassified:
        """Return the misclassified radiographs at one operating point, the most confident mistake first.

        Args:
            point: name of the operating point, or a threshold in [0, 1]; by default `chosen`.

        Raises:
            SettingsError: if there is no such operating point, or the threshold lies outside [0, 1].
        """
        probabilities = self.predictions.probabilities
        predicted = self._named(point)[1].predicted_positive(probabilities)
        positive = self.predictions.labels == 1
        rising = np.argsort(probabilities, kind="stable")
        falling = np.argsort(-probabilities, kind="stable")
        return Misclassified(
            false_negatives=rising[(positive & ~predicted)[rising]],
            false_positives=falling[(~positive & predicted)[falling]],
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return every figure with its interval, one row each.

        Each row has `subgroup` and `operating_point` (empty if the figure has none), `figure`, `estimate`,
        `low`, `high` and `method`; undefined values are NaN.
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
            group = f"{subgroup.column}={subgroup.value}"
            figures.append((group, "", "roc_auc_delong", subgroup.roc_auc))
            figures += [(group, self.chosen, name, score) for name, score in subgroup.scores.items()]
        return [
            {"subgroup": group, "operating_point": point, "figure": name, **asdict(interval)}
            for group, point, name, interval in figures
        ]

    def frame(self) -> pandas.DataFrame:
        """Return `rows()` as a pandas table.

        Raises:
            DataError: if pandas, an optional dependency, is not installed.
        """
        return frame_of(self.rows(), instead="rows()")

    def plot_roc(self, ax: Axes | None = None, **kwargs: Any) -> RocCurveDisplay:
        """Draw the ROC curve with the operating points into `ax` or a new figure; `kwargs` go to the curve.

        Raises:
            DataError: if a class is missing.
        """
        from pneumokeras.evaluation.displays.curves import RocCurveDisplay

        self._require_curves()
        return RocCurveDisplay(self.roc, self.roc_auc, self.operating_points).plot(ax, **kwargs)

    def plot_precision_recall(self, ax: Axes | None = None, **kwargs: Any) -> PrecisionRecallDisplay:
        """Draw the precision-recall curve with the operating points; arguments are as for `plot_roc`.

        Raises:
            DataError: if a class is missing.
        """
        from pneumokeras.evaluation.displays.curves import PrecisionRecallDisplay

        self._require_curves()
        return PrecisionRecallDisplay(
            self.precision_recall, self.average_precision, self.prevalence, self.operating_points
        ).plot(ax, **kwargs)

    def plot_confusion_matrix(
        self, point: Point | None = None, ax: Axes | None = None, **kwargs: Any
    ) -> ConfusionMatrixDisplay:
        """Draw the confusion matrix at one operating point into `ax` or a new figure.

        Args:
            point: name of the operating point, or a threshold in [0, 1]; by default `chosen`.
            ax: axes to draw into; by default those of a new figure.
            **kwargs: for `imshow`.

        Raises:
            SettingsError: if there is no such operating point, or the threshold lies outside [0, 1].
        """
        from pneumokeras.evaluation.displays.curves import ConfusionMatrixDisplay

        result = self._result(point)
        title = f"Threshold {format_threshold(result.point.threshold)}"
        display = ConfusionMatrixDisplay(result, class_names=self.predictions.class_names, title=title)
        return display.plot(ax, **kwargs)

    def __repr__(self) -> str:
        """Return one line with the set and its ROC AUC."""
        images = number_of(len(self.predictions), "radiograph")
        return f"<Evaluation of {self.split}: {images}, ROC AUC {self.roc_auc}>"

    def _repr_html_(self) -> str:
        return evaluation_html(
            description=self.description,
            headline=self.headline,
            operating_points=self.operating_points,
            warnings=self.warnings,
            subgroups=subgroup_lines(self.subgroups, self.chosen),
        )

    def _require_curves(self) -> None:
        if not self.roc.x.size:
            raise DataError("Expected radiographs of both classes to draw a curve, received one class only.")

    def _named(self, point: Point | None) -> tuple[str, OperatingPoint]:
        """Return an operating point with its name; a new threshold is its own name, `None` means `chosen`."""
        if point is None:
            return self.chosen, self.chosen_result.point
        if not isinstance(point, str):
            given = as_operating_point(point, parameter="point")
            same = (
                (name, result.point)
                for name, result in self.operating_points.items()
                if result.point.threshold == given.threshold
            )
            return next(same, (format_threshold(given.threshold), given))
        if point not in self.operating_points:
            raise SettingsError(
                f"Expected `point` as one of {list(self.operating_points)}, or as a threshold in [0, 1]. "
                f"Received {point!r}.",
                parameter="point",
            )
        return point, self.operating_points[point].point

    def _result(self, point: Point | None) -> OperatingPointResult:
        """Return the result at an operating point, evaluated now if it is new."""
        name, at = self._named(point)
        known = self.operating_points.get(name)
        if known is not None and known.point == at:
            return known
        evaluated = evaluate_predictions(
            self.predictions, operating_points={"given": at}, prevalence=self.stated_prevalence
        )
        return evaluated.operating_points["given"]


def evaluate_predictions(
    predictions: Predictions,
    *,
    operating_points: Mapping[str, OperatingPoint | float] | None = None,
    split: str = "test",
    run: str | None = None,
    data: str | None = None,
    validation: Predictions | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    prevalence: float | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Evaluation:
    """Evaluate a model's predictions of a labeled set, each figure with its 95% interval.

    Args:
        predictions: at least one radiograph, with labels. If a class is missing, figures that need both
            are NaN.
        operating_points: operating points or thresholds chosen elsewhere, by name, such as `validation`.
            `default` (0.5) is added, and if both classes are present `oracle`, chosen on these very
            predictions.
        split: name of the set, for the record.
        run: name of the run folder, for the record.
        data: path of the radiographs, for the record, if they are not the run's own.
        validation: the same model's predictions for the validation split, to fit scalings to.
        columns: `(n,)` values by name, in the predictions' order, that divide the radiographs into
            subgroups.
        prevalence: share of PNEUMONIA, in (0, 1), for which to state predictive values.
        seed: seed of the bootstrap over patients.
        replicates: number of bootstrap samples, at least 1.

    Returns:
        `Evaluation`.

    Raises:
        DataError: if there are no labels or no radiographs, or validation lacks a class.
        SettingsError: if a given operating point is named `oracle`, or `default` at another threshold than
            0.5, a column does not have one value for each radiograph, the prevalence does not lie between 0
            and 1, or `replicates` is less than 1.
    """
    y_true, probabilities = _labeled(predictions)
    columns = check_columns(columns or {}, len(predictions))
    check_prevalence(prevalence)
    scalings = None if validation is None else fit_scalings(*_labeled(validation))
    points = _all_points(y_true, probabilities, as_operating_points(operating_points), split)
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
            name: _result_at(
                point,
                y_true,
                probabilities,
                patients,
                replicated={score: replicated[f"{name}/{score}"] for score in BOOTSTRAPPED_SCORES},
                prevalence=prevalence,
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
        evaluation: evaluation of the whole set.
        columns: by name, `(n,)` values in the predictions' order; see `results_by_subgroup`.

    Returns:
        A subgroup for each value, columns in the order given, values sorted.

    Raises:
        SettingsError: if a column does not have one value for each radiograph.
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
    """Return `default`, the given points and `oracle`, in that order."""
    if "oracle" in given or given.get("default", DEFAULT_POINT) != DEFAULT_POINT:
        received = ", ".join(f"{name!r} at {point.threshold:g}" for name, point in given.items())
        raise SettingsError(
            "Expected no operating point named 'oracle', and 'default' at 0.5 only."
            f" Received {received}. Choose another name in `operating_points`.",
            parameter="operating_points",
        )
    points = {"default": DEFAULT_POINT, **given}
    if has_both_classes(y_true):
        points["oracle"] = oracle_point(y_true, probabilities, split=split)
    return points


def _result_at(
    point: OperatingPoint,
    y_true: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    *,
    replicated: Mapping[str, np.ndarray],
    prevalence: float | None,
) -> OperatingPointResult:
    counts = metrics.confusion_counts(y_true, probabilities, point.threshold)
    scores = _proportions(y_true == 1, point.predicted_positive(probabilities), patients) | {
        score: percentile_interval(float(function(counts)), replicated[score])
        for score, function in BOOTSTRAPPED_SCORES.items()
    }
    stated = None
    if prevalence is not None:
        stated = predictive_values(scores["sensitivity"], scores["specificity"], prevalence)
    return OperatingPointResult(point, *counts, scores=scores, predictive_values=stated)


def _proportions(positive: np.ndarray, predicted: np.ndarray, patients: np.ndarray) -> dict[str, Interval]:
    """Return the scores that are proportions: of which images, and which are counted among them."""
    proportions = {
        "accuracy": (np.ones_like(positive), predicted == positive),
        "sensitivity": (positive, predicted),
        "specificity": (~positive, ~predicted),
        "precision": (predicted, positive),
        "npv": (~predicted, ~positive),
    }
    return {
        name: proportion_interval(counted[among], patients[among])
        for name, (among, counted) in proportions.items()
    }
