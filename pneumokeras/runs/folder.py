"""The folder of one run: its files, the settings and data it was begun with, and whether it is finished."""

from __future__ import annotations

import csv
import json
import logging
import os
import platform
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

from pneumokeras.core.arguments import path_of
from pneumokeras.core.errors import PneumokerasError, RunError, first_line
from pneumokeras.core.files import read_csv, read_json, runs_in, write_json
from pneumokeras.core.words import some_names
from pneumokeras.data.dataset import SPLITS
from pneumokeras.data.splits import Splits

try:
    import fcntl
except ImportError:  # Windows: run folders are not locked there
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

HOME = Path("tuner_runs")
"""Parent of the run folders that are named after settings and data."""

_KINDS_OF_FACTS = {
    "status": str,
    "command": str,
    "settings": dict,
    "seed": int,
    "versions": dict,
    "data": dict,
    "timings": dict,
    "started": str,
}
"""What each `run.json` holds, and of which kind."""

UNRECORDED: dict[str, Any] = {
    "class_weights": "balanced",
    "oversample": None,
    "schedule": {
        "plateau": {"patience": 2, "factor": 0.5, "min_learning_rate": 1e-6, "counting": "keras"},
        "patience": 5,
        "keep": "best",
    },
    "threshold": {"policy": "balanced_accuracy", "sensitivity_floor": 0.95, "among": ()},
}
"""What a search goes by if its `run.json` says nothing of it, as in version 0.1."""

