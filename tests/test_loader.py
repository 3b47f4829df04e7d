"""Batches are what the documentation says: once each, in a known order, and augmented as Keras would."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import cv2
import keras
import numpy as np
import pytest
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data import loader as loader_module
from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.loader import RadiographLoader

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # from Keras itself


def smooth_noise(rng, height, width):
    """Gray levels without edges sharper than a radiograph's."""
    coarse = rng.uniform(0, 255, (6, 6)).astype(np.float32)
    return np.clip(np.round(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)), 0, 255)


@pytest.fixture
def radiographs():
    """Ten small images; the corner pixel of image i is i."""
    rng = np.random.default_rng(0)
    images = np.stack([smooth_noise(rng, 20, 20) for _ in range(10)]).astype(np.uint8)
    images[:, 0, 0] = np.arange(10)
    return RadiographSet.from_arrays(images, np.arange(10) % 2)


@pytest.fixture
def files(tmp_path, radiographs):
    for row in range(10):
        cv2.imwrite(str(tmp_path / f"{row}.png"), radiographs.read(row))
    return RadiographSet.from_files([tmp_path / f"{row}.png" for row in range(10)], labels=radiographs.labels)


@pytest.fixture(params=[RadiographDataGenerator, ImageDataGenerator], ids=["ours", "stock"])
def generator(request):
    return request.param(rotation_range=15, width_shift_range=0.1, zoom_range=0.2, horizontal_flip=True)


def epoch_of(loader):
    """Images and labels of the loader's current epoch."""
    batches = [loader[index] for index in range(len(loader))]
    return np.concatenate([images for images, _ in batches]), np.concatenate(
        [labels for _, labels in batches]
    )


def view_of(loader, epoch):
    loader.epoch = epoch
    return epoch_of(loader)[0]


# Batches


def test_batches_have_the_promised_shapes_and_types(files):
    images, labels = RadiographLoader(files, (12, 16), batch_size=4)[0]
    assert images.shape == (4, 12, 16, 1)
    assert labels.shape == (4,)
    assert images.dtype == labels.dtype == np.float32
    assert images.max() > 1
    assert RadiographLoader(files, 12, batch_size=4)[0][0].shape == (4, 12, 12, 1)


def test_augmented_batches_have_the_same_shapes_and_types(radiographs, generator):
    images, labels = RadiographLoader(radiographs, (12, 16), batch_size=4, generator=generator)[0]
    assert images.shape == (4, 12, 16, 1)
    assert labels.shape == (4,)
    assert images.dtype == labels.dtype == np.float32


def test_the_last_batch_is_smaller(radiographs):
    loader = RadiographLoader(radiographs, 20, batch_size=4)
    assert len(loader) == 3
    assert [len(loader[index][0]) for index in range(3)] == [4, 4, 2]


def test_a_batch_larger_than_the_set_is_the_whole_set(radiographs):
    loader = RadiographLoader(radiographs, 20, batch_size=64)
    assert len(loader) == 1
    assert len(loader[0][0]) == 10


def test_evaluation_comes_in_file_order_every_epoch(files):
    loader = RadiographLoader(files, 20, batch_size=3)
    for _ in range(3):
        images, labels = epoch_of(loader)
        assert list(images[:, 0, 0, 0]) == list(range(10))
        assert np.array_equal(labels, files.labels)
        loader.on_epoch_begin()
        loader.on_epoch_end()
    assert loader.epoch == 3


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_every_radiograph_comes_exactly_once_an_epoch_with_its_own_label(radiographs, epoch):
    loader = RadiographLoader(
        radiographs, 20, batch_size=3, generator=RadiographDataGenerator.radiographs(), views=1
    )
    loader.epoch = epoch
    images, labels = epoch_of(loader)
    shown = images[:, 0, 0, 0].astype(int)
    assert sorted(shown) == list(range(10))
    assert np.array_equal(labels, radiographs.labels[shown])
    assert list(shown) == list(np.random.default_rng([0, epoch]).permutation(10))


def test_each_epoch_has_another_order(radiographs):
    loader = RadiographLoader(radiographs, 20, shuffle=True)
    orders = {tuple(view_of(loader, epoch)[:, 0, 0, 0]) for epoch in range(5)}
    assert len(orders) == 5


