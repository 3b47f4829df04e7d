"""The separability measures see what there is to see, and nothing where there is nothing."""

import numpy as np
import pytest

from pneumokeras.data.audit import separability
from pneumokeras.data.audit.separability import MIN_IMAGES, MIN_PATIENTS, separation, shift_features


def drawn(count=200, effect=0.0, seed=0):
    rng = np.random.default_rng(seed)
    sides = np.arange(count) % 2
    features = rng.standard_normal((count, 6))
    features[:, 2] += effect * sides
    patients = np.array([f"patient {number}" for number in range(count)], dtype=object)
    return features, sides, patients


def test_a_telling_feature_is_seen_and_named():
    found = separation(*drawn(effect=3.0), names=tuple("abcdef"))
    assert found.auc > 0.95
    assert next(iter(found.alone)) == "c"
    assert all(auc >= 0.5 for auc in found.alone.values())


@pytest.mark.parametrize("seed", range(5))
def test_noise_stays_about_chance(seed):
    found = separation(*drawn(seed=seed), seed=seed)
    assert abs(found.auc - 0.5) < 0.15
    assert found.chance == pytest.approx(0.58, abs=0.01)


def test_patients_are_kept_whole_so_that_knowing_them_does_not_help():
    """Each patient is one point, many times over: known by heart, it would be told without an error."""
    rng = np.random.default_rng(0)
    people, repeats = 40, 20
    features = np.repeat(rng.standard_normal((people, 60)), repeats, axis=0)
    sides = np.repeat(np.arange(people) % 2, repeats)
    patients = np.repeat(np.array([str(number) for number in range(people)], dtype=object), repeats)
    each_its_own = np.arange(len(sides)).astype(str).astype(object)
    assert separation(features, sides, patients).auc < 0.75
    assert separation(features, sides, each_its_own).auc > 0.99


@pytest.mark.parametrize(
    "few",
    [
        np.r_[np.zeros(100, int), np.ones(MIN_IMAGES - 1, int)],
        np.zeros(100, int),
        np.zeros(0, int),
    ],
)
def test_too_few_of_a_side_is_no_figure(few):
    features = np.random.default_rng(0).standard_normal((len(few), 3))
    assert separation(features, few, np.arange(len(few)).astype(str)) is None


def test_too_few_patients_of_a_side_is_no_figure():
    features, sides, patients = drawn()
    patients[sides == 1] = [f"p{number % (MIN_PATIENTS - 1)}" for number in range(100)]
    assert separation(features, sides, patients) is None


def test_of_many_radiographs_some_are_drawn(monkeypatch):
    monkeypatch.setattr(separability, "MAX_IMAGES", 30)
    features, sides, patients = drawn()
    found = separation(features, sides, patients, seed=1)
    assert np.bincount(sides[found.rows]).tolist() == [30, 30]
    assert (separation(features, sides, patients, seed=1).rows == found.rows).all()


def test_the_picture_of_the_shift_features_is_averaged():
    thumbnails = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4)
    features = shift_features(thumbnails, np.full((2, 3), 7.0))
    assert features.shape == (2, 7)
    assert features[0].tolist() == [2.5, 4.5, 10.5, 12.5, 7, 7, 7]
