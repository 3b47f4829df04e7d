"""The folder of one run: its files, the settings and data it was begun with, and whether it is finished."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
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
from pneumokeras.data.splits import Splits

HOME = Path("tuner_runs")
"""Parent of the run folders that are named after settings and data."""

_NAMED_VERSIONS = ("pneumokeras", "tensorflow", "keras", "keras-tuner", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Run:
    """The folder of one run.

    Attributes:
        folder: its path; it need not exist yet.
    """

    folder: Path

    @property
    def record_path(self) -> Path:
        """`run.json`: status, command, settings, seed, versions, data fingerprint, timings."""
        return self.folder / "run.json"

    @property
    def splits_path(self) -> Path:
        """`splits.csv`: path, label, patient and split of every radiograph."""
        return self.folder / "splits.csv"

    @property
    def trials_path(self) -> Path:
        """`trials.csv`: one row per trial."""
        return self.folder / "trials.csv"

    @property
    def hyperparameters_path(self) -> Path:
        """`best_hyperparameters.json`."""
        return self.folder / "best_hyperparameters.json"

    @property
    def history_path(self) -> Path:
        """`history.csv`: one row per epoch of the final fit."""
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
        """The best weights so far of the current fit; removed when the run is finished."""
        return self.folder / "checkpoint.weights.h5"

    @property
    def report_folder(self) -> Path:
        """`report/`: index.html, report.json, classification_report.txt, figures/."""
        return self.folder / "report"

    def predictions_path(self, split: str) -> Path:
        """Return `predictions/<split>.csv`: path, patient, label, probability."""
        return self.folder / "predictions" / f"{split}.csv"

    def record(self) -> dict[str, Any]:
        """Return the content of `run.json`.

        Raises:
            RunError: if the folder holds no run.
        """
        try:
            return read_json(self.record_path)
        except (OSError, json.JSONDecodeError) as error:
            raise RunError(
                f"{self.folder} is no run folder (no readable run.json). "
                "Make one with pneumokeras tune or pneumokeras train.",
                path=self.folder,
            ) from error

    def finished(self) -> bool:
        """Return whether the run is complete."""
        return self.record_path.exists() and self.record()["status"] == "finished"

    def open(self, *, settings: Mapping[str, Any], data: Mapping[str, Any], command: str, seed: int) -> None:
        """Start or resume the run; one that failed before it had any result is started anew.

        Args:
            settings: everything that decides the outcome except the data.
            data: `path`, `fingerprint`, `counts`, `notices` and `skipped` of the radiographs.
            command: the command line, or how Python was called.
            seed: of splits, search and training.

        Raises:
            RunError: if the folder holds a run with other settings or data, or something else.
        """
        if any(character in str(self.folder) for character in "[]*?"):
            # Keras Tuner looks for its trials with glob, which takes these for patterns.
            raise RunError(
                f"{self.folder} cannot be a run folder. Expected a name without [ ] * and ?.",
                path=self.folder,
                parameter="run",
            )
        before: dict[str, Any] = {"started": _now()}
        if self._failed_without_result():
            shutil.rmtree(self.tuner_folder, ignore_errors=True)
        elif self.record_path.exists():
            self._require_same(settings, data)
            before = self.record()
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise self._taken("holds something other than a run. Choose another folder with `run`.")
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
                f"Cannot write to {self.folder} ({error.strerror}). Choose another folder with `run`.",
                path=self.folder,
                parameter="run",
            ) from error

    def note(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        self._write(self.record() | facts)

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Write to `run.json` that the run failed, and why, if the block raises one of our errors."""
        try:
            yield
        except PneumokerasError as error:
            self.note(status="failed", reason=str(error))
            raise

    def finish(self, **facts: Any) -> None:
        """Add the last facts to `run.json` and mark the run as finished."""
        self.note(status="finished", finished=_now(), **facts)

    def _write(self, record: Mapping[str, Any]) -> None:
        write_json(self.record_path, record)

    def _failed_without_result(self) -> bool:
        """Return whether it failed before a trial was completed or a model fitted.

        Such a run may be repeated with other settings, which may be what it needs.
        """
        if not self.record_path.exists() or self.record()["status"] != "failed":
            return False
        completed = self.trials_path.exists() and any(
            row["status"] == "completed" for row in read_csv(self.trials_path)
        )
        return not (completed or self.history_path.exists())

    def _require_same(self, settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        before = self.record()
        if before["data"]["fingerprint"] != data["fingerprint"]:
            raise self._taken("is a run on other radiographs. Choose another folder with `run`.")
        known, wanted = _flat(before["settings"]), _flat(settings)
        for name in sorted({*known, *wanted}):
            if known.get(name) != wanted.get(name):
                raise self._taken(
                    f"is a run with {name} {known.get(name, 'unset')}, not {wanted.get(name, 'unset')}. "
                    "Choose another folder with `run`, or repeat its settings."
                )

    def _taken(self, reason: str) -> RunError:
        return RunError(f"{self.folder} {reason}", path=self.folder, parameter="run")


def begin_run(
    run: str | PathLike[str] | None,
    splits: Splits,
    *,
    settings: Mapping[str, Any],
    seed: int,
    check: Callable[[], None] | None = None,
) -> Run:
    """Start or resume a run: write `run.json` and `splits.csv`.

    Arguments and errors are as for `pneumokeras.runs.result.result_of_run`.
    """
    folder = Run(Path(run)) if run is not None else default_run(settings, splits.fingerprint)
    if check is not None and not folder.finished():
        check()
    folder.open(settings=settings, data=splits.record(), command=_command(), seed=seed)
    splits.write_csv(folder.splits_path)
    return folder


def default_run(settings: Mapping[str, Any], fingerprint: str) -> Run:
    """Return the run that is named after the model and a hash of settings and data.

    The same settings and data find it again.
    """
    text = json.dumps([settings, fingerprint], sort_keys=True)
    return Run(HOME / f"{settings['model']}-{blake2b(text.encode(), digest_size=4).hexdigest()}")


def open_run(path: str | PathLike[str]) -> Run:
    """Return the run in a folder.

    Raises:
        RunError: if the folder holds none.
    """
    run = Run(Path(path))
    run.record()
    return run


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested settings: `{"a": {"b": 1}}` -> `{"a b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name} {key}".strip(): member for key, member in inner.items()}
    return flat


def _command() -> str:
    program = Path(sys.argv[0]).name
    if program in ("pneumokeras", "__main__.py"):
        return shlex.join(["pneumokeras", *sys.argv[1:]])
    return "pneumokeras in Python"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _NAMED_VERSIONS}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
