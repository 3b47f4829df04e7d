"""An epoch of fine-tuning on stored feature maps against the full model's, and training against bare steps.

`make bench`; some minutes on two cores.
"""

import time
from statistics import median

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras.data.from_path import load_splits
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.models.parts import cut
from pneumokeras.training.fit import fit
from pneumokeras.training.settings import Stage

IMAGES = 512
STAGES = [Stage("head", epochs=2, learning_rate=1e-3), Stage("stage5", epochs=3, learning_rate=1e-5)]
TIMES_FASTER = {"resnet50": 2.5, "efficientnetb0": 2.0}  # more of the latter lies in its last stage
LOSSES_WITHIN = 1e-3
OF_BARE_STEPS = 0.9
FORWARD = 1 / 3  # of a step, which goes forward and back


@pytest.mark.parametrize("name", ["resnet50", "efficientnetb0"])
def test_an_epoch_costs_the_upper_part_only(name, chest_xray, tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path))
    splits = load_splits(chest_xray)
    train = splits.train.subset(np.linspace(0, len(splits.train) - 1, IMAGES).astype(int))
    val = splits.val.subset(np.linspace(0, len(splits.val) - 1, 64).astype(int))
    hypermodel = TransferHyperModel(name, weights="none")
    hypermodel.calibrate(train.pixels((224, 224)))
    hp = keras_tuner.HyperParameters()
    seconds, losses = {True: [], False: []}, {}
    for stored in (True, False, True, False):
        history = fit(hypermodel.build(hp), train, val, stages=STAGES, views=1, cache=stored).history
        seconds[stored] += history["seconds"][3:]  # of stage5, whose first one compiles
        losses[stored] = np.array(history["loss"])
    ratio = median(seconds[False]) / median(seconds[True])
    difference = np.abs(losses[True] - losses[False]).max()
    print(f"\n{name}, stage5, {len(train)} images and {len(val)} to validate, seconds an epoch")
    print(f"  full model  {median(seconds[False]):5.1f}  {[round(s, 1) for s in seconds[False]]}")
    print(f"  stored maps {median(seconds[True]):5.1f}  {[round(s, 1) for s in seconds[True]]}")
    print(f"  {ratio:.2f} times as fast; largest difference of the losses {difference:.1e}")
    assert difference < LOSSES_WITHIN
    assert ratio >= TIMES_FASTER[name]


def test_all_of_a_network_trains_nearly_as_fast_as_bare_steps_on_ready_arrays(chest_xray):
    splits = load_splits(chest_xray)
    train = splits.train.subset(np.linspace(0, len(splits.train) - 1, IMAGES // 2).astype(int))
    val = splits.val.subset(np.linspace(0, len(splits.val) - 1, 32).astype(int))
    hypermodel = TransferHyperModel("efficientnetlite0")
    hp = keras_tuner.HyperParameters()
    pixels = train.pixels((224, 224))[..., np.newaxis].astype(np.float32)
    parts = cut(hypermodel.build(hp), "all")
    bare, prepared = parts.upper, parts.lower.predict(pixels, verbose=0)
    ready = [(prepared[i : i + 32], train.labels[i : i + 32]) for i in range(0, len(prepared), 32)]
    bare.compile("adam", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    bare.train_on_batch(*ready[0])
    rates = {"bare steps": [], "fit": []}
    for _ in range(3):
        started = time.perf_counter()
        for images, labels in ready:
            bare.train_on_batch(images, labels)
        rates["bare steps"].append(len(train) / (time.perf_counter() - started))
        history = fit(hypermodel.build(hp), train, val, stages=[Stage("all", epochs=3, learning_rate=1e-5)])
        images = len(train) + FORWARD * len(val)
        rates["fit"] += [images / seconds for seconds in history.history["seconds"][1:]]
    print(
        f"\nefficientnetlite0, all of it, {len(train)} images, with augmentation and {len(val)} to validate"
    )
    for name, each in rates.items():
        print(f"  {name:>10}  {median(each):5.1f} images/s  {[round(rate, 1) for rate in each]}")
    ratio = median(rates["fit"]) / median(rates["bare steps"])
    print(f"  {ratio:.2f} of the bare steps")
    assert ratio >= OF_BARE_STEPS
