"""From splits to a finished run: the steps that `tune`, `train` and `reproduce` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import keras
import keras_tuner
import numpy as np

from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import ThresholdPolicy
from pneumokeras.models.hypermodels import CALIBRATION_IMAGES
from pneumokeras.runs.folder import Run
from pneumokeras.runs.result import RunResult, keep_run
from pneumokeras.training.data_adapters import ImageBatches
from pneumokeras.training.loop import FitResult, set_seed
from pneumokeras.training.predict import predictions_of
from pneumokeras.training.progress import Reporter
from pneumokeras.training.settings import BatchSettings, Execution, FitSettings
from pneumokeras.training.stages import fit_stages, kept_epoch


class HyperModel(Protocol):
    """A HyperModel of Keras Tuner with an input shape and settings.

    It may have a method `calibrate(images)`, which is called once with training radiographs.
    """

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the radiographs."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What distinguishes one search from another, as JSON, with the key `model`."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the compiled model for `hp`."""


@runtime_checkable
class FeatureHyperModel(HyperModel, Protocol):
    """A HyperModel whose models are a tunable head on one frozen network.

    Its heads are searched on the network's stored features.
    """

    def feature_extractor(self) -> keras.Model:
        """Return the frozen network, from raw pixels to features."""

    def build_head(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the compiled head for `hp`, from features to `(n, 1)` P(PNEUMONIA)."""

    def assemble(self, hp: keras_tuner.HyperParameters, head: keras.Model) -> keras.Model:
        """Return the compiled full model for `hp` with the head's weights."""


@dataclass(frozen=True)
class Outcome:
    """What a run keeps of its fits.

    Attributes:
        model: the model to save, with one output.
        probabilities: `(n,)` or `(n, 1)` P(PNEUMONIA) of the validation radiographs.
        facts: further arguments of `keep_run`.
    """

    model: keras.Model
    probabilities: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """The model that a run's stages begin with.

    Attributes:
        model: the full model.
        images: the batches that its stages are trained on.
        stores: whether the feature maps of its stages may be stored.
        finish: turns the trained model into what the run keeps.
        fitted: the fit that the model comes from; `None` if it is untrained.
        timings: seconds by name, of the work before that fit.
        fit_started: when that fit began, by `time.perf_counter`; by default when the pipeline began.
    """

    model: keras.Model
    images: ImageBatches
    stores: bool
    finish: Callable[[keras.Model], Outcome]
    fitted: FitResult | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    fit_started: float | None = None


def train_into_run(
    hypermodel: HyperModel,
    splits: Splits,
    settings: FitSettings,
    start: Callable[[ImageBatches, Reporter], Start],
    *,
    run: Run,
    execution: Execution,
    trials: int = 1,
    policy: ThresholdPolicy | None = None,
) -> RunResult:
    """Calibrate, batch, train stage by stage, choose the operating point, and keep the run.

    Args:
        hypermodel: builds the model.
        splits: radiographs; test is not touched.
        settings: of batches and stages.
        start: returns the model that the stages begin with: a search's winner, or an untrained one.
        run: a run that was begun.
        execution: what may be stored, and who is informed.
        trials: number of trials that `start` searches.
        policy: chooses the operating point; by default `BalancedAccuracy()`.

    Returns:
        The finished run.
    """
    started = time.perf_counter()
    batches = settings.batches
    set_seed(batches.seed)
    calibrate(hypermodel, splits.train, batches)
    height, width, channels = hypermodel.input_shape
    images = ImageBatches.of(splits.train, splits.val, batches, image_size=(height, width), channels=channels)
    reporter = Reporter(
        execution.progress, trials=trials, epochs=settings.epochs, objective=settings.objective
    )
    begun = start(images, reporter)
    fitted = fit_stages(
        begun.model,
        begun.images,
        settings,
        before=begun.fitted,
        cache=begun.stores,
        checkpoint=run.checkpoint_path,
        reporter=reporter,
        progress=execution.progress,
    )
    reporter.end()
    outcome = begun.finish(fitted.model)
    fit_started = started if begun.fit_started is None else begun.fit_started
    return keep_run(
        run,
        outcome.model,
        predictions_of(splits.val, outcome.probabilities),
        history=fitted.history,
        pad=batches.pad,
        policy=policy,
        timings={**begun.timings, "fit": time.perf_counter() - fit_started},
        **outcome.facts,
        best_epoch=kept_epoch(fitted.history, settings) + 1,
    )


def calibrate(hypermodel: HyperModel, train: RadiographSet, batches: BatchSettings) -> None:
    """Show a HyperModel some training radiographs, if it has a method `calibrate`."""
    if not hasattr(hypermodel, "calibrate"):
        return
    shuffled = np.random.default_rng(batches.seed).permutation(len(train))
    chosen = train.subset(np.sort(shuffled[:CALIBRATION_IMAGES]))
    hypermodel.calibrate(chosen.pixels(hypermodel.input_shape[:2], pad=batches.pad))
