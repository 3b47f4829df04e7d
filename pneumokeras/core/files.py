"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pneumokeras.core.errors import DataError, OutputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` when the block ends without an error.

    Args:
        path: the file to write. Its folder is created if it is missing.

    Yields:
        The path of an empty file in the same folder and with the same suffix. If the block raises, this
        file is removed and `path` stays as it was.

    Raises:
        OutputError: if nothing can be written there.
    """
    target = Path(path)
    with _output_errors_for(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_file_beside(target)
    try:
        yield temporary
        _flush_to_disk(temporary)
        with _output_errors_for(target):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def filling(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `folder` when the block ends without an error.

    Args:
        folder: a new or empty folder. The folders around it are created if they are missing.

    Yields:
        The path of an empty folder beside it. If the block raises, `folder` stays as it was.

    Raises:
        DataError: if `folder` is not empty, or is a file.
        OutputError: if nothing can be written there, by the block either.
    """
    target = Path(folder).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} already holds something. Expected a new or empty folder.", path=target)
    with _output_errors_for(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            staged = Path(scratch) / target.name
            staged.mkdir()
            yield staged
            if target.exists():
                target.rmdir()  # fails if the folder is no longer empty
            staged.rename(target)


@contextmanager
def _output_errors_for(target: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into an `OutputError` that names `target`, not the temporary file."""
    try:
        yield
    except OSError as error:
        raise OutputError(error.errno, error.strerror or str(error), str(target)) from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as strict, indented JSON without NaN.

    A byte of a file name that is not UTF-8 is written as a JSON escape, which `read_json` restores.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read the JSON file at `path`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write `csv_text(columns, rows)` to `path`, whole or not at all."""
    write_text(path, csv_text(columns, rows))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return `rows` as CSV under the header `columns`; a missing value or `None` is an empty cell."""
    rows = list(rows)
    text = _quoted(columns, rows, csv.QUOTE_MINIMAL)
    if "\r" in text:  # Python before 3.13 does not quote it, and ends the row there on reading
        text = _quoted(columns, rows, csv.QUOTE_ALL)
    return text


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Read the rows of the CSV file at `path`, each a mapping from column to text."""
    return list(csv_reader(path))


def csv_reader(path: str | os.PathLike[str]) -> csv.DictReader[str]:
    """Return a reader of the rows of the CSV file at `path`; its `line_num` is the line of the last row."""
    text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    return csv.DictReader(io.StringIO(text, newline=""))


def _quoted(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], quoting: Literal[0, 1]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _new_file_beside(target: Path) -> Path:
    """Create an empty file with a hidden name of its own; its permissions follow the umask."""
    path = target.parent / f".{target.stem}-{secrets.token_hex(4)}{target.suffix}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def runs_in(folder: Path) -> list[str]:
    """Return the names of the run folders in a folder, sorted."""
    return sorted(path.parent.name for path in folder.glob("*/run.json"))
