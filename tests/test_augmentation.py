"""Our generator draws and applies what Keras' own does."""

import json
import math
from inspect import signature
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from scipy import ndimage
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.core.errors import RunError, SettingsError
from pneumokeras.data.augmentation import RadiographDataGenerator, augmentation_settings, is_identified
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.from_path import load_radiographs
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.models.hypermodels import CompactCNNHyperModel
from pneumokeras.recipes.configuration import Configuration
from pneumokeras.training.settings import BatchSettings, SearchSettings, Stage
from pneumokeras.training.tune import tune

DATA = Path(__file__).parent / "data"
KEYS = (
    ({}, "6306f11592147662fe3932c93245970a"),
    ({"fill_mode": "constant", "brightness_range": None}, "897139dcbd42efd247d6814e4d5ec1ba"),
    ({"random_crop": (0.8, 1.0), "zoom_range": 0}, "9d7b7f34ebb2c3f1fb49198aed735efa"),
)
"""The key of one view, by version 0.1."""

PLAIN = {
    "theta": 0,
    "tx": 0,
    "ty": 0,
    "shear": 0,
    "zx": 1,
    "zy": 1,
    "flip_horizontal": False,
    "flip_vertical": False,
}
PLAIN |= {"channel_shift_intensity": None, "brightness": None}

pytestmark = [  # from Keras itself
    pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This ImageDataGenerator specifies:UserWarning"),
]


def smooth_noise(rng, height, width):
    """Gray levels without edges sharper than a radiograph's."""
    coarse = rng.uniform(0, 255, (6, 6)).astype(np.float32)
    return np.clip(np.round(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)), 0, 255)


def compare(images, draw):
    """Differences of our images from Keras' own, over the same parameters."""
    ours, stock = RadiographDataGenerator(), ImageDataGenerator(fill_mode="nearest")
    differences = []
    for image in images:
        parameters = PLAIN | draw()
        expected = stock.apply_transform(image.copy(), parameters)
        differences.append(np.abs(ours.apply_transform(image, parameters) - expected).ravel())
    return np.concatenate(differences)


def about_the_center(image, parameters):
    """What the parameters say about the true center, pixel by pixel."""
    height, width = image.shape[:2]
    theta = np.deg2rad(parameters["theta"])
    y, x = np.mgrid[0:height, 0:width].astype(float)
    if parameters.get("crop") is not None:
        side, left, top = parameters["crop"]
        x, y = side * (x + 0.5) - 0.5 + left * width, side * (y + 0.5) - 0.5 + top * height
    if parameters["flip_horizontal"]:
        x = width - 1 - x
    if parameters["flip_vertical"]:
        y = height - 1 - y
    x, y = (x - (width - 1) / 2) * parameters["zx"], (y - (height - 1) / 2) * parameters["zy"]
    x, y = x + parameters["tx"], y + parameters["ty"]
    x, y = np.cos(theta) * x - np.sin(theta) * y, np.sin(theta) * x + np.cos(theta) * y
    places = [y + (height - 1) / 2, x + (width - 1) / 2]
    return ndimage.map_coordinates(image[..., 0], places, order=1, mode="nearest")[..., np.newaxis]


def draw_all(rng):
    return {
        "theta": rng.uniform(-20, 20),
        "tx": rng.uniform(-6, 6),
        "ty": rng.uniform(-6, 6),
        "zx": rng.uniform(0.8, 1.2),
        "zy": rng.uniform(0.8, 1.2),
        "flip_horizontal": bool(rng.random() < 0.5),
    }


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: {"flip_vertical": True},
        lambda rng: {"theta": rng.uniform(-180, 180)},
        lambda rng: {"theta": rng.uniform(-30, 30)},
        lambda rng: {"tx": rng.uniform(-9, 9)},
        lambda rng: {"ty": rng.uniform(-9, 9)},
        lambda rng: {"zx": rng.uniform(0.7, 1.3)},
        lambda rng: {"zy": rng.uniform(0.7, 1.3)},
        lambda rng: {"flip_horizontal": True},
        draw_all,
    ],
    ids=["upside down", "any theta", "theta", "tx", "ty", "zx", "zy", "flip", "all"],
)
def test_each_parameter_means_what_it_means_to_keras(draw):
    rng = np.random.default_rng(5)
    images = [smooth_noise(rng, 48, 48)[..., np.newaxis] for _ in range(10)]
    differences = compare(images, lambda: draw(rng))
    assert differences.mean() <= 0.1
    assert np.percentile(differences, 99) <= 1


