"""Read the weights in a file of PyTorch's legacy format, without PyTorch and without running anything.

Such a file is a row of pickles, then the numbers of each storage. A pickle is a program: Python's own machine
lets it call any function of any installed package, and take any amount of memory and time. The machine here
knows the thirty opcodes that PyTorch writes for a state dict. It makes numbers, texts, tuples, lists, dicts
with texts as keys, storages and tensors, and nothing else.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

MAX_BYTES = 2**30
"""Largest file that is read; EfficientNet-Lite4, the largest of its kind, takes 52 MB."""

_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_PROTOCOL = 1001
_ZIP = b"PK\x03\x04"
_MOST_OPCODES = 1_000_000
"""Most opcodes in a pickle; that of EfficientNet-Lite0 has 11,000."""

_MOST_AXES = 8


class _Name(str):
    """The name of something that a pickle asks for, such as `torch.FloatStorage`."""


_TYPES: Mapping[str, np.dtype] = {
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.LongStorage": np.dtype("<i8"),
}


class _Storage(NamedTuple):
    """A row of numbers, which stands at the end of the file."""

    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A view of a storage: numbers `offset + sum(index * stride)`."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def rebuilt(cls, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        """Return a tensor, if all of it lies inside its storage."""
        is_whole = (
            isinstance(storage, _Storage)
            and type(shape) is type(strides) is tuple
            and len(shape) == len(strides) <= _MOST_AXES
            and all(type(extent) is int and 0 <= extent <= MAX_BYTES for extent in (*shape, *strides, offset))
        )
        if not is_whole:
            raise ValueError("one of its tensors has no proper shape")
        steps = [(side - 1) * step for side, step in zip(shape, strides, strict=True)]
        if offset + sum(steps) >= storage.size or math.prod(shape) > storage.size:
            raise ValueError("one of its tensors reaches beyond its storage")
        return cls(storage, offset, shape, strides)

    @property
    def size(self) -> int:
        """The number of its numbers."""
        return math.prod(self.shape)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the tensor as an array of its own, from the numbers of its storage."""
        strides = [step * numbers.itemsize for step in self.strides]
        return as_strided(numbers[self.offset :], self.shape, strides).copy()


