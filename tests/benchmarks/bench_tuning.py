"""What a search on stored features costs, against one bare pass of the backbone over the same images.

`make bench`; with the real radiographs' 5,216 images half an hour on two cores for three rounds. The two
sides take turns; medians are compared. PNEUMOKERAS_BENCH_ROUNDS sets the rounds.
"""

import os
import subprocess
import sys
from statistics import median
from time import perf_counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from pneumokeras.data.datasets import load_splits
from pneumokeras.models import backbones

BATCH = 32
ROUNDS = int(os.environ.get("PNEUMOKERAS_BENCH_ROUNDS", "3"))
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


@pytest.fixture(scope="module")
def pixels(chest_xray):
    splits = load_splits(chest_xray)
    return np.concatenate([part.pixels((224, 224)) for part in (splits.train, splits.val)])


@pytest.mark.parametrize("name", ["resnet50", "efficientnetb0"])
def test_ten_trials_cost_one_pass_of_the_backbone(name, chest_xray, pixels, tmp_path):
    bare, empty, full = [], [], []
    for turn in range(ROUNDS):
        cache = tmp_path / f"cache{turn}"
        bare.append(bare_pass(name, pixels))
        empty.append(tuned(name, chest_xray, tmp_path / f"empty{turn}", cache, "--views", "1"))
        full.append(tuned(name, chest_xray, tmp_path / f"full{turn}", cache, "--views", "1"))
    limit = median(bare)
    print(
        f"\n{name}, {len(pixels)} images, ten trials of ten epochs, one view, {ROUNDS} rounds (median; all)"
    )
    print(f"  bare pass             {limit:5.0f} s  {[round(s) for s in bare]}")
    print(f"  from an empty store   {median(empty):5.0f} s  {[round(s) for s in empty]}")
    print(f"  from a full store     {median(full):5.0f} s  {[round(s) for s in full]}")
    assert median(empty) <= limit + SECONDS_BEYOND_THE_PASS
    assert median(full) <= SECONDS_FROM_A_FULL_STORE


@pytest.mark.parametrize("name", ["resnet50", "efficientnetb0"])
def test_four_views_cost_four_passes(name, chest_xray, pixels, tmp_path):
    limit = bare_pass(name, pixels)
    first = tuned(name, chest_xray, tmp_path / "one", tmp_path / "cache", "--views", "1")
    raised = tuned(name, chest_xray, tmp_path / "four", tmp_path / "cache", "--views", "4")
    full = tuned(name, chest_xray, tmp_path / "again", tmp_path / "cache", "--views", "4", "--seed", "0")
    print(f"\n{name}, {len(pixels)} images, ten trials of ten epochs")
    print(f"  bare pass {limit:.0f} s; --views 1 from an empty store {first:.0f} s")
    print(f"  then --views 4: {raised:.0f} s; and again, from a full store: {full:.0f} s")
    print(
        print(f"  four views from an empty store, by both searches less one: {first + raised - full:.0f} s")
    )
    assert raised <= 3 * limit + SECONDS_BEYOND_THE_PASS
