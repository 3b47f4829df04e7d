"""What a notebook cell ends in shows itself in a few lines, and as a table or a picture."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import pneumokeras as pk
from pneumokeras.core.quiet import LEVEL, without_chatter
from pneumokeras.evaluation import evaluate_predictions
from pneumokeras.explain.activations import ClassActivations
from pneumokeras.runs.folder import begin_run
from pneumokeras.runs.result import keep_run
from pneumokeras.training.loop import FitResult

RUN = Path(__file__).parent / "data" / "run-0.1" / "compact-cnn-e28e7038"


@pytest.fixture(scope="module")
def result():
    """A run that version 0.1 wrote."""
    return pk.load_run(RUN)


@pytest.fixture(scope="module")
def audited(spot_splits):
    return pk.audit(spot_splits)


def shown(result, spot_splits, audited):
    predictions = pk.Predictions(["a", "b"], ["p", "q"], [0, 1], [0.2, 0.9])
    points, activations = np.zeros((6, 2)), np.zeros((2, 8, 8))
    return [
        spot_splits,
        spot_splits.train,
        spot_splits.show(2),
        result,
        predictions,
        audited,
        pk.load_recipe("customcnn"),
        pk.Reproduction(rows=(), recipes=(), data="chest_xray", test=(234, 390)),
        FitResult(result.model, {"loss": [0.1] * 50}),
        pk.Projection(points, None, "PCA", "pixels"),
        ClassActivations("conv", ("NORMAL", "PNEUMONIA"), (1, 1), activations, activations, (0.1, 0.2)),
        pk.RadiographLoader(spot_splits.train, 16),
        pk.RadiographDataGenerator(),
        pk.CompactCNNHyperModel(),
        pk.ResNet50HyperModel(),
        pk.Schedule(),
        pk.Stage("head"),
        pk.Nuisance(),
    ]


def test_a_repr_is_one_short_line(result, spot_splits, audited):
    reprs = {type(each).__name__: repr(each) for each in shown(result, spot_splits, audited)}
    assert {
        name: text for name, text in reprs.items() if "\n" in text or len(text) > 220 or " at 0x" in text
    } == {}


def test_what_holds_a_table_shows_it(result, spot_splits, audited):
    tables = [
        each._repr_html_() for each in shown(result, spot_splits, audited) if hasattr(each, "_repr_html_")
    ]
    assert len(tables) == 8
    assert all("<" in table for table in tables)


def test_a_run_shows_trials_history_and_points(result):
    html = result._repr_html_()
    assert f"{len(result.trials)} trials" in html
    assert "validation point" in html
    assert str(result.run) in html
    history = result.plot_history(color="#123456")
    assert history.best_epoch == result.best_epoch
    assert "#123456" in {line.get_color() for line in history.ax_.lines}
    assert type(result.plot_history("accuracy")).__name__ == "AccuracyCurvesDisplay"
    with pytest.raises(pk.SettingsError, match=r"\['loss', 'accuracy'\] in this history. Received 'auc'"):
        result.plot_history("auc")
    fitted = FitResult(result.model, {"loss": [1.0, 0.5], "val_loss": [1.0, 0.5]})
    assert fitted.plot_history().ax_.get_title(loc="left") == "Loss"
    with pytest.raises(pk.SettingsError, match=r"\['loss'\] in this history"):
        fitted.plot_history("accuracy")


def test_one_is_not_spoken_of_as_several(result, spot_splits):
    one = replace(result, trials=result.trials[:1])._repr_html_()
    assert "1 trial" in one
    assert "1 trials" not in one
    predictions = pk.Predictions(["a"], ["p"], [0], [0.2])
    assert "P(PNEUMONIA) of 1 radiograph<" in predictions._repr_html_()
    evaluation = evaluate_predictions(predictions, replicates=5)
    assert "1 radiograph of 1 patient (" in evaluation.description
    assert "1 radiograph, ROC AUC" in repr(evaluation)
    assert repr(spot_splits.test[:1].show()) == "<Gallery of 1 radiograph>"
    assert repr(FitResult(result.model, {"loss": [0.1]})).endswith(", 1 epoch>")


def test_a_run_is_of_the_class_that_its_repr_names(result):
    assert pk.RunResult is pk.TuningResult
    assert repr(result).startswith(f"<{pk.RunResult.__name__} ")


def test_trials_are_a_frame_with_a_column_for_each_hyperparameter(result):
    pandas = pytest.importorskip("pandas")
    frame = result.trials_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == len(result.trials)
    assert {"trial", "score", *result.best_hyperparameters} <= set(frame.columns)


def test_a_run_stands_for_its_folder_and_its_model(result, spot_splits):
    assert Path(result) == result.run
    assert pk.load_run(result).run == result.run
    expected = pk.predict(result.model, spot_splits.test).probabilities
    np.testing.assert_array_equal(pk.predict(result, spot_splits.test).probabilities, expected)


def test_a_threshold_that_tells_nothing_is_logged_and_shown(tmp_path, spot_splits, caplog):
    inputs = keras.Input((8, 8, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(pooled))
    labels = spot_splits.val.labels
    for name, probabilities in (("blind", np.full(len(labels), 0.4)), ("seeing", labels * 0.5 + 0.2)):
        caplog.clear()
        settings = {"model": name, "objective": "val_auc"}
        predictions = pk.Predictions(spot_splits.val.names, spot_splits.val.patients, labels, probabilities)
        with (
            caplog.at_level(logging.WARNING, logger="pneumokeras"),
            begin_run(tmp_path / name, spot_splits, settings=settings, seed=0) as run,
        ):
            kept = keep_run(run, model, predictions)
        said = "every radiograph is predicted PNEUMONIA"
        for text in (caplog.text, kept.warning, kept._repr_html_()):
            assert (said in text) == (name == "blind")


def test_splits_are_found_by_name_and_sets_by_index(spot_splits):
    assert spot_splits["val"] is spot_splits.val
    with pytest.raises(pk.SettingsError, match=r"one of train, val, test\. Received 'valid'"):
        spot_splits["valid"]
    test = spot_splits.test
    assert test[3].names.tolist() == [test.names[3]]
    assert test[2:5].names.tolist() == test.names[2:5].tolist()
    assert test[test.labels == 1].counts["NORMAL"] == 0
    assert [one.names[0] for one in test] == test.names.tolist()
    with pytest.raises(IndexError):
        test[len(test)]


def test_a_gallery_shows_each_class_and_names_are_escaped():
    images = np.zeros((4, 10, 20), np.uint8)
    evil = ["<b>", "c.png", "d.png", "e.png"]
    radiographs = pk.RadiographSet.from_arrays(images, [0, 1, 1, 1], names=evil, split="test")
    html = radiographs.show(2)._repr_html_()
    assert html.count("<img") == 3
    assert "test, PNEUMONIA, 3 radiographs" in html
    assert '<b>"' not in html
    assert "&lt;b&gt;" in html
    assert radiographs.show(2).rows[0][1][0][0].shape == (80, 160)
    assert pk.RadiographSet.from_arrays(images).show().rows[0][0] == "4 radiographs"


def test_a_side_is_a_size_and_nonsense_is_refused(spot_splits):
    assert spot_splits.test.pixels(8).shape == (24, 8, 8)
    with pytest.raises(pk.SettingsError, match="`image_size`"):
        spot_splits.test.pixels("large")


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda s: pk.tune(pk.CompactCNNHyperModel(), "chest_xray"), pk.DataError, "Received str"),
        (lambda s: pk.tune(pk.CompactCNNHyperModel(), s.train), pk.DataError, "Received RadiographSet"),
        (
            lambda s: pk.fit(keras.Sequential(), s, s.val),
            pk.DataError,
            "`train` as a RadiographSet, such as splits.test",
        ),
        (lambda s: pk.RadiographLoader(s), pk.DataError, "such as splits.test. Received Splits"),
        (lambda s: pk.CompactCNNHyperModel(input_shape=64), pk.SettingsError, "Received 64"),
        (lambda s: pk.TransferHyperModel("resnet50", input_shape=None), pk.SettingsError, "Received None"),
        (lambda s: pk.compare(RUN, RUN), pk.SettingsError, "`first` as an evaluation"),
        (lambda s: pk.split(s), pk.DataError, "such as splits.test. Received Splits"),
    ],
)
def test_types_that_are_mixed_up_are_one_clear_line(call, error, said, spot_splits, in_tmp):
    with pytest.raises(error) as refused:
        call(spot_splits)
    assert said in str(refused.value)
    assert list(in_tmp.iterdir()) == []


def in_a_new_python(code, **environment):
    clean = {name: value for name, value in os.environ.items() if name != LEVEL}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_tensorflow_is_asked_to_be_quiet_unless_the_user_chose_or_it_is_there():
    level = f"import os, sys; import pneumokeras; print(os.environ.get({LEVEL!r}))"
    assert in_a_new_python(level) == "3"
    assert in_a_new_python(level, **{LEVEL: "0"}) == "0"
    assert in_a_new_python(f"import sys; sys.modules['tensorflow'] = None; {level}") == "None"


def test_only_chatter_is_held_back(capfd, monkeypatch):
    def written():
        with without_chatter():
            os.write(
                2,
                b"WARNING: All log messages before absl::InitializeLog() is called\nI0000 00:00 on\nreal\n",
            )
        return capfd.readouterr().err

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv(LEVEL, "3")
    assert written() == "real\n"
    monkeypatch.setenv(LEVEL, "0")
    assert written().count("\n") == 3
    with pytest.raises(ZeroDivisionError), without_chatter():
        os.write(2, b"before\n")
        raise ZeroDivisionError
    assert capfd.readouterr().err == "before\n"


def test_the_package_shows_its_public_names_and_no_others():
    assert set(dir(pk)) == set(pk.__all__)
    assert pk.evaluation.displays.save.__name__ == "save"
