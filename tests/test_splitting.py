"""Splits keep a patient whole and the classes in proportion, and depend on seed and names alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumokeras.data.splitting import fold_by_patient, split_by_patient, tie_duplicates

THREE = {"train": 0.8, "val": 0.1, "test": 0.1}
TWO = {"train": 0.9, "val": 0.1}


def hospital(seed, patients, *, prevalence=0.6, most=5, mixed=0.0):
    """Radiographs of made-up patients, in no order: labels and the patient of each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, patients)
    names = np.repeat([f"patient {index}" for index in range(patients)], sizes).astype(object)
    labels = np.repeat((rng.random(patients) < prevalence).astype(int), sizes)
    labels = np.where(rng.random(len(labels)) < mixed, 1 - labels, labels)
    order = rng.permutation(len(labels))
    return labels[order], names[order]


@given(seed=st.integers(0, 1000), patients=st.integers(1, 80), mixed=st.sampled_from([0.0, 0.2]))
@settings(max_examples=60)
def test_a_patient_is_never_on_both_sides(seed, patients, mixed):
    labels, names = hospital(seed, patients, mixed=mixed)
    for fractions in (THREE, TWO):
        splits = split_by_patient(labels, names, fractions=fractions, seed=seed)
        assert set(splits) <= set(fractions)
        for name in set(names):
            assert len(set(splits[names == name])) == 1


@given(seed=st.integers(0, 1000), patients=st.integers(1, 80), shuffle=st.randoms())
@settings(max_examples=40)
def test_the_order_of_the_files_does_not_matter(seed, patients, shuffle):
    labels, names = hospital(seed, patients)
    order = list(range(len(labels)))
    shuffle.shuffle(order)
    splits = split_by_patient(labels, names, fractions=THREE, seed=seed)
    again = split_by_patient(labels[order], names[order], fractions=THREE, seed=seed)
    assert np.array_equal(splits[order], again)


@given(seed=st.integers(0, 1000), prevalence=st.floats(0.2, 0.8), patients=st.integers(500, 900))
@settings(max_examples=15)
def test_sizes_and_class_rates_hold_within_one_percent(seed, prevalence, patients):
    labels, names = hospital(seed, patients, prevalence=prevalence)
    splits = split_by_patient(labels, names, fractions=THREE, seed=seed)
    for split, fraction in THREE.items():
        chosen = splits == split
        assert abs(chosen.mean() - fraction) < 0.01
        assert abs(labels[chosen].mean() - labels.mean()) < 0.01


def test_different_seeds_split_differently():
    labels, names = hospital(0, 100)
    splits = {tuple(split_by_patient(labels, names, fractions=THREE, seed=seed)) for seed in range(10)}
    assert len(splits) == 10


def test_the_split_of_a_seed_never_changes():
    """The hash, not a random generator, decides: this holds on every machine and in every version."""
    names = np.array([f"person{number}_virus" for number in range(12)], dtype=object)
    splits = split_by_patient(np.arange(12) % 2, names, fractions={"train": 0.5, "val": 0.5}, seed=7)
    assert "".join(split[0] for split in splits) == "tvvvttvtvttv"


@given(seed=st.integers(0, 1000), each=st.integers(3, 12))
@settings(max_examples=40)
def test_small_sets_still_give_each_split_each_class(seed, each):
    names = np.array([f"patient {index}" for index in range(2 * each)], dtype=object)
    labels = np.arange(2 * each) % 2
    splits = split_by_patient(labels, names, fractions=THREE, seed=seed)
    for split in THREE:
        assert set(labels[splits == split]) == {0, 1}


def test_large_patients_do_not_keep_a_class_out_of_a_split():
    names = np.repeat([f"patient {index}" for index in range(6)], 50).astype(object)
    labels = np.repeat([0, 1, 0, 1, 0, 1], 50)
    splits = split_by_patient(labels, names, fractions=THREE)
    for split in THREE:
        assert set(labels[splits == split]) == {0, 1}


@pytest.mark.parametrize("patients", [1, 2])
def test_the_first_split_is_never_empty(patients):
    names = np.array([f"patient {index}" for index in range(patients)], dtype=object)
    splits = split_by_patient(np.zeros(patients, int), names, fractions=THREE)
    assert "train" in splits


def test_a_new_patient_moves_few_others():
    labels, names = hospital(3, 500, most=1)
    before = split_by_patient(labels, names, fractions=THREE)
    after = split_by_patient(np.append(labels, 1), np.append(names, "newcomer"), fractions=THREE)
    assert np.mean(before != after[:-1]) < 0.02


def test_no_radiographs_give_no_splits():
    assert split_by_patient(np.zeros(0, int), np.zeros(0, object), fractions=THREE).shape == (0,)


