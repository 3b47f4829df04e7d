"""Every page, figure, card and text writes numbers and names scores in one way."""

import math

import pytest

from pneumokeras.evaluation import Interval
from pneumokeras.evaluation.charts import EPOCH_CHARTS
from pneumokeras.evaluation.displays import (
    AccuracyCurvesDisplay,
    LossCurvesDisplay,
    NetBenefitDisplay,
    PrecisionRecallDisplay,
    ReliabilityDisplay,
    RocCurveDisplay,
)
from pneumokeras.evaluation.vocabulary import (
    CARD_SCORES,
    POINT_SCORES,
    capitalized,
    format_count,
    format_estimate,
    format_p_value,
    format_range,
    format_share,
    format_threshold,
    point_label,
    score_name,
)
from pneumokeras.report.charts import calibration_charts, threshold_charts, training_charts
from tests.reporting import HISTORY, scattered

NAN = math.nan
DEFINED = Interval(0.97125, 0.9549, 0.98449, "wilson")
POINT_ONLY = Interval(1.0, NAN, NAN, "bootstrap")
UNDEFINED = Interval(NAN, NAN, NAN, "wilson")


@pytest.mark.parametrize(
    ("interval", "estimate", "ends"),
    [
        (DEFINED, "0.971", "0.955 to 0.984"),
        (POINT_ONLY, "1.000", "no interval"),
        (UNDEFINED, "undefined", ""),
    ],
)
def test_an_estimate_and_its_range_have_three_decimals(interval, estimate, ends):
    assert (format_estimate(interval), format_range(interval)) == (estimate, ends)


def test_a_difference_has_a_sign():
    difference = Interval(0.01, -0.02, 0.04, "bootstrap")
    assert format_estimate(difference, signed=True) == "+0.010"
    assert format_range(difference, signed=True) == "-0.020 to +0.040"
    assert format_estimate(UNDEFINED, signed=True) == "undefined"


@pytest.mark.parametrize(
    ("p_value", "written"),
    [(0.04321, "p = 0.043"), (0.001, "p = 0.001"), (0.00099, "p < 0.001"), (NAN, "p undefined")],
)
def test_a_p_value_is_never_written_as_zero(p_value, written):
    assert format_p_value(p_value) == written


def test_thresholds_counts_and_shares():
    assert format_threshold(0.317249) == "0.3172"
    assert format_count(1214) == "1,214"
    assert format_share(0.625) == "62.5%"


def test_scores_and_operating_points_have_names():
    names = ["ROC AUC", "balanced accuracy", "NPV"]
    assert [score_name(key) for key in ("roc_auc", "balanced_accuracy", "npv")] == names
    assert [point_label(name) for name in ("validation", "mine")] == ["chosen on validation", "mine"]
    assert capitalized("ROC AUC") == "ROC AUC"
    assert capitalized("chosen on validation") == "Chosen on validation"


def test_tables_have_the_scores_of_an_operating_point_in_one_order():
    evaluation = scattered()
    assert sorted(POINT_SCORES) == sorted(evaluation.chosen_result.scores)
    assert list(CARD_SCORES) == [score for score in POINT_SCORES if score in CARD_SCORES]
    text = str(evaluation.report())
    places = [text.index(f"\n{score_name(score)} ") for score in POINT_SCORES]
    assert places == sorted(places)


def test_the_page_and_the_figures_show_the_same_charts():
    evaluation = scattered()
    points = evaluation.operating_points
    on_page = {
        svg.chart.title: svg.chart
        for svg in (
            *threshold_charts(evaluation),
            *calibration_charts(evaluation),
            *training_charts(HISTORY | {"auc": HISTORY["val_auc"]}, 1),
        )
    }
    assert len(on_page) == 5 + len(EPOCH_CHARTS)
    for display in (
        RocCurveDisplay(evaluation.roc, evaluation.roc_auc, points),
        PrecisionRecallDisplay(
            evaluation.precision_recall, evaluation.average_precision, evaluation.prevalence, points
        ),
        ReliabilityDisplay(evaluation.calibration.bins, evaluation.calibration_error),
        NetBenefitDisplay(evaluation.net_benefit),
        LossCurvesDisplay(HISTORY, 1),
        AccuracyCurvesDisplay(HISTORY, 1),
    ):
        ax = display.plot().ax_
        chart = on_page[ax.get_title(loc="left")]
        assert chart.x_label == ax.get_xlabel()
        assert chart.y_label in ("", ax.get_ylabel())
        drawn = [line.get_label() for line in ax.lines]
        assert {line.label for line in chart.lines} <= set(drawn)
        assert {mark.label for mark in chart.marks} - {""} <= set(drawn)
        curve = next(line for line in chart.lines if line.style == "first")
        assert ax.lines[drawn.index(curve.label)].get_xydata()[:, 1].tolist() == list(curve.ys)
