"""RandomSearch over a HyperModel, the fit of its winner, and the run folder that holds both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol

import keras
import keras_tuner
import numpy as np

from pneumokeras.core.errors import DataError, ModelError
from pneumokeras.data.augmentation import RadiographDataGenerator, augmentation_settings
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.splits import Splits
from pneumokeras.models.forward import forward
from pneumokeras.models.hypermodels import CALIBRATION_IMAGES, TransferHyperModel
from pneumokeras.runs.folder import Run
from pneumokeras.runs.result import TuningResult, begin_run, keep_run, load_run
from pneumokeras.training.data_adapters import FeatureBatches, ImageBatches, TrainingData
from pneumokeras.training.features import PRECISIONS, ExtractionProgress, Extractor
from pneumokeras.training.loop import fit_on, set_seed
from pneumokeras.training.objectives import best_epoch, require_objective
from pneumokeras.training.predict import predictions_of
from pneumokeras.training.progress import AfterEpoch, Reporter, TuningProgress
from pneumokeras.training.stages import Confirm, Stage, fit_stages, may_store, require_parts, sets_of
from pneumokeras.training.tuner import Build, in_tuned_batches, search, trials_of

Progress = Callable[[TuningProgress | ExtractionProgress], None]
"""What is told how the work goes."""


class HyperModel(Protocol):
    """What `tune` asks of a HyperModel: Keras Tuner's, with an input shape and settings to write down."""

    input_shape: tuple[int, int, int]

    @property
    def settings(self) -> dict[str, Any]:
        """What tells one search from another, with the key `model`."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The compiled model for `hp`."""


def tune(
    hypermodel: HyperModel,
    splits: Splits,
    *,
    max_trials: int = 10,
    epochs: int = 10,
    batch_size: int | Sequence[int] = 32,
    views: int | None = 4,
    generator: Any = None,
    objective: str = "val_auc",
    fine_tune: Sequence[Stage] = (),
    seed: int = 0,
    pad: bool = False,
    run: str | PathLike[str] | None = None,
    cache: bool = True,
    precision: str = "auto",
    confirm: Confirm | None = None,
    progress: Progress | None = None,
) -> TuningResult:
    """Search for the best configuration by random search, train it, and keep everything in a run folder.

    Each trial and the final fit are class-weighted and stop early; the score is the objective at the best
    epoch. A trial that fails is a row with its reason. Called again with the same arguments, it goes on
    where it was interrupted, or gives back the finished run.

    Args:
        hypermodel: a HyperModel of this package, or your own with `input_shape` and `settings`.
        splits: radiographs; test is not touched.
        max_trials: how many configurations to try.
        epochs: at most so many for each trial and for the final fit.
        batch_size: radiographs a step, or several sizes for the search to choose from.
        views: versions of each radiograph, epoch e showing view e mod `views`; 1 is no augmentation;
            `None` augments anew every epoch.
        generator: the augmentation; by default `RadiographDataGenerator()`.
        objective: `"val_auc"`, `"val_accuracy"` or `"val_loss"`.
        fine_tune: stages that the winner goes through after its fit, such as `[Stage("stage5", epochs=5)]`,
            see `pneumokeras.fit`; the weights of the best epoch of all are kept.
        seed: of search, initial weights, order and augmentation. Keras' initializers follow global states
            only, so these are set by `set_seed` before each trial.
        pad: keep the proportions of radiographs and fill up with black, instead of stretching them.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        cache: ask a frozen backbone once and train on its stored features, see
            `pneumokeras.training.features`; otherwise, and where a model has no frozen backbone, train the
            full model on images.
        precision: of the frozen backbone while it is asked: `"float32"`, what the saved model computes;
            `"bfloat16"`; or `"auto"`, bfloat16 where a short probe finds it faster and nearly the same.
        confirm: asked before the feature maps for `fine_tune` are stored, if they are large: how many bytes,
            and where. False goes without. By default nobody is asked.
        progress: called after every batch of an extraction and after every epoch.

    Returns:
        The finished run.

    Raises:
        RunError: if the folder holds a run with other settings or data.
        TuningError: if every trial failed; the message gives the first reason.
        DataError: if a number is out of range or a radiograph cannot be read.
        ModelError: if the model cannot be built.
    """
    if max_trials < 1 or epochs < 1:
        raise DataError(f"Expected max_trials and epochs of at least 1. Received {max_trials} and {epochs}.")
    require_objective(objective)
    if not (hasattr(hypermodel, "input_shape") and hasattr(hypermodel, "settings")):
        raise ModelError(
            f"{type(hypermodel).__name__} lacks input_shape or settings. Expected a HyperModel with "
            "input_shape (height, width, channels) and settings, a dictionary with the key 'model'."
        )
    if precision not in ("auto", *PRECISIONS):
        raise DataError(f"Unknown precision {precision!r}. Expected auto, {' or '.join(PRECISIONS)}.")
    generator = RadiographDataGenerator() if generator is None else generator
    batch_sizes = [batch_size] if isinstance(batch_size, int) else list(batch_size)
    settings = {
        **hypermodel.settings,
        "max_trials": max_trials,
        "epochs": epochs,
        "batch_size": batch_sizes,
        "views": views,
        "augmentation": augmentation_settings(generator),
        "pad": pad,
        "objective": objective,
        "fine_tune": [stage.settings() for stage in fine_tune],
        "precision": precision,
        "seed": seed,
    }
    folder = begin_run(run, splits, settings=settings, seed=seed)
    if folder.finished():
        return load_run(folder.folder)
    with folder.noting_failure():
        return _search_and_fit(
            hypermodel,
            splits,
            settings,
            generator,
            folder,
            stages=fine_tune,
            precision=folder.record().get("precision", precision),
            cache=cache,
            confirm=confirm,
            progress=progress,
        )


