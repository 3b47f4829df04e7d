"""A run folder knows what it was asked for, and takes nothing else."""

import errno
import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from pneumokeras.core.errors import RunError
from pneumokeras.core.files import read_csv
from pneumokeras.data.from_path import load_splits
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import BalancedAccuracy
from pneumokeras.runs import folder as folder_module
from pneumokeras.runs.folder import UNRECORDED, Run, begin_run, default_run, open_run
from pneumokeras.runs.trials import Trial, trials_from_rows, write_trials
from pneumokeras.training.settings import SearchSettings, policy_of, policy_record

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


STOPPED = UNRECORDED["schedule"] | {"patience": 2}
FIXED = {"policy": "fixed", "threshold": 0.4}


@pytest.mark.parametrize(
    ("before", "now", "what"),
    [
        ({"schedule": STOPPED}, {}, "schedule patience 2, not 5"),
        ({}, {"schedule": STOPPED}, "schedule patience 5, not 2"),
        ({"threshold": FIXED}, {"threshold": FIXED | {"threshold": 0.5}}, "threshold 0.4, not 0.5"),
        ({"threshold": FIXED}, {}, "threshold policy fixed, not balanced_accuracy"),
        ({"class_weights": {"NORMAL": 2.0, "PNEUMONIA": 1.0}}, {}, "NORMAL 2.0, PNEUMONIA 1.0, not balanced"),
        (
            {"threshold": policy_record(BalancedAccuracy(0.9))},
            {},
            "threshold sensitivity_floor 0.9, not 0.95",
        ),
        ({"oversample": 1.5}, {}, "oversample 1.5, not None"),
    ],
)
def test_a_setting_left_to_its_default_is_named_with_both_values(before, now, what, tmp_path):
    opened(tmp_path / "run", settings=SETTINGS | before)
    opened(tmp_path / "run", settings=SETTINGS | before)
    with pytest.raises(RunError, match=f"is a run with (class_weights )?{what}\\. Choose"):
        opened(tmp_path / "run", settings=SETTINGS | now)


def test_a_policy_is_the_same_after_it_was_written(tmp_path):
    settings = SETTINGS | {"threshold": policy_record(BalancedAccuracy(0.9))}
    opened(tmp_path / "run", settings=settings)
    opened(tmp_path / "run", settings=settings)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, float])
def test_a_threshold_in_single_precision_is_recorded_as_it_reads(kind):
    assert policy_record(policy_of(kind(0.3))) == {"policy": "fixed", "threshold": 0.3}


def test_what_is_not_recorded_are_the_defaults():
    settings = SearchSettings()
    assert asdict(settings.schedule) == UNRECORDED["schedule"]
    assert policy_record(settings.threshold) == UNRECORDED["threshold"]
    assert (settings.class_weights, settings.oversample) == (
        UNRECORDED["class_weights"],
        UNRECORDED["oversample"],
    )


def test_the_default_name_follows_settings_and_data():
    run = default_run(SETTINGS, "abc")
    assert run == default_run(dict(reversed(SETTINGS.items())), "abc")
    assert run.folder.name.startswith("compact-cnn-")
    assert run != default_run(SETTINGS, "abd")
    assert run != default_run(SETTINGS | {"epochs": 3}, "abc")


def test_a_folder_without_a_record_is_no_run(tmp_path):
    with pytest.raises(RunError, match="no run folder"):
        open_run(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "not json", "[" * 100_000])
