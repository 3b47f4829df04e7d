"""How a run was made, and what a reader must know first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumokeras.core.errors import one_line
from pneumokeras.core.words import number_of
from pneumokeras.data.dataset import RadiographSet, skipped_notice
from pneumokeras.data.readers.synthetic import are_phantoms
from pneumokeras.explain.gradcam import METHOD
from pneumokeras.report.evaluate_run import MAX_SUBGROUPS, RunOnRadiographs
from pneumokeras.runs.folder import Run, open_run
from pneumokeras.runs.trials import format_hyperparameters


def facts(subject: RunOnRadiographs, *, with_heatmaps: bool) -> dict[str, str]:
    """Return how a run was made, by name, each fact on one line; empty facts are left out.

    Args:
        subject: the run and the radiographs it was evaluated on.
        with_heatmaps: whether to name the method of the heatmaps.
    """
    record, description, data = subject.record, subject.description, subject.data
    settings, trained_on = record["settings"], record["data"]
    height, width = description.image_size
    values = {
        "evaluated radiographs": "" if data is None else str(Path(data).absolute()),
        "command": record["command"],
        "radiographs": trained_on["path"],
        "data fingerprint": trained_on["fingerprint"],
        "model": f"{description.architecture}, {height} x {width} pixels",
        "preprocessing": description.preprocessing,
        "weights": description.weights,
        "search": _search(settings, precision=record.get("precision")),
        "training": _stages(settings.get("stages", ())),
        "fine-tuning": _stages(settings.get("fine_tune", ())),
        "winner": format_hyperparameters(subject.result.best_hyperparameters),
        "seed": str(record["seed"]),
        "time": ", ".join(
            f"{name} {seconds:.0f} s" for name, seconds in record["timings"].items() if seconds >= 1
        ),
        "started": record["started"],
        "heatmaps": METHOD if with_heatmaps else "",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    return {name: one_line(value) for name, value in values.items() if value}


def notices(subject: RunOnRadiographs) -> list[str]:
    """Return what a reader must know before reading on, a sentence each, on one line."""
    radiographs, split, description = subject.radiographs, subject.split, subject.description
    sentences = list(subject.record["data"]["notices"])
    if subject.data is not None:
        sentences = [f"About the training data: {sentence}" for sentence in sentences]
        if are_phantoms(radiographs.images):
            sentences.insert(
                0, "These radiographs are synthetic drawings: the figures say nothing about patients."
            )
    if description.began_random:
        sentences.append(
            f"The backbone's weights are {description.weights}: these figures do not depend on ImageNet."
        )
    if radiographs.skipped:
        sentences.append(skipped_notice(radiographs.skipped))
    if subject.data is None and split != "test":
        sentences.append(
            f"These {split} radiographs were used to choose the model or its threshold,"
            " so these figures are optimistic."
        )
    else:
        sentences += _seen_in_training(subject.folder, radiographs)
    sentences += [
        f"Column {name} has more than {MAX_SUBGROUPS} values, so it defines no subgroups."
        for name in subject.ungrouped_columns
    ]
    if subject.other is not None:
        other = open_run(subject.other.run)
        sentences += _seen_in_training(other, radiographs, whose=f" of {other.folder.resolve().name}")
    return [one_line(sentence) for sentence in sentences]


def class_counts(subject: RunOnRadiographs) -> dict[str, dict[str, int]]:
    """Count images by class in each split of the run that has any, and in other radiographs evaluated."""
    splits = subject.record["data"]["counts"]
    counts = {split: counts for split, counts in splits.items() if sum(counts.values())}
    return counts if subject.data is None else {**counts, "evaluated": subject.radiographs.counts}


def _seen_in_training(run: Run, radiographs: RadiographSet, *, whose: str = "") -> list[str]:
    """Return a sentence on radiographs with the content of a training or validation radiograph of a run."""
    learned = {row["digest"] for row in run.split_rows() if row["split"] in ("train", "val")}
    pairs = zip(radiographs.names, radiographs.digests, strict=True)
    seen = [name for name, digest in pairs if digest in learned]
    if not seen:
        return []
    return [
        f"{len(seen)} of these {len(radiographs)} radiographs {'was' if len(seen) == 1 else 'were'} also used"
        f" to train or choose the model{whose} (same content), such as {Path(seen[0]).name},"
        " so these figures are optimistic."
    ]


def _search(settings: Mapping[str, Any], *, precision: str | None) -> str:
    if "max_trials" not in settings:
        return ""
    return (
        f"{number_of(settings['max_trials'], 'trial')} of at most {number_of(settings['epochs'], 'epoch')}, "
        f"ranked by {settings['objective']}" + ("; features in bfloat16" if precision == "bfloat16" else "")
    )


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """Describe what was trained, a clause for each stage."""
    return "; ".join(
        f"{stage['trainable']}, at most {number_of(stage['epochs'], 'epoch')}"
        f" at learning rate {_rate(stage['learning_rate'])}"
        for stage in stages
    )


def _rate(rate: float | Mapping[str, float]) -> str:
    if isinstance(rate, Mapping):
        return ", ".join(f"{value:g} ({part})" for part, value in rate.items())
    return f"{rate:g}"
