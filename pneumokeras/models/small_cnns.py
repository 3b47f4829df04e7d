"""Small networks that are trained from scratch."""

from __future__ import annotations

import keras
import keras_tuner

from pneumokeras.errors import ModelError
from pneumokeras.models.head import compile_classifier, probability
from pneumokeras.models.saved import describe


class CompactCNNHyperModel(keras_tuner.HyperModel):
    """A small convolutional network for radiographs of 28 to 128 pixels, trained from scratch.

    Blocks of two 3x3 convolutions with BatchNorm and ReLU, halved in size and doubled in width from one
    to the next, then global average pooling, Dropout and a sigmoid. The very first convolution halves the
    radiograph, which makes the network four times as fast.

    Args:
        input_shape: `(height, width, 1)` of the raw gray radiographs.
        width: `(lowest, highest, step)` of the first block's filters.
        depth: `(lowest, highest)` number of blocks.
        dropout: `(lowest, highest, step)` of the dropout rate.
        learning_rate: `(lowest, highest)` of Adam's, drawn on a logarithmic scale.

    Raises:
        ModelError: if the smallest side is below 16 pixels, or the input is not gray.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int] = (64, 64, 1),
        width: tuple[int, int, int] = (16, 32, 8),
        depth: tuple[int, int] = (3, 4),
        dropout: tuple[float, float, float] = (0.2, 0.5, 0.1),
        learning_rate: tuple[float, float] = (3e-4, 3e-3),
    ):
        super().__init__(name="compact-cnn")
        if len(input_shape) != 3 or input_shape[-1] != 1 or min(input_shape[:2]) < 2 ** depth[1]:
            raise ModelError(
                f"Expected input_shape as (height, width, 1) with sides of at least {2 ** depth[1]}. "
                f"Received {input_shape}."
            )
        self.input_shape = tuple(input_shape)
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.learning_rate = learning_rate

    @property
    def settings(self) -> dict[str, object]:
        """What a run writes down, and what tells one search from another."""
        return {
            "model": "compact-cnn",
            "input_shape": list(self.input_shape),
            "width": list(self.width),
            "depth": list(self.depth),
            "dropout": list(self.dropout),
            "learning_rate": list(self.learning_rate),
        }

    def head(self, hp: keras_tuner.HyperParameters, features: keras.KerasTensor) -> keras.KerasTensor:
        """`(n, channels)` pooled features -> `(n, 1)` P(PNEUMONIA), with a tunable dropout."""
        dropout = hp.Float("dropout", *self.dropout)
        return probability(keras.layers.Dropout(dropout, name="dropout")(features))

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The compiled model for `hp`."""
        width, depth = hp.Int("width", *self.width), hp.Int("depth", *self.depth)
        inputs = keras.Input(self.input_shape, name="radiograph")
        tensor = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
        for block in range(1, depth + 1):
            if block > 1:
                tensor = keras.layers.MaxPooling2D(name=f"block{block}_pool")(tensor)
            filters = width * 2 ** (block - 1)
            tensor = _convolution(tensor, filters, strides=2 if block == 1 else 1, name=f"block{block}a")
            tensor = _convolution(tensor, filters, name=f"block{block}b")
        features = keras.layers.GlobalAveragePooling2D(name="features")(tensor)
        model = keras.Model(inputs, self.head(hp, features), name="compact_cnn")
        describe(
            model,
            image_size=self.input_shape[:2],
            architecture="compact-cnn",
            preprocessing="pixels / 127.5 - 1",
        )
        return compile_classifier(model, hp.Float("learning_rate", *self.learning_rate, sampling="log"))


def _convolution(
    tensor: keras.KerasTensor, filters: int, *, strides: int = 1, name: str
) -> keras.KerasTensor:
    convolution = keras.layers.Conv2D(
        filters, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )
    tensor = convolution(tensor)
    tensor = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(tensor)
    return keras.layers.ReLU(name=f"{name}_relu")(tensor)
