"""PyTorch's legacy files are read without PyTorch, and nothing in them is run."""

import io
import pickle
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from pneumokeras.models import state_dict
from pneumokeras.models.state_dict import read_state_dict

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Global:
    """A name that a pickle asks for."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """A call of a name that a pickle asks for."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


FLOATS, LONGS = Global("torch", "FloatStorage"), Global("torch", "LongStorage")
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


class Stored:
    """A storage, kept at the end of the file."""

    def __init__(self, key, kind, size, view=None):
        self.id = ("storage", kind, key, "cpu", size, view)


def tensor(storage, offset, shape, strides):
    return Call(REBUILD, storage, offset, shape, strides, False, OrderedDict())


class Writer(pickle._Pickler):
    """Writes names that are not installed here, as PyTorch's pickler writes its own."""

    def persistent_id(self, value):
        return value.id if isinstance(value, Stored) else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def pickled(value):
    stream = io.BytesIO()
    Writer(stream, 2).dump(value)
    return stream.getvalue()


def legacy(state, numbers, *, system=SYSTEM, keys=None):
    """A file as `torch.save(..., _use_new_zipfile_serialization=False)` writes it."""
    parts = [pickled(part) for part in (MAGIC, 1001, system, state, list(numbers) if keys is None else keys)]
    raw = [struct.pack("<q", array.size) + array.tobytes() for array in numbers.values()]
    return b"".join(parts + raw)


KERNEL = np.arange(2 * 3 * 4, dtype=np.float32)
COUNT = np.array([7], np.int64)


def whole():
    """A kernel whose axes are not in order, as in the published files, part of a storage, and a counter."""
    numbers = {"1": KERNEL, "2": COUNT}
    state = OrderedDict(
        [
            ("kernel", tensor(Stored("1", FLOATS, 24), 0, (2, 3, 4), (1, 8, 2))),
            ("count", tensor(Stored("2", LONGS, 1), 0, (), ())),
        ]
    )
    return state, numbers


