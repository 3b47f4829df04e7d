"""Which recipes there are, and where their files lie."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path

from pneumokeras.core.errors import DataError


def reference_names() -> tuple[str, ...]:
    """The names of the reference systems' recipes, in their order."""
    return tuple(_order()["reference"])


def recipe_names() -> tuple[str, ...]:
    """The names of all recipes that come with the package: the reference systems', then our own."""
    return (*reference_names(), *_order()["own"])


def recipe_text(name: str | PathLike[str]) -> str:
    """The file of a recipe, as it stands.

    Args:
        name: one of `recipe_names()`, or the path of a `.toml` file.

    Raises:
        DataError: if there is none, or it is no text.
    """
    if str(name) in recipe_names():
        return (files(__package__) / f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise DataError(
            f"Unknown recipe {str(name)!r}. Expected a .toml file, or one of {', '.join(recipe_names())}."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text. Expected a recipe in TOML.") from error


@cache
def _order() -> Mapping[str, list[str]]:
    return tomllib.loads((files(__package__) / "order.toml").read_text(encoding="utf-8"))
