"""Write an evaluation or a comparison as text and as an HTML table, escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from sklearn import metrics

from pneumokeras.core.html import table
from pneumokeras.core.words import number_of
from pneumokeras.evaluation.calibration import Scaled
from pneumokeras.evaluation.types import Interval, McNemar, OperatingPointResult, PairedTest, Subgroup
from pneumokeras.evaluation.vocabulary import (
    POINT_SCORES,
    SCALING_NAMES,
    capitalized,
    describe_point,
    format_estimate,
    format_p_value,
    format_range,
    format_threshold,
    score_name,
)

INTERVALS_NOTE = (
    "Brackets hold 95% intervals that account for patients with several radiographs: Wilson for proportions,"
    " bootstrap over patients for the rest."
)
DIFFERENCES_NOTE = (
    "Intervals of the differences: bootstrap over patients, both models on the same resamples; paired DeLong"
    " has an interval of its own for ROC AUC."
)
STATED_NOTE = "Predictive values at the stated prevalence: MOVER-R from both intervals."
SUBGROUPS_NOTE = "ROC AUC of subgroups: DeLong."
FEW_PATIENTS = "few patients: read with care"


@dataclass(frozen=True)
class TextReport:
    """A text that prints as itself, at a prompt and in a notebook.

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
        return f'<pre style="font-family: monospace">{escape(self.text)}</pre>'


def report_text(
    *,
    description: str,
    headline: Mapping[str, Interval],
    scalings: Mapping[str, Scaled],
    name: str,
    result: OperatingPointResult,
    warning: str,
    subgroups: Sequence[str],
    classification_report: str,
) -> str:
    """Write the headline figures, then the scores and scikit-learn's report at the operating point `name`.

    The arguments are parts of an `Evaluation`; `subgroups` are lines of `subgroup_lines`.
    """
    return "\n".join(
        [
            description,
            "",
            *_aligned((score_name(key), figure) for key, figure in headline.items()),
            *_scaling_lines(scalings),
            "",
            f"Operating point {name!r}: {describe_point(result.point)}",
            f"TN {result.tn}, FP {result.fp}, FN {result.fn}, TP {result.tp}",
            *([warning] if warning else []),
            "",
            *_aligned((score_name(key), result.scores[key]) for key in POINT_SCORES),
            *_aligned(stated_values(result)),
            "",
            *([*subgroups, ""] if subgroups else []),
            classification_report,
            _notes(stated=result.predictive_values is not None, subgroups=bool(subgroups)),
        ]
    )


def evaluation_html(
    *,
    description: str,
    headline: Mapping[str, Interval],
    operating_points: Mapping[str, OperatingPointResult],
    warnings: Sequence[str],
    subgroups: Sequence[str],
) -> str:
    """Write one compact table: headline figures above, a row for each operating point below.

    The arguments are parts of an `Evaluation`; `subgroups` are lines of `subgroup_lines`.
    """
    figures = " · ".join(f"{score_name(key)} {figure}" for key, figure in headline.items())
    caption = f"{description}\n{figures}"
    stated = [label for label, _ in stated_values(next(iter(operating_points.values())))]
    header = ["operating point", "threshold", "chosen on", *map(score_name, POINT_SCORES), *stated]
    rows = [
        [
            f"{name} (not achievable)" if name == "oracle" else name,
            format_threshold(result.point.threshold),
            result.point.chosen_on,
            *(str(result.scores[score]) for score in POINT_SCORES),
            *(str(interval) for _, interval in stated_values(result)),
        ]
        for name, result in operating_points.items()
    ]
    return (
        f"{table(header, rows, caption=caption)}"
        f"{_paragraphs(warnings)}{_paragraphs(subgroups)}"
        f"<p>{escape(_notes(stated=bool(stated), subgroups=bool(subgroups)))}</p>"
    )


def stated_values(result: OperatingPointResult) -> list[tuple[str, Interval]]:
    """Return predictive values at the stated prevalence, labeled; nothing if none was stated."""
    stated = result.predictive_values
    if stated is None:
        return []
    return [(f"PPV at {stated.prevalence:.3g}", stated.ppv), (f"NPV at {stated.prevalence:.3g}", stated.npv)]


