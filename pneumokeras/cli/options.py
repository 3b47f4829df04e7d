"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


class ClassNames(click.ParamType):
    """Two class names, separated by a comma."""

    name = "A,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Convert `"NORMAL,PNEUMONIA"` to `("NORMAL", "PNEUMONIA")`."""
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",")]
        if len(names) != 2 or not all(names) or names[0].upper() == names[1].upper():
            self.fail(
                f"{value!r}: expected two names, the healthy class first, as in NORMAL,PNEUMONIA.", param, ctx
            )
        return names[0], names[1]


skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Skip radiographs that cannot be decoded, and list them."
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--classes` and `--patient-pattern`: how it reads folders and file names."""
    command = click.option(
        "--patient-pattern",
        metavar="REGEX",
        help="Regular expression whose first group matches the patient in a file name.",
    )(command)
    return click.option(
        "--classes",
        type=ClassNames(),
        default="NORMAL,PNEUMONIA",
        show_default=True,
        help="Folder names of class 0 and class 1.",
    )(command)
