"""`pneumokeras predict`: print a model's probability for each radiograph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pneumokeras.cli.console import Talk, load_tensorflow, talking
from pneumokeras.cli.options import PATH, OutputFolder, skip_bad_option
from pneumokeras.core.errors import one_line
from pneumokeras.core.files import csv_text

if TYPE_CHECKING:
    import keras

    from pneumokeras.data.dataset import RadiographSet


@click.command()
@click.argument("model", type=PATH, metavar="RUN_OR_MODEL")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Predict PNEUMONIA from this probability on.  [default: the one chosen on validation, or 0.5]",
)
@click.option(
    "--heatmaps", type=OutputFolder(), help="Folder for Grad-CAM overlays, one PNG for each radiograph."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="Form of the result on stdout.",
)
@skip_bad_option
@talking
def predict(
    talk: Talk,
    *,
    model: Path,
    paths: Sequence[Path],
    threshold: float | None,
    heatmaps: Path | None,
    style: str,
    skip_bad: bool,
) -> None:
    """Predict files and folders with a run's model or a .keras file.

    A radiograph is predicted as PNEUMONIA if its probability reaches the threshold: by default the one chosen
    on validation, or 0.5 if there is none.
    """
    load_tensorflow()
    from pneumokeras.data.dataset import skipped_notice
    from pneumokeras.data.inputs import radiographs_at
    from pneumokeras.evaluation import DEFAULT_POINT
    from pneumokeras.evaluation.vocabulary import format_threshold
    from pneumokeras.models.saving import description_of, load_model
    from pneumokeras.training.evaluate import operating_points_of
    from pneumokeras.training.predict import predict as predict_set

    loaded = load_model(model)
    description = description_of(loaded)
    if description.notice and not talk.verbose:  # --verbose shows the library's warning
        talk.say(description.notice)
    classes = description.classes
    radiographs = radiographs_at(paths, class_names=classes)
    if skip_bad:
        radiographs = radiographs.without_bad()
    if radiographs.skipped:
        talk.say(skipped_notice(radiographs.skipped))
    predictions = predict_set(loaded, radiographs)
    if threshold is None:
        threshold = operating_points_of(loaded).get("validation", DEFAULT_POINT).threshold
    rows = [
        {
            "path": str(name),
            "probability": float(probability),
            "threshold": threshold,
            "class": classes[int(probability >= threshold)],
        }
        for name, probability in zip(predictions.names, predictions.probabilities, strict=True)
    ]
    if heatmaps is not None:
        written = _write_heatmaps(talk, loaded, radiographs, heatmaps)
        rows = [row | {"heatmap": str(path)} for row, path in zip(rows, written, strict=True)]
    if style == "table":  # the others have it in each row
        talk.say(f"{classes[1]} from the threshold {format_threshold(threshold)} on")
    talk.result(_formatted(rows, style))


def _write_heatmaps(talk: Talk, model: keras.Model, radiographs: RadiographSet, folder: Path) -> list[Path]:
    from pneumokeras.explain.panels import write_heatmaps

    def say(done: int) -> None:
        talk.say(f"heatmaps: {done:,} of {len(radiographs):,}")

    return write_heatmaps(model, radiographs, folder, progress=say)


def _formatted(rows: Sequence[Mapping[str, Any]], style: str) -> str:
    if style == "json":
        return json.dumps(rows, indent=2)
    if style == "csv":
        return csv_text(list(rows[0]), rows).rstrip("\n")
    width = max(len(row["class"]) for row in rows)
    return "\n".join(
        f"{row['probability']:.4f}  {row['class']:<{width}}  {one_line(row['path'])}" for row in rows
    )
