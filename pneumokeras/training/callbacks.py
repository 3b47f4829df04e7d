"""Keras callbacks: learning-rate schedules and exact validation scores."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from pneumokeras.core.arguments import finite, is_number, whole
from pneumokeras.core.errors import ModelError, SettingsError, first_line
from pneumokeras.evaluation.metrics import roc_auc
from pneumokeras.models.forward import Batches, forward
from pneumokeras.models.saving import own_name
from pneumokeras.training.optimizers import learning_rate_of, optimizers_of, without_loss_scale

PATIENCE_STYLES = ("keras", "torch")

KEEP_OPTIONS = ("best", "best of last stage", "last")


@dataclass(frozen=True)
class Plateau:
    """Lowers the learning rate when the validation cross-entropy stops falling.

    Attributes:
        patience: epochs without improvement before the learning rate falls.
        factor: multiplies each learning rate then, in (0, 1).
        min_learning_rate: lower bound of each learning rate.
        counting: `"keras"`: the rate falls after `patience` such epochs, and an improvement is more than
            1e-4. `"torch"`: it falls one epoch later, and an improvement is more than 1e-4 of the best.

    Raises:
        SettingsError: if a number is out of range or the counting is unknown.

    Example:
        >>> schedule = pk.Schedule(plateau=pk.Plateau(patience=3, factor=0.1))
        >>> schedule.plateau.factor
        0.1
    """

    patience: int = 2
    factor: float = 0.5
    min_learning_rate: float = 1e-6
    counting: str = "keras"

    def __post_init__(self) -> None:
        whole_patience = whole("patience", self.patience, minimum=0)
        object.__setattr__(self, "patience", whole_patience)
        if not (is_number(self.factor) and 0 < self.factor < 1):
            raise SettingsError(
                f"Expected a plateau's `factor` in (0, 1). Received {self.factor!r}.", parameter="factor"
            )
        object.__setattr__(self, "factor", float(self.factor))
        lowest = finite("min_learning_rate", self.min_learning_rate, minimum=0)
        object.__setattr__(self, "min_learning_rate", lowest)
        if self.counting not in PATIENCE_STYLES:
            raise SettingsError(
                f"Expected a plateau's `counting` as {' or '.join(PATIENCE_STYLES)}. "
                f"Received {self.counting!r}.",
                parameter="counting",
            )

    def callback(self) -> keras.callbacks.Callback:
        """Return the callback that lowers the learning rates of head and backbone during a fit."""
        if self.counting == "torch":
            return TorchPlateau(self)
        return KerasPlateau(
            "val_loss", factor=self.factor, patience=self.patience, min_lr=self.min_learning_rate
        )


@dataclass(frozen=True)
class Schedule:
    """When the learning rate falls, when a fit stops, and which weights are kept.

    Attributes:
        plateau: when the learning rate falls; `None` keeps it constant.
        patience: epochs without a better objective before the fit stops; `None` never stops it early.
        keep: the weights of the `"best"` epoch, of the `"best of last stage"` in a fit with stages, or of
            the `"last"` epoch.

    Raises:
        SettingsError: if the patience is below 1 or `keep` is unknown.

    Example:
        >>> constant = pk.Schedule(plateau=None, patience=None, keep="last")
        >>> pk.Schedule(patience=0)
        Traceback (most recent call last):
        ...
        pneumokeras.core.errors.SettingsError: Expected `patience` as a whole number of at least 1. ...
    """

    plateau: Plateau | None = Plateau()
    patience: int | None = 5
    keep: str = "best"

    def __post_init__(self) -> None:
        if self.plateau is not None and not isinstance(self.plateau, Plateau):
            raise SettingsError(
                f"Expected `plateau` as a Plateau(...) or None. Received {self.plateau!r}.",
                parameter="plateau",
            )
        if self.patience is not None:
            object.__setattr__(self, "patience", whole("patience", self.patience))
        if self.keep not in KEEP_OPTIONS:
            raise SettingsError(
                f"Expected `keep` as one of {', '.join(KEEP_OPTIONS)}. Received {self.keep!r}.",
                parameter="keep",
            )

    def callbacks(
        self, objective: str, mode: str, *, checkpoint: str | PathLike[str] | None = None
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks that carry it out.

        Args:
            objective: decides which epoch is the best.
            mode: `"max"` or `"min"`.
            checkpoint: a `.weights.h5` file that holds the weights during the fit.
        """
        best = self.keep != "last"
        patience = math.inf if self.patience is None else self.patience
        callbacks = [EarlyStopping(objective, mode=mode, patience=patience, restore_best_weights=best)]
        if self.plateau is not None:
            callbacks.append(self.plateau.callback())
        if checkpoint is not None:
            callbacks.append(
                keras.callbacks.ModelCheckpoint(
                    str(checkpoint),
                    monitor=objective,
                    mode=mode,
                    save_best_only=best,
                    save_weights_only=True,
                    initial_value_threshold=-math.inf if mode == "max" else math.inf,  # NaN is no better
                )
            )
        return callbacks


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' EarlyStopping, to which a first epoch of NaN is not the best one for ever."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Judge the epoch, NaN as the worst of all."""
        with _nan_as_the_worst(logs, self.monitor, mode=self.mode):
            super().on_epoch_end(epoch, logs)


