"""Net benefit and predictive values follow from counts, and their intervals hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.evaluation import Interval, metrics, net_benefit, predictive_values, wilson

quick = settings(max_examples=60)


def sample(n=200, seed=0):
    rng = np.random.default_rng(seed)
    y_true = (rng.random(n) < 0.3).astype(int)
    return y_true, np.round(np.clip(rng.normal(0.3 + 0.3 * y_true, 0.2), 0, 1), 2)


def test_net_benefit_is_true_positives_less_false_ones_at_the_price_of_the_threshold():
    # At 0.2 a false positive costs a quarter: 3 true and 2 false ones of 10 images give (3 - 0.5) / 10.
    y_true = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    probabilities = [0.9, 0.5, 0.2, 0.1, 0.6, 0.2, 0.1, 0.1, 0.1, 0.1]
    curve = net_benefit(y_true, probabilities, thresholds=[0.2, 0.5])
    assert curve.model.tolist() == pytest.approx([0.25, (2 - 1) / 10])
    assert curve.treat_all.tolist() == pytest.approx([(4 - 6 / 4) / 10, (4 - 6) / 10])
    assert curve.treat_none.tolist() == [0, 0]


@quick
@given(st.integers(0, 1000), st.floats(0, 0.99))
def test_net_benefit_is_that_of_the_counts(seed, threshold):
    y_true, probabilities = sample(40, seed)
    counts = metrics.confusion_counts(y_true, probabilities, threshold)
    expected = (counts.tp - counts.fp * threshold / (1 - threshold)) / 40
    assert net_benefit(y_true, probabilities, thresholds=[threshold]).model[0] == pytest.approx(expected)


def test_treating_all_is_worth_the_prevalence_at_0_and_nothing_at_the_prevalence():
    y_true, probabilities = sample()
    prevalence = y_true.mean()
    curve = net_benefit(y_true, probabilities, thresholds=[0, prevalence])
    assert curve.treat_all.tolist() == pytest.approx([prevalence, 0])
    assert curve.model[0] == curve.treat_all[0]


def test_a_calibrated_model_is_never_worth_less_than_knowing_nothing():
    rng = np.random.default_rng(1)
    probabilities = rng.random(20_000)
    curve = net_benefit((rng.random(20_000) < probabilities).astype(int), probabilities)
    assert (curve.model > np.maximum(curve.treat_all, 0) - 0.002).all()


@pytest.mark.parametrize("threshold", [1.0, -0.1])
def test_thresholds_without_a_price_are_refused(threshold):
    with pytest.raises(SettingsError, match=r"in \[0, 1\)") as refused:
        net_benefit(*sample(), thresholds=[threshold])
    assert refused.value.parameter == "thresholds"


def test_net_benefit_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least one radiograph"):
        net_benefit([], [])


def test_mammography_finds_what_eddys_physicians_did_not():
    """Eddy (1982): a prevalence of 1%, a sensitivity of 79.2% and a false positive rate of 9.6%: 7.7%."""
    values = predictive_values(0.792, 1 - 0.096, 0.01)
    assert values.ppv.estimate == pytest.approx(0.077, abs=5e-4)
    assert math.isnan(values.ppv.low)


def test_at_the_sets_own_prevalence_they_are_precision_and_npv():
    counts = metrics.ConfusionCounts(tn=50, fp=10, fn=5, tp=35)
    values = predictive_values(wilson(35, 40), wilson(50, 60), 0.4)
    assert values.ppv.estimate == pytest.approx(metrics.precision(counts))
    assert values.npv.estimate == pytest.approx(50 / 55)


def test_the_intervals_are_near_mercaldos():
    """The logit intervals of Mercaldo, Lau & Zhou (2007) on 240 of 418 patients and 288 of 375 healthy."""
    sensitivity, specificity = 240 / 418, 288 / 375
    values = predictive_values(wilson(240, 418), wilson(288, 375), 0.03)
    error_of_ppv = math.sqrt((1 - sensitivity) / sensitivity / 418 + specificity / (1 - specificity) / 375)
    error_of_npv = math.sqrt(sensitivity / (1 - sensitivity) / 418 + (1 - specificity) / specificity / 375)
    for interval, error in ((values.ppv, error_of_ppv), (values.npv, error_of_npv)):
        expected = expit(logit(interval.estimate) + np.array([-1.96, 1.96]) * error)
        np.testing.assert_allclose([interval.low, interval.high], expected, rtol=0.01)


@pytest.mark.parametrize(
    ("ill", "healthy", "sensitivity", "specificity"), [(50, 50, 0.9, 0.8), (30, 80, 0.97, 0.95)]
)
def test_the_intervals_cover_the_truth(ill, healthy, sensitivity, specificity):
    rng = np.random.default_rng(2)
    truth = predictive_values(sensitivity, specificity, 0.1)
    held = np.zeros(2)
    for _ in range(2000):
        tp, tn = int(rng.binomial(ill, sensitivity)), int(rng.binomial(healthy, specificity))
        found = predictive_values(wilson(tp, ill), wilson(tn, healthy), 0.1)
        held += [
            found.ppv.low <= truth.ppv.estimate <= found.ppv.high,
            found.npv.low <= truth.npv.estimate <= found.npv.high,
        ]
    assert (held / 2000 > 0.93).all()
    assert (held / 2000 < 0.99).all()


@quick
@given(st.integers(0, 20), st.integers(0, 20), st.floats(0.001, 0.999))
def test_each_interval_holds_its_estimate_and_stays_in_range(tp, tn, prevalence):
    values = predictive_values(wilson(tp, 20), wilson(tn, 20), prevalence)
    for interval in (values.ppv, values.npv):
        if not math.isnan(interval.estimate):
            assert -1e-12 <= interval.low <= interval.estimate + 1e-9
            assert interval.estimate - 1e-9 <= interval.high <= 1
            assert interval.high - interval.low > 1e-6


def test_no_false_positive_among_a_few_does_not_make_the_ppv_certain():
    values = predictive_values(wilson(18, 20), wilson(20, 20), 0.1)
    assert values.ppv.estimate == values.ppv.high == 1
    assert 0.2 < values.ppv.low < 0.5


def test_without_predicted_positives_there_is_no_ppv():
    values = predictive_values(wilson(0, 20), wilson(20, 20), 0.1)
    assert math.isnan(values.ppv.estimate)
    assert values.npv.estimate == pytest.approx(0.9)


@quick
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_shares_that_are_certain_give_values_that_are(sensitivity, specificity):
    certain = [Interval(share, share, share, "known") for share in (sensitivity, specificity)]
    values = predictive_values(*certain, 0.3)
    for interval in (values.ppv, values.npv):
        assert (interval.low, interval.high) == pytest.approx((interval.estimate,) * 2)


def test_without_one_class_there_are_no_predictive_values():
    undefined = Interval(math.nan, math.nan, math.nan, "wilson")
    for cleared in (3, 4):
        for values in (
            predictive_values(undefined, wilson(cleared, 4), 0.1),
            predictive_values(wilson(cleared, 4), undefined, 0.1),
        ):
            assert math.isnan(values.ppv.estimate) and math.isnan(values.npv.estimate)


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 10, math.nan])
def test_a_prevalence_that_is_no_share_is_refused(prevalence):
    with pytest.raises(SettingsError, match="`prevalence` between 0 and 1") as refused:
        predictive_values(0.9, 0.9, prevalence)
    assert refused.value.parameter == "prevalence"
