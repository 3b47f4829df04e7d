"""An evaluation as text and as one HTML table: plain, offline, escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from pneumokeras.evaluation.types import Interval, OperatingPoint, OperatingPointResult

if TYPE_CHECKING:
    from pneumokeras.evaluation.calibration import Calibration
    from pneumokeras.evaluation.comparison import Comparison
    from pneumokeras.evaluation.evaluation import Evaluation

INTERVALS_NOTE = (
    "Brackets hold 95 % intervals, patients with several radiographs allowed for: Wilson for proportions,"
    " bootstrap over patients for the rest."
)
STATED_NOTE = "Predictive values at another prevalence than the set's: MOVER-R from both intervals."
SUBGROUPS_NOTE = "ROC AUC of subgroups: DeLong."
FEW_PATIENTS = "few patients: read with care"
TABLE_SCORES = (
    "sensitivity",
    "specificity",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "npv",
    "f1",
    "mcc",
)
POLICY_AIMS = {"sensitivity": "specificity", "youden": "Youden index"}
SHORT_NAMES = {"roc_auc": "ROC AUC", "brier": "Brier score", "npv": "NPV", "f1": "F1", "mcc": "MCC"}


@dataclass(frozen=True)
class TextReport:
    """A text that shows as itself, at a prompt and in a notebook.

    Attributes:
        text: the report.
    """

    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def __repr__(self) -> str:
        """Return the text, so that a prompt shows it."""
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"


def report_text(evaluation: Evaluation, name: str) -> str:
    """Headline figures, then the scores and scikit-learn's report at the operating point `name`."""
    result = evaluation.operating_points[name]
    subgroups = _subgroup_lines(evaluation)
    return "\n".join(
        [
            set_line(evaluation),
            "",
            *_aligned(headline(evaluation)),
            *_scaling_lines(evaluation.calibration),
            "",
            f"Operating point {name!r}: {describe_point(result.point)}",
            f"TN {result.tn}, FP {result.fp}, FN {result.fn}, TP {result.tp}",
            "",
            *_aligned((score_name(key), score) for key, score in result.scores.items()),
            *_aligned(stated_values(result)),
            "",
            *([*subgroups, ""] if subgroups else []),
            evaluation.classification_report(name),
            _notes(evaluation),
        ]
    )


def evaluation_html(evaluation: Evaluation) -> str:
    """One compact table: headline figures above, a row for each operating point below."""
    figures = " · ".join(f"{label} {interval}" for label, interval in headline(evaluation))
    stated = [label for label, _ in stated_values(evaluation.chosen_result)]
    header = ["operating point", "threshold", "chosen on", *map(score_name, TABLE_SCORES), *stated]
    rows = [
        [
            f"{name} (not achievable)" if name == "oracle" else name,
            f"{result.point.threshold:.4g}",
            result.point.chosen_on,
            *(str(result.scores[score]) for score in TABLE_SCORES),
            *(str(interval) for _, interval in stated_values(result)),
        ]
        for name, result in evaluation.operating_points.items()
    ]
    return (
        "<table>"
        f"<caption>{escape(set_line(evaluation))}<br>{escape(figures)}</caption>"
        f"<thead>{_html_row(header, 'th')}</thead>"
        f"<tbody>{''.join(_html_row(row, 'td') for row in rows)}</tbody>"
        f"</table>{_paragraphs(_subgroup_lines(evaluation))}<p>{escape(_notes(evaluation))}</p>"
    )


def stated_values(result: OperatingPointResult) -> list[tuple[str, Interval]]:
    """Predictive values at the stated prevalence; nothing if none was stated."""
    stated = result.predictive_values
    if stated is None:
        return []
    return [(f"PPV at {stated.prevalence:.3g}", stated.ppv), (f"NPV at {stated.prevalence:.3g}", stated.npv)]


