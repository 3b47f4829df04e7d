"""Metrics agree with scikit-learn, ties and bootstrap weights included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sklearn_metrics

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import metrics

quick = settings(max_examples=60)


@st.composite
def labeled(draw):
    """Labels of both classes and probabilities with many ties."""
    n = draw(st.integers(2, 30))
    y_true = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    y_true[:2] = 0, 1
    steps = draw(st.sampled_from([1, 4, 1000]))
    ranks = draw(hnp.arrays(np.int64, n, elements=st.integers(0, steps)))
    return y_true, ranks / steps


@st.composite
def labeled_and_weighted(draw):
    """The same with whole-number weights that leave both classes in."""
    y_true, probabilities = draw(labeled())
    weights = draw(hnp.arrays(np.int64, (3, y_true.size), elements=st.integers(0, 3)))
    weights[:, :2] += 1
    return y_true, probabilities, weights.astype(float)


@quick
@given(labeled())
def test_ranking_metrics_are_scikit_learns(sample):
    y_true, probabilities = sample
    assert metrics.roc_auc(*sample) == pytest.approx(sklearn_metrics.roc_auc_score(y_true, probabilities))
    expected = sklearn_metrics.average_precision_score(y_true, probabilities)
    assert metrics.average_precision(*sample) == pytest.approx(expected)
    assert metrics.brier_score(*sample) == pytest.approx(
        sklearn_metrics.brier_score_loss(y_true, probabilities)
    )


def test_log_loss_is_scikit_learns_and_stays_finite_for_a_saturated_mistake():
    rng = np.random.default_rng(0)
    y_true, probabilities = rng.integers(0, 2, 50), rng.random(50)
    assert metrics.log_loss(y_true, probabilities) == pytest.approx(
        sklearn_metrics.log_loss(y_true, probabilities)
    )
    assert metrics.log_loss([0, 1], np.array([1.0, 0.5], np.float32)) == pytest.approx(
        (24 * np.log(2) + np.log(2)) / 2
    )
    assert np.isnan(metrics.log_loss([], []))


@quick
@given(labeled_and_weighted())
def test_weighted_metrics_are_scikit_learns_on_the_same_weights(sample):
    y_true, probabilities, weights = sample
    roc_auc, average_precision = metrics.weighted_ranking(y_true, probabilities, weights)
    pairs = [
        (roc_auc, sklearn_metrics.roc_auc_score),
        (average_precision, sklearn_metrics.average_precision_score),
        (metrics.weighted_brier_score(y_true, probabilities, weights), sklearn_metrics.brier_score_loss),
    ]
    for ours, theirs in pairs:
        expected = [theirs(y_true, probabilities, sample_weight=row) for row in weights]
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@quick
@given(labeled_and_weighted())
def test_a_weight_of_three_is_the_image_three_times(sample):
    y_true, probabilities, weights = sample
    drawn = [np.repeat(np.arange(y_true.size), row.astype(int)) for row in weights]
    roc_auc, average_precision = metrics.weighted_ranking(y_true, probabilities, weights)
    calibration_error = metrics.weighted_expected_calibration_error(y_true, probabilities, weights)
    for plain, weighted in (
        (metrics.roc_auc, roc_auc),
        (metrics.average_precision, average_precision),
        (metrics.brier_score, metrics.weighted_brier_score(y_true, probabilities, weights)),
        (metrics.expected_calibration_error, calibration_error),
    ):
        expected = [plain(y_true[rows], probabilities[rows]) for rows in drawn]
        np.testing.assert_allclose(weighted, expected, atol=1e-12)
    weighted_counts = metrics.weighted_confusion_counts(y_true, probabilities, 0.5, weights)
    expected_counts = [metrics.confusion_counts(y_true[rows], probabilities[rows], 0.5) for rows in drawn]
    np.testing.assert_array_equal(np.transpose(weighted_counts), expected_counts)


@quick
@given(labeled(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_scores_of_counts_are_scikit_learns(sample, threshold):
    y_true, probabilities = sample
    predicted = probabilities >= threshold
    counts = metrics.confusion_counts(y_true, probabilities, threshold)
    assert counts == tuple(sklearn_metrics.confusion_matrix(y_true, predicted).ravel())
    assert metrics.sensitivity(counts) == pytest.approx(sklearn_metrics.recall_score(y_true, predicted))
    assert metrics.specificity(counts) == pytest.approx(
        sklearn_metrics.recall_score(y_true, predicted, pos_label=0)
    )
    assert metrics.f1(counts) == pytest.approx(sklearn_metrics.f1_score(y_true, predicted))
    assert metrics.mcc(counts) == pytest.approx(sklearn_metrics.matthews_corrcoef(y_true, predicted))
    balanced = sklearn_metrics.balanced_accuracy_score(y_true, predicted)
    assert metrics.balanced_accuracy(counts) == pytest.approx(balanced)


def test_scores_of_many_counts_are_the_scores_of_each():
    y_true, probabilities = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [4, 0, 0, 0]], dtype=float)
    many = metrics.weighted_confusion_counts(y_true, probabilities, 0.5, weights)
    assert np.transpose(many).tolist() == [[1, 1, 1, 1], [2, 0, 1, 1], [4, 0, 0, 0]]
    for score in (metrics.sensitivity, metrics.balanced_accuracy, metrics.f1, metrics.mcc):
        each = [
            float(score(metrics.ConfusionCounts(*row))) for row in np.transpose(many).astype(int).tolist()
        ]
        np.testing.assert_allclose(score(many), each)


def test_a_probability_at_the_threshold_is_predicted_positive():
    assert metrics.confusion_counts([0, 1], [0.5, 0.5], 0.5) == (0, 1, 0, 1)


def test_a_float32_probability_just_below_the_threshold_is_predicted_negative():
    lower = np.float32(0.7)
    upper = np.nextafter(lower, np.float32(1))
    between = (float(lower) + float(upper)) / 2
    assert metrics.confusion_counts([0, 1], np.array([lower, upper]), between) == (1, 0, 0, 1)


def test_calibration_error_of_a_worked_example():
    # Bin 0 holds 0.05 and 0.07 (gap |1 - 0.12|), bin 1 holds 0.1 (gap 0.1), the last one 0.9 and 1 (gap 0.1).
    y_true, probabilities = [0, 1, 0, 1, 1], [0.05, 0.07, 0.1, 0.9, 1.0]
    assert metrics.expected_calibration_error(y_true, probabilities) == pytest.approx((0.88 + 0.1 + 0.1) / 5)


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_class_what_needs_both_is_nan(label):
    y_true, probabilities, weights = np.full(3, label), np.array([0.2, 0.6, 0.8]), np.ones((2, 3))
    counts = metrics.confusion_counts(y_true, probabilities, 0.5)
    assert np.isnan(
        [metrics.roc_auc(y_true, probabilities), metrics.average_precision(y_true, probabilities)]
    ).all()
    assert np.isnan(metrics.weighted_ranking(y_true, probabilities, weights)).all()
    assert np.isnan([metrics.balanced_accuracy(counts), metrics.mcc(counts)]).all()
    assert metrics.roc_curve(y_true, probabilities).x.size == 0
    assert metrics.precision_recall_curve(y_true, probabilities).x.size == 0
    assert 0 < metrics.brier_score(y_true, probabilities) < 1


def test_a_model_that_always_says_the_same_has_mcc_0():
    assert metrics.mcc(metrics.confusion_counts([0, 1, 1], [0.9, 0.9, 0.9], 0.5)) == 0


def test_curves_have_a_threshold_at_each_point_and_enclose_the_area():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 50)
    probabilities = np.round(rng.random(50), 1)
    roc = metrics.roc_curve(y_true, probabilities)
    assert roc.x.shape == roc.y.shape == roc.thresholds.shape
    assert sklearn_metrics.auc(roc.x, roc.y) == pytest.approx(metrics.roc_auc(y_true, probabilities))
    curve = metrics.precision_recall_curve(y_true, probabilities)
    assert curve.x.shape == curve.y.shape == curve.thresholds.shape
    assert -np.sum(np.diff(curve.x) * curve.y[:-1]) == pytest.approx(
        metrics.average_precision(y_true, probabilities)
    )
    for recall, threshold in zip(curve.x, curve.thresholds, strict=True):
        assert metrics.sensitivity(metrics.confusion_counts(y_true, probabilities, threshold)) == recall


@pytest.mark.parametrize(
    ("y_true", "probabilities", "said"),
    [
        ([0, 1], [0.5], "2 labels and 1 probabilities"),
        ([0, 1], [0.5, 1.2], r"in \[0, 1\], received 1.2 at position 1"),
        ([0, 1], [np.nan, 0.5], "received nan at position 0"),
        ([0, 2], [0.5, 0.5], "received 2 at position 1"),
        ([0, 1], [[0.5], [0.5]], r"received shape \(2, 1\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_words(y_true, probabilities, said):
    with pytest.raises(DataError, match=said):
        metrics.roc_auc(y_true, probabilities)
