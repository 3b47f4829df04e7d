"""Backbones, HyperModels and saved models keep the model contract."""

import socket
import subprocess
import sys

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras.core.errors import ModelError, SettingsError
from pneumokeras.explain.gradcam import grad_cam
from pneumokeras.models import backbones
from pneumokeras.models.hypermodels import (
    CompactCNNHyperModel,
    EfficientNetB0HyperModel,
    ResNet50HyperModel,
    TransferHyperModel,
    set_batch_statistics,
)
from pneumokeras.models.parts import fingerprint
from pneumokeras.models.reference_cnns import REFERENCE_CNNS
from pneumokeras.models.registry import COMPACT_CNN, MODELS
from pneumokeras.models.saving import description_of, load_model, save_model
from pneumokeras.models.weights import random_weights, set_weights

SIDE = 32
RADIOGRAPHS = np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE, 1)).astype(np.uint8)
TRANSFER = {"resnet50": ResNet50HyperModel, "efficientnetb0": EfficientNetB0HyperModel}


def hyperparameters():
    return keras_tuner.HyperParameters()


def features_of(model):
    inner = keras.Model(model.input, model.get_layer("features").output)
    return inner(RADIOGRAPHS).numpy()


@pytest.fixture(scope="module", params=TRANSFER)
def transfer(request):
    hypermodel = TRANSFER[request.param](weights="none", input_shape=(SIDE, SIDE, 1))
    hypermodel.calibrate(RADIOGRAPHS)
    return hypermodel


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """A stand-in for Keras' download: a file per network, with weights that are not random's."""

    def get_file(fname, *args, **kwargs):
        path = tmp_path / fname
        if not path.exists():
            builder = "ResNet50" if "resnet50" in fname else "EfficientNetB0"
            network = getattr(keras.applications, builder)(
                include_top=False, weights=None, input_shape=(SIDE, SIDE, 3)
            )
            network.set_weights(random_weights(network, seed=5))
            network.save_weights(tmp_path / "made.weights.h5")
            _as_legacy_h5(network, path)
        return str(path)

    # Keras' networks look the function up in the module that defines it.
    monkeypatch.setattr(sys.modules[keras.utils.get_file.__module__], "get_file", get_file)
    return tmp_path


def _as_legacy_h5(network, path):
    """Write weights as Keras' published no-top files hold them: a group a layer, in order."""
    import h5py

    with h5py.File(path, "w") as file:
        layers = list(network.layers)
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{index}".encode() for index in range(len(layer.weights))]
            group.attrs["weight_names"] = names
            for name, variable in zip(names, layer.weights, strict=True):
                group.create_dataset(name.decode(), data=variable.numpy())


class TestTheGraph:
    def test_it_is_flat(self, transfer):
        model = transfer.build(hyperparameters())
        assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]

    def test_it_ends_in_logit_and_float32_probability(self, transfer):
        logit, probability = transfer.build(hyperparameters()).layers[-2:]
        assert (logit.name, logit.units, logit.activation.__name__) == ("logit", 1, "linear")
        assert (probability.name, probability.dtype) == ("probability", "float32")

    def test_only_the_head_is_trained(self, transfer):
        trained = {
            variable.path.split("/")[0] for variable in transfer.build(hyperparameters()).trainable_variables
        }
        assert trained == {"hidden", "logit"}

    def test_a_frozen_backbone_says_the_same_in_training(self, transfer):
        body = transfer.frozen_backbone()
        batch = RADIOGRAPHS.astype(np.float32)
        np.testing.assert_array_equal(body(batch, training=True), body(batch, training=False))

    def test_two_builds_have_the_same_layer_names(self, transfer):
        first, second = (transfer.build(hyperparameters()) for _ in range(2))
        assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]

    def test_uint8_and_float_pixels_give_the_same(self, transfer):
        model = transfer.build(hyperparameters())
        from_uint8 = model(RADIOGRAPHS).numpy()
        np.testing.assert_allclose(from_uint8, model(RADIOGRAPHS.astype(np.float32)).numpy(), atol=1e-6)

    def test_small_radiographs_are_enlarged_inside(self):
        hypermodel = TransferHyperModel("efficientnetb0", weights="none", input_shape=(28, 28, 1))
        model = hypermodel.build(hyperparameters())
        assert model.input_shape == (None, 28, 28, 1)
        assert model.get_layer("resize").height == 224


