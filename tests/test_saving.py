"""A model carries its description wherever Keras takes it, and a model without one says so."""

import copy
import json
import logging
import zipfile
import zlib
from base64 import urlsafe_b64encode
from dataclasses import replace

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
    own_name,
    save_model,
    set_description,
)
from pneumokeras.training.evaluate import evaluate
from pneumokeras.training.fit import fit
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
PLACE = "_pneumokeras_"


def packed(text):
    """Return bytes as the end of a model's name, as a stranger could write it."""
    packer = zlib.compressobj(9, wbits=-15)
    return urlsafe_b64encode(packer.compress(text) + packer.flush()).decode().rstrip("=")


def hyperparameters():
    return keras_tuner.HyperParameters()


def small_tensors(*, two_logits=False):
    inputs = keras.Input((SIDE, SIDE, 1), name="radiograph")
    features = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(layers.Rescaling(1 / 255)(inputs)))
    return inputs, sigmoid(last_dense(two_logits=two_logits)(features))


def small(*, two_logits=False):
    return keras.Model(*small_tensors(two_logits=two_logits), name="small")


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


class TestNames:
    """The description ends the model's name; all other names stay what they are."""

    @pytest.mark.parametrize("own", ["small", "a_pneumokeras_", "a_pneumokeras_b", "_pneumokeras_"])
    def test_the_models_own_name_is_kept_in_front(self, own):
        model = keras.Model(*small_tensors(), name=own)
        for pad in (True, False):
            set_description(model, pad=pad)
            assert own_name(model) == own
            assert model.name.startswith(f"{own}_pneumokeras_")
            assert model.name.count("_pneumokeras_") == own.count("_pneumokeras_") + 1

    def test_a_typical_description_is_short(self):
        model = small()
        set_description(
            model,
            architecture="resnet50",
            weights="imagenet",
            preprocessing="native",
            operating_points={
                "default": {"threshold": 0.5, "chosen_on": "fixed"},
                "validation": {
                    "threshold": 0.31287654321009871,
                    "chosen_on": "val",
                    "policy": "balanced_accuracy",
                    "sensitivity_floor": 0.95,
                    "images": 523,
                },
            },
        )
        assert len(model.name) < 100

    def test_a_name_of_today_is_read_for_ever(self):
        name = "compact_cnn_pneumokeras_o0XQG5rpGJoNm4A3N7I0tDQ2tbQwMDa0tDQ3p1FEAAA"
        described = description_of(keras.Model(*small_tensors(), name=name))
        assert (described.architecture, described.image_size) == ("compact-cnn", (16, 16))
        assert described.operating_points["validation"]["threshold"] == 0.47291935980319977

    def test_the_input_is_called_as_before(self, model, tmp_path):
        images = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 1)).astype(np.float32)
        for each in (model, by_plain_keras(model, tmp_path), cloned(model, tmp_path)):
            assert PLACE not in each.inputs[0].name
            assert each.name == model.name
            given = images if isinstance(each, keras.Sequential) else {each.inputs[0].name: images}
            np.testing.assert_array_equal(each(given), each(images))

    def test_a_message_shows_the_models_own_name(self, tmp_path):
        model = small()
        set_description(model, pad=True)
        with pytest.raises(ModelError, match="small has no part"):
            cut(model, "stage9")


class TestSharedInput:
    """Models that share an input, or all layers but the head, do not share a description."""

    @pytest.fixture
    def model(self):
        model = small()
        set_description(model, **CALLS)
        return model

    def test_another_head_inherits_no_operating_points(self, model, caplog):
        other = keras.Model(model.input, probability(model.layers[-3].output))
        assert not description_of(other).known
        assert NOTICE in caplog.text
        set_description(other, classes=("A", "B"))
        assert description_of(model).classes == CLASSES
        assert description_of(other).operating_points == {}

    def test_a_fit_of_the_other_leaves_the_first_alone(self, model, oblong):
        other = keras.Model(model.input, probability(model.layers[-3].output))
        other.compile("adam", "binary_crossentropy")
        renamed = replace(oblong, class_names=("A", "B"))
        fit(other, renamed, renamed, epochs=1)
        assert predict(other, renamed).class_names == ("A", "B")
        assert list(evaluate(model, oblong).operating_points) == ["default", "validation", "oracle"]

    def test_a_fit_forgets_the_thresholds_chosen_before_it(self, model, oblong):
        model.compile("adam", "binary_crossentropy")
        fit(model, oblong, oblong, epochs=1)
        assert list(evaluate(model, oblong).operating_points) == ["default", "oracle"]
        assert description_of(model).pad


