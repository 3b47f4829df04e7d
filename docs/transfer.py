"""Search heads and fine-tune networks from random, own and ImageNet weights, and print what transfer brings.

python docs/transfer.py --data chest_xray --rows frozen fine-tuned random

Each row is three trials of a head on stored features, then the stages it names. Rows are run folders below
--out, so an interrupted table goes on where it stopped. All is chosen on train and val; test is looked at
once, when the row is printed. Minutes include the extraction of features that no earlier row has stored.
"""

import argparse
import time
from pathlib import Path

import pneumokeras as pk
from pneumokeras.evaluation import roc_auc
from pneumokeras.recipes.configuration import Configuration

SEEDS = (0, 1, 2)
RATES = {"head": 3e-4, "backbone": 3e-4}
OWN = "own"  # the backbone of the row that was trained from random weights
FROM_SCRATCH = "all, from random weights"
ROWS = {  # network, weights, stage that is trained after the head, seeds
    "frozen": [
        ("efficientnetlite0", "imagenet", "", SEEDS),
        ("efficientnetlite1", "imagenet", "", SEEDS),
        ("efficientnetlite2", "imagenet", "", SEEDS),
    ],
    "fine-tuned": [
        ("efficientnetlite0", "imagenet", "stage5", SEEDS[:1]),
        ("efficientnetlite0", "imagenet", "stage4", SEEDS[:1]),
        ("efficientnetlite0", "imagenet", "all", SEEDS[:1]),
    ],
    "random": [
        ("efficientnetlite0", "none", "", SEEDS),
        ("efficientnetlite0", "none", FROM_SCRATCH, SEEDS[:1]),
        ("efficientnetlite0", OWN, "", SEEDS),
    ],
    "larger": [
        ("efficientnetlite1", "imagenet", "all", SEEDS[:1]),
        ("efficientnetlite2", "imagenet", "all", SEEDS[:1]),
    ],
}


def folder_of(out, backbone, weights, stage, seed):
    """Return the run folder of a row and seed."""
    return out / "-".join([backbone, weights, *stage.replace(",", "").split(), str(seed)])


def trained(row, seed, splits, out):
    """Return the finished run of a row and seed."""
    backbone, weights, stage, _ = row
    run = folder_of(out, backbone, weights, stage, seed)
    if stage == FROM_SCRATCH:
        configuration = Configuration.for_model(
            backbone,
            weights=weights,
            stages=(pk.Stage("all", epochs=12, learning_rate=1e-3, batch_norm="update"),),
            views=None,
        )
        return pk.train(configuration, splits, seed=seed, run=run)
    if weights == OWN:
        weights = folder_of(out, backbone, "none", FROM_SCRATCH, 0) / "model.keras"
    return pk.tune(
        pk.TransferHyperModel(backbone, weights=weights, input_shape=(224, 224, 1)),
        splits,
        max_trials=3,
        epochs=10,
        views=4 if stage else 1,
        fine_tune=[pk.Stage(stage, epochs=6, learning_rate=RATES)] if stage else (),
        seed=seed,
        run=run,
        confirm=lambda *_: True,
    )


def figures_of(row, seed, splits, out):
    """Train a row with one seed, or load it, and return its validation AUC, test AUC and minutes."""
    kept = folder_of(out, *row[:3], seed) / "minutes.txt"
    started = time.perf_counter()
    result = trained(row, seed, splits, out)
    if not kept.is_file():
        kept.write_text(f"{(time.perf_counter() - started) / 60:.1f}")
    test = roc_auc(splits.test.labels, pk.predict(result, splits.test).probabilities)
    return max(result.history["val_auc"]), test, float(kept.read_text())


def main():
    """Print the table of the chosen rows, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["frozen", "fine-tuned"])
    parser.add_argument("--out", type=Path, default=Path("tuner_runs/transfer"))
    given = parser.parse_args()
    splits = pk.load_splits(given.data)
    print("| network | weights | trained after the head | seeds | validation AUC | test AUC | minutes |")
    print("|---|---|---|---:|---:|---:|---:|")
    for row in (row for group in given.rows for row in ROWS[group]):
        figures = [figures_of(row, seed, splits, given.out) for seed in row[3]]
        cells = [
            " to ".join(dict.fromkeys(f"{each:.{digits}f}" for each in (min(column), max(column))))
            for column, digits in zip(zip(*figures, strict=True), (4, 3, 1), strict=True)
        ]
        print(f"| {' | '.join([*row[:2], row[2] or 'nothing', str(len(row[3])), *cells])} |", flush=True)


if __name__ == "__main__":
    main()