class TestPreprocessing:
    def test_resnet50_gets_what_its_weights_expect(self):
        hypermodel = ResNet50HyperModel(weights="none", input_shape=(SIDE, SIDE, 1))
        network = backbones.bare_network(hypermodel.backbone, image_size=(SIDE, SIDE))
        network.set_weights(random_weights(network, seed=0))
        rgb = np.repeat(RADIOGRAPHS, 3, axis=-1).astype(np.float32)
        expected = network(keras.applications.resnet50.preprocess_input(rgb.copy())).numpy()
        received = hypermodel.frozen_backbone()(RADIOGRAPHS).numpy()
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    def test_rgb_input_is_turned_to_bgr_for_resnet50(self):
        hypermodel = ResNet50HyperModel(weights="none", input_shape=(SIDE, SIDE, 3))
        network = backbones.bare_network(hypermodel.backbone, image_size=(SIDE, SIDE))
        network.set_weights(random_weights(network, seed=0))
        rgb = np.random.default_rng(1).uniform(0, 255, (4, SIDE, SIDE, 3)).astype(np.float32)
        expected = network(keras.applications.resnet50.preprocess_input(rgb.copy())).numpy()
        received = hypermodel.frozen_backbone()(rgb).numpy()
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    def test_rescale_divides_by_255(self):
        hypermodel = ResNet50HyperModel(weights="none", input_shape=(SIDE, SIDE, 1), preprocessing="rescale")
        network = backbones.bare_network(hypermodel.backbone, image_size=(SIDE, SIDE))
        network.set_weights(random_weights(network, seed=0))
        expected = network(np.repeat(RADIOGRAPHS, 3, axis=-1) / np.float32(255)).numpy()
        received = hypermodel.frozen_backbone()(RADIOGRAPHS).numpy()
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


