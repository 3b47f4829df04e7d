"""ResNet-18 computes what PyTorch's computes, from weights as PyTorch's libraries publish them."""

import sys
import types

import keras
import keras_tuner
import numpy as np
import pytest
from safetensors.numpy import save_file

from pneumokeras.core.errors import ModelError
from pneumokeras.explain.gradcam import grad_cam
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.models.parts import cut, trainable_layers
from pneumokeras.models.resnet18 import read_safetensors, resnet18
from pneumokeras.models.saving import description_of, load_model, save_model
from pneumokeras.models.weights import set_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def blocks():
    """Name, channels in, channels out and stride of each block, written down from PyTorch's `resnet18`."""
    yield from (("layer1.0", 64, 64, 1), ("layer1.1", 64, 64, 1))
    yield from (("layer2.0", 64, 128, 2), ("layer2.1", 128, 128, 1))
    yield from (("layer3.0", 128, 256, 2), ("layer3.1", 256, 256, 1))
    yield from (("layer4.0", 256, 512, 2), ("layer4.1", 512, 512, 1))


def drawn_state(seed=0):
    """A random state dict with the names, shapes and types of timm's and torchvision's `resnet18`."""
    rng, state = np.random.default_rng(seed), {}

    def conv(name, outputs, inputs, size):
        scale = np.sqrt(2 / (inputs * size**2))
        state[f"{name}.weight"] = rng.normal(0, scale, (outputs, inputs, size, size)).astype(np.float32)

    def norm(name, channels):
        ranges = {"weight": (0.5, 1.5), "bias": (-1, 1), "running_mean": (-1, 1), "running_var": (0.5, 2)}
        for kind, bounds in ranges.items():
            state[f"{name}.{kind}"] = rng.uniform(*bounds, channels).astype(np.float32)
        state[f"{name}.num_batches_tracked"] = np.array(7, np.int64)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    for name, inputs, outputs, stride in blocks():
        conv(f"{name}.conv1", outputs, inputs, 3)
        norm(f"{name}.bn1", outputs)
        conv(f"{name}.conv2", outputs, outputs, 3)
        norm(f"{name}.bn2", outputs)
        if stride == 2:
            conv(f"{name}.downsample.0", outputs, inputs, 1)
            norm(f"{name}.downsample.1", outputs)
    state["fc.weight"] = rng.normal(0, 0.1, (1000, 512)).astype(np.float32)
    state["fc.bias"] = np.zeros(1000, np.float32)
    return state


def windows(images, size, stride, padding, fill=0.0):
    """`(n, channels, rows, columns, size, size)`, padded on all four sides."""
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(images, sides, constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), (2, 3))[:, :, ::stride, ::stride]


def forward(state, images):
    """PyTorch's ResNet-18 in NumPy alone: `(n, 3, height, width)` float64 to the maps below its pooling."""

    def conv(images, name, stride, padding):
        kernel = state[f"{name}.weight"].astype(np.float64)
        seen = windows(images, kernel.shape[-1], stride, padding)
        return np.einsum("nchwij,ocij->nohw", seen, kernel, optimize=True)

    def norm(images, name):
        weight, bias, mean, variance = (
            state[f"{name}.{kind}"].astype(np.float64)[:, np.newaxis, np.newaxis]
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (images - mean) / np.sqrt(variance + 1e-5) * weight + bias

    images = np.maximum(norm(conv(images, "conv1", 2, 3), "bn1"), 0)
    images = windows(images, 3, 2, 1, fill=-np.inf).max(axis=(-2, -1))
    for name, _, _, stride in blocks():
        inner = np.maximum(norm(conv(images, f"{name}.conv1", stride, 1), f"{name}.bn1"), 0)
        inner = norm(conv(inner, f"{name}.conv2", 1, 1), f"{name}.bn2")
        if stride == 2:
            images = norm(conv(images, f"{name}.downsample.0", 2, 0), f"{name}.downsample.1")
        images = np.maximum(inner + images, 0)
    return images


def hypermodel(path, side=64, **options):
    return TransferHyperModel("resnet18", weights=path, input_shape=(side, side, 1), **options)


@pytest.fixture(scope="module")
def state():
    return drawn_state()


@pytest.fixture(scope="module")
def published(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(state, path)
    return path


@pytest.mark.parametrize("shape", [(64, 96), (71, 58), (224, 224)])
def test_it_computes_what_pytorch_computes(shape, state, published):
    network = resnet18((*shape, 3))
    set_weights(network, read_safetensors(published, network))
    images = np.random.default_rng(1).normal(size=(2, *shape, 3))
    expected = forward(state, images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    received = network(images.astype(np.float32)).numpy()
    assert received.shape == expected.shape
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_raw_pixels_are_prepared_as_in_pytorch(state, published):
    radiographs = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 1)).astype(np.uint8)
    rgb = np.repeat(radiographs.transpose(0, 3, 1, 2) / 255, 3, axis=1)
    prepared = (rgb - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    expected = forward(state, prepared).mean(axis=(2, 3))
    received = hypermodel(published).feature_extractor()(radiographs).numpy()
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_it_has_the_published_number_of_parameters():
    network = resnet18((224, 224, 3))
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == 11_176_512
    assert network.output_shape == (None, 7, 7, 512)
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.epsilon, layer.momentum) == (1e-5, 0.9)


def test_with_its_head_for_pneumoniamnist_it_has_11177025():
    inside = TransferHyperModel("resnet18", weights="none", input_shape=(28, 28, 1), head="dropout-linear")
    model = inside.build(keras_tuner.HyperParameters())
    assert model.get_layer("resize").height == 224
    for layer in model.layers:
        layer.trainable = True
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 11_177_025


def test_random_weights_are_the_same_in_every_build():
    extractors = [hypermodel("none").feature_extractor() for _ in range(2)]
    for one, other in zip(*(extractor.get_weights() for extractor in extractors), strict=True):
        np.testing.assert_array_equal(one, other)


def test_stage5_is_layer4(published):
    model = hypermodel(published).build(keras_tuner.HyperParameters())
    trained = {name for name in trainable_layers(model, "stage5") if name.startswith("layer")}
    assert trained == {layer.name for layer in model.layers if layer.name.startswith("layer4")}
    assert cut(model, "stage5").lower.layers[-1].name == "layer3.1.out"


def test_a_saved_model_keeps_its_weights_and_is_explained(published, tmp_path):
    radiographs = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 1)).astype(np.uint8)
    model = hypermodel(published).build(keras_tuner.HyperParameters())
    assert description_of(model).weights.startswith("file model.safetensors (")
    save_model(model, tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(radiographs), model(radiographs), atol=1e-6)
    assert grad_cam(again, radiographs[..., 0]).shape == (2, 64, 64)
    handed_on = hypermodel(tmp_path / "model.keras").feature_extractor()
    expected = hypermodel(published).feature_extractor()(radiographs)
    np.testing.assert_allclose(handed_on(radiographs), expected, rtol=1e-5)


