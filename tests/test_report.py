"""A report is a folder whose page stands alone, says in words what happened, and believes no string."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from pneumokeras.errors import DataError
from pneumokeras.evaluation import OperatingPoint, Predictions, evaluate_predictions
from pneumokeras.report import Examples, ReportContents, write_report
from pneumokeras.report.displays import displays
from pneumokeras.report.page import render_page

EVIL = "<img src=x onerror=alert(1)>.jpeg"
FIGURES = {
    "class_distribution",
    "sample_radiographs",
    "confusion_matrix_default",
    "confusion_matrix_validation",
    "roc_curve",
    "precision_recall_curve",
    "accuracy_curve",
    "loss_curve",
    "sample_predictions",
    "grad_cam",
}
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether each element is closed by its own end tag."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def evaluation(*, validation=True, tn=86, fp=31, fn=5, tp=190):
    """An evaluation with these counts at 0.3, where validation chose to call."""
    labels = np.repeat([0, 0, 1, 1], [tn, fp, fn, tp])
    probabilities = np.repeat([0.1, 0.4, 0.2, 0.8], [tn, fp, fn, tp])
    names = [f"test/{i}.jpeg" for i in range(labels.size)]
    points = {"validation": OperatingPoint(0.3, "val", "balanced_accuracy", 0.95, 520)} if validation else {}
    predictions = Predictions(names, [f"p{i // 2}" for i in range(labels.size)], labels, probabilities)
    return evaluate_predictions(predictions, operating_points=points, replicates=50)


def examples(*, heatmaps=False):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    maps = {"heatmaps": images / 255, "overlays": np.stack([images] * 3, axis=-1)} if heatmaps else {}
    return Examples(
        [EVIL, "b.jpeg", "c.jpeg"], images, np.array([0, 1, 1]), np.array([0.1, 0.9, 0.2]), **maps
    )


def trial(number, score, reason=""):
    return {
        "trial": number,
        "status": "failed" if reason else "completed",
        "score": score,
        "epochs": None if reason else 3,
        "seconds": None if reason else 1.5,
        "reason": reason,
        "units": 64 * number,
        "dropout": 0.3,
    }


def full_contents():
    return ReportContents(
        title=f"Report {EVIL}",
        evaluation=evaluation(),
        class_counts={
            "train": {"NORMAL": 1214, "PNEUMONIA": 3496},
            "test": {"NORMAL": 117, "PNEUMONIA": 195},
        },
        history={
            "loss": [1.0, 0.8],
            "val_loss": [0.9, 0.6],
            "accuracy": [0.7, 0.8],
            "val_accuracy": [0.6, 0.8],
            "val_auc": [0.9, 0.8],
        },
        trials=[trial(1, 0.91), trial(2, 0.95), trial(3, None, f"OOM {EVIL}")],
        facts={"command": f"pneumokeras tune --data '{EVIL}'", "Seed": "7", f"Fact {EVIL}": f"Value {EVIL}"},
        notices=["The weights are random.", f"A training image is among these: {EVIL}"],
        samples=examples(),
        predictions=examples(),
        explanations=examples(heatmaps=True),
    )


@pytest.fixture(scope="module")
def contents():
    return full_contents()


@pytest.fixture(scope="module")
def folder(contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "report"
    assert write_report(contents, folder) == folder / "index.html"
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def written_page(contents, folder):
    return Page(write_report(contents, folder).read_text(encoding="utf-8"))


def figure_names(folder):
    return {path.stem for path in (folder / "figures").iterdir()}


def test_the_folder_holds_every_file(folder):
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "report.json",
        "classification_report.txt",
        "figures",
    }
    assert figure_names(folder) == FIGURES


def test_report_json_is_strict_and_is_the_evaluations(contents, folder):
    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    assert content == contents.evaluation.json()


def test_classification_reports_say_which_point_they_are_of(contents, folder):
    text = (folder / "classification_report.txt").read_text()
    for point in ("default", "validation"):
        heading = text.index(f"Operating point '{point}'")
        assert text.index(contents.evaluation.classification_report(point)) > heading
    assert "oracle" not in text


def test_the_page_needs_nothing_else(folder, page):
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes)
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in page.elements}
    text = (folder / "index.html").read_text()
    assert not re.search(r"https?://|@import|url\(", text)
    assert page.all("meta")[2]["content"].startswith("default-src 'none'")


def test_every_picture_is_described_and_every_anchor_leads_somewhere(page):
    assert all(image["alt"] for image in page.all("img"))
    anchors = {link["href"][1:] for link in page.all("a")}
    assert anchors == {section["id"] for section in page.all("section")}


def test_outside_strings_are_shown_and_never_obeyed(folder, page):
    assert EVIL not in (folder / "index.html").read_text()
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    for said in (
        f"Report {EVIL}",
        f"A training image is among these: {EVIL}",
        f"failed: OOM {EVIL}",
        f"--data '{EVIL}'",
        f"Fact {EVIL} Value {EVIL}",
    ):
        assert said in page.text
    assert page.text.count(EVIL) >= 9  # with the three examples and the title


def test_the_page_says_in_words_what_is_missed(page):
    assert (
        "At the threshold chosen on validation (0.3), of 195 pneumonia radiographs 190 are called"
        " and 5 are missed ; of 117 normal radiographs 86 are cleared and 31 are called pneumonia ."
    ) in page.text
    assert "312 radiographs of 156 patients in test , 62.5% with pneumonia." in page.text
    assert "Research software, not a medical device." in page.text


def test_headline_figures_come_with_their_intervals(contents, page):
    interval = contents.chosen_result.scores["sensitivity"]
    assert f"Sensitivity 0.974 {interval.low:.3f} to {interval.high:.3f}" in page.text
    assert page.text.count("95% interval") == 1


def test_the_oracle_stands_apart_and_is_called_not_achievable(page):
    headers = [attributes for attributes in page.all("th") if attributes.get("class") == "apart"]
    assert len(headers) == 1
    assert "Chosen on these radiographs threshold 0.6 not achievable, for comparison only" in page.text


def test_the_best_trial_and_the_epoch_kept_are_named(page):
    assert "2 0.95 128 0.3 3 1.5 best" in page.text
    assert page.text.count(" best ") == 1 + page.text.count("the best by")
    assert "The weights are those of epoch 1, the best by val_auc." in page.text


def test_of_a_loss_the_lowest_is_best():
    contents = ReportContents(
        "t",
        evaluation(),
        objective="val_loss",
        history={"val_loss": [0.5, 0.3, 0.4]},
        trials=[trial(1, 0.4), trial(2, 0.3), trial(3, None, "OOM")],
    )
    assert (contents.best_epoch, contents.best_trial) == (2, 2)


def test_the_same_contents_make_the_same_page(contents, folder):
    again = render_page(contents, displays(contents))
    assert again == (folder / "index.html").read_text(encoding="utf-8")


def test_a_bare_evaluation_makes_a_shorter_page(tmp_path):
    page = written_page(ReportContents("Bare", evaluation(validation=False)), tmp_path)
    assert [section["id"] for section in page.all("section")] == ["operating-points", "curves", "confusion"]
    assert figure_names(tmp_path) == {"confusion_matrix_default", "roc_curve", "precision_recall_curve"}
    assert "At the default threshold (0.5), of 195 pneumonia radiographs" in page.text
    assert "Before you read on" not in page.text


def test_examples_without_heatmaps_have_no_grad_cam(tmp_path):
    page = written_page(ReportContents("No maps", evaluation(), explanations=examples()), tmp_path)
    assert "Grad-CAM" not in page.text
    assert "grad_cam" not in figure_names(tmp_path)


def test_a_set_of_one_class_has_no_curves_and_no_oracle(tmp_path):
    page = written_page(ReportContents("One class", evaluation(tn=0, fp=0, fn=1, tp=9)), tmp_path)
    assert "of 10 pneumonia radiographs 9 are called and 1 is missed ." in page.text
    assert "Specificity undefined" in page.text
    assert "not achievable" not in page.text
    assert figure_names(tmp_path) == {"confusion_matrix_default", "confusion_matrix_validation"}


def test_figures_of_an_earlier_report_do_not_linger(contents, tmp_path):
    stranger = tmp_path / "figures" / "mine.png"
    write_report(ReportContents("First", contents.evaluation, class_counts=contents.class_counts), tmp_path)
    stranger.write_bytes(b"")
    write_report(ReportContents("Second", contents.evaluation), tmp_path)
    assert "class_distribution" not in figure_names(tmp_path)
    assert stranger.exists()


@pytest.mark.parametrize("other", ["{}", "[]", "no JSON", '{"schema": 1}', None])
def test_a_strangers_folder_is_refused_and_left_alone(contents, tmp_path, other):
    figure = tmp_path / "figures" / "roc_curve.png"
    figure.parent.mkdir()
    figure.write_bytes(b"mine")
    (tmp_path / "index.html").write_text("mine")
    if other is not None:
        (tmp_path / "report.json").write_text(other)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="holds something other than a report") as refused:
        write_report(contents, tmp_path)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_file_in_the_reports_place_is_refused(contents, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="something other than a report"):
        write_report(contents, tmp_path / "file")


def test_examples_that_do_not_fit_together_are_refused():
    images = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(DataError, match="one entry for each radiograph"):
        Examples(["a"], images, np.array([0, 1]), np.array([0.1, 0.9]))
    with pytest.raises(DataError, match="heatmaps and overlays together"):
        Examples(["a", "b"], images, np.array([0, 1]), np.array([0.1, 0.9]), heatmaps=images / 255)


def test_a_report_needs_neither_tensorflow_nor_keras_nor_pyplot():
    code = (
        "import sys, pneumokeras.report;"
        "print({'tensorflow', 'keras', 'matplotlib.pyplot'} & sys.modules.keys())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"


@pytest.fixture(scope="module")
def run(phantom_folder, tmp_path_factory):
    """A finished run on the shared phantoms."""
    from pneumokeras.data.datasets import load_splits
    from pneumokeras.models.small_cnns import CompactCNNHyperModel
    from pneumokeras.tuning import tune

    hypermodel = CompactCNNHyperModel(input_shape=(32, 32, 1), width=(4, 8, 4), depth=(2, 2))
    folder = tmp_path_factory.mktemp("runs") / "first"
    return tune(hypermodel, load_splits(phantom_folder), max_trials=1, epochs=1, run=folder).run


@pytest.fixture
def quick(monkeypatch):
    """Write no pictures: what is tested here is said in report.json, the notices and the page."""
    from pneumokeras.report import writing

    monkeypatch.setattr(writing, "displays", lambda contents: {})


def report_of(run, **options):
    from pneumokeras.report.making import report_run

    report = report_run(run, **options)
    return report, json.loads((report.folder / "report.json").read_text())


def files_under(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("quick")
class TestReportRun:
    def test_with_a_folder_of_its_own_the_run_is_only_read(self, run, tmp_path):
        before = files_under(run)
        report_of(run, out=tmp_path / "out")
        assert files_under(run) == before
        assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) > 1

    def test_the_runs_own_radiographs_need_no_name_and_its_notices_are_theirs(self, run, tmp_path):
        report, content = report_of(run, split="val", out=tmp_path / "out")
        assert (content["split"], content["data"]) == ("val", None)
        assert content["operating_points"]["oracle"]["chosen_on"].startswith("val (")
        assert any(notice.startswith("These radiographs are synthetic") for notice in report.notices)

    def test_other_radiographs_are_named_and_the_runs_notices_are_not_theirs(
        self, run, phantom_folder, tmp_path
    ):
        data = tmp_path / "other"
        shutil.copytree(phantom_folder / "test", data)
        report, content = report_of(run, data=data, out=tmp_path / "out")
        assert (content["split"], content["data"]) == ("all", str(data))
        synthetic = [notice for notice in report.notices if "synthetic" in notice]
        assert len(synthetic) == 1
        assert synthetic[0].startswith("Of the training data: ")
        assert f"in all of {data}," in Page((tmp_path / "out" / "index.html").read_text()).text

    @pytest.mark.parametrize(("part", "split"), [(".", "test"), ("test", "all")])
    def test_other_radiographs_that_are_drawings_are_called_so(
        self, run, phantom_folder, tmp_path, part, split
    ):
        report, content = report_of(run, data=phantom_folder / part, out=tmp_path / "out")
        assert content["split"] == split
        assert any(notice.startswith("These radiographs are synthetic") for notice in report.notices)

    def test_no_name_gives_orders_to_the_terminal_or_breaks_the_page(self, run, phantom_folder, tmp_path):
        data = tmp_path / os.fsdecode(b"\xf6\x1b[2J")
        for folder in sorted((phantom_folder / "train").iterdir()):
            (data / folder.name).mkdir(parents=True)
            for number, file in enumerate(sorted(folder.iterdir())[:2]):
                name = os.fsdecode(b"r\xf6ntgen\x1b[2J\n%d.jpeg" % number)
                (data / folder.name / name).write_bytes(file.read_bytes())
        report, _ = report_of(run, data=data, out=tmp_path / "out")
        seen = [notice for notice in report.notices if "4 of these 4" in notice]
        assert seen
        assert seen[0].isprintable()
        page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
        assert "\x1b" not in page

    def test_a_strangers_folder_is_refused_before_any_work(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr("pneumokeras.report.making.predict", None)
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(DataError, match="something other than a report"):
            report_of(run, out=tmp_path)
        assert os.listdir(tmp_path) == ["mine.txt"]

    def test_reports_on_different_radiographs_lie_in_different_folders(self, run, phantom_folder):
        asked = [
            {},
            {"split": "val"},
            {"data": phantom_folder},
            {"data": phantom_folder, "split": "train"},
            {"data": phantom_folder / "val"},
        ]
        assert [report_of(run, **options)[0].folder.name for options in asked] == [
            "report",
            "report-val",
            "report-data-chest_xray",
            "report-data-chest_xray-train",
            "report-data-val",
        ]

    def test_a_run_named_by_a_dot_has_its_folders_name(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(run)
        assert report_of(".", out=tmp_path / "out")[1]["run"] == "first"
