"""A film of sixteen bits is read as the model's training films were: alone as in its folder."""

import cv2
import keras
import numpy as np
import pytest

from pneumokeras.core.errors import ModelError, SettingsError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.from_path import load_splits
from pneumokeras.explain.gradcam import grad_cam
from pneumokeras.explain.panels import explain
from pneumokeras.models.averaging import averaged
from pneumokeras.models.head import probability
from pneumokeras.models.hypermodels import CompactCNNHyperModel
from pneumokeras.models.saving import description_of, load_model, save_model, set_description
from pneumokeras.training.fit import fit
from pneumokeras.training.predict import predict
from pneumokeras.training.tune import tune

SIDE = 16
TWELVE = 2**12 - 1


def network():
    inputs = keras.Input((SIDE, SIDE, 1))
    maps = keras.layers.Conv2D(2, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, probability(keras.layers.GlobalAveragePooling2D()(maps)))


class Tiny(CompactCNNHyperModel):
    def build(self, hp):
        model = network()
        model.compile("adam", "binary_crossentropy")
        return model


@pytest.fixture
def described():
    keras.utils.set_random_seed(0)
    model = network()
    set_description(model, bits=12)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Films of a detector of twelve bits; those of NORMAL are dark."""
    folder = tmp_path_factory.mktemp("sixteen")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label, brightest in (("NORMAL", 900), ("PNEUMONIA", TWELVE)):
            for number in range(count):
                pixels = rng.integers(0, brightest, (SIDE, SIDE)).astype(np.uint16)
                pixels[0, 0] = brightest
                file = folder / split / label / f"{split}{label}{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), pixels)
    return folder


def test_a_fit_and_a_run_remember_the_depth(folder, tmp_path):
    splits = load_splits(folder, keep_val=True)
    result = tune(Tiny(input_shape=(SIDE, SIDE, 1)), splits, max_trials=1, epochs=1, run=tmp_path / "run")
    assert description_of(load_model(result.run)).bits == 12
    model = network()
    model.compile("adam", "binary_crossentropy")
    fit(model, splits.train, splits.val, epochs=1)
    assert description_of(model).bits == 12


def test_of_eight_bits_nothing_is_remembered(spot_splits):
    model = network()
    model.compile("adam", "binary_crossentropy")
    fit(model, spot_splits.train, spot_splits.val, epochs=1)
    assert description_of(model).bits is None
    assert "bits" not in description_of(model).json()


def test_it_survives_saving(described, tmp_path):
    save_model(described, tmp_path / "model.keras")
    assert description_of(load_model(tmp_path / "model.keras")).bits == 12
    assert description_of(keras.models.load_model(tmp_path / "model.keras")).bits == 12


def test_a_dark_film_alone_is_predicted_and_explained_as_in_its_folder(described, folder):
    test = load_splits(folder, keep_val=True).test
    together = predict(described, test).probabilities
    alone = [float(predict(described, name)) for name in test.names]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    maps = grad_cam(described, test)
    np.testing.assert_allclose(grad_cam(described, [test.names[0]]), maps[:1], atol=1e-5)
    single = RadiographSet.from_files([test.names[0]])
    np.testing.assert_array_equal(explain(described, single).images[0], explain(described, test).images[0])


def test_a_model_of_eight_bits_reduces_each_film_by_its_own_depth(folder):
    model, test = network(), load_splits(folder, keep_val=True).test
    set_description(model, pad=False)
    alone = [float(predict(model, name)) for name in test.names]
    np.testing.assert_allclose(predict(model, test).probabilities, alone, atol=1e-6)
    np.testing.assert_allclose(predict(model, list(test.names)).probabilities, alone, atol=1e-6)


@pytest.mark.parametrize("bits", [0, 7, 17, -1, "12", True, 12.5])
def test_what_is_no_depth_is_refused(bits, spot_splits):
    with pytest.raises(SettingsError, match="from 8 to 16"):
        spot_splits.val.at_depth(bits)


def test_a_film_brighter_than_the_training_films_is_reduced_by_its_own_depth(described, tmp_path):
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((SIDE, SIDE), 2**14 - 1, np.uint16))
    white = np.full((SIDE, SIDE), 255, np.uint8)
    assert float(predict(described, tmp_path / "bright.png")) == float(predict(described, white))


def test_models_of_other_depths_are_not_averaged(described):
    other, unknown = network(), network()
    set_description(other, bits=14)
    with pytest.raises(ModelError, match="images of so many bits 12 and 14"):
        averaged({"first": described, "second": other})
    set_description(unknown, pad=False)
    assert description_of(averaged({"first": unknown, "second": described})).bits == 12
