"""Optimizers of published systems: Adam with an L2 term, and two learning rates in one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf


class L2Adam(keras.optimizers.Adam):
    """Adam whose weight decay is an L2 term in the gradient, as in `torch.optim.Adam`.

    `weight_decay * w` is added to the gradient of each weight w, biases and BatchNorm's included, so that the
    decay is scaled as the gradient is. Keras' own `weight_decay` subtracts `learning_rate * weight_decay * w`
    from the weight itself: that is AdamW.

    Args:
        learning_rate: as for Adam.
        weight_decay: factor of the L2 term, at least 0.
        name: of the optimizer.
    """

    def __init__(self, learning_rate: float, *, weight_decay: float, name: str = "adam"):
        super().__init__(learning_rate, name=name)
        self._l2 = weight_decay

    def update_step(self, gradient: Any, variable: tf.Variable, learning_rate: Any) -> None:
        """Update one variable as Keras' own Adam does, in one pass over the weights instead of a dozen."""
        if self._l2:
            gradient = gradient + self._l2 * variable
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


OPTIMIZERS = {"adam": L2Adam, "adamw": keras.optimizers.AdamW}
"""Optimizers by where weight decay acts: in the gradient, or on the weights themselves (decoupled)."""


def head_and_backbone_optimizer(
    optimizers: Mapping[str, keras.optimizers.Optimizer], head: Iterable[keras.Variable]
) -> keras.optimizers.Optimizer:
    """Return one optimizer that trains the head with one optimizer and everything else with another.

    Args:
        optimizers: those for `"head"` and `"backbone"`.
        head: the head's trainable variables.
    """
    of_head = {id(variable) for variable in head}
    return keras.optimizers.MultiOptimizer(
        lambda variable: optimizers["head" if id(variable) in of_head else "backbone"]
    )


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Return the optimizers of a model, from the input upwards; the head's is the last."""
    optimizer = without_loss_scale(model.optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def without_loss_scale(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer inside the `LossScaleOptimizer` that Keras adds for mixed_float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def learning_rate_of(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the current learning rate, which is one variable per device under a distribution strategy."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
