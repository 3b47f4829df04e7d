"""A training step with the recipes' Adam, against one with Keras' own.

`make bench`; a minute on two cores.
"""

import time
from statistics import median

import keras
import numpy as np

from pneumokeras.models.reference_cnns import cnn_94
from pneumokeras.training.optimizers import L2Adam

ROUNDS, STEPS, BATCH = 7, 20, 32
TIMES_FASTER = 1.1


def test_a_step_of_a_network_with_large_dense_layers_is_faster():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS * BATCH, 100, 100, 1)).astype(np.float32)
    labels = rng.integers(0, 2, STEPS * BATCH).astype(np.float32)
    optimizers = {"Keras' Adam": keras.optimizers.Adam(1e-4), "ours": L2Adam(1e-4, weight_decay=0.0)}
    models = {name: cnn_94() for name in optimizers}
    for name, model in models.items():
        model.compile(optimizers[name], "binary_crossentropy")
        model.fit(images, labels, batch_size=BATCH, verbose=0)  # compiles
    milliseconds = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            started = time.perf_counter()
            model.fit(images, labels, batch_size=BATCH, verbose=0)
            milliseconds[name].append((time.perf_counter() - started) / STEPS * 1000)
    ratio = median(milliseconds["Keras' Adam"]) / median(milliseconds["ours"])
    print(f"\nCNN_94, {models['ours'].count_params():,} parameters, batches of {BATCH}, milliseconds a step")
    for name, times in milliseconds.items():
        print(f"  {name:12} {median(times):5.1f}  {[round(t, 1) for t in times]}")
    print(f"  {ratio:.2f} times as fast")
    assert ratio >= TIMES_FASTER
