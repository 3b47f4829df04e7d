"""The search is resumed, its failures are rows, and the run folder holds what was promised."""

import csv
import json
import shutil
import warnings
from types import MappingProxyType

import keras
import keras_tuner
import numpy as np
import pytest

from pneumokeras.core.errors import DataError, ModelError, RunError, SettingsError, TuningError
from pneumokeras.data.from_path import load_splits
from pneumokeras.data.splits import Splits
from pneumokeras.models.hypermodels import CompactCNNHyperModel, TransferHyperModel
from pneumokeras.models.saving import description_of
from pneumokeras.runs.result import load_run
from pneumokeras.training.feature_store import stored_features
from pneumokeras.training.loop import FitResult
from pneumokeras.training.predict import predict
from pneumokeras.training.tune import tune


class SmallHyperModel(CompactCNNHyperModel):
    """The smallest there is; fails where a test wants it to."""

    def __init__(self, fails=()):
        super().__init__(input_shape=(32, 32, 1), width=(4, 8, 4), depth=(1, 1))
        self.fails = set(fails)
        self.builds = 0

    def build(self, hp):
        self.builds += 1
        if self.builds in self.fails:
            raise MemoryError("no room for this trial")
        return super().build(hp)


@pytest.fixture(scope="module")
def finished(spot_splits, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "first"
    seen = []
    return tune(SmallHyperModel(), spot_splits, max_trials=2, epochs=2, run=run, progress=seen.append), seen


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


class TestTheRunFolder:
    def test_it_holds_every_file_of_the_contract(self, finished):
        run = finished[0].run
        names = {
            "run.json",
            "splits.csv",
            "trials.csv",
            "best_hyperparameters.json",
            "history.csv",
            "model.keras",
        }
        names |= {"threshold.json", "predictions/val.csv", "tuner"}
        assert {name for name in names if (run / name).exists()} == names

    def test_nothing_temporary_is_left(self, finished):
        assert not list(finished[0].run.rglob(".*"))
        assert not (finished[0].run / "checkpoint.weights.h5").exists()

    def test_run_json_says_how_it_was_made(self, finished, spot_splits):
        record = json.loads((finished[0].run / "run.json").read_text())
        assert record["status"] == "finished"
        assert record["settings"]["max_trials"] == 2
        assert record["data"]["fingerprint"] == spot_splits.fingerprint
        assert {"tensorflow", "keras", "pneumokeras"} <= set(record["versions"])
        assert set(record["timings"]) == {"extraction", "search", "fit"}

    def test_trials_have_a_column_for_each_hyperparameter(self, finished):
        trials = rows(finished[0].run / "trials.csv")
        assert list(trials[0])[:6] == ["trial", "status", "score", "epochs", "seconds", "reason"]
        assert {"width", "depth", "dropout", "learning_rate"} <= set(trials[0])
        assert [trial["status"] for trial in trials] == ["completed", "completed"]

    def test_the_history_begins_with_epoch_stage_and_learning_rate(self, finished):
        history = rows(finished[0].run / "history.csv")
        assert list(history[0])[:5] == ["epoch", "stage", "learning_rate", "loss", "val_loss"]

    def test_the_validation_threshold_is_chosen_on_val(self, finished, spot_splits):
        points = json.loads((finished[0].run / "threshold.json").read_text())["points"]
        assert points["default"] == {"threshold": 0.5, "chosen_on": "fixed"}
        assert points["validation"]["chosen_on"] == "val"
        assert points["validation"]["images"] == len(spot_splits.val)
        assert points["validation"]["sensitivity_floor"] == 0.95

    def test_the_saved_model_predicts_what_was_predicted(self, finished, spot_splits):
        model = keras.models.load_model(finished[0].run / "model.keras")
        probabilities = model.predict(spot_splits.val.images[..., np.newaxis], verbose=0).reshape(-1)
        written = [float(row["probability"]) for row in rows(finished[0].run / "predictions" / "val.csv")]
        np.testing.assert_allclose(written, probabilities, atol=1e-6)

    def test_load_run_gives_all_of_it_back(self, finished, spot_splits):
        result, loaded = finished[0], load_run(finished[0].run)
        assert loaded.best_hyperparameters == result.best_hyperparameters
        assert loaded.operating_points == result.operating_points
        assert loaded.history == result.history
        assert [trial.score for trial in loaded.trials] == [trial.score for trial in result.trials]
        np.testing.assert_allclose(
            predict(loaded.model, spot_splits.test).probabilities,
            predict(result.model, spot_splits.test).probabilities,
            atol=1e-6,
        )


class TestProgress:
    def test_it_counts_trials_and_ends_with_the_fit(self, finished):
        seen = finished[1]
        assert [(p.stage, p.trial) for p in seen if p.trial_ended] == [
            ("search", 1),
            ("search", 2),
            ("fit", 2),
        ]
        assert seen[-1].seconds_left == 0

    def test_the_best_score_is_the_best_so_far(self, finished):
        result, seen = finished
        assert seen[-1].best == max(trial.score for trial in result.trials)


class TestRepeating:
    def test_the_same_call_gives_the_finished_run_back(self, finished, spot_splits):
        hypermodel = SmallHyperModel()
        again = tune(hypermodel, spot_splits, max_trials=2, epochs=2, run=finished[0].run)
        assert hypermodel.builds == 1  # to recognize the network
        assert again.trials == load_run(finished[0].run).trials

    def test_other_settings_are_refused_and_named(self, finished, spot_splits):
        with pytest.raises(RunError, match="epochs 2, not 3"):
            tune(SmallHyperModel(), spot_splits, max_trials=2, epochs=3, run=finished[0].run)

    def test_other_radiographs_are_refused(self, finished, spot_splits):
        other = Splits(spot_splits.train.subset(np.arange(40)), spot_splits.val, spot_splits.test)
        with pytest.raises(RunError, match="other radiographs"):
            tune(SmallHyperModel(), other, max_trials=2, epochs=2, run=finished[0].run)

    def test_a_folder_with_something_else_is_left_alone(self, spot_splits, tmp_path):
        (tmp_path / "thesis.docx").write_text("mine")
        with pytest.raises(RunError, match="something other than a run"):
            tune(SmallHyperModel(), spot_splits, run=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]

    def test_without_a_name_the_same_call_finds_its_own_run(self, spot_splits, in_tmp):
        first = tune(SmallHyperModel(), spot_splits, max_trials=1, epochs=1)
        hypermodel = SmallHyperModel()
        assert tune(hypermodel, spot_splits, max_trials=1, epochs=1).run == first.run
        assert hypermodel.builds == 1  # to recognize the network
        assert first.run.parts[0] == "tuner_runs"

    def test_an_interrupted_search_goes_on_without_losing_or_repeating_a_trial(
        self, finished, spot_splits, tmp_path
    ):
        run = tmp_path / "interrupted"

        def pull_the_plug(progress):
            if progress.trial == 2 and progress.epoch == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tune(SmallHyperModel(), spot_splits, max_trials=2, epochs=2, run=run, progress=pull_the_plug)
        with pytest.raises(RunError, match="not finished"):
            load_run(run)
        seen = []
        result = tune(SmallHyperModel(), spot_splits, max_trials=2, epochs=2, run=run, progress=seen.append)
        assert {p.trial for p in seen if p.stage == "search"} == {2}
        assert [trial.number for trial in result.trials] == [1, 2]
        assert [t.hyperparameters for t in result.trials] == [t.hyperparameters for t in finished[0].trials]
        np.testing.assert_allclose(
            [t.score for t in result.trials], [t.score for t in finished[0].trials], atol=0.02
        )


class TestFailures:
    def test_a_failing_trial_is_a_row_with_its_reason(self, spot_splits, tmp_path):
        hypermodel = SmallHyperModel(
            fails={4}
        )  # the first two only recognize the network and ask for its space
        result = tune(hypermodel, spot_splits, max_trials=3, epochs=1, run=tmp_path / "run")
        assert [trial.status for trial in result.trials] == ["completed", "failed", "completed"]
        assert result.trials[1].reason == "MemoryError: no room for this trial"
        assert rows(tmp_path / "run" / "trials.csv")[1]["reason"] == "MemoryError: no room for this trial"

    def test_if_all_fail_the_first_reason_is_shown(self, spot_splits, tmp_path):
        hypermodel = SmallHyperModel(fails=range(3, 20))
        with pytest.raises(TuningError, match=r"All 5 trials failed\. The first: MemoryError: no room"):
            tune(hypermodel, spot_splits, max_trials=5, epochs=1, run=tmp_path / "run")
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"

    def test_a_model_that_cannot_be_had_is_no_failed_trial(self, spot_splits, tmp_path):
        class Offline(SmallHyperModel):
            def build(self, hp):
                raise ModelError("no weights")

        with pytest.raises(ModelError, match="no weights"):
            tune(Offline(), spot_splits, max_trials=2, epochs=1, run=tmp_path / "run")

    @pytest.mark.parametrize("existed", [False, True])
    def test_a_run_that_computed_nothing_leaves_nothing(self, spot_splits, tmp_path, monkeypatch, existed):
        """As where the weights cannot be downloaded."""

        class Offline(TransferHyperModel):
            def feature_extractor(self):
                raise ModelError("no weights")

        if existed:
            (tmp_path / "run").mkdir()
        hypermodel = Offline("mobilenetv3small", weights="imagenet", input_shape=(32, 32, 1))
        with pytest.raises(ModelError, match="no weights"):
            tune(hypermodel, spot_splits, max_trials=1, epochs=1, run=tmp_path / "run")
        assert [path.name for path in tmp_path.rglob("*")] == ["run"] * existed

    def test_a_failing_trial_prints_no_traceback_and_no_warning(self, spot_splits, tmp_path, capfd):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            tune(SmallHyperModel(fails={3}), spot_splits, max_trials=2, epochs=1, run=tmp_path / "run")
        assert "MemoryError" not in "".join(capfd.readouterr())

    def test_a_repeated_call_starts_anew_after_all_failed(self, spot_splits, tmp_path):
        with pytest.raises(TuningError):
            tune(
                SmallHyperModel(fails=range(3, 20)), spot_splits, max_trials=2, epochs=1, run=tmp_path / "run"
            )
        result = tune(SmallHyperModel(), spot_splits, max_trials=2, epochs=1, run=tmp_path / "run")
        assert [trial.status for trial in result.trials] == ["completed", "completed"]

    def test_a_file_that_is_no_image_is_named_before_anything_is_trained(self, phantom_folder, tmp_path):
        shutil.copytree(phantom_folder, tmp_path / "data")
        broken = sorted((tmp_path / "data" / "train" / "NORMAL").iterdir())[1]
        broken.write_bytes(b"no image")
        hypermodel = SmallHyperModel()
        with pytest.raises(DataError, match=broken.name):
            tune(hypermodel, load_splits(tmp_path / "data"), max_trials=2, epochs=1, run=tmp_path / "run")
        assert hypermodel.builds == 0

    def test_a_fit_that_diverges_says_so(self, spot_splits, tmp_path):
        class Diverging(SmallHyperModel):
            def build(self, hp):
                model = super().build(hp)
                model.compile(keras.optimizers.SGD(1e38), "binary_crossentropy")
                return model

        with pytest.raises(TuningError, match="never a number"):
            tune(Diverging(), spot_splits, max_trials=1, epochs=1, run=tmp_path / "run")

    def test_a_hypermodel_without_a_model_is_one_clear_error(self, spot_splits, tmp_path):
        with pytest.raises(TuningError, match="cannot be built: NotImplementedError"):
            tune(keras_tuner.HyperModel(), spot_splits, run=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"max_trials": 0},
            {"epochs": 0},
            {"objective": "accuracy"},
            {"batch_size": 0},
            {"batch_size": ()},
            {"batch_size": (8, 0)},
            {"views": 0},
            {"precision": "float16"},
            {"seed": -1},
        ],
    )
    def test_numbers_out_of_range_are_refused(self, wrong, spot_splits, tmp_path):
        with pytest.raises(SettingsError, match=f"Expected `{next(iter(wrong))}`") as raised:
            tune(SmallHyperModel(), spot_splits, run=tmp_path / "run", **wrong)
        assert raised.value.parameter == next(iter(wrong))
        assert not (tmp_path / "run").exists()


