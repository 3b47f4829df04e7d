"""The recipes that come with the package: their names and files. It needs no TensorFlow."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path

from pneumokeras.core.errors import DataError, SettingsError


def reference_names() -> tuple[str, ...]:
    """Return the names of the reference systems' recipes, in the order of the table."""
    return tuple(_order()["reference"])


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes of the package: the reference systems', then our own."""
    return (*reference_names(), *_order()["own"])


def recipe_text(name: str | PathLike[str]) -> str:
    """Return the text of a recipe's file.

    Args:
        name: one of `recipe_names()`, or the path of a `.toml` file.

    Raises:
        SettingsError: if there is no recipe of that name.
        DataError: if the file cannot be read as text.
    """
    if str(name) in recipe_names():
        return (files(__package__) / f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise SettingsError(
            f"Unknown recipe {str(name)!r}. Expected a .toml file, or one of {', '.join(recipe_names())}.",
            parameter="name",
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path} as text. Expected a recipe in TOML.", path=path) from error


@cache
def _order() -> Mapping[str, list[str]]:
    return tomllib.loads((files(__package__) / "order.toml").read_text(encoding="utf-8"))