def test_unlabeled_radiographs_come_as_images_alone(radiographs):
    unlabeled = RadiographSet.from_arrays(radiographs.images)
    (images,) = RadiographLoader(unlabeled, 20, batch_size=4)[0]
    assert images.shape == (4, 20, 20, 1)


def test_an_index_that_is_no_batch_is_refused_and_a_negative_one_counts_from_the_end(radiographs):
    loader = RadiographLoader(radiographs, 20, batch_size=4)
    assert np.array_equal(loader[-1][0], loader[2][0])
    for index in (3, -4):
        with pytest.raises(IndexError):
            loader[index]


def test_an_empty_set_has_no_batches(radiographs):
    assert len(RadiographLoader(radiographs.subset([]), 20)) == 0


@pytest.mark.parametrize("numbers", [{"batch_size": 0}, {"views": 0}, {"views": -1}])
def test_numbers_out_of_range_are_refused(radiographs, numbers):
    with pytest.raises(SettingsError, match="at least 1"):
        RadiographLoader(radiographs, 20, **numbers)


def test_padding_is_handed_on(tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((10, 20), 255, np.uint8))
    wide = RadiographSet.from_files([tmp_path / "wide.png"], labels=[0])
    padded, stretched = (RadiographLoader(wide, 16, pad=pad)[0][0][0, ..., 0] for pad in (True, False))
    assert np.all(padded[4:12] == 255)
    assert padded.sum() == 255 * 8 * 16
    assert np.all(stretched == 255)


@pytest.mark.parametrize("image_size", [np.int64(12), (np.int64(12), np.int32(12)), [12, 12]], ids=repr)
def test_a_size_may_be_any_whole_number(files, image_size):
    loader = RadiographLoader(files, image_size, batch_size=4)
    assert loader[0][0].shape == (4, 12, 12, 1)
    assert loader.image_size == (12, 12)
    assert {type(side) for side in loader.image_size} == {int}


@pytest.mark.parametrize("image_size", [12.5, (12,), (12, "12"), (12, 12, 1), None])
def test_a_size_that_is_none_is_refused(files, image_size):
    with pytest.raises(SettingsError, match="image_size"):
        RadiographLoader(files, image_size)


def test_three_channels_are_the_gray_levels_three_times_over(files, generator):
    options = {"batch_size": 4, "generator": generator, "shuffle": False, "seed": 3}
    gray, color = (RadiographLoader(files, (12, 16), channels=channels, **options) for channels in (1, 3))
    for loader in (gray, color):
        loader.epoch = 1
    images, labels = color[0]
    assert images.shape == (4, 12, 16, 3)
    assert images.dtype == np.float32
    assert np.array_equal(images, np.repeat(gray[0][0], 3, axis=-1))
    assert np.array_equal(labels, gray[0][1])
    for view in (None, 0, 2):
        assert np.array_equal(color.image(5, view), np.repeat(gray.image(5, view), 3, axis=-1))


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_numbers_of_channels_are_refused(radiographs, channels):
    with pytest.raises(SettingsError, match=f"1 or 3 channels. Received {channels}"):
        RadiographLoader(radiographs, 20, channels=channels)


def test_preloading_names_the_first_bad_file_in_the_sets_order(files):
    for row in (8, 3, 6):
        files.images[row].write_bytes(b"no image")
    for rows, first in ((range(10), 3), ([6, 1, 8, 3], 6)):
        with pytest.raises(DataError, match=rf"{first}\.png cannot be decoded"):
            RadiographLoader(files.subset(rows), 16).preload()


@pytest.mark.parametrize(("limit", "reads"), [(10 * 256, 10), (10 * 256 - 1, 20)])
def test_what_was_preloaded_is_not_read_again_if_it_fits(files, monkeypatch, limit, reads):
    count = []
    read = RadiographSet.read
    monkeypatch.setattr(RadiographSet, "read", lambda *a, **k: count.append(1) or read(*a, **k))
    monkeypatch.setattr(loader_module, "MEMORY_LIMIT", limit)
    loader = RadiographLoader(files, 16, batch_size=4)
    assert loader.preload() is None
    assert len(count) == 10
    epoch_of(loader)
    assert len(count) == reads


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "broken.jpeg").write_text("no image")
    with pytest.raises(DataError, match=r"broken\.jpeg"):
        RadiographLoader(RadiographSet.from_files([tmp_path / "broken.jpeg"]), 16)[0]


