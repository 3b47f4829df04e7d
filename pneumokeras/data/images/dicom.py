"""Read DICOM files: gray levels as their window shows them, and a pseudonym of the patient.

This needs pydicom, from the extra `pneumokeras[dicom]`; it is imported when the first DICOM file is read.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from io import BytesIO
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.images.headers import Refused, is_dicom, require_size, undecodable

SUFFIXES = (".dcm", ".dicom")
"""File endings of DICOM files, in lower case."""

KEY_VARIABLE = "PNEUMOKERAS_KEY"
"""Environment variable that names the key for patients; by default `~/.config/pneumokeras/patient.key`."""

_KEY_BYTES = 32
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_REQUIRED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_UNKNOWN = "DICOM of unknown kind"
_DEFERRED = 1024  # bytes; longer values stay in the file until they are asked for
_MAX_INFLATED = 2**28
_SEVERAL_FRAMES = "they hold several frames, of which a manifest's column `frame` chooses one"
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")  # rescaling and window of a frame
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom returns all of them as RGB


def decode(content: np.ndarray, name: str | PathLike[str], *, frame: int | None = None) -> np.ndarray:
    """Turn the bytes of a DICOM file into gray levels.

    Stored values go through the rescale slope and intercept (or modality table), then through the first
    window or VOI table; without either, the darkest value becomes 0 and the brightest 255. MONOCHROME1,
    where high values are dark, is inverted. Color becomes luminance, palettes are looked up.

    Args:
        content: `(n,)` array of `uint8`, the whole file.
        name: the file's name in messages.
        frame: number of the wanted frame, 1 for the first; `None` if the file has to hold only one.

    Returns:
        `(height, width)` array of `uint8`, 0 (black) to 255 (white).

    Raises:
        DataError: if pydicom is missing, the file holds no image, not this frame, or several of which none is
            chosen, or the image cannot be decoded or claims too many pixels. The message quotes only kinds
            and sizes from the header.
    """
    pydicom = _import_pydicom(name)
    try:
        _require_bounded(content)
        with _SILENCE.around_pydicom():
            dataset = pydicom.dcmread(BytesIO(content.tobytes()))
            _require_image(dataset)
            _require_frame(dataset, frame)
            require_size(int(dataset.Rows), int(dataset.Columns), name)
            _require_decoder(dataset)
            _take_values_of_frame(dataset, frame or 1)
            stored = _stored(dataset, frame)
            if dataset.PhotometricInterpretation == _PALETTE:
                return _through_palette(stored, dataset)
            return _luminance(stored, dataset) if dataset.SamplesPerPixel == 3 else _as_shown(stored, dataset)
    except DataError:
        raise
    except Refused as error:
        raise undecodable(name, str(error)) from error
    except Exception as error:  # damaged files make pydicom and its plugins raise nearly anything
        raise undecodable(
            name, f"the DICOM data is damaged or incomplete ({type(error).__name__})"
        ) from error


def patient_of(path: Path) -> str | None:
    """Return a pseudonym of the patient in a DICOM header, the same for the same patient on this machine.

    It is a hash of patient ID and issuer under a key that never leaves the machine, so that nobody who sees
    it, in a manifest or a report, can find the patient by trying identifiers.

    Args:
        path: an image file.

    Returns:
        Such as `patient-9f86d081884c7d65`, or `None` if its content is not DICOM, or its header cannot be
        read or holds no patient ID.

    Raises:
        DataError: if pydicom is missing, or the key cannot be read or made.
    """
    try:
        start = _start_of(path)
        if not is_dicom(start):
            return None
        if _DEFLATED in start:
            _require_bounded(np.fromfile(path, np.uint8))
    except Refused:
        return None
    except (OSError, ValueError):  # the file will be refused where it is read
        return None
    pydicom = _import_pydicom(path)
    wanted = ["PatientID", "IssuerOfPatientID"]
    try:
        with _SILENCE.around_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
            issuer, patient = (str(header.get(name) or "").strip() for name in reversed(wanted))
    except Exception:  # as in decode, which will refuse the file
        return None
    if not patient:
        return None
    identity = f"{issuer}\0{patient}".encode("utf-8", "surrogateescape")
    return f"patient-{blake2b(identity, key=_key(), digest_size=8).hexdigest()}"


def why_no_radiograph(path: Path) -> str:
    """Return why a DICOM file holds no radiograph though it is whole: no image, or several frames.

    Returns:
        A clause in the plural, such as "they hold no image (Basic Text SR Storage)"; empty if it should hold
        a radiograph, is no DICOM file, cannot be read, or pydicom is missing.
    """
    try:
        start = _start_of(path)
        if not is_dicom(start) or _DEFLATED in start:
            return ""
        import pydicom

        with _SILENCE.around_pydicom():
            header = pydicom.dcmread(path, defer_size=_DEFERRED)
            kind = _kind(header)
            if not _has_pixels(header):  # of an image that lost its pixels, reading will say so
                is_damaged = kind == _UNKNOWN or "Image Storage" in kind
                return "" if is_damaged else f"they hold no image ({kind})"
            return _SEVERAL_FRAMES if _frames(header) > 1 else ""
    except Exception:  # as in decode, which will refuse the file
        return ""


def _start_of(path: Path) -> bytes:
    if not path.is_file():  # a pipe might never end
        return b""
    with path.open("rb") as file:
        return file.read(4096)


class _Silence:
    """Silences pydicom's warnings and log while any thread reads; our own error says enough.

    Both are settings of the whole process: the first thread to enter turns them off, the last to leave
    restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    @contextmanager
    def around_pydicom(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._turn_off()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._undo.close()

    def _turn_off(self) -> None:
        logger = logging.getLogger("pydicom")
        self._undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        self._undo.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="pydicom")


