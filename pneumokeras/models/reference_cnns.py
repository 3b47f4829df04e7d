"""Build the reference systems' networks that are trained from scratch, layer by layer as published.

A comment behind a layer gives its output shape. All but the baseline were published in PyTorch;
`pneumokeras.models.torch_compat` holds the differences. Each function returns a new, uncompiled model that
keeps the model contract. `seed` decides its initial weights and dropout; with `two_logits` it ends in two
logits, as published (see `pneumokeras.models.head.with_one_logit`).
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from pneumokeras.models.backbones import as_expected
from pneumokeras.models.head import last_dense, probability, sigmoid
from pneumokeras.models.saving import set_description
from pneumokeras.models.torch_compat import apply_layers, batch_norm, with_leaky_relu


def custom_cnn(*, seed: int = 0) -> keras.Model:
    """Build CustomCNN: 224 pixels, 25,783,873 parameters, nearly all of them in its first dense layer."""
    inputs = keras.Input((224, 224, 1), name="radiograph")
    three = layers.Concatenate(name="gray_to_three_channels")([inputs] * 3)
    chain = [
        layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
        layers.MaxPooling2D(name="pool1"),  # 112 x 112 x 32
        layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
        layers.MaxPooling2D(name="pool2"),  # 56 x 56 x 64
        layers.Conv2D(128, 3, padding="same", activation="relu", name="conv3"),
        layers.MaxPooling2D(name="pool3"),  # 28 x 28 x 128
        layers.Flatten(name="flatten"),  # 100,352
        layers.Dense(256, activation="relu", name="dense1"),
        layers.Dropout(0.5, seed=seed, name="dropout"),
        last_dense(),
    ]
    logit = apply_layers(as_expected(three, "torch", gray=True), chain, seed=seed)
    return _described("customcnn", inputs, logit, preprocessing="ImageNet's mean and standard deviation")


def cnn_94(*, two_logits: bool = False, seed: int = 0) -> keras.Model:
    """Build CNN_94: 100 pixels, three convolutions."""
    chain = [
        *with_leaky_relu(layers.Conv2D(12, 3, name="conv1")),  # 98 x 98 x 12
        layers.MaxPooling2D(name="pool1"),  # 49 x 49 x 12
        batch_norm("norm1"),
        *with_leaky_relu(layers.Conv2D(18, 3, name="conv2")),  # 47 x 47 x 18
        layers.MaxPooling2D(name="pool2"),  # 23 x 23 x 18
        *with_leaky_relu(layers.Conv2D(24, 3, name="conv3")),  # 21 x 21 x 24
        layers.Flatten(name="flatten"),  # 10,584
        *with_leaky_relu(layers.Dense(1000, name="dense1")),
        batch_norm("norm2"),
        layers.Dropout(0.3, seed=seed, name="dropout1"),
        *with_leaky_relu(layers.Dense(100, name="dense2")),
        layers.Dropout(0.3, seed=seed + 1, name="dropout2"),
        *with_leaky_relu(layers.Dense(10, name="dense3")),
        last_dense(two_logits=two_logits),
    ]
    return _of_100_pixels("cnn-94", chain, seed=seed)


def cnn_v2(*, two_logits: bool = False, seed: int = 0) -> keras.Model:
    """Build CNN_V2: 100 pixels, five convolutions."""
    chain = [
        *with_leaky_relu(layers.Conv2D(12, 5, name="conv1")),  # 96 x 96 x 12
        layers.MaxPooling2D(name="pool1"),  # 48 x 48 x 12
        batch_norm("norm1"),
        *with_leaky_relu(layers.Conv2D(12, 3, name="conv2")),  # 46 x 46 x 12
        *with_leaky_relu(layers.Conv2D(16, 3, name="conv3")),  # 44 x 44 x 16
        *with_leaky_relu(layers.Conv2D(12, 3, name="conv4")),  # 42 x 42 x 12
        *with_leaky_relu(layers.Conv2D(12, 3, name="conv5")),  # 40 x 40 x 12
        layers.Dropout(0.3, seed=seed, name="dropout1"),
        layers.MaxPooling2D(name="pool2"),  # 20 x 20 x 12
        layers.Flatten(name="flatten"),  # 4,800
        *with_leaky_relu(layers.Dense(1000, name="dense1")),
        batch_norm("norm2"),
        *with_leaky_relu(layers.Dense(100, name="dense2")),
        layers.Dropout(0.3, seed=seed + 1, name="dropout2"),
        *with_leaky_relu(layers.Dense(10, name="dense3")),
        last_dense(two_logits=two_logits),
    ]
    return _of_100_pixels("cnn-v2", chain, seed=seed)


def pneumoniamnist_cnn(*, seed: int = 0) -> keras.Model:
    """Build the PneumoniaMNIST CNN: 28 pixels, 615,521 trainable parameters."""
    inputs = keras.Input((28, 28, 1), name="radiograph")
    chain = [
        layers.Rescaling(1 / 127.5, offset=-1, name="rescale"),
        *_double_block(1, filters=32, seed=seed),  # 14 x 14 x 32
        *_double_block(2, filters=64, seed=seed + 1),  # 7 x 7 x 64
        *_double_block(3, filters=128, seed=seed + 2),  # 3 x 3 x 128
        layers.Flatten(name="flatten"),  # 1,152
        layers.Dense(256, activation="relu", name="dense1"),
        layers.Dropout(0.5, seed=seed + 3, name="dropout4"),
        layers.Dense(128, activation="relu", name="dense2"),
        layers.Dropout(0.5, seed=seed + 4, name="dropout5"),
        last_dense(),
    ]
    logit = apply_layers(inputs, chain, seed=seed)
    return _described("pneumoniamnist-cnn", inputs, logit, preprocessing="mean 0.5, standard deviation 0.5")


def baseline_cnn(*, seed: int = 0) -> keras.Model:
    """Build the baseline CNN: 224 pixels. Its document names no layers; ours have Keras' defaults."""
    inputs = keras.Input((224, 224, 1), name="radiograph")
    tensor = layers.Rescaling(1 / 255, name="rescale")(inputs)
    for number, filters in enumerate((16, 32, 64, 128), start=1):
        initial = keras.initializers.GlorotUniform(seed + number)
        tensor = layers.Conv2D(
            filters, 3, padding="same", activation="relu", kernel_initializer=initial, name=f"conv{number}"
        )(tensor)
        tensor = layers.MaxPooling2D(name=f"pool{number}")(tensor)  # in the end 14 x 14 x 128
    features = layers.GlobalAveragePooling2D(name="features")(tensor)
    dropped = layers.Dropout(0.5, seed=seed, name="dropout")(features)
    model = keras.Model(inputs, probability(dropped, seed=seed), name="baseline-cnn")
    set_description(model, architecture=model.name, preprocessing="pixels / 255")
    return model


