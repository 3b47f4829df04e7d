"""Code that does something else has another hash; code that does the same has the same, in every process."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from pneumokeras.core.code import hash_of_code

FACTOR = 3


def scaled_by(factor):
    class Scale(keras.layers.Layer):
        """Multiplies."""

        def call(self, inputs):
            return inputs * factor

    return Scale


def with_factor(x):
    return x * FACTOR


def calling(x):
    return with_factor(x)


def attribute_only(x):
    return x.FACTOR


PAIRS = {
    "constants": (lambda x: x + 1, lambda x: x + 2),
    "operations": (lambda x: x + 1, lambda x: x * 1),
    "names of functions": (np.mean, np.median),
    "defaults": (lambda x, y=1: x * y, lambda x, y=2: x * y),
    "closures": (scaled_by(1.0), scaled_by(100.0)),
    "inner functions": (lambda x: lambda y: y + x, lambda x: lambda y: y - x),
    "arrays": (np.zeros(3), np.ones(3)),
    "attributes": (lambda x: x.mean(), lambda x: x.max()),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_what_differs_has_another_hash(one, other):
    assert hash_of_code(one) == hash_of_code(one)
    assert hash_of_code(one) != hash_of_code(other)


def test_what_only_looks_different_has_the_same():
    assert hash_of_code(lambda x: x + 1) == hash_of_code(
        lambda other_name: other_name + 1  # a comment
    )
    assert hash_of_code(scaled_by(2)) == hash_of_code(scaled_by(2))


@pytest.mark.parametrize("function", [with_factor, calling])
def test_a_global_that_is_used_counts(function, monkeypatch):
    before = hash_of_code(function)
    monkeypatch.setattr(f"{__name__}.FACTOR", 4)
    assert hash_of_code(function) != before


def test_a_global_that_is_called_like_an_attribute_does_not_count(monkeypatch):
    before = hash_of_code(attribute_only)
    monkeypatch.setattr(f"{__name__}.FACTOR", 4)
    assert hash_of_code(attribute_only) == before


def test_an_edited_method_of_a_base_class_counts(monkeypatch):
    class Base:
        def head(self, x):
            return x

    class Derived(Base):
        pass

    before = hash_of_code(Derived)
    monkeypatch.setattr(Base, "head", lambda self, x: -x)
    assert hash_of_code(Derived) != before


def test_what_refers_to_itself_has_an_end():
    def recursive(n):
        return recursive(n - 1)

    class Own:
        pass

    own = Own()
    own.itself = own
    assert hash_of_code(recursive, own) == hash_of_code(recursive, own)


def test_it_is_the_same_in_another_process():
    program = "import tests.test_code as t; print(t.hash_of_code(t.calling, t.scaled_by(2), {'a', 'b', 'c'}))"
    project = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hash_of_code(calling, scaled_by(2), {"a", "b", "c"})
