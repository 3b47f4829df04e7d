"""The reference systems' networks and heads are those of the documents, and keep the model contract."""

import re
from itertools import pairwise
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from pneumokeras.core.errors import ModelError, SettingsError
from pneumokeras.explain.gradcam import grad_cam
from pneumokeras.models.head import HEADS, compile_classifier, with_one_logit
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.models.reference_cnns import REFERENCE_CNNS, cnn_94, custom_cnn, pneumoniamnist_cnn
from pneumokeras.models.saving import description_of, load_model, own_name, save_model
from pneumokeras.training.fit import fit

IN_PYTORCH = ("customcnn", "cnn-94", "cnn-v2", "pneumoniamnist-cnn")
FEATURES = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)


def radiographs(model, count=4):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def outputs(model, *kinds):
    """The shapes that a model's layers of these kinds give, without the batch."""
    return [layer.output.shape[1:] for layer in model.layers if isinstance(layer, kinds)]


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.fixture(scope="module", params=REFERENCE_CNNS)
def model(request):
    return REFERENCE_CNNS[request.param]()


class TestTheDocuments:
    def test_customcnn(self):
        model = custom_cnn()
        assert trainable(model) == 25_783_873
        assert outputs(model, layers.MaxPooling2D) == [(112, 112, 32), (56, 56, 64), (28, 28, 128)]
        assert outputs(model, layers.Flatten) == [(100_352,)]

    @pytest.mark.parametrize("two_logits", [False, True])
    def test_cnn_94_is_table_i(self, two_logits):
        table = [
            ("Conv2D", (98, 98, 12)),
            ("MaxPooling2D", (49, 49, 12)),
            ("BatchNormalization", (49, 49, 12)),
            ("Conv2D", (47, 47, 18)),
            ("MaxPooling2D", (23, 23, 18)),
            ("Conv2D", (21, 21, 24)),
            ("Flatten", (10_584,)),
            ("Dense", (1000,)),
            ("BatchNormalization", (1000,)),
            ("Dropout", (1000,)),
            ("Dense", (100,)),
            ("Dropout", (100,)),
            ("Dense", (10,)),
            ("Dense", (2 if two_logits else 1,)),
        ]
        assert as_table(REFERENCE_CNNS["cnn-94"](two_logits=two_logits)) == table

    @pytest.mark.parametrize("two_logits", [False, True])
    def test_cnn_v2_is_table_ii(self, two_logits):
        table = [
            ("Conv2D", (96, 96, 12)),
            ("MaxPooling2D", (48, 48, 12)),
            ("BatchNormalization", (48, 48, 12)),
            ("Conv2D", (46, 46, 12)),
            ("Conv2D", (44, 44, 16)),
            ("Conv2D", (42, 42, 12)),
            ("Conv2D", (40, 40, 12)),
            ("Dropout", (40, 40, 12)),
            ("MaxPooling2D", (20, 20, 12)),
            ("Flatten", (4_800,)),
            ("Dense", (1000,)),
            ("BatchNormalization", (1000,)),
            ("Dense", (100,)),
            ("Dropout", (100,)),
            ("Dense", (10,)),
            ("Dense", (2 if two_logits else 1,)),
        ]
        assert as_table(REFERENCE_CNNS["cnn-v2"](two_logits=two_logits)) == table

    @pytest.mark.parametrize("name", ["cnn-94", "cnn-v2"])
    def test_leakyrelu_follows_every_conv_and_dense_layer_but_the_last(self, name):
        followed = {
            layer.name: isinstance(follower, layers.LeakyReLU)
            for layer, follower in pairwise(REFERENCE_CNNS[name]().layers)
            if isinstance(layer, layers.Conv2D | layers.Dense)
        }
        assert not followed.pop("logit")
        assert all(followed.values())

    def test_pneumoniamnist_cnn_is_table_2(self):
        model = pneumoniamnist_cnn()
        assert trainable(model) == 615_521
        rows = [320, 9_248, 18_496, 36_928, 73_856, 147_584, 295_168, 32_896, 129]
        assert [layer.count_params() for layer in model.layers if hasattr(layer, "kernel")] == rows
        pooled = [(14, 14, 32), (7, 7, 64), (3, 3, 128)]
        assert outputs(model, layers.MaxPooling2D) == pooled
        assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == [
            *[0.25] * 3,
            *[0.5] * 2,
        ]


