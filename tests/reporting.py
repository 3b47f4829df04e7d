"""Evaluations and contents that the tests of reports and of their page share."""

import numpy as np

from pneumokeras.evaluation import OperatingPoint, Predictions, compare, evaluate_predictions
from pneumokeras.report import ComparedRuns, Examples, Pictures, ReportContents

EVIL = "<img src=x onerror=alert(1)>.jpeg"
POINT = OperatingPoint(0.3, "val", "balanced_accuracy", 0.95, 520)


def evaluation(*, validation=True, tn=86, fp=31, fn=5, tp=190, **options):
    """An evaluation with these counts at 0.3, where validation chose to call."""
    labels = np.repeat([0, 0, 1, 1], [tn, fp, fn, tp])
    probabilities = np.repeat([0.1, 0.4, 0.2, 0.8], [tn, fp, fn, tp])
    names = [f"test/{i}.jpeg" for i in range(labels.size)]
    points = {"validation": POINT} if validation else {}
    predictions = Predictions(names, [f"p{i // 2}" for i in range(labels.size)], labels, probabilities)
    return evaluate_predictions(predictions, operating_points=points, replicates=50, **options)


def scattered(count=60, *, seed=0, skill=0.8, names=None, **options):
    """An evaluation whose probabilities all differ, of patients with one to three radiographs."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3 > 0).astype(int)
    logits = rng.normal(0, 1, count) + skill * (2 * labels - 1)
    names = [f"data/{i}.jpeg" for i in range(count)] if names is None else names
    patients = [f"p{i // 2}" if i < count // 2 else f"q{i}" for i in range(count)]
    predictions = Predictions(names, patients, labels, 1 / (1 + np.exp(-logits)))
    return evaluate_predictions(
        predictions, operating_points={"validation": POINT}, replicates=50, run="a run", **options
    )


def examples(*, heatmaps=False):
    """Three radiographs of noise, the first of an evil name."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    maps = {"heatmaps": images / 255, "overlays": np.stack([images] * 3, axis=-1)} if heatmaps else {}
    return Examples(
        [EVIL, "b.jpeg", "c.jpeg"], images, np.array([0, 1, 1]), np.array([0.1, 0.9, 0.2]), **maps
    )


def pictures(count, *, side=32):
    """Pictures of the first radiographs: noise, with a bright spot as their heatmap."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
    heatmaps = np.zeros((count, 8, 8))
    heatmaps[:, 2:4, 2:4] = 1
    return Pictures(np.arange(count), images, heatmaps)


def compared(this):
    """A worse run beside this one."""
    rng = np.random.default_rng(1)
    predictions = this.predictions
    probabilities = np.clip(predictions.probabilities + rng.normal(0, 0.3, len(predictions)), 0, 1)
    other = evaluate_predictions(
        Predictions(predictions.names, predictions.patients, predictions.labels, probabilities),
        operating_points={"validation": POINT},
        run="other",
        replicates=50,
    )
    return ComparedRuns(compare(other, this, replicates=50), ("other", "a run"), examples())


def trial(number, score, reason=""):
    """A row of trials.csv."""
    return {
        "trial": number,
        "status": "failed" if reason else "completed",
        "score": score,
        "epochs": None if reason else 3,
        "seconds": None if reason else 1.5,
        "reason": reason,
        "units": 64 * number,
        "dropout": 0.3,
    }


HISTORY = {
    "stage": [1.0, 1.0, 2.0],
    "learning_rate": [1e-3, 5e-4, 1e-5],
    "loss": [1.0, 0.8, 0.7],
    "val_loss": [0.9, 0.6, 0.5],
    "accuracy": [0.7, 0.8, 0.8],
    "val_accuracy": [0.6, 0.8, 0.8],
    "val_auc": [0.9, 0.8, 0.7],
}


def full_contents(this=None, **changes):
    """Contents with something of everything, names from outside being evil."""
    this = evaluation() if this is None else this
    parts = {
        "title": f"Report {EVIL}",
        "evaluation": this,
        "class_counts": {
            "train": {"NORMAL": 1214, "PNEUMONIA": 3496},
            "test": {"NORMAL": 117, "PNEUMONIA": 195},
        },
        "history": HISTORY,
        "kept_epoch": 1,
        "trials": [trial(1, 0.91), trial(2, 0.95), trial(3, None, f"OOM {EVIL}")],
        "facts": {
            "command": f"pneumokeras tune --data '{EVIL}'",
            "Seed": "7",
            f"Fact {EVIL}": f"Value {EVIL}",
        },
        "notices": ["The weights are random.", f"A training image is among these: {EVIL}"],
        "samples": examples(),
        "predictions": examples(),
        "mistakes": examples(heatmaps=True),
        "explanations": examples(heatmaps=True),
        "pictures": pictures(12),
        "compared": compared(this),
    }
    return ReportContents(**parts | changes)
