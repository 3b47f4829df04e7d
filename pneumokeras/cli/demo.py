"""`pneumokeras demo`: search, train and report on synthetic radiographs, offline."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pneumokeras.cli.console import Talk, load_tensorflow, program, talking
from pneumokeras.cli.options import PATH
from pneumokeras.core.clock import clock

COUNT = 800
SIDE = 64


@click.command()
@click.option(
    "--out", type=PATH, default=Path("tuner_runs/demo"), show_default=True, help="Folder for everything."
)
@talking
def demo(talk: Talk, *, out: Path) -> None:
    """Draw synthetic radiographs, search, train and report, offline and in a few minutes."""
    from pneumokeras.data.from_path import load_splits
    from pneumokeras.data.phantoms.write import write_phantoms

    started = time.perf_counter()
    radiographs = out / "phantoms"
    if not radiographs.exists():
        talk.say(f"Drawing {COUNT} synthetic radiographs in {radiographs}")
        write_phantoms(radiographs, count=COUNT, seed=0)
    splits = load_splits(radiographs)

    load_tensorflow()
    from pneumokeras.models.hypermodels import CompactCNNHyperModel
    from pneumokeras.report.report_run import report_run
    from pneumokeras.training.tune import tune

    talk.say(f"Searching 3 configurations of a small CNN at {SIDE} x {SIDE} pixels")
    hypermodel = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1))
    with talk.searching() as progress:
        result = tune(hypermodel, splits, max_trials=3, epochs=8, run=out / "run", progress=progress)
    talk.say("Evaluating on the test split, drawing the report")
    made = report_run(result.run)
    auc = made.evaluation.roc_auc
    talk.result(
        f"Test ROC AUC {auc} on {len(splits.test)} synthetic radiographs,"
        f" in {clock(time.perf_counter() - started)}\n"
        f"Report: {made.folder / 'index.html'}\n"
        "These are drawings: the figure shows that the pipeline works, and says nothing about patients.\n"
        f"Next, on your own radiographs: {program()} tune --data FOLDER --model compact-cnn --image-size 96"
    )