def test_real_radiographs_are_augmented_as_keras_does_it(chest_xray):
    rng = np.random.default_rng(6)
    radiographs = load_radiographs(chest_xray)
    rows = rng.choice(len(radiographs), 20, replace=False)
    images = [radiographs.read(row, (224, 224)).astype(np.float32)[..., np.newaxis] for row in rows]
    differences = compare(images, lambda: draw_all(rng))
    assert differences.mean() <= 0.1
    assert np.percentile(differences, 99) <= 1


@pytest.mark.parametrize("brightness", [0.0, 0.7, 0.95, 1.0, 1.2])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_brightness_is_keras_own_to_the_gray_level(brightness, channels):
    image = np.stack([smooth_noise(np.random.default_rng(7), 32, 32) + 0.3] * channels, axis=-1)
    image = np.clip(image, 0, 255)
    for levels in (image, image - 20, 2 * image):
        ours = RadiographDataGenerator().apply_transform(levels, {"brightness": brightness})
        stock = ImageDataGenerator().apply_transform(levels.copy(), {"brightness": brightness})
        np.testing.assert_allclose(ours, stock, atol=0.01)


@pytest.mark.parametrize("brightness", [0.7, 1.2])
def test_smooth_brightness_is_that_of_keras_before_it_cuts_to_whole_gray_levels(brightness):
    image = smooth_noise(np.random.default_rng(7), 32, 32)[..., np.newaxis]
    parameters = PLAIN | {"brightness": brightness}
    ours = RadiographDataGenerator(smooth=True).apply_transform(image, parameters)
    stock = ImageDataGenerator().apply_transform(image.copy(), parameters)
    assert np.all(ours - stock > -0.01)
    assert np.all(ours - stock < 1.01)


def test_smooth_brightness_stays_between_black_and_white():
    image = np.linspace(0, 255, 64, dtype=np.float32).reshape(8, 8, 1)
    brighter = RadiographDataGenerator(smooth=True).apply_transform(image, {"brightness": 1.5})
    assert brighter.max() == 255
    assert np.allclose(brighter, np.minimum(image * 1.5, 255), atol=1e-3)


@pytest.mark.parametrize(
    ("fill_mode", "row"),
    [
        ("nearest", [10, 10, 10, 20]),
        ("constant", [0, 0, 10, 20]),
        ("reflect", [20, 10, 10, 20]),
        ("wrap", [20, 30, 10, 20]),
    ],
)
def test_what_lies_outside_is_filled_as_keras_fills_it(fill_mode, row):
    image = np.tile(np.array([10, 20, 30, 40], np.float32), (4, 1))[..., np.newaxis]
    parameters = PLAIN | {"tx": -2}
    ours = RadiographDataGenerator(fill_mode=fill_mode).apply_transform(image, parameters)
    stock = ImageDataGenerator(fill_mode=fill_mode).apply_transform(image.copy(), parameters)
    assert np.allclose(ours, stock, atol=0.01)
    assert np.allclose(ours[..., 0], [row] * 4, atol=0.01)


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_every_border_and_interpolation_is_that_of_keras(fill_mode, order):
    rng = np.random.default_rng(14)
    options = {"fill_mode": fill_mode, "interpolation_order": order, "cval": 7.0}
    ours, stock = RadiographDataGenerator(**options), ImageDataGenerator(**options)
    for _ in range(5):
        image = smooth_noise(rng, 32, 32)[..., np.newaxis]
        parameters = PLAIN | draw_all(rng) | {"shear": rng.uniform(-20, 20), "channel_shift_intensity": 12.5}
        differences = np.abs(
            ours.apply_transform(image, parameters) - stock.apply_transform(image.copy(), parameters)
        )
        assert differences.max() <= 0.5


