"""Stage by stage, from stored feature maps as from images."""

from dataclasses import replace

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras.core.errors import DataError, ModelError, SettingsError
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.saving import save_model
from pneumokeras.runs.result import load_run
from pneumokeras.training import stages as stages_module
from pneumokeras.training.callbacks import Schedule, cross_entropy
from pneumokeras.training.data_adapters import ImageBatches
from pneumokeras.training.features import Extractor
from pneumokeras.training.fit import fit
from pneumokeras.training.loop import set_seed
from pneumokeras.training.objectives import best_epoch
from pneumokeras.training.predict import predict
from pneumokeras.training.settings import BatchSettings, FitSettings, Stage
from pneumokeras.training.tune import tune

SIDE = 32
STAGES = [Stage("head", epochs=2, learning_rate=1e-3), Stage("stage5", epochs=2, learning_rate=1e-5)]
HEAD_FASTER = {"head": 1e-3, "backbone": 1e-5}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def one_view(splits):
    """Batches of the splits without augmentation."""
    return ImageBatches.of(splits.train, splits.val, BatchSettings(views=1), image_size=(SIDE, SIDE))


def model_of(name, splits):
    if name == "five":
        return five_stages().build(keras_tuner.HyperParameters())
    hypermodel = TransferHyperModel(name, weights="none", input_shape=(SIDE, SIDE, 1), units=(16, 16, 16))
    hypermodel.calibrate(splits.train.images)
    return hypermodel.build(keras_tuner.HyperParameters())


def five_stages():
    """Return a random network of five stages below a head, small enough to be trained in no time."""
    set_seed(0)
    chain = [keras.Input((SIDE, SIDE, 1)), keras.layers.Rescaling(1 / 255)]
    for number, filters in enumerate((4, 8, 8, 48, 8), start=1):
        chain += [
            keras.layers.Conv2D(filters, 3, 2, "same", name=f"conv{number}"),
            keras.layers.BatchNormalization(name=f"norm{number}"),
            keras.layers.ReLU(),
        ]
    network = keras.Sequential(chain, name="five")
    return TransferHyperModel(network, input_shape=(SIDE, SIDE, 1), units=(16, 16, 16))


