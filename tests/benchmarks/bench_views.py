"""What four fixed views cost in validation AUC, against fresh augmentation in every epoch.

`make bench`; some minutes on two cores. With as many views as epochs no epoch sees a view again, as
with `views=None`, only that these can be stored.
"""

from dataclasses import replace
from statistics import mean

import numpy as np
import pytest

from pneumokeras.data.from_path import load_splits
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.training.objectives import best_epoch
from pneumokeras.training.tune import tune

IMAGES = 1000
EPOCHS = 10
SEEDS = (0, 1, 2)
LARGEST_LOSS = 0.01


@pytest.mark.parametrize("name", ["mobilenetv3small"])
def test_four_views_learn_what_fresh_ones_learn(name, chest_xray, tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
    splits = load_splits(chest_xray)
    some = np.linspace(0, len(splits.train) - 1, IMAGES).astype(int)
    splits = replace(splits, train=splits.train.subset(some))
    scores = {}
    for seed in SEEDS:
        for views in (1, 4, EPOCHS):
            result = tune(
                TransferHyperModel(name, weights="none"),
                splits,
                max_trials=2,
                epochs=EPOCHS,
                views=views,
                seed=seed,
                precision="float32",
                run=tmp_path / f"{seed}-{views}",
            )
            scores.setdefault(views, []).append(result.history["val_auc"][best_epoch(result.history)])
    print(f"\n{name}, random weights, {IMAGES} images, best of two trials of {EPOCHS} epochs,")
    print(f"validation AUC for seeds {SEEDS}")
    for views, figures in scores.items():
        each = ", ".join(f"{figure:.4f}" for figure in figures)
        print(f"  {views:>2} views  {mean(figures):.4f}  ({each})")
    assert mean(scores[4]) >= mean(scores[EPOCHS]) - LARGEST_LOSS
