"""What a search on stored features costs, against one bare pass of the backbone over the same images.

Run with `make bench`; about a quarter of an hour on two cores, for the real radiographs' 5,216 images.
"""

import os
import subprocess
import sys
from time import perf_counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from pneumokeras.data.datasets import load_splits
from pneumokeras.models import backbones

BATCH = 32
SECONDS_BEYOND_THE_PASS = 75
SECONDS_FROM_A_FULL_STORE = 90


def bare_pass(name, pixels):
    """Seconds for Keras' own network in one `tf.function`, images in memory, after one batch to warm up."""
    network = backbones.bare_network(backbones.find_backbone(name), image_size=pixels.shape[1:3])
    pooled = keras.Model(network.input, keras.layers.GlobalAveragePooling2D()(network.output))
    signature = tf.TensorSpec((None, *pooled.input_shape[1:]), tf.float32)
    function = tf.function(lambda images: pooled(images, training=False), input_signature=[signature])

    def run(start):
        gray = pixels[start : start + BATCH, ..., np.newaxis].astype(np.float32)
        return function(np.repeat(gray, 3, axis=-1)).numpy()

    run(0)
    started = perf_counter()
    for start in range(0, len(pixels), BATCH):
        run(start)
    return perf_counter() - started


def tuned(name, data, run, cache, *options):
    """Seconds of `pneumokeras tune` as a process of its own."""
    command = [sys.executable, "-m", "pneumokeras", "tune", "--data", data, "--model", name, "--run", run]
    command += ["--weights", "none", "--max-trials", "10", "--epochs", "10", *options]
    started = perf_counter()
    subprocess.run(
        [str(part) for part in command],
        check=True,
        env=os.environ | {"PNEUMOKERAS_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return perf_counter() - started


@pytest.mark.parametrize("name", ["resnet50", "efficientnetb0"])
def test_ten_trials_cost_one_pass_of_the_backbone(name, chest_xray, tmp_path):
    splits = load_splits(chest_xray)
    pixels = np.concatenate([part.pixels((224, 224)) for part in (splits.train, splits.val)])
    limit = bare_pass(name, pixels)
    empty = tuned(name, chest_xray, tmp_path / "empty", tmp_path / "cache", "--views", "1")
    full = tuned(name, chest_xray, tmp_path / "full", tmp_path / "cache", "--views", "1")
    print(f"\n{name}, {len(pixels)} images, ten trials of ten epochs, one view")
    print(f"  bare pass             {limit:6.0f} s  {len(pixels) / limit:5.1f} images/s")
    print(f"  from an empty store   {empty:6.0f} s  the pass and {empty - limit:.0f} s")
    print(f"  from a full store     {full:6.0f} s")
    assert empty <= limit + SECONDS_BEYOND_THE_PASS
    assert full <= SECONDS_FROM_A_FULL_STORE
