"""Numbers in sentences."""

from __future__ import annotations


def number_of(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 radiograph` or `2 radiographs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
