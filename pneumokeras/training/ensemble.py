"""Average the models of finished runs in one run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import RunError, SettingsError
from pneumokeras.data.dataset import BadFile, RadiographSet, union
from pneumokeras.data.readers.manifest import read_manifest
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import TemperatureScaling, roc_auc
from pneumokeras.models.averaging import averaged, require_alike
from pneumokeras.models.parts import fingerprint
from pneumokeras.models.saving import description_of
from pneumokeras.runs.folder import Run, open_run, reading
from pneumokeras.runs.result import RunResult, keep_run, load_run, read_predictions, result_of_run
from pneumokeras.training.predict import predict


def ensemble(
    runs: Sequence[str | PathLike[str]], *, run: str | PathLike[str] | None = None, calibrate: bool = False
) -> RunResult:
    """Average the models of finished runs, choose the operating point on validation, and keep a run folder.

    The runs share their validation radiographs. Their training radiographs may differ, as long as no run
    trained on what another holds out. Nothing is trained, and the runs stay as they are.

    Args:
        runs: two or more folders of finished runs.
        run: the run folder; by default one under `tuner_runs/`, named after the settings and the data.
        calibrate: divide each member's logit by its temperature, fitted on validation, before averaging.

    Returns:
        The finished run, its history and trials empty. Called again with the same arguments, the run is
        loaded.

    Raises:
        SettingsError: if `runs` is no list of folders.
        RunError: if a run is missing, unfinished or given twice, their validation radiographs differ, one
            trained on what another holds out, or `run` holds something else.
        ModelError: if there are fewer than two, or their classes, padding or channels differ.
        DataError: if a radiograph cannot be read.

    References: Lakshminarayanan, Pritzel & Blundell (2017), NeurIPS 30; for the temperature, see
    `TemperatureScaling`.

    Example:
        >>> splits = pk.load_splits("chest_xray")
        >>> hypermodel = pk.CompactCNNHyperModel(input_shape=(32, 32, 1))
        >>> second = pk.tune(hypermodel, splits, max_trials=1, epochs=1, seed=1, run="second")
        >>> mean = pk.ensemble(["tuner_runs/first", "second"], run="mean")
        >>> sorted(mean.operating_points)
        ['default', 'validation']
    """
    several = isinstance(runs, Iterable) and not isinstance(runs, str | PathLike)
    paths: list[Any] = list(runs) if several else [runs]
    if not several or not all(isinstance(path, str | PathLike) for path in paths):
        raise SettingsError(
            f"Expected `runs` as a list of two or more run folders or results. Received {runs!r}.",
            parameter="runs",
        )
    members = [_Member.read(path) for path in paths]
    _require_distinct(members)
    models = {member.name: member.result.model for member in members}
    require_alike(models)
    for pair in permutations(members, 2):
        _require_held_out(*pair)
        _require_same_validation(*pair)
    splits = _joint_splits(members, description_of(members[0].result.model).classes)
    seed = members[0].run.record()["seed"]
    numbered = {f"member{number}": member for number, member in enumerate(members, start=1)}
    settings = {
        "model": "ensemble",
        "members": {
            name: {"run": member.run.folder.resolve().name, "fingerprint": member.fingerprint}
            for name, member in numbered.items()
        },
        "calibrate": calibrate,
        "objective": "val_auc",
        "seed": seed,
    }

    def work(begun: Run) -> RunResult:
        started = time.perf_counter()
        labels = splits.val.require_labels()
        probabilities = [member.validation_probabilities(members[0]) for member in members]
        temperatures = [
            TemperatureScaling.fit(labels, one).temperature if calibrate else 1.0 for one in probabilities
        ]
        model = averaged(models, temperatures=temperatures if calibrate else None)
        predictions = predict(model, splits.val)
        return keep_run(
            begun,
            model,
            predictions,
            pad=description_of(model).pad,
            bits=description_of(model).bits,
            members={
                name: {"val_auc": roc_auc(labels, one), "temperature": temperature}
                for name, one, temperature in zip(numbered, probabilities, temperatures, strict=True)
            },
            val_auc=roc_auc(labels, predictions.probabilities),
            timings={"averaging": time.perf_counter() - started},
            parameters=model.count_params(),
        )

    return result_of_run(run, splits, work, settings=settings, seed=seed)


@dataclass(frozen=True)
class _Member:
    """A finished run that becomes part of an ensemble.

    Attributes:
        name: its folder, as the caller gave it.
        run: the same folder.
        result: the finished run.
        rows: rows of its splits.csv, by split.
    """

    name: str
    run: Run
    result: RunResult
    rows: Mapping[str, list[dict[str, str]]]

    @classmethod
    def read(cls, path: str | PathLike[str]) -> _Member:
        """Load a finished run."""
        result, run = load_run(path), open_run(path)
        rows: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
        for row in run.split_rows():
            rows[row["split"]].append(row)
        return cls(str(Path(path)), run, result, rows)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the member's model."""
        return fingerprint(self.result.model)

    def labels(self, split: str) -> dict[str, str]:
        """Return the class of each radiograph of a split, by the digest of its content."""
        return {row["digest"]: row["label"] for row in self.rows[split]}

    def name_of(self, digest: str) -> str:
        """Return the name of the file with that digest."""
        rows = (row for split in self.rows.values() for row in split)
        return next(Path(row["path"]).name for row in rows if row["digest"] == digest)

    def validation_probabilities(self, order: _Member) -> np.ndarray:
        """Return the member's validation probabilities in the order of another member's splits.csv."""
        path = self.run.predictions_path("val")
        advice = f"Write all of them by a report of {self.name} with split val."
        if not path.exists():
            raise RunError(f"{path} is missing. {advice}", path=path)
        found = read_predictions(path, class_names=description_of(self.result.model).classes).probabilities
        contents = [row["digest"] for row in self.rows["val"]]
        if len(found) != len(contents):
            raise RunError(
                f"{path} has {len(found)} radiographs, the run's val {len(contents)}. {advice}", path=path
            )
        probabilities = dict(zip(contents, found, strict=True))
        return np.array([probabilities[row["digest"]] for row in order.rows["val"]])


