"""How long an audit takes, and how the search for near-duplicates grows with the number of radiographs.

Run with `make bench`.
"""

import resource
from math import log2
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import pytest

from pneumokeras.data.audit import audit
from pneumokeras.data.dataset import CLASS_NAMES
from pneumokeras.data.duplicates import THUMBNAIL_SIDE, close_pairs, link_duplicates

IMAGES, SIZE = 5_500, 224
COUNTS = (12_500, 25_000, 50_000, 100_000)
MOST_SECONDS = 60


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """About 5,500 JPEG files of 224 pixels: real radiographs where they are, generated ones elsewhere."""
    try:
        return request.getfixturevalue("chest_xray")
    except pytest.skip.Exception:
        target = tmp_path_factory.mktemp("radiographs")
        _generate(target)
        return target


def _generate(target: Path) -> None:
    rng = np.random.default_rng(0)
    for split, share in (("train", 0.8), ("test", 0.2)):
        for name in CLASS_NAMES:
            place = target / split / name
            place.mkdir(parents=True)
            for number in range(round(share * IMAGES / 2)):
                coarse = rng.integers(0, 256, (12, 12), dtype=np.uint8)  # files about as large as radiographs
                pixels = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(place / f"scan_{number}.jpeg"), pixels)


def drawn_thumbnails(count: int) -> np.ndarray:
    """Smooth pictures with much in common, as chests have, so that hashes crowd; one in 100 is a copy."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((8, 8))
    pictures = np.empty((count, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    for number in range(count):
        own = common + rng.standard_normal((8, 8))
        field = cv2.resize(own, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(0, 6, field.shape)
        pictures[number] = np.clip(128 + 32 * field + noise, 0, 255)
    copies = rng.choice(count, count // 100, replace=False)
    pictures[copies] = np.clip(pictures[copies - 1] * 0.9 + rng.normal(8, 2, (len(copies), 32, 32)), 0, 255)
    return pictures


def seconds_taken(work) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def memory_peak() -> float:
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_growth(title: str, seconds: list[float]) -> None:
    print(f"\n{title:<42}{'seconds':>10}{'exponent':>10}")
    print(f"  {COUNTS[0]:<40,}{seconds[0]:>10.1f}")
    for count, before, now in zip(COUNTS[1:], seconds, seconds[1:], strict=False):
        print(f"  {count:<40,}{now:>10.1f}{log2(now / before):>10.2f}")


def test_a_set_of_5500_is_audited_in_a_minute(folder, tmp_path):
    def work():
        audit(folder).write_html(tmp_path / "audit.html")

    seconds = seconds_taken(work)
    print(f"\n{'audit with its page':<42}{seconds:>10.1f} s, peak {memory_peak():.0f} MB")
    assert seconds < MOST_SECONDS


def test_a_hundred_thousand_hashes_are_searched_in_a_minute():
    hashes = np.random.default_rng(0).integers(0, 2**64, COUNTS[-1], dtype=np.uint64)
    seconds = [
        seconds_taken(lambda count=count: sum(len(pairs) for pairs in close_pairs(hashes[:count])))
        for count in COUNTS
    ]
    print_growth("close pairs among random hashes", seconds)
    assert seconds[-1] < MOST_SECONDS


def test_a_hundred_thousand_pictures_alike_are_searched_in_a_minute():
    """Hashing, search and confirmation, on hashes that crowd as those of chests do."""
    pictures = drawn_thumbnails(COUNTS[-1])
    before = memory_peak()
    seconds = [seconds_taken(lambda count=count: link_duplicates(pictures[:count])) for count in COUNTS]
    print_growth("near-duplicates among pictures alike", seconds)
    print(f"  {memory_peak() - before:.0f} MB above the pictures")
    assert seconds[-1] < MOST_SECONDS
