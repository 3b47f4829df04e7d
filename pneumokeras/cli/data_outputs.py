"""Files that the commands on data write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class OutputFile(click.Path):
    """A file to be written; whether it can be is checked before any work is done."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path if its folder is writable, or can be made."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if os.path.isdir(path):
            self.fail(f"{path} cannot be written: {path.absolute()} is a folder.", param, ctx)
        place = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not os.path.isdir(place):
            self.fail(f"{path} cannot be written: {place} is not a folder.", param, ctx)
        if not os.access(place, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: {place} is not writable.", param, ctx)
        return path
