"""Recognize folders of phantoms by the note that `write_phantoms` leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

README_NAME = "README.txt"

README = (
    "Synthetic drawings made by pneumokeras (data/phantoms.py): no patient, no real radiograph.\n"
    "masks/ marks the drawn opacities (255) of each PNEUMONIA radiograph; not for any clinical use.\n"
)


def are_phantoms(images: tuple[Path, ...] | np.ndarray) -> bool:
    """Return whether any of the images lies where `write_phantoms` put it, in `folder/{split}/{class}`."""
    if isinstance(images, np.ndarray):
        return False
    folders = {path.resolve().parent.parent for path in {file.parent for file in images}}
    return any(_is_written_here(folder) for folder in folders)


def _is_written_here(folder: Path) -> bool:
    note = folder / README_NAME
    return note.is_file() and note.read_text(encoding="utf-8", errors="replace") == README
