"""From a run folder to its report: which radiographs, which examples, what a reader has to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.data.datasets import RadiographSet, load_radiographs, read_manifest
from pneumokeras.data.phantoms import are_phantoms
from pneumokeras.data.sets import WHOLE, said_of
from pneumokeras.errors import DataError, one_line
from pneumokeras.evaluation import Evaluation, evaluate_predictions
from pneumokeras.explain.panels import explain, read_panels
from pneumokeras.files import read_csv
from pneumokeras.inference import predict
from pneumokeras.keeping import TuningResult, load_run, write_predictions
from pneumokeras.models.saved import ModelDescription, describe
from pneumokeras.report.contents import Examples, ReportContents
from pneumokeras.report.writing import require_report_folder, write_report
from pneumokeras.runs import Run, open_run
from pneumokeras.searching import in_words

SAMPLES_PER_CLASS = 4
PREDICTION_EXAMPLES = 12
EXPLAINED_PER_OUTCOME = 2


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
        cache: keep the radiographs' features if the run's head was trained on stored ones, so that the next
            report on the same backbone finds them.
        skip_bad: leave out radiographs that cannot be decoded; a notice names them.

    Returns:
        The report.

    Raises:
        RunError: if the run is missing or not finished.
        DataError: if there is no such split, it has no labels, a radiograph cannot be read, or the folder
            for the report holds something else.
        ModelError: if the model cannot be loaded.
    """
    result, folder = load_run(run), open_run(run)
    description = describe(result.model)
    radiographs = _radiographs(folder, data, split, description)
    if skip_bad:
        radiographs = radiographs.without_bad()
    split = radiographs.split or WHOLE
    target = Path(out) if out is not None else _default_folder(folder, data, split)
    require_report_folder(target)
    predictions = predict(result.model, radiographs, cache=cache)
    evaluation = evaluate_predictions(
        predictions,
        operating_points=result.operating_points,
        split=split,
        run=one_line(folder.folder.resolve().name),
        data=None if data is None else one_line(str(Path(data).absolute())),
    )
    record = folder.record()
    notices = tuple(map(one_line, _notices(record, folder, radiographs, data, split, description)))
    name = split if data is None else Path(data).resolve().name
    contents = ReportContents(
        title=one_line(f"{description.architecture} on {name} radiographs"),
        evaluation=evaluation,
        class_counts=_class_counts(record, radiographs, data),
        history=result.history,
        trials=[trial.row() for trial in result.trials],
        objective=record["settings"]["objective"],
        facts=_facts(record, description, result, data),
        notices=notices,
        samples=_samples(radiographs, evaluation, description),
        predictions=_predicted(radiographs, evaluation, description),
        explanations=_explained(result, radiographs, evaluation),
    )
    write_report(contents, target)
    own = data is None and out is None
    write_predictions(predictions, folder.predictions_path(split) if own else target / "predictions.csv")
    return Report(evaluation, target, notices)


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


def _notices(
    record: dict[str, Any],
    run: Run,
    radiographs: RadiographSet,
    data: str | PathLike[str] | None,
    split: str,
    description: ModelDescription,
) -> list[str]:
    notices = list(record["data"]["notices"])
    if data is not None:
        notices = [f"Of the training data: {notice}" for notice in notices]
        if are_phantoms(radiographs.images):
            notices.insert(
                0, "These radiographs are synthetic drawings: the figures say nothing about patients."
            )
    if description.began_random:
        notices.append(
            f"The backbone's weights are {description.weights}: no ImageNet training is behind these figures."
        )
    if radiographs.skipped:
        notices.append(said_of(radiographs.skipped))
    if split != "test" and data is None:
        notices.append(
            f"These are {split} radiographs, which the model or its threshold was chosen on: figures flatter."
        )
    if data is not None or split == "test":
        seen = _seen_in_training(run, radiographs)
        if seen:
            notices.append(
                f"{len(seen)} of these {len(radiographs)} radiographs "
                f"{'was' if len(seen) == 1 else 'were'} also trained or chosen on "
                f"(same content), such as {Path(seen[0]).name}: figures flatter."
            )
    return notices


def _seen_in_training(run: Run, radiographs: RadiographSet) -> list[str]:
    """The names of those whose content the run trained or chose on."""
    learned = {row["digest"] for row in read_csv(run.splits_path) if row["split"] in ("train", "val")}
    pairs = zip(radiographs.names, radiographs.digests, strict=True)
    return [name for name, digest in pairs if digest in learned]


def _class_counts(
    record: dict[str, Any], radiographs: RadiographSet, data: str | PathLike[str] | None
) -> dict[str, dict[str, int]]:
    counts = {split: counts for split, counts in record["data"]["counts"].items() if sum(counts.values())}
    return counts if data is None else {**counts, "evaluated": radiographs.counts}


