"""Stages, cuts and identities are found by structure, in any network."""

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras.core.errors import ModelError, SettingsError
from pneumokeras.explain.gradcam import grad_cam
from pneumokeras.models import backbones
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.parts import cut, fingerprint, stage_ends, trainable_layers
from pneumokeras.models.saving import description_of, load_model, own_name, save_model

SIDE = 64
RADIOGRAPHS = np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE, 1)).astype(np.float32)

# What the networks' authors call the ends of their stages; the last is the last convolution's map.
STAGE_ENDS = {
    "resnet50": (
        "conv1_relu",
        "conv2_block3_out",
        "conv3_block4_out",
        "conv4_block6_out",
        "conv5_block3_out",
    ),
    "resnet50v2": ("conv1_conv", "conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "post_relu"),
    "efficientnetb0": ("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "top_activation"),
    "densenet121": ("conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"),
    "mobilenetv3small": (
        "backbone_activation_1",
        "expanded_conv_project_bn",
        "expanded_conv_2_add",
        "expanded_conv_7_add",
        "backbone_activation_18",
    ),
    "resnet18": ("relu", "layer1.1.out", "layer2.1.out", "layer3.1.out", "layer4.1.out"),
    "efficientnetlite0": ("blocks.0.bn2", "blocks.2.add", "blocks.4.add", "blocks.10.add", "head_relu"),
    "efficientnetlite1": ("blocks.0.bn2", "blocks.3.add", "blocks.6.add", "blocks.14.add", "head_relu"),
    "efficientnetlite2": ("blocks.0.bn2", "blocks.3.add", "blocks.6.add", "blocks.14.add", "head_relu"),
}


def built(name, **options):
    hypermodel = TransferHyperModel(name, weights="none", input_shape=(SIDE, SIDE, 1), **options)
    hypermodel.calibrate(RADIOGRAPHS)
    return hypermodel.build(keras_tuner.HyperParameters())


LARGE = ("resnet50v2", "densenet121", "efficientnetlite1", "efficientnetlite2")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in backbones.BACKBONES
    ],
)
def model(request):
    return built(request.param)


@pytest.fixture(scope="module")
def efficientnet():
    return built("efficientnetb0")


def test_every_backbone_of_the_table_has_its_stages(model):
    assert stage_ends(model) == STAGE_ENDS[own_name(model)]


@pytest.mark.parametrize("side", [32, 48, 75, 100])
def test_small_and_odd_sizes_have_the_same_stages(side):
    hypermodel = TransferHyperModel("mobilenetv3small", weights="none", input_shape=(side, side, 1))
    assert stage_ends(hypermodel.frozen_backbone()) == STAGE_ENDS["mobilenetv3small"]


@pytest.mark.parametrize("what", ["head", "stage5", "stage4", "top 20", "all"])
def test_the_parts_together_are_the_model(model, what):
    parts = cut(model, what)
    assert not parts.lower.trainable_weights
    np.testing.assert_allclose(parts.upper(parts.lower(RADIOGRAPHS)), model(RADIOGRAPHS), atol=1e-6)


def test_a_stage_trains_what_lies_above_the_one_before(efficientnet):
    names = trainable_layers(efficientnet, "stage5")
    assert {"block6a_expand_conv", "block7a_project_conv", "top_conv", "hidden", "logit"} <= names
    assert not {name for name in names if name.startswith(("block5", "stem"))}
    assert trainable_layers(efficientnet, "head") == {"features", "hidden", "dropout", "logit", "probability"}
    assert len(trainable_layers(efficientnet, "top 3")) == 3 + 5


@pytest.mark.parametrize("what", ["stage6", "stage0", "top 0", "top 9999", "conv5", ""])
def test_a_part_that_is_not_there_is_refused(efficientnet, what):
    with pytest.raises(ModelError, match=r"Expected head, stage1 to stage5, top 1"):
        cut(efficientnet, what)


def test_dropout_before_the_first_weights_belongs_to_the_trained_part():
    model = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
    parts = cut(model, "head")
    assert parts.lower.output_shape == (None, *model.get_layer("features").output.shape[1:])
    assert parts.upper.get_layer("dropout").rate == model.get_layer("dropout").rate > 0


@pytest.mark.parametrize(("name", "stages"), [("VGG16", 5), ("MobileNetV2", 5), ("Xception", 5)])
def test_further_networks_have_their_stages(name, stages):
    network = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(96, 96, 3))
    assert len(stage_ends(network)) == stages
    assert stage_ends(network)[-1] == network.layers[-1].name


def test_a_nested_model_is_refused():
    inputs = keras.Input((SIDE, SIDE, 1))
    nested = keras.Sequential([keras.Input((SIDE, SIDE, 1)), keras.layers.Conv2D(2, 3)])
    pooled = keras.layers.GlobalAveragePooling2D()(nested(inputs))
    with pytest.raises(ModelError, match=rf"TransferHyperModel\({nested.name}\)"):
        cut(keras.Model(inputs, keras.layers.Dense(1)(pooled)), "head")