@pytest.mark.parametrize("shape", [(48, 48), (40, 64), (65, 40)], ids=str)
def test_images_that_are_not_square_are_turned_and_zoomed_about_their_true_center(shape):
    """Keras' own takes height for width here and moves the image off its center."""
    rng = np.random.default_rng(10)
    for _ in range(10):
        image, parameters = smooth_noise(rng, *shape)[..., np.newaxis], PLAIN | draw_all(rng)
        differences = np.abs(
            RadiographDataGenerator().apply_transform(image, parameters) - about_the_center(image, parameters)
        )
        assert differences.mean() <= 0.1
        assert np.percentile(differences, 99) <= 1


def test_a_turn_is_about_the_true_center():
    image = np.zeros((21, 33, 1), np.float32)
    image[10, 16] = 255
    image[10, 20] = 100
    turned = RadiographDataGenerator().apply_transform(image, PLAIN | {"theta": 90})
    assert turned[10, 16, 0] == pytest.approx(255, abs=0.5)
    assert {tuple(place) for place in np.argwhere(turned[..., 0] > 90)} <= {(10, 16), (6, 16), (14, 16)}
    half = RadiographDataGenerator().apply_transform(image, PLAIN | {"theta": 180})
    assert np.allclose(half, image[::-1, ::-1], atol=0.5)


def test_a_flip_mirrors_left_and_right_exactly():
    image = smooth_noise(np.random.default_rng(8), 20, 31)[..., np.newaxis]
    flipped = RadiographDataGenerator().apply_transform(image, PLAIN | {"flip_horizontal": True})
    assert np.array_equal(flipped, image[:, ::-1])


@pytest.mark.parametrize("shape", [(48, 48), (40, 64)], ids=str)
def test_a_crop_is_a_window_of_the_image_that_everything_else_has_made(shape):
    rng = np.random.default_rng(12)
    generator = RadiographDataGenerator(vertical_flip=True, random_crop=(0.5, 0.9), brightness_range=None)
    for seed in range(10):
        image = smooth_noise(rng, *shape)[..., np.newaxis]
        parameters = generator.get_random_transform(image.shape, seed=seed)
        cropped = generator.apply_transform(image, parameters)
        differences = np.abs(cropped - about_the_center(image, parameters))
        assert differences.mean() <= 0.1
        assert np.percentile(differences, 99) <= 1


def test_a_crop_alone_is_cut_out_and_enlarged():
    image = smooth_noise(np.random.default_rng(13), 40, 60)[..., np.newaxis]
    cropped = RadiographDataGenerator().apply_transform(image, PLAIN | {"crop": (0.5, 0.25, 0.5)})
    window = cv2.resize(image[20:40, 15:45, 0], (60, 40), interpolation=cv2.INTER_LINEAR)
    # At its edge the window's own pixels are all that resize has; the warp sees those beside it.
    np.testing.assert_allclose(cropped[1:-1, 1:-1, 0], window[1:-1, 1:-1], atol=0.5)
    whole = RadiographDataGenerator().apply_transform(image, PLAIN | {"crop": (1.0, 0.0, 0.0)})
    assert np.array_equal(whole, image)


def test_crops_lie_within_the_image_and_reach_its_edges():
    generator = RadiographDataGenerator(random_crop=(0.6, 0.9))
    crops = [generator.get_random_transform((20, 20, 1), seed=seed)["crop"] for seed in range(500)]
    sides, lefts, tops = np.array(crops).T
    assert 0.6 <= sides.min() < 0.62
    assert 0.88 < sides.max() <= 0.9
    for corners in (lefts, tops):
        assert corners.min() >= 0
        assert (corners + sides).max() <= 1
        assert (corners / (1 - sides)).min() < 0.05
        assert (corners / (1 - sides)).max() > 0.95


def test_half_are_turned_upside_down_only_where_asked():
    for asked, low, high in ((True, 200, 300), (False, 0, 1)):
        generator = RadiographDataGenerator(vertical_flip=asked)
        turned = [
            generator.get_random_transform((9, 9, 1), seed=seed)["flip_vertical"] for seed in range(500)
        ]
        assert low <= sum(turned) < high


