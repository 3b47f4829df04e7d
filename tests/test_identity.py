"""What decides an outcome is in its key, or it is not found again: no run is taken for another."""

import keras
import numpy as np
import pytest

from pneumokeras.core.errors import TuningError
from pneumokeras.data.augmentation import RadiographDataGenerator, augmentation_settings, is_identified
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.models.head import probability
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.parts import fingerprint
from pneumokeras.training.identity import builds_its_head, recognized
from pneumokeras.training.settings import SearchSettings
from pneumokeras.training.tune import tune


def tiny_backbone():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 1))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(4, 3, strides=2, activation="relu")(scaled), name="tiny")


def identity_of(hypermodel):
    """What a run records of a HyperModel besides its settings."""
    _, recorded = recognized(hypermodel, SearchSettings())
    return {name: value for name, value in recorded.items() if name not in hypermodel.settings}


def transfer(kind=TransferHyperModel, **options):
    return kind(tiny_backbone(), input_shape=(32, 32, 1), units=(8, 16, 8), **options)


class Inverted(RadiographDataGenerator):
    """Somebody's generator, whose state is a function."""

    def __init__(self, change):
        super().__init__()
        self.change = change


class WideHead(TransferHyperModel):
    """Another head, of layers without names."""

    def head(self, hp, features):
        hidden = keras.layers.Dense(hp.Int("wide", 4, 8, 4), activation="relu")(features)
        return probability(keras.layers.Dense(4)(hidden))


class OwnBuild(TransferHyperModel):
    """Another way to build, which stored features know nothing of."""

    def build(self, hp):
        model = super().build(hp)
        model.compile(keras.optimizers.SGD(hp.Float("sgd_rate", 1e-3, 1e-1)), "binary_crossentropy")
        return model


class OneConvolution(CompactCNNHyperModel):
    """A network of one's own behind the settings of ours."""

    filters = 4

    def build(self, hp):
        inputs = keras.Input(self.input_shape)
        maps = keras.layers.Conv2D(self.filters, 3, strides=4)(inputs)
        model = keras.Model(inputs, probability(keras.layers.GlobalAveragePooling2D()(maps)))
        model.compile("adam", "binary_crossentropy")
        return model


