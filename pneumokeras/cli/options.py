"""Options, and types of their values, that several commands share."""

from __future__ import annotations

import os
import re
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


class OutputFile(click.Path):
    """A file to be written; whether it can be is checked before any work is done."""

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(path_type=Path, allow_dash=allow_dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path if its folder is writable, or can be made; `-` is stdout where it is allowed."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if str(path) == "-":
            if not self.allow_dash:
                self.fail("- is no file here; name one.", param, ctx)
            return path
        if os.path.isdir(path):
            self.fail(f"{path} cannot be written: {path.absolute()} is a folder.", param, ctx)
        place = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not os.path.isdir(place):
            self.fail(f"{path} cannot be written: {place} is not a folder.", param, ctx)
        if not os.access(place, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: {place} is not writable.", param, ctx)
        return path


class FineTuning(click.ParamType):
    """A stage of training: what it trains, for how many epochs, at which learning rate."""

    name = "WHAT[:EPOCHS[:RATE]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Convert `"stage5:5:1e-5"` to the arguments of a `Stage`."""
        if isinstance(value, dict):
            return value
        match = re.fullmatch(
            r"(head|all|stage\d+|top ?\d+)(?::([1-9]\d*)(?::(\d*\.?\d+(?:e-?\d+)?))?)?", value
        )
        if match is None:
            self.fail(
                f"{value!r}: expected what to train, epochs and learning rate, as in stage5:5:1e-5.",
                param,
                ctx,
            )
        what, epochs, rate = match.groups()
        given = {"epochs": epochs and int(epochs), "learning_rate": rate and float(rate)}
        return {"trainable": re.sub(r"top ?", "top ", what)} | {
            name: number for name, number in given.items() if number is not None
        }


data_option = click.option(
    "--data", "path", type=PATH, required=True, help="Folder, PneumoniaMNIST .npz or CSV manifest."
)
skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Skip radiographs that cannot be decoded, and list them."
)


def seed_option(meaning: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--seed` with `meaning` as its help text."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=meaning)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--seed`, `--run` and `--keep-val`: how it splits, and where it keeps the run."""
    command = click.option("--keep-val", is_flag=True, help="Keep the val split even if it is small.")(
        command
    )
    command = click.option("--run", type=PATH, help="Run folder.  [default: tuner_runs/<model>-<hash>]")(
        command
    )
    return seed_option("Seed of the splits and of training.")(command)


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
