"""Names and order of scores, names of operating points, and number formats, for figures, pages and texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pneumokeras.evaluation.types import Interval, OperatingPoint

POINT_SCORES = (
    "sensitivity",
    "specificity",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "npv",
    "f1",
    "mcc",
)
"""The scores at an operating point, in the order of every table."""

CARD_SCORES = ("sensitivity", "specificity", "balanced_accuracy", "precision", "npv")
"""Those of them that a model card shows."""

POINT_LABELS = {
    "default": "default threshold",
    "validation": "chosen on validation",
    "oracle": "chosen on these radiographs, not achievable",
}
SCALING_NAMES = {"none": "unscaled", "temperature": "temperature scaling", "platt": "Platt scaling"}
POLICY_AIMS = {"sensitivity": "specificity", "youden": "Youden index"}
SHORT_NAMES = {"roc_auc": "ROC AUC", "brier": "Brier score", "npv": "NPV", "f1": "F1", "mcc": "MCC"}


def score_name(key: str) -> str:
    """Return a score's name for a reader, such as `balanced accuracy` for `balanced_accuracy`."""
    return SHORT_NAMES.get(key, key.replace("_", " "))


def point_label(name: str) -> str:
    """Return what legends and tables call an operating point; one without a label goes by its name."""
    return POINT_LABELS.get(name, name)


def describe_point(point: OperatingPoint) -> str:
    """Return the threshold, where it was chosen and by which rule, in one line."""
    parts = [
        f"threshold {format_threshold(point.threshold)}",
        point.chosen_on if point.policy is None else f"chosen on {point.chosen_on}",
    ]
    if point.policy is not None:
        parts.append(f"highest {POLICY_AIMS.get(point.policy, score_name(point.policy))}")
    if point.sensitivity_floor is not None:
        parts.append(f"sensitivity at least {point.sensitivity_floor:g}")
    if point.images is not None:
        parts.append(f"{point.images} images")
    return ", ".join(parts)


def one_class_warning(point: OperatingPoint, counts: Sequence[int], class_names: tuple[str, str]) -> str:
    """Return a sentence if an operating point tells no radiographs apart; nothing if it does.

    Args:
        point: the operating point.
        counts: its tn, fp, fn and tp; those of one class alone say nothing.
        class_names: names of class 0 and class 1.
    """
    tn, fp, fn, tp = counts
    has_both_classes = tn + fp and fn + tp
    if not has_both_classes or (tn + fn and fp + tp):
        return ""
    return (
        f"At the threshold {format_threshold(point.threshold)} every radiograph is predicted "
        f"{class_names[int(tp > 0)]}: it tells none of them apart."
    )


def capitalized(text: str) -> str:
    """Return a text with its first letter in upper case and all others as they are."""
    return text[:1].upper() + text[1:]


def format_estimate(interval: Interval, *, signed: bool = False) -> str:
    """Return an estimate such as `0.971`, or `+0.971` if signed; `undefined` if it is."""
    if math.isnan(interval.estimate):
        return "undefined"
    return f"{interval.estimate:+.3f}" if signed else f"{interval.estimate:.3f}"


def format_range(interval: Interval, *, signed: bool = False) -> str:
    """Return the ends of an interval such as `0.955 to 0.984`; nothing if the estimate is undefined."""
    if math.isnan(interval.estimate):
        return ""
    if math.isnan(interval.low):
        return "no interval"
    sign = "+" if signed else ""
    return f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}"


def format_p_value(p_value: float) -> str:
    """Return `p < 0.001`, `p = 0.043` or `p undefined`."""
    if math.isnan(p_value):
        return "p undefined"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def format_threshold(threshold: float) -> str:
    """Return a threshold with up to four significant digits, such as `0.3172`."""
    return f"{threshold:.4g}"


def format_count(count: int) -> str:
    """Return a number of images or patients, such as `1,214`."""
    return f"{count:,}"


def format_share(share: float) -> str:
    """Return a share in percent, such as `62.5%`."""
    return f"{share:.1%}"