REFERENCE_CNNS: dict[str, Callable[..., keras.Model]] = {
    "customcnn": custom_cnn,
    "cnn-94": cnn_94,
    "cnn-v2": cnn_v2,
    "pneumoniamnist-cnn": pneumoniamnist_cnn,
    "baseline-cnn": baseline_cnn,
}
"""The functions by the models' names; `pneumokeras.models.registry.MODELS` has their sizes."""


def _of_100_pixels(name: str, chain: list[keras.Layer], *, seed: int) -> keras.Model:
    inputs = keras.Input((100, 100, 1), name="radiograph")
    logits = apply_layers(inputs, [layers.Rescaling(1 / 255, name="rescale"), *chain], seed=seed)
    return _described(name, inputs, logits, preprocessing="pixels / 255")


def _double_block(number: int, *, filters: int, seed: int) -> list[keras.Layer]:
    """Return two convolutions with BatchNorm and ReLU, then MaxPool and Dropout."""
    return [
        layers.Conv2D(filters, 3, padding="same", name=f"conv{number}a"),
        batch_norm(f"norm{number}a"),
        layers.ReLU(name=f"relu{number}a"),
        layers.Conv2D(filters, 3, padding="same", name=f"conv{number}b"),
        batch_norm(f"norm{number}b"),
        layers.ReLU(name=f"relu{number}b"),
        layers.MaxPooling2D(name=f"pool{number}"),
        layers.Dropout(0.25, seed=seed, name=f"dropout{number}"),
    ]


def _described(
    name: str, inputs: keras.KerasTensor, logits: keras.KerasTensor, *, preprocessing: str
) -> keras.Model:
    model = keras.Model(inputs, sigmoid(logits), name=name)
    set_description(model, architecture=name, preprocessing=preprocessing)
    return model
