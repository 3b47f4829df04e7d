"""From a run folder to its report: which radiographs, which examples, what a reader has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from pneumokeras.core.errors import DataError, one_line
from pneumokeras.core.files import read_csv
from pneumokeras.data.audit import Audit, audit
from pneumokeras.data.dataset import WHOLE, RadiographSet
from pneumokeras.data.from_path import load_radiographs
from pneumokeras.data.readers.manifest import read_manifest
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import Evaluation, Predictions, compare, evaluate_predictions
from pneumokeras.evaluation.arguments import check_prevalence
from pneumokeras.explain.gradcam import METHOD
from pneumokeras.explain.sanity_checks import check_explanations as checked_explanations
from pneumokeras.models.saving import ModelDescription, description_of
from pneumokeras.report.contents import ComparedRuns, ReportContents
from pneumokeras.report.examples import DISAGREEMENTS, examples, shown_examples
from pneumokeras.report.provenance import class_counts, facts, notices, seen_in_training
from pneumokeras.report.write import require_report_folder, write_report
from pneumokeras.runs.folder import Run, open_run
from pneumokeras.runs.result import TuningResult, load_run, write_predictions
from pneumokeras.training.predict import predict

MAX_SUBGROUPS = 20  # of a column; one with more values, such as an age, is not a grouping


@dataclass(frozen=True)
class Report:
    """A report as written.

    Attributes:
        evaluation: the figures in it.
        folder: where `index.html`, `report.json` and the figures lie.
        notices: what a reader has to know, a sentence each.
    """

    evaluation: Evaluation
    folder: Path
    notices: tuple[str, ...]


def report_run(
    run: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    split: str = "test",
    out: str | PathLike[str] | None = None,
    compare_with: str | PathLike[str] | None = None,
    prevalence: float | None = None,
    images: bool = True,
    check_explanations: bool = False,
    cache: bool = True,
    skip_bad: bool = False,
) -> Report:
    """Evaluate a run's model and write the report.

    Args:
        run: the folder of a finished run.
        data: radiographs to evaluate instead of the run's own; taken whole, never split.
        split: which split of the run, or of `data` if it has splits.
        out: folder for the report and its predictions; the run folder is then only read. By default `report`
            in the run, `report-<split>` for another split, or `report-data-...` for other radiographs.
        compare_with: the folder of another finished run, to be evaluated on the same radiographs.
        prevalence: share of PNEUMONIA, in (0, 1), to state predictive values at.
        images: put pictures of radiographs into the report; without, it holds figures and names only.
        check_explanations: test how far the heatmaps can be believed; the model is asked some thousand times.
        cache: keep the radiographs' features if the run's head was trained on stored ones, so that the next
            report on the same backbone finds them.
        skip_bad: leave out radiographs that cannot be decoded; a notice names them.

    Returns:
        The report.

    Raises:
        RunError: if a run is missing or not finished.
        DataError: if there is no such split, it has no labels, a radiograph cannot be read, the folder for
            the report holds something else, the other run has other radiographs in this split, or the
            prevalence does not lie between 0 and 1.
        ModelError: if a model cannot be loaded.
    """
    if prevalence is not None:
        check_prevalence(prevalence)
    result, folder = load_run(run), open_run(run)
    other = None if compare_with is None else load_run(compare_with)
    description, record = description_of(result.model), folder.record()
    radiographs = _radiographs(folder, data, split, description)
    if other is not None and data is None:
        require_same_radiographs(folder, open_run(other.run), split)
    if skip_bad:
        radiographs = radiographs.without_bad()
    split = radiographs.split or WHOLE
    target = Path(out) if out is not None else _default_folder(folder, data, split)
    require_report_folder(target)
    predictions = predict(result.model, radiographs, cache=cache)
    columns, ungrouped = _columns(radiographs)
    evaluation = evaluate_predictions(
        predictions,
        operating_points=result.operating_points,
        split=split,
        run=one_line(folder.folder.resolve().name),
        data=None if data is None else one_line(str(Path(data).absolute())),
        validation=None if data is None and split == "val" else _validation(folder, description.classes),
        columns={name: columns[name] for name in columns if name not in ungrouped},
        prevalence=prevalence,
    )
    told = notices(
        record, run=folder, radiographs=radiographs, data=data, split=split, description=description
    )
    told += [f"Column {name} has more than {MAX_SUBGROUPS} values: no subgroups." for name in ungrouped]
    compared = None
    if other is not None:
        told += seen_in_training(open_run(other.run), radiographs, whose=f" by {other.run.resolve().name}")
        compared = _compared(other, evaluation, radiographs, images=images, cache=cache)
    name = split if data is None else Path(data).resolve().name
    contents = ReportContents(
        title=one_line(f"{description.architecture} on {name} radiographs"),
        evaluation=evaluation,
        class_counts=class_counts(record, radiographs, data),
        history=result.history,
        kept_epoch=record.get("best_epoch"),
        trials=[trial.row() for trial in result.trials],
        objective=record["settings"]["objective"],
        facts=facts(
            record,
            description=description,
            best_hyperparameters=result.best_hyperparameters,
            data=data,
            heatmaps=METHOD if images else "",
        ),
        notices=[one_line(notice) for notice in told],
        columns=columns,
        audit=_audit(radiographs, data, record["data"]["path"]),
        explanation_checks=checked_explanations(result.model, radiographs) if check_explanations else None,
        compared=compared,
        model=description.json(),
        **(shown_examples(result.model, radiographs, evaluation) if images else {}),
    )
    write_report(contents, target)
    if data is None and out is None:
        write_predictions(predictions, folder.predictions_path(split))
    write_predictions(predictions, target / "predictions.csv")
    return Report(evaluation, target, tuple(contents.notices))


def _radiographs(
    run: Run, data: str | PathLike[str] | None, split: str, description: ModelDescription
) -> RadiographSet:
    if data is not None:
        return load_radiographs(data, split=split, classes=description.classes)
    found = read_manifest(run.splits_path, classes=description.classes)
    if split not in found:
        raise DataError(
            f"The run has no {split} split. Name radiographs with --data, or another split with --split."
        )
    return found[split]


def _default_folder(run: Run, data: str | PathLike[str] | None, split: str) -> Path:
    suffix = "" if split in ("test", WHOLE) else f"-{split}"
    source = "" if data is None else f"-data-{Path(data).resolve().name}"
    return run.report_folder.with_name(f"{run.report_folder.name}{source}{suffix}")


def _columns(radiographs: RadiographSet) -> tuple[dict[str, np.ndarray], list[str]]:
    """What else is known of each radiograph, by name; and which columns have too many values to group by."""
    columns = {"subtype": radiographs.subtypes, **radiographs.columns}
    told = {name: values for name, values in columns.items() if (values != "").any()}
    return told, [name for name, values in told.items() if np.unique(values).size > MAX_SUBGROUPS]


def _validation(run: Run, classes: tuple[str, str]) -> Predictions | None:
    """What the run's model said of validation; `None` if nobody kept it or a class is missing there."""
    path = run.predictions_path("val")
    rows = read_csv(path) if path.exists() else []
    if {row["label"] for row in rows} != set(classes):
        return None
    return Predictions(
        names=np.array([row["path"] for row in rows]),
        patients=np.array([row["patient"] for row in rows]),
        labels=np.array([classes.index(row["label"]) for row in rows]),
        probabilities=np.array([float(row["probability"]) for row in rows]),
        class_names=classes,
    )


