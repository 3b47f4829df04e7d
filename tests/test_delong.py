"""DeLong's variance is the published one, knows that patients repeat, and never claims certainty."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation import delong, delong_interval, delong_test

quick = settings(max_examples=60)

# Albumin, total protein, K-G score, and who benefits from surgery: the 43 complete cases of DeLong, DeLong &
# Clarke-Pearson (1988), as SAS/STAT's documentation of PROC LOGISTIC prints them.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def ovarian_tests():
    albumin, protein, score, benefits = np.array(OVARIAN.split(), float).reshape(-1, 4).T
    return benefits.astype(int), {"albumin": albumin / 10, "protein": protein / 10, "K-G": 1 - score / 10}


def standard_error(y_true, probabilities, patients=None):
    components = delong._components(y_true, [probabilities], patients)
    return math.sqrt(delong._covariance(components)[0, 0])


def whole_numbers(shape, highest):
    """Arrays in which each number is drawn for itself, so that patients get images of both classes."""
    return hnp.arrays(np.int64, shape, elements=st.integers(0, highest), fill=st.nothing())


@st.composite
def two_models(draw):
    """Labels of both classes, two models' probabilities with ties, and patients."""
    n = draw(st.integers(4, 24))
    y_true = draw(whole_numbers(n, 1))
    y_true[:4] = 0, 1, 0, 1
    steps = draw(st.sampled_from([2, 5, 1000]))
    ranks = draw(whole_numbers((2, n), steps))
    patients = draw(whole_numbers(n, n // 3))
    patients[:4] = n + 1, n + 2, n + 3, n + 4
    return y_true, ranks[0] / steps, ranks[1] / steps, patients


@pytest.mark.parametrize(
    ("test", "area", "error"),
    [("albumin", 0.7366, 0.0927), ("K-G", 0.7258, 0.1028), ("protein", 0.6478, 0.1)],
)
def test_areas_and_errors_are_those_that_sas_prints_for_delongs_own_data(test, area, error):
    y_true, tests = ovarian_tests()
    assert delong_interval(y_true, tests[test]).estimate == pytest.approx(area, abs=5e-5)
    assert standard_error(y_true, tests[test]) == pytest.approx(error, abs=5e-5)


@pytest.mark.parametrize(
    ("test", "difference", "low", "high", "p_value"),
    [("albumin", 0.0108, -0.1761, 0.1976, 0.9102), ("protein", -0.0780, -0.2830, 0.1271, 0.4561)],
)
def test_comparisons_are_those_that_sas_prints_for_delongs_own_data(test, difference, low, high, p_value):
    y_true, tests = ovarian_tests()
    found = delong_test(y_true, tests["K-G"], tests[test])
    printed = (found.difference.estimate, found.difference.low, found.difference.high, found.p_value)
    assert printed == pytest.approx((difference, low, high, p_value), abs=5e-5)


def obuchowski_by_hand(y_true, models, patients):
    """Obuchowski (1997), section 3: every pair looked at, every sum over patients written out."""
    positives, negatives = np.flatnonzero(y_true == 1), np.flatnonzero(y_true == 0)
    m, n = positives.size, negatives.size
    areas, by_patient = [], []
    everyone = np.unique(patients)
    for p in models:
        won = [[0.5 * (p[i] == p[j]) + (p[i] > p[j]) for j in negatives] for i in positives]
        v10, v01 = np.mean(won, axis=1), np.mean(won, axis=0)
        area = np.mean(won)
        areas.append(area)
        by_patient.append(
            [
                (
                    sum(v10[k] - area for k in range(m) if patients[positives[k]] == who),
                    sum(v01[k] - area for k in range(n) if patients[negatives[k]] == who),
                )
                for who in everyone
            ]
        )
    i10, i01 = np.unique(patients[positives]).size, np.unique(patients[negatives]).size
    i = everyone.size
    covariance = np.zeros((len(models), len(models)))
    for r, s in np.ndindex(covariance.shape):
        pairs = list(zip(by_patient[r], by_patient[s], strict=True))
        s10 = i10 / ((i10 - 1) * m) * sum(a[0] * b[0] for a, b in pairs)
        s01 = i01 / ((i01 - 1) * n) * sum(a[1] * b[1] for a, b in pairs)
        s11 = i / (i - 1) * sum(a[0] * b[1] for a, b in pairs)
        s11_turned = i / (i - 1) * sum(a[1] * b[0] for a, b in pairs)
        covariance[r, s] = s10 / m + s01 / n + (s11 + s11_turned) / (m * n)
    return np.array(areas), covariance


@quick
@given(two_models())
def test_the_fast_covariance_is_the_one_by_hand(sample):
    y_true, a, b, patients = sample
    components = delong._components(y_true, [a, b], patients)
    areas, covariance = obuchowski_by_hand(y_true, [a, b], patients)
    np.testing.assert_allclose(components.areas, areas, atol=1e-12)
    np.testing.assert_allclose(delong._covariance(components), covariance, atol=1e-12)


def test_what_the_classes_of_one_patient_share_is_counted():
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(12), 4)
    y_true = np.tile([0, 1, 1, 0], 12)
    probabilities = rng.random((2, 48)) / 2 + np.repeat(rng.random(12), 4) / 4 + y_true / 4
    _, covariance = obuchowski_by_hand(y_true, probabilities, patients)
    components = delong._components(y_true, list(probabilities), patients)
    np.testing.assert_allclose(delong._covariance(components), covariance, atol=1e-12)
    apart = delong._components(y_true, list(probabilities), 2 * patients + y_true)
    assert not np.allclose(delong._covariance(apart), covariance, rtol=0.1)


@quick
@given(two_models())
def test_the_area_is_scikit_learns_and_lies_in_its_interval(sample):
    y_true, a, _, patients = sample
    interval = delong_interval(y_true, a, patients)
    assert interval.estimate == pytest.approx(sklearn_metrics.roc_auc_score(y_true, a))
    assert 0 <= interval.low <= interval.estimate + 1e-12
    assert interval.estimate - 1e-12 <= interval.high <= 1
    assert interval.low < interval.high


ONLY_ROUNDING = (
    np.array([0, 1, 0, 1, *[0] * 19]),
    np.array([*[0.0] * 21, 0.5, 0.0]),
    np.array([*[0.0] * 17, 0.5, *[0.0] * 5]),
    np.array([24, 25, 26, 27, *[0] * 18, 1]),
)
"""Labels, two models and patients whose difference has no variance but what rounding leaves."""


@quick
@given(two_models())
@example(ONLY_ROUNDING)
def test_turning_the_comparison_round_turns_its_sign_only(sample):
    y_true, a, b, patients = sample
    one, other = delong_test(y_true, a, b, patients), delong_test(y_true, b, a, patients)
    assert one.difference.estimate == -other.difference.estimate
    assert one.p_value == pytest.approx(other.p_value, nan_ok=True)
    assert one.difference.low == pytest.approx(-other.difference.high, nan_ok=True)


@quick
@given(two_models())
def test_patients_with_one_image_each_are_no_patients(sample):
    y_true, a, b, _ = sample
    whose = [f"person{index}" for index in range(y_true.size)]
    for named, alone in [
        (delong_interval(y_true, a, whose), delong_interval(y_true, a)),
        (delong_test(y_true, a, b, whose).difference, delong_test(y_true, a, b).difference),
    ]:
        ends = (alone.estimate, alone.low, alone.high)
        assert (named.estimate, named.low, named.high) == pytest.approx(ends, nan_ok=True)


def test_copies_of_each_patients_image_say_nothing_new():
    y_true, tests = ovarian_tests()
    patients = np.repeat(np.arange(y_true.size), 3)
    once, thrice = (
        delong_interval(y_true, tests["albumin"]),
        delong_interval(np.repeat(y_true, 3), np.repeat(tests["albumin"], 3), patients),
    )
    assert (once.low, once.high) == pytest.approx((thrice.low, thrice.high))
    one = delong_test(y_true, tests["K-G"], tests["albumin"])
    many = delong_test(
        np.repeat(y_true, 3), np.repeat(tests["K-G"], 3), np.repeat(tests["albumin"], 3), patients
    )
    assert many.p_value == pytest.approx(one.p_value)


def test_a_perfect_area_is_not_certain_and_the_less_so_the_fewer_patients():
    y_true, probabilities = np.repeat([0, 1], 50), np.linspace(0, 1, 100)
    alone = delong_interval(y_true, probabilities)
    shared = delong_interval(y_true, probabilities, np.arange(100) // 5)
    assert alone.estimate == shared.estimate == alone.high == shared.high == 1
    assert shared.low < 0.9 < alone.low < 0.98
    assert alone.method == "newcombe"
    worst = delong_interval(1 - y_true, probabilities)
    assert (worst.low, worst.high) == pytest.approx((0, 1 - alone.low))


def test_newcombes_ends_lie_196_of_their_own_errors_away():
    interval = delong._newcombe(0.8, 30, 20)
    for end in (interval.low, interval.high):
        q1, q2 = (
            end / (2 - end),
            2 * end**2 / (1 + end),
        )  # Hanley & McNeil (1982), both numbers replaced by 25
        variance = (end * (1 - end) + 24 * (q1 - end**2) + 24 * (q2 - end**2)) / (30 * 20)
        assert abs(0.8 - end) == pytest.approx(norm.ppf(0.975) * math.sqrt(variance))


def test_a_constant_model_has_a_wide_interval_around_one_half():
    interval = delong_interval(np.repeat([0, 1], 10), np.full(20, 0.7))
    assert interval.estimate == 0.5
    assert interval.low < 0.3
    assert interval.high > 0.7


def test_one_class_has_no_area():
    assert math.isnan(delong_interval([1, 1], [0.2, 0.3]).estimate)
    assert math.isnan(delong_test([1, 1], [0.2, 0.3], [0.2, 0.3]).p_value)


def test_the_same_model_twice_does_not_differ_and_two_perfect_ones_do_not_prove_it():
    y_true = np.repeat([0, 1], 4)
    for other in (np.linspace(0, 1, 8), np.linspace(0, 1, 8) ** 2):
        test = delong_test(y_true, np.linspace(0, 1, 8), other)
        assert (test.difference.estimate, test.p_value) == (0, 1)
        assert math.isnan(test.difference.low)
    test = delong_test(y_true, np.full(8, 0.5), np.linspace(0, 1, 8))
    assert test.difference.estimate == 0.5
    assert math.isnan(test.p_value)


def test_patients_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="one patient per label, received 1 and 2"):
        delong_interval([0, 1], [0.2, 0.3], ["a"])


def binormal(rng, *, patients, images, patient_spread):
    """Half of the patients are ill; a patient's images share a shift. Two images differ by 2 on average."""
    ill = np.repeat(np.arange(patients) % 2, images)
    shift = np.repeat(rng.normal(0, patient_spread, patients), images)
    scores = 2 * ill + shift + rng.normal(0, 1, patients * images)
    return ill, norm.cdf(scores / 4), np.repeat(np.arange(patients), images)


def coverage(*, samples, by_patient, patient_spread, images):
    truth = norm.cdf(2 / math.sqrt(2 * (1 + patient_spread**2)))
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(samples):
        y_true, probabilities, whose = binormal(
            rng, patients=80, images=images, patient_spread=patient_spread
        )
        interval = delong_interval(y_true, probabilities, whose if by_patient else None)
        held += interval.low <= truth <= interval.high
    return held / samples


def test_the_interval_covers_the_truth():
    assert 0.93 < coverage(samples=1000, by_patient=False, patient_spread=0, images=1) < 0.975


def test_the_interval_covers_the_truth_although_patients_repeat():
    assert 0.92 < coverage(samples=600, by_patient=True, patient_spread=1, images=4) < 0.98
    assert coverage(samples=600, by_patient=False, patient_spread=1, images=4) < 0.85


def test_equal_models_are_called_different_once_in_twenty():
    rng = np.random.default_rng(5)
    rejected = 0
    for _ in range(1000):
        y_true, a, whose = binormal(rng, patients=60, images=2, patient_spread=1)
        b = norm.cdf((2 * y_true + np.repeat(rng.normal(0, 1, 60), 2) + rng.normal(0, 1, 120)) / 4)
        rejected += delong_test(y_true, a, b, whose).p_value < 0.05
    assert 0.03 < rejected / 1000 < 0.075