def test_what_else_is_drawn_does_not_depend_on_crops_and_vertical_flips():
    plain = RadiographDataGenerator.radiographs()
    more = RadiographDataGenerator.radiographs(
        vertical_flip=True, random_crop=(0.5, 1), shear_range=9, channel_shift_range=9
    )
    for seed in range(5):
        drawn = plain.get_random_transform((9, 9, 1), seed=seed)
        further = more.get_random_transform((9, 9, 1), seed=seed)
        assert {name for name in drawn if drawn[name] != further[name]} <= {
            "flip_vertical",
            "crop",
            "shear",
            "channel_shift_intensity",
        }


def test_crops_tell_views_apart():
    plain = augmentation_settings(RadiographDataGenerator())
    cropped = augmentation_settings(RadiographDataGenerator(random_crop=(0.8, 1.0)))
    assert plain["random_crop"] is None
    assert cropped == plain | {"random_crop": [0.8, 1.0]}


def test_drawn_parameters_stay_in_their_ranges_and_fill_them():
    generator = RadiographDataGenerator(
        rotation_range=20,
        width_shift_range=0.1,
        height_shift_range=0.2,
        zoom_range=0.3,
        brightness_range=(0.5, 1.5),
        horizontal_flip=True,
        shear_range=15,
        channel_shift_range=25,
    )
    drawn = [generator.get_random_transform((100, 200, 1), seed=seed) for seed in range(500)]
    bounds = {"theta": 20, "tx": 20, "ty": 20, "shear": 15, "channel_shift_intensity": 25}
    for name, bound in bounds.items():
        values = np.array([parameters[name] for parameters in drawn])
        assert np.abs(values).max() <= bound
        assert values.min() < -0.9 * bound
        assert values.max() > 0.9 * bound
    for name, low, high in (("zx", 0.7, 1.3), ("zy", 0.7, 1.3), ("brightness", 0.5, 1.5)):
        values = np.array([parameters[name] for parameters in drawn])
        assert low <= values.min() < low + 0.1
        assert high - 0.1 < values.max() <= high
    assert 200 < sum(parameters["flip_horizontal"] for parameters in drawn) < 300


def test_zoom_is_given_as_a_range_or_as_its_ends():
    zooms = (0.2, (0.8, 1.2), np.float32(0.2), np.array([0.8, 1.2]))
    ends = [RadiographDataGenerator(zoom_range=zoom).zoom_range for zoom in zooms]
    np.testing.assert_allclose(ends, [[0.8, 1.2]] * 4)


