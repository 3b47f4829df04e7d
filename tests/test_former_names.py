"""Names of version 0.1 still work, and say the new one."""

import numpy as np
import pytest

import pneumokeras as pk
from pneumokeras.core.former_names import former_arguments
from pneumokeras.evaluation import mcnemar, net_benefit
from pneumokeras.explain.sanity_checks import ExplanationChecks

LABELS, FIRST, SECOND = [0, 1, 1, 0], [0, 1, 0, 0], [1, 1, 1, 0]


def test_what_an_operating_point_calls():
    with pytest.warns(DeprecationWarning, match="calls is called predicted_positive"):
        called = pk.OperatingPoint(0.3).calls([0.1, 0.3])
    np.testing.assert_array_equal(called, [False, True])


def test_the_calls_of_two_models():
    with pytest.warns(DeprecationWarning) as caught:
        test = mcnemar(LABELS, calls_a=FIRST, calls_b=SECOND)
    assert test == mcnemar(LABELS, FIRST, SECOND)
    assert {warning.filename for warning in caught} == {__file__}
    assert len(caught) == 2


def test_thresholds_by_position():
    with pytest.warns(DeprecationWarning, match="thresholds by position"):
        benefit = net_benefit(LABELS, [0.1, 0.9, 0.4, 0.2], [0.1, 0.2])
    np.testing.assert_array_equal(benefit.thresholds, [0.1, 0.2])


def test_what_a_recipe_mends():
    recipe = pk.load_recipe("customcnn")
    with pytest.warns(DeprecationWarning, match="corrections"):
        assert recipe.mended == recipe.corrections


def test_randomisation_of_the_checks():
    checks = ExplanationChecks("hirescam", "conv", 1, 0, *["part"] * 5)
    with pytest.warns(DeprecationWarning, match="randomization"):
        assert checks.randomisation == "part"


def test_who_is_told_of_a_reproduction(phantom_folder, tmp_path):
    told = []
    with pytest.warns(DeprecationWarning) as caught:
        pk.reproduce(
            ["customcnn"],
            phantom_folder,
            out=tmp_path,
            seeds=(),
            began=lambda *run: None,
            reached=told.append,
        )
    assert len(told) == 2
    assert [str(warning.message).split(" since")[0] for warning in caught] == [
        "began= is called on_run_start=",
        "reached= is called on_row=",
    ]


def test_both_names_of_an_argument_or_too_many_arguments_are_refused():
    @former_arguments("third", second="other")
    def function(first, *, other=0, third=0):
        return first, other, third

    with pytest.warns(DeprecationWarning):
        assert function(1, 3, second=2) == (1, 2, 3)
    with pytest.raises(TypeError, match="second"):
        function(1, second=2, other=2)
    with pytest.warns(DeprecationWarning), pytest.raises(TypeError, match="third"):
        function(1, 3, third=3)
    with pytest.warns(DeprecationWarning), pytest.raises(TypeError, match="positional"):
        function(1, 3, 4)
