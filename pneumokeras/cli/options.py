"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


class ClassNames(click.ParamType):
    """Two class names with a comma between them."""

    name = "A,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """`"NORMAL,PNEUMONIA"` -> `("NORMAL", "PNEUMONIA")`."""
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",")]
        if len(names) != 2 or not all(names) or names[0].upper() == names[1].upper():
            self.fail(
                f"{value!r}: expected two names, the healthy class first, as in NORMAL,PNEUMONIA.", param, ctx
            )
        return names[0], names[1]


skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Leave out radiographs that cannot be decoded, and list them."
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--classes` and `--patient-pattern`: how folders and file names are read."""
    command = click.option(
        "--patient-pattern",
        metavar="REGEX",
        help="Regular expression whose first group is the patient in a file's name.",
    )(command)
    return click.option(
        "--classes",
        type=ClassNames(),
        default="NORMAL,PNEUMONIA",
        show_default=True,
        help="Folder names of class 0 and class 1.",
    )(command)
