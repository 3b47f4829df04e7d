"""From splits to a finished run: the steps that `tune`, `train` and `reproduce` share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import keras
import keras_tuner
import numpy as np

from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import Predictions
from pneumokeras.models.hypermodels import CALIBRATION_IMAGES
from pneumokeras.runs.folder import Run
from pneumokeras.runs.result import RunResult, keep_run
from pneumokeras.training.data_adapters import ImageBatches
from pneumokeras.training.loop import FitResult, set_seed
from pneumokeras.training.progress import Reporter
from pneumokeras.training.settings import BatchSettings, Execution, FitSettings
from pneumokeras.training.stages import fit_stages, kept_epoch, may_store, require_parts


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


@dataclass(frozen=True, eq=False)
class Training:
    """A run that is being trained.

    Attributes:
        run: a run that was begun.
        val: validation radiographs, on which epoch and operating point are chosen.
        settings: of batches and stages.
        execution: what may be stored, and who is informed.
        images: the training and validation radiographs in batches.
        reporter: reports epochs.
        started: when it began, by `time.perf_counter`.
    """

    run: Run
    val: RadiographSet
    settings: FitSettings
    execution: Execution
    images: ImageBatches
    reporter: Reporter
    started: float

    @classmethod
    def begin(
        cls,
        hypermodel: HyperModel,
        splits: Splits,
        settings: FitSettings,
        *,
        run: Run,
        execution: Execution,
        trials: int = 0,
    ) -> Training:
        """Set the global seeds, calibrate a HyperModel, and make the batches; test is not touched."""
        started = time.perf_counter()
        batches = settings.batches
        set_seed(batches.seed)
        _calibrate(hypermodel, splits.train, batches)
        height, width, channels = hypermodel.input_shape
        images = ImageBatches.of(
            splits.train,
            splits.val,
            batches,
            image_size=(height, width),
            channels=channels,
            workers=execution.workers,
        )
        reporter = Reporter(
            execution.progress, trials=trials, epochs=settings.epochs, objective=settings.objective
        )
        return cls(run, splits.val, settings, execution, images, reporter, started)

    def may_store(self, model: keras.Model) -> bool:
        """Return whether the feature maps of all stages may be stored, as `stages.may_store` does.

        Raises:
            ModelError: if the model lacks a part that a stage trains.
            DataError: if the disk has no room for the feature maps.
        """
        require_parts(model, self.settings.stages)
        return may_store(model, self.images, self.settings.stages, self.execution)

    def fit_stages(
        self,
        model: keras.Model,
        images: ImageBatches,
        *,
        stores: bool,
        before: FitResult | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> FitResult:
        """Train a model stage by stage, as `stages.fit_stages` does, and report the end."""
        fitted = fit_stages(
            model,
            images,
            self.settings,
            before=before,
            cache=stores,
            checkpoint=self.run.checkpoint_path,
            reporter=self.reporter,
            progress=self.execution.progress,
            callbacks=callbacks,
        )
        self.reporter.end()
        return fitted

    def keep(
        self,
        model: keras.Model,
        predictions: Predictions,
        *,
        history: Mapping[str, list[float]],
        **facts: Any,
    ) -> RunResult:
        """Choose the operating point on predictions of `val` and keep the run; see `keep_run`."""
        return keep_run(
            self.run,
            model,
            predictions,
            history=history,
            pad=self.settings.batches.pad,
            bits=self.images.train.radiographs.depth.bits,
            **facts,
            best_epoch=kept_epoch(history, self.settings) + 1,
        )


def _calibrate(hypermodel: HyperModel, train: RadiographSet, batches: BatchSettings) -> None:
    """Show a HyperModel some training radiographs, if it has a method `calibrate`."""
    if not hasattr(hypermodel, "calibrate"):
        return
    shuffled = np.random.default_rng(batches.seed).permutation(len(train))
    chosen = train.subset(np.sort(shuffled[:CALIBRATION_IMAGES]))
    hypermodel.calibrate(chosen.pixels(hypermodel.input_shape[:2], pad=batches.pad))