class TestFilesThatDoNotFit:
    def refusal(self, path):
        with pytest.raises(ModelError) as caught:
            hypermodel(path).frozen_backbone()
        message = str(caught.value)
        assert "\n" not in message
        assert f"{path} does not hold the weights of resnet18" in message
        assert "timm/resnet18.tv_in1k" in message
        return message

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"layer4.1.bn2.running_var": None}, "layer4.1.bn2.running_var is missing"),
            ({"layer1.2.conv1.weight": np.zeros(1, np.float32)}, "layer1.2.conv1.weight belongs to another"),
            ({"bn1.bias": np.zeros(32, np.float32)}, "bn1.bias has shape (32,), not (64,)"),
            ({"bn1.bias": np.zeros(64, np.int8)}, "bn1.bias holds I8, not floats"),
            (
                {"conv1.weight": np.zeros((7, 7, 3, 64), np.float32)},
                "conv1.weight has shape (7, 7, 3, 64), not (64, 3, 7, 7)",
            ),
        ],
    )
    def test_a_tensor_that_is_wrong_is_named(self, changes, reason, state, tmp_path):
        wrong = {name: value for name, value in (state | changes).items() if value is not None}
        save_file(wrong, tmp_path / "wrong.safetensors")
        assert reason in self.refusal(tmp_path / "wrong.safetensors")

    @pytest.mark.parametrize(
        "content",
        [b"", b"not tensors at all", (2**63).to_bytes(8, "little") + b"{}", None],
        ids=["empty", "text", "a header longer than the file", "cut"],
    )
    def test_a_damaged_file_is_one_line(self, content, published, tmp_path):
        content = published.read_bytes()[:-1000] if content is None else content
        (tmp_path / "bad.safetensors").write_bytes(content)
        self.refusal(tmp_path / "bad.safetensors")

    def test_another_backbone_does_not_take_it(self, published):
        other = TransferHyperModel("resnet50", weights=published, input_shape=(32, 32, 1))
        with pytest.raises(ModelError, match=r"weights of resnet50 .*Expected Keras' no-top \.h5"):
            other.frozen_backbone()

    def test_half_precision_is_read(self, state, tmp_path):
        halves = {name: array.astype(np.float16) for name, array in state.items()}
        save_file(halves, tmp_path / "half.safetensors")
        arrays = read_safetensors(tmp_path / "half.safetensors", resnet18((32, 32, 3)))
        assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


class TestDownload:
    def fake_hub(self, monkeypatch, hf_hub_download):
        hub = types.SimpleNamespace(hf_hub_download=hf_hub_download)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)

    def test_imagenet_comes_from_timm(self, state, published, monkeypatch):
        asked = []
        self.fake_hub(monkeypatch, lambda *names: asked.append(names) or str(published))
        body = hypermodel("imagenet", side=32).frozen_backbone()
        assert asked == [("timm/resnet18.tv_in1k", "model.safetensors")]
        kernel = body.get_layer("conv1").get_weights()[0]
        np.testing.assert_array_equal(kernel, state["conv1.weight"].transpose(2, 3, 1, 0))

    def test_offline_is_one_error_that_names_both_ways_out(self, monkeypatch):
        def unreachable(*names):
            raise OSError("cannot\nconnect")

        self.fake_hub(monkeypatch, unreachable)
        with pytest.raises(ModelError, match=r'offline.* `weights="FILE"` .* `weights="none"`') as caught:
            hypermodel("imagenet", side=32).frozen_backbone()
        assert "\n" not in str(caught.value)

    def test_without_huggingface_hub_the_error_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(ModelError, match=r"pip install 'pneumokeras\[hub\]'.* `weights=\"FILE\"`"):
            hypermodel("imagenet", side=32).frozen_backbone()