# Views


def test_view_0_is_plain_and_the_others_are_not(radiographs, generator):
    loader = RadiographLoader(radiographs, 20, generator=generator, views=3, shuffle=False)
    plain = radiographs.images[..., np.newaxis]
    assert np.array_equal(view_of(loader, 0), plain)
    for epoch in (1, 2):
        changed = np.abs(view_of(loader, epoch) - plain).mean(axis=(1, 2, 3))
        assert np.all(changed > 1)


def test_epoch_e_shows_view_e_mod_v(radiographs, generator):
    loader = RadiographLoader(radiographs, 20, generator=generator, views=3, shuffle=False)
    views = [view_of(loader, epoch) for epoch in range(7)]
    for epoch in range(7):
        assert np.array_equal(views[epoch], views[epoch % 3])
    assert not np.array_equal(views[1], views[2])


def test_a_view_does_not_depend_on_how_many_there_are(radiographs):
    few, many = (
        RadiographLoader(
            radiographs, 20, generator=RadiographDataGenerator.radiographs(), views=views, shuffle=False
        )
        for views in (2, 8)
    )
    assert np.array_equal(view_of(few, 1), view_of(many, 1))


def test_one_view_is_no_augmentation(radiographs, generator):
    loader = RadiographLoader(radiographs, 20, generator=generator, views=1, shuffle=False)
    for epoch in range(3):
        assert np.array_equal(view_of(loader, epoch), radiographs.images[..., np.newaxis])


def test_without_views_every_epoch_is_new_from_the_first(radiographs, generator):
    loader = RadiographLoader(radiographs, 20, generator=generator, shuffle=False)
    shown = [radiographs.images[..., np.newaxis].astype(np.float32)] + [
        view_of(loader, epoch) for epoch in range(4)
    ]
    for one in range(5):
        for other in range(one):
            assert not np.array_equal(shown[one], shown[other])


def test_augmentation_follows_the_seed(radiographs, generator):
    def shown(seed):
        return view_of(RadiographLoader(radiographs, 20, generator=generator, seed=seed, shuffle=False), 2)

    assert np.array_equal(shown(4), shown(4))
    assert not np.array_equal(shown(4), shown(5))


def test_augmentation_follows_the_content_not_the_place_in_the_set(files, generator):
    order = np.random.default_rng(1).permutation(10)[:6]
    whole = view_of(RadiographLoader(files, 20, generator=generator, shuffle=False), 1)
    part = view_of(RadiographLoader(files.subset(order), 20, generator=generator, shuffle=False), 1)
    assert np.array_equal(part, whole[order])


def test_shuffling_changes_the_order_only(radiographs, generator):
    straight = RadiographLoader(radiographs, 20, generator=generator, shuffle=False)
    shuffled = RadiographLoader(radiographs, 20, generator=generator)
    assert np.array_equal(
        view_of(shuffled, 2), view_of(straight, 2)[np.random.default_rng([0, 2]).permutation(10)]
    )


def test_numpys_global_state_is_left_alone(radiographs, generator):
    loader = RadiographLoader(radiographs, 20, generator=generator)
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    epoch_of(loader)
    assert np.array_equal(np.random.random(4), expected)


def test_numpys_global_state_does_not_matter(radiographs, generator):
    shown = []
    for seed in (1, 2):
        np.random.seed(seed)
        shown.append(epoch_of(RadiographLoader(radiographs, 20, generator=generator))[0])
    assert np.array_equal(*shown)


def test_threads_that_read_at_once_get_what_one_thread_gets(files, generator):
    alone = RadiographLoader(files, 20, batch_size=1, generator=generator)
    expected = [alone[index] for index in range(10)]
    together = RadiographLoader(files, 20, batch_size=1, generator=generator)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for index, (images, labels) in enumerate(pool.map(together.__getitem__, range(10))):
                assert np.array_equal(images, expected[index][0])
                assert np.array_equal(labels, expected[index][1])