@pytest.mark.parametrize(
    "name",
    [
        "five",
        pytest.param("mobilenetv3small", marks=pytest.mark.slow),
        pytest.param("efficientnetb0", marks=pytest.mark.slow),
        pytest.param("resnet50", marks=pytest.mark.slow),
    ],
)
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
    def model(self):
        return five_stages().build(keras_tuner.HyperParameters())

    def test_only_what_a_stage_names_is_trained(self, model, spot_splits):
        before = {layer.name: layer.get_weights() for layer in model.layers}
        fit(model, spot_splits.train, spot_splits.val, stages=[Stage("stage5", 1, 1e-3)], views=1)

        def changed(name):
            pairs = zip(model.get_layer(name).get_weights(), before[name], strict=True)
            return any((new != old).any() for new, old in pairs)

        assert all(map(changed, ["hidden", "logit", "backbone_conv5"]))
        assert not any(map(changed, ["backbone_conv1", "backbone_conv4", "backbone_norm5"]))

    def test_the_history_tells_the_stages_apart(self, model, spot_splits):
        history = fit(model, spot_splits.train, spot_splits.val, stages=STAGES, views=1).history
        assert history["stage"] == [1, 1, 2, 2]
        assert history["learning_rate"] == pytest.approx([1e-3, 1e-3, 1e-5, 1e-5])
        assert {len(values) for values in history.values()} == {4}

    def test_a_stage_that_makes_it_worse_is_taken_back(self, model, spot_splits, tmp_path):
        first = fit(model, spot_splits.train, spot_splits.val, stages=[Stage("head", 4, 0.03)], views=1)
        score = first.history["val_auc"][best_epoch(first.history)]
        weights, path = model.get_weights(), tmp_path / "best.weights.h5"
        ruinous = (Stage("stage5", epochs=1, learning_rate=10.0),)
        worse = stages_module.fit_stages(
            model,
            one_view(spot_splits),
            FitSettings(stages=ruinous),
            before=first,
            checkpoint=path,
        )
        assert worse.history["val_auc"][-1] < score
        for new, old in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(new, old)
        assert not path.exists()

    def test_what_a_stage_says_of_itself_is_what_it_was_and_what_is_set(self):
        assert Stage("stage5").settings() == {"trainable": "stage5", "epochs": 5, "learning_rate": 1e-5}
        assert Stage("all", learning_rate=HEAD_FASTER, batch_norm="update").settings() == {
            "trainable": "all",
            "epochs": 5,
            "learning_rate": HEAD_FASTER,
            "batch_norm": "update",
        }

    def test_a_loaded_model_needs_no_compiling(self, spot_splits):
        model = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
        uncompiled = keras.models.clone_model(keras.Model(model.inputs[0], model.outputs[0]))
        result = fit(uncompiled, spot_splits.train, spot_splits.val, stages=[Stage("head", 1, 1e-3)])
        assert len(result.history["loss"]) == 1

    def test_a_part_that_is_not_there_is_refused_before_anything_is_trained(self, model, spot_splits):
        with pytest.raises(ModelError, match="stage9"):
            fit(model, spot_splits.train, spot_splits.val, stages=[*STAGES, Stage("stage9")], views=1)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"epochs": 0}, "`epochs` as a whole number of at least 1"),
            ({"epochs": 2.5}, "`epochs` as a whole number of at least 1"),
            ({"learning_rate": 0}, "`learning_rate` as a finite number above 0"),
            ({"learning_rate": float("nan")}, "`learning_rate` as a finite number above 0"),
        ],
    )
    def test_a_stage_of_nothing_is_refused(self, options, said):
        with pytest.raises(SettingsError, match=said) as raised:
            Stage("head", **options)
        assert raised.value.parameter == next(iter(options))

    def test_a_stage_that_diverges_is_taken_back(self, model, spot_splits):
        stages = [*STAGES[:1], Stage("head", epochs=2, learning_rate=1e38)]
        fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1)
        assert all(np.isfinite(array).all() for array in model.get_weights())

    def test_if_every_stage_diverges_that_is_said(self, model, spot_splits):
        with pytest.raises(ModelError, match="Lower the learning rate"):
            stages = [Stage("head", epochs=2, learning_rate=1e38)]
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
        settings = FitSettings(stages=tuple(STAGES[1:]))
        history = stages_module.fit_stages(model, one_view(spot_splits), settings, before=first).history
        assert "own" not in history
        assert len(history["loss"]) == 4

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"learning_rate": {"head": 1e-3}}, "one for backbone"),
            ({"learning_rate": {"head": 1e-3, "layer4": 1e-4}}, "one for backbone"),
            ({"trainable": "head", "learning_rate": HEAD_FASTER}, "trains both"),
            ({"learning_rate": {"head": 1e-3, "backbone": 0}}, "above 0"),
            ({"batch_norm": "train"}, "keep or update"),
            ({"optimizer": "sgd"}, "adam or adamw"),
            ({"weight_decay": 1e-4}, "an `optimizer` for it"),
            ({"optimizer": "adam", "weight_decay": -1e-4}, "at least 0"),
        ],
    )
    def test_a_stage_that_contradicts_itself_is_refused(self, options, said):
        with pytest.raises(SettingsError, match=said):
            Stage(**{"trainable": "stage5"} | options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"oversample": 1.2}, "class_weights='none'"),
        ({"objective": "accuracy"}, "val_accuracy"),
        ({"epochs": 0}, "`epochs`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"views": 0}, "`views`"),
        ({"seed": -1}, "`seed`"),
        ({"class_weights": "even"}, "`class_weights`"),
        ({"class_weights": {2: 2.0}}, "`class_weights`"),
        ({"class_weights": None, "oversample": 0.5}, "`oversample`"),
    ],
)
def test_a_fit_that_contradicts_itself_is_refused(options, said, spot_splits):
    model = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
    with pytest.raises(SettingsError, match=said):
        fit(model, spot_splits.train, spot_splits.val, **options)


def small_model():
    """A random network of two stages below a head; cheap, where it does not matter what is trained."""
    set_seed(0)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(4, 3, 2, "same", name="lower"),
            layers.BatchNormalization(name="lower_norm"),
            layers.ReLU(),
            layers.Conv2D(8, 3, 2, "same", name="upper"),
            layers.BatchNormalization(name="upper_norm"),
            layers.ReLU(),
        ],
        name="small",
    )
    hypermodel = TransferHyperModel(network, input_shape=(SIDE, SIDE, 1), units=(16, 16, 16))
    return hypermodel.build(keras_tuner.HyperParameters())


