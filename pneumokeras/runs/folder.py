"""One run folder: its files, what it was asked for, and whether it is finished."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

from pneumokeras.core.errors import PneumokerasError, RunError
from pneumokeras.core.files import read_csv, read_json, write_json

HOME = Path("tuner_runs")
"""Where runs go that nobody named."""

_NAMED_VERSIONS = ("pneumokeras", "tensorflow", "keras", "keras-tuner", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Run:
    """The folder of one run.

    Attributes:
        folder: where it lies; it need not exist yet.
    """

    folder: Path

    @property
    def record_path(self) -> Path:
        """`run.json`: status, command, settings, seed, versions, data fingerprint, timings."""
        return self.folder / "run.json"

    @property
    def splits_path(self) -> Path:
        """`splits.csv`: path, label, patient, split of every radiograph."""
        return self.folder / "splits.csv"

    @property
    def trials_path(self) -> Path:
        """`trials.csv`: one row a trial."""
        return self.folder / "trials.csv"

    @property
    def hyperparameters_path(self) -> Path:
        """`best_hyperparameters.json`."""
        return self.folder / "best_hyperparameters.json"

    @property
    def history_path(self) -> Path:
        """`history.csv`: one row an epoch of the final fit."""
        return self.folder / "history.csv"

    @property
    def model_path(self) -> Path:
        """`model.keras`."""
        return self.folder / "model.keras"

    @property
    def threshold_path(self) -> Path:
        """`threshold.json`: the operating points."""
        return self.folder / "threshold.json"

    @property
    def tuner_folder(self) -> Path:
        """`tuner/`: Keras Tuner's own files."""
        return self.folder / "tuner"

    @property
    def checkpoint_path(self) -> Path:
        """The best weights so far of a fit under way; gone when the run is finished."""
        return self.folder / "checkpoint.weights.h5"

    @property
    def report_folder(self) -> Path:
        """`report/`: index.html, report.json, classification_report.txt, figures/."""
        return self.folder / "report"

    def predictions_path(self, split: str) -> Path:
        """`predictions/<split>.csv`: path, patient, label, probability."""
        return self.folder / "predictions" / f"{split}.csv"

    def record(self) -> dict[str, Any]:
        """What `run.json` says.

        Raises:
            RunError: if the folder holds no run.
        """
        try:
            return read_json(self.record_path)
        except (OSError, json.JSONDecodeError) as error:
            raise RunError(
                f"{self.folder} is no run folder (no readable run.json). "
                "Make one with pneumokeras tune or pneumokeras train."
            ) from error

    def finished(self) -> bool:
        """Whether the run was carried to its end."""
        return self.record_path.exists() and self.record()["status"] == "finished"

    def open(self, *, settings: Mapping[str, Any], data: Mapping[str, Any], command: str, seed: int) -> None:
        """Start the run, or go on with it; one that failed with nothing to show is started anew.

        Args:
            settings: everything that decides the outcome but the data.
            data: `path`, `fingerprint`, `counts`, `notices` and `skipped` of the radiographs.
            command: what the user typed or called.
            seed: of splits, search and training.

        Raises:
            RunError: if the folder holds a run with other settings or data, or something else.
        """
        if any(character in str(self.folder) for character in "[]*?"):
            # Keras Tuner looks for its trials with glob, which takes these for patterns.
            raise RunError(f"{self.folder} cannot be a run folder. Expected a name without [ ] * and ?.")
        before: dict[str, Any] = {"started": _now()}
        if self._failed_with_nothing():
            shutil.rmtree(self.tuner_folder, ignore_errors=True)
        elif self.record_path.exists():
            self._require_same(settings, data)
            before = self.record()
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise RunError(
                f"{self.folder} holds something other than a run. Choose another folder with --run."
            )
        if self.finished():
            self.note(data=dict(data))  # the same radiographs may lie elsewhere by now
            return
        try:
            before.pop("reason", None)
            self._write(
                before
                | {
                    "schema": 1,
                    "status": "running",
                    "command": command,
                    "settings": dict(settings),
                    "seed": seed,
                    "versions": _versions(),
                    "data": dict(data),
                    "timings": {},
                }
            )
        except OSError as error:
            raise RunError(
                f"Cannot write to {self.folder} ({error.strerror}). Choose another folder with --run."
            ) from error

    def note(self, **facts: Any) -> None:
        """Write down further facts in `run.json`."""
        self._write(self.record() | facts)

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Write down that the run failed, and why, if the work inside ends in an error of ours."""
        try:
            yield
        except PneumokerasError as error:
            self.note(status="failed", reason=str(error))
            raise

    def finish(self, **facts: Any) -> None:
        """Write down the last facts and that the run is finished."""
        self.note(status="finished", finished=_now(), **facts)

    def _write(self, record: Mapping[str, Any]) -> None:
        write_json(self.record_path, record)

    def _failed_with_nothing(self) -> bool:
        """Whether it failed before a trial was completed or a model fitted: other settings may mend that."""
        if not self.record_path.exists() or self.record()["status"] != "failed":
            return False
        completed = self.trials_path.exists() and any(
            row["status"] == "completed" for row in read_csv(self.trials_path)
        )
        return not (completed or self.history_path.exists())

    def _require_same(self, settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        before = self.record()
        if before["data"]["fingerprint"] != data["fingerprint"]:
            raise RunError(f"{self.folder} is a run on other radiographs. Choose another folder with --run.")
        known, asked = _flat(before["settings"]), _flat(settings)
        for name in sorted({*known, *asked}):
            if known.get(name) != asked.get(name):
                was, wanted = known.get(name, "unset"), asked.get(name, "unset")
                raise RunError(
                    f"{self.folder} is a run with {name} {was}, not {wanted}. "
                    "Choose another folder with --run, or repeat its settings."
                )


def default_run(settings: Mapping[str, Any], fingerprint: str) -> Run:
    """The run that these settings and data have when nobody names one: the same ones find it again."""
    text = json.dumps([settings, fingerprint], sort_keys=True)
    return Run(HOME / f"{settings['model']}-{blake2b(text.encode(), digest_size=4).hexdigest()}")


def open_run(path: str | PathLike[str]) -> Run:
    """The run in a folder that must hold one.

    Raises:
        RunError: if it holds none.
    """
    run = Run(Path(path))
    run.record()
    return run


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without nesting: `{"a": {"b": 1}}` -> `{"a b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name} {key}".strip(): member for key, member in inner.items()}
    return flat


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _NAMED_VERSIONS}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