def test_the_same_seed_proposes_the_same_trials_also_with_seed_0(spot_splits, tmp_path, finished):
    again = tune(SmallHyperModel(), spot_splits, max_trials=2, epochs=1, run=tmp_path / "again")
    assert [t.hyperparameters for t in again.trials] == [t.hyperparameters for t in finished[0].trials]
    other = tune(SmallHyperModel(), spot_splits, max_trials=2, epochs=1, seed=5, run=tmp_path / "other")
    assert [t.hyperparameters for t in other.trials] != [t.hyperparameters for t in finished[0].trials]


def test_the_score_of_a_trial_is_that_of_its_best_epoch(spot_splits, tmp_path, monkeypatch):
    history = {
        "loss": [0.6, 0.5, 0.4],
        "val_loss": [0.7, 0.5, 0.6],
        "val_auc": [0.6, 0.9, 0.7],
        "val_accuracy": [0.5, 0.8, 0.75],
    }
    monkeypatch.setattr(
        "pneumokeras.training.tuner.fit_on", lambda model, *_, **__: FitResult(model, history)
    )
    for objective, score in (("val_auc", 0.9), ("val_accuracy", 0.8), ("val_loss", 0.5)):
        run = tmp_path / objective
        result = tune(SmallHyperModel(), spot_splits, max_trials=1, epochs=1, objective=objective, run=run)
        assert [(trial.score, trial.epochs) for trial in result.trials] == [(score, 3)]


