"""What can go wrong, as few kinds as a caller can tell apart."""

from __future__ import annotations

from os import PathLike, fspath


class PneumokerasError(Exception):
    """Anything pneumokeras refuses or fails at, said in one line: what, what was expected, what to do.

    Where a message names a parameter of a function, it stands in backticks, as in `max_trials` or
    `cache=False`; a command shows its own option instead.

    Args:
        message: the whole message.
        path: the file or folder it is about, if it is about one.
        parameter: the parameter it is about, by its name in Python, if it is about one.

    Attributes:
        path: the file or folder it is about, as a string, or `None`.
        parameter: the parameter it is about, or `None`.
        exit_status: what the command line exits with: 2 for wrong usage or input, 1 for work that failed.
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
    """A setting is unknown, out of range, or does not go with another.

    Example:
        >>> import pneumokeras as pk
        >>> pk.Stage("stage5", epochs=0)
        Traceback (most recent call last):
        ...
        pneumokeras.core.errors.SettingsError: Expected `epochs` as a whole number of at least 1. Received 0.
    """


class DataError(PneumokerasError, ValueError):
    """A folder, file or array is not the radiographs it was taken for.

    Args:
        fault: what is wrong.
        advice: what to do about it, where many such faults may be listed and one advice is enough.
        path: as for `PneumokerasError`.
        parameter: as for `PneumokerasError`.
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
    """A file cannot be written where it is wanted.

    Args:
        number: the system's number of the error.
        reason: what the system says.
        filename: the file that was wanted.
    """

    def __init__(self, number: int | None, reason: str | None, filename: str):
        OSError.__init__(self, number, reason, filename)
        self.path = filename
        self.parameter = None

    def __str__(self) -> str:
        """Return what was wanted and why it cannot be, on one line."""
        return one_line(f"Cannot write {self.filename}: {self.strerror}. Name another place, or make room.")


class ModelError(PneumokerasError, ValueError):
    """A model or its weights cannot be used as asked."""


class RunError(PneumokerasError, ValueError):
    """A run folder is missing, incomplete, or belongs to other settings."""


class TuningError(PneumokerasError, RuntimeError):
    """The search was started as asked and produced no usable model."""

    exit_status = 1


def one_line(text: str) -> str:
    r"""Return `text` with line breaks, undecodable bytes and the like written as escapes, such as `\n`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
