"""A damaged run folder is one line that names the file, and nothing in it is lost."""

import json
import shutil

import pytest
from released_runs import FINISHED, INTERRUPTED, draw_radiographs, searched

import pneumokeras as pk
from pneumokeras.recipes.configuration import Configuration
from pneumokeras.report.evaluate_run import evaluate_run
from tests.calling import call, error_line
from tests.test_run_of_version_0_1 import WRITTEN

BROKEN = {
    "run.json": ["{}", "[]", "no JSON", "\xff", '{"status": "finished"}', None],
    "threshold.json": ["{}", "[]", "no JSON", '{"schema": 1, "points": {}}', None],
    "best_hyperparameters.json": ["3", "{", None],
    "trials.csv": ["", "trial,status\n1,completed\n", "trial\none\n", None],
    "history.csv": ["", "epoch,stage\n1,1\n", "epoch,loss\n1,low\n", None],
    "model.keras": ["", "cut off", None],
    "splits.csv": [
        "path,label,split,digest\na.bmp,NORMAL,test,abc\n",
        "",
        "path,label\na,b\n",
        "path,label,split,digest\na.bmp,NORMAL,val,\n",
        None,
    ],
}
CASES = [(name, text) for name, texts in BROKEN.items() for text in texts]


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "radiographs"
    draw_radiographs(folder)
    return folder


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(WRITTEN / FINISHED, tmp_path / "run")


def damage(folder, name, text):
    (folder / name).unlink() if text is None else (folder / name).write_text(text, encoding="latin-1")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "text"), CASES)
def test_commands_that_read_a_run_name_the_damaged_file(name, text, run, tmp_path):
    damage(run, name, text)
    before = contents(tmp_path)
    for command in (["report", run], ["ensemble", run, WRITTEN / FINISHED, "--run", tmp_path / "mean"]):
        line = error_line(call(*command))
        assert name in line
        assert "unexpected" not in line
    if name == "model.keras":
        assert name in error_line(call("predict", run, WRITTEN))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("name", "text"), CASES)
def test_a_damaged_run_is_not_trained_again_over_itself(name, text, run, radiographs, tmp_path):
    damage(run, name, text)
    before = contents(run)
    if name == "splits.csv":  # it is written anew, from the same radiographs
        assert searched(radiographs, run=run).run == run
        return
    with pytest.raises(pk.PneumokerasError, match=name) as caught:
        searched(radiographs, run=run)
    assert caught.value.exit_status == 2
    after = contents(run)
    for path in {run / "run.json", run / "splits.csv"} if name != "run.json" else ():
        before.pop(path), after.pop(path)  # radiographs may lie elsewhere
    assert after == before


@pytest.mark.parametrize("text", ["{}", "no JSON"])
def test_train_and_reproduce_name_a_damaged_record(text, run, radiographs, tmp_path):
    damage(run, "run.json", text)
    with pytest.raises(pk.RunError, match=r"run\.json"):
        pk.train(Configuration.for_model("compact-cnn", image_size=16), pk.load_splits(radiographs), run=run)
    (tmp_path / "customcnn").mkdir()
    run.rename(tmp_path / "customcnn" / "corrected-0")
    table = pk.reproduce(["customcnn"], radiographs, out=tmp_path, variants=["corrected"])
    assert "run.json" in table.failed[0].reason


@pytest.mark.parametrize("key", ["settings", "seed", "versions", "data", "timings", "started", "command"])
def test_a_record_without_a_part_is_damaged(key, run):
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    del record[key]
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(pk.RunError, match=f"run.json is damaged .'{key}' is missing"):
        pk.load_run(run)
    assert key in error_line(call("report", run))


def test_missing_predictions_of_val_only_leave_out_what_needs_them(run, radiographs):
    shutil.rmtree(run / "predictions")
    assert evaluate_run(run, data=radiographs).evaluation.split == "test"


def test_broken_predictions_of_val_are_named(run, radiographs):
    (run / "predictions" / "val.csv").write_text("path,patient,label,probability\na,b,NORMAL,high\n")
    with pytest.raises(pk.RunError, match=r"val\.csv is damaged"):
        evaluate_run(run, data=radiographs)


@pytest.mark.parametrize("file", ["oracle.json", "trial_0/trial.json"])
def test_an_interrupted_search_with_a_broken_file_is_not_resumed(file, radiographs, tmp_path):
    run = shutil.copytree(WRITTEN / INTERRUPTED, tmp_path / "run")
    (run / "tuner" / file).write_text("{")
    with pytest.raises(pk.RunError, match=file):
        searched(radiographs, run=run)
    assert (run / "trials.csv").read_bytes() == (WRITTEN / INTERRUPTED / "trials.csv").read_bytes()
