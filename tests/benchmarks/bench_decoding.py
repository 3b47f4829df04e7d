"""How fast radiographs of their published size are read at 224 pixels, against plain OpenCV: one thread.

Run with `make bench`.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import numpy as np
import pytest

from pneumokeras.data.images.image import read_radiograph

SIZE, ROUNDS = (224, 224), 15
LEAST_RATIO = 1.5
MOST_DIFFERENCE = 2


@pytest.fixture(scope="module")
def files(real_data):
    found = sorted((real_data / "original_size").rglob("*.jpeg"))
    if not found:
        pytest.skip(f"real radiographs: no original_size in {real_data}")
    return found


@pytest.fixture(autouse=True)
def one_thread():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def plain(file: Path) -> np.ndarray:
    """Decoded whole, then averaged over areas, as `read_radiograph` does it to smaller files."""
    pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    shrinks = pixels.size > SIZE[0] * SIZE[1]
    return cv2.resize(pixels, SIZE[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def ours(file: Path) -> np.ndarray:
    return read_radiograph(file, image_size=SIZE)


def images_per_second(read: Callable[[Path], np.ndarray], files: list[Path]) -> float:
    start = perf_counter()
    for file in files:
        read(file)
    return len(files) / (perf_counter() - start)


def test_large_radiographs_are_read_faster_and_look_the_same(files):
    speeds = [(images_per_second(ours, files), images_per_second(plain, files)) for _ in range(ROUNDS)]
    our_speed, plain_speed = (median(side) for side in zip(*speeds, strict=True))
    ratio = our_speed / plain_speed
    differences = [np.abs(ours(file).astype(int) - plain(file)).mean() for file in files]
    lines = [
        f"\n{'from original files to 224 pixels':<42}{'images/s':>10}",
        f"{'  read_radiograph':<42}{our_speed:>10.0f}",
        f"{'  cv2.imread gray, cv2.resize':<42}{plain_speed:>10.0f}",
        f"{'  ratio':<42}{ratio:>10.2f}",
        f"{'  difference in gray levels, mean':<42}{np.mean(differences):>10.2f}",
        f"{'  difference in gray levels, worst file':<42}{max(differences):>10.2f}",
    ]
    print("\n".join(lines))
    assert max(differences) <= MOST_DIFFERENCE
    assert ratio >= LEAST_RATIO
