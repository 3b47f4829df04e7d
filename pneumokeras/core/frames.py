"""Tables as pandas frames; pandas is optional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pneumokeras.core.errors import DataError

if TYPE_CHECKING:
    import pandas


def frame_of(rows: Sequence[Mapping[str, Any]], *, instead: str) -> pandas.DataFrame:
    """Return rows as a pandas frame.

    Args:
        rows: one mapping from column to value for each row.
        instead: what gives the same without pandas, for the message.

    Raises:
        DataError: if pandas, an optional dependency, is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise DataError(
            "Expected pandas for a frame, which is not installed: pip install pandas."
            f" {instead} gives the same without pandas."
        ) from error
    return pandas.DataFrame(rows)