def test_a_described_model_can_be_exported(tmp_path):
    import tensorflow as tf

    model, images = small(), np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 1)).astype(np.float32)
    set_description(model, **CALLS)
    by_plain_keras(model, tmp_path).export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(images), model(images), atol=1e-6)
    (signature,) = exported.signatures["serve"].structured_input_signature[1].values()
    assert signature.name == "radiograph"


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

    def test_classes_are_known_only_if_somebody_said_them(self, oblong, tmp_path):
        """A HyperModel's model that plain Keras trained may tell any two classes apart."""
        hypermodel = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1), depth=(2, 2), width=(4, 4, 4))
        model = hypermodel.build(keras_tuner.HyperParameters())
        other = replace(oblong, class_names=("healthy", "tb"))
        for each in (model, by_us(model, tmp_path), by_plain_keras(model, tmp_path)):
            assert description_of(each).known
            assert not description_of(each).classes_known
            assert "classes" not in description_of(each).json()
            assert predict(each, other).class_names == ("healthy", "tb")
        set_description(model, classes=other.class_names)
        assert description_of(by_us(model, tmp_path)).classes_known
        with pytest.raises(DataError, match="healthy and tb"):
            predict(model, oblong)

    def test_a_new_model_of_a_models_tensors_is_one(self, oblong, caplog):
        model = small()
        set_description(model, **CALLS)
        again = keras.Model(model.inputs, model.outputs)
        predict(again, oblong)
        assert [NOTICE in record.message for record in caplog.records] == [True]

    def test_a_model_without_a_graph_carries_one_and_cannot_be_saved(self, tmp_path):
        class Subclassed(keras.Model):
            def call(self, inputs):
                return inputs

        for model in (Subclassed(name="own"), keras.Sequential([layers.Dense(1)], name="own")):
            assert not description_of(model).known
            set_description(model, pad=True)
            assert description_of(model).pad
            with pytest.raises(ModelError, match="Cannot save own"):
                save_model(model, tmp_path / "model.keras")
            assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "end",
        [
            "",
            "geza",
            "not base64",
            "ü",
            packed(b"[]"),
            packed(b"null"),
            packed(b'{"classes": "NP"}'),
            packed(b'{"classes": ["A", "B", "C"]}'),
            packed(b'{"image_size": ["a", "b"]}'),
            packed(b'{"pad": "no"}'),
            packed(b'{"known": true}'),
            packed(b'{"frozen_dropout": {"a": "b"}}'),
            packed(b'{"operating_points": {"validation": 0.3}}'),
            packed(b'{"weights": 3}'),
            packed(b"[" * 50_000),
            packed(b'{"weights": "' + b"a" * 10_000_000 + b'"}'),
        ],
    )
    def test_a_name_that_only_looks_like_a_description_is_none(self, end):
        inputs = keras.Input((SIDE, SIDE, 1))
        model = keras.Model(inputs, layers.Flatten()(inputs), name=f"x_pneumokeras_{end}")
        assert not description_of(model).known
        assert own_name(model) == model.name

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

    @pytest.mark.parametrize(
        "member", [b"", b"[]", b'{"pad": 1}', b'{"classes": null}', b'{"operating_points": [1]}', b"\xff"]
    )
    def test_a_damaged_member_is_one_clear_line(self, member, tmp_path):
        path = tmp_path / "model.keras"
        small().save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("pneumokeras.json", member)
        with pytest.raises(ModelError, match="Cannot load") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)