@pytest.mark.parametrize(
    "options",
    [
        {"height_shift_range": -0.1},
        {"width_shift_range": "3"},
        {"width_shift_range": []},
        {"width_shift_range": [0.1, float("nan")]},
        {"fill_mode": "mirrored"},
        {"fill_mode": None},
        {"random_crop": (0.0, 1.0)},
        {"random_crop": (0.9, 0.8)},
        {"random_crop": (0.8, 1.1)},
        {"random_crop": 0.9},
        {"rotation_range": float("nan")},
        {"rotation_range": "10"},
        {"shear_range": None},
        {"channel_shift_range": float("inf")},
        {"cval": "black"},
        {"zoom_range": "0.1"},
        {"zoom_range": (0.5, 1, 2)},
        {"brightness_range": 0.1},
        {"brightness_range": (-1, 1)},
        {"interpolation_order": 6},
        {"interpolation_order": 1.5},
        {"validation_split": 5},
        {"data_format": "unknown"},
        {"dtype": "grays"},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused_in_one_line(options):
    with pytest.raises(SettingsError, match=next(iter(options))) as refused:
        RadiographDataGenerator(**options)
    assert refused.value.parameter == next(iter(options))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "option",
    [
        "rescale",
        "preprocessing_function",
        "featurewise_center",
        "featurewise_std_normalization",
        "samplewise_center",
        "samplewise_std_normalization",
        "zca_whitening",
    ],
)
def test_what_the_model_does_itself_is_warned_of_and_refused_with_that_reason(option):
    radiographs = RadiographSet.from_arrays(np.zeros((2, 8, 8), np.uint8))
    reason = f"{option}.*preprocesses raw gray levels"
    with pytest.warns(UserWarning, match=reason):
        generator = RadiographDataGenerator(**{option: abs})
    with pytest.raises(SettingsError, match=reason) as refused:
        RadiographLoader(radiographs, 8, generator=generator)
    assert refused.value.parameter == "generator"
    RadiographDataGenerator(**{option: None})


def test_arguments_and_defaults_are_those_of_keras():
    def arguments(kind):
        return {
            name: parameter.default
            for name, parameter in signature(kind).parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }

    assert list(arguments(RadiographDataGenerator).items()) == list(arguments(ImageDataGenerator).items())
    ours = RadiographDataGenerator(*arguments(ImageDataGenerator).values())
    stock = {name: value for name, value in vars(ImageDataGenerator()).items() if not name.startswith("_")}
    assert augmentation_settings(ours) == stock | {
        "generator": "RadiographDataGenerator",
        "random_crop": None,
    }


def test_nothing_is_changed_unless_asked():
    image = smooth_noise(np.random.default_rng(9), 24, 32)[..., np.newaxis]
    generator = RadiographDataGenerator()
    assert all(np.array_equal(generator.random_transform(image, seed=seed), image) for seed in range(5))
    only_turned = RadiographDataGenerator(rotation_range=10).get_random_transform((24, 24, 1), seed=1)
    assert only_turned | {"theta": 0} == PLAIN | {"crop": None}


def test_shifts_are_fractions_pixels_or_chosen_from_a_list():
    def drawn(shift):
        generator = RadiographDataGenerator(width_shift_range=shift)
        return {generator.get_random_transform((9, 50, 1), seed=seed)["tx"] for seed in range(200)}

    assert drawn(3) == {-2, -1, 0, 1, 2}
    assert drawn(1) == {0}
    assert drawn([-3, 0, 3]) == {-3, 0, 3}
    assert drawn((0.1, 0.2)) == {-10, -5, 5, 10}
    pixels = drawn(2.5)
    assert -2.5 <= min(pixels) < -2.3
    assert 2.3 < max(pixels) <= 2.5


def test_images_with_channels_first_are_changed_as_others_are():
    image = np.random.default_rng(15).uniform(0, 255, (20, 24, 3)).astype(np.float32)
    options = {"rotation_range": 20, "width_shift_range": 0.2, "fill_mode": "wrap"}
    last = RadiographDataGenerator(**options).random_transform(image, seed=3)
    first = RadiographDataGenerator(**options, data_format="channels_first").random_transform(
        np.moveaxis(image, -1, 0), seed=3
    )
    assert np.array_equal(np.moveaxis(first, 0, -1), last)


def test_images_of_many_channels_are_changed_as_others_are():
    image = np.random.default_rng(16).uniform(0, 255, (16, 16, 6)).astype(np.float32)
    generator = RadiographDataGenerator(rotation_range=20, zoom_range=0.2)
    whole = generator.random_transform(image, seed=3)
    for channel in range(6):
        alone = generator.random_transform(image[..., [channel]], seed=3)
        np.testing.assert_allclose(whole[..., [channel]], alone, atol=0.01)


class TestRadiographs:
    """The package's own augmentation, which stored runs and features were made with."""

    def test_settings_are_those_of_stored_runs(self):
        stored = json.loads((DATA / "run-0.1" / "interrupted" / "run.json").read_text())
        settings = augmentation_settings(RadiographDataGenerator.radiographs())
        assert settings == stored["settings"]["augmentation"]
        assert list(settings) == list(stored["settings"]["augmentation"])

    def test_keys_of_views_are_those_of_stored_features(self):
        images = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
        radiographs = RadiographSet.from_arrays(images)
        for changes, key in KEYS:
            generator = RadiographDataGenerator.radiographs(**changes)
            loader = RadiographLoader(radiographs, 8, generator=generator, views=4, seed=5)
            assert loader.view_key(1, 2).hex() == key

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"fill_mode": "constant", "brightness_range": None},
            {"random_crop": (0.8, 1.0), "vertical_flip": True, "zoom_range": (0.5, 0.9)},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("shape", [(32, 32), (24, 40)], ids=str)
    def test_pixels_are_to_the_bit_what_they_were_when_features_were_stored(self, changes, shape):
        rng = np.random.default_rng(17)
        generator = RadiographDataGenerator.radiographs(**changes)
        for seed in range(20):
            image = rng.integers(0, 256, (*shape, 1)).astype(np.float32)
            changed = generator.random_transform(image, seed=seed)
            assert np.array_equal(changed, as_version_0_1(image, generator, seed))

    def test_it_is_what_searches_fits_and_recipes_use_when_none_is_given(self):
        stages = (Stage("all", epochs=1, learning_rate=1e-3),)
        recipe = Configuration.for_model("compact-cnn", image_size=32, stages=stages)
        expected = augmentation_settings(RadiographDataGenerator.radiographs())
        for user in (BatchSettings(), SearchSettings(), recipe):
            assert augmentation_settings(user.generator) == expected

    def test_it_differs_from_the_same_options_in_keras_manner_and_so_does_its_key(self):
        plain = RadiographDataGenerator(rotation_range=10, brightness_range=(0.9, 1.1))
        smooth = RadiographDataGenerator(rotation_range=10, brightness_range=(0.9, 1.1), smooth=True)
        assert augmentation_settings(plain) == augmentation_settings(smooth) | {"smooth": False}


