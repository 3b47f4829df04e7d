"""A model carries its description wherever Keras takes it, and a model without one says so."""

import copy
import json
import logging
import zipfile

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from pneumokeras.core.errors import DataError, ModelError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.models.averaging import averaged
from pneumokeras.models.head import last_dense, probability, sigmoid, with_one_logit
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.parts import cut
from pneumokeras.models.saving import (
    ModelDescription,
    description_of,
    load_model,
    save_model,
    set_description,
)
from pneumokeras.training.evaluate import evaluate
from pneumokeras.training.predict import predict
from tests.calling import call

SIDE = 32
CLASSES = ("NORMAL", "Übrige/κ")
POINTS = {
    "default": {"threshold": 0.5, "chosen_on": "fixed"},
    "validation": {
        "threshold": 0.1 + 0.2,
        "chosen_on": "val",
        "policy": "balanced_accuracy",
        "sensitivity_floor": 0.95,
        "images": 7,
    },
}
CALLS = {"classes": CLASSES, "pad": True, "operating_points": POINTS}
NOTICE = "carries no description"


def hyperparameters():
    return keras_tuner.HyperParameters()


def small(*, two_logits=False):
    inputs = keras.Input((SIDE, SIDE, 1), name="radiograph")
    features = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(layers.Rescaling(1 / 255)(inputs)))
    return keras.Model(inputs, sigmoid(last_dense(two_logits=two_logits)(features)), name="small")


def on_own_backbone():
    chain = [keras.Input((SIDE, SIDE, 1)), layers.Conv2D(4, 3), layers.Dropout(0.3, name="inner")]
    hypermodel = TransferHyperModel(keras.Sequential(chain), input_shape=(SIDE, SIDE, 1))
    return hypermodel.build(hyperparameters())


def ensemble():
    members = {"one": small(), "other": small()}
    for member in members.values():
        set_description(member, pad=True, classes=CLASSES)
    return averaged(members)


def sequential():
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), layers.Rescaling(1 / 255)])
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(1, activation="sigmoid"))
    return model


MODELS = {
    "compact-cnn": lambda: CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(hyperparameters()),
    "own backbone": on_own_backbone,
    "ensemble": ensemble,
    "two logits": lambda: small(two_logits=True),
    "one logit of two": lambda: with_one_logit(small(two_logits=True)),
    "sequential": sequential,
}


def by_plain_keras(model, folder):
    save_model(model, folder / "model.keras")
    return keras.models.load_model(folder / "model.keras", safe_mode=True)


def saved_again_by_plain_keras(model, folder):
    by_plain_keras(model, folder).save(folder / "again.keras")
    return load_model(folder / "again.keras")


def by_us(model, folder):
    save_model(model, folder / "model.keras")
    return load_model(folder / "model.keras")


def cloned(model, folder):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for layer in clone.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()
    return clone


WAYS = {
    "by plain Keras": by_plain_keras,
    "saved again by plain Keras": saved_again_by_plain_keras,
    "by us": by_us,
    "cloned": cloned,
    "of its inputs and outputs": lambda model, folder: keras.Model(model.inputs, model.outputs),
    "copied": lambda model, folder: copy.deepcopy(model),
}


@pytest.fixture(scope="module")
def oblong():
    """Radiographs that look different padded and stretched."""
    images = np.random.default_rng(0).integers(0, 256, (7, 48, 20)).astype(np.uint8)
    return RadiographSet.from_arrays(images, [0, 1, 1, 0, 1, 0, 1], class_names=CLASSES)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    keras.utils.set_random_seed(0)
    built = MODELS[request.param]()
    set_description(built, **CALLS)
    return built


@pytest.mark.parametrize("way", WAYS)
def test_the_description_survives(model, way, tmp_path, caplog):
    again = WAYS[way](model, tmp_path)
    assert description_of(again) == description_of(model)
    assert description_of(again).operating_points == POINTS
    assert not caplog.records


@pytest.mark.parametrize("way", WAYS)
def test_the_same_radiographs_are_predicted_positive(model, way, tmp_path, oblong, caplog):
    again = WAYS[way](model, tmp_path)
    expected, received = evaluate(model, oblong), evaluate(again, oblong)
    np.testing.assert_allclose(
        received.predictions.probabilities, expected.predictions.probabilities, atol=1e-6
    )
    assert list(received.operating_points) == list(expected.operating_points)
    for name, point in expected.operating_points.items():
        assert received.operating_points[name].point == point.point
    swapped = RadiographSet.from_arrays(
        np.zeros((2, 8, 8), np.uint8), [0, 1], class_names=tuple(reversed(CLASSES))
    )
    with pytest.raises(DataError, match="in its order"):
        predict(again, swapped)
    assert not caplog.records


def test_padding_is_part_of_what_survives(oblong, tmp_path):
    model = small()
    stretched = predict(model, oblong).probabilities
    set_description(model, pad=True, classes=CLASSES)
    padded = predict(by_plain_keras(model, tmp_path), oblong).probabilities
    assert not np.allclose(padded, stretched)