def test_nothing_is_printed(spot_splits, tmp_path, capfd):
    tune(SmallHyperModel(), spot_splits, max_trials=1, epochs=1, run=tmp_path / "run")
    assert capfd.readouterr().out == ""


def test_a_users_own_hypermodel_can_be_tuned(spot_splits, tmp_path):
    class Own(keras_tuner.HyperModel):
        input_shape = (32, 32, 1)

        @property
        def settings(self):
            return {"model": "own"}

        def build(self, hp):
            units = hp.Int("units", 2, 4)
            model = keras.Sequential(
                [
                    keras.Input(self.input_shape),
                    keras.layers.Rescaling(1 / 255),
                    keras.layers.Flatten(),
                    keras.layers.Dense(units, activation="relu"),
                    keras.layers.Dense(1, activation="sigmoid"),
                ]
            )
            model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
            return model

    result = tune(Own(), spot_splits, max_trials=1, epochs=1, run=tmp_path / "own")
    assert len(predict(result.model, spot_splits.test)) == len(spot_splits.test)


def test_a_users_own_head_on_a_frozen_network_is_searched_on_stored_features(
    spot_splits, tmp_path, monkeypatch
):
    class Own(keras_tuner.HyperModel):
        input_shape = (32, 32, 1)
        settings = MappingProxyType({"model": "own"})

        def feature_extractor(self):
            inputs = keras.Input(self.input_shape)
            scaled = keras.layers.Rescaling(1 / 255)(inputs)
            frozen = keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(0))
            frozen.trainable = False
            return keras.Model(inputs, frozen(keras.layers.Flatten()(scaled)))

        def build_head(self, hp):
            inputs = keras.Input((4,))
            model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="logit")(inputs))
            model.compile(keras.optimizers.Adam(hp.Choice("rate", [1e-2])), "binary_crossentropy")
            return model

        def assemble(self, hp, head):
            body = self.feature_extractor()
            return keras.Model(body.inputs[0], head(body.outputs[0]))

        def build(self, hp):
            raise AssertionError("the full model is not trained")

    monkeypatch.setenv("PNEUMOKERAS_CACHE", str(tmp_path / "cache"))
    result = tune(
        Own(), spot_splits, max_trials=1, epochs=2, views=1, precision="float32", run=tmp_path / "own"
    )
    assert stored_features()[0].rows == len(spot_splits.train) + len(spot_splits.val)
    written = [float(row["probability"]) for row in rows(tmp_path / "own" / "predictions" / "val.csv")]
    np.testing.assert_allclose(written, predict(result.model, spot_splits.val).probabilities, atol=1e-6)