@pytest.mark.parametrize(
    "options",
    [
        {"stage": {"learning_rate": HEAD_FASTER}},
        {"stage": {"batch_norm": "update"}},
        {"stage": {"optimizer": "adam", "weight_decay": 1e-2}},
        {"oversample": 1.5, "class_weights": None},
    ],
    ids=["two rates", "batch norm", "weight decay", "oversample"],
)
def test_stored_feature_maps_do_for_what_the_documents_ask(options, spot_splits):
    options = dict(options)
    stage = Stage("stage2", **{"epochs": 2, "learning_rate": 1e-5} | options.pop("stage", {}))
    train = spot_splits.train.subset(np.r_[np.flatnonzero(spot_splits.train.labels == 1), 0:20:2])

    def losses(cache):
        model = small_model()
        result = fit(model, train, spot_splits.val, stages=[stage], views=2, cache=cache, **options)
        return [result.history["loss"], result.history["val_loss"]]

    np.testing.assert_allclose(losses(True), losses(False), atol=2e-3)


class TestWhatTheDocumentsAsk:
    @pytest.fixture
    def model(self):
        return small_model()

    def test_two_equal_rates_are_one_rate(self, spot_splits):
        def trained(rate):
            model = small_model()
            stages = [Stage("stage2", 2, rate)]
            return fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1).model.get_weights()

        for one, other in zip(trained(1e-4), trained({"head": 1e-4, "backbone": 1e-4}), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    def test_each_part_moves_at_its_own_rate(self, model, spot_splits):
        """A step of Adam moves a weight by about the rate, and an epoch of 64 in batches of 32 has two."""
        before = {layer.name: layer.get_weights() for layer in model.layers}
        rates = {"head": 1e-2, "backbone": 1e-4}
        history = fit(
            model, spot_splits.train, spot_splits.val, stages=[Stage("stage2", 1, rates)], views=1
        ).history

        def moved(name):
            pairs = zip(model.get_layer(name).get_weights(), before[name], strict=True)
            return max(np.abs(new - old).max() for new, old in pairs)

        assert 1e-2 < moved("logit") < 2.1e-2
        assert 1e-4 < moved("backbone_upper") < 2.1e-4
        assert moved("backbone_lower") == 0
        assert history["learning_rate"] == pytest.approx([1e-2])

    def test_stages_with_one_rate_and_with_two_share_a_history(self, model, spot_splits):
        stages = [Stage("stage2", 1, HEAD_FASTER), Stage("stage2", 1, 1e-5)]
        history = fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1).history
        assert history["learning_rate"] == pytest.approx([1e-3, 1e-5])
        assert {len(values) for values in history.values()} == {2}

    def test_batchnorm_is_trained_where_asked_and_only_in_the_trained_part(self, model, spot_splits):
        names = ("backbone_lower_norm", "backbone_upper_norm")
        lower, upper = (model.get_layer(name).get_weights() for name in names)
        stages = [Stage("stage2", 1, 1e-3, batch_norm="update")]
        fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1)
        np.testing.assert_array_equal(model.get_layer(names[0]).get_weights(), lower)
        scale_offset_mean_and_variance = zip(model.get_layer(names[1]).get_weights(), upper, strict=True)
        assert all((new != old).any() for new, old in scale_offset_mean_and_variance)

    def test_a_model_trained_at_two_rates_is_saved_as_a_plain_one(self, model, spot_splits, tmp_path):
        stages = [Stage("stage2", 1, HEAD_FASTER, "update", "adam", 1e-4)]
        fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1)
        save_model(model, tmp_path / "model.keras")
        plain = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        pixels = spot_splits.val.images[..., np.newaxis].astype(np.float32)
        np.testing.assert_array_equal(plain(pixels), model(pixels))

    def test_weight_decay_pulls_weights_towards_zero(self, spot_splits):
        def size(**options):
            model = small_model()
            stages = [Stage("head", 3, 1e-2, **options)]
            fit(model, spot_splits.train, spot_splits.val, stages=stages, views=1)
            return np.abs(model.get_layer("hidden").get_weights()[0]).mean()

        plain = size()
        assert size(optimizer="adam") == pytest.approx(plain, rel=1e-5)
        assert size(optimizer="adam", weight_decay=0.1) < 0.95 * plain
        assert size(optimizer="adamw", weight_decay=5.0) < 0.95 * plain

    def test_a_network_from_scratch_is_a_single_stage(self, spot_splits):
        model = CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)).build(keras_tuner.HyperParameters())
        before = model.get_weights()
        stages = [Stage("all", 1, 1e-3, batch_norm="update", optimizer="adam", weight_decay=1e-4)]
        fit(model, spot_splits.train, spot_splits.val, stages=stages)
        assert all((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))

    def test_the_last_weights_are_kept_where_asked(self, spot_splits):
        def kept(keep):
            model = small_model()
            stages = [*STAGES[:1], Stage("head", 1, 10.0)]
            schedule = Schedule(keep=keep)
            history = fit(
                model,
                spot_splits.train,
                spot_splits.val,
                stages=stages,
                views=1,
                objective="val_loss",
                schedule=schedule,
            ).history
            probabilities = predict(model, spot_splits.val).probabilities
            return cross_entropy(spot_splits.val.labels, probabilities), history

        loss, history = kept("last")
        assert loss == pytest.approx(history["val_loss"][-1], rel=1e-3)
        loss, history = kept("best")
        assert loss == pytest.approx(min(history["val_loss"]), rel=1e-3)
        assert loss != pytest.approx(history["val_loss"][-1], rel=1e-3)

    def test_of_the_last_stage_the_best_weights_are_kept_not_the_last(self, spot_splits):
        """Labels of val are exchanged, so that what the second stage learns makes it worse."""
        val = replace(spot_splits.val, labels=1 - spot_splits.val.labels)
        model = small_model()
        stages = [Stage("head", 1, 1e-4), Stage("head", 3, 0.01)]
        schedule = Schedule(plateau=None, patience=None, keep="best of last stage")
        history = fit(
            model, spot_splits.train, val, stages=stages, views=1, objective="val_loss", schedule=schedule
        ).history
        last_stage = history["val_loss"][1:]
        assert last_stage[-1] > 1.1 * min(last_stage)
        loss = cross_entropy(val.labels, predict(model, val).probabilities)
        assert loss == pytest.approx(min(last_stage), rel=1e-3)

    def test_the_best_epoch_is_the_objectives(self, model, spot_splits):
        stages = [Stage("head", 4, 0.05)]
        history = fit(
            model, spot_splits.train, spot_splits.val, stages=stages, views=1, objective="val_accuracy"
        ).history
        predicted = predict(model, spot_splits.val).probabilities >= 0.5
        assert np.mean(predicted == spot_splits.val.labels) == max(history["val_accuracy"])


