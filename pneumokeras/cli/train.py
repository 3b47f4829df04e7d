"""`pneumokeras train`: train one recipe or one model, and keep a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pneumokeras.cli.console import Talk, after_run, load_tensorflow, talking, warnings_of
from pneumokeras.cli.options import (
    FineTuning,
    data_option,
    fitting_options,
    reading_options,
    require_weights,
    run_options,
    skip_bad_option,
    tensorboard_callbacks,
)
from pneumokeras.cli.reading import read_splits

if TYPE_CHECKING:
    from pneumokeras.recipes.configuration import Configuration
    from pneumokeras.runs.result import TuningResult


@click.command()
@data_option
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="A name that `pneumokeras recipes` lists, or a .toml of your own.",
)
@click.option("--model", metavar="NAME", help="A model with default settings, instead of a recipe.")
@click.option("--as-published", is_flag=True, help="Keep the mistakes of the recipe's document.")
@click.option(
    "--stage",
    "stages",
    type=FineTuning(),
    multiple=True,
    help="What to train: head, stage5 (that stage and everything above it), top20 (the backbone's last 20 "
    "layers) or all. Repeat it to train in several stages.  [default: the recipe's or the model's; "
    "EPOCHS: 5; RATE: 1e-5]",
)
@click.option("--weights", metavar="imagenet|none|FILE", help="Weights of the backbone.")
@click.option("--epochs", type=click.IntRange(min=1), help="Maximum number of epochs per stage or trial.")
@click.option(
    "--views", type=click.IntRange(min=1), help="Augmented versions of each radiograph; 1 is no augmentation."
)
@click.option("--image-size", type=click.IntRange(16, 1024), help="Side in pixels.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Radiographs per step.")
@fitting_options
@run_options
@click.option("--no-cache", is_flag=True, help="Do not store features of frozen layers.")
@click.option("--yes", is_flag=True, help="Store large feature maps without asking.")
@reading_options
@skip_bad_option
@talking
def train(
    talk: Talk,
    *,
    path: Path,
    recipe: str | None,
    model: str | None,
    as_published: bool,
    stages: tuple[dict[str, Any], ...],
    weights: str | None,
    epochs: int | None,
    views: int | None,
    image_size: int | None,
    batch_size: int | None,
    seed: int,
    run: Path | None,
    keep_val: bool,
    no_cache: bool,
    yes: bool,
    class_weights: Any,
    oversample: float | None,
    patience: int | None,
    threshold: Any,
    workers: int,
    tensorboard: Path | None,
    **reading: Any,
) -> None:
    """Train a recipe, or a model with default settings, and keep everything in a run folder.

    Options replace the recipe's settings. The same command again shows the finished run.
    """
    talk.warns_in_result = True
    if (recipe is None) == (model is None):
        raise click.UsageError("Expected either --recipe or --model.")
    if as_published and recipe is None:
        raise click.UsageError("--as-published needs --recipe.")
    load_tensorflow()
    from pneumokeras.recipes.configuration import Configuration, with_changes
    from pneumokeras.recipes.recipe import AS_PUBLISHED, CORRECTED, load_recipe
    from pneumokeras.recipes.train import train as train_recipe
    from pneumokeras.training.settings import BatchSettings, Stage

    variant = AS_PUBLISHED if as_published else CORRECTED
    named = None if recipe is None else load_recipe(recipe)
    start = Configuration.for_model(str(model)) if named is None else named.variant(variant)
    if not start.has_backbone and weights is not None:
        raise click.UsageError(f"--weights belongs to a backbone, not to {start.model}.")
    batch_norm: dict[str, Any] = {} if start.has_backbone else {"batch_norm": "update"}
    configuration = with_changes(
        start,
        stages=tuple(Stage(**stage, **batch_norm) for stage in stages) or None,
        weights=weights,
        epochs=epochs,
        views=views,
        image_size=image_size,
        batch_size=batch_size,
        keep_val=keep_val or None,
    )
    # Refuses what no fit takes, before the radiographs are read.
    BatchSettings(
        class_weights=class_weights or configuration.class_weights,
        oversample=configuration.oversample if oversample is None else oversample,
    )
    if weights is not None:
        require_weights(weights)
    splits = read_splits(talk, path, seed=seed, keep_val=configuration.keep_val, **reading)
    _say_weights(talk, configuration)
    with talk.searching() as progress:
        result = train_recipe(
            configuration if named is None else replace(named, variants={variant: configuration}),
            splits,
            variant=variant,
            schedule=None if patience is None else replace(configuration.schedule, patience=patience),
            class_weights=class_weights,
            oversample=oversample,
            threshold=threshold,
            callbacks=tensorboard_callbacks(tensorboard),
            workers=workers,
            seed=seed,
            run=run,
            cache=not no_cache,
            confirm=None if yes else progress.agrees_to_store,
            progress=progress,
        )
    talk.result(_summary(result))


def _say_weights(talk: Talk, configuration: Configuration) -> None:
    if configuration.has_backbone and configuration.weights == "none":
        talk.say(f"Weights none: {configuration.model} starts from random weights, not ImageNet's.")


def _summary(result: TuningResult) -> str:
    """Return the kept epoch, its score and threshold, and what to type next."""
    from pneumokeras.runs.folder import open_run, reading

    run = open_run(result.run)
    with reading(run.record_path):
        kept = run.record()["best_epoch"]
    point = result.operating_points["validation"]
    chosen = point.chosen_on if point.images is None else f"chosen on {point.images} validation images"
    return "\n".join(
        [
            f"Epoch {kept} of {len(result.history['loss'])} kept: "
            f"validation AUC {result.history['val_auc'][kept - 1]:.4f}; "
            f"threshold {point.threshold:.4f}, {chosen}",
            *warnings_of(result),
            *after_run(result.run),
        ]
    )
