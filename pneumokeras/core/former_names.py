"""Names of earlier versions that still work, each with a warning that gives the new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def former_arguments(*by_position: str, **renamed: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that lets a function take arguments as earlier versions did.

    Args:
        *by_position: names of keyword-only arguments that could follow the positional ones.
        **renamed: new names of arguments by their former names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = signature(function).parameters.values()
        count = sum(parameter.kind is Parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> R:
            former = dict(zip(by_position, args[count:], strict=False))
            for name in former:
                _warn(f"{name} by position", f"{name}=")
            for old, new in renamed.items():
                if old in kwargs and new not in kwargs:  # with both, the function refuses the old one
                    _warn(f"{old}=", f"{new}=")
                    former[new] = kwargs.pop(old)
            return function(*args[:count], *args[count + len(by_position) :], **former, **kwargs)

        return wrapped

    return decorate


def former_attribute(old: str, new: str) -> property:
    """Return an attribute that stands for the one called `new`."""

    def value(self: Any) -> Any:
        _warn(old, new)
        return getattr(self, new)

    return property(value, doc=f"Former name of `{new}`.")


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is called {new} since version 0.2.", DeprecationWarning, stacklevel=3)