def _search_and_fit(
    hypermodel: HyperModel,
    splits: Splits,
    settings: Mapping[str, Any],
    generator: Any,
    run: Run,
    *,
    stages: Sequence[Stage],
    precision: str,
    cache: bool,
    confirm: Confirm | None,
    progress: Progress | None,
) -> TuningResult:
    started = time.perf_counter()
    calibrate(hypermodel, splits.train, seed=settings["seed"], pad=settings["pad"])
    images = ImageBatches.of(
        splits.train,
        splits.val,
        image_size=hypermodel.input_shape[:2],
        batch_size=settings["batch_size"][0],
        views=settings["views"],
        generator=generator,
        class_weights=splits.train.class_weights(),
        seed=settings["seed"],
        pad=settings["pad"],
        channels=hypermodel.input_shape[-1],
    )
    stores = False
    if stages:
        example = hypermodel.build(keras_tuner.HyperParameters())
        require_parts(example, stages)
        stores = cache and may_store(example, images, stages, confirm=confirm)
    way = _training_backend(hypermodel, images, precision=precision, cache=cache, progress=progress)
    run.note(precision=way.precision)  # the trials of a search that is gone on with must compare
    build = _with_batch_sizes(way.build, settings["batch_size"])
    extracted = time.perf_counter()
    reporter = Reporter(progress, settings)
    found = search(build, way.data, settings, run, reporter)
    searched = time.perf_counter()

    best = found.oracle.get_best_trials(1)[0].hyperparameters
    reporter.begin_fit()
    set_seed(settings["seed"])
    fitted = fit_on(
        build(best),
        in_tuned_batches(way.data, best),
        epochs=settings["epochs"],
        objective=settings["objective"],
        checkpoint=run.checkpoint_path,
        callbacks=[AfterEpoch(reporter)],
    )
    head, model = fitted.model, way.whole(best, fitted.model)
    fitted = fit_stages(
        model,
        in_tuned_batches(images, best),
        stages,
        before=fitted,
        objective=settings["objective"],
        cache=stores,
        checkpoint=run.checkpoint_path,
        began=lambda stage: reporter.begin_fine_tuning(stage.trainable, stage.epochs),
        callbacks=[AfterEpoch(reporter)],
        progress=progress,
    )
    reporter.end()
    # Where a head learned from features in bfloat16, the threshold is chosen for the model as it is saved.
    exact = way.precision == "float32" and not stages
    probabilities = forward(head, way.data.val) if exact else forward(model, images.val)
    predictions = predictions_of(splits.val, probabilities)
    return keep_run(
        run,
        fitted,
        predictions,
        pad=settings["pad"],
        trials=trials_of(found.oracle),
        hyperparameters=best.values,
        timings={
            "extraction": extracted - started,
            "search": sum(trial.seconds or 0 for trial in trials_of(found.oracle)),
            "fit": time.perf_counter() - searched,
        },
        best_epoch=best_epoch(fitted.history, settings["objective"]) + 1,
    )


@dataclass(frozen=True)
class _TrainingBackend:
    """One way to the same model: what trials build and fit, and how the winner becomes a full model."""

    build: Build
    data: TrainingData
    whole: Callable[[keras_tuner.HyperParameters, keras.Model], keras.Model]
    precision: str


def _training_backend(
    hypermodel: HyperModel, images: ImageBatches, *, precision: str, cache: bool, progress: Progress | None
) -> _TrainingBackend:
    """Heads on stored features where the HyperModel has a frozen backbone, else full models on images."""
    if not (cache and images.train.storable and isinstance(hypermodel, TransferHyperModel)):
        images.preload()
        return _TrainingBackend(hypermodel.build, images, lambda hp, model: model, "float32")
    network = hypermodel.feature_extractor()
    extractor = Extractor.of(network, network, precision=precision)
    features = extractor.features(sets_of(images), progress=progress)
    data = FeatureBatches(images, *features.rows)
    return _TrainingBackend(hypermodel.build_head, data, hypermodel.assemble, features.precision)


def _with_batch_sizes(build: Build, sizes: Sequence[int]) -> Build:
    """The same models, the batch size drawn with their hyperparameters if there is a choice."""

    def drawn(hp: keras_tuner.HyperParameters) -> keras.Model:
        hp.Choice("batch_size", list(sizes))
        return build(hp)

    return build if len(sizes) == 1 else drawn


def calibrate(hypermodel: HyperModel, train: RadiographSet, *, seed: int, pad: bool = False) -> None:
    """Show a HyperModel some training radiographs, if it asks for them."""
    if not hasattr(hypermodel, "calibrate"):
        return
    shuffled = np.random.default_rng(seed).permutation(len(train))
    chosen = train.subset(np.sort(shuffled[:CALIBRATION_IMAGES]))
    hypermodel.calibrate(chosen.pixels(hypermodel.input_shape[:2], pad=pad))