def as_version_0_1(image, generator, seed):
    """Drawn and changed as in version 0.1, which features were stored with."""
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    zoom = rng.uniform(*generator.zoom_range, size=2)
    mirrored = rng.random() < 0.5
    theta = np.radians(rng.uniform(-10, 10))
    shift = np.array([rng.uniform(-0.05, 0.05) * width, rng.uniform(-0.05, 0.05) * height])
    brightness = None if generator.brightness_range is None else rng.uniform(0.9, 1.1)
    upside_down = generator.vertical_flip and rng.random() < 0.5
    rotation = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    linear = rotation * zoom
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = center + rotation @ shift - linear @ center
    for axis, (flipped, size) in enumerate(((mirrored, width), (upside_down, height))):
        if flipped:
            offset += linear[:, axis] * (size - 1)
            linear[:, axis] *= -1
    if generator.random_crop is not None:
        side = rng.uniform(*generator.random_crop)
        left, top = rng.uniform(0, 1 - side, size=2)
        offset += linear @ (np.array([left * width, top * height]) + (side - 1) / 2)
        linear = linear * side
    border = cv2.BORDER_CONSTANT if generator.fill_mode == "constant" else cv2.BORDER_REPLICATE
    matrix, flags = np.column_stack([linear, offset]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=border)
    if brightness is not None:
        warped = np.clip(warped * np.float32(brightness), 0, 255)
    return warped.reshape(image.shape)