def _compared(
    other: TuningResult, evaluation: Evaluation, radiographs: RadiographSet, *, images: bool, cache: bool
) -> ComparedRuns:
    """Another run's model on the same radiographs, beside this one's evaluation."""
    name = one_line(other.run.resolve().name)
    theirs = evaluate_predictions(
        predict(other.model, radiographs, cache=cache),
        operating_points=other.operating_points,
        split=evaluation.split,
        run=name,
        data=evaluation.data,
    )
    comparison = compare(theirs, evaluation)
    shown = comparison.disagreements[:DISAGREEMENTS]
    return ComparedRuns(
        comparison,
        (name, evaluation.run or "this run"),
        examples(radiographs, evaluation.predictions, description_of(other.model), shown)
        if images and shown.size
        else None,
    )


def _audit(radiographs: RadiographSet, data: str | PathLike[str] | None, source: str) -> Audit:
    """Of the evaluated radiographs alone: each is decoded once more, which takes a millisecond or two."""
    none = radiographs.subset([])
    source = source if data is None else str(data)
    return audit(Splits(none, none, radiographs, source=source))


NAMED = 3  # radiographs named in an error


def require_same_radiographs(first: Run, second: Run, split: str) -> None:
    """Refuse two runs whose splits of one name are not the same radiographs with the same labels.

    They are compared by content, wherever the files lie and whatever they are called.

    Raises:
        DataError: if the splits differ; the message names the difference.
    """
    ours, theirs = _labels_by_content(first, split), _labels_by_content(second, split)
    differences = [
        *_only(first, {content: ours[content] for content in ours.keys() - theirs.keys()}),
        *_only(second, {content: theirs[content] for content in theirs.keys() - ours.keys()}),
    ]
    relabeled = {
        content: name
        for content, (name, label) in ours.items()
        if content in theirs and theirs[content][1] != label
    }
    if relabeled:
        differences.append(f"{len(relabeled)} have other labels, such as {min(relabeled.values())}")
    if differences:
        raise DataError(
            one_line(
                f"{first.folder} and {second.folder} do not have the same {split} radiographs: "
                f"{'; '.join(differences)}. Evaluate both on the same other ones, with --data."
            )
        )


def _labels_by_content(run: Run, split: str) -> dict[str, tuple[str, str]]:
    """For the content of each radiograph its file's name and its label."""
    return {
        row["digest"]: (Path(row["path"]).name, row["label"])
        for row in read_csv(run.splits_path)
        if row["split"] == split
    }


def _only(run: Run, found: Mapping[str, tuple[str, str]]) -> list[str]:
    if not found:
        return []
    names = sorted(name for name, _ in found.values())
    some = ", ".join(names[:NAMED]) + (" and more" if len(names) > NAMED else "")
    return [f"{len(names)} only in {run.folder.name} ({some})"]
