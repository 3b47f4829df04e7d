"""Files that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pneumokeras.core.errors import OutputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the place of `path` when the block ends well.

    Args:
        path: the file to write. Its folder is made if it is missing.

    Yields:
        A path in the same folder and with the same suffix. If the block raises, whatever was written
        there is removed and `path` is as it was.

    Raises:
        OutputError: if nothing can be written there.
    """
    target = Path(path)
    with _naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        with _naming(target):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Say of what goes wrong which file was wanted, not which temporary one."""
    try:
        yield
    except OSError as error:
        raise OutputError(error.errno, error.strerror, str(target)) from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as strict JSON (no NaN), indented for people.

    A byte of a file's name that is no UTF-8 is written as JSON's own escape, which `read_json` gives back.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read the JSON file at `path`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write `rows` to `path` under the header `columns`; a missing or `None` value is an empty cell."""
    rows = list(rows)
    text = _csv_text(columns, rows, csv.QUOTE_MINIMAL)
    if "\r" in text:  # Python before 3.13 leaves it unquoted, and then ends a row there
        text = _csv_text(columns, rows, csv.QUOTE_ALL)
    write_text(path, text)


def read_csv(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Read the rows of the CSV file at `path`, each a mapping from column to text."""
    return list(csv_reader(path))


def csv_reader(path: str | os.PathLike[str]) -> csv.DictReader[str]:
    """The rows of the CSV file at `path` one after the other, with the lines they stand in."""
    text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    return csv.DictReader(io.StringIO(text, newline=""))


def _csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], quoting: Literal[0, 1]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
