"""The table of trials gives back names and values as they were, also those that look like something else."""

import pytest

from pneumokeras.core.files import read_csv
from pneumokeras.runs.trials import TRIAL_COLUMNS, Trial, trials_from_rows, write_trials
from pneumokeras.training.tuner import _reason as reason_of


def trial(**hyperparameters):
    return Trial(1, "completed", 0.75, 2, 1.5, "", hyperparameters)


def read_again(trials, folder):
    write_trials(trials, folder / "trials.csv")
    return trials_from_rows(read_csv(folder / "trials.csv"))


@pytest.mark.parametrize("name", [*TRIAL_COLUMNS, "hp:epochs", "hp:hp:score", "hp:units", "units"])
def test_a_hyperparameter_may_be_called_like_a_column(name, tmp_path):
    (read,) = read_again((trial(**{name: 50, "other": "y"}),), tmp_path)
    assert read == trial(**{name: 50, "other": "y"})


def test_only_a_name_that_clashes_is_marked(tmp_path):
    write_trials((trial(epochs=50, units=8),), tmp_path / "trials.csv")
    header = (tmp_path / "trials.csv").read_text().splitlines()[0]
    assert header == "trial,status,score,epochs,seconds,reason,hp:epochs,units"


def test_a_marked_name_is_on_the_page_too():
    assert trial(score="y").row()["hp:score"] == "y"
    assert trial(score="y").row()["score"] == 0.75


@pytest.mark.parametrize(
    "value",
    [
        *(1, -3, 0, 1.0, 0.30000000000000004, 1e-05, float("inf"), True, False, None),
        *("1", "1.0", "inf", "nan", "1e-5", "1_000", " 1 ", "True", "False", "None", "null", ""),
        *('"', '"1"', '"quoted', "a,b", "two\nlines", "max", "größer"),
    ],
    ids=repr,
)
def test_a_value_comes_back_with_its_type(value, tmp_path):
    (read,) = read_again((trial(value=value),), tmp_path)
    assert repr(read.hyperparameters) == repr({"value": value})


def test_what_a_trial_did_not_draw_is_not_there_again(tmp_path):
    first, second = read_again((trial(kind="a", depth=2), trial(kind="b", width=4)), tmp_path)
    assert (set(first.hyperparameters), set(second.hyperparameters)) == ({"kind", "depth"}, {"kind", "width"})


def test_a_file_of_version_0_1_reads_as_before(tmp_path):
    text = "trial,status,score,epochs,seconds,reason,units,dropout,flip,pool\n"
    (tmp_path / "trials.csv").write_text(text + "1,completed,0.5,2,1.25,,128,0.3,True,max\n")
    (read,) = trials_from_rows(read_csv(tmp_path / "trials.csv"))
    assert repr(read.hyperparameters) == "{'units': 128, 'dropout': 0.3, 'flip': True, 'pool': 'max'}"


GRAPH_ERROR = """Graph execution error:

Detected at node loss/mul defined at (most recent call last):
  File "/home/me/train.py", line 15, in <module>

  File "/site-packages/keras/src/trainer.py", line 81, in train_step

Incompatible shapes: [4,1] vs. [5,1]
\t [[{{node loss/mul}}]] [Op:__inference_train_42]"""
LOADER_ERROR = """Graph execution error:

Detected at node PyFunc defined at (most recent call last):
<stack traces unavailable>
TypeError: `generator` yielded an element of another shape.
Traceback (most recent call last):"""
LAYER_ERROR = (
    "Exception encountered when calling A.\n\n\x1b[1m{{node B}} needs 3 channels. [Op:C] name: \x1b[0m"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(GRAPH_ERROR), "ValueError: Incompatible shapes: [4,1] vs. [5,1]"),
        (ValueError(LOADER_ERROR), "ValueError: TypeError: 'generator' yielded an element of another shape"),
        (ValueError(LAYER_ERROR), "ValueError: needs 3 channels"),
        (ValueError("no room\nTraceback"), "ValueError: no room"),
        (ValueError("Graph execution error:\n"), "ValueError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_failed_trials_reason_is_the_line_that_says_something(error, reason):
    assert reason_of(error) == reason