def as_table(model):
    """A network's layers and outputs as a document lists them: without activations and preprocessing."""
    unlisted = layers.InputLayer | layers.Rescaling | layers.LeakyReLU | layers.Activation
    listed = [layer for layer in model.layers if not isinstance(layer, unlisted)]
    return [(type(layer).__name__, layer.output.shape[1:]) for layer in listed]


def test_the_page_on_models_tells_their_parameters():
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    for name, build in REFERENCE_CNNS.items():
        assert re.search(rf"^\| `{name}` \|.*\| {trainable(build()):,}\b", page, flags=re.MULTILINE)


class TestPyTorch:
    @pytest.mark.parametrize("name", IN_PYTORCH)
    def test_its_constants_are_kept(self, name):
        for layer in REFERENCE_CNNS[name]().layers:
            if isinstance(layer, layers.BatchNormalization):
                assert (layer.epsilon, layer.momentum) == (1e-5, 0.9)
            if isinstance(layer, layers.LeakyReLU):
                np.testing.assert_allclose(layer(np.array([-1.0, 2.0])), [-0.01, 2.0], rtol=1e-6)

    @pytest.mark.parametrize("name", IN_PYTORCH)
    def test_kernels_and_biases_begin_as_its_do(self, name):
        for layer in REFERENCE_CNNS[name]().layers:
            if isinstance(layer, layers.Conv2D | layers.Dense):
                kernel, bias = layer.get_weights()
                bound = 1 / np.sqrt(kernel[..., 0].size)
                assert max(np.abs(kernel).max(), np.abs(bias).max()) <= np.float32(bound)
                if kernel.size > 1000:
                    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)
                if bias.size > 100:
                    assert bias.std() == pytest.approx(bound / np.sqrt(3), rel=0.2)


class TestTheContract:
    def test_it_ends_in_logit_and_float32_probability(self, model):
        logit, probability = model.layers[-2:]
        assert (logit.name, logit.units, logit.activation.__name__) == ("logit", 1, "linear")
        assert (probability.name, probability.dtype) == ("probability", "float32")
        assert model.input_shape[-1] == 1

    def test_it_is_saved_loaded_by_plain_keras_and_explained(self, model, tmp_path):
        images = radiographs(model)
        save_model(model, tmp_path / "model.keras")
        plain = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        np.testing.assert_allclose(plain(images), model(images), atol=1e-6)
        assert description_of(load_model(tmp_path / "model.keras")).architecture == own_name(model)
        assert grad_cam(plain, images[:1, ..., 0]).shape == (1, *model.input_shape[1:3])

    @pytest.mark.parametrize("name", [name for name in REFERENCE_CNNS if name != "customcnn"])
    def test_a_seed_decides_the_initial_weights(self, name):
        first, again, other = (REFERENCE_CNNS[name](seed=seed).get_weights() for seed in (1, 1, 2))
        assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
        assert not np.array_equal(first[0], other[0])

    def test_pixels_are_prepared_inside(self):
        black, white = (np.full((1, 224, 224, 1), level) for level in (0, 255))
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        assert_prepared(custom_cnn(), "normalize", black, -mean / std)
        assert_prepared(custom_cnn(), "normalize", white, (1 - mean) / std)
        assert_prepared(pneumoniamnist_cnn(), "rescale", black[:, :28, :28], [-1])
        assert_prepared(pneumoniamnist_cnn(), "rescale", white[:, :28, :28], [1])
        for name, side in {"cnn-94": 100, "cnn-v2": 100, "baseline-cnn": 224}.items():
            assert_prepared(REFERENCE_CNNS[name](), "rescale", white[:, :side, :side], [1])


def assert_prepared(model, layer, image, expected):
    prepared = keras.Model(model.input, model.get_layer(layer).output)(image)
    np.testing.assert_allclose(prepared[0, 0, 0], expected, rtol=1e-5)