def _require_distinct(members: Sequence[_Member]) -> None:
    """Refuse the same model twice."""
    for one, other in combinations(members, 2):
        if one.fingerprint == other.fingerprint:
            raise RunError(
                f"{one.name} and {other.name} hold the same model. Expected each once.", parameter="runs"
            )


def _require_held_out(one: _Member, other: _Member) -> None:
    """Refuse radiographs that one run held out and the other trained on.

    A duplicate that a run itself both holds out and trains on is not counted.
    """
    for split in ("val", "test"):
        held_out = one.labels(split).keys() - one.labels("train").keys()
        trained_on = held_out & other.labels("train").keys()
        if trained_on:
            example = one.name_of(min(trained_on))
            raise RunError(
                f"{example} is in the {split} of {one.name} and in the train of {other.name} "
                f"({len(trained_on)} such): their mean would be evaluated on what it was trained on. "
                "Expected runs on the same splits.",
                parameter="runs",
            )


def _require_same_validation(one: _Member, other: _Member) -> None:
    """Refuse runs whose validation radiographs or their labels differ."""
    ours, theirs = one.labels("val"), other.labels("val")
    alone = ours.keys() - theirs.keys()
    if alone:
        raise RunError(
            f"{one.name_of(min(alone))} is in the val of {one.name}, not in that of {other.name} "
            f"({len(alone)} such). Expected runs on the same splits.",
            parameter="runs",
        )
    contradicted = [digest for digest, label in ours.items() if theirs.get(digest) != label]
    if contradicted:
        digest = min(contradicted)
        raise RunError(
            f"{one.name_of(digest)} is {ours[digest]} in {one.name} and {theirs[digest]} in {other.name}. "
            "Expected runs that agree on their validation radiographs.",
            parameter="runs",
        )


def _joint_splits(members: Sequence[_Member], classes: tuple[str, str]) -> Splits:
    """Return the first member's splits, extended by what only other members train or test on."""
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
    skipped: list[BadFile] = []
    for member, of_run in zip(members, data, strict=True):
        with reading(member.run.record_path):
            skipped += [BadFile(**bad) for bad in of_run.get("skipped", ())]
    rules = {of_run.get("split_rule", "") for of_run in data}
    return Splits(
        train=together("train"),
        val=together("val"),
        test=together("test"),
        source=data[0]["path"],
        rule=rules.pop() if len(rules) == 1 else "",
        notices=tuple(dict.fromkeys(notice for of_run in data for notice in of_run["notices"])),
        skipped=tuple(dict.fromkeys(skipped)),
    )