_SILENCE = _Silence()


def _import_pydicom(name: str | PathLike[str]) -> ModuleType:
    try:
        import pydicom
    except ImportError as error:
        raise DataError(
            f"{name} is a DICOM file, which needs pydicom: pip install 'pneumokeras[dicom]'.", path=name
        ) from error
    return pydicom


def _require_bounded(content: np.ndarray) -> None:
    """Refuse a deflated file that would inflate to far more than any radiograph, up to a thousand times."""
    if _DEFLATED not in content[:4096].tobytes():
        return
    length = int.from_bytes(content[140:144].tobytes(), "little")  # of the group that is never deflated
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflating.decompress(content[144 + length :].tobytes(), _MAX_INFLATED)
    except zlib.error as error:
        raise Refused("its deflated data is damaged") from error
    if inflating.unconsumed_tail:
        raise Refused(f"it inflates to more than {_MAX_INFLATED} bytes")


def _has_pixels(dataset: Any) -> bool:
    return any(name in dataset for name in _PIXELS)


def _frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _kind(dataset: Any) -> str:
    """Return the name of what a file holds, as the standard has it."""
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    return str(getattr(kind, "name", None) or _UNKNOWN)


def _require_image(dataset: Any) -> None:
    if not _has_pixels(dataset):
        raise Refused(f"it holds no image ({_kind(dataset)})")
    if "PixelData" not in dataset:
        raise Refused("its pixels are floating-point numbers, not gray levels")
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise Refused("its header does not say how it is encoded (TransferSyntaxUID)")
    missing = [name for name in _REQUIRED if dataset.get(name) is None]
    if missing:
        raise Refused(f"its header lacks {missing[0]}")


def _require_frame(dataset: Any, frame: int | None) -> None:
    frames = _frames(dataset)
    if frame is None and frames != 1:
        raise Refused(f"it holds {frames} frames, of which a manifest's column `frame` has to choose one")
    if frame is not None and not 1 <= frame <= frames:
        raise Refused(f"it holds {frames} frame{'s' * (frames != 1)}, so there is no frame {frame}")


