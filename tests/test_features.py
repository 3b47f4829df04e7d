"""Stored features are what the network says, asked once; a head trained on them is the full model's."""

import subprocess
import sys
import threading

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.models.forward import forward
from pneumokeras.models.hypermodels import TransferHyperModel
from pneumokeras.models.saving import load_model
from pneumokeras.runs.folder import open_run
from pneumokeras.training import feature_store
from pneumokeras.training import features as features_module
from pneumokeras.training.data_adapters import FeatureBatches, ImageBatches
from pneumokeras.training.feature_store import cache_folder, clear_cache, stored_features
from pneumokeras.training.features import PRECISIONS, Extractor, Views
from pneumokeras.training.fit import fit
from pneumokeras.training.loop import fit_on
from pneumokeras.training.predict import predict
from pneumokeras.training.settings import BatchSettings, Stage
from pneumokeras.training.tune import tune

SIDE = 32


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def network_of(factor=1.0):
    """A stand-in for a backbone: mean and largest gray level of each image."""
    inputs = keras.Input((SIDE, SIDE, 1))
    scaled = keras.layers.Rescaling(factor)(inputs)
    mean = keras.layers.GlobalAveragePooling2D()(scaled)
    largest = keras.layers.GlobalMaxPooling2D()(scaled)
    return keras.Model(inputs, keras.layers.Concatenate()([mean, largest]))


def map_network():
    """A stand-in for lower stages: halves the image."""
    inputs = keras.Input((SIDE, SIDE, 1))
    return keras.Model(inputs, keras.layers.AveragePooling2D(2)(inputs))


