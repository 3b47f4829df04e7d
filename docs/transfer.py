"""Train heads and whole networks from random, own and ImageNet weights, and print what transfer brings.

python docs/transfer.py --data chest_xray --rows frozen fine-tuned own

Rows are run folders below --out, so an interrupted table goes on where it stopped. Each is chosen on train
and val; test is looked at once, when the row is printed.
"""

import argparse
import time
from pathlib import Path

import pneumokeras as pk
from pneumokeras.evaluation import roc_auc
from pneumokeras.recipes.configuration import Configuration

SEEDS = (0, 1, 2)
RATES = {"head": 1e-3, "backbone": 3e-4}
HEAD = pk.Stage("head", epochs=10, learning_rate=1e-3)
FROZEN = (HEAD,)
STAGE5 = (HEAD, pk.Stage("stage5", epochs=6, learning_rate=RATES))
STAGE4 = (HEAD, pk.Stage("stage4", epochs=6, learning_rate=RATES))
ALL = (HEAD, pk.Stage("all", epochs=6, learning_rate=RATES))
FROM_SCRATCH = (pk.Stage("all", epochs=12, learning_rate=1e-3, batch_norm="update"),)
OWN = "own"  # the backbone of the row that was trained from random weights

ROWS = {
    "frozen": [
        ("efficientnetlite0", "none", "head", FROZEN, SEEDS),
        ("efficientnetlite0", "imagenet", "head", FROZEN, SEEDS),
        ("efficientnetlite1", "imagenet", "head", FROZEN, SEEDS),
        ("efficientnetlite2", "imagenet", "head", FROZEN, SEEDS),
    ],
    "fine-tuned": [
        ("efficientnetlite0", "imagenet", "head, then stage 5", STAGE5, SEEDS[:1]),
        ("efficientnetlite0", "imagenet", "head, then stages 4 and 5", STAGE4, SEEDS[:1]),
        ("efficientnetlite0", "imagenet", "head, then all", ALL, SEEDS[:1]),
    ],
    "own": [
        ("efficientnetlite0", "none", "all, from scratch", FROM_SCRATCH, SEEDS[:1]),
        ("efficientnetlite0", OWN, "head", FROZEN, SEEDS),
    ],
    "larger": [
        ("efficientnetlite1", "imagenet", "head, then all", ALL, SEEDS[:1]),
        ("efficientnetlite2", "imagenet", "head, then all", ALL, SEEDS[:1]),
    ],
}


def folder_of(out, backbone, weights, trained, seed):
    """Return the run folder of a row and seed."""
    return out / f"{backbone}-{weights}-{trained.replace(', ', '-').replace(' ', '-')}-{seed}"


def run_of(row, seed, splits, out):
    """Train a row with one seed, or load it, and return its validation AUC, test AUC and minutes."""
    backbone, weights, trained, stages, _ = row
    own = folder_of(out, backbone, "none", "all, from scratch", 0) / "model.keras"
    configuration = Configuration.for_model(
        backbone,
        weights=str(own) if weights == OWN else weights,
        image_size=224,
        stages=stages,
        views=1 if stages == FROZEN else None,
    )
    run = folder_of(out, backbone, weights, trained, seed)
    started, was_finished = time.perf_counter(), (run / "model.keras").is_file()
    result = pk.train(configuration, splits, seed=seed, run=run, confirm=lambda *_: True)
    minutes = (time.perf_counter() - started) / 60
    kept = run / "minutes.txt"
    if not was_finished:
        kept.write_text(f"{minutes:.1f}")
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
    print("| network | weights | what is trained | seeds | validation AUC | test AUC | minutes |")
    print("|---|---|---|---:|---:|---:|---:|")
    for row in (row for group in given.rows for row in ROWS[group]):
        backbone, weights, trained, _, seeds = row
        figures = [run_of(row, seed, splits, given.out) for seed in seeds]
        val, test, minutes = (
            " to ".join(dict.fromkeys(f"{each:.{digits}f}" for each in (min(column), max(column))))
            for column, digits in zip(zip(*figures, strict=True), (4, 3, 1), strict=True)
        )
        print(
            f"| {backbone} | {weights} | {trained} | {len(seeds)} | {val} | {test} | {minutes} |", flush=True
        )


if __name__ == "__main__":
    main()
