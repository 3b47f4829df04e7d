"""Train one recipe or configuration and keep it as a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import keras
import keras_tuner
import numpy as np

from pneumokeras.core.arguments import seed_number
from pneumokeras.core.errors import SettingsError
from pneumokeras.data.splits import Splits, require_splits
from pneumokeras.evaluation import Fixed, ThresholdPolicy
from pneumokeras.models.head import has_two_logits, with_one_logit
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.reference_cnns import REFERENCE_CNNS
from pneumokeras.models.registry import COMPACT_CNN
from pneumokeras.models.saving import description_of, set_description
from pneumokeras.recipes.configuration import Configuration, with_changes
from pneumokeras.recipes.recipe import CORRECTED, Recipe, load_recipe
from pneumokeras.runs.folder import Run, open_run
from pneumokeras.runs.result import RunResult, result_of_run
from pneumokeras.training.callbacks import Schedule
from pneumokeras.training.data_adapters import require_both_classes
from pneumokeras.training.pipeline import HyperModel, Training
from pneumokeras.training.predict import predict
from pneumokeras.training.progress import Progress, progress_or_line
from pneumokeras.training.settings import (
    ClassWeights,
    Confirm,
    Execution,
    class_weights_of,
    policy_of,
)
from pneumokeras.training.stages import require_parts
from pneumokeras.training.tune import tune


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
    schedule: Schedule | None = None,
    class_weights: ClassWeights = None,
    oversample: float | None = None,
    threshold: ThresholdPolicy | float | str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    workers: int = 2,
    verbose: bool | str = "auto",
) -> RunResult:
    """Train a recipe or configuration, choose its operating point on validation, and keep a run folder.

    The run's operating point `validation` is chosen by the recipe's rule, on validation even where the
    document chose on test. After a search whose recipe states 0.5 it is `BalancedAccuracy()`'s.

    Args:
        recipe: a recipe's name or file, a recipe, or a configuration of your own.
        splits: radiographs; test is not touched. Where the configuration keeps a small val split, load them
            with `keep_val=True`.
        variant: of a recipe: `"as published"`, `"corrected"` or, of some, `"on lite0"`.
        seed: of initial weights, order, dropout and augmentation; not of the splits, which are given.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        cache: store the features of frozen layers.
        confirm: called before much is stored; see `pneumokeras.fit`.
        progress: called after each batch of an extraction and after each epoch.
        schedule: replaces the recipe's unless `None`; see `pneumokeras.Schedule`.
        class_weights: replace the recipe's unless `None`; `"none"` is no weights. See `pneumokeras.fit`.
        oversample: replaces the recipe's unless `None`; see `pneumokeras.fit`.
        threshold: replaces the recipe's unless `None`; see `pneumokeras.tune`.
        callbacks: Keras callbacks, as for `pneumokeras.fit`, or after a search as for `pneumokeras.tune`.
        workers: threads that prepare batches of images.
        verbose: show progress in a line; by default in a notebook and on a terminal, unless `progress` is
            given.

    Returns:
        The finished run. Called again with the same arguments, the run is loaded.

    Raises:
        SettingsError: if there is no such recipe or variant, a setting is unknown or out of range, or a
            network does not take the image size.
        DataError: if the recipe's file is invalid, a radiograph cannot be read, or train or val lacks a
            class.
        ModelError: if the model cannot be built, or the fit diverged.
        RunError: if the folder holds a run with other settings or data.

    Example:
        >>> from pneumokeras.recipes.configuration import Configuration
        >>> stages = (pk.Stage("all", epochs=1, learning_rate=1e-3, batch_norm="update"),)
        >>> configuration = Configuration.for_model("compact-cnn", image_size=32, stages=stages)
        >>> result = pk.train(configuration, pk.load_splits("chest_xray"), run="trained")
        >>> result.history["stage"]
        [1.0]
    """
    named = {}
    if isinstance(recipe, Configuration):
        configuration = recipe
    else:
        recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        configuration = recipe.variant(variant)
        named = {"recipe": recipe.name, "variant": variant}
    require_splits(splits)
    if class_weights is not None:
        class_weights = class_weights_of(class_weights, splits.train.class_names) or "none"
    configuration = with_changes(
        configuration,
        schedule=schedule,
        class_weights=class_weights,
        oversample=oversample,
        threshold=None if threshold is None else policy_of(threshold),
    )
    seed = seed_number(seed)
    hypermodel = _hypermodel(configuration, seed=seed)
    if configuration.search is not None:
        tuned = tune(
            hypermodel,
            splits,
            max_trials=configuration.search.max_trials,
            epochs=configuration.search.epochs,
            batch_size=configuration.batch_size,
            views=configuration.views,
            generator=configuration.generator,
            objective=configuration.objective,
            class_weights=configuration.class_weights,
            oversample=configuration.oversample,
            schedule=configuration.schedule,
            # A recipe that states 0.5 reports that point beside the one chosen.
            threshold=None if configuration.threshold == Fixed() else configuration.threshold,
            seed=seed,
            run=run,
            cache=cache,
            progress=progress,
            callbacks=callbacks,
            workers=workers,
            verbose=verbose,
        )
        open_run(tuned.run).note(**named)
        return tuned
    settings = {**named, **configuration.settings(), "seed": seed}
    if configuration.has_backbone:
        settings["weights"] = hypermodel.settings["weights"]
    else:
        del settings["weights"], settings["preprocessing"]
    fit_settings = configuration.fit_settings(seed=seed)
    execution = Execution(
        cache=cache,
        confirm=confirm,
        progress=progress_or_line(progress, verbose),
        workers=workers,
        callbacks=callbacks,
    )
    require_both_classes(splits.train, splits.val)

    def check() -> None:
        named = {stage.trainable for stage in configuration.stages}
        if not (configuration.has_backbone and named <= {"head", "all"}):  # which every backbone has
            require_parts(build(configuration, hypermodel=hypermodel), configuration.stages)

    def work(begun: Run) -> RunResult:
        training = Training.begin(
            hypermodel,
            splits,
            fit_settings,
            run=begun,
            execution=execution,
        )
        model = build(configuration, hypermodel=hypermodel)
        stores = training.may_store(model)
        fitted = training.fit_stages(model, training.images, stores=stores, callbacks=execution.callbacks)
        model = _finished(fitted.model, configuration)
        return training.keep(
            model,
            predict(model, splits.val),
            history=fitted.history,
            policy=configuration.threshold,
            timings={"fit": time.perf_counter() - training.started},
            parameters=parameters(model),
        )

    return result_of_run(run, splits, work, settings=settings, seed=seed, check=check)


def _finished(model: keras.Model, configuration: Configuration) -> keras.Model:
    """Return a trained model with one logit, and note in its description where its weights come from."""
    model = with_one_logit(model) if has_two_logits(model) else model
    if configuration.has_backbone and any(stage.trainable == "all" for stage in configuration.stages):
        origin = description_of(model).weights
        set_description(model, weights=f"trained end to end on these radiographs, from {origin}")
    return model


def build(
    configuration: Configuration, *, seed: int = 0, hypermodel: HyperModel | None = None
) -> keras.Model:
    """Return the untrained model of a configuration.

    Args:
        configuration: with stages, not with a search.
        seed: of initial weights and dropout.
        hypermodel: one made before, such as a calibrated one; its own seed counts.

    Raises:
        SettingsError: if the network takes another image size.
    """
    values = keras_tuner.HyperParameters()
    for name, value in configuration.hyperparameters.items():
        values.Fixed(name, value)
    return (hypermodel or _hypermodel(configuration, seed=seed)).build(values)


def parameters(model: keras.Model) -> int:
    """Return the number of parameters as PyTorch and the documents count: without running statistics."""
    statistics: list[keras.Variable] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            statistics += [layer.moving_mean, layer.moving_variance]
        elif isinstance(layer, keras.layers.Normalization):
            statistics += layer.weights
    return model.count_params() - sum(int(np.prod(variable.shape)) for variable in statistics)


@dataclass(frozen=True)
class _ReferenceHyperModel:
    """A reference network, which has no hyperparameters, as a HyperModel."""

    configuration: Configuration
    seed: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(height, width, 1)`."""
        return self.configuration.image_size, self.configuration.image_size, 1

    @property
    def settings(self) -> dict[str, Any]:
        """The network's name."""
        return {"model": self.configuration.model}

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the network, with new weights.

        Raises:
            SettingsError: if it takes another image size.
        """
        name = self.configuration.model
        options = {"two_logits": True} if self.configuration.two_logits else {}
        model = REFERENCE_CNNS[name](seed=self.seed, **options)
        if model.input_shape[1] != self.configuration.image_size:
            raise SettingsError(
                f"{name} takes {model.input_shape[1]} pixels. "
                f"Received `image_size` {self.configuration.image_size}.",
                parameter="image_size",
            )
        return model


def _hypermodel(configuration: Configuration, *, seed: int) -> HyperModel:
    """Return the HyperModel that builds a configuration's model."""
    shape = (configuration.image_size, configuration.image_size, 1)
    if configuration.model == COMPACT_CNN:
        if (depth := configuration.hyperparameters.get("depth")) is None:
            return CompactCNNHyperModel(input_shape=shape)
        return CompactCNNHyperModel(input_shape=shape, depth=(int(depth), int(depth)))
    if not configuration.has_backbone:
        return _ReferenceHyperModel(configuration, seed)
    return TransferHyperModel(
        configuration.model,
        input_shape=shape,
        weights=configuration.weights,
        preprocessing=configuration.preprocessing,
        head=configuration.head,
        seed=seed,
        **(configuration.search.ranges if configuration.search else {}),
    )
