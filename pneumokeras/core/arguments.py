"""Checks of numbers and paths that callers pass: each returns Python's own, or names the parameter."""

from __future__ import annotations

import math
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import SettingsError

MAX_SEED = 2**32 - 1
"""The highest seed that NumPy's and Keras' global random states take."""


def whole(parameter: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Return a whole number, such as one of NumPy's, as an `int`.

    Raises:
        SettingsError: if it is none, or lies outside `minimum` to `maximum`.
    """
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not fits or int(value) < minimum or (maximum is not None and int(value) > maximum):
        limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise SettingsError(
            f"Expected `{parameter}` as a whole number {limits}. Received {value!r}.", parameter=parameter
        )
    return int(value)


def seed_number(value: Any) -> int:
    """Return a seed as an `int`.

    Raises:
        SettingsError: if it is no whole number from 0 to `MAX_SEED`.
    """
    return whole("seed", value, minimum=0, maximum=MAX_SEED)


def is_number(value: Any) -> bool:
    """Return whether a value is a real number; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def finite(parameter: str, value: Any, *, minimum: float, above: bool = False) -> float:
    """Return a finite number of at least `minimum` as Python's own.

    Args:
        parameter: its name.
        value: the number; an `int` stays one.
        minimum: the lowest number that is allowed.
        above: refuse the minimum itself.

    Raises:
        SettingsError: if it is no such number.
    """
    if not is_number(value) or not minimum <= value < math.inf or (above and value == minimum):
        limit = f"above {minimum:g}" if above else f"of at least {minimum:g}"
        raise SettingsError(
            f"Expected `{parameter}` as a finite number {limit}. Received {value!r}.", parameter=parameter
        )
    return value if type(value) is int else float(value)


def path_of(parameter: str, value: Any) -> Path:
    """Return a path, a text or an object that stands for one as a `Path`.

    Raises:
        SettingsError: if it is nothing of the kind.
    """
    if not isinstance(value, str | PathLike):
        raise SettingsError(
            f"Expected `{parameter}` as the path of a file or folder. Received {type(value).__name__}.",
            parameter=parameter,
        )
    return Path(value)


def flag(parameter: str, value: Any) -> bool:
    """Return a truth value, such as one of NumPy's, as a `bool`.

    Raises:
        SettingsError: if it is anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise SettingsError(
            f"Expected `{parameter}` as True or False. Received {value!r}.", parameter=parameter
        )
    return bool(value)
