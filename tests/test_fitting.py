"""Stage by stage, from stored feature maps as from images."""

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras import fitting
from pneumokeras.errors import DataError, ModelError
from pneumokeras.features import Extractor
from pneumokeras.fitting import Stage, fit
from pneumokeras.inference import predict
from pneumokeras.models.small_cnns import CompactCNNHyperModel
from pneumokeras.models.transfer import TransferHyperModel
from pneumokeras.training import ImageBatches, best_epoch
from pneumokeras.tuning import load_run, tune

SIDE = 32
STAGES = [Stage("head", epochs=2, learning_rate=1e-3), Stage("stage5", epochs=2, learning_rate=1e-5)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model_of(name, splits):
    hypermodel = TransferHyperModel(name, weights="none", input_shape=(SIDE, SIDE, 1), units=(16, 16, 16))
    hypermodel.calibrate(splits.train.images)
    return hypermodel.build(keras_tuner.HyperParameters())


@pytest.mark.parametrize("name", ["resnet50", "efficientnetb0"])
def test_stored_feature_maps_give_the_losses_of_the_full_model(name, spot_splits):
    def losses(cache):
        model = model_of(name, spot_splits)
        train, val = spot_splits.train, spot_splits.val
        history = fit(model, train, val, stages=STAGES, views=2, batch_size=24, cache=cache).history
        return np.array([history["loss"], history["val_loss"]]), model

    (stored, one), (plain, other) = losses(True), losses(False)
    np.testing.assert_allclose(stored, plain, atol=1e-3)
    np.testing.assert_allclose(
        predict(one, spot_splits.val).probabilities, predict(other, spot_splits.val).probabilities, atol=1e-2
    )


class TestStages:
    @pytest.fixture
    def model(self, spot_splits):
        return model_of("mobilenetv3small", spot_splits)

    def test_only_what_a_stage_names_is_trained(self, model, spot_splits):
        before = {layer.name: layer.get_weights() for layer in model.layers}
        fit(model, spot_splits.train, spot_splits.val, stages=[Stage("stage5", 1, 1e-3)], views=1)

        def changed(name):
            pairs = zip(model.get_layer(name).get_weights(), before[name], strict=True)
            return any((new != old).any() for new, old in pairs)

        assert all(map(changed, ["hidden", "logit", "expanded_conv_8_expand"]))
        assert not any(map(changed, ["conv", "expanded_conv_7_project", "expanded_conv_8_expand_bn"]))

    def test_the_history_tells_the_stages_apart(self, model, spot_splits):
        history = fit(model, spot_splits.train, spot_splits.val, stages=STAGES, views=1).history
        assert history["stage"] == [1, 1, 2, 2]
        assert history["learning_rate"] == pytest.approx([1e-3, 1e-3, 1e-5, 1e-5])
        assert {len(values) for values in history.values()} == {4}

    def test_a_stage_that_makes_it_worse_is_taken_back(self, model, spot_splits, tmp_path):
        first = fit(model, spot_splits.train, spot_splits.val, stages=STAGES[:1], views=1)
        score = first.history["val_auc"][best_epoch(first.history)]
        weights, path = model.get_weights(), tmp_path / "best.weights.h5"
        ruinous = [Stage("stage5", epochs=1, learning_rate=10.0)]
        worse = fitting.fit_stages(
            model,
            ImageBatches.of(spot_splits.train, spot_splits.val, image_size=(SIDE, SIDE), views=1),
            ruinous,
            before=first,
            checkpoint=path,
        )
        assert worse.history["val_auc"][-1] < score
        for new, old in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(new, old)
        assert not path.exists()

    def test_a_loaded_model_needs_no_compiling(self, spot_splits):
        model = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
        uncompiled = keras.models.clone_model(keras.Model(model.inputs[0], model.outputs[0]))
        result = fit(uncompiled, spot_splits.train, spot_splits.val, stages=[Stage("head", 1, 1e-3)])
        assert len(result.history["loss"]) == 1

    def test_a_part_that_is_not_there_is_refused_before_anything_is_trained(self, model, spot_splits):
        with pytest.raises(ModelError, match="stage9"):
            fit(model, spot_splits.train, spot_splits.val, stages=[*STAGES, Stage("stage9")], views=1)

    @pytest.mark.parametrize(
        "options", [{"epochs": 0}, {"learning_rate": 0}, {"learning_rate": float("nan")}]
    )
    def test_a_stage_of_nothing_is_refused(self, options):
        with pytest.raises(DataError, match="at least 1 epoch"):
            Stage("head", **options)

    def test_a_stage_that_diverges_is_taken_back(self, model, spot_splits):
        stages = [*STAGES[:1], Stage("head", epochs=2, learning_rate=float("inf"))]
        fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1)
        assert all(np.isfinite(array).all() for array in model.get_weights())

    def test_if_every_stage_diverges_that_is_said(self, model, spot_splits):
        with pytest.raises(ModelError, match="Lower the learning rate"):
            stages = [Stage("head", epochs=2, learning_rate=float("inf"))]
            fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1)

    def test_dropout_before_the_first_weights_acts_on_stored_features_too(self, spot_splits):
        def losses(rate):
            keras.utils.set_random_seed(0)
            hypermodel = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1), dropout=(rate, rate, 0.1))
            model = hypermodel.build(keras_tuner.HyperParameters())
            return fit(model, spot_splits.train, spot_splits.val, stages=STAGES[:1], views=1).history["loss"]

        assert losses(0.9) != pytest.approx(losses(0.0), abs=1e-5)

    def test_figures_that_only_some_stages_have_are_left_out(self, model, spot_splits):
        first = fit(model, spot_splits.train, spot_splits.val, stages=STAGES[:1], views=1)
        first.history["own"] = [0.0, 0.0]
        images = ImageBatches.of(spot_splits.train, spot_splits.val, image_size=(SIDE, SIDE), views=1)
        history = fitting.fit_stages(model, images, STAGES[1:], before=first).history
        assert "own" not in history
        assert len(history["loss"]) == 4