class _Machine:
    """Runs a pickle of the few opcodes that a state dict needs."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """Return what the next pickle of a stream holds, and stop behind it.

        Raises:
            ValueError: if it holds an opcode or asks for a name that no state dict needs.
        """
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number == _MOST_OPCODES:
                raise ValueError("it holds more objects than any network has")
            if opcode.name == "STOP":
                break
            if opcode.name not in _ACTIONS:
                raise ValueError(f"it holds the opcode {opcode.name}, which PyTorch does not write")
            _ACTIONS[opcode.name](self, argument)
        return self._stack.pop()

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def mark(self, _: Any) -> None:
        """Note where a tuple, or a row of items, begins."""
        self._marks.append(len(self._stack))

    def above_mark(self) -> list[Any]:
        """Take the values above the last mark from the stack."""
        return self.top(len(self._stack) - self._marks.pop())

    def top(self, count: int) -> list[Any]:
        """Take so many values from the stack."""
        if count > len(self._stack):
            raise IndexError("the stack is empty")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def drop(self, _: Any) -> None:
        """Take a state from the stack, which the dict below it would get; PyTorch keeps versions in it."""
        self.top(1)

    def put(self, number: int) -> None:
        """Give the value on top a number."""
        self._memo[number] = self._stack[-1]

    def get(self, number: int) -> None:
        """Put the value with a number on the stack once more."""
        self.push(self._memo[number])

    def name(self, argument: str) -> None:
        """Put the name of something on the stack, and look nothing up."""
        name = _Name(argument.replace(" ", "."))
        if name not in (*_TYPES, _NEW_DICT, _REBUILD):
            raise ValueError(f"it asks for {name}, which no state dict of floats needs")
        self.push(name)

    def call(self, _: Any) -> None:
        """Do what the two names stand for that a state dict calls."""
        name, arguments = self.top(2)
        if not isinstance(name, _Name) or type(arguments) is not tuple or (name == _NEW_DICT and arguments):
            raise ValueError("it calls something that no state dict calls")
        self.push({} if name == _NEW_DICT else _Tensor.rebuilt(*arguments))

    def set_items(self, pairs: list[Any]) -> None:
        """Put keys and values that follow each other into the dict on top."""
        target, keys = self._stack[-1], pairs[::2]
        if type(target) is not dict or any(type(key) is not str for key in keys):
            raise ValueError("it has keys that are no texts")
        target.update(zip(keys, pairs[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        """Put values at the end of the list on top."""
        if type(self._stack[-1]) is not list:
            raise ValueError("it appends to something that is no list")
        self._stack[-1].extend(values)

    def storage(self, _: Any) -> None:
        """Put a storage on the stack: its kind, type, key, device, size, and the view it is of another."""
        (parts,) = self.top(1)
        kind, dtype, key, _, size, view = parts
        if not isinstance(dtype, _Name) or dtype not in _TYPES or (type(kind), kind) != (str, "storage"):
            raise ValueError("it refers to something that is no storage")
        if type(key) is not str or type(size) is not int or view is not None:
            raise ValueError("it refers to something that is no storage")
        self.push(_Storage(key, _TYPES[dtype], size))


_NEW_DICT, _REBUILD = "collections.OrderedDict", "torch._utils._rebuild_tensor_v2"
_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "NONE": _Machine.push,
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), _Machine.push),
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.above_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.top(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.top(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.top(3))),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items(machine.top(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.append(machine.top(1)),
    "APPENDS": lambda machine, _: machine.append(machine.above_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BINPERSID": _Machine.storage,
    "BUILD": _Machine.drop,
}
"""What each opcode does with its argument."""


def read_state_dict(path: str | PathLike[str], *, hash_prefix: str = "") -> dict[str, np.ndarray]:
    """Read the tensors of a state dict that PyTorch saved in its legacy format.

    Args:
        path: such a `.pth` file.
        hash_prefix: what its SHA-256 begins with, in hexadecimal; empty if it is not known.

    Returns:
        Arrays by name, in the file's order, with the types and shapes of the tensors.

    Raises:
        ValueError: if the file has another hash, is larger than `MAX_BYTES`, ends early, is of another
            format, or holds anything but tensors of floats and whole numbers.
        OSError: if it cannot be read.

    Example:
        >>> from pneumokeras.models.state_dict import read_state_dict
        >>> state = read_state_dict("efficientnet-lite0-57934424.pth")  # doctest: +SKIP
        >>> state["_conv_stem.weight"].shape  # doctest: +SKIP
        (32, 3, 3, 3)
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    content = path.read_bytes()
    if not sha256(content).hexdigest().startswith(hash_prefix):
        raise ValueError("it is not the published file: its SHA-256 is another")
    if content.startswith(_ZIP):
        raise ValueError("it is in PyTorch's newer format, an archive; save it as .safetensors")
    try:
        return _state(content)
    except (LookupError, MemoryError, OverflowError, TypeError) as error:
        raise ValueError("it is damaged or ends early") from error


def _state(content: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(content)
    if stream.read(len(_START)) != _START or _Machine().run(stream) != _PROTOCOL:
        raise ValueError("it is not in PyTorch's format")
    system = _Machine().run(stream)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian")
    tensors, keys = _Machine().run(stream), _Machine().run(stream)
    if type(tensors) is not dict or not all(isinstance(one, _Tensor) for one in tensors.values()):
        raise ValueError("it holds no state dict")
    storages = {one.storage.key: one.storage for one in tensors.values()}
    if any(one.storage != storages[one.storage.key] for one in tensors.values()):
        raise ValueError("two of its storages have one name")
    if sum(one.size for one in tensors.values()) > sum(one.size for one in storages.values()):
        raise ValueError("its tensors share numbers, which would multiply them")
    if type(keys) is not list or any(type(key) is not str for key in keys) or set(keys) != set(storages):
        raise ValueError("it does not hold the storages that it names")
    numbers = {key: _numbers_of(storages[key], stream) for key in keys}
    return {name: one.of(numbers[one.storage.key]) for name, one in tensors.items()}


def _numbers_of(storage: _Storage, stream: io.BytesIO) -> np.ndarray:
    """Return the numbers of the storage that comes next: their count, then the numbers."""
    count = stream.read(8)
    data = stream.read(storage.size * storage.dtype.itemsize)
    if int.from_bytes(count, "little") != storage.size or len(data) != storage.size * storage.dtype.itemsize:
        raise ValueError("it is damaged or ends early")
    return np.frombuffer(data, storage.dtype)
