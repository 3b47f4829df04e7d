"""Progress of extractions, searches and fits, reported to a function of the caller's."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

import keras

from pneumokeras.core.clock import clock
from pneumokeras.core.errors import SettingsError
from pneumokeras.training.features import ExtractionProgress
from pneumokeras.training.objectives import best_of


@dataclass(frozen=True)
class TuningProgress:
    """The state of a search or a fit after an epoch.

    Attributes:
        stage: `"search"`, `"fit"` for a fit of the whole model or of the search's winner, or the part that is
            fine-tuned, such as `"stage5"`.
        trial: the current trial, counted from 1; 0 without a search.
        trials: number of trials planned; 0 without a search.
        epoch: epochs finished in this trial or fit.
        epochs: maximum number of epochs of this trial or fit.
        objective: what trials are ranked by, such as `"val_auc"`.
        best: the best score so far; `None` before the first.
        seconds_left: an estimate that assumes that no trial stops early.
        trial_ended: whether this trial or fit is over.

    Example:
        >>> seen = []
        >>> hypermodel = pk.CompactCNNHyperModel(input_shape=(32, 32, 1))
        >>> splits = pk.load_splits("chest_xray")
        >>> result = pk.tune(hypermodel, splits, max_trials=1, epochs=1, run="watched", progress=seen.append)
        >>> [(progress.stage, progress.epoch) for progress in seen if progress.trial_ended]
        [('search', 1), ('fit', 1)]
    """

    stage: str
    trial: int
    trials: int
    epoch: int
    epochs: int
    objective: str
    best: float | None
    seconds_left: float
    trial_ended: bool = False

    def __str__(self) -> str:
        """Return one line, such as `trial 3/10, best val_auc 0.981, 0:42 left`."""
        step = {
            "search": f"trial {self.trial}/{self.trials}",
            "fit": "training the winner" if self.trials else "training",
            "head": "training the head",
            "all": "training all layers",
        }.get(self.stage, f"fine-tuning {self.stage}")
        best = "" if self.best is None else f", best {self.objective} {self.best:.3f}"
        if self.trial_ended and self.stage != "search":  # what follows has no clock
            return f"{step}{best}, done"
        return f"{step}{best}, {clock(self.seconds_left)} left"


class Progress(Protocol):
    """A function that is called as the work proceeds.

    It receives an `ExtractionProgress` after each batch whose features are computed, and a `TuningProgress`
    after each epoch of a search or a run.
    """

    def __call__(self, progress: TuningProgress | ExtractionProgress, /) -> None:
        """Receive the current state."""


class ProgressLine:
    """Shows progress in one line that is written again and again; each trial and fit leaves its last one.

    Args:
        show: shows a line in place of the one before, if that was not the last of its trial or fit.
    """

    def __init__(self, show: ShowLine):
        self._show = show

    def __call__(self, progress: TuningProgress | ExtractionProgress) -> None:
        """Show the current state."""
        line = str(progress)
        if isinstance(progress, TuningProgress):
            ended = progress.trial_ended
            line += "" if ended else f"  (epoch {progress.epoch}/{progress.epochs})"
        else:
            ended = progress.found + progress.done == progress.wanted
        self._show(line, ended=ended)


class ShowLine(Protocol):
    """A function that shows a line in place of the one before; one that has ended stays."""

    def __call__(self, line: str, *, ended: bool) -> None:
        """Show a line."""


class TerminalLine:
    """A line of a terminal."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._length = 0

    def __call__(self, line: str, *, ended: bool) -> None:
        """Write a line over the one before."""
        self._stream.write(f"\r{line:{self._length}}" + ("\n" if ended else ""))
        self._stream.flush()
        self._length = 0 if ended else len(line)


class CellLine:
    """A line below a notebook's cell: one output that changes, so that the saved notebook holds the last."""

    def __init__(self) -> None:
        self._output: Any = None

    def __call__(self, line: str, *, ended: bool) -> None:
        """Change the line, or begin another."""
        from IPython.display import display

        text = {"text/plain": line}
        if self._output is None:
            self._output = display(text, raw=True, display_id=True)
        else:
            self._output.update(text, raw=True)
        if ended:
            self._output = None