class TestAsking:
    @pytest.fixture
    def model(self, spot_splits):
        return model_of("mobilenetv3small", spot_splits)

    @pytest.fixture
    def extractions(self, monkeypatch):
        asked = []
        features = Extractor.features

        def noted(self, *args, **kwargs):
            asked.append(self)
            return features(self, *args, **kwargs)

        monkeypatch.setattr(Extractor, "features", noted)
        return asked

    def fitted(self, model, splits, **options):
        return fit(model, splits.train, splits.val, stages=[Stage("stage5", 1)], **options)

    def test_little_is_stored_without_a_question(self, model, spot_splits, extractions):
        self.fitted(model, spot_splits, views=2, confirm=lambda size, folder: pytest.fail("asked"))
        assert len(extractions) == 1

    @pytest.mark.parametrize("agreed", [True, False])
    def test_much_is_stored_only_if_agreed_to(
        self, agreed, model, spot_splits, extractions, monkeypatch, cache
    ):
        monkeypatch.setattr(fitting, "ASK_FROM", 1)
        questions = []

        def confirm(size, folder):
            questions.append((size, folder))
            return agreed

        self.fitted(model, spot_splits, views=2, confirm=confirm)
        assert questions == [((2 * 64 + 32) * 2 * 2 * 48 * 2, cache)]
        assert len(extractions) == agreed

    def test_stages_above_the_same_lower_part_are_counted_once(self, model, spot_splits):
        images = ImageBatches.of(spot_splits.train, spot_splits.val, image_size=(SIDE, SIDE), views=1)
        one, two = (fitting._bytes_to_store(model, images, [Stage("stage5")] * count) for count in (1, 2))
        assert one == two == 96 * 2 * 2 * 48 * 2

    def test_what_a_stage_before_has_trained_will_be_stored_anew(self, model, spot_splits):
        images = ImageBatches.of(spot_splits.train, spot_splits.val, image_size=(SIDE, SIDE), views=1)
        fit(model, spot_splits.train, spot_splits.val, stages=[Stage("stage5", 1)], views=1)
        stages = [Stage("stage4"), Stage("stage5")]
        below_stage4 = fitting._bytes_to_store(model, images, stages[:1])
        assert fitting._bytes_to_store(model, images, stages) == below_stage4 + 96 * 2 * 2 * 48 * 2

    def test_what_is_stored_already_is_not_asked_for(self, model, spot_splits, monkeypatch):
        self.fitted(model, spot_splits, views=1)
        monkeypatch.setattr(fitting, "ASK_FROM", 1)
        self.fitted(
            model_of("mobilenetv3small", spot_splits),
            spot_splits,
            views=1,
            confirm=lambda size, folder: pytest.fail("asked"),
        )

    def test_a_disk_without_room_is_one_error_beforehand(self, model, spot_splits, monkeypatch):
        monkeypatch.setattr(fitting.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
        with pytest.raises(DataError, match="PNEUMOKERAS_CACHE"):
            self.fitted(model, spot_splits, views=1)

    def test_fresh_augmentation_is_never_stored(self, model, spot_splits, extractions):
        self.fitted(model, spot_splits, views=None)
        assert extractions == []


@pytest.mark.parametrize("cache", [True, False])
def test_a_part_that_is_not_there_is_refused_before_the_search(cache, spot_splits, tmp_path):
    hypermodel = TransferHyperModel("mobilenetv3small", weights="none", input_shape=(SIDE, SIDE, 1))
    with pytest.raises(ModelError, match="stage9"):
        tune(hypermodel, spot_splits, fine_tune=[Stage("stage9")], run=tmp_path / "run", cache=cache)
    assert not (tmp_path / "run" / "trials.csv").exists()


def test_tune_fine_tunes_its_winner(spot_splits, tmp_path):
    hypermodel = TransferHyperModel("mobilenetv3small", weights="none", input_shape=(SIDE, SIDE, 1))
    result = tune(
        hypermodel,
        spot_splits,
        max_trials=1,
        epochs=2,
        views=2,
        batch_size=(8, 16),
        fine_tune=[Stage("stage5", epochs=1, learning_rate=1e-4)],
        run=tmp_path / "run",
    )
    assert result.history["stage"] == [1, 1, 2]
    assert result.best_hyperparameters["batch_size"] in (8, 16)
    again = load_run(tmp_path / "run")
    assert again.history["stage"] == [1, 1, 2]
    said = predict(again.model, spot_splits.val).probabilities
    lines = (tmp_path / "run" / "predictions" / "val.csv").read_text().splitlines()[1:]
    np.testing.assert_allclose([float(line.split(",")[-1]) for line in lines], said, atol=1e-6)