def test_the_users_precision_is_left_alone(spot_splits, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        result = tune(SmallHyperModel(), spot_splits, max_trials=1, epochs=1, run=tmp_path / "run")
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert result.model.get_layer("logit").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy(before)


def test_three_channels_are_trained_on_replicated_gray(spot_splits, tmp_path):
    network = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, strides=4)])
    hypermodel = TransferHyperModel(network, input_shape=(32, 32, 3))
    result = tune(hypermodel, spot_splits, max_trials=1, epochs=1, run=tmp_path / "run")
    assert result.model.input_shape == (None, 32, 32, 3)
    assert len(predict(result.model, spot_splits.test)) == len(spot_splits.test)


def test_padding_is_remembered_by_the_model(spot_splits, tmp_path):
    result = tune(SmallHyperModel(), spot_splits, max_trials=1, epochs=1, pad=True, run=tmp_path / "run")
    assert description_of(load_run(result.run).model).pad


@pytest.mark.slow
def test_a_small_network_learns_from_real_radiographs(chest_xray, tmp_path):
    splits = load_splits(chest_xray)
    some = Splits(splits.train.subset(np.arange(0, len(splits.train), 6)), splits.val, splits.test)
    hypermodel = CompactCNNHyperModel(input_shape=(48, 48, 1))
    result = tune(hypermodel, some, max_trials=1, epochs=6, run=tmp_path / "run")
    assert max(result.history["val_auc"]) > 0.95
