"""Models take radiographs as they are at hand: files, folders, arrays of any size, sets."""

from functools import partial

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from pneumokeras.core.errors import DataError, ModelError, SettingsError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.data.splits import Splits
from pneumokeras.explain.activations import activations, class_activations
from pneumokeras.explain.gradcam import grad_cam, heatmap_function
from pneumokeras.explain.inputs import labels_of
from pneumokeras.explain.sanity_checks import check_explanations
from pneumokeras.models.saving import load_model, save_model, set_description
from pneumokeras.training.evaluate import evaluate
from pneumokeras.training.predict import predict

SIDE = 16
FULL = np.random.default_rng(0).integers(0, 256, (5, 40, 24)).astype(np.uint8)


def network(channels=1, side=SIDE, outputs=1):
    """A small network whose probability is the mean of a convolution, far from 0 and 1."""
    inputs = keras.Input((side, side, channels))
    keras.utils.set_random_seed(0)
    maps = layers.Conv2D(3, 3, activation="relu", name="maps")(layers.Rescaling(1 / 255)(inputs))
    logit = layers.Dense(outputs)(layers.GlobalAveragePooling2D()(maps))
    return keras.Model(inputs, layers.Activation("sigmoid")(logit))


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def padding_model():
    model = network()
    set_description(model, pad=True)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five files, in a folder and a folder within."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "more").mkdir()
    for number, image in enumerate(FULL):
        cv2.imwrite(str(folder / ("more" if number > 2 else "") / f"{number}.png"), image)
    return folder


@pytest.fixture(scope="module")
def films(folder):
    return RadiographSet.from_files([*sorted(folder.glob("*.png")), *sorted(folder.glob("more/*.png"))])


