"""How time and memory grow: extraction from 500 to 5,000 images, a head's fit to 200,000 simulated rows.

`make bench`; some minutes on two cores. Each size is a process of its own, so that its memory is its own.
"""

import subprocess
import sys

import pytest

EXTRACTION = """
import resource, sys, time
import numpy as np
from pneumokeras.data.from_path import load_splits
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.training.features import Extractor, Views

count, data = int(sys.argv[1]), sys.argv[2]
train = load_splits(data, keep_val=True).train
train = train.subset(np.arange(count))
network = TransferHyperModel("efficientnetb0", weights="none").feature_extractor()
extractor = Extractor(network, backbone="efficientnetb0", weights="random", precision="float32")
started = time.perf_counter()
extractor.features([Views(RadiographLoader(train, 224))])
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""

HEAD = """
import resource, sys, time
import keras_tuner
import numpy as np
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.training.data_adapters import FeatureBatches, ImageBatches
from pneumokeras.training.feature_store import Rows
from pneumokeras.training.loop import fit_on
from pneumokeras.training.settings import BatchSettings

count, file = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
values = np.memmap(file, np.float32, "w+", shape=(count + 500, 2048))
for start in range(0, len(values), 10_000):
    values[start : start + 10_000] = rng.random(values[start : start + 10_000].shape, np.float32)
images = RadiographSet.from_arrays(np.zeros((count + 500, 8, 8), np.uint8), rng.integers(0, 2, count + 500))
parts = [np.arange(count), np.arange(count, count + 500)]
rows = [Rows((2048,), [values], np.stack([np.zeros_like(part), part], axis=1)) for part in parts]
train, val = (images.subset(part) for part in parts)
batches = ImageBatches.of(train, val, BatchSettings(views=1, class_weights=None), image_size=(8, 8))
head = TransferHyperModel("resnet50", weights="none").build_head(keras_tuner.HyperParameters())
history = fit_on(head, FeatureBatches(batches, *rows), epochs=3).history
print(min(history["seconds"]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def measured(script, *arguments, **environment):
    """Seconds, and gigabytes at most."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, **environment)
    seconds, gigabytes = done.stdout.split()[-2:]
    return float(seconds), float(gigabytes)


def told(title, figures):
    print(f"\n{title}")
    for size, (seconds, gigabytes) in figures.items():
        print(f"  {size:>7,}  {seconds:6.1f} s  {1e3 * seconds / size:6.2f} ms each  {gigabytes:.2f} GB")


def test_extraction_grows_with_the_images(chest_xray, tmp_path, monkeypatch):
    figures = {}
    for count in (500, 1000, 2000, 5000):
        monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / str(count)))
        figures[count] = measured(EXTRACTION, count, chest_xray)
    told("EfficientNetB0 at 224 px, one view: images, seconds, memory", figures)
    assert figures[5000][0] <= 1.3 * 10 * figures[500][0]


@pytest.mark.parametrize("sizes", [(5_000, 20_000, 100_000, 200_000)])
def test_a_head_grows_with_the_rows(sizes, tmp_path):
    figures = {count: measured(HEAD, count, tmp_path / "rows") for count in sizes}
    told("a head on 2,048 features, one epoch: rows, seconds, memory", figures)
    assert figures[200_000][0] <= 1.3 * 40 * figures[5_000][0]