class KerasPlateau(keras.callbacks.ReduceLROnPlateau):
    """Keras' ReduceLROnPlateau, for NaN in the first epoch and for mixed_float16, too."""

    def set_model(self, model: keras.Model) -> None:
        """Keep the optimizers: Keras' callback does not find two inside a `LossScaleOptimizer`."""
        super().set_model(SimpleNamespace(optimizer=without_loss_scale(model.optimizer)))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the epoch, NaN as the worst of all."""
        with _nan_as_the_worst(logs, self.monitor, mode="min"):
            super().on_epoch_end(epoch, logs)


@contextmanager
def _nan_as_the_worst(logs: dict[str, Any] | None, monitor: str, *, mode: str) -> Iterator[None]:
    """Show Keras' callbacks the worst score for NaN, which they take for the best if it comes first."""
    value = (logs or {}).get(monitor)
    if logs is None or value is None or not math.isnan(value):
        yield
        return
    logs[monitor] = -math.inf if mode == "max" else math.inf
    yield
    logs[monitor] = value


class TorchPlateau(keras.callbacks.Callback):
    """Lowers the learning rates as `torch.optim.lr_scheduler.ReduceLROnPlateau` does with `mode="min"`.

    Args:
        plateau: when they fall, and by how much.
    """

    def __init__(self, plateau: Plateau):
        super().__init__()
        self._plateau = plateau
        self._best = math.inf
        self._waited = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Reset the count."""
        self._best, self._waited = math.inf, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the epoch, and lower the learning rates once the patience is exceeded."""
        loss = (logs or {})["val_loss"]
        if loss < self._best * (1 - 1e-4):
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited > self._plateau.patience:
            self._waited = 0
            for optimizer in optimizers_of(self.model):
                rate = learning_rate_of(optimizer)
                lowered = max(rate * self._plateau.factor, self._plateau.min_learning_rate)
                optimizer.learning_rate = min(rate, lowered)


class ValidationScores(keras.callbacks.Callback):
    """Logs exact validation figures before any other callback reads them.

    `val_auc` is the exact area (Keras' own metric has 200 thresholds and misjudges saturated scores),
    `val_loss` the cross-entropy without penalties (so that trials with different penalties compare), and
    `val_accuracy` is at threshold 0.5. Also logs `learning_rate` (the head's, where there are two) and the
    `seconds` of the epoch.

    Args:
        batches: batches without augmentation, in a fixed order.
        labels: `(n,)` integers in that order.
    """

    def __init__(self, batches: Batches, labels: np.ndarray):
        super().__init__()
        self._batches = batches
        self._labels = labels
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the figures to `logs`."""
        if logs is None:
            return
        probabilities = forward(self.model, self._batches).reshape(-1).astype(np.float64)
        are_numbers = bool(np.isfinite(probabilities).all())
        accuracy = float(np.mean((probabilities >= 0.5) == self._labels))
        logs["learning_rate"] = learning_rate_of(optimizers_of(self.model)[-1])
        logs["val_loss"] = cross_entropy(self._labels, probabilities)
        logs["val_accuracy"] = accuracy if are_numbers else math.nan
        logs["val_auc"] = roc_auc(self._labels, probabilities) if are_numbers else math.nan
        logs["seconds"] = time.perf_counter() - self._started


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean binary cross-entropy in nats, probabilities clipped to 1e-7 as in Keras."""
    # Not `metrics.log_loss`, which refuses the NaN of a diverged model and clips at another distance.
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped))))


def copies_for(callbacks: Iterable[keras.callbacks.Callback], fit: str) -> list[keras.callbacks.Callback]:
    """Return copies of a caller's callbacks for one of several fits, as Keras Tuner makes them for a trial.

    Args:
        callbacks: the caller's, which stay as they are.
        fit: its name, such as `"trial_1"`; TensorBoard writes into a folder of this name in its `log_dir`.
    """
    return _in_folder(copy.deepcopy(list(callbacks)), fit)


def require_copies(callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """Refuse callbacks that cannot be copied.

    Raises:
        SettingsError: if one of them cannot.
    """
    try:
        copies_for(callbacks, "")
    except Exception as error:
        raise SettingsError(
            f"Expected `callbacks` that can be copied for each trial: {first_line(error)}.",
            parameter="callbacks",
        ) from error


def in_stage(callbacks: Iterable[keras.callbacks.Callback], number: int) -> list[keras.callbacks.Callback]:
    """Return a caller's own callbacks for one of several stages; TensorBoard keeps the stages apart."""
    return _in_folder([_twin(callback) for callback in callbacks], f"stage_{number}")


def _twin(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    return copy.copy(callback) if isinstance(callback, keras.callbacks.TensorBoard) else callback


def _in_folder(callbacks: list[keras.callbacks.Callback], name: str) -> list[keras.callbacks.Callback]:
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.TensorBoard):
            callback.log_dir = os.path.join(callback.log_dir, name)
    return callbacks


def require_settable_rate(model: keras.Model, schedule: Schedule) -> None:
    """Refuse a plateau on a model whose learning rate follows a schedule of Keras.

    Raises:
        ModelError: if a plateau could not lower the rate.
    """
    for optimizer in optimizers_of(model):
        rate = getattr(optimizer, "_learning_rate", None)
        if schedule.plateau is not None and isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            raise ModelError(
                f"{own_name(model)} is compiled with {type(rate).__name__} as learning rate, which a plateau "
                "cannot lower. Compile it with a number, or leave the plateau out: "
                "`schedule=Schedule(plateau=None)`."
            )
