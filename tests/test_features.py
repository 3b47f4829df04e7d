"""Stored features are what the backbone says, asked once; a head trained on them is the full model's."""

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras.data.datasets import RadiographSet
from pneumokeras.data.loaders import RadiographDataGenerator, RadiographLoader
from pneumokeras.errors import DataError
from pneumokeras.features import FeatureStore, cache_folder, clear_cache, stored_features, views_of_features
from pneumokeras.models.forward import forward
from pneumokeras.models.transfer import TransferHyperModel
from pneumokeras.training import FeatureBatches, ImageBatches, fit_on
from pneumokeras.tuning import tune

SIDE = 32
SETTING = {"backbone": "mean", "input_shape": [SIDE, SIDE, 1]}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def extractor():
    """A stand-in for a backbone: mean and largest gray level of each image."""
    inputs = keras.Input((SIDE, SIDE, 1))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    largest = keras.layers.GlobalMaxPooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Concatenate()([mean, largest]))


def loader_of(radiographs, **options):
    return RadiographLoader(radiographs, SIDE, generator=RadiographDataGenerator(), batch_size=8, **options)


def expected(loader, views):
    images = [[loader.image(row, view) for row in range(len(loader.radiographs))] for view in range(views)]
    array = np.array(images)
    return np.stack([array.mean(axis=(2, 3, 4)), array.max(axis=(2, 3, 4))], axis=-1)


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


def extracted(extractor, radiographs, views=1, setting=SETTING, **options):
    asked, loader = Asked(), loader_of(radiographs, **options)
    features = views_of_features(extractor, loader, FeatureStore(setting, 2), views=views, progress=asked)
    np.testing.assert_allclose(features, expected(loader, views), rtol=1e-4, atol=1e-3)
    return asked


class TestReuse:
    def test_the_second_time_nothing_is_computed(self, cache, extractor, spot_splits):
        assert extracted(extractor, spot_splits.train, views=2).computed == 128
        again = extracted(extractor, spot_splits.train, views=2)
        assert (again.found, again.computed) == (128, 0)

    def test_more_views_cost_only_the_new_ones(self, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.train, views=1)
        assert extracted(extractor, spot_splits.train, views=4).computed == 3 * 64

    def test_a_changed_image_is_computed_again_and_only_that(self, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.val)
        images = spot_splits.val.images.copy()
        images[3] = 255 - images[3]
        assert extracted(extractor, RadiographSet.from_arrays(images, spot_splits.val.labels)).computed == 1

    def test_order_and_names_do_not_matter(self, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.val, views=2)
        images = spot_splits.val.images[::-1].copy()
        assert (
            extracted(
                extractor, RadiographSet.from_arrays(images, spot_splits.val.labels[::-1]), views=2
            ).computed
            == 0
        )

    def test_another_seed_augments_anew_and_keeps_the_plain_view(self, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.val, views=2)
        assert extracted(extractor, spot_splits.val, views=2, seed=1).computed == 32

    def test_another_setting_is_another_store(self, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.val)
        assert extracted(extractor, spot_splits.val, setting=SETTING | {"weights": "others"}).computed == 32

    def test_equal_radiographs_are_computed_once(self, cache, extractor, spot_splits):
        twice = spot_splits.val.subset(np.r_[0:8, 0:8])
        assert extracted(extractor, twice).computed == 8


class TestDamage:
    def test_an_interrupted_extraction_goes_on(self, cache, extractor, spot_splits):
        def interrupt(progress):
            if progress.done == 24:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            views_of_features(
                extractor, loader_of(spot_splits.train), FeatureStore(SETTING, 2), progress=interrupt
            )
        assert extracted(extractor, spot_splits.train).found == 24

    @pytest.mark.parametrize("suffix", [".rows", ".keys"])
    def test_a_truncated_shard_loses_only_its_end(self, suffix, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.val)
        shard = next(cache.rglob(f"*{suffix}"))
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2 + 3])
        assert 15 <= extracted(extractor, spot_splits.val).found <= 16
        assert extracted(extractor, spot_splits.val).computed == 0

    def test_a_flipped_bit_is_noticed(self, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.val)
        shard = next(cache.rglob("*.rows"))
        content = bytearray(shard.read_bytes())
        content[10] ^= 1
        shard.write_bytes(content)
        assert extracted(extractor, spot_splits.val).computed == 1

    def test_a_shard_without_rows_counts_for_nothing(self, cache, extractor, spot_splits):
        extracted(extractor, spot_splits.val)
        next(cache.rglob("*.rows")).unlink()
        assert extracted(extractor, spot_splits.val).computed == 32

    def test_a_cache_that_cannot_be_written_is_one_error(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "file"))
        with pytest.raises(DataError, match="--no-cache"):
            FeatureStore(SETTING, 2)


def test_what_is_stored_can_be_listed_and_removed(cache, extractor, spot_splits):
    assert cache_folder() == cache
    extracted(extractor, spot_splits.val)
    (cache / "mine.txt").write_text("not features")
    stored = stored_features()
    assert [(features.setting["backbone"], features.rows) for features in stored] == [("mean", 32)]
    assert clear_cache() == stored[0].size
    assert stored_features() == []
    assert (cache / "mine.txt").exists()


@pytest.mark.parametrize("name", ["resnet50", "efficientnetb0"])
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
            image_size=(SIDE, SIDE),
            views=2,
            batch_size=24,
            class_weights={0: 0.5, 1: 1.5},
        )
        extractor, hp = hypermodel.feature_extractor(), keras_tuner.HyperParameters()
        store = FeatureStore(hypermodel.feature_setting, extractor.output_shape[-1])
        features = FeatureBatches(
            images,
            views_of_features(extractor, images.train, store, views=2),
            views_of_features(extractor, images.val, store)[0],
        )
        head = fit_on(hypermodel.build_head(hp), features, epochs=3)
        full = fit_on(hypermodel.build(hp), images, epochs=3)
        for figure in ("loss", "val_loss", "val_auc"):
            np.testing.assert_allclose(head.history[figure], full.history[figure], atol=1e-4)

        assembled = hypermodel.assemble(hp, head.model)
        pixels = spot_splits.val.images[..., np.newaxis].astype(np.float32)
        np.testing.assert_allclose(
            forward(assembled, [(pixels,)]), forward(head.model, features.val), atol=1e-5
        )


def test_the_same_seed_gives_the_same_run_with_and_without_the_store(cache, spot_splits, tmp_path):
    def run(name, **options):
        hypermodel = TransferHyperModel("mobilenetv3small", weights="none", input_shape=(SIDE, SIDE, 1))
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
