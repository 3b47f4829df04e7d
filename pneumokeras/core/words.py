"""Numbers and names in sentences."""

from __future__ import annotations

from collections.abc import Sequence

NAMES_SHOWN = 3


def number_of(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 radiograph` or `2 radiographs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def some_names(names: Sequence[str]) -> str:
    """Return the first three names and the number of others, such as `a, b, c and 2 more`."""
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
