"""Copies of one film are found however they were made, and films that are not copies are left alone."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from pneumokeras.data import duplicates
from pneumokeras.data.duplicates import (
    MIN_CORRELATION,
    RADIUS,
    are_duplicates,
    close_pairs,
    exact_groups,
    link_duplicates,
    near_groups,
    perceptual_hashes,
)
from pneumokeras.data.phantoms.anatomy import draw_patient
from pneumokeras.data.phantoms.draw import draw_phantom

SIDE = 128


@pytest.fixture(scope="module")
def films():
    """Thirty phantoms; each of the last fifteen is a second film of one of the first fifteen patients."""
    patients = [draw_patient(np.random.default_rng(seed)) for seed in range(15)]
    return [
        draw_phantom(np.random.default_rng([film, seed]), label=film, size=SIDE, patient=patient).image
        for film in (0, 1)
        for seed, patient in enumerate(patients)
    ]


def thumbnails_of(images):
    return np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in images])


def jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)


EDITS = {
    "recompressed": jpeg,
    "halved": lambda image: cv2.resize(image, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA),
    "enlarged": lambda image: cv2.resize(image, (3 * SIDE, 3 * SIDE), interpolation=cv2.INTER_CUBIC),
    "brightened": lambda image: np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 0.8).astype(np.uint8),
    "cut by a pixel a side": lambda image: image[1:-1, 1:-1],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edited_copy_is_found(films, edit):
    images = [*films, edit(films[7])]
    digests = np.array([str(number) for number in range(len(images))], dtype=object)
    groups = near_groups(digests, thumbnails_of(images))
    assert [group.tolist() for group in groups] == [[7, 30]]


def test_other_films_are_no_copies_even_of_the_same_patient(films):
    thumbnails = thumbnails_of(films)
    pairs = np.array(list(combinations(range(len(films)), 2)))
    assert not are_duplicates(thumbnails, pairs).any()


def test_pictures_that_share_only_what_is_coarse_are_no_copies(films):
    """As the chests of two children may: alike from afar, with other ribs and vessels."""
    rng = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(thumbnails_of(films)[0], (0, 0), 2).astype(float)
    pair = np.stack([np.clip(blurred + rng.normal(0, 6, blurred.shape), 0, 255) for _ in range(2)])
    assert np.corrcoef(pair.reshape(2, -1))[0, 1] > MIN_CORRELATION
    assert not are_duplicates(pair.astype(np.uint8), np.array([[0, 1]])).any()


def test_copies_of_copies_are_one_group(films):
    images = [films[0], films[1], jpeg(films[0]), EDITS["halved"](films[0])]
    groups = near_groups(np.array(list("abcd"), dtype=object), thumbnails_of(images))
    assert [group.tolist() for group in groups] == [[0, 2, 3]]


def test_copies_without_number_are_found_without_comparing_each_with_each(films, monkeypatch):
    compared = 0

    def counting(thumbnails, pairs):
        nonlocal compared
        compared += len(pairs)
        return are_duplicates(thumbnails, pairs)

    monkeypatch.setattr("pneumokeras.data.duplicates.are_duplicates", counting)
    monkeypatch.setattr("pneumokeras.data.duplicates._MAX_THUMBNAILS", 500)
    rng = np.random.default_rng(0)
    one = thumbnails_of(films[:1])
    copies = np.clip(one + rng.normal(0, 2, (400, 32, 32)), 0, 255).astype(np.uint8)
    assert len(np.unique(link_duplicates(copies))) == 1
    assert compared < 400**2 / 20


def test_of_equal_pixels_one_stands_for_all_among_near_duplicates(films):
    images = [films[0], films[0], jpeg(films[0])]
    digests = np.array(["same", "same", "other"], dtype=object)
    assert [group.tolist() for group in exact_groups(digests)] == [[0, 1]]
    assert [group.tolist() for group in near_groups(digests, thumbnails_of(images))] == [[0, 2]]


def test_flat_pictures_are_not_called_copies_of_each_other():
    flat = np.stack([np.full((32, 32), gray, np.uint8) for gray in (0, 90, 255)])
    assert near_groups(np.array(list("abc"), dtype=object), flat) == []


def test_nothing_has_no_groups():
    assert exact_groups(np.array([], dtype=object)) == []
    assert near_groups(np.array([], dtype=object), np.empty((0, 32, 32), np.uint8)) == []


def test_exposure_does_not_change_a_hash(films):
    thumbnails = thumbnails_of(films)
    assert (perceptual_hashes(thumbnails) == perceptual_hashes(thumbnails * 0.5 + 10)).all()


@pytest.fixture(scope="module")
def crowded_hashes():
    """Hashes whose bits mostly agree, with some at every small distance from another."""
    rng = np.random.default_rng(0)
    bits = rng.random((600, 64)) < rng.choice([0.02, 0.3, 0.5, 0.95], 64)
    for row in range(300):
        flipped = rng.choice(64, rng.integers(0, 2 * RADIUS), replace=False)
        bits[row] = bits[row + 300]
        bits[row, flipped] ^= True
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


def test_the_search_finds_what_comparing_all_with_all_finds(crowded_hashes):
    all_pairs = np.array(list(combinations(range(len(crowded_hashes)), 2)))
    differences = crowded_hashes[all_pairs[:, 0]] ^ crowded_hashes[all_pairs[:, 1]]
    distances = np.array([int(bits).bit_count() for bits in differences])
    expected = {tuple(pair) for pair in all_pairs[distances <= RADIUS].tolist()}
    found = [tuple(sorted(pair)) for pairs in close_pairs(crowded_hashes) for pair in pairs.tolist()]
    assert len(expected) > 150
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_pairs_looked_up_by_parts_are_those_of_comparing_all(monkeypatch):
    rng = np.random.default_rng(4)
    hashes = rng.integers(0, 2**64, 3000, dtype=np.uint64)
    for _ in range(300):
        bits = rng.choice(64, rng.integers(0, 10), replace=False)
        hashes[rng.integers(3000)] = hashes[rng.integers(3000)] ^ np.uint64(
            sum(1 << int(bit) for bit in bits)
        )
    monkeypatch.setattr(duplicates, "_FEW", 0)
    monkeypatch.setattr(duplicates, "_MAX_PAIRS", 1000)
    looked_up = sorted(pair for pairs in close_pairs(hashes) for pair in map(tuple, pairs.tolist()))
    monkeypatch.setattr(duplicates, "_INDEX_COST", 10**9)
    compared = sorted(pair for pairs in close_pairs(hashes) for pair in map(tuple, pairs.tolist()))
    assert looked_up == compared
    assert len(compared) > 200


def test_the_search_looks_at_bounded_chunks_and_finds_the_same(crowded_hashes, monkeypatch):
    whole = sorted(tuple(sorted(pair)) for pairs in close_pairs(crowded_hashes) for pair in pairs.tolist())
    monkeypatch.setattr("pneumokeras.data.duplicates._MAX_PAIRS", 50)
    chunks = list(close_pairs(crowded_hashes))
    assert max(len(pairs) for pairs in chunks) <= 50 + len(crowded_hashes)  # a chunk ends with a whole row
    assert sorted(tuple(sorted(pair)) for pairs in chunks for pair in pairs.tolist()) == whole
