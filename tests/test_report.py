"""A report is a folder whose page stands alone, says in words what happened, and believes no string."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from pneumokeras.core.errors import DataError, SettingsError, one_line
from pneumokeras.core.files import read_csv
from pneumokeras.core.html import plain_markdown
from pneumokeras.evaluation import OperatingPoint, Predictions, evaluate_predictions
from pneumokeras.report import Examples, Pictures, ReportContents, report_schema, write_report
from pneumokeras.report.page import render_page
from pneumokeras.report.page_data import encoded, shown_names
from pneumokeras.report.report_run import Report
from tests.reporting import EVIL, evaluation, examples, full_contents, pictures, scattered, trial

FIGURES = {
    "class_distribution",
    "sample_radiographs",
    "confusion_matrix_default",
    "confusion_matrix_validation",
    "roc_curve",
    "precision_recall_curve",
    "score_distribution",
    "reliability",
    "net_benefit",
    "roc_comparison",
    "accuracy_curve",
    "loss_curve",
    "sample_predictions",
    "confident_mistakes",
    "grad_cam",
}
BARE_FIGURES = {
    "confusion_matrix_default",
    "roc_curve",
    "precision_recall_curve",
    "score_distribution",
    "reliability",
    "net_benefit",
}
VOID = {"meta", "link", "img", "br", "input"}


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
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


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
        "MODEL_CARD.md",
        "figures",
    }
    assert figure_names(folder) == FIGURES


def test_every_figure_is_there_as_png_and_as_svg(folder):
    files = {path.name for path in (folder / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}


def test_report_json_is_strict_and_is_the_evaluations(contents, folder):
    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    assert content == contents.json()
    assert content.items() >= contents.evaluation.json().items()
    assert content["comparison"]["second"]["run"] is None


def test_a_report_shows_each_notice_once(contents):
    blind = evaluate_predictions(contents.evaluation.predictions, operating_points={"validation": 0.0})
    html = Report(blind, Path("out"), (*blind.warnings, "The weights are random."))._repr_html_()
    assert len(blind.warnings) == 1
    assert html.count("every radiograph is predicted") == html.count("The weights are random.") == 1


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
    assert not {"iframe", "object", "embed"} & {tag for tag, _ in page.elements}
    text = (folder / "index.html").read_text()
    assert not re.search(r"https?://|@import|url\(", text)


def test_the_only_script_that_may_run_is_the_pages_own(folder, page):
    text = (folder / "index.html").read_text(encoding="utf-8")
    policy = page.all("meta")[2]["content"]
    assert policy.startswith("default-src 'none'")
    allowed = re.findall(r"script-src 'sha256-([^']+)'", policy)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", text, flags=re.DOTALL)
    assert allowed == [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()]
    assert page.all("script")[0]["type"] == "application/json"
    json.loads(data)
    assert text.count("</script") == 2


def test_every_picture_is_described_and_every_anchor_leads_somewhere(page):
    assert all(image["alt"] for image in page.all("img") if "src" in image)
    anchors = {link["href"][1:] for link in page.all("a")}
    assert anchors == {section["id"] for section in page.all("section")}


def test_no_two_elements_have_one_name_and_each_label_has_its_field(page):
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert {label["for"] for label in page.all("label")} <= set(names)


def test_outside_strings_are_shown_and_never_obeyed(folder, page):
    assert EVIL not in (folder / "index.html").read_text()
    assert all(image.get("src", "data:").startswith("data:") for image in page.all("img"))
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
        "At the threshold chosen on validation (0.3), of 195 pneumonia radiographs 190 are flagged"
        " and 5 are missed ; of 117 normal radiographs 86 are not flagged and 31 are flagged ."
    ) in page.text
    assert "312 radiographs of 156 patients in test , 62.5% with pneumonia." in page.text
    assert "Research software, not a medical device." in page.text


def test_headline_figures_come_with_their_intervals(contents, page):
    interval = contents.evaluation.chosen_result.scores["sensitivity"]
    assert f"Sensitivity 0.974 {interval.low:.3f} to {interval.high:.3f}" in page.text
    assert "The range with each figure is its 95% interval" in page.text


def test_the_oracle_stands_apart_and_is_called_not_achievable(page):
    headers = [attributes for attributes in page.all("th") if attributes.get("class") == "apart"]
    assert len(headers) == 1
    assert "Chosen on these radiographs, not achievable threshold 0.6 for comparison only" in page.text


def test_the_best_trial_and_the_epoch_kept_are_named(page):
    assert "2 0.95 128 0.3 3 1.5 best" in page.text
    assert [badge["class"] for badge in page.all("span") if badge.get("class") == "badge"] == ["badge"]
    assert "The weights are those of epoch 1, the best by val_auc." in page.text


def test_of_a_loss_the_lowest_is_best():
    contents = ReportContents(
        "t",
        evaluation(),
        objective="val_loss",
        history={"val_loss": [0.5, 0.3, 0.4]},
        kept_epoch=2,
        trials=[trial(1, 0.4), trial(2, 0.3), trial(3, None, "OOM")],
    )
    assert (contents.kept_is_best, contents.best_trial) == (True, 2)


def test_the_last_epoch_that_a_recipe_keeps_is_not_called_the_best():
    history = {"val_auc": [0.8, 0.9, 0.7], "loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 2.0, 4.0]}
    page = render_page(ReportContents("t", evaluation(), history=history, kept_epoch=3))
    assert "The weights are those of epoch 3. " in page


def test_the_same_contents_make_the_same_page(contents, folder):
    again = render_page(contents)
    assert again == (folder / "index.html").read_text(encoding="utf-8")


def test_a_bare_evaluation_makes_a_shorter_page(tmp_path):
    page = written_page(ReportContents("Bare", evaluation(validation=False)), tmp_path)
    anchors = [section["id"] for section in page.all("section")]
    assert anchors == ["threshold", "operating-points", "calibration", "radiographs"]
    assert figure_names(tmp_path) == BARE_FIGURES
    assert "At the default threshold (0.5), of 195 pneumonia radiographs" in page.text
    assert "Before you read on" not in page.text


def test_examples_without_heatmaps_have_no_grad_cam(tmp_path):
    page = written_page(ReportContents("No maps", evaluation(), explanations=examples()), tmp_path)
    assert "heatmaps" not in [section["id"] for section in page.all("section")]
    assert "grad_cam" not in figure_names(tmp_path)


def test_a_set_of_one_class_has_no_curves_and_no_oracle(tmp_path):
    page = written_page(ReportContents("One class", evaluation(tn=0, fp=0, fn=1, tp=9)), tmp_path)
    assert "of 10 pneumonia radiographs 9 are flagged and 1 is missed ." in page.text
    assert "Specificity undefined" in page.text
    assert "not achievable" not in page.text
    curves = {"roc_curve", "precision_recall_curve"}
    assert figure_names(tmp_path) == BARE_FIGURES - curves | {"confusion_matrix_validation"}


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


def test_a_pages_pictures_shrink_until_they_fit_and_the_last_are_left_out():
    shown = pictures(6, side=200)
    ample = encoded(shown, budget=10**7)
    assert set(ample["images"]) == set(ample["heatmaps"]) == set(range(6))
    size = sum(map(len, (*ample["images"].values(), *ample["heatmaps"].values())))
    tight = encoded(shown, budget=size // 2)
    assert set(tight["images"]) == set(range(6))
    assert sum(map(len, (*tight["images"].values(), *tight["heatmaps"].values()))) <= size // 2
    assert set(encoded(shown, budget=size // 9)["images"]) < set(range(6))


def test_data_in_a_script_ends_no_script():
    evil = "</script><script>alert(1)</script><!-- & \u2028 \udcff"
    this = evaluate_predictions(
        Predictions([evil, "plain"], ["a", "b"], [0, 1], [0.2, 0.7]),
        operating_points={evil: OperatingPoint(0.3)},
        replicates=10,
    )
    page = render_page(ReportContents("Evil", this, columns={evil: np.array([evil, "b"])}))
    text, _ = re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL)
    assert text.isascii()
    assert not set("<>&") & set(text)
    data = json.loads(text)
    assert list(data["points"]) == ["default", evil]
    assert data["names"] == [one_line(evil), "plain"]
    assert data["columns"] == [{"name": one_line(evil), "values": [one_line(evil), "b"], "of": [0, 1]}]


def test_names_are_shown_without_the_folder_they_share():
    assert shown_names(["/a/b/c/1.png", "/a/b/d/2.png"]) == ["c/1.png", "d/2.png"]
    assert shown_names(["/a/1.png"]) == ["1.png"]
    assert shown_names(["x::test/1", "x::test/2"]) == ["1", "2"]
    assert shown_names(["/a/1.png", "b.png"]) == ["/a/1.png", "b.png"]


def test_report_json_is_what_its_schema_says(contents):
    validator = jsonschema.Draft202012Validator(report_schema())
    validator.check_schema(report_schema())
    for content in (
        contents.json(),
        ReportContents("Bare", evaluation(validation=False)).json(),
        ReportContents("One class", evaluation(tn=0, fp=0, fn=1, tp=9)).json(),
        ReportContents("Stated", scattered(prevalence=0.1, columns={"half": np.arange(60) % 2})).json(),
    ):
        assert [error.message for error in validator.iter_errors(content)] == []
    assert list(validator.iter_errors({**contents.json(), "prevalence": "high"}))
    assert list(validator.iter_errors({**contents.json(), "unknown": 1}))


def test_a_model_card_says_what_it_is_for_and_obeys_no_name(contents, folder):
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    keys = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert json.loads(keys["library_name"]) == "keras"
    metrics = json.loads(keys["model-index"])[0]["results"][0]["metrics"]
    auc = round(contents.evaluation.roc_auc.estimate, 4)
    assert {"type": "roc_auc", "name": "ROC AUC", "value": auc} in metrics
    for said in ("not a medical device", "## Intended use", "## Data", "## How good it is", "## Limits"):
        assert said in text
    assert EVIL not in text
    assert plain_markdown(EVIL) in text
    assert "pneumokeras tune" not in card  # nor any other path of the machine


def test_a_comparison_says_both_tests_and_shows_both_curves(page):
    assert "by DeLong's test" in page.text
    assert "by McNemar's" in page.text
    assert "Both ROC curves" in page.text
    assert "Where they disagree" in page.text


def test_subgroups_stand_in_a_table_and_few_patients_are_said(tmp_path):
    this = scattered(columns={"ward <b>": np.array(["east", "west"])[np.arange(60) % 2]})
    page = written_page(ReportContents("Groups", this), tmp_path)
    assert "ward <b>: east few patients 30 " in page.text
    assert "subgroups" in figure_names(tmp_path)


def test_a_stated_prevalence_is_in_the_box_and_in_the_card(tmp_path):
    page = written_page(ReportContents("Stated", scattered(prevalence=0.07)), tmp_path)
    assert next(box["value"] for box in page.all("input") if box.get("id") == "prevalence") == "7"
    assert "Where 7.0% of those examined have PNEUMONIA: PPV" in (tmp_path / "MODEL_CARD.md").read_text()


def test_stages_of_fine_tuning_are_marked_in_the_training_curves(page):
    assert "stage 2" in page.text


def test_pictures_that_do_not_fit_together_are_refused():
    with pytest.raises(DataError, match="one entry for each radiograph"):
        Pictures(np.arange(2), np.zeros((3, 8, 8), np.uint8), np.zeros((2, 4, 4)))


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
    from pneumokeras.data.from_path import load_splits
    from pneumokeras.models.hypermodels import CompactCNNHyperModel
    from pneumokeras.training.tune import tune

    hypermodel = CompactCNNHyperModel(input_shape=(32, 32, 1), width=(4, 8, 4), depth=(2, 2))
    folder = tmp_path_factory.mktemp("runs") / "first"
    return tune(hypermodel, load_splits(phantom_folder), max_trials=1, epochs=1, run=folder).run


@pytest.fixture
def quick(monkeypatch):
    """Write no pictures: what is tested here is said in report.json, the notices and the page."""
    from pneumokeras.report import write as writing

    monkeypatch.setattr(writing, "displays", lambda contents: {})


def report_of(run, **options):
    from pneumokeras.report.report_run import report_run

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

    def test_radiographs_that_the_threshold_was_chosen_on_are_said_to_flatter(self, run, tmp_path):
        chosen = [row for row in read_csv(run / "splits.csv") if row["split"] == "val"]
        for number, row in enumerate(chosen):
            copy = tmp_path / "data" / row["label"] / f"{number}{Path(row['path']).suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(row["path"], copy)
        report, _ = report_of(run, data=tmp_path / "data", out=tmp_path / "out")
        said = f"{len(chosen)} of these {len(chosen)} radiographs were also used to train or choose the model"
        assert any(said in notice for notice in report.notices)

    def test_other_radiographs_are_named_and_the_runs_notices_are_not_theirs(
        self, run, phantom_folder, tmp_path
    ):
        data = tmp_path / "other"
        shutil.copytree(phantom_folder / "test", data)
        report, content = report_of(run, data=data, out=tmp_path / "out")
        assert (content["split"], content["data"]) == ("all", str(data))
        synthetic = [notice for notice in report.notices if "synthetic" in notice]
        assert len(synthetic) == 1
        assert synthetic[0].startswith("About the training data: ")
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
        monkeypatch.setattr("pneumokeras.report.evaluate_run.predict", None)
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

    def test_the_predictions_lie_beside_the_report(self, run, tmp_path):
        report, _ = report_of(run)
        own = (run / "predictions" / "test.csv").read_text()
        assert (report.folder / "predictions.csv").read_text() == own

    def test_predictions_are_read_back_as_they_were_written(self, run, tmp_path):
        from pneumokeras.runs.result import read_predictions

        report, _ = report_of(run, out=tmp_path / "out", images=False)
        written = report.evaluation.predictions
        path = report.folder / "predictions.csv"
        read = read_predictions(path, class_names=written.class_names)
        for name in ("names", "patients", "labels", "probabilities"):
            assert np.array_equal(getattr(read, name), getattr(written, name))
        path.write_text(path.read_text().replace(",NORMAL,", ",,", 1))
        assert read_predictions(path, class_names=written.class_names).labels is None

    def test_kinds_of_pneumonia_and_columns_of_a_manifest_are_subgroups(self, run, phantom_folder, tmp_path):
        files = sorted((phantom_folder / "test").glob("*/*"))
        manifest = tmp_path / "wards.csv"
        lines = [
            f"{file},{file.parent.name},{('east', 'west')[number % 2]},{number}"
            for number, file in enumerate(files * (1 + 21 // len(files)))
        ][: len(files)]
        manifest.write_text("path,label,Ward,age\n" + "\n".join(lines) + "\n")
        report, content = report_of(run, data=manifest, out=tmp_path / "out", images=False)
        found = {(group["column"], group["value"]) for group in content["subgroups"]}
        assert {("ward", "east"), ("ward", "west")} <= found
        assert {column for column, _ in found} <= {"ward", "subtype", "age"}
        assert (("age", "0") in found) == (len(files) <= 20)
        assert any("column age" in notice.lower() for notice in report.notices) == (len(files) > 20)

    def test_a_stated_prevalence_gives_predictive_values(self, run, tmp_path):
        _, content = report_of(run, prevalence=0.1, out=tmp_path / "out", images=False)
        assert content["stated_prevalence"] == 0.1
        assert content["operating_points"]["default"]["predictive_values"]["prevalence"] == 0.1

    def test_without_images_no_picture_is_in_the_folder(self, run, tmp_path):
        report, _ = report_of(run, out=tmp_path / "out", images=False)
        page = (report.folder / "index.html").read_text()
        assert "data:image" not in page
        assert "This report holds no pictures." in page

    def test_explanations_are_checked_if_that_is_asked(self, run, tmp_path):
        report, content = report_of(run, out=tmp_path / "out", images=False, check_explanations=True)
        assert content["explanation_checks"]["images"] > 0
        assert [*jsonschema.Draft202012Validator(report_schema()).iter_errors(content)] == []
        text = Page((report.folder / "index.html").read_text()).text
        assert "Can the heatmaps be trusted?" in text

    def test_another_run_on_the_same_radiographs_is_set_beside_this_one(self, run, tmp_path):
        other = shutil.copytree(run, tmp_path / "other")
        points = json.loads((other / "threshold.json").read_text())
        points["points"]["validation"]["threshold"] = 1.0  # it calls nothing
        (other / "threshold.json").write_text(json.dumps(points))
        report, content = report_of(run, compare_with=other, out=tmp_path / "out")
        comparison = content["comparison"]
        assert (comparison["first"]["run"], comparison["second"]["run"]) == ("other", "first")
        assert comparison["roc_auc"]["difference"]["estimate"] == 0
        result = content["operating_points"]["validation"]
        assert len(comparison["disagreements"]) == result["tp"] + result["fp"]
        assert (
            "Beside other , on the same radiographs" in Page((report.folder / "index.html").read_text()).text
        )

    @pytest.mark.parametrize("changed", ["left out", "relabeled"])
    def test_a_run_with_other_test_radiographs_is_refused_and_the_difference_named(
        self, run, tmp_path, monkeypatch, changed
    ):
        monkeypatch.setattr("pneumokeras.report.evaluate_run.predict", None)
        other = shutil.copytree(run, tmp_path / "other")
        rows = (other / "splits.csv").read_text().splitlines(keepends=True)
        at = next(number for number, row in enumerate(rows) if ",test," in row and ",NORMAL," in row)
        name = rows[at].split(",")[0].rpartition("/")[2]
        rows[at] = "" if changed == "left out" else rows[at].replace(",NORMAL,", ",PNEUMONIA,")
        (other / "splits.csv").write_text("".join(rows))
        with pytest.raises(DataError, match="do not have the same test radiographs") as refused:
            report_of(run, compare_with=other, out=tmp_path / "out")
        said = (
            f"1 only in first ({name})" if changed == "left out" else f"1 have other labels, such as {name}"
        )
        assert said in str(refused.value)
        assert not (tmp_path / "out").exists()

    def test_a_run_is_evaluated_without_writing_anything(self, run):
        from pneumokeras.report.evaluate_run import evaluate_run

        before = files_under(run)
        evaluated = evaluate_run(run, split="val", compare_with=run, prevalence=0.1)
        assert files_under(run) == before
        assert evaluated.evaluation.split == "val"
        assert evaluated.evaluation.stated_prevalence == 0.1
        assert evaluated.comparison.roc_auc.difference.estimate == 0

    def test_the_numbers_of_a_report_are_those_of_the_evaluation_alone(self, run, tmp_path):
        from pneumokeras.report.evaluate_run import evaluate_run

        _, content = report_of(run, out=tmp_path / "out", images=False)
        assert content == evaluate_run(run).evaluation.json()

    def test_a_run_without_the_split_says_which_parameters_to_set(self, run, tmp_path):
        other = shutil.copytree(run, tmp_path / "other")
        rows = (other / "splits.csv").read_text().splitlines(keepends=True)
        (other / "splits.csv").write_text("".join(row for row in rows if ",test," not in row))
        with pytest.raises(SettingsError, match=r"no test split.*`split`.*`data`") as refused:
            report_of(other, out=tmp_path / "out")
        assert refused.value.parameter == "split"

    def test_a_run_named_by_a_dot_has_its_folders_name(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(run)
        assert report_of(".", out=tmp_path / "out")[1]["run"] == "first"
