"""A user's own model is searched like ours, or refused in one line before anything is searched."""

import json
import re
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras.core.errors import ModelError, SettingsError, TuningError
from pneumokeras.models.head import probability
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.training.feature_store import stored_features
from pneumokeras.training.identity import recognized
from pneumokeras.training.predict import predict
from pneumokeras.training.settings import SearchSettings, Stage
from pneumokeras.training.tune import tune

SIDE = 32
SHAPE = (SIDE, SIDE, 1)


def network(units=4, *, before=(), out=1, activation="sigmoid", shape=SHAPE):
    layers = [keras.layers.Rescaling(1 / 255), *before, keras.layers.Conv2D(units, 3, strides=4)]
    last = keras.layers.Dense(out, activation=activation)
    return keras.Sequential([keras.Input(shape), *layers, keras.layers.GlobalAveragePooling2D(), last])


def unbounded():
    model = network()
    return keras.Model(model.inputs, keras.layers.Rescaling(3)(model.outputs[0]))


def compiled(model, optimizer="adam", loss="binary_crossentropy"):
    model.compile(optimizer, loss)
    return model


def build(hp):
    """A tutorial's function."""
    return compiled(network(hp.Int("units", 4, 8, 4)), keras.optimizers.Adam(hp.Choice("rate", [1e-3, 1e-2])))


class Plain(keras_tuner.HyperModel):
    """What Keras Tuner's documentation shows."""

    def build(self, hp):
        return build(hp)


def tiny_backbone():
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    maps = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(scaled)
    return keras.Model(inputs, keras.layers.BatchNormalization()(maps), name="tiny")


def nested(hp):
    """A tutorial's transfer learning: a frozen network inside the model."""
    base = tiny_backbone()
    base.trainable = False
    inputs = keras.Input(SHAPE)
    pooled = keras.layers.GlobalAveragePooling2D()(base(inputs, training=False))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(pooled), name="tutorial")
    return compiled(model, keras.optimizers.Adam(hp.Choice("rate", [1e-3, 1e-2])))


def recorded(hypermodel, **options):
    return recognized(hypermodel, SearchSettings(**options))[1]


def refused(hypermodel, error=ModelError, **options):
    with pytest.raises(error) as raised:
        recognized(hypermodel, SearchSettings(**options))
    return str(raised.value)


