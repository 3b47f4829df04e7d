"""Finished runs -> one run whose model averages theirs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations
from os import PathLike
from pathlib import Path

import numpy as np

from pneumokeras.core.errors import RunError
from pneumokeras.core.files import read_csv
from pneumokeras.data.dataset import RadiographSet, Skipped, union
from pneumokeras.data.readers.manifest import read_manifest
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import TemperatureScaling, roc_auc
from pneumokeras.models.averaging import averaged, require_alike
from pneumokeras.models.parts import fingerprint
from pneumokeras.models.saving import description_of
from pneumokeras.runs.folder import Run, open_run
from pneumokeras.runs.result import TuningResult, begin_run, keep_run, load_run
from pneumokeras.training.loop import FitResult
from pneumokeras.training.predict import predict


def ensemble(
    runs: Sequence[str | PathLike[str]], *, run: str | PathLike[str] | None = None, calibrate: bool = False
) -> TuningResult:
    """Average the models of finished runs, choose the operating point on validation, and keep a run folder.

    The runs share their validation radiographs; their training radiographs may differ, as long as none of
    them is held out by another run. Nothing is trained, and the runs stay as they are.

    Args:
        runs: two or more folders of finished runs.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        calibrate: divide each member's logit by its temperature, fitted on validation, before averaging.

    Returns:
        The finished run, its history and trials empty; called again with the same arguments, the one that is
        there.

    Raises:
        RunError: if a run is missing, not finished or there twice, they were chosen on different radiographs,
            one held out what another trained on, or `run` holds something else.
        ModelError: if there are fewer than two, or their classes, padding or channels differ.
        DataError: if a radiograph cannot be read.

    References: Lakshminarayanan, Pritzel & Blundell (2017), NeurIPS 30; of the temperature, see
    `TemperatureScaling`.
    """
    members = [_Member.read(path) for path in runs]
    _require_distinct(members)
    models = {member.name: member.result.model for member in members}
    require_alike(models)
    for pair in permutations(members, 2):
        _require_held_out(*pair)
        _require_same_validation(*pair)
    splits = _joint_splits(members, description_of(members[0].result.model).classes)
    seed = members[0].run.record()["seed"]
    settings = {
        "model": "ensemble",
        "members": {
            f"member{number}": {"run": member.run.folder.resolve().name, "fingerprint": member.fingerprint}
            for number, member in enumerate(members, start=1)
        },
        "calibrate": calibrate,
        "objective": "val_auc",
        "seed": seed,
    }
    folder = begin_run(run, splits, settings=settings, seed=seed)
    if folder.finished():
        return load_run(folder.folder)
    with folder.noting_failure():
        started = time.perf_counter()
        labels = splits.val.require_labels()
        said = [member.validation_probabilities(members[0]) for member in members]
        temperatures = [TemperatureScaling.fit(labels, one).temperature if calibrate else 1.0 for one in said]
        model = averaged(models, temperatures=temperatures if calibrate else None)
        predictions = predict(model, splits.val)
        return keep_run(
            folder,
            FitResult(model, {}),
            predictions,
            pad=description_of(model).pad,
            members={
                name: {"val_auc": roc_auc(labels, one), "temperature": temperature}
                for name, one, temperature in zip(settings["members"], said, temperatures, strict=True)
            },
            val_auc=roc_auc(labels, predictions.probabilities),
            timings={"averaging": time.perf_counter() - started},
            parameters=model.count_params(),
        )


@dataclass(frozen=True)
class _Member:
    """A finished run that becomes part of an ensemble.

    Attributes:
        name: its folder, as it was named.
        run: the same folder.
        result: what it gave.
        rows: of its splits.csv, by split.
    """

    name: str
    run: Run
    result: TuningResult
    rows: Mapping[str, list[dict[str, str]]]

    @classmethod
    def read(cls, path: str | PathLike[str]) -> _Member:
        result, run = load_run(path), open_run(path)
        rows: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
        for row in read_csv(run.splits_path):
            rows[row["split"]].append(row)
        return cls(str(path), run, result, rows)

    @cached_property
    def fingerprint(self) -> str:
        """Of its model."""
        return fingerprint(self.result.model)

    def labels(self, split: str) -> dict[str, str]:
        """The class of each content of a split, by digest."""
        return {row["digest"]: row["label"] for row in self.rows[split]}

    def name_of(self, digest: str) -> str:
        """The file, without its folder, that has a content."""
        rows = (row for split in self.rows.values() for row in split)
        return next(Path(row["path"]).name for row in rows if row["digest"] == digest)

    def validation_probabilities(self, order: _Member) -> np.ndarray:
        """What it said of the validation radiographs, in the order another member has them."""
        rows = read_csv(self.run.predictions_path("val"))
        contents = [row["digest"] for row in self.rows["val"]]
        if len(rows) != len(contents):
            raise RunError(
                f"{self.run.predictions_path('val')} has {len(rows)} radiographs, the run's val "
                f"{len(contents)}. Write all of them with pneumokeras report {self.name} --split val."
            )
        said = {digest: float(row["probability"]) for digest, row in zip(contents, rows, strict=True)}
        return np.array([said[row["digest"]] for row in order.rows["val"]])


def _require_distinct(members: Sequence[_Member]) -> None:
    for one, other in combinations(members, 2):
        if one.fingerprint == other.fingerprint:
            raise RunError(f"{one.name} and {other.name} hold the same model. Expected each once.")


def _require_held_out(one: _Member, other: _Member) -> None:
    """Refuse what one run held out and another learned; a copy that one run has on both sides is its own."""
    for split in ("val", "test"):
        held_out = one.labels(split).keys() - one.labels("train").keys()
        learned = held_out & other.labels("train").keys()
        if learned:
            example = one.name_of(min(learned))
            raise RunError(
                f"{example} is in the {split} of {one.name} and in the train of {other.name} "
                f"({len(learned)} such): their mean would be judged on what it learned. "
                "Expected runs on the same splits."
            )


def _require_same_validation(one: _Member, other: _Member) -> None:
    ours, theirs = one.labels("val"), other.labels("val")
    alone = ours.keys() - theirs.keys()
    if alone:
        raise RunError(
            f"{one.name_of(min(alone))} is in the val of {one.name}, not in that of {other.name} "
            f"({len(alone)} such). Expected runs on the same splits."
        )
    contradicted = [digest for digest, label in ours.items() if theirs.get(digest) != label]
    if contradicted:
        digest = min(contradicted)
        raise RunError(
            f"{one.name_of(digest)} is {ours[digest]} in {one.name} and {theirs[digest]} in {other.name}. "
            "Expected runs that agree on their validation radiographs."
        )


def _joint_splits(members: Sequence[_Member], classes: tuple[str, str]) -> Splits:
    """The first member's splits, with what others trained on or hold for testing besides."""
    sets = [read_manifest(member.run.splits_path, classes=classes) for member in members]
    nothing = sets[0]["train"].subset(())

    def together(split: str) -> RadiographSet:
        known: set[str] = set()
        parts = []
        for member, of_member in zip(members, sets, strict=True):
            contents = [row["digest"] for row in member.rows[split]]
            if split in of_member:
                parts.append(of_member[split].subset([digest not in known for digest in contents]))
            known.update(contents)
        filled = [part for part in parts if len(part)]
        return union(filled) if filled else replace(nothing, split=split)

    data = [member.run.record()["data"] for member in members]
    return Splits(
        train=together("train"),
        val=together("val"),
        test=together("test"),
        source=data[0]["path"],
        notices=tuple(dict.fromkeys(notice for of_run in data for notice in of_run["notices"])),
        skipped=tuple(dict.fromkeys(Skipped(**bad) for of_run in data for bad in of_run["skipped"])),
    )
