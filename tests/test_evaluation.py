"""An evaluation says what happened, how sure that is, and where each threshold came from."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn import metrics as sklearn_metrics

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.evaluation import (
    OperatingPoint,
    PlattScaling,
    Predictions,
    TextReport,
    compare,
    evaluate_predictions,
    metrics,
)
from pneumokeras.evaluation.vocabulary import describe_point

VALIDATION = OperatingPoint(0.3, "val", "balanced_accuracy", 0.95, 520)
SCORES = ["accuracy", "sensitivity", "specificity", "precision", "npv", "f1", "balanced_accuracy", "mcc"]


def predictions_of(y_true, probabilities, patients=None):
    names = [f"test/{index}.jpeg" for index in range(len(y_true))]
    return Predictions(names, names if patients is None else patients, y_true, probabilities)


def sample_predictions(seed=0):
    rng = np.random.default_rng(seed)
    y_true = np.repeat([0, 1], [40, 60])
    patients = [f"person{index // 2}" for index in range(100)]
    return predictions_of(y_true, np.clip(rng.normal(0.35 + 0.3 * y_true, 0.2), 0, 1), patients)


@pytest.fixture(scope="module")
def evaluation():
    points = {"validation": VALIDATION}
    return evaluate_predictions(
        sample_predictions(), operating_points=points, run="resnet50-1", replicates=200
    )


def strict_json(evaluation):
    return json.loads(json.dumps(evaluation.json(), allow_nan=False))


def test_the_reference_confusion_matrix_has_accuracy_0681():
    y_true = np.repeat([0, 0, 1, 1], [219, 15, 184, 206])
    probabilities = np.repeat([0.1, 0.9, 0.2, 0.8], [219, 15, 184, 206])
    result = evaluate_predictions(predictions_of(y_true, probabilities), replicates=50).operating_points[
        "default"
    ]
    assert (result.tn, result.fp, result.fn, result.tp) == (219, 15, 184, 206)
    assert result.scores["accuracy"].estimate == 425 / 624
    assert f"{result.scores['accuracy'].estimate:.3f}" == "0.681"


def test_estimates_are_scikit_learns(evaluation):
    y_true, probabilities = evaluation.predictions.labels, evaluation.predictions.probabilities
    assert evaluation.roc_auc.estimate == sklearn_metrics.roc_auc_score(y_true, probabilities)
    assert list(evaluation.operating_points) == ["default", "validation", "oracle"]
    for result in evaluation.operating_points.values():
        predicted = probabilities >= result.point.threshold
        expected = {
            "accuracy": sklearn_metrics.accuracy_score(y_true, predicted),
            "sensitivity": sklearn_metrics.recall_score(y_true, predicted),
            "specificity": sklearn_metrics.recall_score(y_true, predicted, pos_label=0),
            "precision": sklearn_metrics.precision_score(y_true, predicted),
            "npv": sklearn_metrics.precision_score(y_true, predicted, pos_label=0),
            "f1": sklearn_metrics.f1_score(y_true, predicted),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(y_true, predicted),
            "mcc": sklearn_metrics.matthews_corrcoef(y_true, predicted),
        }
        assert {name: score.estimate for name, score in result.scores.items()} == pytest.approx(expected)


def test_each_interval_holds_its_estimate_and_names_its_method(evaluation):
    methods = ["wilson"] * 5 + ["bootstrap"] * 3
    for result in evaluation.operating_points.values():
        assert list(result.scores) == SCORES
        assert [score.method for score in result.scores.values()] == methods
        assert all(score.low < score.estimate < score.high for score in result.scores.values())
    assert evaluation.roc_auc.low < evaluation.roc_auc.estimate < evaluation.roc_auc.high
    assert evaluation.brier.method == evaluation.calibration_error.method == "bootstrap"


def test_the_same_images_of_fewer_patients_say_less():
    y_true = np.tile([0, 1, 0, 1, 1], 20)
    probabilities = np.tile([0.2, 0.8, 0.6, 0.4, 0.7], 20)
    order = np.argsort(np.tile(np.arange(5), 20), kind="stable")
    alone = evaluate_predictions(predictions_of(y_true[order], probabilities[order]), replicates=300)
    patients = np.arange(100) // 10
    shared = evaluate_predictions(
        predictions_of(y_true[order], probabilities[order], patients), replicates=300
    )
    for narrow, wide in [
        (alone.roc_auc, shared.roc_auc),
        (alone.roc_auc_delong, shared.roc_auc_delong),
        (alone.brier, shared.brier),
        (
            alone.operating_points["default"].scores["accuracy"],
            shared.operating_points["default"].scores["accuracy"],
        ),
    ]:
        assert narrow.estimate == wide.estimate
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_the_same_seed_gives_the_same_evaluation():
    first, again, other = (evaluate_predictions(sample_predictions(), seed=seed) for seed in (1, 1, 2))
    assert first.json() == again.json()
    assert first.json() != other.json()


def test_the_oracle_is_as_good_as_any_threshold_with_its_floor(evaluation):
    oracle = evaluation.operating_points["oracle"]
    assert oracle.scores["sensitivity"].estimate >= 0.95
    validation = evaluation.operating_points["validation"]
    assert validation.scores["sensitivity"].estimate >= 0.95
    assert oracle.scores["balanced_accuracy"].estimate >= validation.scores["balanced_accuracy"].estimate
    assert oracle.point.chosen_on == "test (not achievable; for comparison only)"


def test_the_oracle_of_another_split_does_not_say_test():
    evaluation = evaluate_predictions(sample_predictions(), split="val", replicates=20)
    chosen_on = "val (not achievable; for comparison only)"
    assert evaluation.json()["operating_points"]["oracle"]["chosen_on"] == chosen_on
    assert f"chosen on {chosen_on}" in str(evaluation.report("oracle"))


def test_the_point_to_speak_of_is_validation_or_else_the_default(evaluation):
    assert evaluation.chosen == "validation"
    assert evaluate_predictions(sample_predictions(), replicates=20).chosen == "default"


def test_other_radiographs_than_the_runs_own_are_named(evaluation):
    other = evaluate_predictions(sample_predictions(), data="/x/<b>other", replicates=20)
    assert (evaluation.json()["data"], other.json()["data"]) == (None, "/x/<b>other")
    assert "test of /x/<b>other: 100 radiographs" in str(other.report())
    assert "<b>" not in other._repr_html_()


def test_report_json_has_the_documented_shape(evaluation):
    report = strict_json(evaluation)
    assert list(report) == [
        *("schema", "run", "split", "data", "images", "patients", "prevalence"),
        *("roc_auc", "average_precision", "brier", "calibration_error", "operating_points"),
        *("roc_auc_delong", "stated_prevalence", "calibration", "net_benefit", "sweep", "subgroups"),
    ]
    assert (report["schema"], report["run"], report["split"]) == (1, "resnet50-1", "test")
    assert (report["images"], report["patients"], report["prevalence"]) == (100, 50, 0.6)
    assert list(report["roc_auc"]) == ["estimate", "low", "high", "method"]
    point = report["operating_points"]["validation"]
    described = ["threshold", "chosen_on", "policy", "sensitivity_floor", "images"]
    assert list(point) == [*described, "tn", "fp", "fn", "tp", *SCORES]
    assert list(report["operating_points"]["default"])[:3] == ["threshold", "chosen_on", "tn"]


def test_what_was_there_before_keeps_its_meaning_in_report_json(evaluation):
    report = strict_json(evaluation)
    assert report["roc_auc_delong"]["estimate"] == pytest.approx(report["roc_auc"]["estimate"])
    assert report["roc_auc_delong"]["method"] == "delong"
    assert report["stated_prevalence"] is None
    assert [bin["low"] for bin in report["calibration"]["bins"]] == [index / 10 for index in range(10)]
    assert list(report["calibration"]["scalings"]) == ["none"]
    assert report["calibration"]["scalings"]["none"]["brier"] == report["brier"]["estimate"]
    assert len(report["net_benefit"]["model"]) == len(report["net_benefit"]["thresholds"]) == 99
    assert [row["threshold"] for row in report["sweep"]][:2] == [0.3, 0.35]
    assert report["subgroups"] == []


def test_delongs_interval_is_near_the_bootstraps(evaluation):
    delong, bootstrap = evaluation.roc_auc_delong, evaluation.roc_auc
    assert (delong.low, delong.high) == pytest.approx((bootstrap.low, bootstrap.high), abs=0.03)


def test_predictive_values_are_given_at_the_stated_prevalence(evaluation):
    stated = evaluate_predictions(sample_predictions(), prevalence=0.1, replicates=20)
    assert evaluation.operating_points["default"].predictive_values is None
    assert stated.stated_prevalence == 0.1
    result = stated.operating_points["default"]
    values = result.predictive_values
    assert values.prevalence == 0.1
    assert values.ppv.estimate < result.scores["precision"].estimate
    assert values.npv.estimate > result.scores["npv"].estimate
    assert strict_json(stated)["operating_points"]["default"]["predictive_values"]["ppv"]["method"] == "mover"
    assert f"PPV at 0.1          {values.ppv}" in str(stated.report())
    assert f"<td>{values.npv}</td>" in stated._repr_html_()
    assert "<th>NPV at 0.1</th>" in stated._repr_html_()
    with pytest.raises(SettingsError, match="`prevalence` between 0 and 1"):
        evaluate_predictions(sample_predictions(), prevalence=10, replicates=20)


def test_scalings_are_fitted_on_validation_alone():
    validation = sample_predictions(seed=5)
    evaluation = evaluate_predictions(sample_predictions(), validation=validation, replicates=20)
    scalings = evaluation.calibration.scalings
    assert list(scalings) == ["none", "temperature", "platt"]
    expected = PlattScaling.fit(validation.labels, validation.probabilities)
    assert scalings["platt"].scaling == expected
    scaled = expected(evaluation.predictions.probabilities)
    assert scalings["platt"].brier == metrics.brier_score(evaluation.predictions.labels, scaled)
    assert strict_json(evaluation)["calibration"]["scalings"]["platt"]["scaling"]["slope"] == expected.slope
    told = f"Platt scaling fitted on validation would give Brier score {scalings['platt'].brier:.3f}"
    assert told in str(evaluation.report())


def test_validation_of_one_class_is_refused():
    with pytest.raises(DataError, match=r"both classes to fit a scaling .* received 0 NORMAL and 2"):
        evaluate_predictions(sample_predictions(), validation=predictions_of([1, 1], [0.2, 0.9]))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"prevalence": 10}, SettingsError),
        ({"columns": {"site": np.array(["a"])}}, SettingsError),
        ({"validation": predictions_of([1, 1], [0.2, 0.9])}, DataError),
    ],
    ids=["prevalence", "columns", "validation"],
)
def test_wrong_arguments_are_refused_before_the_bootstrap(wrong, error, monkeypatch):
    monkeypatch.setattr("pneumokeras.evaluation.evaluation.patient_bootstrap", None)
    with pytest.raises(error):
        evaluate_predictions(sample_predictions(), **wrong)


@pytest.mark.parametrize(
    ("policy", "aim"),
    [
        ("balanced_accuracy", "balanced accuracy"),
        ("sensitivity", "specificity"),
        ("youden", "Youden index"),
    ],
)
def test_a_point_says_what_its_policy_makes_highest(policy, aim):
    assert f"chosen on val, highest {aim}" in describe_point(OperatingPoint(0.3, "val", policy))


def test_every_figure_has_a_row():
    columns = {"site": np.repeat(["a", "b"], 50)}
    evaluation = evaluate_predictions(sample_predictions(), columns=columns, prevalence=0.2, replicates=20)
    rows = evaluation.rows()
    named = {(row["subgroup"], row["operating_point"], row["figure"]): row for row in rows}
    assert len(named) == len(rows) == 5 + 2 * (len(SCORES) + 2) + 2 * 3
    assert named["", "", "roc_auc"]["low"] == evaluation.roc_auc.low
    assert named["", "default", "ppv at prevalence 0.2"]["method"] == "mover"
    assert named["site=b", "default", "sensitivity"]["estimate"] == (
        evaluation.subgroups[1].scores["sensitivity"].estimate
    )


def test_the_frame_is_the_rows(evaluation, monkeypatch):
    pandas = pytest.importorskip("pandas")
    frame = evaluation.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("records")[0] == evaluation.rows()[0]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DataError, match=r"rows\(\) gives the same without pandas"):
        evaluation.frame()


def test_an_evaluation_draws_itself_into_axes_of_the_callers(evaluation):
    figure = Figure()
    axes = figure.subplots(1, 3)
    for plot, ax in zip(
        (evaluation.plot_roc, evaluation.plot_precision_recall, evaluation.plot_confusion_matrix),
        axes,
        strict=True,
    ):
        display = plot(ax=ax)
        assert display.ax_ is ax
        assert ax.get_title(loc="left")
    assert axes[2].get_title(loc="left") == "Threshold 0.3"
    assert evaluation.plot_roc().figure_ is not figure
    with pytest.raises(SettingsError, match="Received 'best'"):
        evaluation.plot_confusion_matrix("best")


def test_a_curve_of_one_class_is_not_drawn():
    evaluation = evaluate_predictions(predictions_of([1, 1], [0.6, 0.8]), replicates=20)
    for plot in (evaluation.plot_roc, evaluation.plot_precision_recall):
        with pytest.raises(DataError, match="both classes to draw a curve"):
            plot()


def test_undefined_figures_are_null_in_json():
    report = strict_json(evaluate_predictions(predictions_of([1, 1], [0.6, 0.8]), replicates=20))
    assert report["roc_auc"] == {"estimate": None, "low": None, "high": None, "method": "bootstrap"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("label", [0, 1])
def test_a_set_of_one_class_is_evaluated_as_far_as_it_goes(label):
    evaluation = evaluate_predictions(
        predictions_of(np.full(6, label), [0.1, 0.2, 0.6, 0.7, 0.8, 0.9]), replicates=100
    )
    scores = evaluation.operating_points["default"].scores
    known, unknown = ("sensitivity", "specificity") if label else ("specificity", "sensitivity")
    assert scores[known].low < scores[known].estimate < scores[known].high
    assert math.isnan(scores[unknown].estimate)
    assert math.isnan(evaluation.roc_auc.estimate)
    assert evaluation.brier.low < evaluation.brier.estimate < evaluation.brier.high
    assert "oracle" not in evaluation.operating_points
    assert "ROC AUC             undefined" in str(evaluation.report())
    assert "undefined" in evaluation._repr_html_()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("y_true", "probabilities"), [([1], [0.7]), ([0, 1], [0.2, 0.9]), ([0, 1], [0.5, 0.5])]
)
def test_the_smallest_sets_are_evaluated(y_true, probabilities):
    evaluation = evaluate_predictions(
        predictions_of(y_true, probabilities, ["one"] * len(y_true)), replicates=20
    )
    assert math.isnan(evaluation.brier.low)
    strict_json(evaluation)
    str(evaluation.report())


def test_a_perfect_model_is_not_reported_as_certain():
    evaluation = evaluate_predictions(predictions_of([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]), replicates=100)
    assert str(evaluation.roc_auc) == "1.000 [no interval]"
    assert evaluation.operating_points["default"].scores["sensitivity"].low < 0.5


def test_predictions_without_labels_are_refused_in_one_line():
    with pytest.raises(DataError, match="with labels, received none") as refused:
        evaluate_predictions(Predictions(["a"], ["a"], None, [0.5]))
    assert "\n" not in str(refused.value)


def test_an_empty_set_is_refused():
    with pytest.raises(DataError, match="at least one radiograph"):
        evaluate_predictions(predictions_of([], []))


@pytest.mark.parametrize(
    "taken", [{"oracle": VALIDATION}, {"default": VALIDATION}, {"default": OperatingPoint(0.4)}]
)
def test_a_given_point_cannot_take_the_place_of_default_or_oracle(taken):
    with pytest.raises(SettingsError, match="Expected no operating point named 'oracle'") as refused:
        evaluate_predictions(sample_predictions(), operating_points=taken)
    assert refused.value.parameter == "operating_points"


def test_the_points_of_a_threshold_file_can_be_given_as_they_are():
    points = {"default": OperatingPoint(0.5), "validation": VALIDATION}
    evaluation = evaluate_predictions(sample_predictions(), operating_points=points, replicates=20)
    assert list(evaluation.operating_points) == ["default", "validation", "oracle"]


def test_the_report_shows_itself_at_the_validation_point(evaluation):
    report = evaluation.report()
    assert isinstance(report, TextReport)
    assert str(report) == repr(report)
    assert "threshold 0.3, chosen on val, highest balanced accuracy, sensitivity at least 0.95" in str(report)
    assert f"ROC AUC             {evaluation.roc_auc}" in str(report)
    assert evaluation.classification_report("validation") in str(report)
    assert "threshold 0.5, fixed" in str(evaluation.report("default"))
    assert report._repr_html_().startswith('<pre style="font-family: monospace">')


def test_without_a_validation_point_the_report_is_at_the_default():
    evaluation = evaluate_predictions(sample_predictions(), replicates=20)
    assert str(evaluation.report()) == str(evaluation.report("default"))


def test_the_classification_report_is_scikit_learns(evaluation):
    names = ["NORMAL", "PNEUMONIA"]
    for point, threshold in (("default", 0.5), ("validation", 0.3)):
        predicted = evaluation.predictions.probabilities >= threshold
        expected = sklearn_metrics.classification_report(
            evaluation.predictions.labels, predicted, target_names=names
        )
        assert evaluation.classification_report(point) == expected


@pytest.mark.parametrize("names", [("NORMAL", "PNEUMONIA"), ("macro avg", "a class with a very long name")])
def test_an_average_over_an_undefined_score_is_undefined(names):
    predictions = predictions_of([0, 0, 1, 1, 1], [0.6, 0.7, 0.8, 0.9, 0.7])
    predictions = replace(predictions, class_names=names)
    lines = evaluate_predictions(predictions, replicates=20).classification_report().splitlines()
    rows = {line[:-40].strip(): line[-40:].split() for line in lines[-2:]}
    assert lines[-2][:-40].strip() == "macro avg"
    assert rows == {
        "macro avg": ["nan", "0.50", "0.38", "5"],
        "weighted avg": ["nan", "0.60", "0.45", "5"],
    }
    one_class = evaluate_predictions(predictions_of([1, 1, 1], [0.6, 0.7, 0.2]), replicates=20)
    macro, weighted = (line.split()[2:] for line in one_class.classification_report().splitlines()[-2:])
    assert macro == ["0.50", "nan", "0.40", "3"]
    assert weighted == ["1.00", "0.67", "0.80", "3"]  # a class without radiographs has no weight


def test_everything_at_an_operating_point_is_at_the_chosen_one_by_default(evaluation):
    assert evaluation.chosen == "validation"
    assert str(evaluation.report()) == str(evaluation.report("validation"))
    assert evaluation.classification_report() == evaluation.classification_report("validation")
    mistakes, expected = evaluation.misclassified(), evaluation.misclassified("validation")
    assert mistakes.false_negatives.tolist() == expected.false_negatives.tolist()
    assert mistakes.false_positives.tolist() == expected.false_positives.tolist()
    assert mistakes.false_positives.size != evaluation.misclassified("default").false_positives.size
    assert evaluation.plot_confusion_matrix().result is evaluation.operating_points["validation"]


def test_an_unknown_operating_point_is_refused_with_the_known_ones(evaluation):
    for method in (evaluation.report, evaluation.classification_report, evaluation.misclassified):
        with pytest.raises(
            SettingsError, match=r"\['default', 'validation', 'oracle'\], or as .* Received 'best'"
        ) as refused:
            method("best")
        assert refused.value.parameter == "point"


def test_a_plain_number_is_an_operating_point(evaluation):
    given = evaluate_predictions(evaluation.predictions, operating_points={"mine": 0.42, "np": np.float32(1)})
    assert given.operating_points["mine"].point == OperatingPoint(0.42)
    asked, expected = (
        str(report).partition("Operating point ")[2]
        for report in (evaluation.report(0.42), given.report("mine"))
    )
    assert asked == expected.replace("'mine'", "'0.42'", 1)
    assert evaluation.classification_report(0.42) == given.classification_report("mine")
    assert evaluation.misclassified(OperatingPoint(0.42)).false_negatives.tolist() == (
        given.misclassified("mine").false_negatives.tolist()
    )
    assert evaluation.plot_confusion_matrix(0.42).result.counts == given.operating_points["mine"].counts
    assert evaluation.plot_confusion_matrix(0.3).result is evaluation.operating_points["validation"]


@pytest.mark.parametrize("point", [1.2, float("nan"), True, None, "0.3", [0.3]])
def test_what_is_no_threshold_is_refused(evaluation, point):
    with pytest.raises(SettingsError) as refused:
        evaluate_predictions(evaluation.predictions, operating_points={"mine": point})
    assert "\n" not in str(refused.value)


def test_operating_points_have_names(evaluation):
    with pytest.raises(SettingsError, match=r'such as \{"mine": 0.3\}. Received 0.3'):
        evaluate_predictions(evaluation.predictions, operating_points=0.3)


@pytest.mark.parametrize(("threshold", "predicted"), [(0.0, "PNEUMONIA"), (1.0, "NORMAL"), (0.3, "")])
def test_a_threshold_that_tells_nothing_apart_is_said(evaluation, threshold, predicted):
    below_one = replace(evaluation.predictions, probabilities=evaluation.predictions.probabilities * 0.9)
    found = evaluate_predictions(below_one, operating_points={"validation": threshold}, replicates=20)
    sentence = f"every radiograph is predicted {predicted}"
    for shown in (" ".join(found.warnings), str(found.report()), found._repr_html_()):
        assert (sentence in shown) == bool(predicted)


def test_one_class_alone_is_no_reason_to_warn():
    assert evaluate_predictions(predictions_of([1, 1], [0.6, 0.8]), replicates=20).warnings == ()


@pytest.mark.parametrize("swap", [False, True])
def test_what_is_no_evaluation_is_not_compared(evaluation, swap):
    sides = (evaluation, evaluation.predictions)
    with pytest.raises(SettingsError, match=r"evaluate\(model, splits.test\)\. Received Predictions"):
        compare(*(sides[::-1] if swap else sides))


def test_predictions_show_as_a_short_table():
    few = Predictions(["<a>", "b"], ["p", "p"], [0, 1], [0.25, 0.75])
    assert repr(few) == "<Predictions of 2 radiographs, P(PNEUMONIA) 0.2500, 0.7500>"
    assert "<td>&lt;a&gt;</td><td>p</td><td>NORMAL</td><td>0.2500</td>" in few._repr_html_()
    many = Predictions(np.arange(500), np.arange(500), None, np.linspace(0, 1, 500))
    assert len(repr(many)) < 100
    assert many._repr_html_().count("<tr>") == 1 + 20
    with pytest.raises(DataError, match="of one radiograph"):
        float(many)


def test_predictions_are_a_frame():
    pandas = pytest.importorskip("pandas")
    frame = Predictions(["a", "b"], ["p", "q"], [0, 1], [0.25, 0.75]).frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("records") == [
        {"path": "a", "patient": "p", "label": "NORMAL", "probability": 0.25},
        {"path": "b", "patient": "q", "label": "PNEUMONIA", "probability": 0.75},
    ]
    unlabeled = Predictions(["a"], ["p"], None, [0.25])
    assert unlabeled.frame()["label"].tolist() == [""]
    assert float(unlabeled) == 0.25


def test_the_table_says_where_each_threshold_was_chosen(evaluation):
    html = evaluation._repr_html_()
    assert html.count("<tr>") == 1 + 3
    assert "<td>oracle (not achievable)</td>" in html
    assert "<td>default</td><td>0.5</td><td>fixed</td>" in html
    assert "<td>validation</td><td>0.3</td><td>val</td>" in html


def test_what_a_user_named_is_escaped():
    evaluation = evaluate_predictions(
        sample_predictions(),
        operating_points={"<b>": OperatingPoint(0.3, "<i>")},
        split="<u>",
        run="<script>",
        replicates=20,
    )
    for html in (evaluation._repr_html_(), evaluation.report("<b>")._repr_html_()):
        assert not any(tag in html for tag in ("<b>", "<i>", "<u>", "<script>"))


def test_the_repr_is_one_line(evaluation):
    assert repr(evaluation) == f"<Evaluation of test: 100 radiographs, ROC AUC {evaluation.roc_auc}>"


def test_the_most_confident_mistakes_come_first():
    y_true, probabilities = [0, 1, 0, 1, 0, 1], [0.6, 0.4, 0.9, 0.1, 0.2, 0.8]
    evaluation = evaluate_predictions(predictions_of(y_true, probabilities), replicates=20)
    mistakes = evaluation.misclassified()
    assert mistakes.false_negatives.tolist() == [3, 1]
    assert mistakes.false_positives.tolist() == [2, 0]


def test_predictions_become_arrays_of_known_types():
    predictions = Predictions(
        [Path("a"), Path("b")], [1, 2], [True, False], np.array([0.1, 0.9], dtype=np.float32)
    )
    assert predictions.names.tolist() == ["a", "b"]
    assert predictions.patients.tolist() == ["1", "2"]
    assert predictions.labels.tolist() == [1, 0]
    assert predictions.probabilities.dtype == np.float64
    assert len(predictions) == 2


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ((["a"], ["a", "b"], [0, 1], [0.5, 0.5]), r"names \(1,\), patients \(2,\)"),
        ((["a", "b"], ["a", "b"], [0], [0.5, 0.5]), r"labels \(1,\)"),
        ((["a"], ["a"], [0], [[0.5]]), r"shape \(1, 1\)"),
        ((["a"], ["a"], [3], [0.5]), "received 3"),
        ((["a"], ["a"], [None], [0.5]), "received None"),
        ((["a"], ["a"], None, [-0.1]), "received -0.1"),
        ((["a"], ["a"], None, [np.inf]), "received inf"),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(arrays, said):
    with pytest.raises(DataError, match=said):
        Predictions(*arrays)


def test_the_weighted_metrics_are_what_the_report_bootstraps(evaluation):
    # One draw by hand: the interval of the Brier score is that of the metric on the same weights.
    from pneumokeras.evaluation import patient_weights, percentile_interval

    predictions = evaluation.predictions
    weights = patient_weights(predictions.patients, replicates=200, rng=np.random.default_rng(0))
    values = metrics.weighted_brier_score(predictions.labels, predictions.probabilities, weights)
    by_hand = percentile_interval(evaluation.brier.estimate, values)
    assert (by_hand.low, by_hand.high) == pytest.approx((evaluation.brier.low, evaluation.brier.high))


def test_evaluation_needs_neither_tensorflow_nor_matplotlib():
    code = (
        "import sys, pneumokeras.evaluation;"
        "print([name for name in ('tensorflow', 'keras', 'matplotlib') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
