"""Every public name shows how it is used, and what it shows is true: the examples in docstrings run."""

import doctest
import inspect
import io
import shutil

import numpy as np
import pytest

import pneumokeras as pk

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

NEEDS_NO_EXAMPLE = {
    "download_kaggle",  # the tests are offline, and an example that never runs is soon wrong
    "download_pneumoniamnist",
    *(  # nobody constructs an error; the functions that raise it say when
        name
        for name in pk.__all__
        if inspect.isclass(getattr(pk, name)) and issubclass(getattr(pk, name), Exception)
    ),
}


@pytest.fixture(scope="module")
def finished_work(tmp_path_factory):
    """A folder with `chest_xray/` (phantoms), `tuner_runs/first/` (a finished run) and `model.keras`."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pk.write_phantoms("chest_xray", count=96, seed=0, size=64)
        pk.tune(
            pk.CompactCNNHyperModel(input_shape=(32, 32, 1)),
            pk.load_splits("chest_xray"),
            max_trials=1,
            epochs=1,
            views=1,
            run="tuner_runs/first",
        )
    shutil.copy(folder / "tuner_runs" / "first" / "model.keras", folder)
    return folder


def examples_of(name):
    """The docstrings of a public name, its own and its methods', that hold examples."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(getattr(pk, name), name, globs={"pk": pk, "np": np})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", pk.__all__)
def test_examples_are_true(name, finished_work, tmp_path, monkeypatch):
    examples = examples_of(name)
    if not examples:
        return  # whether there has to be one is the next test's question
    folder = tmp_path / "work"
    shutil.copytree(finished_work, folder)
    monkeypatch.chdir(folder)
    failures = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    for example in examples:
        runner.run(example, out=failures.write)
    assert not failures.getvalue(), failures.getvalue()
    assert runner.tries or name in NEEDS_NO_EXAMPLE


def test_every_public_name_has_an_example():
    without = []
    for name in pk.__all__:
        _, heading, section = inspect.getdoc(getattr(pk, name)).partition("\nExample:\n")
        if not (heading and doctest.DocTestParser().get_examples(section)):
            without.append(name)
    assert sorted(set(without) - NEEDS_NO_EXAMPLE) == []
