"""How fast batches come, ours against Keras' own generator: one process, one thread, the same files.

Run with `make bench`.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import numpy as np
import pytest
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.data.dataset import CLASS_NAMES
from pneumokeras.data.from_path import load_radiographs
from pneumokeras.data.loader import RadiographLoader

IMAGES, SIZE, BATCH, ROUNDS = 256, 224, 32, 5
LEAST_RATIO = 4
LEAST_RATIO_OF_FIRST_EPOCH = 2.5  # most of it goes into decoding, which both sides do
AUGMENTATION = {
    "rotation_range": 10,
    "width_shift_range": 0.05,
    "height_shift_range": 0.05,
    "zoom_range": 0.1,
    "horizontal_flip": True,
    "brightness_range": (0.9, 1.1),
    "fill_mode": "nearest",
}

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """Class folders of 224-pixel JPEG files: real radiographs where they are, generated ones elsewhere."""
    target = tmp_path_factory.mktemp("radiographs")
    for name in CLASS_NAMES:
        (target / name).mkdir()
    try:
        found = load_radiographs(request.getfixturevalue("chest_xray"), split="train")
    except pytest.skip.Exception:
        _generate(target)
    else:
        for row in np.random.default_rng(0).choice(len(found), IMAGES, replace=False):
            name = CLASS_NAMES[found.labels[row]]
            (target / name / found.images[row].name).symlink_to(found.images[row])
    return target


def _generate(target: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = rng.integers(0, 256, (12, 12), dtype=np.uint8)  # files about as large as radiographs
        pixels = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(target / CLASS_NAMES[number % 2] / f"scan_{number}.jpeg"), pixels)


@pytest.fixture(autouse=True)
def one_thread():
    """OpenCV on one thread, as the other side is."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def images_per_second(work: Callable[[], int]) -> float:
    start = perf_counter()
    images = work()
    return images / (perf_counter() - start)


def compare(title: str, ours: Callable[[], int], stock: Callable[[], int]) -> float:
    """Print both speeds and their ratio: medians of rounds in which the two sides take turns."""
    speeds = [(images_per_second(ours), images_per_second(stock)) for _ in range(ROUNDS)]
    our_speed, stock_speed = (median(side) for side in zip(*speeds, strict=True))
    ratio = our_speed / stock_speed
    lines = [
        f"\n{title:<42}{'images/s':>10}",
        f"{'  RadiographLoader':<42}{our_speed:>10.0f}",
        f"{'  stock ImageDataGenerator':<42}{stock_speed:>10.0f}",
        f"{'  ratio':<42}{ratio:>10.1f}",
    ]
    print("\n".join(lines))
    return ratio


def test_augmentation_alone_is_several_times_as_fast(folder):
    radiographs = load_radiographs(folder)
    images = radiographs.pixels((SIZE, SIZE)).astype(np.float32)[..., np.newaxis]
    ours, stock = RadiographDataGenerator(**AUGMENTATION), ImageDataGenerator(**AUGMENTATION)
    drawn = [ours.get_random_transform(images[0].shape, seed=seed) for seed in range(len(images))]

    def augment(generator: ImageDataGenerator) -> int:
        for image, parameters in zip(images, drawn, strict=True):
            generator.apply_transform(image, parameters)
        return len(images)

    ratio = compare("augmentation of decoded arrays", lambda: augment(ours), lambda: augment(stock))
    assert ratio >= LEAST_RATIO


def _epochs_of_ours(folder: Path, epochs: int) -> int:
    generator = RadiographDataGenerator(**AUGMENTATION)
    loader = RadiographLoader(load_radiographs(folder), SIZE, batch_size=BATCH, generator=generator)
    return sum(len(next(loader)[0]) for _ in range(epochs * len(loader)))


def _epochs_of_stock(folder: Path, epochs: int) -> int:
    flow = ImageDataGenerator(**AUGMENTATION).flow_from_directory(
        str(folder), target_size=(SIZE, SIZE), color_mode="grayscale", batch_size=BATCH, class_mode="binary"
    )
    return sum(len(next(flow)[0]) for _ in range(epochs * len(flow)))


@pytest.mark.parametrize(("epochs", "least"), [(1, LEAST_RATIO_OF_FIRST_EPOCH), (3, LEAST_RATIO)])
def test_batches_from_files_come_several_times_as_fast(folder, epochs, least):
    """Each round starts anew; in it our loader decodes each file once, Keras' own in every epoch."""
    ratio = compare(
        f"from JPEG files to batches, epochs: {epochs}",
        lambda: _epochs_of_ours(folder, epochs),
        lambda: _epochs_of_stock(folder, epochs),
    )
    assert ratio >= least
