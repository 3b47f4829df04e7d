"""What scripts written for Keras' own generator do with it, they can do with ours: each case with both."""

import cv2
import numpy as np
import pytest
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.data.augmentation import RadiographDataGenerator

EVERYTHING = {
    "rotation_range": 40,
    "width_shift_range": [-2, 2],
    "height_shift_range": 0.1,
    "brightness_range": [0.5, 2],
    "shear_range": 10,
    "zoom_range": [0.7, 1.2],
    "channel_shift_range": 5,
    "fill_mode": "constant",
    "cval": 9,
    "horizontal_flip": True,
    "vertical_flip": True,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This ImageDataGenerator specifies:UserWarning"),
    pytest.mark.filterwarnings("ignore:The generator has:UserWarning"),
    pytest.mark.filterwarnings("ignore:NumpyArrayIterator is set to use:UserWarning"),
]


@pytest.fixture(params=[ImageDataGenerator, RadiographDataGenerator], ids=["stock", "ours"])
def kind(request):
    return request.param


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 12, 16, 3)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, images):
    for number, image in enumerate(images):
        place = tmp_path / ("ill" if number % 2 else "well") / "deeper"
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number}.png"), image.astype(np.uint8))
    return tmp_path


@pytest.fixture
def table(folder):
    pandas = pytest.importorskip("pandas")
    files = sorted(map(str, folder.rglob("*.png")))
    classes = ["well" if "well" in file else "ill" for file in files]
    return pandas.DataFrame({"filename": files, "class": classes, "age": np.arange(10.0), "weight": 2})


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_color_are_changed_by_everything_at_once(kind, images, channels):
    colors = np.repeat(images[..., :1], channels, axis=-1)
    for image in colors:
        changed = kind(**EVERYTHING).random_transform(image, seed=1)
        assert changed.shape == image.shape
        assert not np.array_equal(changed, image)
    batch = next(kind(**EVERYTHING).flow(colors, batch_size=4))
    assert batch.shape == (4, 12, 16, channels)
    assert batch.dtype == np.float32


