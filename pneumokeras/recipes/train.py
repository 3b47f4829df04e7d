"""Train one configuration, and keep it as a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import keras
import keras_tuner
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.splits import Splits
from pneumokeras.models.head import has_two_logits, with_one_logit
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.reference_cnns import REFERENCE_CNNS
from pneumokeras.models.saving import description_of, set_description
from pneumokeras.recipes.configuration import COMPACT_CNN, Configuration
from pneumokeras.recipes.recipe import CORRECTED, Recipe, load_recipe
from pneumokeras.runs.folder import Run, open_run
from pneumokeras.runs.result import TuningResult, begin_run, keep_run, load_run
from pneumokeras.training.data_adapters import ImageBatches
from pneumokeras.training.features import ExtractionProgress
from pneumokeras.training.loop import FitResult, set_seed
from pneumokeras.training.objectives import best_epoch
from pneumokeras.training.predict import predict
from pneumokeras.training.progress import AfterEpoch, Reporter, TuningProgress
from pneumokeras.training.stages import Confirm, fit_stages, may_store, require_parts
from pneumokeras.training.tune import calibrate, tune

Progress = Callable[[TuningProgress | ExtractionProgress], None]


def train(
    recipe: str | PathLike[str] | Recipe | Configuration,
    splits: Splits,
    *,
    variant: str = CORRECTED,
    seed: int = 0,
    run: str | PathLike[str] | None = None,
    cache: bool = True,
    confirm: Confirm | None = None,
    progress: Progress | None = None,
) -> TuningResult:
    """Train what a recipe says, choose its operating point on validation, and keep a run folder.

    The run's operating point `validation` is chosen by the recipe's rule, on validation even where the
    document chose on test; after a search that says 0.5 it is `BalancedAccuracy()`'s.

    Args:
        recipe: a recipe's name or file, a recipe, or a configuration of your own.
        splits: radiographs; test is not touched. Where the configuration keeps a small val split, load them
            with `keep_val=True`.
        variant: of a recipe: `"as published"` or `"corrected"`.
        seed: of initial weights, order, dropout and augmentation; not of the splits, which are given.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        cache: store what frozen layers say of each radiograph.
        confirm: asked before much is stored; see `pneumokeras.fit`.
        progress: called after every batch of an extraction and after every epoch.

    Returns:
        The finished run; called again with the same arguments, the one that is there.

    Raises:
        DataError: if there is no such recipe, or a radiograph cannot be read.
        ModelError: if the model cannot be built, or the fit diverged.
        RunError: if the folder holds a run with other settings or data.
    """
    named = {}
    if isinstance(recipe, Configuration):
        configuration = recipe
    else:
        recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        configuration = recipe.variant(variant)
        named = {"recipe": recipe.name, "variant": variant}
    hypermodel = _hypermodel(configuration, seed=seed)
    if configuration.search is not None:
        tuned = _tuned(configuration, hypermodel, splits, seed, run, cache=cache, progress=progress)
        open_run(tuned.run).note(**named)
        return tuned
    settings = {**configuration.settings(), "seed": seed}
    if configuration.has_backbone:
        settings["weights"] = hypermodel.settings["weights"]
    else:
        del settings["weights"], settings["preprocessing"]
    folder = begin_run(run, splits, settings={**named, **settings}, seed=seed)
    if folder.finished():
        return load_run(folder.folder)
    with folder.noting_failure():
        return _trained(configuration, hypermodel, splits, folder, seed, cache, confirm, progress)


def build(configuration: Configuration, *, seed: int = 0, hypermodel: Any = None) -> keras.Model:
    """The untrained model of a configuration.

    Args:
        configuration: with stages, not with a search.
        seed: of initial weights and dropout.
        hypermodel: of a backbone, once it is calibrated.
    """
    if configuration.model in REFERENCE_CNNS:
        options = {"two_logits": True} if configuration.two_logits else {}
        model = REFERENCE_CNNS[configuration.model](seed=seed, **options)
        if model.input_shape[1] != configuration.image_size:
            raise DataError(
                f"{configuration.model} takes {model.input_shape[1]} pixels. "
                f"Received image_size {configuration.image_size}."
            )
        return model
    values = keras_tuner.HyperParameters()
    for name, value in configuration.hyperparameters.items():
        values.Fixed(name, value)
    return (hypermodel or _hypermodel(configuration, seed=seed)).build(values)


def parameters(model: keras.Model) -> int:
    """How many parameters a model has, as PyTorch and the documents count: without running statistics."""
    statistics: list[keras.Variable] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            statistics += [layer.moving_mean, layer.moving_variance]
        elif isinstance(layer, keras.layers.Normalization):
            statistics += layer.weights
    return model.count_params() - sum(int(np.prod(variable.shape)) for variable in statistics)


def _hypermodel(configuration: Configuration, *, seed: int) -> Any:
    """What builds the model, if it is not a reference network."""
    shape = (configuration.image_size, configuration.image_size, 1)
    if configuration.model == COMPACT_CNN:
        if (depth := configuration.hyperparameters.get("depth")) is None:
            return CompactCNNHyperModel(input_shape=shape)
        return CompactCNNHyperModel(input_shape=shape, depth=(int(depth), int(depth)))
    if not configuration.has_backbone:
        return None
    return TransferHyperModel(
        configuration.model,
        input_shape=shape,
        weights=configuration.weights,
        preprocessing=configuration.preprocessing,
        head=configuration.head,
        seed=seed,
        **(configuration.search.ranges if configuration.search else {}),
    )


def _trained(
    configuration: Configuration,
    hypermodel: Any,
    splits: Splits,
    run: Run,
    seed: int,
    cache: bool,
    confirm: Confirm | None,
    progress: Progress | None,
) -> TuningResult:
    started = time.perf_counter()
    set_seed(seed)
    if hypermodel is not None:
        calibrate(hypermodel, splits.train, seed=seed)
    model = build(configuration, seed=seed, hypermodel=hypermodel)
    require_parts(model, configuration.stages)
    images = ImageBatches.of(
        splits.train,
        splits.val,
        image_size=(configuration.image_size, configuration.image_size),
        batch_size=configuration.batch_size,
        views=configuration.views,
        generator=configuration.generator,
        class_weights=_class_weights(configuration, splits),
        oversample=configuration.oversample,
        seed=seed,
    )
    first, objective = configuration.stages[0], configuration.objective
    reporter = Reporter(progress, {"max_trials": 1, "epochs": first.epochs, "objective": objective})
    fitted = fit_stages(
        model,
        images,
        configuration.stages,
        objective=objective,
        schedule=configuration.schedule,
        cache=cache and may_store(model, images, configuration.stages, confirm=confirm),
        checkpoint=run.checkpoint_path,
        began=lambda stage: reporter.begin_fine_tuning(stage.trainable, stage.epochs),
        callbacks=[AfterEpoch(reporter)],
        progress=progress,
    )
    reporter.end()
    seconds = time.perf_counter() - started
    whole = with_one_logit(model) if has_two_logits(model) else model
    if configuration.has_backbone and any(stage.trainable == "all" for stage in configuration.stages):
        set_description(
            whole, weights=f"trained end to end on these radiographs, from {description_of(whole).weights}"
        )
    return keep_run(
        run,
        FitResult(whole, fitted.history),
        predict(whole, splits.val),
        policy=configuration.threshold,
        timings={"fit": seconds},
        parameters=parameters(whole),
        best_epoch=kept_epoch(fitted.history, configuration) + 1,
    )


def kept_epoch(history: Mapping[str, list[float]], configuration: Configuration) -> int:
    """The epoch whose weights a configuration keeps, counted from 0 over all its stages."""
    keep, stages = configuration.schedule.keep, history["stage"]
    if keep == "last":
        return len(stages) - 1
    begin = stages.index(stages[-1]) if keep == "best of last stage" else 0
    rest = {name: values[begin:] for name, values in history.items()}
    return begin + best_epoch(rest, configuration.objective)


def _tuned(
    configuration: Configuration,
    hypermodel: TransferHyperModel,
    splits: Splits,
    seed: int,
    run: str | PathLike[str] | None,
    *,
    cache: bool,
    progress: Progress | None,
) -> TuningResult:
    assert configuration.search is not None
    return tune(
        hypermodel,
        splits,
        max_trials=configuration.search.max_trials,
        epochs=configuration.search.epochs,
        batch_size=configuration.batch_size,
        views=configuration.views,
        generator=configuration.generator,
        objective=configuration.objective,
        seed=seed,
        run=run,
        cache=cache,
        progress=progress,
    )


def _class_weights(configuration: Configuration, splits: Splits) -> Mapping[int, float] | None:
    weights = configuration.class_weights
    if isinstance(weights, str):
        return splits.train.class_weights() if weights == "balanced" else None
    return {0: weights["NORMAL"], 1: weights["PNEUMONIA"]}
