"""Intervals match published values and hold for patients with several radiographs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from pneumokeras.core.errors import SettingsError
from pneumokeras.evaluation import intervals, metrics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998(successes, n, low, high):
    interval = intervals.wilson(successes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    assert interval.estimate == successes / n
    assert interval.method == "wilson"


@given(st.integers(1, 300), st.data())
def test_wilson_is_statsmodels(n, data):
    successes = data.draw(st.integers(0, n))
    interval = intervals.wilson(successes, n)
    expected = proportion_confint(successes, n, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-9)


def test_fewer_effective_images_widen_wilson_and_leave_the_estimate():
    wide, narrow = intervals.wilson(80, 100, effective_n=50), intervals.wilson(80, 100)
    assert wide.estimate == narrow.estimate
    assert (wide.low, wide.high) == pytest.approx(
        (intervals.wilson(40, 50).low, intervals.wilson(40, 50).high)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_share_of_no_images_is_nan():
    interval = intervals.proportion_interval(np.empty(0), np.empty(0))
    assert all(math.isnan(value) for value in (interval.estimate, interval.low, interval.high))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_patients_with_one_image_each_have_design_effect_1(values):
    assert intervals.design_effect(values, np.arange(len(values))) == pytest.approx(1)


@given(st.lists(st.booleans(), min_size=2, max_size=20), st.integers(1, 6))
def test_m_identical_images_of_each_patient_have_design_effect_m(values, m):
    patients = np.repeat(np.arange(len(values)), m)
    assert intervals.design_effect(np.repeat(values, m), patients) == pytest.approx(m)


def test_images_that_disagree_within_patients_have_design_effect_1_once_there_are_enough_to_show_it():
    few, many = (intervals.design_effect([0, 1] * n, np.arange(2 * n) // 2) for n in (2, 2000))
    assert 1 < few < 2
    assert many == pytest.approx(1, abs=0.003)


SIZES = {
    "alone": np.ones(200, int),
    "pairs": np.full(100, 2),
    "fours": np.append(np.full(48, 4), 3),
    "twenties": np.full(20, 20),
    "as in the Kaggle set": np.repeat([1, 2, 3, 4, 6, 9], [70, 25, 12, 6, 3, 1]),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("first", ["largest", "smallest"])
def test_one_more_mistake_never_raises_the_lower_end(sizes, first):
    """Mistakes are dealt out to the patients in turn."""
    patients = np.repeat(np.arange(sizes.size), sizes)
    turns = np.concatenate([np.arange(size) for size in sizes])
    order = np.lexsort((sizes[patients] * (-1 if first == "largest" else 1), turns))
    right = np.ones(patients.size)
    intervals_by_mistakes = [intervals.proportion_interval(right, patients)]
    for image in order[: patients.size // 2]:
        right[image] = 0
        intervals_by_mistakes.append(intervals.proportion_interval(right, patients))
    lows = np.array([interval.low for interval in intervals_by_mistakes])
    highs = np.array([interval.high for interval in intervals_by_mistakes])
    assert np.diff(lows).max() < 1e-12
    assert np.diff(highs).max() < 1e-12


def test_the_design_effect_goes_from_kishs_to_the_linearized_one_as_mistakes_show_it():
    right = np.ones(800)
    patients = np.arange(800) // 4
    effects = []
    for mistakes in (0, 1, 20, 200):
        right[: 4 * mistakes : 4] = 0
        effects.append(intervals.design_effect(right, patients))
    assert effects[0] == 4
    assert effects == sorted(effects, reverse=True)
    assert effects[-1] < 1.2


@pytest.mark.parametrize("values", [[1, 1, 1, 1], [0, 0, 0, 0]])
def test_where_all_images_agree_the_design_effect_is_kishs(values):
    assert intervals.design_effect(values, ["a", "a", "a", "b"]) == (9 + 1) / 4


def test_one_patient_is_worth_one_image():
    assert intervals.design_effect([1, 0, 1, 1], ["a"] * 4) == 4


def test_195_of_195_does_not_read_1_to_1():
    alone = intervals.proportion_interval(np.ones(195), np.arange(195))
    shared = intervals.proportion_interval(np.ones(195), np.arange(195) // 3)
    assert alone.estimate == shared.estimate == 1
    assert shared.low < alone.low < 0.985
    assert shared.high == alone.high == 1


def test_patient_weights_draw_whole_patients_as_many_as_there_are():
    patients = np.array(["b", "a", "b", "c", "c", "c"])
    weights = intervals.patient_weights(patients, replicates=500, rng=np.random.default_rng(0))
    assert weights.shape == (500, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)
    np.testing.assert_allclose(weights.var(axis=0), 2 / 3, atol=0.15)


def test_the_bootstrap_is_the_same_in_one_piece_and_in_many(monkeypatch):
    def totals(weights):
        return {"total": weights @ np.arange(7)}

    def draw():
        return intervals.patient_bootstrap(
            totals, np.arange(7) // 2, replicates=50, rng=np.random.default_rng(1)
        )["total"]

    whole = draw()
    monkeypatch.setattr(intervals, "WEIGHTS_AT_ONCE", 7 * 3)
    np.testing.assert_array_equal(draw(), whole)
    assert whole.shape == (50,)


def test_a_bootstrap_without_replicates_is_refused():
    with pytest.raises(SettingsError, match=r"`replicates` of at least 1\. Received 0"):
        intervals.patient_bootstrap(lambda weights: {}, [1], replicates=0, rng=np.random.default_rng(0))


def test_percentiles_leave_undefined_replicates_out():
    values = np.concatenate([np.linspace(0, 1, 1001), np.full(500, np.nan)])
    interval = intervals.percentile_interval(0.4, values)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.4, 0.025, 0.975))
    assert interval.method == "bootstrap"


@pytest.mark.parametrize("values", [[0.1, 0.2, np.nan, np.nan], [np.nan] * 4, [1.0] * 4])
def test_replicates_that_are_undefined_or_do_not_vary_give_no_interval(values):
    interval = intervals.percentile_interval(1.0, np.array(values))
    assert interval.estimate == 1
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def clustered_sample(rng):
    """40 patients with 4 images; a patient's images are right or wrong together."""
    patients = np.repeat(np.arange(40), 4)
    right = rng.random(40) < 0.8
    probabilities = np.where(right[patients], 0.7, 0.3) + rng.uniform(-0.1, 0.1, patients.size)
    return patients, probabilities


