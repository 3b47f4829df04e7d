"""Heatmaps point at what speaks for a class, for our models and for other people's."""

import cv2
import keras
import keras_tuner
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from pneumokeras.cli import main
from pneumokeras.core.errors import DataError, ModelError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.explain import panels as panels_module
from pneumokeras.explain.gradcam import grad_cam, overlay
from pneumokeras.explain.panels import Panels, explain, write_heatmaps
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.saving import load_model, save_model

SIDE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE)).astype(np.uint8)


def spot_detector():
    """A classifier that sees bright pixels and nothing else: where it looks is known."""
    inputs = keras.Input((SIDE, SIDE, 1))
    bright = layers.Conv2D(1, 1, activation="relu", name="bright")(inputs)
    logit = layers.Dense(1, name="logit")(layers.GlobalAveragePooling2D()(bright))
    model = keras.Model(inputs, layers.Activation("sigmoid")(logit))
    model.get_layer("bright").set_weights([np.ones((1, 1, 1, 1)), np.array([-200.0])])
    model.get_layer("logit").set_weights([np.ones((1, 1)), np.array([-1.0])])
    return model


def built(name):
    keras.utils.set_random_seed(1)  # some initial weights speak for no image at all
    if name == "compact-cnn":
        return CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
    return TransferHyperModel(name, weights="none", input_shape=(SIDE, SIDE, 1)).build(
        keras_tuner.HyperParameters()
    )


def test_the_heatmap_lies_where_the_evidence_is():
    image = np.full((1, SIDE, SIDE), 100, np.uint8)
    image[0, 4:10, 20:28] = 255
    heatmap = grad_cam(spot_detector(), image)[0]
    assert heatmap[4:10, 20:28].min() == 1
    assert heatmap[12:, :18].max() == 0


def test_evidence_for_one_class_is_none_for_the_other():
    image = np.full((1, SIDE, SIDE), 255, np.uint8)
    assert grad_cam(spot_detector(), image, target=1).max() == 1
    assert grad_cam(spot_detector(), image, target=0).max() == 0


def test_an_empty_map_stays_zeros():
    dark = np.zeros((2, SIDE, SIDE), np.uint8)
    np.testing.assert_array_equal(grad_cam(spot_detector(), dark), np.zeros((2, SIDE, SIDE)))


def test_a_sure_call_is_explained_as_well_as_an_unsure_one():
    """The sigmoid of a large logit has no gradient left; the logit has."""
    model = spot_detector()
    model.get_layer("logit").set_weights([np.ones((1, 1)) * 100, np.array([0.0])])
    assert float(model(np.full((1, SIDE, SIDE, 1), 255.0))[0, 0]) == 1.0
    assert grad_cam(model, np.full((1, SIDE, SIDE), 255, np.uint8)).max() == 1


@pytest.mark.parametrize(
    "name",
    [
        "compact-cnn",
        "mobilenetv3small",
        pytest.param("resnet50", marks=pytest.mark.slow),
        pytest.param("efficientnetb0", marks=pytest.mark.slow),
    ],
)
def test_any_model_of_ours_before_and_after_saving(name, tmp_path):
    model = built(name)
    heatmaps = grad_cam(model, IMAGES)
    assert heatmaps.shape == (6, SIDE, SIDE)
    assert heatmaps.dtype == np.float32
    assert set(heatmaps.max(axis=(1, 2))) <= {0.0, 1.0}
    assert heatmaps.min() >= 0
    save_model(model, tmp_path / "model.keras")
    for loaded in (load_model(tmp_path / "model.keras"), keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(grad_cam(loaded, IMAGES), heatmaps, atol=1e-5)


def test_batches_give_what_single_images_give():
    model = built("compact-cnn")
    single = np.concatenate([grad_cam(model, image[np.newaxis]) for image in IMAGES])
    np.testing.assert_allclose(grad_cam(model, IMAGES, batch_size=4), single, atol=1e-4)


def test_a_layer_can_be_chosen():
    model = built("compact-cnn")
    assert not np.allclose(grad_cam(model, IMAGES, layer="block1b_relu"), grad_cam(model, IMAGES))


def test_flat_plain_keras_classifiers():
    one_output = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    inputs = keras.Input((SIDE, SIDE, 1))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    two_outputs = keras.Model(inputs, layers.Dense(2, activation="softmax")(pooled))
    linear = keras.Model(inputs, layers.Dense(1)(pooled))
    for model in (one_output, two_outputs, linear):
        assert grad_cam(model, IMAGES).shape == (6, SIDE, SIDE)


def nested(pooling=None):
    rgb = (SIDE, SIDE, 3)
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=rgb, pooling=pooling
    )
    inputs = keras.Input(rgb)
    features = backbone(inputs)
    if pooling is None:
        features = layers.GlobalAveragePooling2D()(features)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(features)), backbone


