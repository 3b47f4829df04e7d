"""Value types of the evaluation: plain frozen dataclasses over NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError
from pneumokeras.core.former_names import former_attribute
from pneumokeras.core.frames import frame_of
from pneumokeras.core.html import table
from pneumokeras.core.words import number_of
from pneumokeras.evaluation.arguments import check_labels, check_probabilities, check_unit_interval

if TYPE_CHECKING:
    import pandas

_VALUES_SHOWN = 3
_ROWS_SHOWN = 20


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% interval.

    Attributes:
        estimate: the figure on the set itself; NaN where it is undefined (no image to divide by).
        low: lower end; NaN where there is no interval.
        high: upper end; NaN where there is no interval.
        method: how the ends were found: `"wilson"`, `"bootstrap"`, `"delong"`, `"newcombe"`,
            `"mover"` or `"hanley-mcneil"`.

    Example:
        >>> print(pk.Interval(0.971, 0.955, 0.984, "delong"))
        0.971 [0.955, 0.984]
        >>> pk.Interval(0.9, 0.8, float("nan"), "bootstrap").json()
        {'estimate': 0.9, 'low': 0.8, 'high': None, 'method': 'bootstrap'}
    """

    estimate: float
    low: float
    high: float
    method: str

    def __str__(self) -> str:
        """Return `0.971 [0.955, 0.984]`, or `undefined`."""
        if math.isnan(self.estimate):
            return "undefined"
        if math.isnan(self.low):
            return f"{self.estimate:.3f} [no interval]"
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def json(self) -> dict[str, Any]:
        """Return the four fields as report.json holds them, NaN as `None`."""
        return plain(asdict(self))


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """Predictions for a set of radiographs, in the set's own order; in a notebook they show as a table.

    `float(predictions)` is the probability of the only radiograph, if there is one.

    Attributes:
        names: `(n,)` strings, the path or key of each radiograph.
        patients: `(n,)` strings, the patient of each radiograph.
        labels: `(n,)` integers, 1 = PNEUMONIA, or `None` if the set is unlabeled.
        probabilities: `(n,)` floats in [0, 1], P(PNEUMONIA); kept as float64.
        class_names: the names of class 0 and class 1.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> predictions = pk.predict(model, pk.load_splits("chest_xray").test)
        >>> len(predictions) == len(predictions.probabilities)
        True
        >>> pk.Predictions(["a", "b"], ["p1", "p1"], [0, 1], [0.2, 0.7])
        <Predictions of 2 radiographs, P(PNEUMONIA) 0.2000, 0.7000>
    """

    names: np.ndarray
    patients: np.ndarray
    labels: np.ndarray | None
    probabilities: np.ndarray
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")

    def __post_init__(self) -> None:
        """Convert the fields to arrays and refuse those that do not match."""
        arrays = {
            "names": np.asarray(self.names, dtype=str),
            "patients": np.asarray(self.patients, dtype=str),
            "probabilities": check_probabilities(self.probabilities),
        }
        if self.labels is not None:
            arrays["labels"] = check_labels(self.labels)
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes.values())) > 1:
            received = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise DataError(f"Expected one entry per radiograph in each array, received {received}.")
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    def require_labels(self) -> np.ndarray:
        """Return the labels of a labeled set.

        Raises:
            DataError: if the set is unlabeled.
        """
        if self.labels is None:
            raise DataError(
                "Expected predictions with labels, received none."
                " Put the radiographs into one folder per class, or give the manifest a column 'label'."
            )
        return self.labels

    def rows(self) -> list[dict[str, Any]]:
        """Return `path`, `patient`, `label` (empty if unlabeled) and `probability` of each radiograph."""
        labels = (
            [""] * len(self)
            if self.labels is None
            else [self.class_names[label] for label in self.labels.tolist()]
        )
        columns = (self.names.tolist(), self.patients.tolist(), labels, self.probabilities.tolist())
        names = ("path", "patient", "label", "probability")
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def frame(self) -> pandas.DataFrame:
        """Return `rows()` as a pandas table.

        Raises:
            DataError: if pandas, an optional dependency, is not installed.
        """
        return frame_of(self.rows(), instead="rows()")

    def __len__(self) -> int:
        """Return the number of radiographs."""
        return self.probabilities.size

    def __float__(self) -> float:
        """Return the probability of the only radiograph.

        Raises:
            DataError: if there is not exactly one.
        """
        if len(self) != 1:
            raise DataError(
                f"Expected predictions of one radiograph. Received {len(self)}; see probabilities."
            )
        return float(self.probabilities[0])

    def __repr__(self) -> str:
        """Return one line with the first probabilities."""
        if len(self) == 1:
            return f"<Predictions of {self.names[0]}: P({self.class_names[1]}) {self.probabilities[0]:.4f}>"
        shown = ", ".join(f"{probability:.4f}" for probability in self.probabilities[:_VALUES_SHOWN])
        more = ", ..." if len(self) > _VALUES_SHOWN else ""
        return f"<Predictions of {len(self)} radiographs, P({self.class_names[1]}) {shown}{more}>"

    def _repr_html_(self) -> str:
        cells = [[*row.values()] for row in self.rows()[:_ROWS_SHOWN]]
        for row in cells:
            row[-1] = f"{row[-1]:.4f}"
        caption = f"P({self.class_names[1]}) of {number_of(len(self), 'radiograph')}"
        if len(self) > _ROWS_SHOWN:
            caption += f", the first {_ROWS_SHOWN}"
        return table(("path", "patient", "label", "probability"), cells, caption=caption)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and where it comes from: PNEUMONIA is predicted if and only if p >= threshold.

    Attributes:
        threshold: in [0, 1].
        chosen_on: `"fixed"`, `"val"`, or the evaluated split with the oracle's warning.
        policy: the rule that chose it, such as `"balanced_accuracy"`; `None` for a fixed one.
        sensitivity_floor: the least sensitivity the policy allowed, in [0, 1].
        images: how many images it was chosen on.

    Raises:
        SettingsError: if the threshold or the floor lies outside [0, 1].

    Example:
        >>> point = pk.OperatingPoint(0.3, chosen_on="val")
        >>> point.predicted_positive([0.1, 0.3, 0.8])
        array([False,  True,  True])
        >>> point.json()
        {'threshold': 0.3, 'chosen_on': 'val'}
    """

    threshold: float
    chosen_on: str = "fixed"
    policy: str | None = None
    sensitivity_floor: float | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        """Refuse a threshold or a floor outside [0, 1]."""
        check_unit_interval("threshold", self.threshold)
        if self.sensitivity_floor is not None:
            check_unit_interval("sensitivity_floor", self.sensitivity_floor)

    def predicted_positive(self, probabilities: ArrayLike) -> np.ndarray:
        """Return which radiographs are predicted PNEUMONIA: `(n,)` booleans for `(n,)` floats in [0, 1]."""
        return check_probabilities(probabilities) >= self.threshold

    calls = former_attribute("calls", "predicted_positive")

    def json(self) -> dict[str, Any]:
        """Return the fields that are set, as threshold.json and report.json hold them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of a ROC or precision-recall curve, each with its threshold.

    Attributes:
        x: `(k,)` floats: false positive rate (ROC) or recall (precision-recall).
        y: `(k,)` floats: true positive rate (ROC) or precision (precision-recall).
        thresholds: `(k,)` floats; infinite where no radiograph is predicted positive.
    """

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class PredictiveValues:
    """Positive and negative predictive value at one prevalence.

    Attributes:
        prevalence: share of PNEUMONIA, in (0, 1).
        ppv: positive predictive value: share of PNEUMONIA among the predicted positives.
        npv: negative predictive value: share of NORMAL among the predicted negatives.
    """

    prevalence: float
    ppv: Interval
    npv: Interval

    def json(self) -> dict[str, Any]:
        """Return the three fields as report.json holds them."""
        return plain(asdict(self))


@dataclass(frozen=True)
class OperatingPointResult:
    """Counts and scores at one operating point.

    Attributes:
        point: the operating point.
        tn, fp, fn, tp: numbers of images.
        scores: `accuracy`, `sensitivity`, `specificity`, `precision`, `npv` (Wilson) and
            `f1`, `balanced_accuracy`, `mcc` (bootstrap over patients), each an `Interval`.
        predictive_values: at the stated prevalence; `None` if none was stated.
    """

    point: OperatingPoint
    tn: int
    fp: int
    fn: int
    tp: int
    scores: Mapping[str, Interval] = field(default_factory=dict)
    predictive_values: PredictiveValues | None = None

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """`tn`, `fp`, `fn` and `tp`."""
        return self.tn, self.fp, self.fn, self.tp

    def json(self) -> dict[str, Any]:
        """Return the point, its counts and its scores as report.json holds them."""
        counts = dict(zip(("tn", "fp", "fn", "tp"), self.counts, strict=True))
        scores = {name: score.json() for name, score in self.scores.items()}
        stated = (
            {} if self.predictive_values is None else {"predictive_values": self.predictive_values.json()}
        )
        return self.point.json() | counts | scores | stated


@dataclass(frozen=True, eq=False)
class Misclassified:
    """Misclassified radiographs at one operating point, the most confident mistake first.

    Attributes:
        false_negatives: `(fn,)` indices of PNEUMONIA predicted negative, lowest probability first.
        false_positives: `(fp,)` indices of NORMAL predicted positive, highest probability first.
    """

    false_negatives: np.ndarray
    false_positives: np.ndarray


def plain(value: Any) -> Any:
    """Return `value` with arrays and tuples as lists and NaN, which JSON lacks, as `None`."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(part) for part in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class ReliabilityBin:
    """The radiographs whose probabilities fall into one bin.

    Attributes:
        low: lower end of the bin, inclusive.
        high: upper end, exclusive except in the last bin.
        images: number of radiographs.
        mean_probability: mean of their probabilities; NaN in an empty bin.
        observed: share of PNEUMONIA among them, its interval adjusted for patients; NaN in an empty bin.
    """

    low: float
    high: float
    images: int
    mean_probability: float
    observed: Interval


