"""Two models are compared on the same radiographs or not at all; the tests are the established ones."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import (
    OperatingPoint,
    Predictions,
    compare,
    delong_test,
    evaluate_predictions,
    mcnemar,
    require_same_set,
)
from pneumokeras.evaluation.comparison import _sign_flip_p_value
from pneumokeras.evaluation.vocabulary import format_p_value

quick = settings(max_examples=60)

NAMES = ["a", "b", "c", "d"]


def predictions_of(probabilities, *, y_true=(0, 0, 1, 1), names=NAMES, patients=NAMES, **fields):
    return Predictions(names, patients, y_true, probabilities, **fields)


def sample(seed, *, signal=0.3, threshold=None, run=None):
    """100 radiographs of 50 patients, always the same; the model differs with the seed."""
    y_true = np.repeat([0, 1], [40, 60])
    noise = np.random.default_rng(seed).normal(0.35 + signal * y_true, 0.2)
    predictions = Predictions(
        [f"{index}.png" for index in range(100)],
        [f"person{index // 2}" for index in range(100)],
        y_true,
        np.clip(noise, 0, 1),
    )
    points = {} if threshold is None else {"validation": OperatingPoint(threshold, "val")}
    return evaluate_predictions(predictions, operating_points=points, run=run, replicates=50)


@pytest.fixture(scope="module")
def comparison():
    first, second = sample(0, run="one"), sample(1, signal=0.6, threshold=0.6, run="<two>")
    return compare(first, second, replicates=300)


@quick
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5), st.integers(0, 5))
def test_with_one_image_for_each_patient_mcnemar_is_statsmodels(only_first, only_second, both, neither):
    cells = [both, only_first, only_second, neither]
    first_right, second_right = np.repeat([[1, 1, 0, 0], [1, 0, 1, 0]], cells, axis=1)
    y_true = np.arange(sum(cells)) % 2
    found = mcnemar(y_true, first_right == y_true, second_right == y_true)
    table = [[both, only_first], [only_second, neither]]
    assert (found.both_right, found.only_first_right, found.only_second_right, found.both_wrong) == tuple(
        cells
    )
    expected = statsmodels_mcnemar(table, exact=True).pvalue if only_first + only_second else 1.0
    assert found.p_value == pytest.approx(min(1, expected))


@quick
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_the_chance_of_signs_is_that_of_all_of_them(balance):
    totals = [
        abs(sum(sign * value for sign, value in zip(signs, balance, strict=True)))
        for signs in itertools.product([-1, 1], repeat=len(balance))
    ]
    expected = np.mean([total >= abs(sum(balance)) for total in totals])
    assert _sign_flip_p_value(np.array(balance, dtype=int)) == pytest.approx(expected)


def test_with_many_patients_the_chance_is_durkalskis():
    balance = np.random.default_rng(0).integers(-2, 4, 400)
    balance[::2] = -balance[::2]
    statistic = (abs(balance.sum()) - 0.5) ** 2 / (balance**2).sum()
    assert _sign_flip_p_value(balance) == pytest.approx(chi2.sf(statistic, 1), abs=0.01)


def test_copies_of_each_patients_image_prove_no_more():
    y_true, predicted_a, predicted_b = np.ones(30, int), np.arange(30) < 20, np.arange(30) >= 12
    once = mcnemar(y_true, predicted_a, predicted_b)
    copies = [np.repeat(array, 3) for array in (y_true, predicted_a, predicted_b, np.arange(30))]
    assert mcnemar(*copies).p_value == pytest.approx(once.p_value)
    assert mcnemar(*copies[:3]).p_value < once.p_value
    assert mcnemar(*copies).only_first_right == 3 * once.only_first_right


def test_models_that_call_alike_do_not_differ():
    found = mcnemar([0, 1, 1], [0, 1, 0], [0, 1, 0])
    assert (found.both_right, found.both_wrong, found.p_value) == (2, 1, 1)


def test_calls_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="received 2, 2, 1 and 2"):
        mcnemar([0, 1], [0, 1], [1])


def test_a_comparison_is_the_second_less_the_first(comparison):
    first, second = comparison.first, comparison.second
    for name in ("roc_auc", "average_precision", "brier", "calibration_error"):
        gained = getattr(second, name).estimate - getattr(first, name).estimate
        assert comparison.differences[name].estimate == pytest.approx(gained)
    assert comparison.roc_auc.difference.estimate == pytest.approx(comparison.differences["roc_auc"].estimate)
    chosen, other = first.operating_points["default"].scores, second.operating_points["validation"].scores
    for name in ("sensitivity", "specificity", "accuracy", "balanced_accuracy", "f1", "mcc"):
        gained = other[name].estimate - chosen[name].estimate
        assert comparison.differences[name].estimate == pytest.approx(gained)
    assert all(found.low < found.estimate < found.high for found in comparison.differences.values())


def test_its_test_is_delongs_over_patients(comparison):
    predictions = comparison.first.predictions
    expected = delong_test(
        predictions.labels,
        predictions.probabilities,
        comparison.second.predictions.probabilities,
        predictions.patients,
    )
    assert comparison.roc_auc == expected


def test_the_bootstrap_draws_both_models_together(comparison):
    apart = math.hypot(
        *(side.roc_auc.high - side.roc_auc.low for side in (comparison.first, comparison.second))
    )
    same = compare(comparison.first, sample(0, signal=0.31), replicates=300).differences["roc_auc"]
    assert same.high - same.low < 0.3 * apart


def test_where_the_models_disagree_the_widest_gap_comes_first(comparison):
    first, second = comparison.first.predictions, comparison.second.predictions
    found = comparison.disagreements
    calls = first.probabilities >= 0.5, second.probabilities >= 0.6
    assert sorted(found) == np.flatnonzero(calls[0] != calls[1]).tolist()
    gaps = np.abs(first.probabilities - second.probabilities)[found]
    assert (np.diff(gaps) <= 0).all()
    table = comparison.mcnemar
    assert table.only_first_right + table.only_second_right == found.size


def test_the_order_of_the_second_does_not_matter(comparison):
    second = comparison.second.predictions
    shuffled = np.random.default_rng(0).permutation(100)
    turned = evaluate_predictions(
        Predictions(
            *(getattr(second, name)[shuffled] for name in ("names", "patients", "labels", "probabilities"))
        ),
        operating_points={"validation": OperatingPoint(0.6, "val")},
        replicates=50,
    )
    again = compare(comparison.first, turned, replicates=300)
    assert again.second.predictions.names.tolist() == comparison.first.predictions.names.tolist()
    assert again.differences == comparison.differences
    assert again.disagreements.tolist() == comparison.disagreements.tolist()


def test_a_model_compared_with_itself_differs_in_nothing():
    found = compare(sample(0), sample(0), replicates=50)
    assert {interval.estimate for interval in found.differences.values()} == {0}
    assert found.mcnemar.p_value == found.roc_auc.p_value == 1
    assert found.disagreements.size == 0


def test_a_comparison_shows_itself(comparison):
    html = comparison._repr_html_()
    assert "&lt;two&gt;" in html
    assert "<two>" not in html
    specificity = comparison.second.operating_points["validation"].scores["specificity"]
    assert f"<td>{specificity}</td><td>{comparison.differences['specificity']}</td>" in html
    assert f"<td>ROC AUC</td><td>{comparison.first.roc_auc}</td>" in html
    assert "McNemar" in html
    assert "second minus first (bootstrap)" in html


def test_a_difference_with_two_intervals_names_the_method_of_each(comparison):
    shown, differences = repr(comparison), comparison.differences["roc_auc"]
    assert str(differences) != str(comparison.roc_auc.difference)
    assert shown == (
        f"<Comparison on 100 radiographs, difference of ROC AUC {comparison.roc_auc.difference} by DeLong>"
    )
    html = comparison._repr_html_()
    assert f"paired DeLong, {comparison.roc_auc.difference}" in html
    assert "Intervals of the differences: bootstrap over patients" in html


def test_its_report_says_the_tests_in_three_lines(comparison):
    area, calls = comparison.roc_auc, comparison.mcnemar
    lines = str(comparison.report()).splitlines()
    assert lines == [
        "Compared with one on the same radiographs; differences are <two> minus one.",
        f"ROC AUC differs by {area.difference.estimate:+.3f} ({area.difference.low:+.3f} to "
        f"{area.difference.high:+.3f}), {format_p_value(area.p_value)}, DeLong.",
        f"At the chosen thresholds {comparison.disagreements.size} of 100 radiographs are predicted "
        f"differently: only <two> is right on {calls.only_second_right}, only one on "
        f"{calls.only_first_right}, {format_p_value(calls.p_value)}, McNemar.",
    ]
    same = compare(sample(0, run="a"), sample(0, run="a"), replicates=5)
    assert "differences are the second minus the first" in str(same.report())


def test_its_json_is_plain(comparison):
    content = json.loads(json.dumps(comparison.json(), allow_nan=False))
    assert content["first"]["run"] == "one"
    assert content["second"]["operating_point"] == {"threshold": 0.6, "chosen_on": "val"}
    assert content["roc_auc"]["p_value"] == comparison.roc_auc.p_value
    assert content["mcnemar"]["method"] == "exact"
    assert content["disagreements"][0] == f"{comparison.disagreements[0]}.png"
    same = compare(sample(0), sample(0), replicates=20).json()
    assert json.loads(json.dumps(same, allow_nan=False))["roc_auc"]["statistic"] is None


@pytest.mark.filterwarnings("error")
def test_models_are_compared_on_one_class_as_far_as_it_goes():
    names = [str(index) for index in range(8)]
    first, second = (
        evaluate_predictions(Predictions(names, names, np.ones(8), np.linspace(low, 1, 8)), replicates=20)
        for low in (0.1, 0.6)
    )
    found = compare(first, second, replicates=100)
    assert found.differences["sensitivity"].estimate > 0
    assert math.isnan(found.roc_auc.difference.estimate)
    assert json.dumps(found.json(), allow_nan=False)
    assert "p undefined" in found._repr_html_()


FIRST = predictions_of([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (predictions_of([0.1], y_true=[0], names=["a"], patients=["a"]), "4 radiographs and 1"),
        (
            predictions_of([0.1] * 4, names=["a", "b", "x", "y"]),
            "only the first has c, d, only the second x, y",
        ),
        (predictions_of([0.1] * 4, names=list("wxyz")), "a, b, c and 1 more"),
        (predictions_of([0.1] * 4, y_true=(0, 1, 1, 1)), "the labels of b"),
        (predictions_of([0.1] * 4, patients=list("abca")), "the patients of d"),
        (predictions_of([0.1] * 4, class_names=("NORMAL", "TB")), "classes .*'PNEUMONIA'.* and .*'TB'"),
        (predictions_of([0.1] * 4, y_true=None), "with labels"),
    ],
)
def test_sets_that_differ_are_refused_by_what_differs(second, said):
    with pytest.raises(DataError, match=said) as refused:
        require_same_set(FIRST, second)
    assert "\n" not in str(refused.value)


def test_names_that_repeat_can_be_compared_only_in_the_same_order():
    twice = predictions_of([0.1, 0.2, 0.3, 0.4], names=["a", "a", "b", "c"])
    other = predictions_of([0.1, 0.2, 0.3, 0.4], names=["c", "a", "b", "a"])
    assert require_same_set(twice, twice) is twice
    with pytest.raises(DataError, match="some names occur twice"):
        require_same_set(twice, other)
