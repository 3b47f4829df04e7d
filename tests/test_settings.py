"""Settings are checked once, before anything is begun; NumPy's numbers are as good as Python's."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import click
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from pneumokeras.cli.options import ClassWeights, Threshold, chosen_threshold
from pneumokeras.core.errors import DataError, ModelError, SettingsError
from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.data.from_path import load_splits
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.data.splits import Splits
from pneumokeras.data.splitting import split
from pneumokeras.evaluation import BalancedAccuracy, Fixed, OperatingPoint, Sensitivity, Youden
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.recipes.configuration import Configuration
from pneumokeras.recipes.train import train
from pneumokeras.training import callbacks as callbacks_module
from pneumokeras.training.callbacks import Plateau, Schedule
from pneumokeras.training.data_adapters import FeatureBatches, ImageBatches
from pneumokeras.training.evaluate import evaluate
from pneumokeras.training.feature_store import Rows
from pneumokeras.training.features import ExtractionProgress
from pneumokeras.training.fit import fit
from pneumokeras.training.loop import fit_on, set_seed
from pneumokeras.training.objectives import best_epoch
from pneumokeras.training.predict import predict
from pneumokeras.training.progress import (
    CellLine,
    ProgressLine,
    TerminalLine,
    TuningProgress,
    progress_or_line,
)
from pneumokeras.training.settings import (
    BatchSettings,
    Execution,
    FitSettings,
    SearchSettings,
    Stage,
    class_weights_of,
)
from pneumokeras.training.tune import tune
from tests.calling import call, error_line

SIDE = 32


def tiny():
    """The cheapest compiled model that can be fitted whole or in stages."""
    set_seed(0)
    inputs = keras.Input((SIDE, SIDE, 1))
    tensor = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    tensor = keras.layers.GlobalAveragePooling2D()(tensor)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="logit")(tensor))
    model.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
    return model


class Tiny(keras_tuner.HyperModel):
    """A HyperModel of `tiny`; counts what it builds."""

    input_shape = (SIDE, SIDE, 1)

    def __init__(self):
        super().__init__()
        self.builds = 0

    @property
    def settings(self):
        return {"model": "tiny"}

    def build(self, hp):
        self.builds += 1
        hp.Float("unused", 0, 1)
        return tiny()


NUMPY = {
    "max_trials": np.int64(2),
    "epochs": np.int32(3),
    "batch_sizes": np.int64(8),
    "views": np.int16(2),
    "seed": np.uint32(5),
    "pad": np.bool_(True),
    "oversample": np.float64(1.5),
    "class_weights": np.array([2, 1]),
    "fine_tune": Stage("head", epochs=np.int64(1), learning_rate=np.float32(0.5), weight_decay=np.float64(0)),
    "schedule": Schedule(patience=np.int64(3), plateau=Plateau(patience=np.int8(1), factor=np.float64(0.5))),
}
PYTHON = {
    "max_trials": 2,
    "epochs": 3,
    "batch_sizes": (8,),
    "views": 2,
    "seed": 5,
    "pad": True,
    "oversample": 1.5,
    "class_weights": {0: 2.0, 1: 1.0},
    "fine_tune": (Stage("head", epochs=1, learning_rate=0.5),),
    "schedule": Schedule(patience=3, plateau=Plateau(patience=1, factor=0.5)),
}


def test_numpys_numbers_make_the_record_of_pythons():
    first, second = (SearchSettings(**values).record({"model": "m"}) for values in (NUMPY, PYTHON))
    assert json.dumps(first) == json.dumps(second)


def test_batch_sizes_may_be_an_array():
    assert SearchSettings(batch_sizes=np.array([8, 16])).batch_sizes == (8, 16)


def test_defaults_are_recorded_as_version_0_1_did():
    known = {"model", "max_trials", "epochs", "batch_size", "views", "augmentation", "pad", "objective"}
    assert set(SearchSettings().record({"model": "m"})) == known | {"fine_tune", "precision", "seed"}


@pytest.mark.parametrize(
    ("setting", "recorded"),
    [
        ({"class_weights": None}, {"class_weights": "none"}),
        ({"class_weights": (3, 1)}, {"class_weights": {"NORMAL": 3.0, "PNEUMONIA": 1.0}}),
        ({"threshold": 0.3}, {"threshold": {"policy": "fixed", "threshold": 0.3}}),
        ({"threshold": Youden()}, {"threshold": {"policy": "youden"}}),
        ({"threshold": "youden"}, {"threshold": {"policy": "youden"}}),
        ({"threshold": "sensitivity:0.98"}, {"threshold": {"policy": "sensitivity", "target": 0.98}}),
        ({"threshold": "0.3"}, {"threshold": {"policy": "fixed", "threshold": 0.3}}),
        ({"threshold": "balanced_accuracy"}, {}),
        ({"threshold": BalancedAccuracy()}, {}),
        ({"schedule": Schedule()}, {}),
        (
            {"schedule": Schedule(plateau=None)},
            {"schedule": {"plateau": None, "patience": 5, "keep": "best"}},
        ),
    ],
)
def test_what_differs_from_the_defaults_is_recorded(setting, recorded):
    before, after = (SearchSettings(**given).record({"model": "m"}) for given in ({}, setting))
    assert {name: value for name, value in after.items() if name not in before} == recorded


WRONG = [
    *({"batch_size": value} for value in (None, float("nan"), 1.0, "10", (), (8, 0), True)),
    *({"seed": value} for value in (-1, 2**32, None, "3", True, 1.5)),
    *({"epochs": value} for value in (0, None, "2", 2.0)),
    *({"views": value} for value in (0, "2", 1.5)),
    *({"objective": value} for value in (None, ["val_auc"], "auc")),
    *({"generator": value} for value in ("x", 3)),
    *({"schedule": value} for value in ("constant", Plateau())),
    *(
        {"class_weights": value}
        for value in ("auto", {0: float("nan")}, {0: -1}, {0: 0, 1: 0}, {}, [1, 2, 3])
    ),
    *({"oversample": value} for value in ("2", float("inf"))),
    *({"callbacks": value} for value in ("tensorboard", [print])),
    *({"workers": value} for value in (0, None)),
    *({"verbose": value} for value in ("loud", None)),
    *({"progress": value} for value in ("bar",)),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_setting_of_a_fit_is_named(wrong, spot_splits):
    (name,) = wrong
    extra = {"class_weights": None} if name == "oversample" else {}
    with pytest.raises(SettingsError) as raised:
        fit(tiny(), spot_splits.train, spot_splits.val, **wrong, **extra)
    assert raised.value.parameter == name
    assert f"`{name}`" in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        *WRONG,
        *({"max_trials": value} for value in (0, 2.0, None)),
        *({"fine_tune": value} for value in (["head"], "head", 3)),
        *({"threshold": value} for value in (2, "best", "sensitivity:2", "youden:1", "1.5", "", Youden)),
        {"precision": 16},
        {"pad": "no"},
        {"cache": None},
    ],
    ids=str,
)
def test_a_wrong_setting_of_a_search_is_named_before_anything_is_begun(wrong, spot_splits, tmp_path):
    (name,) = wrong
    extra = {"class_weights": None} if name == "oversample" else {}
    hypermodel = Tiny()
    with pytest.raises(SettingsError) as raised:
        tune(hypermodel, **{"splits": spot_splits, "run": tmp_path / "run"} | wrong | extra)
    assert raised.value.parameter == name
    assert f"`{name}`" in str(raised.value)
    assert not (tmp_path / "run").exists()
    assert hypermodel.builds == 0


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Stage(5), "trainable"),
        (lambda: Stage("head", weight_decay="x"), "weight_decay"),
        (lambda: Stage("head", learning_rate=None), "learning_rate"),
        (lambda: Schedule(patience="5"), "patience"),
        (lambda: Schedule(plateau=2), "plateau"),
        (lambda: Plateau(factor="0.5"), "factor"),
        (lambda: Plateau(min_learning_rate=None), "min_learning_rate"),
        (lambda: FitSettings(stages=["head"]), "stages"),
        (lambda: Execution(confirm="yes"), "confirm"),
        (lambda: Fixed("0.5"), "threshold"),
        (lambda: Sensitivity(None), "target"),
        (lambda: set_seed("3"), "seed"),
        (lambda: set_seed(2**32), "seed"),
    ],
)
def test_a_wrong_part_of_the_settings_is_named(make, name):
    with pytest.raises(SettingsError) as raised:
        make()
    assert raised.value.parameter == name


@pytest.mark.parametrize("name", ["batch_size", "views", "seed", "workers", "oversample"])
def test_a_loader_names_what_is_wrong(name, spot_splits):
    for value in ("2", 0.5, -1):
        with pytest.raises(SettingsError) as raised:
            RadiographLoader(spot_splits.train, SIDE, generator=RadiographDataGenerator(), **{name: value})
        assert raised.value.parameter == name


def test_predict_and_evaluate_name_what_is_wrong(spot_splits):
    with pytest.raises(SettingsError, match="`batch_size`"):
        predict(tiny(), spot_splits.val, batch_size="10")
    with pytest.raises(SettingsError, match="`prevalence`"):
        evaluate(tiny(), spot_splits.val, prevalence="0.1")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"seed": value} for value in (True, None, "3", -1, 2**32)),
        *({"classes": value} for value in (("A",), ("A", "B", "C"), "healthy", ("A", "a"), None, (1, 2))),
        {"keep_val": "yes"},
        {"skip_bad": 2},
    ],
    ids=str,
)
def test_wrong_arguments_of_load_splits_are_named(wrong, phantom_folder):
    with pytest.raises(SettingsError) as raised:
        load_splits(phantom_folder, **wrong)
    assert raised.value.parameter == next(iter(wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"val": value} for value in (float("nan"), "0.1", -0.1, None)),
        *({"folds": value} for value in ("3", 1, 2.0)),
        *({"seed": value} for value in (None, "3")),
        {"test": float("nan")},
    ],
    ids=str,
)
def test_wrong_arguments_of_split_are_named(wrong, spot_splits):
    with pytest.raises(SettingsError) as raised:
        split(spot_splits.train, **wrong)
    assert raised.value.parameter == next(iter(wrong))


def test_numpys_seed_splits_as_pythons_does(spot_splits):
    one, other = (split(spot_splits.train, seed=seed) for seed in (np.int64(3), 3))
    assert one.fingerprint == other.fingerprint


def test_no_stages_and_a_single_one_may_be_given_as_they_are(spot_splits):
    history = fit(tiny(), spot_splits.train, spot_splits.val, epochs=np.int64(1), stages=None).history
    assert "stage" not in history
    assert FitSettings(stages=Stage("head")).stages == (Stage("head"),)


@pytest.mark.parametrize("command", ["tune", "train"])
def test_a_part_that_is_not_there_is_refused_before_a_run_exists(command, spot_splits, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ModelError, match="stage9"):
        if command == "tune":
            tune(
                CompactCNNHyperModel(input_shape=(SIDE, SIDE, 1)),
                spot_splits,
                fine_tune=[Stage("stage9")],
                run=run,
            )
        else:
            stages = (Stage("stage9", batch_norm="update"),)
            train(
                Configuration.for_model("compact-cnn", image_size=SIDE, stages=stages), spot_splits, run=run
            )
    assert not run.exists()


class TestClassWeights:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, None),
            ("none", None),
            ("balanced", "balanced"),
            ({0: 5}, {0: 5.0, 1: 1.0}),
            ({np.int64(1): np.float32(0.5)}, {0: 1.0, 1: 0.5}),
            ({"NORMAL": 5, "PNEUMONIA": 1}, {0: 5.0, 1: 1.0}),
            ({"SICK": 1, "WELL": 5}, {0: 5.0, 1: 1.0}),
            ([5, 1], {0: 5.0, 1: 1.0}),
            (np.array([5.0, 1.0]), {0: 5.0, 1: 1.0}),
            ({0: 0, 1: 1}, {0: 0.0, 1: 1.0}),
        ],
        ids=str,
    )
    def test_each_spelling_means_one_thing(self, given, expected):
        assert class_weights_of(given, ("WELL", "SICK")) == expected

    @pytest.mark.parametrize(
        "given",
        [
            "auto",
            {"NORMAL": 5},
            {0: 1, 1: 2, 2: 3},
            {0: "a"},
            np.zeros(2),
            np.ones((2, 2)),
            3,
            {"a": 1, "b": 2},
        ],
    )
    def test_anything_else_is_refused(self, given):
        with pytest.raises(SettingsError, match="`class_weights`"):
            class_weights_of(given)

    def test_images_features_and_stages_weigh_alike(self, spot_splits):
        train_set, val = spot_splits.train, spot_splits.val
        stages = [Stage("all", epochs=1, learning_rate=1e-2, batch_norm="update")]
        whole, staged, plain = (
            fit(tiny(), train_set, val, epochs=1, views=1, class_weights=weights, stages=of).history["loss"]
            for weights, of in (({"NORMAL": 5, "PNEUMONIA": 1}, ()), ({0: 5}, stages), (None, ()))
        )
        assert whole == pytest.approx(staged, rel=1e-5)
        assert whole != pytest.approx(plain, rel=0.1)
        images = ImageBatches.of(train_set, val, BatchSettings(class_weights={0: 5}), image_size=(SIDE, SIDE))
        features = FeatureBatches(images, stored(len(train_set)), stored(len(val)))
        _, labels, weights = next(iter(features.arguments(1)["x"]))
        np.testing.assert_array_equal(weights, np.where(labels == 1, 1.0, 5.0))


def stored(count):
    """Features of two numbers for so many radiographs."""
    values = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    places = np.column_stack([np.zeros(count, int), np.arange(count)])
    return Rows((2,), [values], places)


class TestFeaturesInMemory:
    @pytest.fixture
    def features(self, spot_splits):
        images = ImageBatches.of(
            spot_splits.train, spot_splits.val, BatchSettings(views=1), image_size=(8, 8)
        )
        return FeatureBatches(images, stored(len(spot_splits.train)), stored(len(spot_splits.val)))

    def test_batches_of_other_sizes_share_them(self, features):
        small, large = features.batched(4), features.batched(8)
        assert small._take is large._take is features._take
        assert [batches.images.train.batch_size for batches in (small, large)] == [4, 8]

    def test_a_strategy_takes_step_by_step_what_it_cannot_loop_over(self, features):
        with tf.distribute.OneDeviceStrategy("CPU:0").scope():
            assert features.steps_per_call() == 1
        assert features.steps_per_call() == len(features.images.train) == 2

    def test_a_large_val_counts_too(self, features, monkeypatch):
        both = 4 * 2 * (len(features.train) + len(features.val_features))
        for limit, fits in ((both, True), (both - 1, False)):
            monkeypatch.setattr("pneumokeras.training.data_adapters.MEMORY_LIMIT", limit)
            assert features._in_memory == fits


class TestValidation:
    @pytest.mark.parametrize("rows", ["one class", "none"])
    def test_a_val_that_ranks_nothing_is_refused_before_training(self, rows, spot_splits, tmp_path):
        labels = spot_splits.val.labels
        val = spot_splits.val.subset(np.flatnonzero(labels == 1) if rows == "one class" else [])
        with pytest.raises(DataError, match="val has no NORMAL radiographs"):
            fit(tiny(), spot_splits.train, val)
        splits = Splits(spot_splits.train, val, spot_splits.test)
        with pytest.raises(DataError, match="val has no NORMAL radiographs"):
            tune(Tiny(), splits, objective="val_loss", run=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_train_without_a_class_is_refused(self, spot_splits):
        sick = spot_splits.train.subset(np.flatnonzero(spot_splits.train.labels == 1))
        with pytest.raises(DataError, match="train has no NORMAL radiographs"):
            fit(tiny(), sick, spot_splits.val)

    def test_one_class_is_enough_for_its_loss(self, spot_splits):
        sick = spot_splits.val.subset(np.flatnonzero(spot_splits.val.labels == 1))
        model = tiny()
        history = fit(model, spot_splits.train, sick, epochs=3, objective="val_loss").history
        probabilities = predict(model, sick).probabilities
        assert -np.mean(np.log(probabilities)) == pytest.approx(min(history["val_loss"]), rel=1e-4)


class TestNaN:
    @pytest.fixture
    def first_is_nan(self, monkeypatch):
        """The first epoch's validation outputs are not finite, as if float16 had overflowed."""
        real, calls = callbacks_module.forward, []

        def forward(model, batches):
            calls.append(model)
            outputs = real(model, batches)
            return outputs * np.nan if len(calls) == 1 else outputs

        monkeypatch.setattr(callbacks_module, "forward", forward)

    @pytest.mark.parametrize("objective", ["val_auc", "val_accuracy", "val_loss"])
    def test_the_epoch_kept_is_the_best_finite_one(self, objective, spot_splits, first_is_nan, tmp_path):
        model, path, epochs = tiny(), tmp_path / "best.weights.h5", []
        watch = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: epochs.append(model.get_weights())
        )
        data = ImageBatches.of(spot_splits.train, spot_splits.val, BatchSettings(), image_size=(SIDE, SIDE))
        history = fit_on(
            model, data, epochs=4, objective=objective, checkpoint=path, callbacks=[watch]
        ).history
        assert np.isnan(history[objective][0])
        best = best_epoch(history, objective)
        assert best > 0
        for weights in (model.get_weights(), (model.load_weights(path), model.get_weights())[1]):
            for kept, expected in zip(weights, epochs[best], strict=True):
                np.testing.assert_array_equal(kept, expected)

    def test_the_plateau_does_not_take_it_for_the_best(self):
        callback, optimizer = Plateau(patience=2).callback(), keras.optimizers.SGD(1.0)
        callback.set_model(SimpleNamespace(optimizer=optimizer))
        callback.on_train_begin()
        for epoch, loss in enumerate([np.nan, 3.0, 2.0, 1.0]):
            callback.on_epoch_end(epoch, {"val_loss": loss})
        assert float(optimizer.learning_rate) == 1.0

    @pytest.mark.parametrize("options", [{}, {"schedule": Schedule(keep="last")}, {"stages": [Stage("all")]}])
    def test_a_fit_of_nan_alone_does_not_return_a_model(self, options, spot_splits):
        model = tiny()
        model.get_layer("logit").set_weights([np.full((4, 1), np.nan), np.zeros(1)])
        with pytest.raises(ModelError, match="never a number: the model's outputs are not finite"):
            fit(model, spot_splits.train, spot_splits.val, epochs=1, **options)


