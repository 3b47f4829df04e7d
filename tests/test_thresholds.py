"""A threshold separates what it was chosen to separate, keeps its floor, and survives JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.evaluation import metrics, thresholds
from pneumokeras.evaluation.types import OperatingPoint

quick = settings(max_examples=100)
probabilities_of = st.one_of(
    st.floats(0, 1), st.floats(0, 1, width=32), st.sampled_from([0.1, np.nextafter(0.1, 1), 0.5, 1.0])
)


@st.composite
def labeled(draw):
    n = draw(st.integers(2, 25))
    y_true = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    y_true[:2] = 0, 1
    return y_true, draw(hnp.arrays(np.float64, n, elements=probabilities_of))


def scores_at(sample, threshold):
    counts = metrics.confusion_counts(*sample, threshold)
    return metrics.sensitivity(counts), metrics.balanced_accuracy(counts)


@quick
@given(hnp.arrays(np.float64, st.integers(1, 25), elements=probabilities_of))
def test_each_candidate_predicts_one_more_distinct_probability_positive_than_the_next(probabilities):
    distinct = np.unique(probabilities)
    candidates = json.loads(json.dumps(thresholds.candidate_thresholds(probabilities).tolist()))
    positives = [int((distinct >= candidate).sum()) for candidate in candidates]
    assert positives == list(range(distinct.size, 0, -1))


def test_candidates_are_zero_and_the_midpoints():
    assert thresholds.candidate_thresholds([0.75, 0.25, 0.5, 0.25]).tolist() == [0, 0.375, 0.625]


def test_neighbors_with_no_number_between_them_are_separated():
    lower = 0.3
    upper = np.nextafter(lower, 1)
    assert thresholds.candidate_thresholds([lower, upper]).tolist() == [0, upper]


def test_neighboring_float32_probabilities_are_separated():
    lower = np.float32(0.3)
    probabilities = np.array([lower, np.nextafter(lower, np.float32(1))])
    point = thresholds.choose_operating_point([0, 1], probabilities)
    assert point.predicted_positive(probabilities).tolist() == [False, True]


@quick
@given(labeled(), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_the_chosen_threshold_keeps_the_floor_and_no_lower_or_better_one_does(sample, floor):
    point = thresholds.choose_operating_point(*sample, sensitivity_floor=floor)
    sensitivity, chosen = scores_at(sample, point.threshold)
    assert sensitivity >= floor
    for candidate in thresholds.candidate_thresholds(sample[1]):
        sensitivity, balanced_accuracy = scores_at(sample, candidate)
        if sensitivity >= floor:
            assert balanced_accuracy <= chosen + 1e-12
            assert candidate >= point.threshold or balanced_accuracy < chosen - 1e-12


def test_ties_go_to_the_lowest_threshold():
    # 0.25 and 0.75 both give balanced accuracy 0.75; the sensitivities are 1 and 0.5.
    y_true, probabilities = [0, 1, 0, 1], [0.0, 0.5, 0.5, 1.0]
    assert scores_at((y_true, probabilities), 0.25)[1] == scores_at((y_true, probabilities), 0.75)[1]
    assert thresholds.choose_operating_point(y_true, probabilities, sensitivity_floor=0).threshold == 0.25


def test_a_floor_that_only_predicting_all_positive_reaches_is_reached():
    point = thresholds.choose_operating_point([1, 0, 1], [0.2, 0.5, 0.9], sensitivity_floor=1)
    assert point.threshold == 0


def test_nineteen_of_twenty_is_a_sensitivity_of_95_percent():
    probabilities = np.concatenate([[0.1], np.full(19, 0.9), np.full(5, 0.4)])
    point = thresholds.choose_operating_point(np.repeat([1, 0], [20, 5]), probabilities)
    assert scores_at((np.repeat([1, 0], [20, 5]), probabilities), point.threshold)[0] == 0.95
    assert point.threshold == pytest.approx(0.65)


def test_the_point_records_how_it_was_chosen():
    point = thresholds.choose_operating_point([0, 1], [0.2, 0.6], sensitivity_floor=0.9)
    assert point == OperatingPoint(0.4, "val", "balanced_accuracy", 0.9, 2)


def test_the_oracle_says_that_it_is_not_achievable():
    assert (
        thresholds.oracle_point([0, 1], [0.2, 0.6]).chosen_on == "test (not achievable; for comparison only)"
    )


@pytest.mark.parametrize("split", ["val", "other hospital"])
def test_the_oracle_names_the_split_it_was_chosen_on(split):
    point = thresholds.oracle_point([0, 1], [0.2, 0.6], split=split)
    assert point.chosen_on == f"{split} (not achievable; for comparison only)"


@pytest.mark.parametrize(("y_true", "said"), [([1, 1], "0 NORMAL and 2"), ([0, 0], "2 NORMAL and 0")])
def test_one_class_chooses_no_threshold(y_true, said):
    with pytest.raises(DataError, match=said):
        thresholds.choose_operating_point(y_true, [0.2, 0.6])


@pytest.mark.parametrize("floor", [-0.1, 1.1, np.nan])
def test_a_floor_outside_0_to_1_is_refused(floor):
    with pytest.raises(SettingsError, match="`sensitivity_floor` in") as refused:
        thresholds.choose_operating_point([0, 1], [0.2, 0.6], sensitivity_floor=floor)
    assert refused.value.parameter == "sensitivity_floor"


@pytest.mark.parametrize(
    ("field", "point"), [("threshold", {"threshold": 50}), ("sensitivity_floor", {"sensitivity_floor": 95})]
)
def test_an_operating_point_out_of_range_is_refused(field, point):
    with pytest.raises(SettingsError, match=f"`{field}` in .* Received") as refused:
        OperatingPoint(**{"threshold": 0.5} | point)
    assert refused.value.parameter == field


def test_choose_operating_point_is_balanced_accuracy_with_a_floor():
    y_true, probabilities = [0, 1, 0, 1], [0.0, 0.5, 0.6, 1.0]
    assert thresholds.BalancedAccuracy(0.9).choose(
        y_true, probabilities
    ) == thresholds.choose_operating_point(y_true, probabilities, sensitivity_floor=0.9)


def test_a_fixed_threshold_looks_at_nothing():
    assert thresholds.Fixed().choose([0, 1], [0.9, 0.1]) == thresholds.DEFAULT_POINT
    assert thresholds.Fixed(0.7).choose([], []).threshold == 0.7


@quick
@given(labeled(), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_wanted_sensitivity_is_reached_at_the_highest_specificity(sample, target):
    def figures(threshold):
        counts = metrics.confusion_counts(*sample, threshold)
        return metrics.sensitivity(counts), metrics.specificity(counts)

    point = thresholds.Sensitivity(target).choose(*sample)
    sensitivity, chosen = figures(point.threshold)
    assert sensitivity >= target
    for candidate in thresholds.candidate_thresholds(sample[1]):
        sensitivity, specificity = figures(candidate)
        if sensitivity >= target:
            assert specificity <= chosen
            assert candidate >= point.threshold or specificity < chosen


@quick
@given(labeled())
def test_youden_maximises_sensitivity_and_specificity_together(sample):
    def youden(threshold):
        counts = metrics.confusion_counts(*sample, threshold)
        return metrics.sensitivity(counts) + metrics.specificity(counts) - 1

    chosen = youden(thresholds.Youden().choose(*sample).threshold)
    assert chosen >= max(map(youden, thresholds.candidate_thresholds(sample[1]))) - 1e-12


def test_among_a_sweep_only_its_thresholds_are_chosen():
    y_true, probabilities = [0, 0, 1, 1], [0.1, 0.62, 0.64, 0.9]
    policy = thresholds.BalancedAccuracy(among=thresholds.SWEEP[::-1])
    assert policy.choose(y_true, probabilities).threshold == 0.3
    assert policy.choose(y_true, [0.1, 0.55, 0.64, 0.9]).threshold == 0.6
    assert policy.choose(y_true, [0.1, 0.2, 0.25, 0.9]).threshold == 0.3


@pytest.mark.parametrize("name", ["balanced_accuracy", "sensitivity", "youden"])
def test_the_point_names_the_policy_that_chose_it(name):
    policy = thresholds.POLICIES[name]()
    assert policy.name == name
    content = policy.choose([0, 1], [0.2, 0.6], chosen_on="train").json()
    assert content["policy"] == name
    assert content["chosen_on"] == "train"
    assert content["images"] == 2


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        (thresholds.Fixed, {"threshold": 1.1}),
        (thresholds.Sensitivity, {"target": 1.1}),
        (thresholds.BalancedAccuracy, {"sensitivity_floor": -0.1}),
        (thresholds.BalancedAccuracy, {"among": [0.5, 50]}),
    ],
)
def test_a_policy_out_of_range_is_refused_before_anything_is_trained_for_it(policy, settings):
    with pytest.raises(SettingsError, match="in \\[0, 1\\]") as refused:
        policy(**settings)
    assert [refused.value.parameter] == list(settings)


def counted(tn, fp, fn, tp):
    """Labels and probabilities that give these counts at 0.75."""
    return np.repeat([0, 0, 1, 1], [tn, fp, fn, tp]), np.repeat([0.2, 0.8, 0.2, 0.8], [tn, fp, fn, tp])


def test_a_sweep_gives_the_figures_of_a_published_matrix():
    """R4's CNN at 0.75: its counts, and what follows from them (its own table prints another F1)."""
    rows = thresholds.sweep(*counted(162, 72, 5, 385))
    assert [row.threshold for row in rows] == [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8]
    row = rows[9]
    assert (row.fn, row.fp) == (5, 72)
    figures = row.accuracy, row.precision, row.sensitivity, row.specificity, row.f1, row.balanced_accuracy
    assert np.round(figures, 4).tolist() == [0.8766, 0.8425, 0.9872, 0.6923, 0.9091, 0.8397]