class TestWeights:
    @pytest.mark.parametrize("name", TRANSFER)
    def test_a_file_builds_the_same_graph_as_imagenet(self, name, downloads):
        options = {"input_shape": (SIDE, SIDE, 1)}
        from_imagenet = TRANSFER[name](weights="imagenet", **options).frozen_backbone()
        file = next(path for path in downloads.glob("*.h5") if "notop" in path.name)
        from_file = TRANSFER[name](weights=file, **options).frozen_backbone()
        assert len(from_imagenet.layers) == len(from_file.layers)
        for one, other in zip(from_imagenet.layers, from_file.layers, strict=True):
            assert one.get_config() == other.get_config()
            for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(left, right)

    @pytest.mark.parametrize("name", TRANSFER)
    def test_imagenet_predicts_as_keras_own_network_does(self, name, downloads):
        body = TRANSFER[name](weights="imagenet", input_shape=(SIDE, SIDE, 1)).frozen_backbone()
        builder = getattr(keras.applications, backbones.BACKBONES[name].builder)
        original = builder(include_top=False, weights="imagenet", input_shape=(SIDE, SIDE, 3))
        rgb = np.repeat(RADIOGRAPHS, 3, axis=-1).astype(np.float32)
        if name == "resnet50":
            rgb = keras.applications.resnet50.preprocess_input(rgb)
        expected = original(rgb).numpy()
        received = body(RADIOGRAPHS).numpy()
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    def test_offline_imagenet_is_one_error_that_names_both_ways_out(self, monkeypatch):
        def unreachable(*args, **kwargs):
            raise OSError("no network")

        monkeypatch.setattr(socket, "getaddrinfo", unreachable)
        with pytest.raises(ModelError, match=r'`weights="FILE"` .* `weights="none"`') as caught:
            ResNet50HyperModel(input_shape=(SIDE, SIDE, 1)).build(hyperparameters())
        assert "\n" not in str(caught.value)

    def test_a_saved_model_gives_its_backbone_to_another(self, transfer, tmp_path):
        model = transfer.build(hyperparameters())
        save_model(model, tmp_path / "model.keras")
        again = TransferHyperModel(
            transfer.backbone.name, weights=tmp_path / "model.keras", input_shape=(SIDE, SIDE, 1)
        ).build(hyperparameters())
        np.testing.assert_allclose(features_of(again), features_of(model), atol=1e-6)
        assert description_of(again).weights.startswith("file model.keras")

    def test_a_model_with_another_backbone_is_refused(self, tmp_path):
        save_model(CompactCNNHyperModel().build(hyperparameters()), tmp_path / "small.keras")
        with pytest.raises(ModelError, match="holds compact-cnn, not resnet50"):
            ResNet50HyperModel(weights=tmp_path / "small.keras", input_shape=(SIDE, SIDE, 1)).build(
                hyperparameters()
            )

    @pytest.mark.parametrize("suffix", [".h5", ".keras"])
    def test_a_file_that_holds_no_weights_is_one_error(self, suffix, tmp_path):
        path = tmp_path / f"weights{suffix}"
        path.write_text("not weights")
        with pytest.raises(ModelError, match="weights") as caught:
            ResNet50HyperModel(weights=path, input_shape=(SIDE, SIDE, 1)).build(hyperparameters())
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_one_error(self, tmp_path):
        with pytest.raises(ModelError, match="There is no weights file"):
            ResNet50HyperModel(weights=tmp_path / "absent.h5", input_shape=(SIDE, SIDE, 1)).build(
                hyperparameters()
            )

    def test_random_weights_are_the_same_in_every_build_and_said_to_be_random(self):
        first, second = (
            EfficientNetB0HyperModel(weights="none", input_shape=(SIDE, SIDE, 1)) for _ in range(2)
        )
        np.testing.assert_array_equal(
            features_of(first.build(hyperparameters())), features_of(second.build(hyperparameters()))
        )
        assert description_of(first.build(hyperparameters())).weights == "random"

    def test_calibration_makes_random_features_differ_between_radiographs(self, transfer):
        model = transfer.build(hyperparameters())
        features = features_of(model)
        assert description_of(model).weights == "random, calibrated"
        assert 0.01 < features.std(axis=0).mean() < 100


@pytest.fixture(scope="module", params=["compact-cnn", *TRANSFER])
def model(request):
    if request.param == "compact-cnn":
        return CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(hyperparameters())
    return TRANSFER[request.param](weights="none", input_shape=(SIDE, SIDE, 1)).build(hyperparameters())


class TestSavedModels:
    def test_plain_keras_loads_it_and_predicts_the_same(self, model, tmp_path):
        save_model(model, tmp_path / "model.keras")
        plain = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        assert not plain.compiled
        np.testing.assert_allclose(plain(RADIOGRAPHS).numpy(), model(RADIOGRAPHS).numpy(), atol=1e-6)

    def test_a_damaged_file_is_one_error(self, tmp_path):
        path = tmp_path / "model.keras"
        path.write_bytes(b"PK not really")
        with pytest.raises(ModelError, match=r"model\.keras"):
            load_model(path)

    def test_it_loads_where_pneumokeras_is_not_imported(self, model, tmp_path):
        save_model(model, tmp_path / "model.keras")
        code = (
            "import keras, sys; keras.models.load_model(sys.argv[1]); assert 'pneumokeras' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.keras")], check=True, cwd=tmp_path)