def test_a_model_of_any_size_has_no_stages():
    inputs = keras.Input((None, None, 1))
    with pytest.raises(ModelError, match="fixed size"):
        stage_ends(keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)))


def test_batchnorm_is_never_trained(efficientnet):
    for layer in cut(efficientnet, "all").upper.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert not layer.trainable_weights


def test_drop_connect_comes_back_where_its_stage_is_trained(efficientnet):
    parts = cut(efficientnet, "stage5")
    rates = {
        layer.name: layer.rate for layer in parts.upper.layers if isinstance(layer, keras.layers.Dropout)
    }
    assert rates.pop("dropout") == efficientnet.get_layer("dropout").rate
    assert {name: round(rate, 4) for name, rate in rates.items()} == {
        "block6b_drop": 0.15,
        "block6c_drop": 0.1625,
        "block6d_drop": 0.175,
    }
    assert all(layer.rate == 0 for layer in parts.lower.layers if isinstance(layer, keras.layers.Dropout))
    assert efficientnet.get_layer("block6b_drop").rate == 0


def test_a_reloaded_model_remembers_its_drop_connect(efficientnet, tmp_path):
    save_model(efficientnet, tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert description_of(again).frozen_dropout == description_of(efficientnet).frozen_dropout
    assert cut(again, "stage5").upper.get_layer("block6b_drop").rate == pytest.approx(0.15)


def test_trained_weights_go_back_into_the_model():
    model = built("mobilenetv3small")
    parts = cut(model, "stage5")
    for variable in parts.upper.trainable_variables:
        variable.assign(variable + 0.01)
    parts.write_back(model)
    np.testing.assert_allclose(parts.upper(parts.lower(RADIOGRAPHS)), model(RADIOGRAPHS), atol=1e-6)


def test_a_small_network_is_cut_like_a_backbone():
    model = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
    assert len(stage_ends(model)) == 3
    parts = cut(model, "stage3")
    assert parts.lower.output_shape[1:3] == (16, 16)
    assert model.trainable_weights


def test_a_network_without_maps_has_no_stages():
    inputs = keras.Input((4,))
    with pytest.raises(ModelError, match="no feature map"):
        stage_ends(keras.Model(inputs, keras.layers.Dense(1)(inputs)))


class TestFingerprint:
    def test_a_network_built_again_has_the_same(self, efficientnet):
        assert fingerprint(cut(efficientnet, "head").lower) == fingerprint(
            cut(built("efficientnetb0"), "head").lower
        )

    def test_it_survives_a_file(self, efficientnet, tmp_path):
        save_model(efficientnet, tmp_path / "model.keras")
        again = load_model(tmp_path / "model.keras")
        assert fingerprint(cut(again, "head").lower) == fingerprint(cut(efficientnet, "head").lower)

    def test_a_layers_name_does_not_hide_what_it_does(self):
        def network(kind, name):
            inputs = keras.Input((8, 8, 1))
            return keras.Model(inputs, keras.layers.Activation(kind, name=name)(inputs))

        assert fingerprint(network("relu", "relu")) != fingerprint(network("tanh", "tanh"))
        assert fingerprint(network("relu", "relu")) == fingerprint(network("relu", "another"))

    def test_the_precision_of_a_layer_changes_it(self):
        def network(policy):
            inputs = keras.Input((8, 8, 1))
            return keras.Model(
                inputs, keras.layers.Conv2D(1, 3, kernel_initializer="ones", dtype=policy)(inputs)
            )

        assert fingerprint(network("float32")) != fingerprint(network("mixed_bfloat16"))

    def test_a_weight_a_layer_or_a_link_changes_it(self):
        def network(size=3, residual=True, weight=1.0):
            inputs = keras.Input((8, 8, 1))
            conv = keras.layers.Conv2D(1, size, padding="same", kernel_initializer="ones")
            maps = conv(inputs)
            conv.set_weights([array * weight for array in conv.get_weights()])
            return keras.Model(inputs, keras.layers.Add()([maps, inputs if residual else maps]))

        changed = [network(), network(size=1), network(residual=False), network(weight=0.5)]
        assert len({fingerprint(model) for model in changed}) == 4


class TestOwnBackbone:
    def nested(self):
        keras.utils.set_random_seed(0)
        inner = keras.Sequential(
            [
                keras.Input((SIDE, SIDE, 1)),
                keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="hidden"),
                keras.layers.Dropout(0.3, name="inner_dropout"),
            ],
            name="inner",
        )
        outer = [
            keras.Input((SIDE, SIDE, 1)),
            keras.layers.Rescaling(1 / 255),
            inner,
            keras.layers.Conv2D(6, 3),
        ]
        return keras.Sequential(outer, name="my_network")

    def test_any_network_becomes_a_hypermodel_with_one_call(self, tmp_path):
        network = self.nested()
        model = TransferHyperModel(network, input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
        pooled = keras.Model(model.input, model.get_layer("features").output)(RADIOGRAPHS)
        np.testing.assert_allclose(pooled, network(RADIOGRAPHS).numpy().mean(axis=(1, 2)), atol=1e-5)
        assert not any(isinstance(layer, keras.Model) for layer in model.layers)
        assert description_of(model).frozen_dropout == {"backbone_inner_inner_dropout": 0.3}
        save_model(model, tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(again(RADIOGRAPHS), model(RADIOGRAPHS), atol=1e-6)
        assert grad_cam(again, RADIOGRAPHS[:2]).shape == (2, SIDE, SIDE)

    def test_its_own_layers_are_left_alone(self):
        network = self.nested()
        TransferHyperModel(network, input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
        assert all(layer.trainable for layer in network.layers)
        assert network.get_layer("inner").get_layer("inner_dropout").rate == 0.3

    def test_its_weights_and_their_fingerprint_are_taken_at_one_time(self):
        network = keras.Sequential([keras.Input((SIDE, SIDE, 1)), keras.layers.Conv2D(4, 3, strides=2)])
        hypermodel = TransferHyperModel(network, input_shape=(SIDE, SIDE, 1))
        before, settings = hypermodel.frozen_backbone().get_weights(), hypermodel.settings
        network.set_weights([array + 1 for array in before])
        assert hypermodel.settings == settings
        for kept, array in zip(hypermodel.frozen_backbone().get_weights(), before, strict=True):
            np.testing.assert_array_equal(kept, array)

    def test_its_weights_tell_one_search_from_another(self):
        network = self.nested()
        options = {"input_shape": (SIDE, SIDE, 1)}
        first = TransferHyperModel(network, **options).settings
        assert TransferHyperModel(self.nested(), **options).settings == first
        network.set_weights([array + 1 for array in network.get_weights()])
        assert TransferHyperModel(network, **options).settings != first

    def test_gray_is_repeated_for_a_network_of_color_and_enlarged_to_its_size(self):
        inputs = keras.Input((96, 96, 3))
        network = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
        body = TransferHyperModel(network, input_shape=(SIDE, SIDE, 1)).frozen_backbone()
        assert body.input_shape == (None, SIDE, SIDE, 1)
        assert body.output_shape == (None, 94, 94, 2)

    def test_a_network_of_any_size_takes_the_one_asked_for(self):
        inputs = keras.Input((None, None, 3))
        network = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
        body = TransferHyperModel(network, input_shape=(SIDE, SIDE, 1)).frozen_backbone()
        assert body.output_shape == (None, SIDE - 2, SIDE - 2, 2)

    def test_a_network_with_a_head_is_refused(self):
        inputs = keras.Input((SIDE, SIDE, 1))
        network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
        with pytest.raises(ModelError, match="leave its pooling and head out"):
            TransferHyperModel(network, input_shape=(SIDE, SIDE, 1))

    def test_layers_that_plain_keras_cannot_load_are_refused(self):
        inputs = keras.Input((SIDE, SIDE, 1))
        network = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
        with pytest.raises(ModelError, match="plain Keras cannot load"):
            TransferHyperModel(network, input_shape=(SIDE, SIDE, 1))

    def test_nested_blocks_may_have_layers_of_equal_names(self):
        def block(name):
            layers = [keras.Input((None, None, 4)), keras.layers.Conv2D(4, 3, name="conv")]
            return keras.Sequential(layers, name=name)

        inputs = keras.Input((SIDE, SIDE, 1))
        maps = block("two")(block("one")(keras.layers.Conv2D(4, 3)(inputs)))
        network = keras.Model(inputs, maps)
        body = TransferHyperModel(network, input_shape=(SIDE, SIDE, 1)).frozen_backbone()
        np.testing.assert_allclose(body(RADIOGRAPHS), network(RADIOGRAPHS), atol=1e-5)

    @pytest.mark.parametrize("layer", [keras.layers.RandomFlip, keras.layers.GaussianNoise])
    def test_layers_that_augment_are_refused(self, layer):
        inputs = keras.Input((SIDE, SIDE, 1))
        options = (0.5,) if layer is keras.layers.GaussianNoise else ()
        network = keras.Model(inputs, layer(*options)(inputs))
        with pytest.raises(ModelError, match="acts in training"):
            TransferHyperModel(network, input_shape=(SIDE, SIDE, 1))

    def test_a_python_function_as_activation_is_refused(self):
        inputs = keras.Input((SIDE, SIDE, 1))
        network = keras.Model(inputs, keras.layers.Conv2D(1, 3, activation=lambda x: x)(inputs))
        with pytest.raises(ModelError, match="plain Keras cannot load"):
            TransferHyperModel(network, input_shape=(SIDE, SIDE, 1))

    def test_color_is_refused_by_a_network_of_gray(self):
        with pytest.raises(SettingsError, match="gray images"):
            TransferHyperModel(self.nested(), input_shape=(SIDE, SIDE, 3)).frozen_backbone()

    def test_a_subclassed_model_is_refused(self):
        class Subclassed(keras.Model):
            def call(self, inputs):
                return inputs

        with pytest.raises(ModelError, match="functional or Sequential"):
            TransferHyperModel(Subclassed(), input_shape=(SIDE, SIDE, 1))