class TestFlow:
    def test_one_seed_gives_the_same_images_again(self):
        images = np.random.default_rng(18).integers(0, 255, (8, 16, 16, 1)).astype(np.float32)
        generator = RadiographDataGenerator(rotation_range=20, horizontal_flip=True)
        once, again, other = (next(generator.flow(images, batch_size=8, seed=seed)) for seed in (3, 3, 4))
        assert np.array_equal(once, again)
        assert not np.array_equal(once, other)

    def test_files_of_a_folder_or_a_table_are_changed_alike_by_one_seed(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        rng = np.random.default_rng(19)
        for label in ("NORMAL", "PNEUMONIA"):
            (tmp_path / label).mkdir()
            for number in range(4):
                cv2.imwrite(str(tmp_path / label / f"{number}.png"), rng.integers(0, 255, (16, 16), np.uint8))
        table = pandas.DataFrame({"filename": sorted(map(str, tmp_path.glob("*/*.png")))})
        table["class"] = table["filename"].str.split("/").str[-2]
        common = {"target_size": (16, 16), "color_mode": "grayscale", "seed": 3}
        generator = RadiographDataGenerator(rotation_range=20)
        for flow in (
            lambda: generator.flow_from_directory(tmp_path, **common),
            lambda: generator.flow_from_dataframe(table, **common),
        ):
            (images, labels), (again, same_labels) = next(flow()), next(flow())
            assert np.array_equal(images, again)
            assert np.array_equal(labels, same_labels)

    def test_an_image_and_its_mask_are_changed_alike_by_one_seed(self):
        rng = np.random.default_rng(20)
        images = np.stack([smooth_noise(rng, 24, 24) for _ in range(8)])[..., np.newaxis]
        masks = 255.0 * (images > 128)
        options = {"rotation_range": 30, "width_shift_range": 0.2, "horizontal_flip": True}
        darker = RadiographDataGenerator(**options, brightness_range=(0.5, 0.9), smooth=True)
        plain = RadiographDataGenerator(**options)
        of_masks = RadiographDataGenerator(**options, interpolation_order=0)
        flows = [
            generator.flow(pixels, batch_size=4, seed=7)
            for generator, pixels in ((darker, images), (plain, images), (plain, masks), (of_masks, masks))
        ]
        for _ in range(3):
            changed, unchanged, blended, mask = (next(flow) for flow in flows)
            factors = changed.max(axis=(1, 2, 3), keepdims=True) / unchanged.max(
                axis=(1, 2, 3), keepdims=True
            )
            np.testing.assert_allclose(changed, factors * unchanged, atol=0.01)
            assert set(np.unique(mask)) == {0, 255}
            assert np.array_equal((mask > 0)[blended % 255 == 0], (blended > 0)[blended % 255 == 0])


class TestLayers:
    """Keras' augmentation layers in place of a generator."""

    def test_a_search_uses_them_and_its_run_is_found_again(self, spot_splits, in_tmp):
        hypermodel = CompactCNNHyperModel(input_shape=(32, 32, 1))
        options = {"max_trials": 1, "epochs": 1, "run": "layers"}
        first = tune(hypermodel, spot_splits, generator=self.layers(), **options)
        second = tune(hypermodel, spot_splits, generator=self.layers(seed=4), **options)
        assert first.history == second.history
        with pytest.raises(RunError):
            tune(hypermodel, spot_splits, generator=keras.layers.RandomFlip(), **options)

    def test_what_cannot_augment_begins_no_run(self, spot_splits, in_tmp):
        hypermodel = CompactCNNHyperModel(input_shape=(32, 32, 1))
        layers = keras.layers
        for generator in (
            ImageDataGenerator(rescale=1 / 255),
            layers.Rescaling(1 / 255),
            layers.Resizing(16, 16),
            layers.MixUp(),
            layers.BatchNormalization(),
            "flip",
        ):
            with pytest.raises(SettingsError):
                tune(hypermodel, spot_splits, generator=generator, max_trials=1, run="refused")
        assert not (in_tmp / "refused").exists()

    @staticmethod
    def layers(**options):
        return keras.Sequential(
            [keras.layers.RandomFlip("horizontal", **options), keras.layers.RandomRotation(0.1, **options)]
        )

    @staticmethod
    def loader(layer, **options):
        images = np.random.default_rng(21).integers(0, 255, (6, 16, 16), np.uint8)
        radiographs = RadiographSet.from_arrays(images, np.arange(6) % 2)
        return RadiographLoader(radiographs, 16, generator=layer, shuffle=False, **options)

    def test_a_view_depends_on_seed_and_view_alone(self):
        first = self.loader(self.layers(seed=1), views=3, seed=9)
        second = self.loader(self.layers(seed=2), views=3, seed=9)
        views = [(row, view) for row in range(6) for view in range(3)]
        images = {place: first.image(*place) for place in views}
        again = {place: second.image(*place) for place in reversed(views)}
        assert all(np.array_equal(images[place], again[place]) for place in views)
        assert not np.array_equal(images[0, 1], images[0, 2])
        assert not np.array_equal(images[0, 1], self.loader(self.layers(), views=3, seed=8).image(0, 1))
        assert np.array_equal(images[3, 0][..., 0], first.radiographs.read(3))

    def test_layers_are_known_by_their_settings_not_by_their_names_and_seeds(self):
        first, second = self.loader(self.layers(), views=2), self.loader(self.layers(seed=5), views=2)
        first.image(0, 1)  # layers that have run are the same as those that have not
        assert first.storable
        assert first.view_key(0, 1) == second.view_key(0, 1)
        other = self.loader(keras.layers.RandomRotation(0.1), views=2)
        assert other.view_key(0, 1) != self.loader(keras.layers.RandomRotation(0.2), views=2).view_key(0, 1)
        json.dumps(augmentation_settings(self.layers()))

    def test_layers_that_hold_a_function_or_are_your_own_are_no_key(self):
        class Own(keras.layers.Layer):
            def call(self, images):
                return 255 - images

        for layer in (Own(), keras.layers.Lambda(lambda images: images), keras.Sequential([Own()])):
            loader = self.loader(layer, views=2)
            assert not loader.storable
            assert not is_identified(loader.generator)
            assert loader.view_key(0, 1) is not None

    def test_layers_that_normalize_or_change_the_size_are_refused(self):
        with pytest.raises(SettingsError, match=r"Rescaling.*preprocess"):
            self.loader(keras.Sequential([keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 255)]))
        for layer in (keras.layers.RandomCrop(8, 8), keras.layers.Resizing(8, 8), keras.layers.Dense(3)):
            with pytest.raises(SettingsError, match="keep the shape"):
                self.loader(layer)
        cropped = keras.Sequential([keras.layers.ZeroPadding2D(2), keras.layers.RandomCrop(16, 16)])
        assert self.loader(cropped).image(0, 1).shape == (16, 16, 1)

    @pytest.mark.parametrize(
        ("layer", "reason"),
        [
            (lambda: keras.layers.MixUp(), "MixUp, which mixes images"),
            (lambda: keras.Sequential([keras.layers.CutMix()]), "CutMix, which mixes images"),
            (lambda: keras.layers.BatchNormalization(), "BatchNormalization with weights"),
            (lambda: keras.Sequential([keras.layers.Dense(1)]), "Dense with weights"),
            (lambda: keras.layers.Reshape((5, 5, 1)), r"cannot augment an image of shape \(16, 16, 1\): .*5"),
        ],
    )
    def test_layers_that_cannot_change_one_image_are_refused_with_the_reason(self, layer, reason):
        with pytest.raises(SettingsError, match=reason) as refused:
            self.loader(layer())
        assert refused.value.parameter == "generator"


