"""Search for the best configuration, train it, and keep both in a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import keras
import keras_tuner

from pneumokeras.data.augmentation import Generator, as_generator, require_fit
from pneumokeras.data.splits import Splits, require_splits
from pneumokeras.evaluation import BalancedAccuracy, ThresholdPolicy
from pneumokeras.models.forward import forward
from pneumokeras.runs.folder import Run
from pneumokeras.runs.result import RunResult, result_of_run
from pneumokeras.training.callbacks import Schedule, copies_for, require_copies
from pneumokeras.training.data_adapters import FeatureBatches, TrainingData, require_both_classes
from pneumokeras.training.features import Extractor
from pneumokeras.training.identity import builds_its_head, recognized
from pneumokeras.training.loop import fit_on, set_seed
from pneumokeras.training.pipeline import FeatureHyperModel, HyperModel, Training
from pneumokeras.training.predict import predictions_of
from pneumokeras.training.progress import AfterEpoch, Progress, progress_or_line
from pneumokeras.training.settings import (
    ClassWeights,
    Confirm,
    Execution,
    SearchSettings,
    Stage,
    class_weights_of,
    stages_of,
)
from pneumokeras.training.stages import require_parts, views_to_store
from pneumokeras.training.tuner import Build, in_tuned_batches, search, trials_of


def tune(
    hypermodel: HyperModel | Build,
    splits: Splits,
    *,
    max_trials: int = 10,
    epochs: int = 10,
    batch_size: int | Sequence[int] = 32,
    views: int | None = 4,
    generator: Generator | None = None,
    objective: str = "val_auc",
    fine_tune: Sequence[Stage] | Stage | None = (),
    class_weights: ClassWeights = "balanced",
    oversample: float | None = None,
    schedule: Schedule | None = None,
    threshold: ThresholdPolicy | float | str | None = None,
    seed: int = 0,
    pad: bool = False,
    run: str | PathLike[str] | None = None,
    cache: bool = True,
    precision: str = "auto",
    confirm: Confirm | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    workers: int = 2,
    verbose: bool | str = "auto",
) -> RunResult:
    """Search for the best configuration by random search, train it, and keep everything in a run folder.

    By default each trial and the final fit are class-weighted and stop early; a trial's score is the
    objective at its best epoch. A trial that fails is a row with its reason. Called again with the same
    arguments, the search is resumed where it was interrupted, or the finished run is returned.

    Args:
        hypermodel: a HyperModel of this package, your own, or a function `build(hp)` that returns a compiled
            model. One with `feature_extractor`, `build_head` and `assemble`, as `TransferHyperModel` has, is
            searched on stored features. Your own is checked before anything is searched: it is built, saved
            and loaded once.
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
        class_weights: of every fit, as for `pneumokeras.fit`.
        oversample: instead of balanced class weights, as for `pneumokeras.fit`.
        schedule: when the learning rate of each trial and fit falls, when it stops, which weights are kept;
            by default `Schedule()`.
        threshold: the rule that chooses the operating point on val, such as `Sensitivity(0.98)` or
            `"sensitivity:0.98"`, or a fixed threshold; by default `BalancedAccuracy()`.
        seed: of search, initial weights, order and augmentation. Keras' initializers follow global states
            only, so `set_seed` sets these before each trial.
        pad: keep the proportions of radiographs and fill up with black, instead of stretching them.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        cache: run a frozen backbone once per radiograph and train on its stored features, see
            `pneumokeras.training.features`. Otherwise, and for a model without a frozen backbone, the full
            model is trained on images.
        precision: of the frozen backbone: `"float32"`, which the saved model uses; `"folded"`, the same with
            BatchNorms folded into convolutions; `"bfloat16"`; or `"auto"`: the one that a short probe finds
            fastest among those with nearly equal features.
        confirm: called with bytes and folder before large feature maps for `fine_tune` are stored; False
            trains without storing. By default nothing is asked.
        progress: called after each batch of an extraction and after each epoch.
        callbacks: Keras callbacks. Each fit gets copies of them, as in Keras Tuner, and they are no part of
            the run's settings: a finished run is found again whatever they are. TensorBoard writes into
            folders `trial_1`, `trial_2`, ... and `fit` of its `log_dir`.
        workers: threads that prepare batches of images.
        verbose: show progress in a line; by default in a notebook and on a terminal, unless `progress` is
            given.

    Returns:
        The finished run.

    Raises:
        SettingsError: if a setting is unknown or out of range.
        RunError: if the folder holds a run with other settings or data.
        TuningError: if every trial failed; the message gives the first reason.
        DataError: if a radiograph cannot be read, or train or val lacks a class.
        ModelError: if the model cannot be built, does not keep the model contract, or lacks a part of
            `fine_tune`.

    Example:
        >>> splits = pk.load_splits("chest_xray")
        >>> hypermodel = pk.CompactCNNHyperModel(input_shape=(32, 32, 1))
        >>> result = pk.tune(hypermodel, splits, max_trials=1, epochs=1, run="tuned")
        >>> [trial.status for trial in result.trials]
        ['completed']
    """
    require_splits(splits)
    settings = SearchSettings(
        max_trials=max_trials,
        epochs=epochs,
        batch_sizes=batch_size,  # type: ignore[arg-type]  # checked there
        views=views,
        generator=as_generator(generator),
        objective=objective,
        fine_tune=stages_of("fine_tune", fine_tune),
        seed=seed,
        pad=pad,
        precision=precision,
        class_weights=class_weights_of(class_weights, splits.train.class_names),
        oversample=oversample,
        schedule=Schedule() if schedule is None else schedule,
        threshold=BalancedAccuracy() if threshold is None else threshold,
    )
    execution = Execution(
        cache=cache,
        confirm=confirm,
        progress=progress_or_line(progress, verbose),
        workers=workers,
        callbacks=callbacks,
    )
    require_copies(execution.callbacks)
    require_both_classes(splits.train, splits.val)
    searched, recorded = recognized(hypermodel, settings)

    def check() -> None:
        require_fit(settings.generator, searched.input_shape[:2])
        if settings.fine_tune:
            require_parts(searched.build(keras_tuner.HyperParameters()), settings.fine_tune)

    def work(begun: Run) -> RunResult:
        training = Training.begin(
            searched,
            splits,
            settings.fit,
            run=begun,
            execution=execution,
            trials=settings.max_trials,
        )
        return _search_and_train(searched, settings, training)

    return result_of_run(
        run,
        splits,
        work,
        settings=settings.record(recorded),
        seed=settings.seed,
        check=check,
    )


def _search_and_train(hypermodel: HyperModel, settings: SearchSettings, training: Training) -> RunResult:
    """Search, train the winner once more, then in stages, and keep it."""
    run, images, reporter = training.run, training.images, training.reporter
    stores = bool(settings.fine_tune) and training.may_store(hypermodel.build(keras_tuner.HyperParameters()))
    backend = _training_backend(hypermodel, settings, training)
    run.note(precision=backend.precision)  # the trials of a resumed search must compare
    build = _with_batch_sizes(backend.build, settings.batch_sizes)
    extracted = time.perf_counter()
    callbacks = training.execution.callbacks
    oracle = search(build, backend.data, settings, run, reporter, callbacks=callbacks)
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
        schedule=settings.schedule,
        checkpoint=run.checkpoint_path,
        callbacks=[AfterEpoch(reporter), *copies_for(callbacks, "fit")],
    )
    fitted = training.fit_stages(
        backend.full_model(best, winner.model),
        in_tuned_batches(images, best),
        stores=stores,
        before=winner,
        callbacks=copies_for(callbacks, "fit"),
    )
    # Where a head learned from features of another precision, the threshold is chosen for the model as saved.
    exact = backend.precision == "float32" and not settings.fine_tune
    probabilities = forward(winner.model, backend.data.val) if exact else forward(fitted.model, images.val)
    return training.keep(
        fitted.model,
        predictions_of(training.val, probabilities),
        history=fitted.history,
        policy=settings.threshold,
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
    features = extractor.features(views_to_store(images, epochs=settings.epochs), progress=execution.progress)
    data = FeatureBatches(images, *features.rows)
    return _TrainingBackend(hypermodel.build_head, data, hypermodel.assemble, features.precision)


def _with_batch_sizes(build: Build, sizes: Sequence[int]) -> Build:
    """Return a `build` that also draws the batch size, if there is a choice."""

    def drawing(hp: keras_tuner.HyperParameters) -> keras.Model:
        hp.Choice("batch_size", list(sizes))
        return build(hp)

    return build if len(sizes) == 1 else drawing