def test_names_that_are_not_utf_8_are_split():
    names = np.array([b"r\xf6ntgen".decode("utf-8", "surrogateescape"), "b", "c"], dtype=object)
    assert set(split_by_patient(np.zeros(3, int), names, fractions=THREE)) == set(THREE)


def test_five_thousand_patients_are_split_in_seconds():
    from time import perf_counter

    labels, names = hospital(1, 5000)
    start = perf_counter()
    split_by_patient(labels, names, fractions=THREE)
    assert perf_counter() - start < 5


def with_duplicates(rng, count, share):
    """A digest for each radiograph; some share one with an earlier radiograph, whoever's it is."""
    digests = np.array([f"content {index}" for index in range(count)], dtype=object)
    for index in np.flatnonzero(rng.random(count) < share):
        digests[index] = digests[rng.integers(index + 1)]
    return digests


@given(seed=st.integers(0, 1000), patients=st.integers(1, 60), share=st.sampled_from([0.0, 0.05, 0.5]))
@settings(max_examples=60)
def test_patients_tied_by_duplicates_are_on_one_side_and_nobody_else_is_tied(seed, patients, share):
    rng = np.random.default_rng(seed)
    _, names = hospital(seed, patients)
    digests = with_duplicates(rng, len(names), share)
    tied = tie_duplicates(names, digests)
    for same in (names, digests):
        for value in set(same):
            assert len(set(tied[same == value])) == 1
    # Whoever is tied is reached from any other of the group, step by step, over patients and contents.
    for group in set(tied):
        members = tied == group
        reached = names == group
        while True:
            wider = np.isin(digests, digests[reached])
            wider |= np.isin(names, names[wider])
            if np.array_equal(wider, reached):
                break
            reached = wider
        assert np.array_equal(reached, members)


@given(seed=st.integers(0, 1000), patients=st.integers(1, 60), shuffle=st.randoms())
@settings(max_examples=40)
def test_a_tied_group_has_the_name_of_its_first_patient_in_any_order(seed, patients, shuffle):
    _, names = hospital(seed, patients)
    digests = with_duplicates(np.random.default_rng(seed), len(names), 0.3)
    order = list(range(len(names)))
    shuffle.shuffle(order)
    tied = tie_duplicates(names, digests)
    assert np.array_equal(tied[order], tie_duplicates(names[order], digests[order]))
    assert all(min(names[tied == group]) == group for group in set(tied))


@given(seed=st.integers(0, 1000), patients=st.integers(600, 900), folds=st.integers(2, 6))
@settings(max_examples=15)
def test_subtypes_too_keep_their_rates_within_one_percent(seed, patients, folds):
    labels, names = hospital(seed, patients)
    kind_of = {name: f"kind {number % 3}" for number, name in enumerate(sorted(set(names)))}
    subtypes = np.where(labels == 1, [kind_of[name] for name in names], "")
    splits = split_by_patient(labels, names, fractions=THREE, seed=seed, subtypes=subtypes)
    fold_of = fold_by_patient(labels, names, folds=folds, seed=seed, subtypes=subtypes)
    for chosen in [splits == split for split in THREE] + [fold_of == fold for fold in range(folds)]:
        for kind in set(subtypes):
            assert abs(np.mean(subtypes[chosen] == kind) - np.mean(subtypes == kind)) < 0.01


@given(seed=st.integers(0, 1000), patients=st.integers(1, 80), folds=st.integers(2, 7), shuffle=st.randoms())
@settings(max_examples=40)
def test_folds_keep_patients_whole_in_any_order(seed, patients, folds, shuffle):
    labels, names = hospital(seed, patients, mixed=0.1)
    fold_of = fold_by_patient(labels, names, folds=folds, seed=seed)
    assert set(fold_of) <= set(range(folds))
    for name in set(names):
        assert len(set(fold_of[names == name])) == 1
    order = list(range(len(labels)))
    shuffle.shuffle(order)
    assert np.array_equal(
        fold_of[order], fold_by_patient(labels[order], names[order], folds=folds, seed=seed)
    )


@given(seed=st.integers(0, 1000), patients=st.integers(40, 90), folds=st.integers(2, 7))
@settings(max_examples=40)
def test_folds_differ_by_a_patient_or_so_in_size_and_in_each_class(seed, patients, folds):
    labels, names = hospital(seed, patients)
    fold_of = fold_by_patient(labels, names, folds=folds, seed=seed)
    assert np.ptp(np.bincount(fold_of, minlength=folds)) <= 5
    for label in (0, 1):
        assert np.ptp(np.bincount(fold_of[labels == label], minlength=folds)) <= 5


def test_the_folds_of_a_seed_never_change():
    names = np.array([f"person{number}_virus" for number in range(12)], dtype=object)
    fold_of = fold_by_patient(np.arange(12) % 2, names, folds=3, seed=7)
    assert "".join(map(str, fold_of)) == "022021100211"