def comparison_html(comparison: Comparison) -> str:
    """A table of the differences, then whose calls are right."""
    test, calls = comparison.roc_auc, comparison.mcnemar
    rows = [
        [
            score_name(name),
            *(str(_figure(side, name)) for side in (comparison.first, comparison.second)),
            str(difference),
        ]
        for name, difference in comparison.differences.items()
    ]
    told = (
        f"ROC AUC: paired DeLong, {test.difference}, p {_p_value(test.p_value)}."
        f" Calls: both right {calls.both_right}, only the first {calls.only_first_right}, only the second"
        f" {calls.only_second_right}, neither {calls.both_wrong}; McNemar, exact over patients,"
        f" p {_p_value(calls.p_value)}."
    )
    caption = "<br>".join(
        f"{which}: {escape(set_line(side))}; {escape(describe_point(side.chosen_result.point))}"
        for which, side in (("first", comparison.first), ("second", comparison.second))
    )
    header = ["figure", "first", "second", "second less first"]
    return (
        f"<table><caption>{caption}</caption>"
        f"<thead>{_html_row(header, 'th')}</thead>"
        f"<tbody>{''.join(_html_row(row, 'td') for row in rows)}</tbody>"
        f"</table><p>{escape(told)}</p><p>{escape(INTERVALS_NOTE)}</p>"
    )


def headline(evaluation: Evaluation) -> list[tuple[str, Interval]]:
    """The figures that need no threshold, with the names a reader knows."""
    return [
        ("ROC AUC", evaluation.roc_auc),
        ("average precision", evaluation.average_precision),
        ("Brier score", evaluation.brier),
        ("calibration error", evaluation.calibration_error),
    ]


def set_line(evaluation: Evaluation) -> str:
    """Say which radiographs were evaluated, in one line."""
    run = f"{evaluation.run}, " if evaluation.run else ""
    share = f"{evaluation.prevalence:.1%} {evaluation.predictions.class_names[1]}"
    images = len(evaluation.predictions)
    source = f" of {evaluation.data}" if evaluation.data else ""
    return (
        f"{run}{evaluation.split}{source}: {images} radiographs of {evaluation.patients} patients ({share})"
    )


def describe_point(point: OperatingPoint) -> str:
    """Say the threshold, where it was chosen and by which rule, in one line."""
    parts = [
        f"threshold {point.threshold:.4g}",
        point.chosen_on if point.policy is None else f"chosen on {point.chosen_on}",
    ]
    if point.policy is not None:
        parts.append(f"highest {POLICY_AIMS.get(point.policy, score_name(point.policy))}")
    if point.sensitivity_floor is not None:
        parts.append(f"sensitivity at least {point.sensitivity_floor:g}")
    if point.images is not None:
        parts.append(f"{point.images} images")
    return ", ".join(parts)


def score_name(key: str) -> str:
    """A score's name for a reader, such as `balanced accuracy` for `balanced_accuracy`."""
    return SHORT_NAMES.get(key, key.replace("_", " "))


def _aligned(figures: Iterable[tuple[str, Interval]]) -> list[str]:
    return [f"{label:<20}{interval}" for label, interval in figures]


def _subgroup_lines(evaluation: Evaluation) -> list[str]:
    """A line for each subgroup at the chosen operating point, headed; nothing without any."""
    lines = []
    for group in evaluation.subgroups:
        figures = {"roc_auc": group.roc_auc, **group.scores}
        defined = {key: figure for key, figure in figures.items() if not math.isnan(figure.estimate)}
        told = ", ".join(f"{score_name(key)} {figure}" for key, figure in defined.items())
        warning = f" ({FEW_PATIENTS})" if group.small else ""
        counted = f"{group.images} radiographs of {group.patients} patients"
        lines.append(f"{group.column} {group.value}: {counted}{warning}: {told}")
    return [f"Subgroups at {evaluation.chosen!r}:", *lines] if lines else []


def _scaling_lines(calibration: Calibration) -> list[str]:
    """What each scaling fitted on validation would mend, a line each."""
    return [
        f"{name} scaling fitted on validation would give Brier score {scaled.brier:.3f},"
        f" calibration error {scaled.calibration_error:.3f}"
        for name, scaled in calibration.scalings.items()
        if name != "none"
    ]


def _figure(evaluation: Evaluation, name: str) -> Interval:
    scores = evaluation.chosen_result.scores
    return scores[name] if name in scores else getattr(evaluation, name)


def _notes(evaluation: Evaluation) -> str:
    stated = [] if evaluation.stated_prevalence is None else [STATED_NOTE]
    subgroups = [SUBGROUPS_NOTE] if evaluation.subgroups else []
    return " ".join([INTERVALS_NOTE, *stated, *subgroups])


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _p_value(p_value: float) -> str:
    if math.isnan(p_value):
        return "undefined"
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _html_row(cells: Iterable[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
