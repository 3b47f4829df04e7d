"""What a report says in words: how it was made, and what a reader has to know first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pneumokeras.core.errors import one_line
from pneumokeras.core.files import read_csv
from pneumokeras.data.dataset import RadiographSet, skipped_notice
from pneumokeras.data.readers.synthetic import are_phantoms
from pneumokeras.models.saving import ModelDescription
from pneumokeras.runs.folder import Run
from pneumokeras.runs.trials import format_hyperparameters


def facts(
    record: Mapping[str, Any],
    *,
    description: ModelDescription,
    best_hyperparameters: Mapping[str, Any],
    data: str | PathLike[str] | None,
    heatmaps: str,
) -> dict[str, str]:
    """How a run was made, by name, each on one line.

    Args:
        record: what `run.json` says.
        description: of the model.
        best_hyperparameters: the winner's of a search; empty if there was none.
        data: other radiographs that were evaluated, if it was not the run's own.
        heatmaps: the method they are made by.
    """
    settings = record["settings"]
    told = {
        "evaluated radiographs": "" if data is None else str(Path(data).absolute()),
        "command": record["command"],
        "radiographs": record["data"]["path"],
        "data fingerprint": record["data"]["fingerprint"],
        "model": f"{description.architecture}, {' x '.join(map(str, description.image_size))} pixels",
        "preprocessing": description.preprocessing,
        "weights": description.weights,
        "search": _search(record),
        "training": _stages(settings.get("stages", ())),
        "fine-tuning": _stages(settings.get("fine_tune", ())),
        "winner": format_hyperparameters(best_hyperparameters) if best_hyperparameters else "",
        "seed": str(record["seed"]),
        "time": ", ".join(
            f"{name} {seconds:.0f} s" for name, seconds in record["timings"].items() if seconds >= 1
        ),
        "started": record["started"],
        "heatmaps": heatmaps,
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    return {name: one_line(fact) for name, fact in told.items() if fact}


def notices(
    record: Mapping[str, Any],
    *,
    run: Run,
    radiographs: RadiographSet,
    data: str | PathLike[str] | None,
    split: str,
    description: ModelDescription,
) -> list[str]:
    """What a reader must know before reading on, a sentence each.

    Args:
        record: what `run.json` says.
        run: the run folder.
        radiographs: those evaluated.
        data: where they are from, if they are not the run's own.
        split: which split they are.
        description: of the model.
    """
    told = list(record["data"]["notices"])
    if data is not None:
        told = [f"Of the training data: {notice}" for notice in told]
        if are_phantoms(radiographs.images):
            told.insert(
                0, "These radiographs are synthetic drawings: the figures say nothing about patients."
            )
    if description.began_random:
        told.append(
            f"The backbone's weights are {description.weights}: no ImageNet training is behind these figures."
        )
    if radiographs.skipped:
        told.append(skipped_notice(radiographs.skipped))
    if split != "test" and data is None:
        told.append(
            f"These are {split} radiographs, which the model or its threshold was chosen on: figures flatter."
        )
    if data is not None or split == "test":
        told += seen_in_training(run, radiographs)
    return told


def seen_in_training(run: Run, radiographs: RadiographSet, *, whose: str = "") -> list[str]:
    """A sentence on radiographs whose content a run trained or chose on; nothing if there are none.

    Args:
        run: the run folder.
        radiographs: those evaluated.
        whose: by whom, for the sentence, if not by the reported run.
    """
    learned = {row["digest"] for row in read_csv(run.splits_path) if row["split"] in ("train", "val")}
    pairs = zip(radiographs.names, radiographs.digests, strict=True)
    seen = [name for name, digest in pairs if digest in learned]
    if not seen:
        return []
    return [
        f"{len(seen)} of these {len(radiographs)} radiographs {'was' if len(seen) == 1 else 'were'} also "
        f"trained or chosen on{whose} (same content), such as {Path(seen[0]).name}: figures flatter."
    ]


def class_counts(
    record: Mapping[str, Any], radiographs: RadiographSet, data: str | PathLike[str] | None
) -> dict[str, dict[str, int]]:
    """For each split of the run, and for other radiographs evaluated, images by class."""
    counts = {split: counts for split, counts in record["data"]["counts"].items() if sum(counts.values())}
    return counts if data is None else {**counts, "evaluated": radiographs.counts}


def _search(record: Mapping[str, Any]) -> str:
    settings = record["settings"]
    if "max_trials" not in settings:
        return ""
    return (
        f"{settings['max_trials']} trials of at most {settings['epochs']} epochs, "
        f"ranked by {settings['objective']}"
        + ("; features in bfloat16" if record.get("precision") == "bfloat16" else "")
    )


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """What was trained, a clause a stage."""
    return "; ".join(
        f"{stage['trainable']}, at most {stage['epochs']} epochs"
        f" at learning rate {_rate(stage['learning_rate'])}"
        for stage in stages
    )


def _rate(rate: float | Mapping[str, float]) -> str:
    if isinstance(rate, Mapping):
        return ", ".join(f"{value:g} ({part})" for part, value in rate.items())
    return f"{rate:g}"
