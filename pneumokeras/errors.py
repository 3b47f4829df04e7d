"""What can go wrong, as few kinds as a caller can tell apart."""

import re

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class PneumokerasError(Exception):
    """Anything pneumokeras refuses or fails at, said in one line: what, what was expected, what to do.

    Attributes:
        exit_status: what the command line exits with: 2 for wrong usage or input, 1 for work that failed.
    """

    exit_status = 2


class DataError(PneumokerasError, ValueError):
    """A folder, file or array is not the radiographs it was taken for."""

    def __str__(self) -> str:
        """The message on one line, whatever the file names quoted in it hold."""
        return one_line(super().__str__())


class ModelError(PneumokerasError, ValueError):
    """A model, its weights or its settings cannot be used as asked."""


class RunError(PneumokerasError, ValueError):
    """A run folder is missing, incomplete, or belongs to other settings."""


class TuningError(PneumokerasError, RuntimeError):
    """The search was started as asked and produced no usable model."""

    exit_status = 1


def one_line(text: str) -> str:
    r"""`text` with line breaks, other control characters and undecodable bytes written out, as in `\n`."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