@pytest.mark.parametrize(
    "hypermodel",
    [
        CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)),
        pytest.param(
            EfficientNetB0HyperModel(weights="none", input_shape=(SIDE, SIDE, 1)),
            id="efficientnetb0",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ResNet50HyperModel(weights="none", input_shape=(SIDE, SIDE, 1)),
            id="resnet50",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_it_works_in_a_plain_random_search(hypermodel, phantom_folder, tmp_path):
    """As a notebook user writes it: no pneumokeras.tune, no callbacks of ours."""
    import pneumokeras as pk

    splits = pk.load_splits(phantom_folder)
    train = pk.RadiographLoader(
        splits.train, SIDE, batch_size=8, generator=pk.RadiographDataGenerator.radiographs()
    )
    val = pk.RadiographLoader(splits.val, SIDE)
    tuner = keras_tuner.RandomSearch(
        hypermodel, objective="val_accuracy", max_trials=2, directory=tmp_path, project_name="plain", seed=1
    )
    tuner.search(train, validation_data=val, epochs=1, class_weight=splits.train.class_weights(), verbose=0)
    best = tuner.get_best_models(1)[0]
    assert best.predict(val, verbose=0).shape == (len(splits.val), 1)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"backbone": "resnet51"}, "Unknown backbone"),
        ({"backbone": "resnet50", "preprocessing": "none"}, "Unknown preprocessing"),
        ({"backbone": "resnet50", "input_shape": (224, 224)}, "input_shape"),
        ({"backbone": "resnet50", "input_shape": (224, 224, 2)}, "input_shape"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(options, what):
    with pytest.raises(SettingsError, match=what):
        TransferHyperModel(**options)


def test_batch_statistics_are_those_of_the_mean_batch_and_nothing_else_changes():
    inputs, norm = keras.Input((8, 8, 3)), keras.layers.BatchNormalization(momentum=0.9)
    network = keras.Model(inputs, norm(inputs))
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    set_batch_statistics(network, images)
    means, variances = zip(
        *((batch.mean(), batch.var()) for batch in (images[:32], images[32:])), strict=True
    )
    np.testing.assert_allclose(norm.moving_mean, [np.mean(means)] * 3, rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, [np.mean(variances)] * 3, rtol=1e-5)
    np.testing.assert_array_equal(norm.gamma, np.ones(3))
    assert (norm.momentum, norm.trainable) == (0.9, False)


def test_calibrating_again_forgets_the_first_radiographs():
    dark, bright = RADIOGRAPHS // 4, 255 - RADIOGRAPHS // 4
    options = {"weights": "none", "input_shape": (SIDE, SIDE, 1)}
    used, fresh = (TransferHyperModel("mobilenetv3small", **options) for _ in range(2))
    used.calibrate(dark)
    used.calibrate(bright)
    fresh.calibrate(bright)
    assert fingerprint(used.feature_extractor()) == fingerprint(fresh.feature_extractor())


def test_random_weights_stay_random_through_a_file(transfer, tmp_path):
    save_model(transfer.build(hyperparameters()), tmp_path / "model.keras")
    again = TransferHyperModel(
        transfer.backbone.name, weights=tmp_path / "model.keras", input_shape=(SIDE, SIDE, 1)
    )
    description = description_of(again.build(hyperparameters()))
    assert "random, calibrated" in description.weights
    assert description.began_random


def test_another_file_of_the_same_name_is_another_setting(tmp_path):
    def settings():
        return TransferHyperModel("resnet50", weights=tmp_path / "w.h5", input_shape=(SIDE, SIDE, 1)).settings

    (tmp_path / "w.h5").write_bytes(b"one")
    first = settings()
    (tmp_path / "w.h5").write_bytes(b"other")
    assert settings() != first


class TestRegistry:
    def test_it_lists_every_model_there_is(self):
        kinds = {
            kind: [name for name, model in MODELS.items() if model.kind == kind]
            for kind in ("backbone", "compact", "reference")
        }
        assert kinds == {
            "backbone": list(backbones.BACKBONES),
            "compact": [COMPACT_CNN],
            "reference": list(REFERENCE_CNNS),
        }

    def test_its_sizes_are_the_models_own(self):
        sizes = {name: backbone.image_size for name, backbone in backbones.BACKBONES.items()}
        sizes |= {name: network().input_shape[1] for name, network in REFERENCE_CNNS.items()}
        sizes[COMPACT_CNN] = CompactCNNHyperModel().input_shape[0]
        assert {name: model.image_size for name, model in MODELS.items()} == sizes

    def test_it_needs_no_tensorflow(self):
        code = (
            "import sys; import pneumokeras.models.registry; "
            "assert not {'tensorflow', 'keras'} & sys.modules.keys()"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


LARGE = ("resnet50v2", "densenet121", "efficientnetb0", "efficientnetlite1", "efficientnetlite2")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in backbones.BACKBONES],
)
def test_every_backbone_is_prepared_saved_and_explained(name, tmp_path):
    module = {
        "resnet50": keras.applications.resnet50,
        "resnet50v2": keras.applications.resnet_v2,
        "densenet121": keras.applications.densenet,
        "mobilenetv3small": keras.applications.mobilenet_v3,
    }.get(name)
    hypermodel = TransferHyperModel(name, weights="none", input_shape=(SIDE, SIDE, 1))
    if module is not None:  # EfficientNetB0's further division is held against Keras' own above
        network = backbones.bare_network(hypermodel.backbone, image_size=(SIDE, SIDE))
        set_weights(network, random_weights(network, seed=0))
        rgb = np.repeat(RADIOGRAPHS, 3, axis=-1).astype(np.float32)
        expected = network(module.preprocess_input(rgb)).numpy()
        received = hypermodel.frozen_backbone()(RADIOGRAPHS).numpy()
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    hypermodel.calibrate(RADIOGRAPHS)
    model = hypermodel.build(hyperparameters())
    save_model(model, tmp_path / "model.keras")
    plain = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(plain(RADIOGRAPHS), model(RADIOGRAPHS), atol=1e-6)
    assert grad_cam(plain, RADIOGRAPHS).max() == 1


