"""What all tests share. The environment is set before anything imports TensorFlow, Keras or Matplotlib."""

import gc
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

_PROJECT = Path(__file__).resolve().parent.parent
_DATA = Path(os.environ.get("PNEUMOKERAS_DATA") or _PROJECT / ".." / "shared" / "data").absolute()
_caches = tempfile.TemporaryDirectory(prefix="pneumokeras-tests-")

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = str(Path(_caches.name, "keras"))  # no weights or settings of this machine's user
os.environ["PNEUMOKERAS_CACHE"] = str(Path(_caches.name, "pneumokeras"))
os.environ["PNEUMOKERAS_KEY"] = str(Path(_caches.name, "patient.key"))
os.environ["MPLBACKEND"] = "Agg"

# Many models are many objects: collecting them as often as Python does takes a twentieth of the time.
gc.set_threshold(50_000, 20, 20)

# A busy machine makes one example slow; that is no defect.
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")


def pytest_collection_modifyitems(items):
    """Mark everything under tests/benchmarks as a benchmark."""
    for item in items:
        if _PROJECT / "tests" / "benchmarks" in item.path.parents:
            item.add_marker(pytest.mark.benchmark)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real radiographs; .ci/run knows a test that misses it by the reason's first words."""
    if not _DATA.is_dir():
        pytest.skip(f"real radiographs: no data at {_DATA}; set PNEUMOKERAS_DATA")
    return _DATA


@pytest.fixture(scope="session")
def chest_xray(real_data):
    """Real radiographs in the Kaggle layout, train/val/test/CLASS."""
    folder = real_data / "chest_xray"
    if not folder.is_dir():
        pytest.skip(f"real radiographs: no chest_xray in {real_data}")
    return folder


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory):
    """Sixty phantoms of 64 pixels, shared by all tests: read it, never write into it."""
    from pneumokeras.data.phantoms.write import write_phantoms

    folder = tmp_path_factory.mktemp("phantoms") / "chest_xray"
    write_phantoms(folder, count=60, seed=1, size=64)
    return folder


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """Run a test inside its own empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def spot_splits():
    """Easy splits of 32 pixels, in memory: noise, with a bright spot where it is PNEUMONIA."""
    import numpy as np

    from pneumokeras.data.dataset import RadiographSet
    from pneumokeras.data.splits import Splits

    rng = np.random.default_rng(0)

    def drawn(count, split):
        labels = np.arange(count) % 2
        images = rng.integers(60, 120, (count, 32, 32))
        for image, label in zip(images, labels, strict=True):
            row, column = rng.integers(4, 20, 2)
            image[row : row + 8, column : column + 8] += 120 * label
        patients = [f"{split}{number // 2}" for number in range(count)]
        names = [f"{split}/{number}" for number in range(count)]
        pixels = images.astype(np.uint8)
        pixels.setflags(write=False)  # all tests share them
        return RadiographSet.from_arrays(pixels, labels, names=names, patients=patients)

    return Splits(drawn(64, "train"), drawn(32, "val"), drawn(24, "test"), source="spots")
