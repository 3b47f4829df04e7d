"""Evaluate a run and write its report: the public verb `report_run`, in three steps."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from pneumokeras.core.errors import one_line
from pneumokeras.data.audit import Audit, audit
from pneumokeras.data.dataset import WHOLE
from pneumokeras.evaluation import Comparison, Evaluation
from pneumokeras.evaluation.arguments import check_prevalence
from pneumokeras.explain.sanity_checks import check_explanations as checked_explanations
from pneumokeras.report.contents import ComparedRuns, ReportContents
from pneumokeras.report.evaluate_run import (
    EvaluatedRun,
    RunOnRadiographs,
    evaluate_loaded,
    load_run_and_radiographs,
)
from pneumokeras.report.examples import DISAGREEMENTS, examples, shown_examples
from pneumokeras.report.provenance import class_counts, facts, notices
from pneumokeras.report.write import require_report_folder, write_report
from pneumokeras.runs.folder import reading
from pneumokeras.runs.result import write_predictions


@dataclass(frozen=True, repr=False)
class Report:
    """A report that was written.

    Attributes:
        evaluation: its scores, curves and operating points.
        folder: the folder with `index.html`, `report.json` and the figures.
        notices: what a reader must know, a sentence each.
        comparison: of another run, the first, with this one, the second; `None` if there is no other.
    """

    evaluation: Evaluation
    folder: Path
    notices: tuple[str, ...]
    comparison: Comparison | None = None

    @property
    def further_notices(self) -> tuple[str, ...]:
        """The notices that the evaluation does not give by itself."""
        return tuple(notice for notice in self.notices if notice not in self.evaluation.warnings)

    def __repr__(self) -> str:
        """Return one line with the folder."""
        return f"<Report in {self.folder}: {self.evaluation!r}>"

    def _repr_html_(self) -> str:
        notices = "".join(f"<p>{escape(notice)}</p>" for notice in self.further_notices)
        compared = "" if self.comparison is None else self.comparison._repr_html_()
        page = f"<p>{escape(str(self.folder / 'index.html'))}</p>"
        return f"{page}{notices}{self.evaluation._repr_html_()}{compared}"


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

    `pneumokeras.report.evaluate_run.evaluate_run` gives the same numbers and writes nothing.

    Args:
        run: the folder of a finished run.
        data: radiographs to evaluate instead of the run's own; taken whole, never split.
        split: a split of the run, or of `data` if it has splits.
        out: folder for the report and its predictions; the run folder is then only read. By default `report`
            in the run, `report-<split>` for another split, or `report-data-...` for other radiographs.
        compare_with: the folder of another finished run, to be evaluated on the same radiographs.
        prevalence: share of PNEUMONIA, in (0, 1), to state predictive values at.
        images: put pictures of radiographs into the report; without them it holds numbers, curves and names.
        check_explanations: test how far the heatmaps can be trusted; this takes thousands of predictions.
        cache: keep the radiographs' features if the run's head was trained on cached features, so that the
            next report on the same backbone can use them.
        skip_bad: leave out radiographs that cannot be decoded; a notice names them.

    Returns:
        The report.

    Raises:
        RunError: if a run is missing or not finished.
        DataError: if there is no such split in `data`, the radiographs have no labels, one of them cannot be
            read, the folder for the report holds something else, or the other run has other radiographs in
            this split.
        SettingsError: if the run has no such split, or the prevalence does not lie between 0 and 1.
        ModelError: if a model cannot be loaded.

    Example:
        >>> report = pk.report_run("tuner_runs/first", images=False)
        >>> report.evaluation.split
        'test'
        >>> (report.folder / "index.html").exists()
        True
    """
    check_prevalence(prevalence)
    subject = load_run_and_radiographs(
        run, data=data, split=split, compare_with=compare_with, skip_bad=skip_bad
    )
    folder = _default_folder(subject) if out is None else Path(out)
    require_report_folder(folder)
    evaluated = evaluate_loaded(subject, prevalence=prevalence, cache=cache)
    contents = report_contents(evaluated, images=images, check_explanations=check_explanations)
    write_report(contents, folder)
    predictions = evaluated.evaluation.predictions
    if data is None and out is None:
        write_predictions(predictions, subject.folder.predictions_path(subject.split))
    write_predictions(predictions, folder / "predictions.csv")
    return Report(evaluated.evaluation, folder, tuple(contents.notices), evaluated.comparison)


def report_contents(
    evaluated: EvaluatedRun, *, images: bool = True, check_explanations: bool = False
) -> ReportContents:
    """Gather what a report shows of an evaluated run.

    Args:
        evaluated: the run and its evaluation, as `evaluate_run` returns them.
        images: as for `report_run`.
        check_explanations: as for `report_run`.

    Raises:
        DataError: if a radiograph cannot be read.
        ModelError: if the model cannot be explained.
    """
    subject, evaluation = evaluated.subject, evaluated.evaluation
    result, radiographs, description = subject.result, subject.radiographs, subject.description
    name = subject.split if subject.data is None else Path(subject.data).resolve().name
    pictures = shown_examples(result.model, radiographs, evaluation, description) if images else {}
    with reading(subject.folder.record_path):
        recorded: dict[str, Any] = {
            "class_counts": class_counts(subject),
            "kept_epoch": subject.record.get("best_epoch"),
            "objective": subject.record["settings"]["objective"],
            "facts": facts(subject, with_heatmaps=images),
        }
    return ReportContents(
        title=one_line(f"{description.architecture} on {name} radiographs"),
        evaluation=evaluation,
        history=result.history,
        trials=[trial.row() for trial in result.trials],
        notices=[*evaluation.warnings, *notices(subject)],
        columns=subject.columns,
        audit=_audit(subject),
        explanation_checks=checked_explanations(result.model, radiographs) if check_explanations else None,
        compared=_compared(evaluated, images=images),
        **recorded,
        **pictures,
    )


def _default_folder(subject: RunOnRadiographs) -> Path:
    suffix = "" if subject.split in ("test", WHOLE) else f"-{subject.split}"
    source = "" if subject.data is None else f"-data-{Path(subject.data).resolve().name}"
    folder = subject.folder.report_folder
    return folder.with_name(f"{folder.name}{source}{suffix}")


def _compared(evaluated: EvaluatedRun, *, images: bool) -> ComparedRuns | None:
    comparison, subject = evaluated.comparison, evaluated.subject
    if comparison is None:
        return None
    shown = comparison.disagreements[: DISAGREEMENTS if images else 0]
    return ComparedRuns(
        comparison,
        names=(str(comparison.first.run), subject.name),
        disagreements=examples(
            subject.radiographs, evaluated.evaluation.predictions, subject.description, shown
        )
        if shown.size
        else None,
    )


def _audit(subject: RunOnRadiographs) -> Audit:
    source = subject.record["data"]["path"] if subject.data is None else str(subject.data)
    return audit(subject.radiographs, source=source)
