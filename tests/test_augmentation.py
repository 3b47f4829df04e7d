"""Our generator draws and applies what Keras' own does."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.core.errors import SettingsError
from pneumokeras.data.augmentation import RadiographDataGenerator, augmentation_settings
from pneumokeras.data.from_path import load_radiographs

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

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # from Keras itself


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


@pytest.mark.parametrize("brightness", [0.7, 0.95, 1.0, 1.2])
def test_brightness_is_keras_own_before_it_cuts_to_whole_gray_levels(brightness):
    image = smooth_noise(np.random.default_rng(7), 32, 32)[..., np.newaxis]
    parameters = PLAIN | {"brightness": brightness}
    ours = RadiographDataGenerator().apply_transform(image, parameters)
    stock = ImageDataGenerator().apply_transform(image.copy(), parameters)
    assert np.all(ours - stock > -0.01)
    assert np.all(ours - stock < 1.01)


def test_brightness_stays_between_black_and_white():
    image = np.linspace(0, 255, 64, dtype=np.float32).reshape(8, 8, 1)
    brighter = RadiographDataGenerator().apply_transform(image, {"brightness": 1.5})
    assert brighter.max() == 255
    assert np.allclose(brighter, np.minimum(image * 1.5, 255), atol=1e-3)


@pytest.mark.parametrize(
    ("fill_mode", "row"),
    [("nearest", [10, 10, 10, 20]), ("constant", [0, 0, 10, 20]), ("reflect", [20, 10, 10, 20])],
)
def test_what_lies_outside_is_filled_as_keras_fills_it(fill_mode, row):
    image = np.tile(np.array([10, 20, 30, 40], np.float32), (4, 1))[..., np.newaxis]
    parameters = PLAIN | {"tx": -2}
    ours = RadiographDataGenerator(fill_mode=fill_mode).apply_transform(image, parameters)
    stock = ImageDataGenerator(fill_mode=fill_mode).apply_transform(image.copy(), parameters)
    assert np.allclose(ours, stock, atol=0.01)
    assert np.allclose(ours[..., 0], [row] * 4, atol=0.01)


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
    plain, more = RadiographDataGenerator(), RadiographDataGenerator(vertical_flip=True, random_crop=(0.5, 1))
    for seed in range(5):
        drawn = plain.get_random_transform((9, 9, 1), seed=seed)
        further = more.get_random_transform((9, 9, 1), seed=seed)
        assert {name for name in drawn if drawn[name] != further[name]} <= {"flip_vertical", "crop"}


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
    )
    drawn = [generator.get_random_transform((100, 200, 1), seed=seed) for seed in range(500)]
    bounds = {"theta": 20, "tx": 20, "ty": 20}
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


def test_what_is_switched_off_does_nothing():
    generator = RadiographDataGenerator(
        rotation_range=0,
        width_shift_range=0,
        height_shift_range=0,
        zoom_range=0,
        horizontal_flip=False,
        brightness_range=None,
    )
    image = smooth_noise(np.random.default_rng(9), 24, 24)[..., np.newaxis]
    for seed in range(5):
        parameters = generator.get_random_transform(image.shape, seed=seed)
        assert np.array_equal(generator.apply_transform(image, parameters), image)


def test_zoom_is_given_as_a_range_or_as_its_ends():
    ends = [RadiographDataGenerator(zoom_range=zoom).zoom_range for zoom in (0.2, (0.8, 1.2))]
    assert np.allclose(*ends)


@pytest.mark.parametrize(
    "options",
    [
        {"width_shift_range": 10},
        {"height_shift_range": 1.0},
        {"height_shift_range": -0.1},
        {"fill_mode": "wrap"},
        {"random_crop": (0.0, 1.0)},
        {"random_crop": (0.9, 0.8)},
        {"random_crop": (0.8, 1.1)},
    ],
)
def test_settings_that_keras_takes_otherwise_are_refused(options):
    with pytest.raises(SettingsError, match=next(iter(options))):
        RadiographDataGenerator(**options)


@pytest.mark.parametrize("option", ["shear_range", "rescale", "channel_shift_range"])
def test_settings_that_are_not_offered_are_refused(option):
    with pytest.raises(TypeError, match=option):
        RadiographDataGenerator(**{option: 1})


def test_it_stands_wherever_keras_generator_stands():
    rng = np.random.default_rng(0)
    images = np.stack([smooth_noise(rng, 20, 20) for _ in range(10)])[..., np.newaxis]
    flow = RadiographDataGenerator().flow(images, np.arange(10) % 2, batch_size=4)
    images, labels = next(flow)
    assert images.shape == (4, 20, 20, 1)
    assert labels.shape == (4,)
    color = RadiographDataGenerator().random_transform(np.full((8, 9, 3), 7.0))
    assert color.shape == (8, 9, 3)