class Hesitant(ImageDataGenerator):
    """Gives other threads every chance to disturb NumPy's global state between seeding and drawing."""

    def get_random_transform(self, img_shape, seed=None):
        np.random.seed(seed)
        sleep(0.002)
        return super().get_random_transform(img_shape)


def test_threads_do_not_disturb_each_others_draws(radiographs):
    loader = RadiographLoader(radiographs, 20, batch_size=1, generator=Hesitant(rotation_range=30))
    expected = [loader[index][0] for index in range(10)]
    with ThreadPoolExecutor(4) as pool:
        for images, wanted in zip(pool.map(lambda index: loader[index][0], range(10)), expected, strict=True):
            assert np.array_equal(images, wanted)


def test_batches_are_the_callers_own(radiographs):
    loader = RadiographLoader(radiographs, 20)
    first = loader[0][0]
    before = first.copy()
    first[:] = 0
    assert np.array_equal(loader[0][0], before)


@pytest.mark.parametrize(("limit", "reads"), [(10 * 16 * 16, 10), (10 * 16 * 16 - 1, 30)])
def test_files_are_read_once_where_their_pixels_fit_into_memory(files, monkeypatch, limit, reads):
    read, count = RadiographSet.read, []
    monkeypatch.setattr(RadiographSet, "read", lambda *a, **k: count.append(1) or read(*a, **k))
    monkeypatch.setattr(loader_module, "MEMORY_LIMIT", limit)
    loader = RadiographLoader(files, 16, batch_size=4)
    epochs = [view_of(loader, epoch) for epoch in range(3)]
    assert len(count) == reads
    assert np.array_equal(epochs[0], epochs[2])


# Oversampling


@pytest.fixture
def uneven():
    """Three of class 0, then thirty of class 1."""
    images = np.random.default_rng(2).integers(0, 256, (33, 20, 20)).astype(np.uint8)
    return RadiographSet.from_arrays(images, np.repeat([0, 1], [3, 30]))


def oversampling(radiographs, ratio, **options):
    options = {"generator": RadiographDataGenerator.radiographs(), "shuffle": False} | options
    return RadiographLoader(radiographs, 20, oversample=ratio, **options)


