"""What four fixed views cost in validation AUC, against fresh augmentation in every epoch.

`make bench`; some minutes on two cores. With as many views as epochs no epoch sees a view again, as
with `views=None`, only that these can be stored.
"""

from statistics import mean

import pytest

from pneumokeras.data.datasets import load_splits
from pneumokeras.models.transfer import TransferHyperModel
from pneumokeras.training import best_epoch
from pneumokeras.tuning import tune

EPOCHS = 10
SEEDS = (0, 1, 2)
LARGEST_LOSS = 0.01


@pytest.mark.parametrize("name", ["mobilenetv3small"])
def test_four_views_learn_what_fresh_ones_learn(name, chest_xray, tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
    splits = load_splits(chest_xray)
    scores = {}
    for seed in SEEDS:
        for views in (1, 4, EPOCHS):
            result = tune(
                TransferHyperModel(name, weights="none"),
                splits,
                max_trials=4,
                epochs=EPOCHS,
                views=views,
                seed=seed,
                precision="float32",
                run=tmp_path / f"{seed}-{views}",
            )
            scores.setdefault(views, []).append(result.history["val_auc"][best_epoch(result.history)])
    print(f"\n{name}, random weights, best of four trials of {EPOCHS} epochs: validation AUC, seeds {SEEDS}")
    for views, figures in scores.items():
        each = ", ".join(f"{figure:.4f}" for figure in figures)
        print(f"  {views:>2} views  {mean(figures):.4f}  ({each})")
    assert mean(scores[4]) >= mean(scores[EPOCHS]) - LARGEST_LOSS