LOOKS = {
    "grad_cam": heatmap_function,  # compiled once
    "activations": lambda model: partial(activations, model),
    "predict": lambda model: lambda images: predict(model, images).probabilities,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("pads", [False, True])
def test_files_arrays_and_sets_look_alike_to_a_model(look, pads, model, padding_model, films):
    look = look(padding_model if pads else model)
    small = films.pixels((SIDE, SIDE), pad=pads)
    files = [str(name) for name in films.names]
    expected = look(small)
    for several in (films, files, films.names, [*films.images], FULL, FULL[..., np.newaxis], [*FULL]):
        np.testing.assert_allclose(look(several), expected, atol=1e-6)
    assert np.abs(look(np.stack([FULL] * 3, axis=-1)) - expected).max() < 0.02  # luminance rounds
    gray = np.stack([FULL[0]] * 3, axis=-1)
    for one in (files[0], films.images[0], FULL[0], FULL[0][..., np.newaxis], gray, FULL[:1]):
        np.testing.assert_allclose(look(one), expected[:1], atol=1e-6)
    with_floats = look(FULL.astype(np.float64))
    assert np.abs(with_floats - expected).max() < 0.02  # areas are not rounded


def test_a_folder_is_all_its_images(model, folder, films):
    found = predict(model, folder)
    assert sorted(found.names) == sorted(map(str, films.names))
    assert found.labels is None
    np.testing.assert_allclose(
        predict(model, [folder / "more", folder]).probabilities[:2],
        predict(model, folder / "more").probabilities,
    )
    with pytest.raises(DataError, match="No images under"):
        (folder.parent / "empty").mkdir(exist_ok=True)
        predict(model, folder.parent / "empty")


def test_one_file_gives_one_number(model, folder, films):
    found = predict(model, folder / "0.png")
    assert float(found) == pytest.approx(predict(model, films).probabilities[0], abs=1e-6)
    assert list(found.names) == [str(folder / "0.png")]
    assert predict(model, FULL[:2]).names.tolist() == ["image 0", "image 1"]


def test_a_model_of_colors_keeps_them(films):
    colors = network(channels=3)
    tinted = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
    expected = colors(tinted.astype(np.float32)).numpy()[:, 0]
    np.testing.assert_allclose(predict(colors, tinted).probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(
        predict(colors, FULL).probabilities, predict(colors, films).probabilities, atol=1e-6
    )
    assert grad_cam(colors, FULL).shape == (5, SIDE, SIDE)


def test_a_model_of_any_size_gets_arrays_as_they_are():
    free = network(side=None)
    expected = free(FULL[..., np.newaxis].astype(np.float32)).numpy()[:, 0]
    np.testing.assert_allclose(predict(free, FULL).probabilities, expected, atol=1e-6)
    assert grad_cam(free, FULL).shape == FULL.shape


WRONG = {
    "a vector": np.zeros(5),
    "no images": np.zeros((0,)),
    "two channels": np.zeros((2, SIDE, SIDE, 2)),
    "five axes": np.zeros((1, 1, SIDE, SIDE, 1)),
    "booleans": np.zeros((SIDE, SIDE), bool),
    "text": np.array([["a", 1]], dtype=object),
    "a number": 3,
    "nothing": None,
    "numbers": [1, 2, 3],
    "no list of one kind": ["a.png", 3],
    "an object": object(),
    "a loader": RadiographLoader(RadiographSet.from_arrays(FULL), SIDE),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_no_radiograph_is_refused_in_one_line(look, wrong, model):
    with pytest.raises(DataError, match=r"Expected radiographs|Cannot read") as refused:
        look(model)(wrong)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_values_that_are_no_gray_levels_are_refused_where_that_is_known(look, padding_model, model):
    for wrong, advice in (
        (FULL / 255, "by 255"),
        (FULL.astype(np.uint16) * 16, "Scale"),
        (FULL - 300.0, "Scale"),
    ):
        with pytest.raises(DataError, match=f"gray levels from 0 to 255.* {advice}"):
            look(padding_model)(wrong)
    assert len(look(padding_model)(np.ones((2, SIDE, SIDE), np.float32))) == 2  # nearly black
    assert len(look(model)(FULL / 255)) == 5  # of another's model nothing is known


def test_splits_are_no_set(model, films):
    splits = Splits(films, films, films)
    for call in (predict, grad_cam, evaluate, check_explanations):
        with pytest.raises(DataError, match=r"splits\.test") as refused:
            call(model, splits)
        assert "Received Splits" in str(refused.value)
    with pytest.raises(DataError, match=r"`validation` as a RadiographSet.* Received ndarray"):
        evaluate(model, films, validation=FULL)
    with pytest.raises(DataError, match=r"`radiographs` as a RadiographSet.* Received str"):
        evaluate(model, "chest_xray")


class Result:
    """What a run returns, as far as a model is concerned."""

    def __init__(self, model):
        self.model = model


def test_a_run_stands_for_its_model(padding_model, tmp_path, films):
    save_model(padding_model, tmp_path / "model.keras")
    assert load_model(tmp_path).input_shape == padding_model.input_shape
    expected = grad_cam(padding_model, films)
    for stands in (Result(padding_model), tmp_path, str(tmp_path / "model.keras")):
        np.testing.assert_allclose(grad_cam(stands, films), expected, atol=1e-6)
    labeled = RadiographSet.from_arrays(FULL, [0, 1, 0, 1, 0])
    assert (
        evaluate(Result(padding_model), labeled, operating_points={"mine": 0.3})
        .operating_points["mine"]
        .point.threshold
        == 0.3
    )
    with pytest.raises(SettingsError, match="threshold"):
        evaluate(padding_model, labeled, operating_points={"mine": 3})
    for wrong in (None, 3, films, Result(None)):
        with pytest.raises(ModelError, match="Expected a Keras model, a finished run, or the path of one"):
            predict(wrong, films)


def test_a_set_brings_its_labels(model):
    labeled = RadiographSet.from_arrays(FULL, [0, 1, 0, 1, 0])
    found = class_activations(model, labeled)
    expected = class_activations(model, labeled.pixels((SIDE, SIDE)), labeled.labels)
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=1e-6)
    assert labels_of(labeled, None).tolist() == [0, 1, 0, 1, 0]
    assert labels_of(FULL, None) is None
    with pytest.raises(DataError, match="Expected `labels`"):
        class_activations(model, FULL)
    with pytest.raises(DataError, match="a label for each of 5 images"):
        class_activations(model, FULL, [0, 1])


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.full((40, 24), 4095, np.uint16), "uint16 from 4095 to 4095"),
        ([FULL[0], np.full((30, 20), 300, np.int32)], "int32 and uint8 from 0 to 300"),
        (np.full((SIDE, SIDE, 1), -1.5), "float64 from -1.5 to -1.5"),
    ],
)
def test_values_that_are_no_gray_levels_are_named_as_they_were_given(padding_model, images, received):
    with pytest.raises(DataError, match=f"Received {received}"):
        predict(padding_model, images)
