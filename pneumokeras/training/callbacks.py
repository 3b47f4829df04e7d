"""Keras callbacks: learning-rate schedules and exact validation scores."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from os import PathLike
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import SettingsError
from pneumokeras.evaluation.metrics import roc_auc
from pneumokeras.models.forward import Batches, forward
from pneumokeras.training.optimizers import optimizers_of

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
        for name, fits, expected in (
            ("patience", self.patience >= 0, "of at least 0"),
            ("factor", 0 < self.factor < 1, "in (0, 1)"),
            ("min_learning_rate", self.min_learning_rate >= 0, "of at least 0"),
            ("counting", self.counting in PATIENCE_STYLES, f"as {' or '.join(PATIENCE_STYLES)}"),
        ):
            if not fits:
                raise SettingsError(
                    f"Expected a plateau's `{name}` {expected}. Received {getattr(self, name)!r}.",
                    parameter=name,
                )

    def callback(self) -> keras.callbacks.Callback:
        """Return the callback that lowers the learning rates of head and backbone during a fit."""
        if self.counting == "torch":
            return TorchPlateau(self)
        return keras.callbacks.ReduceLROnPlateau(
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
        pneumokeras.core.errors.SettingsError: Expected `patience` of at least 1 epoch, or None. Received 0.
    """

    plateau: Plateau | None = Plateau()
    patience: int | None = 5
    keep: str = "best"

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise SettingsError(
                f"Expected `patience` of at least 1 epoch, or None. Received {self.patience}.",
                parameter="patience",
            )
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
        callbacks = [
            keras.callbacks.EarlyStopping(objective, mode=mode, patience=patience, restore_best_weights=best)
        ]
        if self.plateau is not None:
            callbacks.append(self.plateau.callback())
        if checkpoint is not None:
            callbacks.append(
                keras.callbacks.ModelCheckpoint(
                    str(checkpoint), monitor=objective, mode=mode, save_best_only=best, save_weights_only=True
                )
            )
        return callbacks


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
                rate = float(optimizer.learning_rate)
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
        logs["learning_rate"] = float(optimizers_of(self.model)[-1].learning_rate)
        logs["val_loss"] = cross_entropy(self._labels, probabilities)
        logs["val_accuracy"] = float(np.mean((probabilities >= 0.5) == self._labels))
        logs["val_auc"] = (
            roc_auc(self._labels, probabilities) if np.isfinite(probabilities).all() else float("nan")
        )
        logs["seconds"] = time.perf_counter() - self._started


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean binary cross-entropy in nats, probabilities clipped to 1e-7 as in Keras."""
    # Not `metrics.log_loss`, which refuses the NaN of a diverged model and clips at another distance.
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped))))
