"""Adam decays weights as PyTorch's does, and two parts of a model learn at two rates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pneumokeras.training.optimizers import OPTIMIZERS, L2Adam, head_and_backbone_optimizer, optimizers_of

GRADIENTS = np.random.default_rng(0).normal(size=(6, 4))
START = np.array([2.0, -1.0, 0.5, -3.0])


def stepped(optimizer, gradients=GRADIENTS):
    weights = keras.Variable(START, dtype="float32")
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [weights])
    return weights.numpy()


def torch_adam(learning_rate, weight_decay):
    """The algorithm on the page of `torch.optim.Adam`, line by line."""
    weights, first, second = START.copy(), np.zeros(4), np.zeros(4)
    for step, gradient in enumerate(GRADIENTS, 1):
        gradient = gradient + weight_decay * weights
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9**step), second / (1 - 0.999**step)
        weights = weights - learning_rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return weights


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2, 1.0])
def test_adam_decays_weights_in_the_gradient_as_pytorch_does(weight_decay):
    np.testing.assert_allclose(
        stepped(L2Adam(0.01, weight_decay=weight_decay)), torch_adam(0.01, weight_decay), atol=1e-5
    )


def test_without_weight_decay_it_is_keras_adam():
    """The same formula; in one pass it rounds in another order."""
    np.testing.assert_allclose(
        stepped(L2Adam(0.01, weight_decay=0.0)), stepped(keras.optimizers.Adam(0.01)), rtol=1e-6
    )


def test_adamw_takes_the_decay_off_the_weights():
    still = np.zeros((6, 4))
    np.testing.assert_allclose(
        stepped(OPTIMIZERS["adamw"](0.01, weight_decay=0.1), still), START * (1 - 0.01 * 0.1) ** 6, rtol=1e-5
    )


def small_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh", name="backbone")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="head")(hidden))


def two_rates(model, head, backbone):
    optimizers = {"head": keras.optimizers.Adam(head), "backbone": keras.optimizers.Adam(backbone)}
    return head_and_backbone_optimizer(optimizers, model.get_layer("head").trainable_variables)


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_each_part_is_trained_by_an_optimizer_of_its_own(steps_per_execution):
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(64, 3)).astype(np.float32)
    labels = rng.integers(0, 2, (64, 1)).astype(np.float32)

    model = small_model()
    model.compile(
        two_rates(model, 1e-2, 1e-4), "binary_crossentropy", steps_per_execution=steps_per_execution
    )
    model.fit(inputs, labels, batch_size=16, epochs=2, shuffle=False, verbose=0)

    expected = small_model()
    parts = [
        (keras.optimizers.Adam(rate), expected.get_layer(name).trainable_variables)
        for name, rate in (("head", 1e-2), ("backbone", 1e-4))
    ]
    for start in [0, 16, 32, 48] * 2:
        with tf.GradientTape() as tape:
            outputs = expected(inputs[start : start + 16])
            loss = keras.losses.BinaryCrossentropy()(labels[start : start + 16], outputs)
        gradients = tape.gradient(loss, [[v.value for v in variables] for _, variables in parts])
        for (optimizer, variables), gradient in zip(parts, gradients, strict=True):
            optimizer.apply(gradient, variables)

    for ours, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-6)


def test_the_heads_optimizer_is_the_last():
    model = small_model()
    model.compile(two_rates(model, 1e-2, 1e-4), "binary_crossentropy")
    model.fit(np.zeros((2, 3)), np.zeros((2, 1)), verbose=0)
    assert [float(each.learning_rate) for each in optimizers_of(model)] == pytest.approx([1e-4, 1e-2])
    model.compile("sgd", "binary_crossentropy")
    assert optimizers_of(model) == [model.optimizer]
