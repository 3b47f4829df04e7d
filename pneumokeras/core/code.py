"""Tell a user's code from other code: what decides the result of functions and classes, as a hash."""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_NOT_WHAT_IT_DOES = (
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__"),
    *("__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl"),
)
"""Members of a class that say nothing about what it does."""

_STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])


def hash_of_code(*values: Any) -> str:
    """Return a hash of functions, classes and values: of their code, and of what the code refers to.

    Followed are defaults, closures, base classes, members, and the global functions, classes and values that
    a function names. Of installed libraries, only names count; comments and line numbers do not.

    Args:
        *values: functions, classes, or values of any kind.

    Example:
        >>> from pneumokeras.core.code import hash_of_code
        >>> hash_of_code(lambda x: x + 1) == hash_of_code(lambda y: y + 1)
        True
        >>> hash_of_code(lambda x: x + 1) == hash_of_code(lambda x: x + 2)
        False
    """
    hashing = _Hashing()
    hashing.add_all(values)
    return hashing.digest.hexdigest()


def is_installed(module: str) -> bool:
    """Return whether a module belongs to Python, to this package or to an installed library."""
    if module.partition(".")[0] == "pneumokeras":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if module == "__main__" or module not in sys.modules:
        return False
    if file is None:  # part of the interpreter
        return True
    path = Path(file)
    return bool({"site-packages", "dist-packages"} & {*path.parts}) or path.is_relative_to(_STANDARD_LIBRARY)


class _Hashing:
    def __init__(self) -> None:
        self.digest = blake2b(digest_size=8)
        self._seen: dict[int, Any] = {}

    def add_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self._add(value)
        self._text("end")

    def _text(self, text: str) -> None:
        self.digest.update(text.encode() + b"\0")

    def _add(self, value: Any) -> None:
        if isinstance(value, staticmethod | classmethod | MethodType):
            value = value.__func__
        if isinstance(value, np.ndarray):
            self._text(f"{value.dtype} {value.shape}")
            self.digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, list | tuple):
            self.add_all(value)
        elif isinstance(value, set | frozenset):
            self.add_all(sorted(map(repr, value)))
        elif isinstance(value, Mapping):
            self.add_all(part for item in value.items() for part in item)
        elif isinstance(value, ModuleType):
            self._text(value.__name__)
        elif isinstance(value, CodeType):
            self._code(value)
        elif isinstance(value, property):
            self.add_all([value.fget, value.fset])
        elif isinstance(value, functools.partial):
            self.add_all([value.func, value.args, value.keywords])
        elif isinstance(value, FunctionType | type):
            self._definition(value)
        else:
            self._instance(value)

    def _code(self, code: CodeType) -> None:
        self.digest.update(code.co_code)
        self.add_all([code.co_names, code.co_argcount, code.co_kwonlyargcount, code.co_flags])
        self.add_all(code.co_consts)

    def _definition(self, value: FunctionType | type) -> None:
        self._text(value.__qualname__)
        if is_installed(value.__module__ or ""):
            self._text(value.__module__)
        elif id(value) not in self._seen:
            self._seen[id(value)] = value  # kept, so that no other object gets its number
            if isinstance(value, type):
                self.add_all(value.__bases__)
                self.add_all(
                    part
                    for name, member in vars(value).items()
                    if name not in _NOT_WHAT_IT_DOES
                    for part in (name, member)
                )
            else:
                self._function(value)

    def _function(self, function: FunctionType) -> None:
        self.add_all([function.__code__, function.__defaults__, function.__kwdefaults__])
        for cell in function.__closure__ or ():
            try:
                self._add(cell.cell_contents)
            except ValueError:  # not assigned yet
                self._text("empty")
        for name in _globals_of(function.__code__):
            if name in function.__globals__:
                self._add(function.__globals__[name])

    def _instance(self, value: Any) -> None:
        kind = type(value)
        self._text(f"{kind.__module__}.{kind.__qualname__} {getattr(value, '__qualname__', '')}")
        if not is_installed(kind.__module__):
            self._add(kind)
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                self._add(getattr(value, "__dict__", {}))
        elif kind.__module__.partition(".")[0] not in ("keras", "keras_tuner", "tensorflow"):
            text = repr(value)
            if " at 0x" not in text:  # else it is another in each process
                self._text(text)


def _globals_of(code: CodeType) -> Iterable[str]:
    """Return the global names that code looks up, functions inside it included, in order."""
    own = [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    inner = [name for part in code.co_consts if isinstance(part, CodeType) for name in _globals_of(part)]
    return dict.fromkeys([*own, *inner])