def test_the_rates_of_frozen_dropout_survive_plain_keras(tmp_path):
    plain = by_plain_keras(on_own_backbone(), tmp_path)
    assert cut(plain, "stage1").upper.get_layer("backbone_inner").rate == 0.3


def test_the_description_lies_in_the_archive_too(model, tmp_path):
    save_model(model, tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        content = json.loads(archive.read("pneumokeras.json"))
    assert ModelDescription.from_json(content) == description_of(model)
    assert content["schema"] == 1
    assert content["operating_points"] == POINTS


def test_a_description_can_be_changed_again_and_keeps_the_rest(model):
    before = description_of(model)
    changed = set_description(model, weights="trained again")
    assert changed == description_of(model)
    assert (changed.weights, changed.pad, changed.classes) == ("trained again", True, CLASSES)
    assert set_description(model, weights=before.weights) == before


def test_the_inputs_own_name_is_kept_in_front(tmp_path):
    model = small()
    for pad in (True, False):
        set_description(model, pad=pad)
        assert model.layers[0].name.split("_pneumokeras_")[0] == "radiograph"
        assert model.layers[0].name.count("_pneumokeras_") == 1


def test_a_described_model_can_be_exported(tmp_path):
    import tensorflow as tf

    model, images = small(), np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 1)).astype(np.float32)
    set_description(model, **CALLS)
    by_plain_keras(model, tmp_path).export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(images), model(images), atol=1e-6)


class TestWithoutDescription:
    def stranger(self):
        inputs = keras.Input((SIDE, SIDE, 1))
        return keras.Model(inputs, probability(layers.GlobalAveragePooling2D()(inputs)))

    def test_it_is_predicted_with_one_notice(self, oblong, caplog):
        model = self.stranger()
        for _ in range(2):
            assert len(predict(model, oblong).probabilities) == len(oblong)
            assert list(evaluate(model, oblong).operating_points) == ["default", "oracle"]
        notices = [record for record in caplog.records if NOTICE in record.message]
        assert [record.levelno for record in notices] == [logging.WARNING]
        assert f"stretched to {SIDE} x {SIDE} pixels" in notices[0].message
        assert "its only threshold is 0.5" in notices[0].message

    def test_the_getter_says_that_it_does_not_know(self):
        described = description_of(self.stranger())
        assert not described.known
        assert described.image_size == (SIDE, SIDE)

    def test_what_is_not_known_is_not_saved_as_known(self, tmp_path):
        assert not description_of(by_us(self.stranger(), tmp_path)).known

    def test_a_setting_makes_it_known(self, caplog):
        model = self.stranger()
        assert set_description(model, pad=True).known
        assert description_of(model).pad
        assert not caplog.records

    def test_a_model_without_a_graph_cannot_carry_one(self):
        class Subclassed(keras.Model):
            def call(self, inputs):
                return inputs

        for model in (Subclassed(), keras.Sequential([layers.Dense(1)])):
            assert not description_of(model).known
            with pytest.raises(ModelError, match="cannot carry a description"):
                set_description(model, pad=True)

    def test_a_name_that_only_looks_like_a_description_is_none(self):
        for name in ("x_pneumokeras_", "x_pneumokeras_geza", "x_pneumokeras_not base32"):
            inputs = keras.Input((SIDE, SIDE, 1), name=name)
            assert not description_of(keras.Model(inputs, layers.Flatten()(inputs))).known

    def test_the_command_shows_the_notice(self, tmp_path, phantom_folder):
        self.stranger().save(tmp_path / "plain.keras")
        result = call("predict", tmp_path / "plain.keras", phantom_folder / "test" / "NORMAL")
        assert result.exit_code == 0
        assert result.stderr.count(NOTICE) == 1


class TestFilesOfVersion01:
    """Their graph carries no description; `pneumokeras.json` lies in the archive alone."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "model.keras"
        small().save(path)
        content = {
            "schema": 1,
            "version": "0.1.0",
            "backbone": "small",
            "classes": list(CLASSES),
            "image_size": [SIDE, SIDE],
            "preprocessing": "pixels / 255",
            "weights": "trained from scratch",
            "pad": True,
            "frozen_dropout": {},
            "operating_points": POINTS,
        }
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("pneumokeras.json", json.dumps(content))
        return path

    def test_we_load_them_as_before(self, path, caplog):
        described = description_of(load_model(path))
        expected = ModelDescription(
            CLASSES, (SIDE, SIDE), "small", "pixels / 255", "trained from scratch", True, {}, POINTS
        )
        assert described == expected
        assert not caplog.records

    def test_plain_keras_loads_them_without_it_and_that_is_said(self, path, oblong, caplog):
        predict(keras.models.load_model(path), oblong)
        assert [NOTICE in record.message for record in caplog.records] == [True]
