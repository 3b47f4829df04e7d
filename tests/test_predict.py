"""Predictions line up with radiographs, whatever the batch size."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from pneumokeras.core.errors import DataError, ModelError, SettingsError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.evaluation import OperatingPoint, TemperatureScaling
from pneumokeras.models.forward import forward
from pneumokeras.models.saving import set_description
from pneumokeras.training.evaluate import evaluate
from pneumokeras.training.predict import predict


@pytest.fixture(scope="module")
def brightness():
    """A model that gives an image's mean gray level, from 0 to 1."""
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, layers.Rescaling(1 / 255)(layers.GlobalAveragePooling2D()(inputs)))


@pytest.fixture(scope="module")
def grays():
    levels = np.array([200, 10, 90, 250, 40, 160, 130], np.uint8)
    images = np.broadcast_to(levels[:, np.newaxis, np.newaxis], (7, 8, 8)).copy()
    return RadiographSet.from_arrays(images, levels >= 100, patients=[f"p{i // 2}" for i in range(7)])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_probabilities_are_in_the_order_of_the_set(brightness, grays, batch_size):
    predictions = predict(brightness, grays, batch_size=batch_size)
    np.testing.assert_allclose(predictions.probabilities, grays.images[:, 0, 0] / 255, atol=1e-6)
    assert list(predictions.names) == list(grays.names)
    assert list(predictions.patients) == list(grays.patients)


def test_radiographs_are_read_at_the_models_size(brightness, grays):
    large = RadiographSet.from_arrays(grays.images.repeat(4, axis=1).repeat(3, axis=2))
    np.testing.assert_allclose(
        predict(brightness, large).probabilities, predict(brightness, grays).probabilities, atol=1e-6
    )


def test_a_set_without_labels_can_be_predicted_but_not_evaluated(brightness, grays):
    unlabeled = RadiographSet.from_arrays(grays.images)
    assert predict(brightness, unlabeled).labels is None
    with pytest.raises(DataError, match="label"):
        evaluate(brightness, unlabeled)


def test_an_empty_set_has_no_predictions(brightness, grays):
    assert len(predict(brightness, grays.subset([]))) == 0


def test_the_sets_subtypes_are_its_subgroups_unless_columns_are_given(brightness, grays):
    subtypes = np.where(grays.labels == 1, np.array(["bacteria", "virus"])[np.arange(7) % 2], "")
    found = evaluate(brightness, replace(grays, subtypes=subtypes)).subgroups
    assert [(group.column, group.value) for group in found] == [("subtype", "bacteria"), ("subtype", "virus")]
    given = evaluate(brightness, grays, columns={"site": np.array(list("aabbaab"))}, prevalence=0.1)
    assert [group.value for group in given.subgroups] == ["a", "b"]
    assert given.operating_points["default"].predictive_values.prevalence == 0.1


def test_scalings_are_fitted_on_the_validation_radiographs_given(brightness, grays):
    validation = RadiographSet.from_arrays(grays.images[::-1].copy(), [0, 1, 0, 1, 0, 1, 1])
    said = predict(brightness, validation)
    expected = TemperatureScaling.fit(said.labels, said.probabilities)
    scalings = evaluate(brightness, grays, validation=validation).calibration.scalings
    assert scalings["temperature"].scaling == expected
    assert list(evaluate(brightness, grays).calibration.scalings) == ["none"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"prevalence": 10},
        {"columns": {"site": np.array(["a"])}},
        {"validation": RadiographSet.from_arrays(np.zeros((2, 8, 8), np.uint8))},
    ],
    ids=["prevalence", "columns", "validation"],
)
def test_what_is_wrong_is_said_before_anything_is_predicted(brightness, grays, wrong, monkeypatch):
    monkeypatch.setattr("pneumokeras.training.evaluate.predict", None)
    with pytest.raises(DataError if "validation" in wrong else SettingsError):
        evaluate(brightness, grays, **wrong)


def test_the_points_a_model_carries_are_judged(brightness, grays):
    point = OperatingPoint(0.3, "val", policy="balanced_accuracy", sensitivity_floor=0.95, images=7)
    set_description(brightness, operating_points={"validation": point.json()})
    assert evaluate(brightness, grays).operating_points["validation"].point == point


def test_a_model_with_several_outputs_is_refused(grays):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs)))
    with pytest.raises(ModelError, match="one probability"):
        predict(model, grays)


def test_trained_weights_take_effect_in_a_compiled_pass(grays):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(inputs)))
    batches = [(grays.images[..., np.newaxis].astype(np.float32),)]
    before = forward(model, batches)
    model.set_weights([weight + 0.01 for weight in model.get_weights()])
    assert not np.allclose(before, forward(model, batches))


def test_classes_in_another_order_than_the_models_are_refused(brightness, grays):
    set_description(brightness, classes=("NORMAL", "PNEUMONIA"))
    swapped = RadiographSet.from_arrays(grays.images, grays.labels, class_names=("PNEUMONIA", "NORMAL"))
    with pytest.raises(DataError, match="in its order"):
        evaluate(brightness, swapped)


def test_a_model_that_changed_is_compiled_again(grays):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    model.add(layers.Dense(1, activation="sigmoid", kernel_initializer="zeros"))
    assert set(predict(model, grays).probabilities) == {0.5}
    model.pop()
    model.add(layers.Dense(1, activation="sigmoid", kernel_initializer="zeros", bias_initializer="ones"))
    assert 0.5 not in predict(model, grays).probabilities
