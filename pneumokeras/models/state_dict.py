"""Read the weights in a file of PyTorch's legacy format, without PyTorch and without running anything.

Such a file is a row of pickles, then the numbers of each storage. A pickle can name any function of any
installed package and call it, so these are read by an unpickler that knows the three names that a state dict
needs. Before that, every opcode is looked at: others than PyTorch writes are refused, since the pickle
machine itself can be made to ask for any amount of memory.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
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
_TYPES: Mapping[str, np.dtype] = {
    "HalfStorage": np.dtype("<f2"),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
}
_OPCODES = """
    PROTO STOP GLOBAL REDUCE BUILD BINPERSID MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1
    BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS
    BINPUT LONG_BINPUT BINGET LONG_BINGET
"""
"""Names of the opcodes that a pickle may hold."""

_MOST_NAMES = 100_000
"""Most objects that a pickle may refer to again; the machine keeps a table of this length."""

_MOST_AXES = 8


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
    def rebuilt(cls, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
        """Return a tensor, if all of it lies inside its storage."""
        whole = all(type(extent) is int and extent >= 0 for extent in (*shape, *strides, offset))
        if not whole or len(shape) > _MOST_AXES or not isinstance(storage, _Storage):
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


class _Unpickler(pickle.Unpickler):
    """Knows what a state dict is made of, and nothing else.

    What it hands to the pickle is made for this pickle alone, so a pickle that changes it changes nothing.
    """

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content))
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _Tensor.rebuilt(*parts),
            **{("torch", name): name for name in _TYPES},
        }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return one of the known names; any other means a file that wants to run something."""
        if (module_name, global_name) not in self._known:
            raise ValueError(f"it asks for {module_name}.{global_name}, which no state dict of floats needs")
        return self._known[module_name, global_name]

    def persistent_load(self, pid: Any, /) -> _Storage:
        """Return a storage: its kind, type, key, device, number of numbers, and the view it is of another."""
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or dtype not in _TYPES or type(key) is not str or type(size) is not int or view:
            raise ValueError("it refers to something that is no storage")
        return _Storage(key, _TYPES[dtype], size)


def read_state_dict(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict that PyTorch saved in its legacy format.

    Args:
        path: such a `.pth` file.

    Returns:
        Arrays by name, in the file's order, with the types and shapes of the tensors.

    Raises:
        ValueError: if the file is larger than `MAX_BYTES`, ends early, is of another format, or holds
            anything but tensors of floats and whole numbers.
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
    if content.startswith(_ZIP):
        raise ValueError("it is in PyTorch's newer format, an archive; save it as .safetensors")
    try:
        return _state(content)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__})") from error
    except (EOFError, pickle.UnpicklingError) as error:
        raise ValueError("it is damaged or ends early") from error


def _state(content: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(content)
    if stream.read(len(_START)) != _START or _next_pickle(stream) != _PROTOCOL:
        raise ValueError("it is not in PyTorch's format")
    if _next_pickle(stream).get("little_endian") is not True:
        raise ValueError("its numbers are big-endian")
    tensors, keys = _next_pickle(stream), _next_pickle(stream)
    if not isinstance(tensors, OrderedDict) or not all(isinstance(one, _Tensor) for one in tensors.values()):
        raise ValueError("it holds no state dict")
    storages = {one.storage.key: one.storage for one in tensors.values()}
    if sum(one.size for one in tensors.values()) > sum(one.size for one in storages.values()):
        raise ValueError("its tensors share numbers, which would multiply them")
    numbers = {key: _numbers_of(storages[key], stream) for key in keys}
    return {str(name): one.of(numbers[one.storage.key]) for name, one in tensors.items()}


def _next_pickle(stream: io.BytesIO) -> Any:
    """Return what the next pickle of a stream holds, and stop behind it."""
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name not in _OPCODES.split():
            raise ValueError(f"it holds the opcode {opcode.name}, which PyTorch does not write")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > _MOST_NAMES:
            raise ValueError("it numbers more objects than any network has")
    return _Unpickler(stream.getvalue()[start : stream.tell()]).load()


def _numbers_of(storage: _Storage, stream: io.BytesIO) -> np.ndarray:
    """Return the numbers of the storage that comes next: their count, then the numbers."""
    count = stream.read(8)
    data = stream.read(storage.size * storage.dtype.itemsize)
    if int.from_bytes(count, "little") != storage.size or len(data) != storage.size * storage.dtype.itemsize:
        raise ValueError("it is damaged or ends early")
    return np.frombuffer(data, storage.dtype)