def _facts(
    record: dict[str, Any],
    description: ModelDescription,
    result: TuningResult,
    data: str | PathLike[str] | None,
) -> dict[str, str]:
    settings = record["settings"]
    facts = {
        "command": record["command"],
        "radiographs": record["data"]["path"],
        "data fingerprint": record["data"]["fingerprint"],
        "model": f"{description.architecture}, {' x '.join(map(str, description.image_size))} pixels",
        "preprocessing": description.preprocessing,
        "weights": description.weights,
        **_search(record),
        **_fine_tuning(settings.get("fine_tune", ())),
        **({"winner": in_words(result.best_hyperparameters)} if result.best_hyperparameters else {}),
        "seed": str(record["seed"]),
        "time": ", ".join(f"{name} {seconds:.0f} s" for name, seconds in record["timings"].items()),
        "started": record["started"],
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    if data is not None:
        facts = {"evaluated radiographs": str(Path(data).absolute()), **facts}
    return {name: one_line(fact) for name, fact in facts.items()}


def _search(record: Mapping[str, Any]) -> dict[str, str]:
    settings = record["settings"]
    if "max_trials" not in settings:
        return {}
    told = f"{settings['max_trials']} trials of at most {settings['epochs']} epochs"
    precision = "; features in bfloat16" if record.get("precision") == "bfloat16" else ""
    return {"search": f"{told}, ranked by {settings['objective']}{precision}"}


def _fine_tuning(stages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What was trained after the head, a clause a stage."""
    told = [
        f"{stage['trainable']}, at most {stage['epochs']} epochs at learning rate {stage['learning_rate']:g}"
        for stage in stages
    ]
    return {"fine-tuning": "; ".join(told)} if told else {}


def _samples(radiographs: RadiographSet, evaluation: Evaluation, description: ModelDescription) -> Examples:
    """A few radiographs of each class, drawn blindly."""
    rng = np.random.default_rng(0)
    labels = radiographs.require_labels()
    chosen = [rng.permutation(np.flatnonzero(labels == value))[:SAMPLES_PER_CLASS] for value in (0, 1)]
    return _examples(radiographs, evaluation, description, np.concatenate(chosen))


def _predicted(radiographs: RadiographSet, evaluation: Evaluation, description: ModelDescription) -> Examples:
    """The most confident mistakes of both kinds, filled up with radiographs drawn blindly."""
    wrong = evaluation.misclassified(evaluation.chosen)
    mistakes = np.concatenate([wrong.false_negatives[:3], wrong.false_positives[:3]])
    others = np.random.default_rng(1).permutation(np.setdiff1d(np.arange(len(radiographs)), mistakes))
    chosen = np.concatenate([mistakes, others])[:PREDICTION_EXAMPLES]
    return _examples(radiographs, evaluation, description, chosen)


def _explained(result: TuningResult, radiographs: RadiographSet, evaluation: Evaluation) -> Examples:
    """Heatmaps for the most confident calls and mistakes."""
    probabilities, labels = evaluation.predictions.probabilities, radiographs.require_labels()
    wrong = evaluation.misclassified(evaluation.chosen)
    mistakes = np.concatenate([wrong.false_negatives, wrong.false_positives])
    right = np.setdiff1d(np.arange(len(radiographs)), mistakes)
    rising = right[np.argsort(probabilities[right], kind="stable")]
    outcomes = (
        rising[labels[rising] == 1][::-1],
        wrong.false_negatives,
        wrong.false_positives,
        rising[labels[rising] == 0],
    )
    chosen = np.concatenate([outcome[:EXPLAINED_PER_OUTCOME] for outcome in outcomes]).astype(int)
    panels = explain(result.model, radiographs.subset(chosen))
    return replace(
        _at(radiographs, evaluation, chosen, panels.images),
        heatmaps=panels.heatmaps,
        overlays=panels.overlays,
    )


def _examples(
    radiographs: RadiographSet, evaluation: Evaluation, description: ModelDescription, chosen: np.ndarray
) -> Examples:
    images = read_panels(radiographs.subset(chosen), description.image_size, pad=description.pad)
    return _at(radiographs, evaluation, chosen, images)


def _at(
    radiographs: RadiographSet, evaluation: Evaluation, chosen: np.ndarray, images: np.ndarray
) -> Examples:
    return Examples(
        names=[one_line(Path(name).name) for name in radiographs.names[chosen]],
        images=images,
        labels=radiographs.require_labels()[chosen],
        probabilities=evaluation.predictions.probabilities[chosen],
    )
