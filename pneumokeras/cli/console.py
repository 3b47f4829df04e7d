"""Print results on stdout, everything else on stderr, and errors in one line."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.filesize import decimal
from rich.status import Status

from pneumokeras.core.backend import require_tensorflow
from pneumokeras.core.errors import PneumokerasError, SettingsError, one_line
from pneumokeras.core.quiet import without_chatter

if TYPE_CHECKING:
    from pneumokeras.runs.result import TuningResult
    from pneumokeras.training.features import ExtractionProgress
    from pneumokeras.training.progress import TuningProgress

INTERRUPTED = 130
LINE_EVERY = 60
"""Seconds without a line after which progress prints one if there is no terminal."""


class Commands(click.Group):
    """A group of commands."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with the whole first sentence of its help."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(1000)) for name, command in commands if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class OneLineErrors(Commands):
    """A group of commands that reports wrong usage in one line and exits with 2."""

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
            _exit_with(f"{_as_sentence(error.format_message())} See {path} --help.", status=2)
        except click.ClickException as error:
            _exit_with(error.format_message(), status=error.exit_code)
        except click.Abort:
            _exit_with("Interrupted.", status=INTERRUPTED)


@dataclass
class Talk:
    """What a command prints.

    Attributes:
        quiet: print results and errors only.
        verbose: also print what the library logs.
        warns_in_result: the command prints the warning of a run with its result.
    """

    quiet: bool = False
    verbose: bool = False
    warns_in_result: bool = False
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def say(self, text: str) -> None:
        """Print progress or a notice on stderr; parameters in backticks become the command's options."""
        if not self.quiet:
            context = click.get_current_context(silent=True)
            shown = with_options(text, context.command, verbatim=_users_paths(context)) if context else text
            self._console.print(shown, markup=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """Print a result on stdout; file names keep their bytes."""
        click.echo(os.fsencode(text))

    def searching(self) -> SearchProgress:
        """Return a context that shows the progress of an extraction and a search."""
        return SearchProgress(self._console, silent=self.quiet)


class SearchProgress:
    """Progress of an extraction and a search: one moving line on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, *, silent: bool):
        self._console = console
        self._silent = silent
        self._status: Status | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> SearchProgress:
        if self._console.is_terminal and not self._silent:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def agrees_to_store(self, size: int, folder: Path) -> bool:
        """Ask on the terminal whether feature maps of `size` bytes may be stored in `folder`.

        Raises:
            SettingsError: if there is no terminal to ask on.
        """
        question = f"Fine-tuning stores {decimal(size)} of feature maps in {folder}"
        if self._status is None or not sys.stdin.isatty():
            raise SettingsError(
                f"{question}. Agree with --yes, or train without them with --no-cache.", parameter="confirm"
            )
        self._status.stop()
        agreed = click.confirm(f"{question}. Continue?", default=True, err=True)
        self._status.start()
        if not agreed:
            self._print("Nothing is stored: fine-tuning runs the whole model in every epoch.")
        return agreed

    def __call__(self, progress: TuningProgress | ExtractionProgress) -> None:
        """Show the state of the extraction or the search."""
        from pneumokeras.training.progress import TuningProgress

        if isinstance(progress, TuningProgress):
            self._search(progress)
        else:
            self._extraction(progress)

    def _extraction(self, progress: ExtractionProgress) -> None:
        left = progress.wanted - progress.found - progress.done
        line = str(progress)
        if self._status is not None and left:
            self._status.update(line)
        if self._silent:
            return
        if not progress.done:
            self._print(f"features: {progress.found:,} of {progress.wanted:,} views found")
        elif not left:
            rate = f"{progress.images_per_second:.1f} images/s"
            self._print(f"features: {progress.done:,} views computed in {progress.precision}, {rate}")
        elif self._status is None and time.monotonic() - self._last_line > LINE_EVERY:
            self._print(line)

    def _search(self, progress: TuningProgress) -> None:
        line = str(progress)
        waited = time.monotonic() - self._last_line
        if self._status is not None:
            ended = progress.trial_ended and progress.stage != "search"
            epoch = "" if ended else f"  (epoch {progress.epoch}/{progress.epochs})"
            self._status.update(f"{line}{epoch}")
        elif waited > LINE_EVERY and not (progress.trial_ended or self._silent):
            self._print(f"{line}, epoch {progress.epoch}/{progress.epochs}")
        if progress.trial_ended and not self._silent:
            self._print(line)

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(line, markup=False, soft_wrap=True)


def program() -> str:
    """Return how to call this program: by its relative path if it was called by one, as in `make demo`."""
    called = Path(sys.argv[0])
    by_path = called.name == "pneumokeras" and not called.is_absolute()
    return str(called) if by_path else "pneumokeras"


def warnings_of(result: TuningResult) -> list[str]:
    """Return a line if the threshold chosen on validation tells nothing, else nothing."""
    return [f"Warning: {result.warning}"] if result.warning else []


def after_run(run: Path) -> list[str]:
    """Return two lines: where a finished run is, and what to type next."""
    return [f"Run folder {run}", f"Next: {program()} report {shlex.quote(str(run))}"]


def talking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --quiet, --verbose and --debug, and a `Talk` as its first argument."""

    @click.option("--quiet", "-q", is_flag=True, help="Print results and errors only.")
    @click.option("--verbose", "-v", is_flag=True, help="Also print what the library logs.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @wraps(command)
    def wrapped(*, quiet: bool, verbose: bool, debug: bool, **options: Any) -> None:
        logging.basicConfig(
            level=logging.INFO if verbose else logging.ERROR, format="%(message)s", stream=sys.stderr
        )
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # we report bad images ourselves
        talk = Talk(quiet=quiet, verbose=verbose)
        try:
            with _saying_warnings(talk):
                command(talk, **options)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            _exit_with(
                "Interrupted. Repeat the command to resume; an unfinished fit starts again.",
                status=INTERRUPTED,
            )
        except Exception as error:
            if debug:
                traceback.print_exc()
            if isinstance(error, PneumokerasError):
                called = click.get_current_context()
                verbatim = _users_paths(called, error)
                _exit_with(
                    with_options(str(error), called.command, verbatim=verbatim), status=error.exit_status
                )
            text = " ".join(str(error).split())
            _exit_with(f"{type(error).__name__}: {text} (unexpected; --debug shows where)", status=1)

    return wrapped


@contextmanager
def _saying_warnings(talk: Talk) -> Iterator[None]:
    """Say what runs, training and files to predict warn of, such as that a run was finished before."""
    if talk.verbose:  # it shows all that is logged
        yield
        return
    handler = _Saying(talk)
    loggers = [logging.getLogger(f"pneumokeras.{room}") for room in ("runs", "training", "data.inputs")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Saying(logging.Handler):
    """Passes warnings of the library to `Talk.say`."""

    def __init__(self, talk: Talk):
        super().__init__(logging.WARNING)
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        """Say a message, unless the result has it."""
        if not (self._talk.warns_in_result and getattr(record, "of_result", False)):
            self._talk.say(record.getMessage())


def with_options(message: str, command: click.Command, *, verbatim: Iterable[str] = ()) -> str:
    """Return a library's message with the parameters it names replaced by the command's options.

    `max_trials=20` becomes `--max-trials 20`, `cache=False` becomes `--no-cache`, `skip_bad=True` becomes
    `--skip-bad`, and `run` becomes `RUN` where it is an argument. A parameter stands alone: backticks that
    touch a letter or a path's separator are part of a name.

    Args:
        message: with parameters in backticks, such as `max_trials` or `cache=False`.
        command: the command that was called. Parameters that are none of its options keep their names.
        verbatim: texts, such as paths of the user's, that stay as they are wherever they occur.
    """
    options = {name: option for option in command.params for name in _names(option)}

    def replaced(match: re.Match[str]) -> str:
        if match["name"] is None:
            return match[0]
        name, value = match["name"], (match["value"] or "").strip("'\"")
        if value in ("True", "False") and f"no_{name}" in options:
            name, value = f"no_{name}", str(value == "False")
        if (option := options.get(name)) is None:
            return match[0].strip("`")
        if isinstance(option, click.Argument):
            return option.human_readable_name
        if value in ("False", "None"):
            return f"no {option.opts[0]}"
        is_flag = isinstance(option, click.Option) and option.is_flag
        return option.opts[0] if is_flag or not value else f"{option.opts[0]} {value}"

    kept = sorted({re.escape(one_line(text)) for text in verbatim if "`" in text}, key=len, reverse=True)
    parameter = r"(?<![\w/\\.-])`(?P<name>\w+)(?:=(?P<value>[^`]+))?`(?![\w/\\])(?!\.\w)"
    return re.sub("|".join([*kept, parameter]), replaced, message)


def _users_paths(command: click.Context, error: PneumokerasError | None = None) -> set[str]:
    """Return the paths that the user gave to a command, and the one that an error is about."""
    given = [value for values in command.params.values() for value in _flat(values)]
    paths = {str(value) for value in given if isinstance(value, str | Path)}
    return paths if error is None or error.path is None else {*paths, str(error.path)}


def _flat(values: Any) -> Iterable[Any]:
    return values if isinstance(values, list | tuple) else (values,)


def _names(option: click.Parameter) -> set[str]:
    """Return the parameter names that an option may stand for, such as `data` and `path` for `--data`."""
    words = {word[2:].replace("-", "_") for word in option.opts if word.startswith("--")}
    return words | {str(option.name)}


def load_tensorflow() -> None:
    """Import TensorFlow without its messages about processors and missing graphics cards."""
    require_tensorflow()
    with without_chatter():
        import keras
        import tensorflow  # noqa: F401
    keras.utils.disable_interactive_logging()  # its progress bars would mix with the results on stdout


def _as_sentence(text: str) -> str:
    """Return a message of click's on one line, with an end: its lists have a line for each entry."""
    text = text.replace("\n\t", " ").replace("not a valid integer range", "not a whole number")
    text = text.replace("not a valid float range", "not a number")
    return text if text.endswith(("?", "!")) else f"{text.rstrip('.')}."


def _exit_with(message: str, *, status: int) -> NoReturn:
    click.echo(f"Error: {one_line(message)}", err=True)
    sys.exit(status)