def test_a_sweep_has_no_figure_where_there_is_nothing_to_divide_by():
    (row,) = thresholds.sweep([0, 1], [0.1, 0.2], thresholds=[0.5])
    assert np.isnan(row.precision)
    assert row.fn == 1
    (row,) = thresholds.sweep([1], [0.9], thresholds=[0.5])
    assert np.isnan([row.specificity, row.balanced_accuracy]).all()


@quick
@given(labeled())
def test_operating_points_come_back_from_json_as_they_were(sample):
    points = {"default": thresholds.DEFAULT_POINT, "validation": thresholds.choose_operating_point(*sample)}
    text = json.dumps(thresholds.operating_points_to_json(points), allow_nan=False)
    assert thresholds.operating_points_from_json(json.loads(text)) == points


def test_threshold_json_leaves_out_what_is_not_set():
    point = OperatingPoint(0.25, "val", "balanced_accuracy", 0.95, 520)
    content = thresholds.operating_points_to_json({"default": thresholds.DEFAULT_POINT, "validation": point})
    assert content == {
        "schema": 1,
        "points": {
            "default": {"threshold": 0.5, "chosen_on": "fixed"},
            "validation": {
                "threshold": 0.25,
                "chosen_on": "val",
                "policy": "balanced_accuracy",
                "sensitivity_floor": 0.95,
                "images": 520,
            },
        },
    }


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"schema": 2, "points": {}},
        {"schema": 1},
        {"schema": 1, "points": [0.5]},
        {"schema": 1, "points": {"default": {}}},
        {"schema": 1, "points": {"default": {"threshold": "0.5"}}},
        {"schema": 1, "points": {"default": {"threshold": 1.5}}},
        {"schema": 1, "points": {"default": {"threshold": 0.5, "color": "red"}}},
    ],
)
def test_what_is_not_a_threshold_file_is_refused(content):
    with pytest.raises(DataError, match="Expected"):
        thresholds.operating_points_from_json(content)
