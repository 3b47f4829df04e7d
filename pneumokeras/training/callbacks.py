"""Keras callbacks: learning-rate schedules and exact validation scores."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from os import PathLike
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.evaluation.metrics import roc_auc
from pneumokeras.models.forward import Batches, forward
from pneumokeras.training.optimizers import optimizers_of

PATIENCE_STYLES = ("keras", "torch")

KEEP_OPTIONS = ("best", "best of last stage", "last")


@dataclass(frozen=True)
class Plateau:
    """When the learning rate falls: once the validation cross-entropy does not get lower any more.

    Attributes:
        patience: epochs without a lower one that are waited for.
        factor: what each learning rate is multiplied by then, in (0, 1).
        min_learning_rate: below which none falls.
        counting: `"keras"`: it falls after `patience` such epochs, and lower means lower by more than 1e-4.
            `"torch"`: it falls one epoch later, and lower means lower by more than 1e-4 of the best.

    Raises:
        DataError: if a number is out of range or there is no such counting.
    """

    patience: int = 2
    factor: float = 0.5
    min_learning_rate: float = 1e-6
    counting: str = "keras"

    def __post_init__(self) -> None:
        if self.patience < 0 or not 0 < self.factor < 1 or not self.min_learning_rate >= 0:
            raise DataError(
                "Expected a plateau's patience and min_learning_rate of at least 0 and a factor in (0, 1). "
                f"Received {self.patience}, {self.min_learning_rate} and {self.factor}."
            )
        if self.counting not in PATIENCE_STYLES:
            raise DataError(f"Unknown counting {self.counting!r}. Expected {' or '.join(PATIENCE_STYLES)}.")

    def callback(self) -> keras.callbacks.Callback:
        """What lowers the learning rates during a fit, those of each part alike."""
        if self.counting == "torch":
            return TorchPlateau(self)
        return keras.callbacks.ReduceLROnPlateau(
            "val_loss", factor=self.factor, patience=self.patience, min_lr=self.min_learning_rate
        )


@dataclass(frozen=True)
class Schedule:
    """How a fit is watched.

    Attributes:
        plateau: when the learning rate falls; `None` keeps it as it is.
        patience: epochs without a better objective before the fit ends; `None` for never.
        keep: the weights of the `"best"` epoch, of the `"best of last stage"` where a fit has stages, or of
            the `"last"` epoch.

    Raises:
        DataError: if the patience is below 1 or `keep` is neither.
    """

    plateau: Plateau | None = Plateau()
    patience: int | None = 5
    keep: str = "best"

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise DataError(f"Expected a patience of at least 1 epoch, or None. Received {self.patience}.")
        if self.keep not in KEEP_OPTIONS:
            raise DataError(f"Expected keep as one of {', '.join(KEEP_OPTIONS)}. Received {self.keep!r}.")

    def callbacks(
        self, objective: str, mode: str, *, checkpoint: str | PathLike[str] | None = None
    ) -> list[keras.callbacks.Callback]:
        """What does it during a fit.

        Args:
            objective: what makes an epoch the best.
            mode: `"max"` or `"min"`.
            checkpoint: a `.weights.h5` file that keeps the weights while the fit goes on.
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
        plateau: when, and by how much.
    """

    def __init__(self, plateau: Plateau):
        super().__init__()
        self._plateau = plateau
        self._best = math.inf
        self._waited = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to count."""
        self._best, self._waited = math.inf, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the epoch; lower the learning rates if it was one too many."""
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
    """Log exact validation figures, before any other callback reads them.

    `val_auc` is the exact area (Keras' own metric has 200 thresholds and misjudges saturated scores),
    `val_loss` the cross-entropy without penalties (so that trials with other penalties compare), and
    `val_accuracy` is taken at 0.5. Also logs `learning_rate` (the head's, where there are two) and `seconds`
    of the epoch.

    Args:
        batches: plain batches in a fixed order.
        labels: `(n,)` integers in that order.
    """

    def __init__(self, batches: Batches, labels: np.ndarray):
        super().__init__()
        self._batches = batches
        self._labels = labels
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Take the time."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the figures into `logs`."""
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
    """Mean binary cross-entropy in nats, probabilities clipped to 1e-7 as Keras clips them."""
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped))))
