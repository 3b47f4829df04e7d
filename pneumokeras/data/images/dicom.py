"""DICOM files: gray levels as their window shows them, and whose they are, without saying who.

Needs pydicom, the extra `pneumokeras[dicom]`, which is imported when the first DICOM file is met.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from pneumokeras.core.errors import DataError
from pneumokeras.data.images.headers import is_dicom, require_size

SUFFIXES = (".dcm", ".dicom")
"""File endings of DICOM files, in lower case."""

KEY_VARIABLE = "PNEUMOKERAS_KEY"
"""Names the file of the key that patients are hashed with; by default `~/.config/pneumokeras/patient.key`."""

_KEY_BYTES = 32
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom gives all of them back as RGB


def decode(content: np.ndarray) -> np.ndarray:
    """Turn the bytes of a DICOM file into gray levels.

    Stored values go through the rescale slope and intercept (or modality table), then through the first
    window or VOI table; without either, the darkest value becomes 0 and the brightest 255. MONOCHROME1,
    where high values are dark, is inverted. Color becomes luminance.

    Args:
        content: `(n,)` array of `uint8`, all of the file.

    Returns:
        `(height, width)` array of `uint8`, 0 (black) to 255 (white).

    Raises:
        DataError: if pydicom is missing, the file holds several frames or no image, or the image cannot be
            decoded or claims too many pixels. The message goes on after the file's name and quotes nothing
            from the header but kinds and sizes.
    """
    pydicom = _pydicom()
    if _DEFLATED in content[:4096].tobytes():  # inflating it would take up to a thousand times its size
        raise DataError("cannot be decoded: it is a deflated DICOM file. Store it undeflated.")
    try:
        with _SILENCE.around_pydicom():
            dataset = pydicom.dcmread(BytesIO(content.tobytes()))
            _require_one_frame(dataset)
            _require_decoder(dataset)
            return _luminance(dataset) if dataset.SamplesPerPixel == 3 else _as_shown(dataset)
    except DataError:
        raise
    except Exception as error:  # damaged files make pydicom and its plugins raise nearly anything
        raise DataError(
            f"cannot be decoded: the DICOM data is damaged or incomplete ({type(error).__name__})."
        ) from error


def patient_of(path: Path) -> str | None:
    """A name for the patient that a DICOM header tells of, the same for the same patient on this machine.

    It is a hash of patient ID and issuer under a key that never leaves the machine, so nobody who sees the
    name, in a manifest or a report, can find the patient by trying identifiers.

    Args:
        path: an image file.

    Returns:
        Such as `patient-9f86d081884c7d65`, or `None` if it is no DICOM file, by its content, or its header
        cannot be read or names nobody.

    Raises:
        DataError: if pydicom is missing, or the key cannot be read or made.
    """
    try:
        start = _start_of(path)
        if not is_dicom(start) or _DEFLATED in start:
            return None
    except (OSError, ValueError):  # the file will be refused where it is read
        return None
    try:
        pydicom = _pydicom()
    except DataError as error:
        raise DataError(f"{path} {error}") from error
    wanted = ["PatientID", "IssuerOfPatientID"]
    try:
        with _SILENCE.around_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
            issuer, patient = (str(header.get(name) or "").strip() for name in reversed(wanted))
    except Exception:  # see decode; the file will be refused there
        return None
    if not patient:
        return None
    identity = f"{issuer}\0{patient}".encode("utf-8", "surrogateescape")
    return f"patient-{blake2b(identity, key=_key(), digest_size=8).hexdigest()}"


def _start_of(path: Path) -> bytes:
    if not path.is_file():  # a pipe might never end
        return b""
    with path.open("rb") as file:
        return file.read(4096)


class _Silence:
    """Keeps pydicom from telling of damage beside our own line, in all threads that read at the same time.

    What it warns and logs is set for the whole process: the first to come in turns it off, the last to leave
    puts it back as it was.
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


def _pydicom() -> ModuleType:
    try:
        import pydicom
    except ImportError as error:
        raise DataError("is a DICOM file, which needs pydicom: pip install 'pneumokeras[dicom]'.") from error
    return pydicom


def _require_one_frame(dataset: Any) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(
            f"cannot be decoded: it holds {frames} frames. Expected one; choose one and store it."
        )
    require_size(int(dataset.Rows), int(dataset.Columns))


def _require_decoder(dataset: Any) -> None:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not get_decoder(syntax).is_available:
        raise DataError(
            f"cannot be decoded: it is compressed as {syntax.name}, for which pydicom has no plugin here. "
            "Install one: pip install 'pylibjpeg[all]'."
        )


def _luminance(dataset: Any) -> np.ndarray:
    from pydicom.pixels import pixel_array

    colors = pixel_array(dataset)
    if dataset.PhotometricInterpretation not in _COLOR or colors.dtype != np.uint8:
        raise DataError("cannot be decoded: its colors are not eight bits of RGB or YBR.")
    return cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY)


def _as_shown(dataset: Any) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, pixel_array

    if dataset.PhotometricInterpretation not in _GRAY:
        raise DataError("cannot be decoded: it is neither gray (MONOCHROME1, MONOCHROME2) nor RGB or YBR.")
    with np.errstate(all="ignore"):  # what overflows is refused below
        values = np.asarray(apply_modality_lut(pixel_array(dataset), dataset), dtype=np.float64)
        if dataset.get("VOILUTSequence"):
            shown = _by_table(values, dataset)
        elif dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
            shown = _by_window(values, dataset)
        else:
            shown = (values - values.min()) / max(np.ptp(values), np.finfo(float).tiny)
    if not np.isfinite(shown).all():
        raise DataError("cannot be decoded: its rescaling or window gives no numbers.")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)


def _by_window(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Brightness in [0, 1] by the first window; DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    center, width = (float(np.ravel(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if width < 1 if function == "LINEAR" else width <= 0:
        raise DataError(f"cannot be decoded: its window has the width {width:g}.")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / max(width - 1, np.finfo(float).tiny) + 0.5


def _by_table(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Brightness in [0, 1] by the first VOI table; DICOM PS3.3, C.11.2.1.1."""
    from pydicom.pixels import apply_voi

    entries, first, depth = dataset.VOILUTSequence[0].LUTDescriptor
    within = np.clip(np.rint(values), first, first + (entries or 2**16) - 1).astype(np.int64)
    return apply_voi(within, dataset) / (2**depth - 1)


def _key() -> bytes:
    """This machine's secret: made when it is first needed, readable by its user only."""
    path = Path(os.environ.get(KEY_VARIABLE) or Path.home() / ".config" / "pneumokeras" / "patient.key")
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"Cannot read or make the key for patients, {path}: {error.strerror}. "
            f"Name another file with {KEY_VARIABLE}."
        ) from error
    if len(key) != _KEY_BYTES:
        raise DataError(f"{path} is not the key for patients: it has {len(key)} bytes, not {_KEY_BYTES}.")
    return key


def _make_key(path: Path) -> None:
    """Write a new key, unless another process is faster: whole, and never readable by others."""
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