def coverage(interval_of, truth, *, samples):
    rng = np.random.default_rng(3)
    found = [interval_of(*clustered_sample(rng), rng) for _ in range(samples)]
    return np.mean([interval.low <= truth <= interval.high for interval in found])


def test_the_interval_of_a_proportion_covers_the_truth_although_patients_repeat():
    def by_patient(patients, probabilities, rng):
        return intervals.proportion_interval(probabilities >= 0.5, patients)

    def by_image(patients, probabilities, rng):
        return intervals.proportion_interval(probabilities >= 0.5, np.arange(patients.size))

    assert coverage(by_patient, 0.8, samples=2000) > 0.91
    assert coverage(by_image, 0.8, samples=2000) < 0.75


def test_the_bootstrap_over_patients_covers_the_truth_although_patients_repeat():
    truth = 0.8 * (0.3**2 + 0.1**2 / 3) + 0.2 * (0.7**2 + 0.1**2 / 3)

    def brier_interval(patients, probabilities, rng):
        y_true = np.ones(patients.size, dtype=int)
        weights = intervals.patient_weights(patients, replicates=300, rng=rng)
        replicates = metrics.weighted_brier_score(y_true, probabilities, weights)
        return intervals.percentile_interval(metrics.brier_score(y_true, probabilities), replicates)

    def by_image(patients, probabilities, rng):
        return brier_interval(np.arange(patients.size), probabilities, rng)

    assert coverage(brier_interval, truth, samples=300) > 0.88
    assert coverage(by_image, truth, samples=300) < 0.75


def test_hanley_and_mcneil_come_near_the_standard_error_of_their_example():
    """51 abnormal and 58 normal images, area 0.893: 0.032 by the ranks, of which this knows only the area."""
    found = intervals.hanley_mcneil(0.893, negatives=58, positives=51)
    assert (found.high - found.estimate) / intervals.Z == pytest.approx(0.032, abs=1e-3)
    assert found.method == "hanley-mcneil"


def test_hanley_and_mcneil_agree_with_resampling_exponential_scores():
    """Their approximation is exact where the scores of both classes are exponential."""
    rng = np.random.default_rng(0)
    normal, sick = rng.exponential(1, (3000, 58)), rng.exponential(9, (3000, 51))  # area 9 / (1 + 9)
    areas = (sick[:, :, None] > normal[:, None, :]).mean((1, 2))
    found = intervals.hanley_mcneil(0.9, negatives=58, positives=51)
    assert areas.mean() == pytest.approx(0.9, abs=2e-3)
    assert (found.estimate - found.low) / intervals.Z == pytest.approx(areas.std(), rel=0.05)


def test_hanley_and_mcneils_interval_stays_in_0_to_1():
    assert intervals.hanley_mcneil(0.99, negatives=5, positives=5).high == 1
    assert intervals.hanley_mcneil(1.0, negatives=5, positives=5).low == 1


def test_the_mean_of_two_is_as_sure_as_resampling_both_says():
    sensitivity, specificity = intervals.wilson(371, 390), intervals.wilson(187, 234)
    rng = np.random.default_rng(0)
    drawn = (rng.binomial(390, 371 / 390, 50_000) / 390 + rng.binomial(234, 187 / 234, 50_000) / 234) / 2
    found = intervals.mean_of_two(sensitivity, specificity)
    assert found.estimate == pytest.approx(drawn.mean(), abs=1e-3)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=5e-3)


def test_a_mean_of_one_that_is_not_known_has_no_interval():
    unknown = intervals.Interval(math.nan, math.nan, math.nan, "none")
    assert math.isnan(intervals.mean_of_two(intervals.wilson(9, 10), unknown).low)