def progress_or_line(progress: Progress | None, verbose: Any) -> Progress | None:
    """Return a caller's function for progress, or else one that shows it in a line if it is to be shown.

    Args:
        progress: the caller's; `None` if there is none.
        verbose: true or false; `"auto"` shows it in a notebook and on a terminal.

    Raises:
        SettingsError: if `verbose` is something else.
    """
    if not (verbose == "auto" if isinstance(verbose, str) else verbose in (0, 1, 2)):
        raise SettingsError(
            f"Expected `verbose` as auto, True or False. Received {verbose!r}.", parameter="verbose"
        )
    if progress is not None:
        return progress
    in_notebook = _in_notebook()
    if verbose == "auto":
        verbose = in_notebook or sys.stderr.isatty()
    if not verbose:
        return None
    return ProgressLine(CellLine() if in_notebook else TerminalLine(sys.stderr))


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class Reporter:
    """Turns the epochs of a search and of fits into `TuningProgress`.

    Args:
        progress: receives it; `None` if nothing is to be reported.
        trials: number of trials planned; 0 for a fit without a search, whose best epoch is reported.
        epochs: maximum number of epochs of a trial and of the winner's fit.
        objective: what trials are ranked by.
    """

    def __init__(self, progress: Progress | None, *, trials: int, epochs: int, objective: str):
        self._progress = progress
        self._trials = trials
        self._epochs = epochs
        self.objective = objective
        self._stage = "search"
        self._trial = 0
        self._epoch = 0
        self._epochs_seen = 0
        self._started = time.perf_counter()
        self._scores: list[float] = []

    def begin_search(self, scores: Iterable[float]) -> None:
        """Start the clock of a search.

        Args:
            scores: of trials that an earlier process finished.
        """
        self._scores = list(scores)
        self._started = time.perf_counter()

    def begin_trial(self, number: int) -> None:
        """Note that a trial starts, counted from 1."""
        self._trial, self._epoch = number, 0

    def end_trial(self, score: float | None) -> None:
        """Report that a trial is over, with its score unless it failed."""
        if score is not None:
            self._scores.append(score)
        self.end()

    def begin_fit(self) -> None:
        """Note that the winner's fit starts."""
        self._stage, self._epoch = "fit", 0

    def begin_stage(self, trainable: str, epochs: int) -> None:
        """Note that a stage of fine-tuning starts; its epochs take another time than those before."""
        if self._epochs_seen:
            self.end()
        self._stage, self._epoch, self._epochs = trainable, 0, epochs
        self._epochs_seen, self._started = 0, time.perf_counter()

    def epoch(self, score: float) -> None:
        """Report the end of an epoch, with its objective."""
        if not self._trials:
            self._scores.append(score)
        self._epoch += 1
        self._epochs_seen += 1
        self._report()

    def end(self) -> None:
        """Report that the trial or fit is over."""
        self._report(ended=True)

    def _report(self, ended: bool = False) -> None:
        if self._progress is None:
            return
        pending = 0 if ended else self._epochs - self._epoch
        if self._stage == "search":
            pending += (self._trials - self._trial + 1) * self._epochs  # the winner's fit is one more
        seconds = (time.perf_counter() - self._started) / max(self._epochs_seen, 1)
        self._progress(
            TuningProgress(
                stage=self._stage,
                trial=self._trial,
                trials=self._trials,
                epoch=self._epoch,
                epochs=self._epochs,
                objective=self.objective,
                best=best_of(self._scores, self.objective),
                seconds_left=pending * seconds,
                trial_ended=ended,
            )
        )


class AfterEpoch(keras.callbacks.Callback):
    """Passes the end of each epoch on to a reporter."""

    def __init__(self, reporter: Reporter):
        super().__init__()
        self._reporter = reporter

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the epoch."""
        self._reporter.epoch((logs or {}).get(self._reporter.objective, math.nan))
