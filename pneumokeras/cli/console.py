"""How commands talk: results on stdout, everything else on stderr, errors in one line."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.status import Status

from pneumokeras.core.errors import DataError, PneumokerasError

if TYPE_CHECKING:
    from pneumokeras.training.features import ExtractionProgress
    from pneumokeras.training.progress import TuningProgress

INTERRUPTED = 130
A_WHILE = 60
"""Seconds after which an epoch is worth a line where there is no terminal."""


class OneLineErrors(click.Group):
    """A group that says what is wrong with a call in one line and exits with 2."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; see `click.Command.main`."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            sys.exit(super().main(args, prog_name, complete_var, standalone_mode=False, **extra) or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else self.name
            _exit_with(f"{error.format_message().rstrip('.')}. See {path} --help.", status=2)
        except click.ClickException as error:
            _exit_with(error.format_message(), status=error.exit_code)
        except click.Abort:
            _exit_with("Interrupted.", status=INTERRUPTED)


@dataclass
class Talk:
    """What a command says.

    Attributes:
        quiet: say nothing but results and errors.
        verbose: say what the library logs, too.
    """

    quiet: bool = False
    verbose: bool = False
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def say(self, text: str) -> None:
        """Tell how the work goes, on stderr."""
        if not self.quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """Give a result, on stdout; a file's name comes out in the bytes that it has."""
        click.echo(os.fsencode(text))

    def searching(self) -> SearchProgress:
        """A context that shows a search's progress."""
        return SearchProgress(self._console, silent=self.quiet)


class SearchProgress:
    """Shows how an extraction and a search go: one line that moves on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, *, silent: bool):
        self._console = console
        self._silent = silent
        self._status: Status | None = None
        self._said = time.monotonic()

    def __enter__(self) -> SearchProgress:
        if self._console.is_terminal and not self._silent:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def agrees_to_store(self, size: int, folder: Path) -> bool:
        """Ask whether feature maps may be stored; where nobody can be asked, say how to agree.

        Args:
            size: bytes.
            folder: where.

        Raises:
            DataError: if nobody can be asked.
        """
        question = f"Fine-tuning stores {in_bytes(size)} of feature maps in {folder}"
        if self._status is None or not sys.stdin.isatty():
            raise DataError(f"{question}. Agree with --yes, or train without them with --no-cache.")
        self._status.stop()
        agreed = click.confirm(f"{question}. Go on?", default=True, err=True)
        self._status.start()
        if not agreed:
            self._print("Nothing is stored: fine-tuning asks the whole model in every epoch.")
        return agreed

    def __call__(self, progress: TuningProgress | ExtractionProgress) -> None:
        """Show where the extraction or the search stands."""
        from pneumokeras.training.progress import TuningProgress

        if isinstance(progress, TuningProgress):
            self._search(progress)
        else:
            self._extraction(progress)

    def _extraction(self, progress: ExtractionProgress) -> None:
        left = progress.wanted - progress.found - progress.done
        going = f"features: {left:,} views to go"
        if progress.done:
            going += f", {progress.images_per_second:.0f} images/s, {clock(progress.seconds_left)} left"
        if self._status is not None and left:
            self._status.update(going)
        if self._silent:
            return
        if not progress.done:
            self._print(f"features: {progress.found:,} of {progress.wanted:,} views found")
        elif not left:
            rate = f"{progress.images_per_second:.1f} images/s"
            self._print(f"features: {progress.done:,} views computed in {progress.precision}, {rate}")
        elif self._status is None and time.monotonic() - self._said > A_WHILE:
            self._print(going)

    def _search(self, progress: TuningProgress) -> None:
        line = progress_line(progress)
        waited = time.monotonic() - self._said
        if self._status is not None:
            self._status.update(f"{line}  (epoch {progress.epoch}/{progress.epochs})")
        elif waited > A_WHILE and not (progress.trial_ended or self._silent):
            self._print(f"{line}, epoch {progress.epoch}/{progress.epochs}")
        if progress.trial_ended and not self._silent:
            self._print(line)

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        self._console.print(line, markup=False, soft_wrap=True)


def progress_line(progress: TuningProgress) -> str:
    """Such as "trial 3/10, best val_auc 0.981, 0:42 left"."""
    trial = f"trial {progress.trial}/{progress.trials}"
    what = {
        "search": trial,
        "fit": "training the winner",
        "head": "training the head",
        "all": "training all layers",
    }.get(progress.stage, f"fine-tuning {progress.stage}")
    best = "" if progress.best is None else f", best {progress.objective} {progress.best:.3f}"
    return f"{what}{best}, {clock(progress.seconds_left)} left"


def program() -> str:
    """What to type for this command line: a relative path if it was called by one, as `make demo` does."""
    called = Path(sys.argv[0])
    by_path = called.name == "pneumokeras" and not called.is_absolute()
    return str(called) if by_path else "pneumokeras"


def after_run(run: Path) -> list[str]:
    """Where a finished run lies, and what to type next: a line each."""
    return [f"Run folder {run}", f"Next: {program()} report {shlex.quote(str(run))}"]


def clock(seconds: float) -> str:
    """Such as 0:42, 12:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_bytes(size: int) -> str:
    """Such as 38.5 MB."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def talking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --quiet, --verbose and --debug, and a `Talk` as its first argument."""

    @click.option("--quiet", "-q", is_flag=True, help="Say nothing but results and errors.")
    @click.option("--verbose", "-v", is_flag=True, help="Say what the library logs, too.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @wraps(command)
    def wrapped(*, quiet: bool, verbose: bool, debug: bool, **options: Any) -> None:
        logging.basicConfig(
            level=logging.INFO if verbose else logging.ERROR, format="%(message)s", stream=sys.stderr
        )
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # of a bad image our own line is enough
        try:
            command(Talk(quiet=quiet, verbose=verbose), **options)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            _exit_with(
                "Interrupted. Repeat the command to go on; a fit under way begins again.", status=INTERRUPTED
            )
        except Exception as error:
            if debug:
                traceback.print_exc()
            if isinstance(error, PneumokerasError):
                command_asked = click.get_current_context().command
                _exit_with(with_options(str(error), command_asked), status=error.exit_status)
            _exit_with(f"{type(error).__name__}: {error} (unexpected; --debug shows where)", status=1)

    return wrapped


def with_options(message: str, command: click.Command) -> str:
    """Return a library's message with the parameters it names replaced by a command's options.

    Args:
        message: as an error has it, parameters in backticks: `max_trials`, `cache=False`.
        command: the command that was called. A parameter that is none of its options keeps its own name.
    """
    options = {
        word.lstrip("-").replace("-", "_"): (word, option.is_flag)
        for option in command.params
        if isinstance(option, click.Option)
        for word in (*option.opts, *option.secondary_opts)
    }

    def replaced(match: re.Match[str]) -> str:
        name, value = match["name"], (match["value"] or "").strip("'\"")
        if value == "False" and f"no_{name}" in options:
            return options[f"no_{name}"][0]
        if name not in options:
            return match[0].strip("`")
        option, is_flag = options[name]
        return f"{option} {value}" if value and not is_flag else option

    return re.sub(r"`(?P<name>\w+)(?:=(?P<value>[^`]+))?`", replaced, message)


def load_tensorflow() -> None:
    """Import TensorFlow without the lines it writes about processors and missing graphics cards.

    They come from its C++ side before any level can be set, so standard error itself is turned aside
    while it is imported; what was written is shown if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as aside:
        sys.stderr.flush()
        standard_error = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            import keras
            import tensorflow  # noqa: F401
        except BaseException:
            aside.seek(0)
            os.write(standard_error, aside.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
    keras.utils.disable_interactive_logging()  # its progress bars would go to stdout, among the results


def _exit_with(message: str, *, status: int) -> NoReturn:
    click.echo("Error: " + " ".join(message.split()), err=True)
    sys.exit(status)