def test_one_seed_draws_the_same_and_another_does_not(kind):
    generator = kind(**EVERYTHING)
    drawn = [generator.get_random_transform((12, 16, 3), seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    names = {"theta", "tx", "ty", "shear", "zx", "zy", "brightness", "channel_shift_intensity"}
    assert all(drawn[0][name] != drawn[2][name] for name in names - {"tx"})
    assert {"flip_horizontal", "flip_vertical", *names} <= set(drawn[0])


def test_by_default_nothing_is_drawn(kind, images):
    drawn = kind().get_random_transform((12, 16, 3), 1)
    assert all(
        drawn[name] == 0 for name in ("theta", "tx", "ty", "shear", "flip_horizontal", "flip_vertical")
    )
    assert drawn["zx"] == drawn["zy"] == 1
    assert drawn["channel_shift_intensity"] is drawn["brightness"] is None
    assert np.array_equal(next(kind().flow(images, shuffle=False)), images)


def test_a_dictionary_of_your_own_is_applied(kind):
    image = np.tile(np.array([10, 20, 30, 40, 50], np.float32), (5, 1))[..., np.newaxis]
    generator = kind()
    assert np.array_equal(generator.apply_transform(image.copy(), {}), image)
    flipped = generator.apply_transform(image.copy(), {"flip_horizontal": True})
    assert np.array_equal(flipped, image[:, ::-1])
    shifted = generator.apply_transform(image.copy(), {"ty": 1})
    np.testing.assert_allclose(shifted, image, atol=1e-3)
    np.testing.assert_allclose(
        generator.apply_transform(image.copy(), {"tx": 1})[0, :, 0], [20, 30, 40, 50, 50], atol=1e-3
    )
    brighter = generator.apply_transform(image.copy(), {"channel_shift_intensity": 15})
    np.testing.assert_allclose(brighter[0, :, 0], [25, 35, 45, 50, 50])


class TestFlow:
    def test_labels_weights_and_further_inputs_come_along(self, kind, images):
        numbers = np.arange(10)
        further = np.random.default_rng(1).random((10, 2))
        flow = kind().flow((images, further), numbers, sample_weight=numbers + 1, shuffle=False, batch_size=4)
        (pixels, extra), labels, weights = next(flow)
        assert np.array_equal(pixels, images[:4])
        assert np.array_equal(extra, further[:4])
        assert list(labels) == [0, 1, 2, 3]
        assert list(weights) == [1, 2, 3, 4]
        assert len(flow) == 3
        assert len(flow[2][1]) == 2

    def test_shuffling_follows_the_seed(self, kind, images):
        orders = [
            next(kind(rotation_range=5).flow(images, np.arange(10), seed=seed, batch_size=10))[1]
            for seed in (1, 1, 2)
        ]
        assert np.array_equal(orders[0], orders[1])
        assert not np.array_equal(orders[0], orders[2])
        assert set(orders[0]) == set(range(10))

    def test_a_validation_split_gives_two_subsets(self, kind, images):
        generator = kind(validation_split=0.3)
        labels = np.arange(10) % 2
        shares = [generator.flow(images, labels, subset=subset).n for subset in ("training", "validation")]
        assert shares == [7, 3]

    def test_sizes_that_do_not_match_are_refused(self, kind, images):
        with pytest.raises(ValueError, match="same length"):
            kind().flow(images, np.arange(9))
        with pytest.raises(ValueError, match="All of the arrays"):
            kind().flow((images, np.zeros((9, 2))), np.arange(10))

    def test_labels_of_a_map_stay_labels_without_interpolation(self, kind):
        classes = np.random.default_rng(2).integers(0, 4, (1, 9, 9, 1))
        generator = kind(rotation_range=90, zoom_range=0.3, interpolation_order=0)
        assert set(np.unique(next(generator.flow(classes, seed=1)))) <= {0, 1, 2, 3}

    def test_what_is_drawn_can_be_saved(self, kind, images, tmp_path):
        next(kind(rotation_range=20).flow(images, batch_size=4, save_to_dir=tmp_path, save_prefix="drawn"))
        assert len(list(tmp_path.glob("drawn*.png"))) == 4

    @pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
    def test_arrays_have_the_asked_type(self, kind, images, dtype):
        batch = next(kind(rotation_range=20, dtype=dtype).flow(images))
        assert batch.dtype == dtype

    def test_channels_may_come_first(self, kind, images):
        flow = kind(rotation_range=20, data_format="channels_first").flow(np.moveaxis(images, -1, 1))
        assert next(flow).shape == (10, 3, 12, 16)

    def test_pixels_are_normalized_by_what_a_set_was_fitted_on(self, kind, images):
        generator = kind(featurewise_center=True, featurewise_std_normalization=True)
        generator.fit(images)
        batch = next(generator.flow(images, shuffle=False))
        np.testing.assert_allclose(batch.mean(axis=(0, 1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(batch.std(axis=(0, 1, 2)), 1, atol=1e-3)
        whitened = kind(zca_whitening=True, rotation_range=10)
        whitened.fit(images, augment=True, rounds=2, seed=1)
        assert whitened.standardize(images.copy()).shape == images.shape

    def test_pixels_are_rescaled_and_given_to_a_function(self, kind, images):
        generator = kind(rescale=1 / 255, preprocessing_function=lambda image: 255 - image)
        np.testing.assert_allclose(next(generator.flow(images, shuffle=False)), 1 - images / 255, atol=1e-6)
        with pytest.raises(ValueError, match="rank 4"):
            generator.fit(images[0])


class TestFiles:
    @pytest.mark.parametrize(
        ("mode", "shape"),
        [("categorical", (4, 2)), ("binary", (4,)), ("sparse", (4,)), ("input", (4, 9, 9, 3))],
    )
    def test_folders_of_classes(self, kind, folder, mode, shape):
        options = {"target_size": (9, 9), "batch_size": 4, "class_mode": mode}
        flow = kind(rotation_range=9).flow_from_directory(folder, **options)
        assert flow.class_indices == {"ill": 0, "well": 1}
        assert flow.samples == len(flow.filenames) == 10
        pixels, labels = next(flow)
        assert pixels.shape == (4, 9, 9, 3)
        assert labels.shape == shape

    def test_folders_split_for_validation(self, kind, folder):
        generator = kind(validation_split=0.4)
        files = [
            set(generator.flow_from_directory(folder, subset=subset).filenames)
            for subset in ("training", "validation")
        ]
        assert list(map(len, files)) == [6, 4]
        assert not files[0] & files[1]
        with pytest.raises(ValueError, match="subset"):
            generator.flow_from_directory(folder, subset="other")

    def test_tables_of_files(self, kind, table):
        generator = kind(rotation_range=9, validation_split=0.2)
        options = {"target_size": (9, 9), "batch_size": 4, "shuffle": False}
        pixels, labels, weights = next(generator.flow_from_dataframe(table, weight_col="weight", **options))
        assert pixels.shape == (4, 9, 9, 3)
        assert labels.shape == (4, 2)
        assert list(weights) == [2] * 4
        _, ages = next(generator.flow_from_dataframe(table, y_col="age", class_mode="raw", **options))
        assert list(ages) == [0, 1, 2, 3]
        outputs = {"y_col": ["age", "weight"], "class_mode": "multi_output"}
        assert len(next(generator.flow_from_dataframe(table, **outputs, **options))[1]) == 2
        assert generator.flow_from_dataframe(table, subset="validation", **options).samples == 2


@pytest.mark.parametrize(
    "options",
    [
        {"validation_split": 5},
        {"data_format": "unknown"},
        {"zoom_range": (1, 2, 3)},
        {"brightness_range": 0.1},
    ],
    ids=str,
)
def test_what_means_nothing_is_a_value_error(kind, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)
