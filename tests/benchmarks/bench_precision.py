"""How fast a frozen backbone runs in each precision, and what that costs.

`make bench`; about five minutes on two cores. The ways alternate; medians count. A head learns from features
of one precision, and is judged on the validation features of float32, as in the model that is saved.
"""

import time
from statistics import median

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumokeras.data.from_path import load_splits
from pneumokeras.models.efficientnet_lite import LITE_VARIANTS
from pneumokeras.models.forward import InBatches, batch_by_batch
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.training.features import PRECISIONS

TRAIN = 2000
ROUNDS, TIMED, BATCH = 7, 64, 32
LARGEST_LOSS = 0.002


def features(function, images):
    return np.concatenate(list(batch_by_batch(function, InBatches(images, BATCH))))


@pytest.mark.parametrize("name", LITE_VARIANTS)
def test_a_faster_precision_costs_no_auc(name, chest_xray):
    splits = load_splits(chest_xray)
    some = np.linspace(0, len(splits.train) - 1, TRAIN).astype(int)
    train, val = splits.train.subset(some), splits.val
    pixels = {part: part.pixels(224)[..., np.newaxis].astype(np.float32) for part in (train, val)}
    extractor = TransferHyperModel(name, input_shape=(224, 224, 1)).feature_extractor()
    ways = {precision: way(extractor) for precision, way in PRECISIONS.items()}
    seconds = {precision: [] for precision in ways}
    for function in ways.values():
        features(function, pixels[val][:TIMED])
    for _ in range(ROUNDS):
        for precision, function in ways.items():
            started = time.perf_counter()
            features(function, pixels[val][:TIMED])
            seconds[precision].append(time.perf_counter() - started)
    exact = features(ways["float32"], pixels[val])
    print(f"\n{name}, 224 px, {TRAIN} training and {len(val)} validation radiographs")
    aucs = {}
    for precision, function in ways.items():
        rows = features(function, pixels[val])
        cosines = (rows * exact).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(exact, axis=1)
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
        head.fit(features(function, pixels[train]), train.labels)
        aucs[precision] = roc_auc_score(val.labels, head.decision_function(exact))
        rate = TIMED / median(seconds[precision])
        ratio = median(seconds["float32"]) / median(seconds[precision])
        print(
            f"  {precision:>8}  {rate:4.0f} images/s ({ratio:.2f} x)  cosine at least {cosines.min():.5f}, "
            f"median {median(cosines):.5f}  validation AUC {aucs[precision]:.4f}"
        )
    assert min(aucs.values()) >= aucs["float32"] - LARGEST_LOSS
