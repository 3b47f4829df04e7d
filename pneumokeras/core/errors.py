"""The errors that pneumokeras raises: one class for each kind that a caller may handle differently."""

from __future__ import annotations

import re
from os import PathLike, fspath


class PneumokerasError(Exception):
    """Base class of all errors of pneumokeras.

    The message is one line: what is wrong, what was expected, what to do. It names parameters in backticks,
    as in `max_trials` or `cache=False`; a command shows its own option instead.

    Args:
        message: the whole message.
        path: the file or folder that caused the error.
        parameter: the function's parameter that caused it.

    Attributes:
        path: as given, as a string; `None` if there is none.
        parameter: as given; `None` if there is none.
        exit_status: exit status of the command line: 2 for wrong usage or input, 1 for work that failed.

    Example:
        >>> try:
        ...     pk.load_recipe("customcnn").variant("improved")
        ... except pk.PneumokerasError as error:
        ...     print(error.parameter, error.exit_status)
        variant 2
    """

    exit_status = 2

    def __init__(
        self, message: str, *, path: str | PathLike[str] | None = None, parameter: str | None = None
    ):
        super().__init__(message)
        self.path = None if path is None else fspath(path)
        self.parameter = parameter

    def __str__(self) -> str:
        """Return the message on one line."""
        return one_line(super().__str__())


class SettingsError(PneumokerasError, ValueError):
    """A setting is unknown, out of range, or cannot be combined with another.

    Example:
        >>> pk.load_recipe("customcnn").variant("improved")
        Traceback (most recent call last):
        ...
        pneumokeras.core.errors.SettingsError: customcnn has no variant 'improved'. ...
    """


class DataError(PneumokerasError, ValueError):
    """A folder, file or array does not hold the data that was expected.

    Args:
        fault: what is wrong.
        advice: what to do about it; kept apart so that a list of faults can give it once.
        path: as for `PneumokerasError`.
        parameter: as for `PneumokerasError`.

    Example:
        >>> pk.load_splits("absent")
        Traceback (most recent call last):
        ...
        pneumokeras.core.errors.DataError: absent does not exist. ...
    """

    def __init__(
        self,
        fault: str,
        advice: str = "",
        *,
        path: str | PathLike[str] | None = None,
        parameter: str | None = None,
    ):
        super().__init__(" ".join(filter(None, (fault, advice))), path=path, parameter=parameter)
        self.fault = one_line(fault)
        self.advice = advice


class OutputError(PneumokerasError, OSError):
    """A file cannot be written; the arguments are those of `OSError`."""

    def __init__(self, number: int | None, reason: str | None, filename: str):
        OSError.__init__(self, number, reason, filename)
        self.path = filename
        self.parameter = None

    def __str__(self) -> str:
        """Return the file and the reason on one line."""
        return one_line(f"Cannot write {self.filename}: {self.strerror}. Name another place, or make room.")


class ModelError(PneumokerasError, ValueError):
    """A model or its weights cannot be loaded or used.

    Example:
        >>> pk.load_model("absent.keras")
        Traceback (most recent call last):
        ...
        pneumokeras.core.errors.ModelError: ...
    """


class RunError(PneumokerasError, ValueError):
    """A run folder is missing, incomplete, or belongs to other settings.

    Example:
        >>> pk.load_run("absent")
        Traceback (most recent call last):
        ...
        pneumokeras.core.errors.RunError: ...
    """


class TuningError(PneumokerasError, RuntimeError):
    """A search ran and produced no usable model.

    Example:
        >>> pk.TuningError("All trials failed.").exit_status
        1
    """

    exit_status = 1


_SAYS_NOTHING = (
    "Graph execution error",
    "Exception encountered when calling",
    "Detected at node",
    "<stack traces",
    'File "',
)
"""Beginnings of the lines that TensorFlow and Keras put before what is wrong."""


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's message that says what is wrong, or its kind if none does.

    Its backticks become quotation marks: in our messages they mark our parameters.
    """
    plain = re.sub(r"\x1b\[\d*m|\{\{.*?\}\}| *\[Op:.*", "", str(error))  # bold type, nodes of a graph
    lines = [line.strip() for line in plain.splitlines()]
    telling = (line for line in lines if line and not line.startswith(_SAYS_NOTHING))
    return next(telling, type(error).__name__).rstrip(".").replace("`", "'")


def one_line(text: str) -> str:
    r"""Return `text` with line breaks and other unprintable characters as escapes, such as `\n`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