@pytest.mark.parametrize(
    ("generator", "reason"),
    [
        (ImageDataGenerator(data_format="channels_first"), "channels_first"),
        (RadiographDataGenerator(data_format="channels_first"), "channels_first"),
        (ImageDataGenerator(validation_split=0.2), "validation_split"),
        (RadiographDataGenerator(validation_split=0.2), "validation_split"),
        (ImageDataGenerator(preprocessing_function=abs), "preprocessing_function"),
        ("flip", "Expected `generator`"),
        (RadiographDataGenerator, "Expected `generator`"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_generator_that_would_be_wrong_in_a_loader_is_refused(generator, reason):
    radiographs = RadiographSet.from_arrays(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(SettingsError, match=reason) as refused:
        RadiographLoader(radiographs, 8, generator=generator)
    assert refused.value.parameter == "generator"
    assert "\n" not in str(refused.value)


def test_it_stands_wherever_keras_generator_stands():
    rng = np.random.default_rng(0)
    images = np.stack([smooth_noise(rng, 20, 20) for _ in range(10)])[..., np.newaxis]
    flow = RadiographDataGenerator().flow(images, np.arange(10) % 2, batch_size=4)
    images, labels = next(flow)
    assert images.shape == (4, 20, 20, 1)
    assert labels.shape == (4,)
    color = RadiographDataGenerator().random_transform(np.full((8, 9, 3), 7.0))
    assert color.shape == (8, 9, 3)
