"""Reliability, Brier score and scalings agree with scikit-learn and with Murphy's identity."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import (
    PlattScaling,
    TemperatureScaling,
    brier_decomposition,
    calibration_of,
    fit_scalings,
    metrics,
    reliability,
)
from pneumokeras.evaluation.calibration import TEMPERATURES

quick = settings(max_examples=60)


def drawn(n=400, *, slope=1.0, intercept=0.0, seed=0):
    """Probabilities whose logits are off by a line: the truth is `slope * logit + intercept`."""
    rng = np.random.default_rng(seed)
    probabilities = expit(rng.normal(0, 2, n))
    y_true = (rng.random(n) < expit(slope * logit(probabilities) + intercept)).astype(int)
    return y_true, probabilities


@st.composite
def labeled(draw):
    """Labels and probabilities, 0, 1 and ties among them."""
    n = draw(st.integers(1, 40))
    y_true = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    steps = draw(st.sampled_from([1, 10, 1000]))
    return y_true, draw(hnp.arrays(np.int64, n, elements=st.integers(0, steps))) / steps


def test_the_reliability_curve_is_scikit_learns():
    y_true, probabilities = drawn()
    seen, said = calibration_curve(y_true, probabilities, n_bins=10)
    bins = reliability(y_true, probabilities)
    np.testing.assert_allclose([bin.observed.estimate for bin in bins], seen)
    np.testing.assert_allclose([bin.mean_probability for bin in bins], said)
    assert sum(bin.images for bin in bins) == 400
    assert [bin.low for bin in bins] == [index / 10 for index in range(10)]


@quick
@given(labeled())
def test_the_gaps_of_the_reliability_curve_make_the_calibration_error(sample):
    bins = [bin for bin in reliability(*sample) if bin.images]
    gaps = [bin.images * abs(bin.observed.estimate - bin.mean_probability) for bin in bins]
    assert sum(gaps) / sample[0].size == pytest.approx(metrics.expected_calibration_error(*sample))


def test_an_empty_bin_has_no_figures_and_a_patients_images_count_less():
    y_true, probabilities = np.tile([1, 1, 1, 0], 5), np.full(20, 0.75)
    alone = reliability(y_true, probabilities)
    assert math.isnan(alone[0].mean_probability)
    assert math.isnan(alone[0].observed.low)
    assert alone[7].images == 20
    copies = reliability(np.repeat(y_true, 3), np.repeat(probabilities, 3), np.repeat(np.arange(20), 3))
    assert copies[7].observed.low == pytest.approx(alone[7].observed.low)


@quick
@given(labeled(), st.integers(1, 15))
def test_the_parts_of_the_brier_score_add_up_to_it(sample, bins):
    parts = brier_decomposition(*sample, bins=bins)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert total == pytest.approx(metrics.brier_score(*sample), abs=1e-12)


@quick
@given(labeled())
def test_murphys_three_parts_are_the_brier_score_where_each_bin_holds_one_probability(sample):
    y_true, probabilities = sample
    forecasts = np.minimum(np.floor(probabilities * 10), 9) / 10 + 0.05
    parts = brier_decomposition(y_true, forecasts)
    assert parts.within_bins == pytest.approx(0, abs=1e-12)
    murphy = parts.reliability - parts.resolution + parts.uncertainty
    assert murphy == pytest.approx(metrics.brier_score(y_true, forecasts), abs=1e-12)


def test_the_parts_of_a_worked_example():
    # 0.25 is said four times and seen once, 0.75 four times and seen four times; the prevalence is 5 / 8.
    parts = brier_decomposition([0, 0, 0, 1, 1, 1, 1, 1], [0.25] * 4 + [0.75] * 4)
    assert parts.reliability == pytest.approx((0 + 0.25**2) / 2)
    assert parts.resolution == pytest.approx((0.375**2 + 0.375**2) / 2)
    assert parts.uncertainty == pytest.approx(15 / 64)
    assert parts.within_bins == pytest.approx(0)


def regression_on_soft_labels(y_true, probabilities, *, intercept):
    """scikit-learn's regression on Platt's targets: each image once in each class, weighted."""
    positives, negatives = y_true.sum(), (1 - y_true).sum()
    targets = np.where(y_true == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    logits = np.tile(logit(probabilities), 2)[:, np.newaxis]
    labels = np.repeat([1, 0], y_true.size)
    weights = np.concatenate([targets, 1 - targets])
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-10, max_iter=1000)
    return model.fit(logits, labels, sample_weight=weights)


def test_platt_scaling_is_scikit_learns_regression_on_platts_targets():
    y_true, probabilities = drawn(slope=0.6, intercept=-1)
    expected = regression_on_soft_labels(y_true, probabilities, intercept=True)
    found = PlattScaling.fit(y_true, probabilities)
    assert found.slope == pytest.approx(expected.coef_[0, 0], rel=1e-4)
    assert found.intercept == pytest.approx(expected.intercept_[0], rel=1e-4)


def test_the_temperature_is_scikit_learns_regression_through_the_origin():
    y_true, probabilities = drawn(slope=0.4)
    expected = regression_on_soft_labels(y_true, probabilities, intercept=False)
    found = TemperatureScaling.fit(y_true, probabilities)
    assert 1 / found.temperature == pytest.approx(expected.coef_[0, 0], rel=1e-4)


def test_scalings_find_the_line_that_the_logits_are_off_by():
    y_true, probabilities = drawn(20_000, slope=0.5, intercept=-0.7)
    platt = PlattScaling.fit(y_true, probabilities)
    assert (platt.slope, platt.intercept) == pytest.approx((0.5, -0.7), abs=0.05)
    y_true, probabilities = drawn(20_000, slope=0.5)
    assert TemperatureScaling.fit(y_true, probabilities).temperature == pytest.approx(2, abs=0.1)


def test_what_was_fitted_on_validation_mends_other_radiographs():
    scalings = fit_scalings(*drawn(2000, slope=0.4, intercept=0.5, seed=1))
    calibration = calibration_of(*drawn(2000, slope=0.4, intercept=0.5, seed=2), scalings=scalings)
    none, temperature, platt = (calibration.scalings[name] for name in ("none", "temperature", "platt"))
    assert platt.log_loss < temperature.log_loss < none.log_loss
    assert platt.calibration_error < 0.04 < none.calibration_error
    assert platt.brier < none.brier
    assert none.brier == metrics.brier_score(*drawn(2000, slope=0.4, intercept=0.5, seed=2))


@quick
@given(
    labeled(),
    st.one_of(
        st.builds(TemperatureScaling, st.floats(*TEMPERATURES)),
        st.builds(PlattScaling, st.floats(0, 50), st.floats(-20, 20)),
    ),
)
def test_scaled_probabilities_rise_with_the_probabilities_and_stay_in_range(sample, scaling):
    _, probabilities = sample
    rising = np.sort(np.append(probabilities, [0, 1, 1e-300, 1 - 1e-16]))
    scaled = scaling(rising)
    assert (np.diff(scaled) >= 0).all()
    assert ((scaled >= 0) & (scaled <= 1)).all()


def test_a_temperature_of_1_changes_nothing_and_a_half_stays():
    probabilities = np.array([1e-6, 0.2, 0.5, 0.99])
    np.testing.assert_allclose(TemperatureScaling(1.0)(probabilities), probabilities)
    np.testing.assert_allclose(PlattScaling(1.0, 0.0)(probabilities), probabilities)
    assert TemperatureScaling(7.0)([0.5]) == 0.5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("probabilities", [[0, 0, 1, 1], [0.4, 0.45, 0.55, 0.6], [1, 1, 0, 0], [0.5] * 4])
def test_perfect_and_hopeless_predictions_give_finite_scalings(probabilities):
    y_true = [0, 0, 1, 1]
    for scaling in fit_scalings(y_true, probabilities).values():
        assert np.isfinite(scaling(probabilities)).all()
        assert np.isfinite(metrics.log_loss(y_true, scaling(probabilities)))
    assert TEMPERATURES[0] <= TemperatureScaling.fit(y_true, probabilities).temperature <= TEMPERATURES[1]


def test_a_scaling_is_not_fitted_on_one_class():
    for scaling in (TemperatureScaling, PlattScaling):
        with pytest.raises(DataError, match=r"of both classes to fit a scaling .* 0 NORMAL and 2 PNEUMONIA"):
            scaling.fit([1, 1], [0.2, 0.3])