@dataclass(frozen=True, eq=False)
class NetBenefit:
    """A decision curve: net benefit at each threshold, in true positives per image.

    Attributes:
        thresholds: `(k,)` floats in [0, 1): the probability of PNEUMONIA from which treatment pays.
        model: `(k,)` floats, at most the prevalence: treating where p >= threshold.
        treat_all: `(k,)` floats: treating every radiograph as PNEUMONIA.
        treat_none: `(k,)` zeros: treating none.
    """

    thresholds: np.ndarray
    model: np.ndarray
    treat_all: np.ndarray
    treat_none: np.ndarray


@dataclass(frozen=True)
class Subgroup:
    """Results for the radiographs with one value in one column.

    Attributes:
        column: the column's name, such as `subtype`.
        value: such as `bacteria`.
        images: number of radiographs.
        patients: number of patients.
        positives: number of radiographs that are PNEUMONIA.
        roc_auc: with DeLong's interval; in a column that divides the classes themselves, against all
            radiographs of the other class.
        scores: `sensitivity` and `specificity` at the chosen operating point (Wilson), NaN where the
            subgroup has no PNEUMONIA or no NORMAL.
        small: whether one of its classes comes from fewer than `SMALL_SUBGROUP` patients: read with care.
    """

    column: str
    value: str
    images: int
    patients: int
    positives: int
    roc_auc: Interval
    scores: Mapping[str, Interval]
    small: bool

    def json(self) -> dict[str, Any]:
        """Return the fields as report.json holds them."""
        return plain(asdict(self))


@dataclass(frozen=True)
class PairedTest:
    """A paired test of two models on the same radiographs.

    Attributes:
        difference: the second's figure minus the first's, with its 95% interval.
        statistic: standard normal if the two models are equally good; NaN where it is undefined.
        p_value: two-sided, in [0, 1]; NaN where it is undefined.
        method: the test, such as `"delong"`.
    """

    difference: Interval
    statistic: float
    p_value: float
    method: str


@dataclass(frozen=True)
class McNemar:
    """McNemar's test: which of two models classifies each image correctly.

    Attributes:
        both_right: number of images that both models classify correctly.
        only_first_right: number that only the first does.
        only_second_right: number that only the second does.
        both_wrong: number that neither does.
        p_value: two-sided, in (0, 1].
        method: `"exact"`.
    """

    both_right: int
    only_first_right: int
    only_second_right: int
    both_wrong: int
    p_value: float
    method: str = "exact"
