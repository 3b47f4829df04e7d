"""Turn tables of a TOML file into the classes they describe, and say in one line what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from inspect import Parameter, signature
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pneumokeras.core.errors import DataError

_IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


def from_table(kind: Any, table: Any, name: str) -> Any:
    """Create an instance of a class from a table of its arguments.

    Args:
        kind: a class whose arguments have type hints.
        table: the arguments as TOML has them: lists for tuples, tables for dataclasses, and false for `None`
            where the argument is not a switch. Values of types that TOML does not have are passed on.
        name: what the file calls the table.

    Raises:
        DataError: if a key is missing or unknown, or a value has the wrong type.
    """
    table = require_table(table, name)
    arguments = signature(kind).parameters
    require_known(table, arguments, name)
    for key, argument in arguments.items():
        if argument.default is Parameter.empty and key not in table:
            raise DataError(f"{name} lacks {key!r}.")
    hints = get_type_hints(kind.__init__)
    return kind(**{key: _argument(value, hints[key], key, name) for key, value in table.items()})


def _argument(value: Any, hint: Any, key: str, table: str) -> Any:
    """Return a TOML value as an argument with this type hint."""
    fitting = _toml_types(hint)
    if value is False and NoneType in fitting and bool not in fitting:
        return None
    if type(value) not in _IN_WORDS or Any in fitting:
        return value
    kind = float if type(value) is int and int not in fitting else type(value)
    if kind not in fitting:
        expected = " or ".join(words for fit, words in _IN_WORDS.items() if fit in fitting)
        raise DataError(f"Expected {key} in {table} as {expected}. Received {value!r}.")
    found = fitting[kind]
    if is_dataclass(found):
        return from_table(found, value, key)
    if not isinstance(value, list | dict):
        return value
    kinds = get_args(found)
    if isinstance(value, dict):
        return {name: _argument(item, kinds[1], name, key) for name, item in value.items()}
    if get_origin(found) is tuple and Ellipsis not in kinds and len(value) != len(kinds):
        raise DataError(f"Expected {key} in {table} as a list of {len(kinds)}. Received {value!r}.")
    return tuple(_argument(item, kinds[0], key, table) for item in value)


def _toml_types(hint: Any) -> dict[Any, Any]:
    """Map each type of TOML value that fits a type hint to the part of the hint that it fits."""
    if get_origin(hint) in (Union, UnionType):
        return {kind: part for one in get_args(hint) for kind, part in _toml_types(one).items()}
    origin = get_origin(hint) or hint
    if origin is Mapping or is_dataclass(origin):
        return {dict: hint}
    return {list: hint} if origin in (tuple, Sequence) else {origin: hint}


def require_table(value: Any, name: str) -> Mapping[str, Any]:
    """Return a value if it is a table, and raise `DataError` if it is not."""
    if not isinstance(value, Mapping):
        raise DataError(f"Expected {name} as a table. Received {value!r}.")
    return value


def require_known(keys: Iterable[str], known: Iterable[str], name: str) -> None:
    """Raise `DataError` if a table has an unknown key."""
    known = sorted(known)
    if unknown := sorted(set(keys) - set(known)):
        raise DataError(f"Unknown key {unknown[0]!r} in {name}. Expected {', '.join(known)}.")
