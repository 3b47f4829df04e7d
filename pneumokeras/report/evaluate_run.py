"""Evaluate a finished run on its own radiographs or on others; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import DataError, SettingsError, one_line
from pneumokeras.core.words import some_names
from pneumokeras.data.dataset import WHOLE, RadiographSet
from pneumokeras.data.from_path import load_radiographs
from pneumokeras.data.readers.manifest import read_manifest
from pneumokeras.evaluation import Comparison, Evaluation, Predictions, compare, evaluate_predictions
from pneumokeras.evaluation.arguments import check_prevalence, has_both_classes
from pneumokeras.models.saving import ModelDescription, description_of
from pneumokeras.runs.folder import Run, open_run
from pneumokeras.runs.result import RunResult, load_run, read_predictions
from pneumokeras.training.predict import predict

MAX_SUBGROUPS = 20
"""A column with more values, such as an age, does not divide the radiographs into subgroups."""


@dataclass(frozen=True, eq=False)
class RunOnRadiographs:
    """A finished run and the radiographs to evaluate it on.

    Attributes:
        result: the run, with its model.
        folder: the run folder.
        record: the content of its run.json.
        description: the model's.
        radiographs: the whole set, with labels.
        data: their path as given; `None` if they are the run's own.
        other: another run to compare with, if any.
    """

    result: RunResult
    folder: Run
    record: Mapping[str, Any]
    description: ModelDescription
    radiographs: RadiographSet
    data: str | PathLike[str] | None = None
    other: RunResult | None = None

    @property
    def name(self) -> str:
        """The run folder's name, on one line."""
        return _name_of(self.folder.folder)

    @property
    def split(self) -> str:
        """The radiographs' split: `"test"`, `"val"`, `"train"`, or `"all"` for a whole set."""
        return self.radiographs.split or WHOLE

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Further columns of the radiographs: `(n,)` strings for each that has any value."""
        columns = {"subtype": self.radiographs.subtypes, **self.radiographs.columns}
        return {name: values for name, values in columns.items() if (values != "").any()}

    @cached_property
    def ungrouped_columns(self) -> tuple[str, ...]:
        """Names of the columns with more than `MAX_SUBGROUPS` values."""
        return tuple(name for name, values in self.columns.items() if np.unique(values).size > MAX_SUBGROUPS)


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """A run with its evaluation on a set of radiographs.

    Attributes:
        subject: the run and the radiographs.
        evaluation: scores, curves and operating points.
        comparison: the other run's evaluation compared with this one's, if there is another run.
    """

    subject: RunOnRadiographs
    evaluation: Evaluation
    comparison: Comparison | None = None


def evaluate_run(
    run: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    split: str = "test",
    compare_with: str | PathLike[str] | None = None,
    prevalence: float | None = None,
    cache: bool = True,
    skip_bad: bool = False,
) -> EvaluatedRun:
    """Evaluate a run's model without writing anything; arguments and errors are as for `report_run`.

    Returns:
        The run, the radiographs and the evaluation.

    Example:
        >>> from pneumokeras.report.evaluate_run import evaluate_run
        >>> evaluated = evaluate_run("tuner_runs/first", prevalence=0.1)
        >>> sorted(evaluated.evaluation.operating_points)
        ['default', 'oracle', 'validation']
    """
    check_prevalence(prevalence)
    subject = load_run_and_radiographs(
        run, data=data, split=split, compare_with=compare_with, skip_bad=skip_bad
    )
    return evaluate_loaded(subject, prevalence=prevalence, cache=cache)


def load_run_and_radiographs(
    run: str | PathLike[str],
    *,
    data: str | PathLike[str] | None,
    split: str,
    compare_with: str | PathLike[str] | None,
    skip_bad: bool,
) -> RunOnRadiographs:
    """Load a run, the radiographs and the other run; arguments and errors are those of `evaluate_run`."""
    result, folder = load_run(run), open_run(run)
    other = None if compare_with is None else load_run(compare_with)
    description = description_of(result.model)
    radiographs = (
        _split_of_run(folder, split, description.classes)
        if data is None
        else load_radiographs(data, split=split, classes=description.classes)
    )
    if other is not None and data is None:
        require_same_radiographs(folder, open_run(other.run), split)
    return RunOnRadiographs(
        result=result,
        folder=folder,
        record=folder.record(),
        description=description,
        radiographs=radiographs.without_bad() if skip_bad else radiographs,
        data=data,
        other=other,
    )


def evaluate_loaded(subject: RunOnRadiographs, *, prevalence: float | None, cache: bool) -> EvaluatedRun:
    """Evaluate a run on radiographs, both loaded, and compare it with the other run if there is one."""
    data = None if subject.data is None else one_line(str(Path(subject.data).absolute()))
    evaluation = evaluate_predictions(
        predict(subject.result.model, subject.radiographs, cache=cache),
        operating_points=subject.result.operating_points,
        split=subject.split,
        run=subject.name,
        data=data,
        validation=None if data is None and subject.split == "val" else _validation(subject),
        columns={
            name: values for name, values in subject.columns.items() if name not in subject.ungrouped_columns
        },
        prevalence=prevalence,
    )
    if subject.other is None:
        return EvaluatedRun(subject, evaluation)
    others = evaluate_predictions(
        predict(subject.other.model, subject.radiographs, cache=cache),
        operating_points=subject.other.operating_points,
        split=subject.split,
        run=_name_of(subject.other.run),
        data=data,
    )
    return EvaluatedRun(subject, evaluation, compare(others, evaluation))


def require_same_radiographs(first: Run, second: Run, split: str) -> None:
    """Refuse two runs whose splits of one name are not the same radiographs with the same labels.

    Radiographs are compared by content, wherever the files lie and whatever they are called.

    Raises:
        DataError: if the splits differ; the message names the difference.
    """
    ours, theirs = _labels_by_content(first, split), _labels_by_content(second, split)
    differences = [
        *_only_in(first, {content: ours[content] for content in ours.keys() - theirs.keys()}),
        *_only_in(second, {content: theirs[content] for content in theirs.keys() - ours.keys()}),
    ]
    relabeled = [
        name for content, (name, label) in ours.items() if content in theirs and theirs[content][1] != label
    ]
    if relabeled:
        differences.append(f"{len(relabeled)} have other labels, such as {min(relabeled)}")
    if differences:
        raise DataError(
            f"{first.folder} and {second.folder} do not have the same {split} radiographs: "
            f"{'; '.join(differences)}. Evaluate both on other radiographs with `data`.",
            parameter="compare_with",
        )


def _name_of(folder: Path) -> str:
    return one_line(folder.resolve().name)


def _split_of_run(run: Run, split: str, classes: tuple[str, str]) -> RadiographSet:
    run.split_rows()  # a damaged file is named as the run's
    found = read_manifest(run.splits_path, classes=classes)
    if split not in found:
        raise SettingsError(
            f"The run has no {split} split. Choose another with `split`, or other radiographs with `data`.",
            parameter="split",
        )
    return found[split]


def _validation(subject: RunOnRadiographs) -> Predictions | None:
    """Return the run's predictions of its val split; `None` if they are missing or lack a class."""
    path = subject.folder.predictions_path("val")
    if not path.exists():
        return None
    predictions = read_predictions(path, class_names=subject.description.classes)
    labels = predictions.labels
    return predictions if labels is not None and has_both_classes(labels) else None


def _labels_by_content(run: Run, split: str) -> dict[str, tuple[str, str]]:
    """Return each radiograph's file name and label, by the digest of its content."""
    return {
        row["digest"]: (Path(row["path"]).name, row["label"])
        for row in run.split_rows()
        if row["split"] == split
    }


def _only_in(run: Run, found: Mapping[str, tuple[str, str]]) -> list[str]:
    if not found:
        return []
    names = sorted(name for name, _ in found.values())
    return [f"{len(names)} only in {run.folder.name} ({some_names(names)})"]