class TestTwoLogits:
    def trained(self):
        model = cnn_94(two_logits=True)
        model.compile("adam", "binary_crossentropy")
        model.fit(radiographs(model, 8), np.arange(8) % 2, epochs=2, batch_size=4, verbose=0)
        return model

    def test_their_probability_is_the_softmax(self):
        model = self.trained()
        images = radiographs(model)
        logits = keras.Model(model.input, model.get_layer("logits").output)(images)
        np.testing.assert_allclose(model(images)[:, 0], keras.ops.softmax(logits)[:, 1], atol=1e-6)

    def test_they_are_trained_as_by_softmax_and_cross_entropy(self):
        """The same loss and the same gradient of every weight, the two logits' included."""
        import tensorflow as tf

        model = cnn_94(two_logits=True)
        softmax = keras.Model(model.input, layers.Softmax()(model.get_layer("logits").output))
        images, labels = radiographs(model), np.array([0, 1, 1, 0])

        def gradients(network, loss):
            with tf.GradientTape() as tape:
                value = tf.reduce_mean(loss(labels, network(images, training=False)))
            return [value, *tape.gradient(value, network.trainable_variables)]

        published = gradients(softmax, keras.losses.sparse_categorical_crossentropy)
        ours = gradients(model, lambda y, p: keras.losses.binary_crossentropy(y[:, np.newaxis], p))
        for expected, received in zip(published, ours, strict=True):
            np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-7)

    def test_a_trained_model_becomes_one_with_one_logit_that_says_the_same(self, tmp_path):
        model = self.trained()
        images = radiographs(model)
        reduced = with_one_logit(model)
        assert [layer.name for layer in reduced.layers[-2:]] == ["logit", "probability"]
        np.testing.assert_allclose(reduced(images), model(images), atol=1e-6)
        assert description_of(reduced) == description_of(model)
        save_model(reduced, tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        np.testing.assert_allclose(again(images), model(images), atol=1e-6)

    def test_a_model_without_them_is_refused(self):
        with pytest.raises(ModelError, match="does not have two logits"):
            with_one_logit(pneumoniamnist_cnn())


class TestHeads:
    def layers_of(self, name):
        features = keras.Input((1280,))
        return keras.Model(features, HEADS[name](features, seed=0)).layers[1:]

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("linear", [1]),
            ("dropout-linear", [0.5, 1]),
            ("mlp", [500, 0.3, 100, 0.3, 1]),
            ("mlp-two-logits", [500, 0.3, 100, 0.3, 2]),
            ("normalized", ["norm", 256, 0.5, 1]),
        ],
    )
    def test_each_has_the_units_and_rates_of_its_document(self, name, expected):
        found = []
        for layer in self.layers_of(name):
            if isinstance(layer, layers.Dense):
                found.append(layer.units)
            elif isinstance(layer, layers.Dropout):
                found.append(layer.rate)
            elif isinstance(layer, layers.BatchNormalization):
                found.append(layer.name)
        assert found == expected

    @pytest.mark.parametrize("name", HEADS)
    def test_a_head_trained_alone_says_the_same_on_its_backbone(self, name):
        inputs = keras.Input((32, 32, 1))
        network = keras.Model(inputs, layers.Conv2D(16, 5)(layers.Rescaling(1 / 255)(inputs)))
        hypermodel = TransferHyperModel(network, input_shape=(32, 32, 1), head=name)
        images = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 1))
        hp = keras_tuner.HyperParameters()
        alone, features = hypermodel.build_head(hp), hypermodel.feature_extractor()(images).numpy()
        alone.fit(features, np.arange(8) % 2, epochs=2, verbose=0)
        whole = hypermodel.assemble(hp, alone)
        np.testing.assert_allclose(whole(images), alone(features), atol=1e-5)
        assert hypermodel.settings["head"] == name

    @pytest.mark.parametrize("name", HEADS)
    def test_two_builds_begin_alike(self, name):
        inputs = keras.Input((40,))
        one, other = (keras.Model(inputs, HEADS[name](inputs, seed=3)) for _ in range(2))
        np.testing.assert_array_equal(one(FEATURES), other(FEATURES))

    def test_an_unknown_head_is_refused_at_once(self):
        with pytest.raises(SettingsError, match=r"Unknown head 'deep'\. Expected one of linear"):
            TransferHyperModel("resnet18", head="deep")


@pytest.mark.slow
def test_one_learns_where_there_is_something_to_learn(spot_splits):
    model = compile_classifier(pneumoniamnist_cnn(), learning_rate=1e-3)
    result = fit(model, spot_splits.train, spot_splits.val, epochs=15, batch_size=8, views=1)
    assert max(result.history["val_auc"]) > 0.9