def comparison_text(
    *,
    first: str,
    second: str,
    images: int,
    roc_auc: PairedTest,
    mcnemar: McNemar,
    disagreements: int,
) -> str:
    """Write the two tests of a comparison in three lines.

    Args:
        first: name of the reference.
        second: name of the model that is compared with it.
        images: number of radiographs.
        roc_auc: the test of both areas.
        mcnemar: the test of both models' predicted classes.
        disagreements: number of radiographs whose predicted classes differ.
    """
    difference = roc_auc.difference
    return "\n".join(
        [
            f"Compared with {first} on the same radiographs; differences are {second} minus {first}.",
            f"ROC AUC differs by {format_estimate(difference, signed=True)}"
            f" ({format_range(difference, signed=True)}), {format_p_value(roc_auc.p_value)}, DeLong.",
            f"At the chosen thresholds {disagreements} of {images} radiographs are predicted differently:"
            f" only {second} is right on {mcnemar.only_second_right}, only {first} on"
            f" {mcnemar.only_first_right}, {format_p_value(mcnemar.p_value)}, McNemar.",
        ]
    )


def comparison_html(
    *,
    sides: Mapping[str, str],
    figures: Mapping[str, tuple[Interval, Interval, Interval]],
    roc_auc: PairedTest,
    mcnemar: McNemar,
) -> str:
    """Write a table of the differences between two models, then the two tests.

    Args:
        sides: what `first` and `second` are, a line each.
        figures: by name, that of the first, of the second, and the difference.
        roc_auc: the test of both areas.
        mcnemar: the test of both models' predicted classes.
    """
    rows = [[score_name(name), *map(str, values)] for name, values in figures.items()]
    tests = (
        f"ROC AUC: paired DeLong, {roc_auc.difference}, {format_p_value(roc_auc.p_value)}."
        f" Predicted correctly: by both {mcnemar.both_right}, by the first only {mcnemar.only_first_right},"
        f" by the second only {mcnemar.only_second_right}, by neither {mcnemar.both_wrong};"
        f" McNemar, exact over patients, {format_p_value(mcnemar.p_value)}."
    )
    caption = "\n".join(f"{side}: {line}" for side, line in sides.items())
    header = ["figure", *sides, "second minus first (bootstrap)"]
    return f"{table(header, rows, caption=caption)}{_paragraphs([tests, DIFFERENCES_NOTE, INTERVALS_NOTE])}"


def classification_text(labels: np.ndarray, predicted: np.ndarray, class_names: tuple[str, str]) -> str:
    """Write scikit-learn's classification report, in which an average over an undefined score is undefined.

    scikit-learn averages what is left, as if a class that is never predicted had the other's precision.

    Args:
        labels: `(n,)` integers, 1 = PNEUMONIA.
        predicted: `(n,)` booleans, which radiographs are predicted PNEUMONIA.
        class_names: names of class 0 and class 1.
    """
    truth, classes = [labels, predicted.astype(int)], {"labels": [0, 1], "zero_division": np.nan}
    scores = np.array(metrics.precision_recall_fscore_support(*truth, **classes))
    text = metrics.classification_report(*truth, **classes, target_names=class_names)
    *lines, macro, weighted, end = text.split("\n")
    for line, counts in ((macro, True), (weighted, scores[3] > 0)):
        undefined = (np.isnan(scores[:3]) & counts).any(axis=1)
        title, cells, support = line[:-40], line[-40:-10], line[-10:]  # each column has ten characters
        shown = [
            f"{'nan':>10}" if undefined[column] else cells[10 * column : 10 * column + 10]
            for column in range(3)
        ]
        lines.append(f"{title}{''.join(shown)}{support}")
    return "\n".join([*lines, end])


def subgroup_lines(subgroups: Iterable[Subgroup], point: str) -> list[str]:
    """Write a heading that names the operating point, then a line for each subgroup; nothing without any."""
    lines = []
    for group in subgroups:
        figures = {"roc_auc": group.roc_auc, **group.scores}
        defined = {key: figure for key, figure in figures.items() if not math.isnan(figure.estimate)}
        scores = ", ".join(f"{score_name(key)} {figure}" for key, figure in defined.items())
        warning = f" ({FEW_PATIENTS})" if group.small else ""
        counted = f"{number_of(group.images, 'radiograph')} of {number_of(group.patients, 'patient')}"
        lines.append(f"{group.column} {group.value}: {counted}{warning}: {scores}")
    return [f"Subgroups at {point!r}:", *lines] if lines else []


def _aligned(figures: Iterable[tuple[str, Interval]]) -> list[str]:
    return [f"{label:<20}{interval}" for label, interval in figures]


def _scaling_lines(scalings: Mapping[str, Scaled]) -> list[str]:
    """Return what each scaling fitted on validation would give, a line each."""
    return [
        f"{capitalized(SCALING_NAMES[name])} fitted on validation would give"
        f" Brier score {scaled.brier:.3f}, calibration error {scaled.calibration_error:.3f}"
        for name, scaled in scalings.items()
        if name != "none"
    ]


def _notes(*, stated: bool, subgroups: bool) -> str:
    return " ".join([INTERVALS_NOTE, *[STATED_NOTE] * stated, *[SUBGROUPS_NOTE] * subgroups])


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)
