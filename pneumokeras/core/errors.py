"""What can go wrong, as few kinds as a caller can tell apart."""


class PneumokerasError(Exception):
    """Anything pneumokeras refuses or fails at, said in one line: what, what was expected, what to do.

    Attributes:
        exit_status: what the command line exits with: 2 for wrong usage or input, 1 for work that failed.
    """

    exit_status = 2


class DataError(PneumokerasError, ValueError):
    """A folder, file or array is not the radiographs it was taken for.

    Args:
        fault: what is wrong.
        advice: what to do about it, where many such faults may be listed and one advice is enough.
    """

    def __init__(self, fault: str, advice: str = ""):
        super().__init__(fault, advice)

    @property
    def fault(self) -> str:
        """What is wrong, on one line, whatever the file names quoted in it hold."""
        return one_line(self.args[0])

    def __str__(self) -> str:
        """The whole message on one line."""
        return one_line(" ".join(filter(None, self.args)))


class OutputError(PneumokerasError, OSError):
    """A file cannot be written where it is wanted; made of number, reason and name as any `OSError`."""

    def __str__(self) -> str:
        """What was wanted and why it cannot be, on one line."""
        return one_line(f"Cannot write {self.filename}: {self.strerror}. Name another place, or make room.")


class ModelError(PneumokerasError, ValueError):
    """A model, its weights or its settings cannot be used as asked."""


class RunError(PneumokerasError, ValueError):
    """A run folder is missing, incomplete, or belongs to other settings."""


class TuningError(PneumokerasError, RuntimeError):
    """The search was started as asked and produced no usable model."""

    exit_status = 1


def one_line(text: str) -> str:
    r"""`text` with what cannot be shown, such as line breaks and undecodable bytes, written as in `\n`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