class TestWays:
    """Each way is searched, kept, loaded and predicted with."""

    @pytest.mark.parametrize("way", [build, nested])
    def test_it_is_searched_found_again_and_loaded(self, way, spot_splits, in_tmp):
        result = tune(way, spot_splits, max_trials=1, epochs=1, views=1)
        assert result.run.name.startswith(f"{way.__name__}-")
        assert [trial.status for trial in result.trials] == ["completed"]
        again = tune(way, spot_splits, max_trials=1, epochs=1, views=1)
        assert again.run == result.run
        for kept in (result, again):
            assert f": {way.__name__}, threshold" in repr(kept)
        assert [dict(trial.hyperparameters) for trial in again.trials] == [
            dict(trial.hyperparameters) for trial in result.trials
        ]
        assert len(predict(again.model, spot_splits.test)) == len(spot_splits.test)

    def test_a_frozen_network_inside_is_named_with_what_would_be_faster(self, caplog):
        recognized(nested, SearchSettings())
        assert "TransferHyperModel(tiny)" in caplog.text

    def test_the_frozen_network_itself_is_searched_on_stored_features(
        self, spot_splits, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
        hypermodel = TransferHyperModel(tiny_backbone(), input_shape=SHAPE, units=(8, 8, 8))
        tune(hypermodel, spot_splits, max_trials=1, epochs=1, views=4, run=tmp_path / "run")
        assert stored_features()[0].rows == len(spot_splits.train) + len(spot_splits.val)

    def test_what_it_lacks_is_derived(self):
        hypermodel = Plain()
        known, _ = recognized(hypermodel, SearchSettings())
        assert (known.input_shape, known.settings) == (SHAPE, {"model": "Plain"})
        assert not hasattr(hypermodel, "settings")

    def test_a_build_that_was_put_on_a_plain_hypermodel_is_what_is_built(self):
        plain = keras_tuner.HyperModel()
        plain.build = build
        hypermodel, settings = recognized(plain, SearchSettings())
        assert hypermodel.build(keras_tuner.HyperParameters()).output_shape == (None, 1)
        assert settings["code"] != recorded(Plain())["code"]

    def test_what_is_calibrated_is_what_is_built(self):
        """A copy that Keras Tuner's wrapper binds to the original would calibrate one and build the other."""

        class Calibrated(Plain):
            scale = 1.0

            def calibrate(self, images):
                self.scale = 2.0

            def build(self, hp):
                return compiled(network(before=[keras.layers.Rescaling(self.scale)]))

        known, _ = recognized(Calibrated(), SearchSettings())
        known.calibrate(None)
        assert known.build(keras_tuner.HyperParameters()).layers[1].scale == 2.0


class TestIdentity:
    def test_it_is_the_same_at_every_call(self):
        assert recorded(build)["hypermodel"].endswith("test_own_models.build")
        assert recorded(Plain()) == recorded(Plain())

    def test_weights_that_build_loads_tell_it_from_others(self):
        def with_weights(value):
            def loaded(hp):
                model = build(hp)
                model.set_weights([np.full_like(array, value) for array in model.get_weights()])
                return model

            return loaded

        assert recorded(with_weights(1))["initial_weights"] != recorded(with_weights(2))["initial_weights"]

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ((4, 8), [4, 8]),
            (np.int64(3), 3),
            (np.array([1.5, 2.5]), [1.5, 2.5]),
            ({"depth": (1, np.float32(0.5))}, {"depth": [1, 0.5]}),
        ],
        ids=repr,
    )
    def test_settings_are_recorded_as_they_come_back_from_the_file(self, given, kept):
        class Own(Plain):
            settings = {"model": "mine", "units": given}  # noqa: RUF012

        known = recorded(Own())
        assert (known["model"], known["units"]) == ("mine", kept)
        assert json.loads(json.dumps(known)) == known

    def test_settings_without_a_model_have_the_classes_name(self):
        class Own(Plain):
            settings = {"units": 3}  # noqa: RUF012

        assert recorded(Own())["model"] == "Own"

    @pytest.mark.parametrize("value", [print, {1, 2}, float("nan"), {1: 2}], ids=repr)
    def test_settings_that_no_file_holds_are_refused(self, value):
        class Own(Plain):
            settings = {"odd": value}  # noqa: RUF012

        assert "The settings of" in refused(Own(), SettingsError)

    def test_settings_that_are_no_dictionary_are_refused(self):
        class Own(Plain):
            settings = ["model", "mine"]  # noqa: RUF012

        assert "Expected a dictionary" in refused(Own(), SettingsError)

    def test_numpy_numbers_in_ours_are_recorded_too(self):
        known = recorded(CompactCNNHyperModel(input_shape=SHAPE, width=tuple(np.arange(8, 25, 8))))
        assert json.loads(json.dumps(known)) == known

    def test_settings_with_a_name_of_tunes_own_are_refused(self):
        class Own(Plain):
            settings = {"model": "mine", "epochs": 3, "seed": 1}  # noqa: RUF012

        assert "epochs, seed. Rename them" in refused(Own(), SettingsError)


class OwnFit(Plain):
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, batch_size=hp.Choice("batch_size", [16, 32]), **kwargs)


class OtherHead(TransferHyperModel):
    """Two heads that differ: what is searched is not what is built."""

    def assemble(self, hp, head):
        model = self.build(hp)
        kernel, bias = model.get_layer("logit").get_weights()
        model.get_layer("logit").set_weights([kernel, bias + 1])
        return model


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs):
        return self.dense(keras.ops.reshape(inputs, (len(inputs), -1)))


def returning(model):
    return lambda hp: model() if callable(model) and not isinstance(model, keras.Model) else model


