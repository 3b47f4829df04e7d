"""Search for the best configuration, train it, and keep both in a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import keras
import keras_tuner

from pneumokeras.core.errors import ModelError
from pneumokeras.data.augmentation import Generator, RadiographDataGenerator
from pneumokeras.data.splits import Splits
from pneumokeras.models.forward import forward
from pneumokeras.runs.folder import Run
from pneumokeras.runs.result import RunResult, result_of_run
from pneumokeras.training.data_adapters import FeatureBatches, TrainingData
from pneumokeras.training.features import Extractor
from pneumokeras.training.identity import builds_its_head, identity_of
from pneumokeras.training.loop import fit_on, set_seed
from pneumokeras.training.pipeline import FeatureHyperModel, HyperModel, Training
from pneumokeras.training.predict import predictions_of
from pneumokeras.training.progress import AfterEpoch, Progress
from pneumokeras.training.settings import Confirm, Execution, SearchSettings, Stage
from pneumokeras.training.stages import views_to_store
from pneumokeras.training.tuner import Build, in_tuned_batches, search, trials_of


def tune(
    hypermodel: HyperModel,
    splits: Splits,
    *,
    max_trials: int = 10,
    epochs: int = 10,
    batch_size: int | Sequence[int] = 32,
    views: int | None = 4,
    generator: Generator | None = None,
    objective: str = "val_auc",
    fine_tune: Sequence[Stage] = (),
    seed: int = 0,
    pad: bool = False,
    run: str | PathLike[str] | None = None,
    cache: bool = True,
    precision: str = "auto",
    confirm: Confirm | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Search for the best configuration by random search, train it, and keep everything in a run folder.

    Each trial and the final fit are class-weighted and stop early; a trial's score is the objective at its
    best epoch. A trial that fails is a row with its reason. Called again with the same arguments, the search
    is resumed where it was interrupted, or the finished run is returned.

    Args:
        hypermodel: a HyperModel of this package, or your own with `input_shape` and `settings`. One that
            also has `feature_extractor`, `build_head` and `assemble`, as `TransferHyperModel` has, is
            searched on stored features.
        splits: radiographs; test is not touched.
        max_trials: number of configurations to try.
        epochs: maximum number of epochs of each trial and of the final fit.
        batch_size: radiographs per step, or several sizes for the search to choose from.
        views: versions of each radiograph, epoch e showing version e mod `views`; 1 is no augmentation;
            `None` augments anew in every epoch.
        generator: the augmentation; by default
            `RadiographDataGenerator.radiographs()`; also augmentation layers of Keras.
        objective: ranks epochs and trials: `"val_auc"`, `"val_accuracy"` or `"val_loss"`.
        fine_tune: stages that the winner goes through after its fit, such as `[Stage("stage5", epochs=5)]`,
            see `pneumokeras.fit`; the weights of the best epoch of all are kept.
        seed: of search, initial weights, order and augmentation. Keras' initializers follow global states
            only, so `set_seed` sets these before each trial.
        pad: keep the proportions of radiographs and fill up with black, instead of stretching them.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        cache: run a frozen backbone once per radiograph and train on its stored features, see
            `pneumokeras.training.features`. Otherwise, and for a model without a frozen backbone, the full
            model is trained on images.
        precision: of the frozen backbone: `"float32"`, which the saved model uses; `"bfloat16"`; or
            `"auto"`: bfloat16 where a short probe finds it faster and nearly equal.
        confirm: called with bytes and folder before large feature maps for `fine_tune` are stored; False
            trains without storing. By default nothing is asked.
        progress: called after each batch of an extraction and after each epoch.

    Returns:
        The finished run.

    Raises:
        SettingsError: if a setting is unknown or out of range.
        RunError: if the folder holds a run with other settings or data.
        TuningError: if every trial failed; the message gives the first reason.
        DataError: if a radiograph cannot be read.
        ModelError: if the model cannot be built.

    Example:
        >>> splits = pk.load_splits("chest_xray")
        >>> hypermodel = pk.CompactCNNHyperModel(input_shape=(32, 32, 1))
        >>> result = pk.tune(hypermodel, splits, max_trials=1, epochs=1, run="tuned")
        >>> [trial.status for trial in result.trials]
        ['completed']
    """
    if not (hasattr(hypermodel, "input_shape") and hasattr(hypermodel, "settings")):
        raise ModelError(
            f"{type(hypermodel).__name__} lacks input_shape or settings. Expected a HyperModel with "
            "input_shape (height, width, channels) and settings, a dictionary with the key 'model'.",
            parameter="hypermodel",
        )
    settings = SearchSettings(
        max_trials=max_trials,
        epochs=epochs,
        batch_sizes=(batch_size,) if isinstance(batch_size, int) else tuple(batch_size),
        views=views,
        generator=RadiographDataGenerator.radiographs() if generator is None else generator,
        objective=objective,
        fine_tune=tuple(fine_tune),
        seed=seed,
        pad=pad,
        precision=precision,
    )

    def work(begun: Run) -> RunResult:
        training = Training.begin(
            hypermodel,
            splits,
            settings.fit,
            run=begun,
            execution=Execution(cache=cache, confirm=confirm, progress=progress),
            trials=settings.max_trials,
        )
        return _search_and_train(hypermodel, settings, training)

    return result_of_run(
        run,
        splits,
        work,
        settings=settings.record({**hypermodel.settings, **identity_of(hypermodel)}),
        seed=seed,
    )


