"""The training loop: fit a compiled model and keep its best epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import keras

from pneumokeras.core.arguments import seed_number
from pneumokeras.core.errors import ModelError
from pneumokeras.core.words import number_of
from pneumokeras.models.saving import own_name
from pneumokeras.training.callbacks import Schedule, ValidationScores
from pneumokeras.training.data_adapters import TrainingData
from pneumokeras.training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pneumokeras.evaluation.displays.training import AccuracyCurvesDisplay, LossCurvesDisplay


@dataclass(frozen=True, repr=False)
class FitResult:
    """A fitted model and the history of its fit.

    Attributes:
        model: the model, with the weights of its best epoch.
        history: one float per epoch for each of `learning_rate`, `loss`, `val_loss`, `val_auc` and so on.

    Example:
        >>> splits, model = pk.load_splits("chest_xray"), pk.load_model("model.keras")
        >>> result = pk.fit(model, splits.train, splits.val, stages=[pk.Stage("head", epochs=1)])
        >>> len(result.history["val_auc"])
        1
    """

    model: keras.Model
    history: dict[str, list[float]]

    def plot_history(
        self, score: str = "loss", ax: Axes | None = None, **kwargs: Any
    ) -> LossCurvesDisplay | AccuracyCurvesDisplay:
        """Draw the loss, or the accuracy, over the epochs; arguments and errors are as for a run's."""
        from pneumokeras.evaluation.displays.training import history_display

        return history_display(self.history, score).plot(ax, **kwargs)

    def __repr__(self) -> str:
        """Return one line with the model and the number of epochs."""
        return f"<FitResult: {own_name(self.model)}, {number_of(len(self.history['loss']), 'epoch')}>"


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and Keras' global random states, which initial weights and dropout follow.

    Example:
        >>> pk.set_seed(7)
        >>> first = np.random.rand()
        >>> pk.set_seed(7)
        >>> np.random.rand() == first
        True

    Raises:
        SettingsError: if the seed is no whole number from 0 to 2**32 - 1.
    """
    keras.utils.set_random_seed(seed_number(seed))


def require_fittable(model: keras.Model) -> None:
    """Refuse a model that is not compiled.

    Raises:
        ModelError: if it is not.
    """
    if not model.compiled:
        raise ModelError(
            "The model is not compiled; one of a finished run or a file never is. Choose a learning rate "
            "with pneumokeras.models.head.compile_classifier(model, learning_rate=1e-4) or "
            "model.compile(...), or fit it in `stages`."
        )


def fit_on(
    model: keras.Model,
    data: TrainingData,
    *,
    epochs: int,
    objective: str = "val_auc",
    schedule: Schedule | None = None,
    checkpoint: str | PathLike[str] | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> FitResult:
    """Fit a compiled model on batches, by default keeping the weights of its best epoch.

    Args:
        model: a compiled model for these batches.
        data: training batches, and validation batches to choose the best epoch on.
        epochs: maximum number of epochs.
        objective: decides which epoch is the best.
        schedule: when the learning rate falls, when the fit stops, which weights are kept; by default
            `Schedule()`.
        checkpoint: a `.weights.h5` file that holds these weights during the fit.
        callbacks: further callbacks.

    Returns:
        The model with these weights, and the history.

    Raises:
        ModelError: if the model is not compiled.
    """
    require_fittable(model)
    watching = (schedule or Schedule()).callbacks(objective, OBJECTIVES[objective], checkpoint=checkpoint)
    scores = ValidationScores(data.val, data.val_labels)
    model.steps_per_execution = data.steps_per_call()
    if model.built and not model.optimizer.built:  # Keras builds it in the step, and traces that twice
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    recorded = model.fit(**data.arguments(epochs), callbacks=[scores, *watching, *callbacks], verbose=0)
    history = {name: [float(value) for value in values] for name, values in recorded.history.items()}
    return FitResult(model, history)
