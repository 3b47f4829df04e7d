"""Subgroups say what a model is worth among some of the radiographs, and when there are too few to say."""

import json
import math

import numpy as np
import pytest

from pneumokeras.core.errors import SettingsError
from pneumokeras.evaluation import (
    SMALL_SUBGROUP,
    OperatingPoint,
    Predictions,
    delong_interval,
    evaluate_predictions,
    proportion_interval,
    subgroup_results,
)

N = 160
Y_TRUE = np.repeat([0, 1], [60, 100])
SUBTYPES = np.array([""] * 60 + ["bacteria"] * 65 + ["virus"] * 35)
SITES = np.where(np.arange(N) % 4, "north", "south")
PATIENTS = np.array([f"person{index // 2}" for index in range(N)])


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(0)
    probabilities = np.clip(rng.normal(0.35 + 0.3 * Y_TRUE, 0.2), 0, 1)
    predictions = Predictions([f"{index}.png" for index in range(N)], PATIENTS, Y_TRUE, probabilities)
    return evaluate_predictions(
        predictions,
        operating_points={"validation": OperatingPoint(0.4, "val")},
        columns={"subtype": SUBTYPES, "site": SITES},
        replicates=20,
    )


def test_there_is_a_subgroup_for_each_value_of_each_column(evaluation):
    found = [(group.column, group.value, group.images, group.positives) for group in evaluation.subgroups]
    assert found == [
        ("subtype", "bacteria", 65, 65),
        ("subtype", "virus", 35, 35),
        ("site", "north", 120, 75),
        ("site", "south", 40, 25),
    ]


@pytest.mark.parametrize("normal", ["", "none"])
def test_a_kind_of_pneumonia_is_ranked_against_all_normal(evaluation, normal):
    subtypes = np.where(SUBTYPES == "", normal, SUBTYPES)
    groups = {group.value: group for group in subgroup_results(evaluation, {"subtype": subtypes})}
    probabilities = evaluation.predictions.probabilities
    ranked = (SUBTYPES == "virus") | (Y_TRUE == 0)
    virus = groups["virus"]
    assert virus.roc_auc == delong_interval(Y_TRUE[ranked], probabilities[ranked], PATIENTS[ranked])
    predicted = probabilities >= 0.4
    inside = SUBTYPES == "virus"
    assert virus.scores["sensitivity"] == proportion_interval(predicted[inside], PATIENTS[inside])
    assert math.isnan(virus.scores["specificity"].estimate)
    if normal:
        assert groups["none"].roc_auc == delong_interval(Y_TRUE, probabilities, PATIENTS)
        assert (
            groups["none"].scores["specificity"]
            == evaluation.operating_points["validation"].scores["specificity"]
        )


def test_pneumonia_of_an_unknown_kind_takes_no_area_from_the_known_kinds(evaluation):
    subtypes = np.where(np.arange(N) < 65, "", SUBTYPES)  # five of PNEUMONIA have no kind, as all NORMAL
    groups = {group.value: group for group in subgroup_results(evaluation, {"subtype": subtypes})}
    assert groups["bacteria"].images == 60
    ranked = (subtypes == "bacteria") | (Y_TRUE == 0)
    probabilities = evaluation.predictions.probabilities
    assert groups["bacteria"].roc_auc == delong_interval(
        Y_TRUE[ranked], probabilities[ranked], PATIENTS[ranked]
    )
    assert groups["virus"] == evaluation.subgroups[1]


def test_a_value_with_both_classes_stands_for_itself(evaluation):
    south = evaluation.subgroups[3]
    inside = SITES == "south"
    probabilities = evaluation.predictions.probabilities[inside]
    assert south.roc_auc == delong_interval(Y_TRUE[inside], probabilities, PATIENTS[inside])
    healthy = Y_TRUE[inside] == 0
    predicted_negative = probabilities < 0.4
    assert south.scores["specificity"] == proportion_interval(
        predicted_negative[healthy], PATIENTS[inside][healthy]
    )


def test_a_site_with_one_class_only_has_no_area(evaluation):
    sites = SITES.copy()
    sites[:3] = "west"
    west = next(group for group in subgroup_results(evaluation, {"site": sites}) if group.value == "west")
    assert math.isnan(west.roc_auc.estimate)
    assert west.scores["specificity"].estimate >= 0


def test_few_patients_are_said_to_be_few_however_many_images_they_have(evaluation):
    flags = {group.value: group.small for group in evaluation.subgroups}
    assert flags == {"bacteria": False, "virus": True, "north": False, "south": True}
    assert evaluation.subgroups[1].patients == 18 < SMALL_SUBGROUP < evaluation.subgroups[1].images


def test_the_report_warns_of_few_patients(evaluation):
    lines = {line.split(":")[0]: line for line in str(evaluation.report()).splitlines()}
    assert "few patients: read with care" in lines["subtype virus"]
    assert "few patients" not in lines["subtype bacteria"]
    assert "specificity" not in lines["subtype bacteria"]
    assert "<p>subtype virus: 35 radiographs of 18 patients (few patients" in evaluation._repr_html_()


def test_the_json_of_subgroups_is_plain(evaluation):
    rows = json.loads(json.dumps(evaluation.json(), allow_nan=False))["subgroups"]
    assert rows[1]["value"] == "virus"
    assert rows[1]["small"] is True
    assert rows[1]["scores"]["specificity"]["estimate"] is None


def test_a_column_without_values_has_no_subgroups(evaluation):
    assert subgroup_results(evaluation, {"subtype": np.full(N, "")}) == ()


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is_missing_is_no_value(evaluation, missing):
    values = np.where(SITES == "south", missing, SITES.astype(object))
    assert [group.value for group in subgroup_results(evaluation, {"site": values})] == ["north"]


def test_a_column_of_another_length_is_refused(evaluation):
    with pytest.raises(
        SettingsError, match="one value of 'site' for each of 160 radiographs, received 2"
    ) as refused:
        subgroup_results(evaluation, {"site": np.array(["a", "b"])})
    assert refused.value.parameter == "columns"