class TestRangesOfTheSearch:
    def head_of(self, **options):
        options |= {"weights": "none", "input_shape": (SIDE, SIDE, 1)}
        hp = hyperparameters()
        return TransferHyperModel("mobilenetv3small", **options).build_head(hp), hp.values

    def test_a_search_without_penalty_says_so(self):
        head, values = self.head_of(l2=(0, 0))
        assert values["l2"] == 0.0
        assert head.get_layer("hidden").kernel_regularizer is None

    def test_a_penalty_from_the_search_is_the_layers(self):
        head, values = self.head_of(l2=(1e-3, 1e-3))
        assert values["l2"] == pytest.approx(1e-3)
        assert head.get_layer("hidden").kernel_regularizer.l2 == pytest.approx(1e-3)

    @pytest.mark.parametrize("name", ["l2", "learning_rate"])
    @pytest.mark.parametrize("bounds", [(0, 1e-2), (-1, 1), (1e-2, 1e-3), (1e-3,), (1e-3, float("nan"))])
    def test_what_no_logarithm_draws_is_refused(self, name, bounds):
        with pytest.raises(SettingsError, match=f"Expected `{name}` as .*above 0") as raised:
            self.head_of(**{name: bounds})
        assert raised.value.parameter == name


def test_a_weights_file_that_changes_is_not_taken_for_the_one_that_was_recorded(monkeypatch):
    contents = ["file a.h5 (1)", "file a.h5 (2)"]
    monkeypatch.setattr("pneumokeras.models.hypermodels.identify_weights", lambda weights: contents[0])
    hypermodel = TransferHyperModel("mobilenetv3small", weights="a.h5", input_shape=(SIDE, SIDE, 1))
    assert hypermodel.settings["weights"] == contents.pop(0)
    assert hypermodel.settings["weights"] == "file a.h5 (1)"
    with pytest.raises(ModelError, match="changed since"):
        hypermodel.frozen_backbone()