class TestContract:
    @pytest.mark.parametrize(
        ("model", "said"),
        [
            (lambda: None, "Received NoneType"),
            (lambda: compiled(Subclassed()), "no graph from one image to one output"),
            (
                lambda: compiled(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])),
                "begins with keras.Input",
            ),
            (lambda: compiled(network(shape=(SIDE, SIDE, 2))), "raw gray levels, or 3 channels"),
            (lambda: compiled(network(shape=(None, None, 1))), "of a fixed size"),
            (
                lambda: compiled(
                    network(out=2, activation="softmax"), loss="sparse_categorical_crossentropy"
                ),
                "softmax of two classes does. Expected P(PNEUMONIA), (None, 1): end it in Dense(1",
            ),
            (lambda: compiled(network(out=3)), "gives (None, 3)"),
            (lambda: compiled(network(activation=None)), "activation linear, which gives no prob"),
            (lambda: compiled(network(activation="softplus")), "gives no probability"),
            (lambda: compiled(network(activation="softmax")), "gives no probability"),
            (lambda: compiled(unbounded()), "Expected probabilities"),
            (lambda: compiled(network(before=[keras.layers.Lambda(lambda x: 2 * x)])), "safe mode"),
            (lambda: compiled(network(before=[Unregistered()])), "cannot be loaded again"),
            (network, "not compiled with a loss"),
            (
                lambda: compiled(network(), loss=keras.losses.BinaryCrossentropy(from_logits=True)),
                "from_logits",
            ),
            (
                lambda: compiled(network(), loss="sparse_categorical_crossentropy"),
                "Expected binary_crossentropy",
            ),
            (lambda: compiled(network(), loss=lambda y, p: keras.ops.mean(p - y)), "does not fall"),
            (
                lambda: compiled(
                    network(), keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 100))
                ),
                "CosineDecay as learning rate",
            ),
        ],
    )
    def test_a_model_that_breaks_it_is_refused_with_what_to_do(self, model, said):
        assert said in refused(returning(model))

    def test_nothing_is_begun_for_it(self, spot_splits, tmp_path):
        with pytest.raises(ModelError):
            tune(returning(lambda: compiled(network(out=2))), spot_splits, run=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_another_input_shape_than_the_models_is_refused(self):
        class Own(Plain):
            input_shape = (64, 64, 1)

        assert "takes (32, 32, 1), but the input_shape of its HyperModel is (64, 64, 1)" in refused(Own())

    def test_what_build_raises_is_one_line(self):
        def broken(hp):
            raise RuntimeError("no such layer")

        assert "cannot be built: RuntimeError: no such layer" in refused(broken, TuningError)

    def test_a_layer_that_has_to_be_imported_is_allowed_with_a_word(self, caplog):
        recognized(returning(lambda: compiled(network(before=[Doubled()]))), SearchSettings())
        assert "Doubled: plain Keras and the commands cannot load it" in caplog.text

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (OwnFit(), "overrides `fit`, which `tune` does not call"),
            (Plain, "pass Plain(...)"),
            (network(), "TransferHyperModel(network)"),
            ("resnet50", "Received str"),
        ],
        ids=["fit", "class", "model", "text"],
    )
    def test_what_is_no_hypermodel_says_so(self, wrong, said):
        assert said in refused(wrong)

    def test_stages_of_a_nested_model_are_refused_before_the_search(self):
        said = refused(nested, fine_tune=(Stage("stage1"),))
        assert "holds the nested model tiny" in said
        assert "TransferHyperModel(tiny)" in said

    def test_a_head_that_is_not_the_full_models_is_refused(self):
        hypermodel = OtherHead(tiny_backbone(), input_shape=SHAPE)
        assert "other probabilities than the model of assemble" in refused(hypermodel)

    def test_a_frozen_part_that_augments_is_refused(self):
        class Own(Plain):
            input_shape = SHAPE

            def feature_extractor(self):
                inputs = keras.Input(SHAPE)
                return keras.Model(inputs, keras.layers.Flatten()(keras.layers.RandomFlip(seed=0)(inputs)))

            def build_head(self, hp):
                inputs = keras.Input((SIDE * SIDE,))
                return compiled(keras.Model(inputs, probability(inputs, seed=0)))

            def assemble(self, hp, head):
                body = self.feature_extractor()
                return keras.Model(body.inputs, head(body.outputs[0]))

        assert "holds RandomFlip" in refused(Own())

    def test_ours_are_taken_as_they_are(self):
        hypermodel = CompactCNNHyperModel(input_shape=SHAPE)
        assert recognized(hypermodel, SearchSettings()) == (hypermodel, hypermodel.settings)


PAGE = Path(__file__).resolve().parent.parent / "docs" / "own-models.md"


def test_the_python_of_the_page_runs(phantom_folder, in_tmp, monkeypatch):
    """All blocks one after the other, with fewer trials."""
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(in_tmp / "cache"))
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    program = "\n".join(blocks)
    calls = program.count("pk.tune(")
    assert program.count("max_trials=10, epochs=10") == calls == 5
    (in_tmp / "chest_xray").symlink_to(phantom_folder, target_is_directory=True)
    typed = {"__name__": "own_models"}
    exec(program.replace("max_trials=10, epochs=10", "max_trials=1, epochs=1, views=1"), typed)
    runs = sorted(path.name.rpartition("-")[0] for path in (in_tmp / "tuner_runs").iterdir())
    assert runs == ["build", "mine", "mine", "mine", "my-network"]
    assert len(stored_features()) == 1  # both heads are searched on the same
