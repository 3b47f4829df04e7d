"""What evaluation takes in and gives out: plain frozen dataclasses over NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation.arguments import check_labels, check_probabilities


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        estimate: the figure on the set itself; NaN where it is undefined (no image to divide by).
        low: lower end.
        high: upper end.
        method: how the ends were found: `"wilson"`, `"bootstrap"`, `"delong"`, `"newcombe"`,
            `"mover"` or `"hanley-mcneil"`.
    """

    estimate: float
    low: float
    high: float
    method: str

    def __str__(self) -> str:
        """`0.971 [0.955, 0.984]`, or `undefined`."""
        if math.isnan(self.estimate):
            return "undefined"
        if math.isnan(self.low):
            return f"{self.estimate:.3f} [no interval]"
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def json(self) -> dict[str, Any]:
        """The four fields; NaN, which JSON does not have, becomes `None`."""
        return plain(asdict(self))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of each radiograph of a set, in the set's own order.

    Attributes:
        names: `(n,)` strings, the path or key of each radiograph.
        patients: `(n,)` strings, whose radiograph it is.
        labels: `(n,)` integers, 1 = PNEUMONIA, or `None` where nobody said.
        probabilities: `(n,)` floats in [0, 1], P(PNEUMONIA); kept as float64.
        class_names: the names of class 0 and class 1.

    Raises:
        DataError: if the lengths differ, a probability lies outside [0, 1] or a label is neither 0 nor 1.
    """

    names: np.ndarray
    patients: np.ndarray
    labels: np.ndarray | None
    probabilities: np.ndarray
    class_names: tuple[str, str] = ("NORMAL", "PNEUMONIA")

    def __post_init__(self) -> None:
        """Turn what came into arrays, once, and refuse what does not fit together."""
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
        """The labels.

        Raises:
            DataError: if nobody said.
        """
        if self.labels is None:
            raise DataError(
                "Expected predictions with labels, received none."
                " Put the radiographs into one folder per class, or give the manifest a column 'label'."
            )
        return self.labels

    def __len__(self) -> int:
        """Number of radiographs."""
        return self.probabilities.size


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and where it comes from: PNEUMONIA is called if and only if p >= threshold.

    Attributes:
        threshold: in [0, 1].
        chosen_on: `"fixed"`, `"val"`, or the evaluated split with the oracle's warning.
        policy: the rule that chose it, such as `"balanced_accuracy"`; `None` for a fixed one.
        sensitivity_floor: the least sensitivity the policy allowed, in [0, 1].
        images: how many images it was chosen on.

    Raises:
        DataError: if the threshold or the floor lies outside [0, 1].
    """

    threshold: float
    chosen_on: str = "fixed"
    policy: str | None = None
    sensitivity_floor: float | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        """Refuse a threshold or floor that no probability or sensitivity can be compared with."""
        for name in ("threshold", "sensitivity_floor"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise DataError(f"Expected {name} in [0, 1], received {value}.")

    def calls(self, probabilities: ArrayLike) -> np.ndarray:
        """Which radiographs are called PNEUMONIA: `(n,)` booleans for `(n,)` floats in [0, 1]."""
        return check_probabilities(probabilities) >= self.threshold

    def json(self) -> dict[str, Any]:
        """The fields that are set, as threshold.json and report.json hold them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of a curve with the threshold at which each is reached.

    Attributes:
        x: `(k,)` floats: false positive rate (ROC) or recall (precision-recall).
        y: `(k,)` floats: true positive rate (ROC) or precision (precision-recall).
        thresholds: `(k,)` floats; infinite where nothing is called.
    """

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class PredictiveValues:
    """What a call and a clearance are worth at one prevalence.

    Attributes:
        prevalence: share of PNEUMONIA, in (0, 1).
        ppv: positive predictive value: share of calls that are right.
        npv: negative predictive value: share of clearances that are right.
    """

    prevalence: float
    ppv: Interval
    npv: Interval

    def json(self) -> dict[str, Any]:
        """The three fields, as report.json holds them."""
        return plain(asdict(self))


@dataclass(frozen=True)
class OperatingPointResult:
    """What happens at one operating point.

    Attributes:
        point: the operating point.
        tn, fp, fn, tp: counts of images.
        scores: `accuracy`, `sensitivity`, `specificity`, `precision`, `npv` (Wilson) and
            `f1`, `balanced_accuracy`, `mcc` (bootstrap over patients), each an `Interval`.
        predictive_values: at the stated prevalence, if one was stated.
    """

    point: OperatingPoint
    tn: int
    fp: int
    fn: int
    tp: int
    scores: Mapping[str, Interval] = field(default_factory=dict)
    predictive_values: PredictiveValues | None = None

    def json(self) -> dict[str, Any]:
        """The point, its counts and its scores, as report.json holds them."""
        counts = {"tn": self.tn, "fp": self.fp, "fn": self.fn, "tp": self.tp}
        scores = {name: score.json() for name, score in self.scores.items()}
        stated = (
            {} if self.predictive_values is None else {"predictive_values": self.predictive_values.json()}
        )
        return self.point.json() | counts | scores | stated


@dataclass(frozen=True, eq=False)
class Misclassified:
    """Where a model is wrong at one operating point, the most confident mistake first.

    Attributes:
        false_negatives: `(fn,)` indices into the predictions: PNEUMONIA not called, lowest probability first.
        false_positives: `(fp,)` indices: NORMAL called PNEUMONIA, highest probability first.
    """

    false_negatives: np.ndarray
    false_positives: np.ndarray


def plain(value: Any) -> Any:
    """`value` as JSON has it: arrays as lists, NaN, which JSON does not have, as `None`."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(part) for part in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class ReliabilityBin:
    """The radiographs whose probabilities fall into one bin.

    Attributes:
        low: lower end of the bin, which belongs to it.
        high: upper end, which belongs to the next bin; the last one's to itself.
        images: how many radiographs.
        mean_probability: mean of their probabilities; NaN without any.
        observed: share of PNEUMONIA among them, patients allowed for; NaN without any.
    """

    low: float
    high: float
    images: int
    mean_probability: float
    observed: Interval


@dataclass(frozen=True, eq=False)
class NetBenefit:
    """A decision curve: what calling by the model is worth at each threshold, in true positives per image.

    Attributes:
        thresholds: `(k,)` floats in [0, 1): the probability at which PNEUMONIA is worth calling.
        model: `(k,)` floats, at most the prevalence: the net benefit of calling where p >= threshold.
        treat_all: `(k,)` floats: of calling every radiograph.
        treat_none: `(k,)` zeros: of calling none.
    """

    thresholds: np.ndarray
    model: np.ndarray
    treat_all: np.ndarray
    treat_none: np.ndarray


@dataclass(frozen=True)
class Subgroup:
    """The radiographs with one value in one column.

    Attributes:
        column: the column's name, such as `subtype`.
        value: such as `bacteria`.
        images: how many radiographs have it.
        patients: of how many patients.
        positives: how many of the radiographs are PNEUMONIA.
        roc_auc: with DeLong's interval; in a column that divides the classes themselves, against all
            radiographs of the other class.
        scores: `sensitivity` and `specificity` at the chosen operating point (Wilson), NaN where the
            subgroup has no PNEUMONIA or no NORMAL.
        small: whether a class it has comes from fewer than `SMALL_SUBGROUP` patients: read with care.
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
        """The fields, as report.json holds them."""
        return plain(asdict(self))


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same radiographs.

    Attributes:
        difference: what the second has over the first, with its 95 % interval.
        statistic: standard normal if the two are equally good; NaN where it is undefined.
        p_value: two-sided, in [0, 1]; NaN where it is undefined.
        method: the test, such as `"delong"`.
    """

    difference: Interval
    statistic: float
    p_value: float
    method: str


@dataclass(frozen=True)
class McNemar:
    """Whose calls are right, and whether the two models' mistakes differ in number.

    Attributes:
        both_right: images that both call rightly.
        only_first_right: images that only the first does.
        only_second_right: images that only the second does.
        both_wrong: images that neither does.
        p_value: two-sided, in (0, 1].
        method: `"exact"`.
    """

    both_right: int
    only_first_right: int
    only_second_right: int
    both_wrong: int
    p_value: float
    method: str = "exact"
