"""What version 0.1 wrote is loaded, reported, found again and resumed; see tests/released_runs.py."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from released_runs import FINISHED, HOME, INTERRUPTED, SIDE, draw_radiographs, searched

import pneumokeras as pk

WRITTEN = Path(__file__).resolve().parent / "data" / "run-0.1"


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version_0_1") / "radiographs"
    draw_radiographs(folder)
    return folder


@pytest.fixture
def copied(radiographs, tmp_path):
    """Copies of both runs; their radiographs lie elsewhere by now."""
    for name in (FINISHED, INTERRUPTED):
        shutil.copytree(WRITTEN / name, tmp_path / "tuner_runs" / name)
    for file in tmp_path.rglob("*.csv"):
        file.write_text(file.read_text(encoding="utf-8").replace(HOME, str(radiographs)), encoding="utf-8")
    return tmp_path / "tuner_runs"


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record(run):
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


def figures(value, path=()):
    """Each number in nested JSON, with the keys that lead to it."""
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from figures(member, (*path, key))
    elif value is None or isinstance(value, int | float):
        yield path, float("nan") if value is None else value


def test_what_is_stored_is_small_and_names_no_machine():
    files = [file for file in WRITTEN.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 200_000
    assert {record(WRITTEN / name)["data"]["path"] for name in (FINISHED, INTERRUPTED)} == {HOME}
    assert {Path(row["path"]).parents[2] for row in rows(WRITTEN / FINISHED / "splits.csv")} == {Path(HOME)}


def test_the_finished_run_is_loaded():
    result = pk.load_run(WRITTEN / FINISHED)
    assert [(trial.number, trial.status, trial.epochs) for trial in result.trials] == [
        (1, "completed", 3),
        (2, "completed", 3),
    ]
    best = max(result.trials, key=lambda trial: trial.score)
    assert result.best_hyperparameters == best.hyperparameters
    assert result.history["val_auc"][record(WRITTEN / FINISHED)["best_epoch"] - 1] == 0.875
    assert result.operating_points["default"].threshold == 0.5
    point = result.operating_points["validation"]
    assert (point.chosen_on, point.sensitivity_floor) == ("val", 0.95)
    assert 0.4 < point.threshold < 0.5


def test_its_model_predicts_what_it_predicted(radiographs):
    model = pk.load_model(WRITTEN / FINISHED / "model.keras")
    assert model.input_shape == (None, SIDE, SIDE, 1)
    expected = {
        Path(row["path"]).name: float(row["probability"])
        for row in rows(WRITTEN / FINISHED / "predictions" / "val.csv")
    }
    predictions = pk.predict(model, pk.load_radiographs(radiographs, split="val"))
    found = dict(zip((Path(name).name for name in predictions.names), predictions.probabilities, strict=True))
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(found) == 24


@pytest.mark.parametrize("own_radiographs", [True, False])
def test_it_is_reported_with_the_same_figures(own_radiographs, copied, radiographs, tmp_path):
    data = None if own_radiographs else radiographs
    report = pk.report_run(copied / FINISHED, data=data, out=tmp_path / "report", images=False)
    assert (report.folder / "index.html").is_file()
    before = dict(figures(json.loads((WRITTEN / "report.json").read_text(encoding="utf-8"))))
    now = dict(figures(json.loads((report.folder / "report.json").read_text(encoding="utf-8"))))
    before.pop(("data",))  # where the radiographs lie
    now = {path: value for path, value in now.items() if path in before}  # a later version may say more
    assert now == pytest.approx(before, rel=1e-6, abs=1e-6, nan_ok=True)
    assert len(before) > 100


def test_the_finished_run_is_found_again_by_its_settings_and_radiographs(copied, radiographs, monkeypatch):
    monkeypatch.chdir(copied.parent)
    trained = []
    result = searched(radiographs, progress=trained.append)
    assert result.run.name == FINISHED
    assert trained == []


def test_other_settings_are_refused_with_the_name_of_the_first(copied, radiographs):
    with pytest.raises(pk.RunError, match="is a run with epochs 3, not 4"):
        searched(radiographs, run=copied / FINISHED, epochs=4)


def test_the_interrupted_run_is_resumed_after_its_first_trial(copied, radiographs, caplog):
    run = copied / INTERRUPTED
    with pytest.raises(pk.RunError, match="not finished"):
        pk.load_run(run)
    first = rows(run / "trials.csv")
    trained = []
    result = searched(radiographs, run=run, progress=trained.append)
    assert {progress.trial for progress in trained if progress.stage == "search"} == {2}
    assert "Resumed: 1 of 2 trials were finished." in caplog.messages
    assert rows(run / "trials.csv")[:1] == first
    finished = pk.load_run(WRITTEN / FINISHED)
    proposed = [trial.hyperparameters for trial in finished.trials]
    assert [trial.hyperparameters for trial in result.trials] == proposed
    assert record(run)["status"] == "finished"
    np.testing.assert_allclose(result.trials[1].score, finished.trials[1].score, atol=0.02)