class TestAsking:
    @pytest.fixture
    def model(self):
        return five_stages().build(keras_tuner.HyperParameters())

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
        self, agreed, model, spot_splits, *, extractions, monkeypatch, cache
    ):
        monkeypatch.setattr(stages_module, "ASK_FROM", 1)
        questions = []

        def confirm(size, folder):
            questions.append((size, folder))
            return agreed

        self.fitted(model, spot_splits, views=2, confirm=confirm)
        assert questions == [((64 + 32) * 2 * 2 * 48 * 2, cache)]  # one epoch shows one view
        assert len(extractions) == agreed

    def test_stages_above_the_same_lower_part_are_counted_once(self, model, spot_splits):
        images = one_view(spot_splits)
        one, two = (
            stages_module._bytes_to_store(model, images, [Stage("stage5")] * count) for count in (1, 2)
        )
        assert one == two == 96 * 2 * 2 * 48 * 2

    def test_what_a_stage_before_has_trained_will_be_stored_anew(self, model, spot_splits):
        images = one_view(spot_splits)
        fit(model, spot_splits.train, spot_splits.val, stages=[Stage("stage5", 1)], views=1)
        stages = [Stage("stage4"), Stage("stage5")]
        below_stage4 = stages_module._bytes_to_store(model, images, stages[:1])
        assert stages_module._bytes_to_store(model, images, stages) == below_stage4 + 96 * 2 * 2 * 48 * 2

    def test_what_is_stored_already_is_not_asked_for(self, model, spot_splits, monkeypatch):
        self.fitted(model, spot_splits, views=1)
        monkeypatch.setattr(stages_module, "ASK_FROM", 1)
        self.fitted(
            five_stages().build(keras_tuner.HyperParameters()),
            spot_splits,
            views=1,
            confirm=lambda size, folder: pytest.fail("asked"),
        )

    def test_a_disk_without_room_is_one_error_beforehand(self, model, spot_splits, monkeypatch):
        monkeypatch.setattr(stages_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
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
    result = tune(
        five_stages(),
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