class TestGenerators:
    @pytest.mark.parametrize("kind", [np.int64, np.float32, np.int8, int, float])
    def test_a_numpy_number_decides_the_key_as_its_python_twin_does(self, kind):
        settings = augmentation_settings(RadiographDataGenerator(rotation_range=kind(30)))
        assert settings["rotation_range"] == 30
        assert type(settings["rotation_range"]) in (int, float)

    def test_views_of_other_numpy_numbers_have_other_keys(self, spot_splits):
        loaders = [
            RadiographLoader(
                spot_splits.train,
                32,
                generator=RadiographDataGenerator(rotation_range=np.int64(degrees)),
                views=2,
            )
            for degrees in (0, 30)
        ]
        first, second = (loader.view_key(0, 1) for loader in loaders)
        assert first != second

    def test_a_function_in_a_generator_is_no_key(self):
        generator = Inverted(lambda image: 255 - image)
        assert not is_identified(generator)
        assert augmentation_settings(generator)["change"] != augmentation_settings(generator)["change"]

    def test_a_method_replaced_on_one_instance_is_no_key(self, spot_splits):
        generator = RadiographDataGenerator.radiographs()
        generator.apply_transform = lambda image, parameters: 0 * image
        assert not is_identified(generator)
        assert not RadiographLoader(spot_splits.train, 32, generator=generator, views=2).storable

    def test_runs_of_generators_with_other_functions_lie_in_other_folders(
        self, spot_splits, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        runs = {
            tune(
                OneConvolution(input_shape=(32, 32, 1)),
                spot_splits,
                max_trials=1,
                epochs=1,
                generator=Inverted(change),
            ).run
            for change in (lambda image: image, lambda image: 255 - image)
        }
        assert len(runs) == 2


class Constant(RadiographDataGenerator):
    """An augmentation that shows one gray level."""

    level = 3

    def apply_transform(self, x, transform_parameters):
        return 0 * x + self.level


class TestCode:
    """What was edited since is not found again: of code, no config says what it does."""

    def recorded(self, hypermodel):
        return recognized(hypermodel, SearchSettings())[1]

    def test_an_edited_branch_that_is_not_the_default(self):
        def build_with(units):
            def build(hp):
                inputs = keras.Input((32, 32, 1))
                tensor = keras.layers.Flatten()(inputs)
                if hp.Boolean("deep", default=False):
                    tensor = keras.layers.Dense(units)(tensor)
                model = keras.Model(inputs, probability(tensor))
                model.compile("adam", "binary_crossentropy")
                return model

            return build

        one, again, other = (self.recorded(build_with(units)) for units in (32, 32, 64))
        assert one == again
        assert one["graph"] == other["graph"]
        assert one != other

    def test_an_edited_method_of_a_generator(self, monkeypatch):
        before = augmentation_settings(Constant())
        assert augmentation_settings(Constant()) == before
        monkeypatch.setattr(Constant, "level", 200)
        assert augmentation_settings(Constant()) != before

    def test_a_method_replaced_on_one_hypermodel_of_ours(self):
        ours, replaced = CompactCNNHyperModel(), CompactCNNHyperModel()
        replaced.build = OneConvolution(input_shape=(64, 64, 1)).build
        assert "code" not in self.recorded(ours)
        assert "code" in self.recorded(replaced)

    @pytest.mark.parametrize("nested", [False, True])
    def test_an_edited_layer_of_a_network_has_another_fingerprint(self, nested):
        def network(factor):
            class Scale(keras.layers.Layer):
                def call(self, inputs):
                    return inputs * factor

            inputs = keras.Input((8, 8, 1), name="film")
            layer = Scale(name="scale")
            if nested:
                layer = keras.Sequential([inputs, layer], name="nested")
            return keras.Model(inputs, layer(inputs))

        assert fingerprint(network(2)) == fingerprint(network(2)) != fingerprint(network(3))


class TestHyperModels:
    def test_ours_are_told_apart_by_their_settings_alone(self):
        assert identity_of(CompactCNNHyperModel()) == {}

    def test_a_subclass_has_its_class_and_its_graph(self):
        first, again = identity_of(transfer(WideHead)), identity_of(transfer(WideHead))
        assert first == again
        assert first["hypermodel"].endswith("test_identity.WideHead")

    def test_an_edited_network_is_another(self, monkeypatch):
        hypermodel = OneConvolution(input_shape=(32, 32, 1))
        before = identity_of(hypermodel)
        monkeypatch.setattr(OneConvolution, "filters", 8)
        assert identity_of(hypermodel)["graph"] != before["graph"]

    def test_another_optimizer_is_another(self):
        assert identity_of(transfer(OwnBuild))["graph"] != identity_of(transfer(WideHead))["graph"]

    def test_one_that_cannot_be_built_says_so(self, monkeypatch):
        monkeypatch.setattr(OneConvolution, "filters", "many")
        with pytest.raises(TuningError, match="cannot be built"):
            identity_of(OneConvolution(input_shape=(32, 32, 1)))

    def test_a_subclass_does_not_get_the_run_of_its_parent(self, spot_splits, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        options = {"max_trials": 1, "epochs": 1, "views": 1}
        parent = tune(transfer(), spot_splits, **options)
        child = tune(transfer(WideHead), spot_splits, **options)
        assert parent.run != child.run
        assert "wide" in child.best_hyperparameters

    def test_a_head_of_unnamed_layers_is_assembled_in_order(self, spot_splits, tmp_path):
        result = tune(transfer(WideHead), spot_splits, max_trials=2, epochs=1, views=1, run=tmp_path / "run")
        assert [trial.status for trial in result.trials] == ["completed", "completed"]

    def test_a_finished_run_that_is_found_is_named_with_its_date(self, spot_splits, tmp_path, caplog):
        for _ in range(2):
            result = tune(transfer(), spot_splits, max_trials=1, epochs=1, views=1, run=tmp_path / "run")
        (found,) = [record.message for record in caplog.records if "finished run" in record.message]
        assert f"Found the finished run {result.run} of 20" in found

    def test_an_overridden_build_is_what_the_search_tries(self, spot_splits, tmp_path):
        assert builds_its_head(transfer(WideHead))
        assert not builds_its_head(transfer(OwnBuild))
        result = tune(transfer(OwnBuild), spot_splits, max_trials=2, epochs=1, views=1, run=tmp_path / "run")
        rates = {trial.hyperparameters["sgd_rate"] for trial in result.trials}
        assert len(rates) == 2