@pytest.mark.parametrize(("ratio", "copies"), [(1, 27), (1.2, 22), (2.89, 7), (10, 0), (30, 0)])
def test_the_smaller_class_is_added_to_until_the_ratio_is_reached(uneven, ratio, copies):
    labels = epoch_of(oversampling(uneven, ratio))[1]
    assert np.array_equal(labels, [*uneven.labels, *[0] * copies])
    assert len(oversampling(uneven, ratio, batch_size=8)) == -(-(33 + copies) // 8)


def test_copies_are_shared_out_evenly(uneven):
    loader = oversampling(uneven, 1.2)
    assert np.array_equal(loader.rows[:33], np.arange(33))
    assert sorted(np.bincount(loader.rows[33:])) == [7, 7, 8]
    assert sorted(np.bincount(oversampling(uneven, 2.89).rows[33:])) == [2, 2, 3]


@pytest.mark.parametrize("views", [1, 3, None])
def test_each_copy_is_augmented_in_its_own_way(uneven, views):
    loader = oversampling(uneven, 1.2, views=views)
    shown = [image.tobytes() for epoch in range(views or 3) for image in view_of(loader, epoch)]
    assert len(set(shown)) == len(shown)
    plain = {image.astype(np.float32).tobytes() for image in uneven.images}
    assert not plain & {image.tobytes() for epoch in range(3) for image in view_of(loader, epoch)[33:]}


def test_with_one_view_the_radiographs_are_plain_and_the_copies_stay_as_they_are(uneven):
    loader = oversampling(uneven, 1.2, views=1)
    assert np.array_equal(view_of(loader, 0)[:33, ..., 0], uneven.images)
    assert np.array_equal(view_of(loader, 0), view_of(loader, 5))


def test_copies_follow_the_seed(uneven):
    one, same, other = (oversampling(uneven, 1.2, views=1, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(epoch_of(one)[0], epoch_of(same)[0])
    assert not np.array_equal(epoch_of(one)[0], epoch_of(other)[0])


def test_copies_are_shuffled_among_the_radiographs(uneven):
    straight, shuffled = (oversampling(uneven, 1.2, views=2, shuffle=shuffle) for shuffle in (False, True))
    images, labels = epoch_of(straight)
    order = np.random.default_rng([0, 0]).permutation(55)
    assert np.array_equal(epoch_of(shuffled)[0], images[order])
    assert np.array_equal(epoch_of(shuffled)[1], labels[order])


def test_the_radiographs_are_shown_as_without_copies(uneven):
    alone = RadiographLoader(uneven, 20, generator=RadiographDataGenerator.radiographs(), shuffle=False)
    assert np.array_equal(view_of(oversampling(uneven, 1.2), 2)[:33], view_of(alone, 2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ratio": 0.9}, "at least 1"),
        ({"ratio": float("nan")}, "at least 1"),
        ({"ratio": 1.2, "generator": None}, "generator"),
    ],
)
def test_copies_that_cannot_be_made_are_refused(uneven, options, said):
    with pytest.raises(SettingsError, match=said):
        oversampling(uneven, **options)
    with pytest.raises(DataError, match="both classes"):
        oversampling(uneven.subset(np.arange(3)), 1.2)


# What stands around it


def test_as_an_iterator_it_goes_on_epoch_after_epoch(radiographs):
    loader = RadiographLoader(
        radiographs, 20, batch_size=4, generator=RadiographDataGenerator.radiographs(), views=3, seed=9
    )
    expected = RadiographLoader(
        radiographs, 20, batch_size=4, generator=RadiographDataGenerator.radiographs(), views=3, seed=9
    )
    assert iter(loader) is loader
    shown = [next(loader) for _ in range(9)]
    assert loader.epoch == 3
    for epoch in range(3):
        expected.epoch = epoch
        for index in range(3):
            assert np.array_equal(shown[3 * epoch + index][0], expected[index][0])
    loader.reset()
    assert np.array_equal(next(loader)[0], shown[0][0])


class Witness(keras.Model):
    """Keeps the batches that `fit` trains on."""

    def __init__(self):
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")
        self.seen = []

    def call(self, inputs):
        return self.dense(self.flatten(inputs))

    def train_step(self, data):
        self.seen.append(data[0].numpy())
        return super().train_step(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_fit_trains_on_view_e_in_epoch_e(radiographs, workers):
    def loader(**options):
        return RadiographLoader(radiographs, 20, batch_size=4, views=3, seed=2, **options)

    witness = Witness()
    witness.compile(loss="binary_crossentropy", run_eagerly=True)
    fitted = loader(generator=RadiographDataGenerator.radiographs(), workers=workers)
    witness.fit(fitted, validation_data=RadiographLoader(radiographs, 20), epochs=4, verbose=0, shuffle=False)
    reference = loader(generator=RadiographDataGenerator.radiographs())
    expected = [next(reference)[0] for _ in range(12)]
    assert len(witness.seen) == 12
    for shown, wanted in zip(witness.seen, expected, strict=True):
        assert np.array_equal(shown, wanted)


def test_predictions_line_up_with_labels(files):
    inputs = keras.Input((20, 20, 1))
    model = keras.Model(inputs, inputs[:, 0, 0, :])
    for _ in range(2):
        predicted = model.predict(RadiographLoader(files, 20, batch_size=3), verbose=0)
        assert list(predicted[:, 0]) == list(range(10))


@pytest.mark.parametrize(
    "options",
    [
        {"rescale": 1 / 255},
        {"preprocessing_function": lambda pixels: pixels - 127},
        {"featurewise_center": True},
        {"featurewise_std_normalization": True},
        {"samplewise_center": True},
        {"samplewise_std_normalization": True},
        {"zca_whitening": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_the_model_does_itself_is_refused_with_the_reason(radiographs, options):
    with warnings.catch_warnings(action="ignore"):
        generator = ImageDataGenerator(**options)
    with pytest.raises(SettingsError, match="the model preprocesses raw gray levels"):
        RadiographLoader(radiographs, 20, generator=generator)