def test_a_nested_backbone_is_explained_at_its_output():
    model, _ = nested()
    assert grad_cam(model, np.repeat(IMAGES[..., np.newaxis], 3, axis=-1)).shape == (6, SIDE, SIDE)


@pytest.mark.parametrize(
    ("make", "layer", "what"),
    [
        (lambda: nested(pooling="avg")[0], None, "inside a nested model"),
        (lambda: nested()[0], "Conv_1", "explained at its output only"),
        (spot_detector, "absent", "no layer 'absent'"),
        (spot_detector, "logit", "no feature map"),
    ],
)
def test_what_cannot_be_explained_is_one_clear_error(make, layer, what):
    images = np.repeat(
        IMAGES[..., np.newaxis], 3 if "nested" in what or "output only" in what else 1, axis=-1
    )
    with pytest.raises(ModelError, match=what) as caught:
        grad_cam(make(), images, layer=layer)
    assert "\n" not in str(caught.value)


def pooled_with_dimensions_kept():
    """The spot detector with its pooling as stock MobileNet has it: a one-pixel map behind the real one."""
    detector = spot_detector()
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(detector.get_layer("bright").output)
    model = keras.Model(detector.input, layers.Dense(1)(layers.Flatten()(pooled)))
    model.layers[-1].set_weights([np.ones((1, 1)), np.zeros(1)])
    return model


def test_a_map_of_one_pixel_is_not_the_one_explained():
    image = np.full((1, SIDE, SIDE), 100, np.uint8)
    image[0, 4:10, 20:28] = 255
    heatmap = grad_cam(pooled_with_dimensions_kept(), image)[0]
    assert heatmap[4:10, 20:28].min() == 1
    assert heatmap[12:, :18].max() == 0


def test_where_no_map_is_larger_one_pixel_must_do():
    assert grad_cam(nested()[0], IMAGES).shape == (6, SIDE, SIDE)


def test_gray_images_are_repeated_for_a_model_of_three_channels():
    inputs = keras.Input((SIDE, SIDE, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(1)(pooled))
    color = grad_cam(model, np.repeat(IMAGES[..., np.newaxis], 3, axis=-1))
    np.testing.assert_array_equal(grad_cam(model, IMAGES), color)
    np.testing.assert_array_equal(grad_cam(model, IMAGES[..., np.newaxis]), color)
    panels = explain(model, RadiographSet.from_arrays(IMAGES))
    assert panels.overlays.shape == (6, 256, 256, 3)


def test_a_model_can_be_saved_after_it_was_explained(tmp_path):
    model = built("compact-cnn")
    grad_cam(model, IMAGES)
    save_model(model, tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(IMAGES[..., np.newaxis]), model(IMAGES[..., np.newaxis]), atol=1e-6)


class TestOverlay:
    def test_where_nothing_is_found_the_radiograph_shows_unchanged(self):
        shown = overlay(IMAGES[0], np.zeros((SIDE, SIDE)))
        np.testing.assert_array_equal(shown, np.repeat(IMAGES[0][..., np.newaxis], 3, axis=-1))

    def test_it_is_rgb_and_warm_where_something_is_found(self):
        shown = overlay(np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 0.6), strength=1.0)
        assert shown.dtype == np.uint8
        assert shown[0, 0, 0] > shown[0, 0, 2]

    def test_a_heatmap_is_enlarged_to_the_radiograph(self, tmp_path):
        full, heatmap = np.full((90, 60), 50, np.uint8), np.zeros((8, 8))
        heatmap[2:4, 6:] = 1
        shown = overlay(full, heatmap)
        assert shown.shape == (90, 60, 3)
        warm = shown[..., 0].astype(int) - shown[..., 2]
        assert np.unravel_index(warm.argmax(), warm.shape)[0] in range(22, 46)
        assert warm[:, :40].max() == 0 < warm[28:38, 55].min()
        for same in (full[..., np.newaxis], np.stack([full] * 3, axis=-1)):
            np.testing.assert_array_equal(overlay(same, heatmap), shown)
        cv2.imwrite(str(tmp_path / "full.png"), full)
        np.testing.assert_array_equal(overlay(tmp_path / "full.png", heatmap), shown)
        as_grad_cam_gives_it = heatmap[np.newaxis]
        np.testing.assert_array_equal(overlay(full, as_grad_cam_gives_it), shown)

    def test_the_borders_of_a_padded_heatmap_lie_outside_the_radiograph(self):
        tall, heatmap = np.full((80, 40), 50, np.uint8), np.zeros((8, 8), np.float32)
        heatmap[:, :2] = heatmap[:, 6:] = 1  # the padding
        np.testing.assert_array_equal(overlay(tall, heatmap, pad=True), np.stack([tall] * 3, axis=-1))
        assert (overlay(tall, heatmap) != 50).any()

    @pytest.mark.parametrize(
        ("image", "heatmap"),
        [
            (np.zeros(5), np.zeros((4, 4))),
            (np.zeros((4, 4, 4)), np.zeros((4, 4))),
            (np.zeros((4, 4)), np.zeros((2, 4, 4))),
            (np.full((4, 4), 0.5), np.zeros((4, 4))),
            (np.full((4, 4), 4095), np.zeros((4, 4))),
        ],
    )
    def test_what_is_no_radiograph_or_heatmap_is_refused_in_one_line(self, image, heatmap):
        with pytest.raises(DataError, match="Received") as refused:
            overlay(image, heatmap)
        assert "\n" not in str(refused.value)