_LOCK = ".lock"

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
            RunError: if the folder holds no run, or `run.json` is damaged.
        """
        if not os.path.exists(self.record_path):
            inner = runs_in(self.folder)
            raise RunError(
                f"{self.folder} is a folder of runs ({some_names(inner)}). Name one of them."
                if inner
                else f"{self.folder} is no run folder (no readable run.json). "
                "Make one with pneumokeras tune or pneumokeras train.",
                path=self.folder,
            )
        with reading(self.record_path):
            record = read_json(self.record_path)
            for name, kind in _KINDS_OF_FACTS.items():
                if not isinstance(record[name], kind):
                    raise ValueError(f"{name} is {record[name]!r}")
            data = record["data"]
            for name, kind in {"path": str, "fingerprint": str, "counts": dict, "notices": list}.items():
                if not isinstance(data[name], kind):
                    raise ValueError(f"{name} of data is {data[name]!r}")
            for notice in data["notices"]:
                if not isinstance(notice, str):
                    raise ValueError(f"a notice of data is {notice!r}")
        return record

    def split_rows(self) -> list[dict[str, str]]:
        """Return the rows of `splits.csv`.

        Raises:
            RunError: if it is missing or damaged.
        """
        with reading(self.splits_path):
            rows = read_csv(self.splits_path)
            for number, row in enumerate(rows, start=1):
                if row["split"] not in SPLITS or not (row["path"] and row["label"] and row["digest"]):
                    raise ValueError(f"row {number} is incomplete")
            if absent := {"train", "val"} - {row["split"] for row in rows}:
                raise ValueError(f"no rows of {' and '.join(sorted(absent))}")
        return rows

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
        self._require_name()
        before: dict[str, Any] = {"started": _now()}
        if self._failed_without_result():
            shutil.rmtree(self.tuner_folder, ignore_errors=True)
        else:
            self.require_free(settings, data)
            if self.record_path.exists():
                before = self.record()
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
            raise self._not_writable(error) from error

    def require_free(self, settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """Refuse a folder that `open` would refuse; nothing is written.

        Raises:
            RunError: as for `open`.
        """
        self._require_name()
        if self._failed_without_result():
            return
        if self.record_path.exists():
            self._require_same(settings, data)
        elif self.folder.exists() and not self.folder.is_dir():
            raise self._taken("is a file. Expected a folder; choose another with `run`.")
        elif self.folder.exists() and any(path.name != _LOCK for path in self.folder.iterdir()):
            raise self._taken(
                "holds something other than a run (no run.json). Choose another folder with `run`."
            )

    def require_same_split(self, splits: Splits) -> None:
        """Refuse radiographs that the run has in other splits, and say how to resume it.

        Raises:
            RunError: if the folder holds a run on the same radiographs in other splits.
        """
        if not self.record_path.exists() or self._failed_without_result():
            return
        data = self.record()["data"]
        if data["fingerprint"] == splits.fingerprint:
            return
        before = Counter((row["label"], row["digest"]) for row in self.split_rows())
        now = Counter(
            (part.class_names[label], digest)
            for part in splits
            for label, digest in zip(part.require_labels(), part.digests, strict=True)
        )
        if before == now:
            rule = "otherwise" if "split_rule" in data else "by the rule of version 0.1"
            raise self._taken(
                f"is a run on the same radiographs, split {rule}. To resume it, take its own splits with "
                f"`path={self.splits_path}` and `keep_val=True`; or choose another folder with `run`."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working on the run until the block ends or this process dies.

        Where there are no locks, on Windows and on some file systems, nothing is kept.

        Raises:
            RunError: if another process works on the run, or the folder cannot be written.
        """
        if fcntl is None:
            yield  # type: ignore[unreachable]
            return
        path = self.folder / _LOCK
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = _locked_file(path)
        except BlockingIOError as error:
            raise self._taken(
                "is in use: another process works on this run. Wait for it, or choose another folder "
                "with `run`."
            ) from error
        except OSError as error:
            raise self._not_writable(error) from error
        with lock:
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def note(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        self._write(self.record() | facts)

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Write to `run.json` that the run failed, and why, if the block raises one of our errors.

        A run that has computed nothing, as without the weights that it needs, leaves nothing behind.
        """
        try:
            yield
        except PneumokerasError as error:
            begun = (self.record_path, self.splits_path)
            if set(self.folder.iterdir()) <= {*begun, self.folder / _LOCK}:
                for path in begun:
                    path.unlink(missing_ok=True)
            else:
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
        with reading(self.trials_path):
            completed = self.trials_path.exists() and any(
                row["status"] == "completed" for row in read_csv(self.trials_path)
            )
        return not (completed or self.history_path.exists())

    def _require_name(self) -> None:
        if any(character in str(self.folder) for character in "[]*?"):
            # Keras Tuner looks for its trials with glob, which takes these for patterns.
            raise RunError(
                f"{self.folder} cannot be a run folder. Expected a name without [ ] * and ?.",
                path=self.folder,
                parameter="run",
            )

    def _require_same(self, settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        before = self.record()
        if before["data"]["fingerprint"] != data["fingerprint"]:
            raise self._taken("is a run on other radiographs. Choose another folder with `run`.")
        # As JSON, which has lists for tuples.
        known, wanted = (
            json.loads(json.dumps(UNRECORDED | dict(one))) for one in (before["settings"], settings)
        )
        if difference := _difference(known, wanted):
            name, one, other = difference
            raise self._taken(
                f"is a run with {name} {one}, not {other}. "
                "Choose another folder with `run`, or repeat its settings."
            )

    def _taken(self, reason: str) -> RunError:
        return RunError(f"{self.folder} {reason}", path=self.folder, parameter="run")

    def _not_writable(self, error: OSError) -> RunError:
        return RunError(
            f"Cannot write to {self.folder} ({error.strerror}). Choose another folder with `run`.",
            path=self.folder,
            parameter="run",
        )


def _locked_file(path: Path) -> TextIO:
    """Return a file that this process has opened and locked, if the file system has locks.

    Raises:
        BlockingIOError: if another process has locked it.
        OSError: if it cannot be opened.
    """
    while True:
        with ExitStack() as opened:
            lock = opened.enter_context(path.open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError as error:
                logger.info("%s is not locked: %s", path, error.strerror)
            # Whoever held the lock may have deleted the file since it was opened here.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    opened.pop_all()
                    return lock


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged file of a run makes the block raise into one line that names the file.

    Raises:
        RunError: if the block raises anything but an error of ours that names its file.
    """
    advice = "Restore the file from a copy, or train the run again in another folder."
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror or error}. {advice}", path=path) from error
    except (ValueError, LookupError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        if isinstance(error, PneumokerasError) and error.path is not None:
            raise
        fault = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise RunError(f"{path} is damaged ({fault}). {advice}", path=path) from error


@contextmanager
def begin_run(
    run: str | PathLike[str] | None,
    splits: Splits,
    *,
    settings: Mapping[str, Any],
    seed: int,
    check: Callable[[], None] | None = None,
) -> Iterator[Run]:
    """Start or resume a run, write `run.json` and `splits.csv`, and lock the run until the block ends.

    Arguments and errors are as for `pneumokeras.runs.result.result_of_run`.
    """
    folder = Run(Path(run)) if run is not None else default_run(settings, splits.fingerprint)
    data = splits.record()
    folder.require_same_split(splits)
    folder.require_free(settings, data)
    if check is not None and not folder.finished():
        check()
    is_new = not folder.folder.exists()
    try:
        with folder.locked():
            folder.open(settings=settings, data=data, command=_command(), seed=seed)
            splits.write_csv(folder.splits_path)
            yield folder
    except PneumokerasError:
        if is_new:
            with suppress(OSError):  # it holds something, or was never made
                folder.folder.rmdir()
        raise


def default_run(settings: Mapping[str, Any], fingerprint: str) -> Run:
    """Return the run that is named after the model and a hash of settings and data.

    The same settings and data find it again.
    """
    text = json.dumps([settings, fingerprint], sort_keys=True)
    return Run(HOME / f"{settings['model']}-{blake2b(text.encode(), digest_size=4).hexdigest()}")


def open_run(path: str | PathLike[str]) -> Run:
    """Return the run in a folder.

    Raises:
        SettingsError: if this is no path.
        RunError: if the folder holds none.
    """
    run = Run(path_of("run", path))
    run.record()
    return run


def _difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the innermost setting that differs, and its two values; one that both have comes first."""
    for name in sorted({*known, *wanted}, key=lambda name: (name not in known or name not in wanted, name)):
        one, other = known.get(name), wanted.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            if inner := _difference(one, other):
                inside, known_inside, wanted_inside = inner
                return name if inside == name else f"{name} {inside}", known_inside, wanted_inside
        elif one != other:
            return name, _in_words(one, name in known), _in_words(other, name in wanted)
    return None


def _in_words(value: Any, is_set: bool) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value) if is_set else "unset"


def _command() -> str:
    program = Path(sys.argv[0]).name
    if program in ("pneumokeras", "__main__.py"):
        return shlex.join(["pneumokeras", *sys.argv[1:]])
    return "pneumokeras in Python"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _NAMED_VERSIONS}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