class Counting(keras.callbacks.Callback):
    """Keeps the `val_auc` of every epoch that it or a copy of it sees."""

    seen: list = []  # noqa: RUF012  # shared by all copies

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((id(self), logs["val_auc"]))


class TestCallbacks:
    @pytest.fixture
    def counting(self, monkeypatch):
        monkeypatch.setattr(Counting, "seen", [])
        return Counting()

    def test_a_fit_and_its_stages_call_the_callers_own(self, counting, spot_splits, tmp_path):
        stages = [Stage("head", 1, 1e-2), Stage("all", 2, 1e-2)]
        board = keras.callbacks.TensorBoard(str(tmp_path / "logs"))
        history = fit(
            tiny(), spot_splits.train, spot_splits.val, stages=stages, views=1, callbacks=[counting, board]
        ).history
        assert counting.seen == [(id(counting), score) for score in history["val_auc"]]
        assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["stage_1", "stage_2"]

    def test_a_search_gives_each_fit_copies_and_tensorboard_its_folders(
        self, counting, spot_splits, tmp_path
    ):
        board = keras.callbacks.TensorBoard(str(tmp_path / "logs"))
        run = tmp_path / "run"
        result = tune(
            Tiny(), spot_splits, max_trials=2, epochs=1, run=run, callbacks=[counting, board], workers=1
        )
        assert len(counting.seen) == 3
        assert id(counting) not in {number for number, _ in counting.seen}
        assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["fit", "trial_1", "trial_2"]
        assert board.log_dir == str(tmp_path / "logs")
        again = tune(Tiny(), spot_splits, max_trials=2, epochs=1, run=run)  # found whatever the callbacks
        assert again.history == result.history

    def test_what_cannot_be_copied_is_refused_before_the_search(self, spot_splits, tmp_path):
        callback = keras.callbacks.Callback()
        callback.stream = io.TextIOWrapper(io.BytesIO())
        with pytest.raises(SettingsError, match="`callbacks` that can be copied"):
            tune(Tiny(), spot_splits, run=tmp_path / "run", callbacks=[callback])
        assert not (tmp_path / "run").exists()


