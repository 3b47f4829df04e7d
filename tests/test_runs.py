"""A run folder knows what it was asked for, and takes nothing else."""

import json

import pytest

from pneumokeras.core.errors import RunError
from pneumokeras.core.files import read_csv
from pneumokeras.runs.folder import Run, default_run, open_run
from pneumokeras.runs.trials import Trial, trials_from_rows, write_trials

SETTINGS = {"model": "compact-cnn", "epochs": 2, "augmentation": {"rotation_range": 10}}
DATA = {"path": "somewhere", "fingerprint": "abc", "counts": {}, "notices": []}


def opened(folder, settings=SETTINGS, data=DATA):
    run = Run(folder)
    run.open(settings=settings, data=data, command="pneumokeras tune", seed=0)
    return run


def test_the_record_is_strict_json_with_versions(tmp_path):
    record = json.loads(opened(tmp_path / "run").record_path.read_text())
    assert record["status"] == "running"
    assert record["schema"] == 1
    assert "keras-tuner" in record["versions"]


def test_a_run_is_finished_only_when_it_says_so(tmp_path):
    run = opened(tmp_path / "run")
    assert not run.finished()
    run.finish(timings={"fit": 1.0})
    assert run.finished()
    assert run.record()["timings"] == {"fit": 1.0}


def test_a_finished_run_is_not_started_anew(tmp_path):
    run = opened(tmp_path / "run")
    run.finish()
    opened(tmp_path / "run")
    assert run.finished()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (SETTINGS | {"epochs": 3}, "epochs 2, not 3"),
        (SETTINGS | {"augmentation": {"rotation_range": 5}}, "augmentation rotation_range 10, not 5"),
        (SETTINGS | {"views": 4}, "views unset, not 4"),
    ],
)
def test_other_settings_are_refused_and_the_one_that_differs_is_named(settings, what, tmp_path):
    opened(tmp_path / "run")
    with pytest.raises(RunError, match=what):
        opened(tmp_path / "run", settings=settings)


def test_the_default_name_follows_settings_and_data():
    run = default_run(SETTINGS, "abc")
    assert run == default_run(dict(reversed(SETTINGS.items())), "abc")
    assert run.folder.name.startswith("compact-cnn-")
    assert run != default_run(SETTINGS, "abd")
    assert run != default_run(SETTINGS | {"epochs": 3}, "abc")


@pytest.mark.parametrize("content", [None, "", "{", "not json"])
def test_a_folder_without_a_readable_record_is_no_run(content, tmp_path):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match="no run folder"):
        open_run(tmp_path)


@pytest.mark.parametrize("name", ["br[1]ack", "all*", "what?"])
def test_names_that_keras_tuner_cannot_find_again_are_refused(name, tmp_path):
    with pytest.raises(RunError, match="cannot be a run folder"):
        opened(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "thesis").write_text("mine")
    with pytest.raises(RunError, match="something other than a run"):
        opened(tmp_path / "thesis")
    assert (tmp_path / "thesis").read_text() == "mine"


def test_going_on_keeps_when_it_was_started(tmp_path):
    run = opened(tmp_path / "run")
    run.note(started="2026-01-01T00:00:00+00:00")
    opened(tmp_path / "run")
    assert run.record()["started"] == "2026-01-01T00:00:00+00:00"


def test_a_run_that_failed_with_nothing_to_show_takes_other_settings(tmp_path):
    run = opened(tmp_path / "run")
    run.note(status="failed", reason="no such stage", precision="bfloat16")
    opened(tmp_path / "run", settings=SETTINGS | {"epochs": 3}, data=DATA | {"fingerprint": "abd"})
    record = run.record()
    assert (record["status"], record["settings"]["epochs"]) == ("running", 3)
    assert {"reason", "precision"}.isdisjoint(record)


@pytest.mark.parametrize("kept", ["trials.csv", "history.csv"])
def test_a_run_that_failed_with_something_to_show_does_not(kept, tmp_path):
    run = opened(tmp_path / "run")
    (run.folder / kept).write_text("trial,status\n1,completed\n")
    run.note(status="failed")
    with pytest.raises(RunError, match="epochs 2, not 3"):
        opened(tmp_path / "run", settings=SETTINGS | {"epochs": 3})


@pytest.mark.parametrize(("status", "kept"), [("completed", True), ("failed", False)])
def test_a_failed_run_forgets_its_trials_only_if_all_of_them_failed(status, kept, tmp_path):
    run = opened(tmp_path / "run")
    run.tuner_folder.mkdir()
    run.trials_path.write_text(f"trial,status\n1,failed\n2,{status}\n")
    run.note(status="failed")
    opened(tmp_path / "run")
    assert run.tuner_folder.exists() == kept


def test_trials_come_back_from_their_file_as_they_were(tmp_path):
    trials = (
        Trial(1, "completed", 0.5, 2, 1.25, "", {"units": 128, "dropout": 0.3, "flip": True, "pool": "max"}),
        Trial(2, "failed", None, None, None, "MemoryError: no room", {"units": 64, "dropout": 1.0}),
    )
    write_trials(trials, tmp_path / "trials.csv")
    # As text, because 128 == 128.0, and a model cannot be built with 128.0 units.
    assert repr(trials_from_rows(read_csv(tmp_path / "trials.csv"))) == repr(trials)