def test_a_record_that_is_no_json_is_damaged(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    for wanted in (open_run, opened):
        with pytest.raises(RunError, match=r"run\.json is damaged \(.*Restore the file from a copy"):
            wanted(tmp_path)


@pytest.mark.parametrize("name", ["br[1]ack", "all*", "what?"])
def test_names_that_keras_tuner_cannot_find_again_are_refused(name, tmp_path):
    with pytest.raises(RunError, match="cannot be a run folder"):
        opened(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "thesis").write_text("mine")
    with pytest.raises(RunError, match=r"thesis is a file\. Expected a folder"):
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


def dealt_otherwise(splits):
    """The same radiographs, train and val exchanged."""
    swapped = Splits(splits.val, splits.train, splits.test)
    parts = zip(swapped, ("train", "val", "test"), strict=True)
    train, val, test = (replace(part, split=name) for part, name in parts)
    return replace(splits, train=train, val=val, test=test)


@pytest.mark.parametrize(
    ("rule", "expected"), [("", "by the rule of version 0.1"), ("as published", "otherwise")]
)
def test_the_same_radiographs_split_otherwise_are_named_so_with_the_way_out(
    rule, expected, phantom_folder, tmp_path
):
    now = load_splits(phantom_folder, keep_val=True)
    before = replace(dealt_otherwise(now), rule=rule)
    with begin_run(tmp_path / "run", before, settings=SETTINGS, seed=0) as run:
        assert ("split_rule" in run.record()["data"]) == bool(rule)
    with (
        pytest.raises(RunError, match=f"same radiographs, split {expected}.*`keep_val=True`") as caught,
        begin_run(tmp_path / "run", now, settings=SETTINGS, seed=0),
    ):
        pass
    assert f"`path={run.splits_path}`" in str(caught.value)
    own = load_splits(run.splits_path, keep_val=True)
    with begin_run(tmp_path / "run", own, settings=SETTINGS, seed=0) as resumed:
        assert resumed.record()["started"] == run.record()["started"]


def test_other_radiographs_are_still_called_other_radiographs(phantom_folder, tmp_path):
    splits = load_splits(phantom_folder, keep_val=True)
    with begin_run(tmp_path / "run", splits, settings=SETTINGS, seed=0):
        pass
    fewer = replace(splits, test=splits.test.subset(range(3)))
    with (
        pytest.raises(RunError, match="other radiographs"),
        begin_run(tmp_path / "run", fewer, settings=SETTINGS, seed=0),
    ):
        pass


class TestLock:
    def test_a_second_process_is_told_in_one_line_and_may_go_on_when_the_first_is_over(self, tmp_path):
        run = Run(tmp_path / "run")
        with run.locked(), pytest.raises(RunError, match=r"is in use.*`run`"), run.locked():
            pass
        with run.locked():
            pass
        assert list(run.folder.iterdir()) == []

    def test_a_lock_deleted_by_its_holder_while_it_was_opened_is_taken_anew(self, tmp_path, monkeypatch):
        run, flock, refused = Run(tmp_path / "run"), folder_module.fcntl.flock, []

        def deleted_first(lock, how):
            if not refused:
                refused.append(lock)
                (run.folder / ".lock").unlink()
            return flock(lock, how)

        monkeypatch.setattr("pneumokeras.runs.folder.fcntl.flock", deleted_first)
        with run.locked():
            assert (run.folder / ".lock").exists()
            with pytest.raises(RunError, match="is in use"), run.locked():
                pass

    def test_a_process_that_died_holds_nothing(self, tmp_path):
        program = (
            "import os, sys; from pathlib import Path; from pneumokeras.runs.folder import Run\n"
            "with Run(Path(sys.argv[1])).locked(): print('locked', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "run")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match="is in use"), Run(tmp_path / "run").locked():
            pass
        process.kill()
        process.communicate()
        with Run(tmp_path / "run").locked():
            pass

    @pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks"), OSError(errno.ENOTSUP, "No")])
    def test_a_file_system_without_locks_is_worked_on(self, error, tmp_path, monkeypatch):
        def refused(*args):
            raise error

        monkeypatch.setattr("pneumokeras.runs.folder.fcntl.flock", refused)
        with Run(tmp_path / "run").locked(), Run(tmp_path / "run").locked():
            pass

    def test_a_folder_that_holds_something_else_gets_no_lock(self, tmp_path, phantom_folder):
        (tmp_path / "thesis.txt").write_text("mine")
        splits = load_splits(phantom_folder, keep_val=True)
        with (
            pytest.raises(RunError, match="something other"),
            begin_run(tmp_path, splits, settings=SETTINGS, seed=0),
        ):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