def test_a_search_follows_schedule_weights_and_threshold(spot_splits, tmp_path):
    result = tune(
        Tiny(),
        spot_splits,
        max_trials=1,
        epochs=3,
        run=tmp_path / "run",
        schedule=Schedule(plateau=None, patience=None, keep="last"),
        class_weights=None,
        oversample=1.0,
        threshold=0.3,
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["best_epoch"] == len(result.history["loss"]) == 3
    assert result.trials[0].score == pytest.approx(result.history["val_auc"][-1])
    assert result.operating_points["validation"].threshold == 0.3
    assert record["settings"]["class_weights"] == "none"


def test_a_recipes_settings_can_be_replaced(spot_splits, tmp_path):
    stages = (Stage("all", epochs=1, learning_rate=1e-3, batch_norm="update"),)
    options = {"hyperparameters": {"width": 2, "depth": 2}, "stages": stages}
    configuration = Configuration.for_model("compact-cnn", image_size=SIDE, **options)
    result = train(
        configuration,
        spot_splits,
        run=tmp_path / "run",
        class_weights="none",
        threshold=0.25,
        seed=np.int64(0),
    )
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["class_weights"] == "none"
    assert settings["threshold"] == {"policy": "fixed", "threshold": 0.25}
    assert result.operating_points["validation"].threshold == 0.25
    assert replace(configuration, class_weights=[2, 1]).settings()["class_weights"] == {
        "NORMAL": 2,
        "PNEUMONIA": 1,
    }


class TestProgress:
    def test_a_line_is_written_over_and_each_fit_leaves_its_last(self):
        stream = io.StringIO()
        line = ProgressLine(TerminalLine(stream))
        line(ExtractionProgress(wanted=4, found=0, done=2, images_per_second=1, precision="float32"))
        line(ExtractionProgress(wanted=4, found=0, done=4, images_per_second=1, precision="float32"))
        state = TuningProgress("fit", 0, 0, 1, 2, "val_auc", 0.75, 3)
        line(state)
        line(replace(state, epoch=2, seconds_left=0, trial_ended=True))
        shown = [text.rsplit("\r", 1)[-1].strip() for text in stream.getvalue().splitlines(keepends=True)]
        assert "features: 2 views to go, 1 images/s, 0:02 left" in stream.getvalue()
        assert "training, best val_auc 0.750, 0:03 left  (epoch 1/2)" in stream.getvalue()
        assert [text for text in shown if text][-1] == "training, best val_auc 0.750, done"

    def test_a_cell_shows_one_output_for_each_fit(self, capsys, monkeypatch):
        outputs = []

        class Output:
            def update(self, text, *, raw):
                outputs[-1] = text["text/plain"]

        def display(text, *, raw, display_id):
            outputs.append(text["text/plain"])
            return Output()

        monkeypatch.setattr("IPython.display.display", display)
        line = CellLine()
        for text, ended in (("one", False), ("done", True), ("two", False)):
            line(text, ended=ended)
        assert outputs == ["done", "two"]
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("terminal", "verbose", "shown"),
        [(True, "auto", True), (False, "auto", False), (False, True, True), (True, 0, False)],
    )
    def test_it_shows_itself_on_a_terminal(self, terminal, verbose, shown, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        assert isinstance(progress_or_line(None, verbose), ProgressLine) == shown
        assert progress_or_line(print, verbose) is print

    def test_a_fit_reports_its_epochs(self, spot_splits):
        seen = []
        history = fit(tiny(), spot_splits.train, spot_splits.val, epochs=2, progress=seen.append).history
        assert [(state.stage, state.epoch) for state in seen] == [("fit", 1), ("fit", 2), ("fit", 2)]
        assert seen[-1].best == max(history["val_auc"])


@pytest.mark.parametrize("counting", ["keras", "torch"])
def test_mixed_float16_trains_in_stages(counting, spot_splits):
    options = {"learning_rate": {"head": 1e-3, "backbone": 1e-4}}
    if counting == "torch":
        options |= {"optimizer": "adam", "weight_decay": 1e-4}
    schedule = Schedule(plateau=Plateau(patience=0, counting=counting))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny()
        stages = [Stage("all", 1, **options), Stage("all", 1, 1e-3)]
        history = fit(
            model, spot_splits.train, spot_splits.val, stages=stages, views=1, schedule=schedule
        ).history
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert history["learning_rate"] == pytest.approx([1e-3, 1e-3])
    finally:
        keras.config.set_dtype_policy(before)


TWO_DEVICES = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
import pneumokeras as pk
from tests.test_settings import two_layers

rng = np.random.default_rng(0)
sets = []
for name in ("train", "val", "test"):
    labels = np.arange(24) % 2
    images = (rng.integers(60, 120, (24, 32, 32)) + 100 * labels[:, None, None]).astype(np.uint8)
    names = [f"{name}{number}" for number in range(24)]
    sets.append(pk.RadiographSet.from_arrays(images, labels, names=names, patients=names))
splits = pk.Splits(*sets)
torch = pk.Schedule(plateau=pk.Plateau(patience=0, counting="torch"))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    result = pk.tune(
        two_layers(),
        splits,
        max_trials=1,
        epochs=2,
        views=1,
        schedule=torch,
        fine_tune=pk.Stage("stage2", 1, {"head": 1e-3, "backbone": 1e-4}, optimizer="adam"),
        run=sys.argv[1],
    )
    assert result.history["stage"] == [1, 1, 2]
    model = pk.fit(result.model, *sets[:2], stages=pk.Stage("head", 1, 1e-3), cache=False).model
assert np.isfinite(pk.predict(model, sets[2]).probabilities).all()
"""


def two_layers():
    """A HyperModel on a random frozen network of two stages."""
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(2, 3, 2, "same", activation="relu"),
            layers.Conv2D(4, 3, 2, "same", activation="relu"),
        ],
        name="small",
    )
    return TransferHyperModel(network, input_shape=(SIDE, SIDE, 1), units=(4, 4, 4))


@pytest.mark.slow
def test_a_mirrored_strategy_trains_on_images_features_and_in_stages(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_generator_that_normalizes_is_refused_before_a_run_exists(spot_splits, tmp_path):
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    with pytest.raises(SettingsError, match="rescale"):
        tune(Tiny(), spot_splits, generator=ImageDataGenerator(rescale=1 / 255), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert BatchSettings(generator=None).generator.__class__ is RadiographDataGenerator


class TestOptions:
    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            (ClassWeights(), "none", "none"),
            (ClassWeights(), "2.9,1", (2.9, 1.0)),
            (Threshold(), "0.3", Fixed(0.3)),
            (Threshold(), "youden", Youden()),
            (Threshold(), "sensitivity:0.98", Sensitivity(0.98)),
        ],
    )
    def test_their_values_are_read(self, kind, text, value):
        assert kind.convert(text, None, None) == value

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            (ClassWeights(), "even"),
            (ClassWeights(), "1,2,3"),
            (Threshold(), "best"),
            (Threshold(), "sensitivity:95"),
            (Threshold(), "youden:1"),
            (Threshold(), "1.5"),
        ],
    )
    def test_wrong_values_are_wrong_usage(self, kind, text):
        with pytest.raises(click.UsageError):
            kind.convert(text, None, None)

    @pytest.mark.parametrize(
        ("command", "verb"), [("tune", "training.tune.tune"), ("train", "recipes.train.train")]
    )
    def test_a_command_passes_them_on(self, command, verb, phantom_folder, tmp_path, monkeypatch):
        passed = {}

        def stop(*_, **settings):
            passed.update(settings)
            raise SettingsError("enough")

        monkeypatch.setattr(f"pneumokeras.{verb}", stop)
        given = ["--class-weights", "2,1", "--oversample", 1.2, "--threshold", "youden", "--patience", 2]
        others = ["--workers", 3, "--tensorboard", tmp_path / "logs"]
        called = call(command, "--data", phantom_folder, "--model", "compact-cnn", *given, *others)
        assert "enough" in error_line(called)
        assert (passed["class_weights"], passed["oversample"], passed["workers"]) == ((2.0, 1.0), 1.2, 3)
        assert passed["threshold"] == Youden()
        assert passed["schedule"] == Schedule(patience=2)
        assert [callback.log_dir for callback in passed["callbacks"]] == [str(tmp_path / "logs")]

    @pytest.mark.parametrize(
        ("point", "said"),
        [
            (OperatingPoint(0.3), "0.3000, fixed"),
            (
                OperatingPoint(0.3, "val", "youden", None, 9),
                "0.3000, chosen on 9 validation images",
            ),
        ],
    )
    def test_the_summary_says_how_the_threshold_was_chosen(self, point, said):
        assert chosen_threshold(point) == f"threshold {said}"

    @pytest.mark.parametrize("command", ["tune", "train"])
    @pytest.mark.parametrize(
        "options",
        [
            *(["--class-weights", weights] for weights in ("-1,2", "0,0", "inf,1", "nan,1")),
            *(["--class-weights", "none", "--oversample", ratio] for ratio in (0, "nan")),
            ["--oversample", 1.2],
        ],
    )
    def test_numbers_out_of_range_are_refused_before_radiographs_are_read(self, options, command, tmp_path):
        given = ["--data", tmp_path / "absent", "--model", "compact-cnn", "--run", tmp_path / "run", *options]
        assert options[-2] in error_line(call(command, *given))
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("command", ["tune", "train"])
    @pytest.mark.parametrize("place", ["a file", "a file/logs", "closed/logs", "closed"])
    def test_logs_that_cannot_be_written_are_refused_before_anything_is_begun(
        self, place, command, phantom_folder, tmp_path, monkeypatch
    ):
        (tmp_path / "a file").write_text("mine")
        (tmp_path / "closed").mkdir()
        access = os.access
        monkeypatch.setattr(
            "os.access", lambda path, mode: path != tmp_path / "closed" and access(path, mode)
        )
        run, logs = tmp_path / "run", tmp_path / place
        options = ["--model", "compact-cnn", "--run", run, "--tensorboard", logs]
        line = error_line(call(command, "--data", phantom_folder, *options))
        assert line.startswith(f"Error: Invalid value for '--tensorboard': {logs} cannot be written: ")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "closed"]

    def test_what_does_not_go_together_names_the_options(self, phantom_folder, tmp_path):
        run = tmp_path / "run"
        wrong = call(
            "tune", "--data", phantom_folder, "--model", "compact-cnn", "--oversample", 2, "--run", run
        )
        assert "--class-weights none" in error_line(wrong)
        assert not run.exists()