def _search_and_train(hypermodel: HyperModel, settings: SearchSettings, training: Training) -> RunResult:
    """Search, train the winner once more, then in stages, and keep it."""
    run, images, reporter = training.run, training.images, training.reporter
    stores = bool(settings.fine_tune) and training.may_store(hypermodel.build(keras_tuner.HyperParameters()))
    backend = _training_backend(hypermodel, settings, training)
    run.note(precision=backend.precision)  # the trials of a resumed search must compare
    build = _with_batch_sizes(backend.build, settings.batch_sizes)
    extracted = time.perf_counter()
    oracle = search(build, backend.data, settings, run, reporter)
    searched = time.perf_counter()

    trials = trials_of(oracle)
    best = oracle.get_best_trials(1)[0].hyperparameters
    reporter.begin_fit()
    set_seed(settings.seed)
    winner = fit_on(
        build(best),
        in_tuned_batches(backend.data, best),
        epochs=settings.epochs,
        objective=settings.objective,
        checkpoint=run.checkpoint_path,
        callbacks=[AfterEpoch(reporter)],
    )
    fitted = training.fit_stages(
        backend.full_model(best, winner.model), in_tuned_batches(images, best), stores=stores, before=winner
    )
    # Where a head learned from features in bfloat16, the threshold is chosen for the model as saved.
    exact = backend.precision == "float32" and not settings.fine_tune
    probabilities = forward(winner.model, backend.data.val) if exact else forward(fitted.model, images.val)
    return training.keep(
        fitted.model,
        predictions_of(training.val, probabilities),
        history=fitted.history,
        trials=trials,
        hyperparameters=best.values,
        timings={
            "extraction": extracted - training.started,
            "search": sum(trial.seconds or 0 for trial in trials),
            "fit": time.perf_counter() - searched,
        },
    )


@dataclass(frozen=True)
class _TrainingBackend:
    """What trials build and fit, and how the winner becomes a full model."""

    build: Build
    data: TrainingData
    full_model: Callable[[keras_tuner.HyperParameters, keras.Model], keras.Model]
    precision: str


def _training_backend(
    hypermodel: HyperModel, settings: SearchSettings, training: Training
) -> _TrainingBackend:
    """Return heads on stored features if there is a frozen backbone, else full models on images."""
    images, execution = training.images, training.execution
    if not (
        execution.cache
        and images.train.storable
        and isinstance(hypermodel, FeatureHyperModel)
        and builds_its_head(hypermodel)
    ):
        images.preload()
        return _TrainingBackend(hypermodel.build, images, lambda hp, model: model, "float32")
    network = hypermodel.feature_extractor()
    precision = training.run.record().get("precision", settings.precision)
    extractor = Extractor.of(network, network, precision=precision)
    features = extractor.features(views_to_store(images), progress=execution.progress)
    data = FeatureBatches(images, *features.rows)
    return _TrainingBackend(hypermodel.build_head, data, hypermodel.assemble, features.precision)


def _with_batch_sizes(build: Build, sizes: Sequence[int]) -> Build:
    """Return a `build` that also draws the batch size, if there is a choice."""

    def drawing(hp: keras_tuner.HyperParameters) -> keras.Model:
        hp.Choice("batch_size", list(sizes))
        return build(hp)

    return build if len(sizes) == 1 else drawing
