"""A folded network computes the same function with fewer layers."""

import keras
import numpy as np
import pytest
from keras import layers

from pneumokeras.models.folding import _norms_after_convolutions, folded
from pneumokeras.models.forward import compiled, compiled_folded, compiled_in_bfloat16
from pneumokeras.models.hypermodels import TransferHyperModel

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)


def with_drawn_statistics(model):
    """Give BatchNorms means, variances, factors and offsets that matter."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return model


def network(*between, before=(), norm=None):
    inputs = keras.Input((16, 16, 3))
    tensor = layers.Rescaling(1 / 255)(inputs)
    for layer in (*before, *between, norm or layers.BatchNormalization(), layers.ReLU(max_value=6)):
        tensor = layer(tensor)
    return with_drawn_statistics(keras.Model(inputs, tensor))


def norms_of(model):
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


FOLDS = {
    "a convolution": network(layers.Conv2D(4, 3, use_bias=False)),
    "a convolution with a bias": network(layers.Conv2D(4, 3, bias_initializer="ones")),
    "a depthwise convolution": network(layers.DepthwiseConv2D(3, use_bias=False)),
    "a depthwise convolution with a multiplier": network(layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "a convolution in groups": network(layers.Conv2D(6, 3, groups=3)),
    "a norm without a factor": network(layers.Conv2D(4, 3), norm=layers.BatchNormalization(scale=False)),
    "a norm without an offset": network(layers.Conv2D(4, 3), norm=layers.BatchNormalization(center=False)),
    "a norm of another epsilon": network(layers.Conv2D(4, 3), norm=layers.BatchNormalization(epsilon=0.1)),
}
STAYS = {
    "a norm after an activation": network(layers.Conv2D(4, 3, activation="relu")),
    "a norm of rows": network(layers.Conv2D(4, 3), norm=layers.BatchNormalization(axis=1)),
    "a norm after no convolution": network(layers.MaxPooling2D()),
    "a norm after a transposed convolution": network(layers.Conv2DTranspose(4, 3)),
}


@pytest.mark.parametrize("model", FOLDS.values(), ids=FOLDS)
def test_a_norm_after_a_convolution_is_folded(model):
    copy = folded(model)
    assert not norms_of(copy)
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES, training=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", STAYS.values(), ids=STAYS)
def test_another_norm_stays(model):
    copy = folded(model)
    assert norms_of(copy)
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES, training=False), rtol=1e-5, atol=1e-5)


def test_a_convolution_whose_output_is_used_elsewhere_stays():
    inputs = keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 3)(inputs)
    model = with_drawn_statistics(
        keras.Model(inputs, layers.Add()([layers.BatchNormalization()(maps), layers.ReLU()(maps)]))
    )
    assert norms_of(folded(model))
    np.testing.assert_allclose(folded(model)(IMAGES), model(IMAGES, training=False), rtol=1e-5)


@pytest.mark.parametrize(
    "joined",
    [
        lambda norm, maps: keras.ops.relu(norm + maps),
        lambda norm, maps: keras.ops.concatenate([norm, maps], axis=-1),
        lambda norm, maps: layers.Conv2D(4, 3)(norm * keras.ops.sigmoid(maps)),
    ],
)
def test_a_convolution_whose_output_an_operation_uses_stays(joined):
    inputs = keras.Input((16, 16, 3))
    maps = layers.Conv2D(8, 3, padding="same")(layers.Rescaling(1 / 255)(inputs))
    model = with_drawn_statistics(keras.Model(inputs, joined(layers.BatchNormalization()(maps), maps)))
    assert norms_of(folded(model))
    np.testing.assert_allclose(folded(model)(IMAGES), model(IMAGES, training=False), rtol=1e-5, atol=1e-4)


def test_a_convolution_with_further_weights_stays():
    model = network(layers.Conv2D(4, 3))
    next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).enable_lora(2)
    assert not _norms_after_convolutions(model)


def test_a_convolution_that_is_called_twice_stays():
    first, second = keras.Input((16, 16, 3), name="first"), layers.Conv2D(3, 3, padding="same")
    model = with_drawn_statistics(keras.Model(first, layers.BatchNormalization()(second(second(first)))))
    assert norms_of(folded(model))
    np.testing.assert_allclose(folded(model)(IMAGES), model(IMAGES, training=False), rtol=1e-5, atol=1e-4)


def test_a_norm_at_the_end_is_folded():
    inputs = keras.Input((16, 16, 3))
    model = with_drawn_statistics(
        keras.Model(inputs, layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs)))
    )
    assert not norms_of(folded(model))
    np.testing.assert_allclose(folded(model)(IMAGES), model(IMAGES, training=False), rtol=1e-5, atol=1e-3)


def test_the_model_itself_stays_as_it_was():
    model = network(layers.Conv2D(4, 3))
    before = model.get_weights()
    folded(model)
    assert norms_of(model)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_a_real_backbone_little_changes():
    extractor = TransferHyperModel("efficientnetlite0", input_shape=(64, 64, 1)).feature_extractor()
    assert len(folded(extractor).layers) == len(extractor.layers) - 49
    images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 1)).astype(np.float32)
    exact, same, rough = (
        way(extractor)(images).numpy() for way in (compiled, compiled_folded, compiled_in_bfloat16)
    )
    np.testing.assert_allclose(same, exact, atol=1e-4)
    assert 1e-4 < np.abs(rough - exact).max() < 1