def _require_decoder(dataset: Any) -> None:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not get_decoder(syntax).is_available:
        raise Refused(
            f"it is compressed as {syntax.name}, for which pydicom has no plugin here "
            "(pip install 'pneumokeras[dicom]' brings some)"
        )


def _take_values_of_frame(dataset: Any, frame: int) -> None:
    """Move a frame's own rescaling and window to where an image has them; DICOM PS3.3, C.7.6.16."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*shared[:1], *own[frame - 1 : frame]):
        for values in (groups.get(name) for name in _GROUPS):
            if values:
                dataset.update(values[0])


def _stored(dataset: Any, frame: int | None) -> np.ndarray:
    """Return the stored values of a frame."""
    from pydicom.pixels import pixel_array

    try:
        return pixel_array(dataset, index=None if frame is None else frame - 1)
    except RuntimeError as error:  # what pydicom raises when all decoders gave up
        syntax = dataset.file_meta.TransferSyntaxUID
        raise Refused(f"its {syntax.name} data is damaged, or of a kind no decoder here knows") from error


def _luminance(colors: np.ndarray, dataset: Any) -> np.ndarray:
    if dataset.PhotometricInterpretation not in _COLOR or colors.dtype != np.uint8:
        raise Refused("its colors are not eight bits of RGB or YBR")
    return cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY)


def _through_palette(stored: np.ndarray, dataset: Any) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    colors = apply_color_lut(stored, dataset)[..., :3]
    if colors.dtype == np.uint16:
        colors = (colors >> 8).astype(np.uint8)
    return cv2.cvtColor(np.ascontiguousarray(colors), cv2.COLOR_RGB2GRAY)


def _as_shown(stored: np.ndarray, dataset: Any) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut

    if dataset.PhotometricInterpretation not in _GRAY:
        raise Refused("it is neither gray (MONOCHROME1, MONOCHROME2) nor RGB or YBR")
    with np.errstate(all="ignore"):  # what overflows is refused below
        values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
        if dataset.get("VOILUTSequence"):
            shown = _by_table(values, dataset)
        elif dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
            shown = _by_window(values, dataset)
        else:
            shown = (values - values.min()) / max(np.ptp(values), np.finfo(float).tiny)
    if not np.isfinite(shown).all():
        raise Refused("its rescaling or window gives no numbers")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)


def _by_window(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Return the brightness in [0, 1] by the first window; DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    center, width = (float(np.ravel(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if width < 1 if function == "LINEAR" else width <= 0:
        raise Refused(f"its window has the width {width:g}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / max(width - 1, np.finfo(float).tiny) + 0.5


def _by_table(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Return the brightness in [0, 1] by the first VOI table; DICOM PS3.3, C.11.2.1.1.

    pydicom 3.0 looks values up with an index of the entries' own type, so that it wraps after 256 values in
    a table of 8 bits, however long that is.
    """
    table = dataset.VOILUTSequence[0]
    entries, first, depth = table.LUTDescriptor
    entries = entries or 2**16
    if depth not in (8, *range(10, 17)):
        raise Refused(f"its VOI table has entries of {depth} bits")
    levels = table.LUTData
    if isinstance(levels, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        levels = np.frombuffer(levels, f"{order}u2", entries).tolist()
    levels = np.array(levels, np.uint8 if depth == 8 else np.uint16)  # refuses larger ones
    return levels[np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)] / (2**depth - 1)


def _key() -> bytes:
    """Return this machine's secret, made when it is first needed and readable by its user only."""
    path = Path(os.environ.get(KEY_VARIABLE) or Path.home() / ".config" / "pneumokeras" / "patient.key")
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"Cannot read or make the key for patients, {path}: {error.strerror}. "
            f"Name another file with {KEY_VARIABLE}.",
            path=path,
        ) from error
    if len(key) != _KEY_BYTES:
        raise DataError(
            f"{path} is not the key for patients: it has {len(key)} bytes, not {_KEY_BYTES}.", path=path
        )
    return key


def _make_key(path: Path) -> None:
    """Write a new key unless another process is faster: whole, and never readable by others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(handle)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