@pytest.fixture
def file(tmp_path):
    def written(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return path

    return written


def test_strides_are_respected(file):
    state = read_state_dict(file(legacy(*whole())))
    assert list(state) == ["kernel", "count"]
    np.testing.assert_array_equal(state["kernel"], KERNEL.reshape(3, 4, 2).transpose(2, 0, 1))
    assert state["kernel"].dtype == np.float32
    assert state["count"].shape == ()
    assert state["count"] == 7


def test_an_offset_is_respected(file):
    state = {"part": tensor(Stored("1", FLOATS, 24), 5, (2, 2), (2, 1))}
    read = read_state_dict(file(legacy(OrderedDict(state), {"1": KERNEL})))
    np.testing.assert_array_equal(read["part"], [[5, 6], [7, 8]])


RUNS_A_COMMAND = Call(Global("os", "system"), "touch broken-into")
DANGEROUS = {
    "a call of os.system": OrderedDict(kernel=RUNS_A_COMMAND),
    "eval": OrderedDict(kernel=Call(Global("builtins", "eval"), "open('broken-into', 'w')")),
    "a call as the whole": RUNS_A_COMMAND,
    "getattr": OrderedDict(kernel=Call(Global("builtins", "getattr"), REBUILD, "__globals__")),
    "a module of ours": OrderedDict(kernel=Call(Global("shutil", "rmtree"), "broken-into")),
    "another function of PyTorch": OrderedDict(kernel=Call(Global("torch", "load"), "broken-into")),
    "a dotted name": OrderedDict(kernel=Global("torch", "FloatStorage.__class__")),
}


@pytest.mark.parametrize("state", DANGEROUS.values(), ids=DANGEROUS)
def test_nothing_is_run(state, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken-into").mkdir()
    seen = set(sys.modules)
    with pytest.raises(ValueError, match=r"asks for [\w.]+, which no state dict"):
        read_state_dict(file(legacy(state, {"1": KERNEL})))
    assert (tmp_path / "broken-into").is_dir()
    assert set(sys.modules) == seen


def test_names_that_are_installed_are_not_imported_either(file, monkeypatch):
    torch = types.ModuleType("torch")
    torch.FloatStorage = property(lambda self: pytest.fail("it was looked at"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert read_state_dict(file(legacy(*whole())))["count"] == 7


@pytest.mark.parametrize("part", [MAGIC, 1001, SYSTEM], ids=["magic", "protocol", "system"])
def test_the_first_pickles_run_nothing_either(part, file):
    content = legacy(*whole()).replace(pickled(part), pickled(RUNS_A_COMMAND), 1)
    with pytest.raises(ValueError, match=r"asks for os\.system|not in PyTorch's format"):
        read_state_dict(file(content))


def state_of(*arguments, storage=("1", FLOATS, 24)):
    return OrderedDict(kernel=tensor(Stored(*storage), *arguments))


WRONG = {
    "beyond the storage": (state_of(0, (5, 5), (5, 1)), "beyond its storage"),
    "an offset beyond it": (state_of(24, (1,), (1,)), "beyond its storage"),
    "a large stride": (state_of(0, (2, 2), (23, 1)), "beyond its storage"),
    "a negative stride": (state_of(3, (2,), (-1,)), "no proper shape"),
    "a negative side": (state_of(0, (-2,), (1,)), "no proper shape"),
    "a negative offset": (state_of(-1, (2,), (1,)), "no proper shape"),
    "one number shown a billion times": (state_of(0, (10**9,), (0,)), "beyond its storage"),
    "sides beyond any number": (state_of(0, (2**62, 2**62), (0, 0)), "no proper shape"),
    "too many axes": (state_of(0, (1,) * 40, (1,) * 40), "no proper shape"),
    "fewer strides than axes": (state_of(0, (2, 2), (1,)), "no proper shape"),
    "text for a shape": (state_of(0, "22", "11"), "no proper shape"),
    "a number for a shape": (state_of(0, 4, 1), "no proper shape"),
    "lists for a shape": (state_of(0, [1], [1]), "no proper shape"),
    "true for a side": (state_of(0, (True,), (1,)), "no proper shape"),
    "no storage": (OrderedDict(kernel=Call(REBUILD, 3, 0, (1,), (1,))), "no proper shape"),
    "too few arguments": (OrderedDict(kernel=Call(REBUILD, 3)), "damaged"),
    "a number": (OrderedDict(kernel=3), "no state dict"),
    "a list": ([1, 2], "no state dict"),
    "a call of what was made": (Call(Call(Global("collections", "OrderedDict")), 1), "calls something"),
    "a dict made of another": (Call(Global("collections", "OrderedDict"), {"a": 1}), "calls something"),
    "numbers as keys": ({3: 4}, "keys that are no texts"),
    "two storages of one name": (
        OrderedDict(
            a=tensor(Stored("1", FLOATS, 10**9), 0, (1, 2), (1, 9 * 10**8)),
            b=tensor(Stored("1", FLOATS, 24), 0, (1,), (1,)),
        ),
        "two of its storages have one name",
    ),
    "a view of another storage": (
        OrderedDict(kernel=tensor(Stored("1", FLOATS, 24, ("0", 0, 4)), 0, (4,), (1,))),
        "no storage",
    ),
    "a storage of an unknown type": (
        OrderedDict(kernel=tensor(Stored("1", Global("torch", "QInt8Storage"), 24), 0, (4,), (1,))),
        "QInt8Storage",
    ),
    "a storage of negative size": (state_of(0, (4,), (1,), storage=("1", FLOATS, -24)), "beyond its storage"),
    "another size than the file's": (state_of(0, (4,), (1,), storage=("1", FLOATS, 23)), "ends early"),
    "a thousand views of all": (
        OrderedDict((str(n), tensor(Stored("1", FLOATS, 24), 0, (24,), (1,))) for n in range(1000)),
        "share numbers",
    ),
}


@pytest.mark.parametrize(("state", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_state_dict_is_refused(state, words, file):
    with pytest.raises(ValueError, match=words):
        read_state_dict(file(legacy(state, {"1": KERNEL})))


def test_keys_of_no_tensor_and_tensors_of_no_key_are_refused(file):
    state, numbers = whole()
    for keys in (["1", "3"], ["1"], [], 3, [["1"]]):
        with pytest.raises(ValueError, match="does not hold the storages"):
            read_state_dict(file(legacy(state, numbers, keys=keys)))


def test_a_big_endian_file_is_refused(file):
    for system in (SYSTEM | {"little_endian": False}, {}, [1]):
        with pytest.raises(ValueError, match=r"big-endian|damaged"):
            read_state_dict(file(legacy(*whole(), system=system)))


@pytest.mark.parametrize(
    ("pickle_of_bytes", "words"),
    [
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged"),  # Python's own machine reserves 16 GB for its memo
        (b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.", "keys that are no texts"),  # deep, which hashing follows
        (b"\x80\x02})" + b"q\x00h\x00\x86" * 40 + b"Ns.", "keys that are no texts"),  # as a tree 2**40 large
        (b"\x80\x02" + b"}" * 1_000_000 + b".", "more objects than any network"),
        (b"\x80\x02NR.", "early"),
        (b"\x80\x02a.", "early"),
        (b"\x80\x02NNa.", "no list"),
        (b"\x80\x02.", "early"),
        (b"\x80\x02h\x07.", "early"),
        (b"\x80\x02\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "opcode BYTEARRAY8"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "opcode FRAME"),
        (b"\x80\x02p999999999\n.", "opcode PUT"),
        (b"\x80\x02(i__main__\nfile\n.", "opcode INST"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02X\xff\xff\xff\x7f.", "remain"),
        (b"\x80\x02tR.", "early|damaged"),
        (b"", "exhausted"),
        (b"\xff\xff", "unknown"),
    ],
)
def test_opcodes_that_pytorch_does_not_write_are_refused(pickle_of_bytes, words, file):
    start = b"".join(pickled(part) for part in (MAGIC, 1001, SYSTEM))
    with pytest.raises(ValueError, match=words):
        read_state_dict(file(start + pickle_of_bytes))


def test_a_shape_cannot_be_changed_after_it_was_checked(file):
    """Lists could: the pickle appends to what it has numbered. Read on, this would end the process."""
    lists = b"]q\x01K\x01aq\x01]q\x02K\x01aq\x02"
    rebuild = (
        pickled(REBUILD)[2:-1] + b"(" + pickled(Stored("1", FLOATS, 24))[2:-1] + b"K\x00h\x01h\x02\x89}tR"
    )
    changed = b"h\x02\x8a\x04\x00\xe9\xa4\x35a0"
    start = b"".join(pickled(part) for part in (MAGIC, 1001, SYSTEM))
    state = b"\x80\x02" + lists + b"}(X\x01\x00\x00\x00a" + rebuild + b"u" + changed + b"."
    with pytest.raises(ValueError, match="no proper shape"):
        read_state_dict(file(start + state + pickled(["1"])))


def test_a_file_cut_anywhere_is_refused(file):
    content = legacy(*whole())
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"."):
            read_state_dict(file(content[:length]))


def test_a_damaged_byte_is_refused_or_changes_a_number(file):
    content = legacy(*whole())
    rng = np.random.default_rng(0)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] = rng.integers(256)
        try:
            state = read_state_dict(file(bytes(damaged)))
        except ValueError:
            continue
        assert sum(array.size for array in state.values()) <= 25


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04rest", "save it as .safetensors"),
        (b"\x89HDF\r\n", "not in PyTorch's format"),
        (b"", "not in"),
    ],
)
def test_other_formats_are_named(content, words, file):
    with pytest.raises(ValueError, match=words):
        read_state_dict(file(content))


def test_a_file_that_is_too_large_is_not_read(file, monkeypatch):
    monkeypatch.setattr(state_dict, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        read_state_dict(file(legacy(*whole())))