def spied(function, watch):
    """The function, watched at each call."""

    def watched(*arguments):
        watch(*arguments)
        return function(*arguments)

    return watched


class TestPanels:
    @pytest.fixture
    def files(self, tmp_path):
        for folder, image in zip("ab", IMAGES, strict=False):
            (tmp_path / folder).mkdir()
            cv2.imwrite(str(tmp_path / folder / "x.png"), image)
        return [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]

    def test_equal_names_do_not_overwrite_each_other(self, files, tmp_path):
        written = explain(built("compact-cnn"), RadiographSet.from_files(files)).write(tmp_path / "out")
        assert [path.name for path in written] == ["x-heatmap.png", "x-2-heatmap.png"]
        assert all(cv2.imread(str(path)).shape == (256, 256, 3) for path in written)

    def test_a_radiograph_is_never_overwritten(self, files, tmp_path):
        own = tmp_path / "a" / "x-heatmap.png"
        own.write_bytes(files[0].read_bytes())
        panels = explain(built("compact-cnn"), RadiographSet.from_files([files[0], own]))
        with pytest.raises(DataError, match="one of the radiographs"):
            panels.write(tmp_path / "a")
        assert own.read_bytes() == files[0].read_bytes()

    def test_a_numbered_name_that_is_taken_is_not_given_again(self, tmp_path):
        nothing = np.zeros((4, 8, 8), np.uint8)
        overlays = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 8, 8, 3), np.uint8)
        names = np.array(["x/a.png", "y/a-2.png", "y/a.png", "z/a.png"])
        written = Panels(names, nothing, nothing, overlays).write(tmp_path)
        assert [path.name for path in written] == [
            f"{stem}-heatmap.png" for stem in ("a", "a-2", "a-3", "a-4")
        ]
        assert [cv2.imread(str(path)).max() for path in written] == [0, 1, 2, 3]

    def test_a_large_set_is_written_in_pieces_as_it_would_be_at_once(self, files, tmp_path, monkeypatch):
        monkeypatch.setattr(panels_module, "PANELS_AT_ONCE", 2)
        sizes = []
        monkeypatch.setattr(
            panels_module,
            "_write_overlays",
            spied(panels_module._write_overlays, lambda p, _: sizes.append(len(p.names))),
        )
        model, radiographs, done = built("compact-cnn"), RadiographSet.from_files(files * 2 + files[:1]), []
        written = write_heatmaps(model, radiographs, tmp_path / "pieces", progress=done.append)
        assert (sizes, done) == ([2, 2, 1], [2, 4, 5])
        whole = explain(model, radiographs).write(tmp_path / "whole")
        assert [path.name for path in written] == [path.name for path in whole]
        for piece, at_once in zip(written, whole, strict=True):
            np.testing.assert_allclose(cv2.imread(str(piece)), cv2.imread(str(at_once)), atol=1)

    def test_the_command_says_how_far_the_heatmaps_are(self, files, tmp_path, monkeypatch):
        monkeypatch.setattr(panels_module, "PANELS_AT_ONCE", 1)
        save_model(built("compact-cnn"), tmp_path / "model.keras")
        arguments = ["predict", tmp_path / "model.keras", *files, "--heatmaps", tmp_path / "out"]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        assert "heatmaps: 1 of 2\nheatmaps: 2 of 2\n" in result.stderr
        assert "heatmaps:" not in result.stdout


@pytest.mark.parametrize("method", ["grad-cam", "hirescam"])
def test_a_model_with_operations_that_are_no_layers_is_explained(method):
    inputs = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(4, 3, padding="same")(keras.ops.flip(inputs, axis=-1))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(pooled))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16)).astype(np.uint8)
    assert grad_cam(model, images, method=method).shape == (2, 16, 16)
