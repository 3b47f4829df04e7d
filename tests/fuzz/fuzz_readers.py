"""Damaged files of every kind are read or refused with a DataError: nothing else, soon, in little memory.

Run with `make fuzz`; FUZZ_SECONDS is the time for all of it, 600 by default. A run that dies or hangs leaves
the bytes it died of in the file that it named at its start.
"""

import faulthandler
import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from pneumokeras.core.errors import DataError, one_line
from pneumokeras.data.from_path import load_radiographs, load_splits
from pneumokeras.data.images.image import decode_radiograph

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 600)
LONGEST_SECONDS = 5
MOST_MEMORY = 1 * 2**30
PROCESS = Path("/proc/self")
EXAMPLES_A_ROUND = 500
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
pytestmark = pytest.mark.skipif(not PROCESS.exists(), reason="memory is measured by Linux' /proc")

SIZES = [None, (32, 32), (224, 224)]


@st.composite
def damaged(draw, contents: list[bytes]) -> bytes:
    """One of the contents after a few edits, more of them near its start, where the headers are."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 6))):
        last = max(len(content) - 1, 0)
        place = draw(st.integers(0, min(last, 300)) | st.integers(0, last))
        edit = draw(st.sampled_from(["flip", "number", "insert", "remove", "cut", "repeat"]))
        if edit == "flip":
            content[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif edit == "number":
            width, order = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from(["little", "big"]))
            number = draw(st.sampled_from(NUMBERS)) % 256**width
            content[place : place + width] = number.to_bytes(width, order)
        elif edit == "insert":
            content[place:place] = draw(st.binary(max_size=20))
        elif edit == "remove":
            del content[place : place + draw(st.integers(1, 200))]
        elif edit == "cut":
            del content[place:]
        else:
            content[place:place] = content[place : place + draw(st.integers(1, 400))]
    return bytes(content)


class Fuzzing:
    """Runs examples until its time is over, and counts what became of them."""

    def __init__(self, name: str, share: float, crash: Path):
        self.name = name
        self.seconds = share * SECONDS
        self.crash = crash
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self.largest = 0

    def run(self, strategy: st.SearchStrategy, read: Callable[..., object]) -> None:
        """Call `read` with what `strategy` draws, a round after another, each with another seed."""
        options = settings(
            max_examples=EXAMPLES_A_ROUND,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        started, rounds = perf_counter(), 0
        while perf_counter() - started < self.seconds:
            seed(rounds)(options(given(strategy)(lambda drawn: self.example(drawn, read))))()
            rounds += 1

    def example(self, drawn: object, read: Callable[..., object]) -> None:
        self.crash.write_bytes(repr(drawn).encode())
        faulthandler.dump_traceback_later(4 * LONGEST_SECONDS, exit=True)
        held = start_watching_memory()
        started = perf_counter()
        try:
            read(drawn)
            self.outcomes["read"] += 1
        except DataError as error:
            self.outcomes["refused"] += 1
            assert str(error) == one_line(str(error))
        finally:
            faulthandler.cancel_dump_traceback_later()
        seconds, memory = perf_counter() - started, peak_memory() - held
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, memory)
        assert seconds < LONGEST_SECONDS
        assert memory < MOST_MEMORY

    def summary(self) -> str:
        return (
            f"{self.name:<12}{self.outcomes.total():>9,} examples in {self.seconds:.0f} s: "
            f"{self.outcomes['read']:,} read, {self.outcomes['refused']:,} refused; "
            f"slowest {self.slowest:.2f} s, most memory {self.largest / 2**20:.0f} MiB"
        )


def start_watching_memory() -> int:
    """Forget how much memory this process has held, and give what it holds, in bytes."""
    (PROCESS / "clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """Bytes that this process has held at most since watching began."""
    line = next(line for line in (PROCESS / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


@pytest.fixture
def fuzzing(tmp_path, capfd):
    """Makes a `Fuzzing`, whose summary is printed when the test is over."""
    made: list[Fuzzing] = []

    def make(name: str, share: float) -> Fuzzing:
        made.append(Fuzzing(name, share, tmp_path / "example"))
        with capfd.disabled():
            print(f"\n{name}: {tmp_path / 'example'}")
        return made[0]

    yield make
    with capfd.disabled():
        print(made[0].summary())


def drawing(height: int = 48, width: int = 64) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def saved(mode: str, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(drawing()).convert("RGB").convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def images() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = [saved(mode, "JPEG", exif=exif) for mode in ("L", "RGB", "CMYK")]
    contents += [saved(mode, "JPEG", progressive=True, restart_marker_blocks=4) for mode in ("L", "RGB")]
    contents += [saved(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    contents += [saved(mode, "BMP") for mode in ("1", "L", "P", "RGB")]
    compressions = (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg")
    contents += [saved(mode, "TIFF", compression=name) for mode in ("L", "RGB") for name in compressions]
    deep = drawing().astype(np.uint16) * 16
    return contents + [cv2.imencode(suffix, deep)[1].tobytes() for suffix in (".png", ".tiff")]


@pytest.fixture
def real_images(request) -> list[bytes]:
    """A few real radiographs, where there are any, of moderate size."""
    try:
        folder = request.getfixturevalue("real_data")
    except pytest.skip.Exception:
        return []
    small = sorted((folder / "chest_xray" / "test").rglob("*.jpeg"))[::100]
    large = sorted((folder / "original_size").rglob("*.jpeg"), key=lambda file: file.stat().st_size)[:4]
    return [file.read_bytes() for file in (*small, *large)]


def dicom_files() -> list[bytes]:
    return [
        dicom(ExplicitVRLittleEndian),
        dicom(ImplicitVRLittleEndian, PhotometricInterpretation="MONOCHROME1"),
        dicom(ExplicitVRLittleEndian, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"),
        dicom(ExplicitVRLittleEndian, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=9, WindowWidth=90),
        dicom(RLELossless),
        dicom(JPEGBaseline8Bit),
    ]


def dicom(syntax: str, **elements: object) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.PatientID, made.SamplesPerPixel, made.PixelRepresentation = "4711", 1, 0
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = drawing().shape
    bits = 8 if syntax == JPEGBaseline8Bit else 16
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelData = (drawing().astype(np.uint16) * 16).tobytes()
    if bits == 8:
        made.PixelData = encapsulate([saved("L", "JPEG")])
        made["PixelData"].is_undefined_length = True
    for name, value in elements.items():
        setattr(made, name, value)
    if syntax == RLELossless:
        made.compress(RLELossless)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def decode(drawn: tuple[bytes, tuple[int, int] | None, bool]) -> None:
    content, image_size, pad = drawn
    pixels = decode_radiograph(np.frombuffer(content, np.uint8), "drawn", image_size=image_size, pad=pad)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2
    assert image_size is None or pixels.shape == image_size


def decoding(contents: list[bytes]) -> st.SearchStrategy:
    return st.tuples(damaged(contents), st.sampled_from(SIZES), st.booleans())


def test_images(fuzzing, real_images):
    fuzzing("images", 0.4).run(decoding([*images(), *real_images]), decode)


@pytest.mark.filterwarnings("ignore")
def test_dicom(fuzzing):
    fuzzing("DICOM", 0.2).run(decoding(dicom_files()), decode)


def members() -> dict[str, bytes]:
    arrays = {}
    for split, count in {"train": 12, "val": 4, "test": 4}.items():
        for what, array in {
            "images": np.random.default_rng(count).integers(0, 256, (count, 8, 8), dtype=np.uint8),
            "labels": (np.arange(count) % 2).astype(np.uint8)[:, None],
        }.items():
            stream = io.BytesIO()
            np.save(stream, array)
            arrays[f"{split}_{what}.npy"] = stream.getvalue()
    return arrays


def zipped(contents: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return stream.getvalue()


@st.composite
def damaged_archives(draw) -> bytes:
    """An archive damaged as a whole, or a whole one with one damaged array in it."""
    compression = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    if draw(st.booleans()):
        return draw(damaged([zipped(members(), compression)]))
    name = draw(st.sampled_from(sorted(members())))
    return zipped(members() | {name: draw(damaged([members()[name]]))}, compression)


def test_archives(fuzzing, tmp_path):
    path = tmp_path / "a.npz"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for radiographs in load_splits(path, skip_bad=True):
            radiographs.pixels((16, 16))

    fuzzing("archives", 0.2).run(damaged_archives(), read)


def manifests(folder: Path) -> list[bytes]:
    """Manifests of images that lie beside them, and of an archive's rows."""
    labels = ("NORMAL", "PNEUMONIA")
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64), dtype=np.uint8)
        (folder / f"{number}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (folder / "a.npz").write_bytes(zipped(members()))
    plain = "path,label\n" + "".join(f"{number}.png,{labels[number % 2]}\n" for number in range(8))
    full = "path,label,patient,split,subtype\r\n" + "".join(
        f'"{number}.png",{labels[number % 2]},"p {number}",{split},virus\r\n'
        for number, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    )
    rows = "path,label\n" + "".join(f"a.npz::train/{row},{labels[row % 2]}\n" for row in range(8))
    return [plain.encode(), b"\xef\xbb\xbf" + full.encode(), rows.encode()]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_manifests(fuzzing, tmp_path, skip_bad):
    path = tmp_path / "a.csv"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        load_radiographs(path, skip_bad=skip_bad).pixels((16, 16))
        load_splits(path, skip_bad=skip_bad).write_csv(tmp_path / "splits.csv")

    fuzzing("manifests", 0.1).run(damaged(manifests(tmp_path)), read)
