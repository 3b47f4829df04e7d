"""Load the splits that a command trains on, and print what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumokeras.cli.console import Talk

if TYPE_CHECKING:
    from pneumokeras.data.splits import Splits


def read_splits(talk: Talk, path: Path, **options: Any) -> Splits:
    """Load splits as `load_splits` does, and print their notices and sizes."""
    from pneumokeras.data.from_path import load_splits

    splits = load_splits(path, **options)
    for notice in splits.notices:
        if not talk.verbose:  # --verbose shows what the library logs
            talk.say(notice)
    counts = ", ".join(f"{name} {len(part)}" for name, part in splits.by_name().items())
    talk.say(f"Radiographs: {counts}")
    return splits