def tiny_backbone():
    """Two stages."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 1))
    tensor = keras.layers.Rescaling(1 / 255)(inputs)
    for filters in (4, 8):
        tensor = keras.layers.Conv2D(filters, 3, strides=2, activation="relu")(tensor)
    return keras.Model(inputs, tensor, name="tiny")


@pytest.fixture(scope="module")
def network():
    return network_of()


def loader_of(radiographs, **options):
    return RadiographLoader(
        radiographs, SIDE, generator=RadiographDataGenerator.radiographs(), batch_size=8, **options
    )


def extractor_of(network, **options):
    return Extractor(network, backbone="mean", weights="none", precision="float32", **options)


class Asked:
    """Counts what was found and computed."""

    def __init__(self):
        self.seen = []

    def __call__(self, progress):
        self.seen.append(progress)

    @property
    def computed(self):
        return self.seen[-1].done

    @property
    def found(self):
        return self.seen[-1].found


def extracted(network, radiographs, views=1, **options):
    """Extract, compare with the network asked directly, and tell what was found and computed."""
    asked, sets = Asked(), Views(loader_of(radiographs, **options), views)
    rows = extractor_of(network).features([sets], progress=asked).rows[0]
    images = np.stack([sets[index] for index in range(len(sets))])
    np.testing.assert_allclose(rows[:], network(images).numpy(), rtol=1e-4, atol=1e-3)
    return asked


class TestReuse:
    def test_the_second_time_nothing_is_computed(self, cache, network, spot_splits):
        assert extracted(network, spot_splits.train, views=2).computed == 128
        again = extracted(network, spot_splits.train, views=2)
        assert (again.found, again.computed) == (128, 0)

    def test_more_views_cost_only_the_new_ones(self, cache, network, spot_splits):
        extracted(network, spot_splits.train, views=1)
        assert extracted(network, spot_splits.train, views=4).computed == 3 * 64

    def test_a_changed_image_is_computed_again_and_only_that(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        images = spot_splits.val.images.copy()
        images[3] = 255 - images[3]
        assert extracted(network, RadiographSet.from_arrays(images, spot_splits.val.labels)).computed == 1

    def test_order_and_names_do_not_matter(self, cache, network, spot_splits):
        extracted(network, spot_splits.val, views=2)
        images = spot_splits.val.images[::-1].copy()
        assert (
            extracted(
                network, RadiographSet.from_arrays(images, spot_splits.val.labels[::-1]), views=2
            ).computed
            == 0
        )

    def test_another_seed_augments_anew_and_keeps_the_plain_view(self, cache, network, spot_splits):
        extracted(network, spot_splits.val, views=2)
        assert extracted(network, spot_splits.val, views=2, seed=1).computed == 32

    def test_another_network_has_another_store(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        assert extracted(network_of(0.5), spot_splits.val).computed == 32

    def test_a_network_built_again_finds_its_features(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        assert extracted(network_of(), spot_splits.val).computed == 0

    def test_padded_radiographs_are_kept_apart(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        assert extracted(network, spot_splits.val, pad=True).computed == 32

    def test_what_people_call_a_network_does_not_matter(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        asked = Asked()
        again = Extractor(network, backbone="another", weights="a file", precision="float32")
        again.features([Views(loader_of(spot_splits.val))], progress=asked)
        assert asked.computed == 0

    def test_all_that_a_generator_draws_from_tells_views_apart(self, spot_splits):
        def keys(**options):
            generator = ImageDataGenerator(fill_mode="constant", width_shift_range=0.2, **options)
            return Views(RadiographLoader(spot_splits.val, SIDE, generator=generator, views=2), 2).view_keys()

        assert keys(cval=0) == keys(cval=0)
        assert set(keys(cval=0)[32:]).isdisjoint(keys(cval=255)[32:])

    def test_views_of_somebodys_own_generator_are_not_stored(self, cache, spot_splits, tmp_path):
        class Own(ImageDataGenerator):
            pass

        hypermodel = TransferHyperModel(own_network(), input_shape=(SIDE, SIDE, 1))
        tune(hypermodel, spot_splits, generator=Own(), max_trials=1, epochs=1, run=tmp_path / "run")
        assert stored_features() == []

    def test_several_sets_are_told_of_as_one(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        asked = Asked()
        train, val = (loader_of(part) for part in (spot_splits.train, spot_splits.val))
        rows = extractor_of(network).features([Views(train, 2), Views(val)], progress=asked).rows
        assert [len(part) for part in rows] == [128, 32]
        assert (asked.seen[0].wanted, asked.found, asked.computed) == (160, 32, 128)
        np.testing.assert_allclose(
            rows[1][:], network(np.stack([val.image(i, 0) for i in range(32)])), atol=1e-3
        )

    def test_equal_radiographs_are_computed_once(self, cache, network, spot_splits):
        twice = spot_splits.val.subset(np.r_[0:8, 0:8])
        assert extracted(network, twice).computed == 8


class TestDamage:
    def test_an_interrupted_extraction_goes_on(self, cache, network, spot_splits, monkeypatch):
        def interrupt(progress):
            if progress.done == 24:
                raise KeyboardInterrupt

        monkeypatch.setattr(features_module, "BATCH_SIZE", 8)
        with pytest.raises(KeyboardInterrupt):
            extractor_of(network).features([Views(loader_of(spot_splits.train))], progress=interrupt)
        assert extracted(network, spot_splits.train).found == 24

    @pytest.mark.parametrize("suffix", [".rows", ".keys"])
    def test_a_truncated_shard_loses_only_its_end(self, suffix, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        shard = next(cache.rglob(f"*{suffix}"))
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2 + 3])
        assert 15 <= extracted(network, spot_splits.val).found <= 16
        assert extracted(network, spot_splits.val).computed == 0

    def test_a_flipped_bit_is_noticed(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        shard = next(cache.rglob("*.rows"))
        content = bytearray(shard.read_bytes())
        content[10] ^= 1
        shard.write_bytes(content)
        assert extracted(network, spot_splits.val).computed == 1

    def test_a_shard_without_rows_counts_for_nothing(self, cache, network, spot_splits):
        extracted(network, spot_splits.val)
        next(cache.rglob("*.rows")).unlink()
        assert extracted(network, spot_splits.val).computed == 32

    def test_a_cache_that_cannot_be_written_is_one_error(self, network, spot_splits, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "file"))
        with pytest.raises(DataError, match="`cache=False`"):
            extracted(network, spot_splits.val)

    @pytest.mark.parametrize("home", ["a file", "not writable"])
    def test_without_a_choice_of_the_user_features_last_as_long_as_the_process(
        self, home, spot_splits, tmp_path, monkeypatch, caplog
    ):
        network = network_of()
        if home == "a file":
            (tmp_path / "home").write_text("no folder")
        else:
            monkeypatch.setattr("os.access", lambda path, mode: False)
        monkeypatch.delenv("PNEUMOKERAS_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        feature_store._temporary_folder.cache_clear()
        assert extracted(network, spot_splits.val).computed == 32
        assert extracted(network, spot_splits.val).computed == 0
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "PNEUMOKERAS_CACHE" in caplog.text
        assert not list(tmp_path.rglob("*.rows"))

    def test_the_users_folder_of_caches_is_used(self, spot_splits, tmp_path, monkeypatch, caplog):
        network = network_of()
        monkeypatch.delenv("PNEUMOKERAS_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
        extracted(network, spot_splits.val)
        assert feature_store.cache_folder() == tmp_path / "caches" / "pneumokeras"
        assert list((tmp_path / "caches" / "pneumokeras" / "features").iterdir())
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, as its standard has it
        monkeypatch.setenv("HOME", str(tmp_path / "me"))
        assert feature_store.cache_folder() == tmp_path / "me" / ".cache" / "pneumokeras"
        assert caplog.records == []

    @pytest.mark.parametrize("scale", [1e-12, 1e-9])
    def test_maps_too_small_for_their_format_are_one_error(self, scale, cache, spot_splits):
        inputs = keras.Input((SIDE, SIDE, 1))
        network = keras.Model(inputs, keras.layers.Rescaling(scale)(inputs))
        with pytest.raises(DataError, match="too small for float16"):
            extractor_of(network).features([Views(loader_of(spot_splits.val))])

    def test_small_values_beside_larger_ones_are_no_error(self, cache, spot_splits):
        inputs = keras.Input((SIDE, SIDE, 1))
        both = [keras.layers.Rescaling(scale)(inputs) for scale in (1e-12, 1.0)]
        network = keras.Model(inputs, keras.layers.Concatenate()(both))
        black = RadiographSet.from_arrays(np.zeros((2, SIDE, SIDE), np.uint8), [0, 1])
        for radiographs in (spot_splits.val, black):
            extractor_of(network).features([Views(loader_of(radiographs))])

    def test_features_too_large_for_their_format_are_one_error(self, cache, spot_splits):
        inputs = keras.Input((SIDE, SIDE, 1))
        network = keras.Model(inputs, keras.layers.Rescaling(1e4)(inputs))
        with pytest.raises(DataError, match="float16"):
            extractor_of(network).features([Views(loader_of(spot_splits.val))])


def test_another_version_of_what_decodes_has_another_store(cache, network, spot_splits, monkeypatch):
    extracted(network, spot_splits.val)
    assert "decoders" not in stored_features()[0].setting
    versions = {"opencv-python-headless": "5.1.0.84", "pydicom": "3.0.2"}
    monkeypatch.setattr("pneumokeras.training.features.metadata.version", versions.__getitem__)
    assert extracted(network, spot_splits.val).computed == 32
    (other,) = [each.setting for each in stored_features() if "decoders" in each.setting]
    assert other["decoders"] == {"opencv-python-headless": "5.1"}


def test_the_versions_that_need_no_word_are_those_of_today():
    """If this fails, OpenCV or pydicom decodes in a new version: nothing has to change but this test."""
    assert features_module._other_decoders() == {}


def test_a_cache_with_a_damaged_folder_can_be_listed_and_cleared(cache, network, spot_splits):
    extracted(network, spot_splits.val)
    damaged = cache / "features" / "damaged"
    damaged.mkdir()
    (damaged / "setting.json").write_text("{")
    (damaged / "a.rows").write_bytes(bytes(10))
    assert len(stored_features()) == 1
    clear_cache()
    assert list((cache / "features").iterdir()) == []


def test_the_cache_can_be_cleared_while_it_is_used(cache, network, spot_splits):
    failures = []

    def repeat(work):
        for _ in range(40):
            try:
                work()
            except DataError:  # one line that says so
                pass
            except Exception as error:
                failures.append(error)

    extractor, sets = extractor_of(network), [Views(loader_of(spot_splits.val))]
    work = [lambda: extractor.features(sets), clear_cache, stored_features]
    threads = [threading.Thread(target=repeat, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


EXTRACT = """
import sys
import numpy as np
from pneumokeras.data.dataset import RadiographSet
from tests.test_features import extracted, network_of
images = np.load(sys.argv[1])
extracted(network_of(), RadiographSet.from_arrays(images, np.arange(len(images)) % 2), views=3)
"""


def test_two_processes_may_share_a_store(cache, network, spot_splits, tmp_path):
    images = tmp_path / "images.npy"
    np.save(images, spot_splits.train.images)
    command = [sys.executable, "-c", EXTRACT, str(images)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.wait(timeout=120) == 0, process.stderr.read()
        process.stderr.close()
    again = RadiographSet.from_arrays(spot_splits.train.images, np.arange(64) % 2)
    assert extracted(network, again, views=3).computed == 0


class TestMaps:
    def test_feature_maps_are_kept_in_half_the_bytes(self, cache, spot_splits):
        loader = loader_of(spot_splits.val)
        rows = extractor_of(map_network()).features([Views(loader)]).rows[0]
        images = np.stack([loader.image(row, 0) for row in range(32)])
        np.testing.assert_allclose(rows[:], map_network()(images).numpy(), rtol=1e-3)
        assert next(cache.rglob("*.rows")).stat().st_size == 32 * 16 * 16 * 2

    def test_what_would_have_to_be_stored_is_known_beforehand(self, cache, spot_splits):
        extractor, sets = extractor_of(map_network()), [Views(loader_of(spot_splits.val), 2)]
        assert extractor.missing_bytes(sets) == 2 * 32 * 16 * 16 * 2
        extractor.features([Views(loader_of(spot_splits.val))])
        assert extractor.missing_bytes(sets) == 32 * 16 * 16 * 2

    def test_features_larger_than_memory_are_trained_on_from_disk(self, cache, spot_splits, monkeypatch):
        images = ImageBatches.of(
            spot_splits.train, spot_splits.val, BatchSettings(views=2), image_size=(SIDE, SIDE)
        )
        sets = [Views(images.train, 2), Views(images.val)]
        rows = extractor_of(map_network()).features(sets).rows

        def losses(limit):
            monkeypatch.setattr("pneumokeras.training.data_adapters.MEMORY_LIMIT", limit)
            keras.utils.set_random_seed(0)
            inputs = keras.Input((16, 16, 1))
            pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
            model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(pooled))
            model.compile("adam", "binary_crossentropy")
            return fit_on(model, FeatureBatches(images, *rows), epochs=3).history["val_loss"]

        np.testing.assert_allclose(losses(0), losses(2**30), rtol=1e-5)


class TestPrecision:
    @pytest.fixture
    def probed(self, monkeypatch):
        """Every set is large enough for a probe."""
        monkeypatch.setattr(features_module, "_PROBE_FROM", 1)

    @pytest.fixture
    def extractor(self):
        """A small convolutional network, whose features differ a little in bfloat16."""
        keras.utils.set_random_seed(0)
        inputs = keras.Input((SIDE, SIDE, 1))
        scaled = keras.layers.Rescaling(1 / 255)(inputs)
        maps = keras.layers.Conv2D(8, 3, activation="relu")(scaled)
        network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
        return Extractor(network, backbone="small", weights="random")

    def features(self, extractor, radiographs, asked=None):
        return extractor.features([Views(loader_of(radiographs))], progress=asked)

    def prefer(self, monkeypatch, precision, extractor):
        """Let one precision seem the faster."""
        fast = extractor._function(precision)
        monkeypatch.setattr(
            features_module, "_seconds", lambda function, images, size: 1.0 if function is fast else 2.0
        )

    @pytest.mark.parametrize("precision", ["float32", "folded", "bfloat16"])
    def test_the_fastest_is_taken(self, precision, probed, *, cache, extractor, spot_splits, monkeypatch):
        self.prefer(monkeypatch, precision, extractor)
        assert self.features(extractor, spot_splits.val).precision == precision

    def test_bfloat16_is_left_where_its_features_point_elsewhere(
        self, probed, cache, extractor, spot_splits, monkeypatch
    ):
        self.prefer(monkeypatch, "bfloat16", extractor)
        monkeypatch.setattr(features_module, "MIN_COSINE", {"folded": 1.1, "bfloat16": 1.1})
        assert self.features(extractor, spot_splits.val).precision == "float32"

    def test_a_network_that_runs_in_float32_only_does_so(self, probed, cache, spot_splits, monkeypatch):
        @keras.saving.register_keras_serializable("tests")
        class Doubled(keras.layers.Layer):
            def call(self, inputs):
                return inputs * tf.constant(2.0)

        inputs = keras.Input((SIDE, SIDE, 1))
        maps = Doubled()(keras.layers.Conv2D(4, 3)(inputs))
        network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
        named = {"backbone": "own", "weights": "own"}
        found = self.features(Extractor(network, **named), spot_splits.val)
        assert found.precision in ("float32", "folded")
        with pytest.raises(SettingsError, match="cannot be run in bfloat16"):
            self.features(Extractor(network, **named, precision="bfloat16"), spot_splits.val)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_sequential_network_has_features(self, precision, cache, spot_splits):
        layers = keras.layers
        network = keras.Sequential(
            [keras.Input((SIDE, SIDE, 1)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten()]
        )
        extractor = Extractor(network, backbone="own", weights="own", precision=precision)
        rows = self.features(extractor, spot_splits.val).rows[0][:]
        expected = network.predict(spot_splits.val.pixels(SIDE)[..., np.newaxis], verbose=0)
        np.testing.assert_allclose(rows, expected, atol=0.02 * np.abs(expected).max())

    def test_few_images_are_not_worth_a_probe(self, cache, extractor, spot_splits, monkeypatch):
        self.prefer(monkeypatch, "bfloat16", extractor)
        assert self.features(extractor, spot_splits.val).precision == "float32"

    def test_what_was_begun_in_bfloat16_is_gone_on_with(
        self, probed, cache, extractor, spot_splits, monkeypatch
    ):
        self.prefer(monkeypatch, "bfloat16", extractor)
        self.features(extractor, spot_splits.val)
        self.prefer(monkeypatch, "float32", extractor)
        asked = Asked()
        assert self.features(extractor, spot_splits.val, asked).precision == "bfloat16"
        assert asked.computed == 0

    def test_a_small_set_is_float32_whatever_is_stored(self, cache, extractor, spot_splits):
        forced = Extractor(extractor._network, backbone="small", weights="random", precision="bfloat16")
        self.features(forced, spot_splits.val)
        assert self.features(extractor, spot_splits.val).precision == "float32"

    @pytest.mark.parametrize("stored", ["float32", "bfloat16"])
    def test_a_probe_decides_whatever_is_stored(
        self, stored, probed, *, cache, extractor, spot_splits, monkeypatch
    ):
        forced = Extractor(extractor._network, backbone="small", weights="random", precision=stored)
        self.features(forced, spot_splits.val)
        self.prefer(monkeypatch, "bfloat16", extractor)
        assert self.features(extractor, spot_splits.val).precision == "bfloat16"

    def test_a_probe_is_remembered_for_the_same_views_only(
        self, probed, cache, extractor, spot_splits, monkeypatch
    ):
        self.prefer(monkeypatch, "bfloat16", extractor)
        self.features(extractor, spot_splits.val)
        self.prefer(monkeypatch, "float32", extractor)
        assert self.features(extractor, spot_splits.val).precision == "bfloat16"
        assert extractor.missing_bytes([Views(loader_of(spot_splits.val))]) == 0
        assert self.features(extractor, spot_splits.train).precision == "float32"

    def test_bfloat16_differs_a_little_and_is_stored_apart(self, cache, extractor, spot_splits):
        exact = self.features(extractor, spot_splits.val).rows[0][:]
        forced = Extractor(extractor._network, backbone="small", weights="random", precision="bfloat16")
        rough = self.features(forced, spot_splits.val).rows[0][:]
        assert 0 < np.abs(rough - exact).max() < 0.05 * exact.max()
        assert len(stored_features()) == 2

    def test_a_threshold_is_chosen_for_the_model_as_saved(self, cache, spot_splits, tmp_path):
        hypermodel = TransferHyperModel(own_network(), input_shape=(SIDE, SIDE, 1))
        result = tune(
            hypermodel, spot_splits, max_trials=1, epochs=1, run=tmp_path / "run", precision="bfloat16"
        )
        said = predict(load_model(result.run / "model.keras"), spot_splits.val).probabilities
        lines = (result.run / "predictions" / "val.csv").read_text().splitlines()[1:]
        np.testing.assert_allclose([float(line.split(",")[-1]) for line in lines], said, atol=1e-6)

    def test_an_unknown_precision_is_refused(self, spot_splits, tmp_path):
        hypermodel = TransferHyperModel("mobilenetv3small", weights="none", input_shape=(SIDE, SIDE, 1))
        with pytest.raises(SettingsError, match="float16"):
            tune(hypermodel, spot_splits, run=tmp_path / "run", precision="float16")


def test_what_is_stored_can_be_listed_and_removed(cache, network, spot_splits):
    assert cache_folder() == cache
    extracted(network, spot_splits.val)
    (cache / "mine.txt").write_text("not features")
    stored = stored_features()
    assert [(features.setting["backbone"], features.rows) for features in stored] == [("mean", 32)]
    assert clear_cache() == stored[0].size
    assert stored_features() == []
    assert (cache / "mine.txt").exists()


@pytest.mark.parametrize("name", [pytest.param("resnet50", marks=pytest.mark.slow), "efficientnetb0"])
class TestProof:
    @pytest.fixture
    def hypermodel(self, name, spot_splits):
        hypermodel = TransferHyperModel(name, weights="none", input_shape=(SIDE, SIDE, 1), units=(16, 16, 16))
        hypermodel.calibrate(spot_splits.train.images)
        return hypermodel

    def test_the_head_follows_the_full_model_epoch_by_epoch(self, hypermodel, cache, spot_splits):
        images = ImageBatches.of(
            spot_splits.train,
            spot_splits.val,
            BatchSettings(views=2, batch_size=24, class_weights={0: 0.5, 1: 1.5}),
            image_size=(SIDE, SIDE),
        )
        hp, extractor = keras_tuner.HyperParameters(), extractor_of(hypermodel.feature_extractor())
        rows = extractor.features([Views(images.train, 2), Views(images.val)]).rows
        features = FeatureBatches(images, *rows)
        head = fit_on(hypermodel.build_head(hp), features, epochs=3)
        full = fit_on(hypermodel.build(hp), images, epochs=3)
        for figure in ("loss", "val_loss", "val_auc"):
            np.testing.assert_allclose(head.history[figure], full.history[figure], atol=1e-4)

        assembled = hypermodel.assemble(hp, head.model)
        pixels = spot_splits.val.images[..., np.newaxis].astype(np.float32)
        np.testing.assert_allclose(
            forward(assembled, [(pixels,)]), forward(head.model, features.val), atol=1e-5
        )


def own_network():
    """Return a small backbone with random weights, always the same."""
    initial = keras.initializers.GlorotUniform(0)
    chain = [keras.Input((SIDE, SIDE, 1)), keras.layers.Rescaling(1 / 255)]
    return keras.Sequential([*chain, keras.layers.Conv2D(8, 5, 4, kernel_initializer=initial)], name="small")


@pytest.mark.parametrize(
    "backbone", [own_network, pytest.param(lambda: "mobilenetv3small", marks=pytest.mark.slow)]
)
def test_the_same_seed_gives_the_same_run_with_and_without_the_store(backbone, cache, spot_splits, tmp_path):
    def run(name, **options):
        hypermodel = TransferHyperModel(backbone(), weights="none", input_shape=(SIDE, SIDE, 1))
        return tune(hypermodel, spot_splits, max_trials=2, epochs=2, run=tmp_path / name, **options)

    stored, plain = run("stored"), run("plain", cache=False)
    assert [trial.hyperparameters for trial in stored.trials] == [
        trial.hyperparameters for trial in plain.trials
    ]
    np.testing.assert_allclose(
        [trial.score for trial in stored.trials], [trial.score for trial in plain.trials], atol=0.01
    )
    pixels = spot_splits.test.images[..., np.newaxis].astype(np.float32)
    np.testing.assert_allclose(stored.model(pixels), plain.model(pixels), atol=0.01)


def test_a_report_finds_the_features_that_another_head_left(cache, spot_splits, tmp_path):
    def run(name, **options):
        hypermodel = TransferHyperModel(own_network(), input_shape=(SIDE, SIDE, 1))
        return tune(hypermodel, spot_splits, max_trials=1, epochs=1, run=tmp_path / name, **options).model

    one, other = run("one"), run("other", seed=0, batch_size=8)
    before = stored_features()[0].rows
    plain = predict(one, spot_splits.test)
    assert stored_features()[0].rows == before
    kept = predict(one, spot_splits.test, cache=True)
    assert stored_features()[0].rows == before + len(spot_splits.test)
    np.testing.assert_allclose(kept.probabilities, plain.probabilities, atol=1e-5)
    np.testing.assert_allclose(
        predict(other, spot_splits.test, cache=True).probabilities,
        predict(other, spot_splits.test).probabilities,
        atol=1e-5,
    )
    assert stored_features()[0].rows == before + len(spot_splits.test)


@pytest.mark.parametrize("layers", [[keras.layers.Conv2D(1, 3)], []])
def test_a_model_trained_whole_stores_nothing(layers, cache, spot_splits):
    head = [keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), *layers, *head])
    plain, kept = (predict(model, spot_splits.test, cache=cache).probabilities for cache in (False, True))
    np.testing.assert_array_equal(kept, plain)
    assert stored_features() == []


def test_a_search_goes_on_in_the_precision_it_was_begun_in(cache, spot_splits, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def searched(**options):
        hypermodel = TransferHyperModel(own_network(), input_shape=(SIDE, SIDE, 1))
        return tune(hypermodel, spot_splits, max_trials=1, epochs=1, run=tmp_path / "run", **options)

    def killed(*args, **kwargs):
        raise Killed

    monkeypatch.setattr(features_module, "_PROBE_FROM", 1)
    monkeypatch.setattr(features_module, "MIN_COSINE", {"folded": 0.0, "bfloat16": 0.0})
    monkeypatch.setattr(Extractor, "_probe", lambda self, precisions, sample: (precisions[-1], 32))
    with monkeypatch.context() as search, pytest.raises(Killed):
        search.setattr("pneumokeras.training.tune.search", killed)
        searched()
    assert open_run(tmp_path / "run").record()["precision"] == "bfloat16"
    clear_cache()
    monkeypatch.setattr(Extractor, "_probe", lambda self, precisions, sample: (precisions[0], 32))
    searched()
    assert open_run(tmp_path / "run").record()["precision"] == "bfloat16"


def test_views_that_no_epoch_shows_are_not_stored_and_change_nothing(cache, spot_splits):
    def losses(**options):
        body = tiny_backbone()
        pooled = keras.layers.GlobalAveragePooling2D()(body.output)
        last = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")
        model = keras.Model(body.input, last(pooled))
        stages = [Stage("stage2", epochs=2, learning_rate=1e-3)]
        return fit(model, spot_splits.train, spot_splits.val, stages=stages, views=8, **options).history

    stored = losses()
    assert [each.rows for each in stored_features()] == [2 * len(spot_splits.train) + len(spot_splits.val)]
    np.testing.assert_allclose(stored["val_loss"], losses(cache=False)["val_loss"], atol=1e-4)


def test_a_layer_that_augments_below_a_stage_acts_with_and_without_the_store(cache, spot_splits, caplog):
    def losses(**options):
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.RandomBrightness(0.9, seed=1),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, strides=4, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid", kernel_initializer="zeros"),
        ]
        whole = keras.Sequential([keras.Input((SIDE, SIDE, 1)), *layers])
        model = keras.Model(whole.inputs[0], whole.outputs[0])
        stages = [Stage("head", epochs=2, learning_rate=1e-3)]
        return fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1, **options).history[
            "loss"
        ]

    stored = losses()
    assert "RandomBrightness" in caplog.text
    assert stored_features() == []
    np.testing.assert_allclose(stored, losses(cache=False), rtol=1e-5)
