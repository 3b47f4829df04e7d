"""`pneumokeras tune`: search, train, and keep a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pneumokeras.cli.console import Talk, after_run, load_tensorflow, talking, warnings_of
from pneumokeras.cli.options import (
    FineTuning,
    chosen_threshold,
    data_option,
    fitting_options,
    reading_options,
    require_weights,
    run_options,
    skip_bad_option,
    tensorboard_callbacks,
)
from pneumokeras.cli.reading import read_splits
from pneumokeras.core.words import number_of
from pneumokeras.models.registry import COMPACT_CNN, MODELS

if TYPE_CHECKING:
    from pneumokeras.runs.result import TuningResult
    from pneumokeras.training.tune import HyperModel


class BatchSizes(click.ParamType):
    """One batch size, or several, separated by commas."""

    name = "N[,N...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Convert `"32,64"` to `(32, 64)`."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r" *0*[1-9]\d* *(, *0*[1-9]\d* *)*", value):
            self.fail(f"{value!r}: expected whole numbers of at least 1, as in 32 or 32,64,128.", param, ctx)
        return tuple(dict.fromkeys(map(int, value.split(","))))


@click.command()
@data_option
@click.option(
    "--model",
    type=click.Choice([name for name, known in MODELS.items() if known.tunable]),
    default="efficientnetlite0",
    show_default=True,
    help="Backbone under a tuned head, or compact-cnn, a small network trained from scratch.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|none|FILE",
    help="Weights of the backbone: ImageNet's (of an installed package for efficientnetlite, else a "
    "download), random ones, or a file: a no-top .h5, a .safetensors for resnet18, a .pth for "
    "efficientnetlite, or a .keras with the same backbone.",
)
@click.option(
    "--preprocessing",
    type=click.Choice(["native", "rescale"]),
    default="native",
    show_default=True,
    help="Input of the backbone: what its weights expect, or pixels / 255.",
)
@click.option(
    "--max-trials",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of configurations to try.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Maximum number of epochs per trial.",
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Augmented versions of each radiograph; 1 is no augmentation.",
)
@click.option(
    "--image-size", type=click.IntRange(16, 1024), help="Side in pixels.  [default: 224; 64 for compact-cnn]"
)
@click.option(
    "--batch-size",
    type=BatchSizes(),
    default="32",
    show_default=True,
    help="Radiographs per step; from several sizes the search chooses.",
)
@click.option(
    "--objective",
    type=click.Choice(["val_auc", "val_accuracy", "val_loss"]),
    default="val_auc",
    show_default=True,
    help="Score that ranks the trials.",
)
@click.option(
    "--fine-tune",
    "stages",
    type=FineTuning(),
    multiple=True,
    help="After the search, train the head and WHAT of the backbone: stage5 (that stage and everything "
    "above it), top20 (its last 20 layers) or all. Can be repeated.  [EPOCHS: 5; RATE: 1e-5]",
)
@fitting_options
@run_options
@click.option("--no-cache", is_flag=True, help="Train whole models on images, not heads on stored features.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "folded", "bfloat16"]),
    default="auto",
    show_default=True,
    help="How the frozen backbone computes; auto takes the fastest way that gives nearly the same features.",
)
@click.option("--yes", is_flag=True, help="Store the feature maps that --fine-tune needs without asking.")
@click.option("--pad", is_flag=True, help="Pad radiographs to a square instead of stretching them.")
@reading_options
@skip_bad_option
@talking
def tune(
    talk: Talk,
    *,
    path: Path,
    model: str,
    weights: str,
    preprocessing: str,
    image_size: int | None,
    seed: int,
    run: Path | None,
    keep_val: bool,
    no_cache: bool,
    stages: tuple[dict[str, Any], ...],
    yes: bool,
    classes: tuple[str, str],
    patient_pattern: str | None,
    skip_bad: bool,
    class_weights: Any,
    patience: int | None,
    tensorboard: Path | None,
    **settings: Any,
) -> None:
    """Search for the best configuration, train it, and keep everything in a run folder.

    The same command again resumes an interrupted run, or shows the finished one.
    """
    talk.warns_in_result = True
    if class_weights is not None or settings["oversample"] is not None:
        load_tensorflow()
        from pneumokeras.training.settings import BatchSettings

        # Refuses what no fit takes, before the radiographs are read.
        BatchSettings(class_weights=class_weights or "balanced", oversample=settings["oversample"])
    require_weights(weights)
    splits = read_splits(
        talk,
        path,
        seed=seed,
        keep_val=keep_val,
        classes=classes,
        patient_pattern=patient_pattern,
        skip_bad=skip_bad,
    )
    load_tensorflow()
    from pneumokeras.training.callbacks import Schedule
    from pneumokeras.training.settings import Stage
    from pneumokeras.training.tune import tune as search

    of_a_backbone = (weights, preprocessing, settings["precision"])
    if model == COMPACT_CNN and of_a_backbone != ("imagenet", "native", "auto"):
        raise click.UsageError(
            "--weights, --preprocessing and --precision belong to a backbone, not to compact-cnn."
        )
    if no_cache and settings["precision"] == "bfloat16":
        raise click.UsageError("--precision bfloat16 is for stored features, and --no-cache stores none.")
    hypermodel = _hypermodel(model, weights=weights, preprocessing=preprocessing, image_size=image_size)
    if model != COMPACT_CNN and weights == "none":
        talk.say(f"Weights none: {model} has random weights (BatchNorm calibrated), not ImageNet's.")
    with talk.searching() as progress:
        result = search(
            hypermodel,
            splits,
            fine_tune=[Stage(**stage) for stage in stages],
            class_weights=class_weights or "balanced",
            schedule=None if patience is None else Schedule(patience=patience),
            callbacks=tensorboard_callbacks(tensorboard),
            seed=seed,
            run=run,
            cache=not no_cache,
            confirm=None if yes else progress.agrees_to_store,
            progress=progress,
            **settings,
        )
    talk.result(_summary(result))


def _hypermodel(model: str, *, weights: str, preprocessing: str, image_size: int | None) -> HyperModel:
    """Return the HyperModel of the options."""
    from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel

    side = image_size or MODELS[model].image_size
    if model == COMPACT_CNN:
        return CompactCNNHyperModel(input_shape=(side, side, 1))
    return TransferHyperModel(
        model, input_shape=(side, side, 1), weights=weights, preprocessing=preprocessing
    )


def _summary(result: TuningResult) -> str:
    """Return the best configuration, its score and threshold, and what to type next."""
    from pneumokeras.runs.folder import open_run, reading
    from pneumokeras.runs.trials import format_hyperparameters

    run = open_run(result.run)
    with reading(run.record_path):
        kept = run.record()["best_epoch"] - 1
    scored = [trial for trial in result.trials if trial.score is not None]
    failed = len(result.trials) - len(scored)
    lines = [
        f"Best of {number_of(len(result.trials), 'trial')}"
        + (f" ({failed} failed)" if failed else "")
        + f": {format_hyperparameters(result.best_hyperparameters)}",
        f"Validation AUC {result.history['val_auc'][kept]:.4f}; "
        + chosen_threshold(result.operating_points["validation"]),
        *warnings_of(result),
        *after_run(result.run),
    ]
    return "\n".join(lines)
