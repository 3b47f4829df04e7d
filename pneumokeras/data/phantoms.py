"""Synthetic chest radiographs with known opacities: the data the library carries with it.

A patient is drawn from numbers, projected onto a film and exposed; nothing comes from a real radiograph.
PNEUMONIA radiographs carry opacities in the lungs whose place is known, so that a classifier and its
explanations can be checked against the truth. Build, position and exposure do not depend on the class, and
every film is brought to a histogram drawn by chance, so that brightness alone tells little.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pneumokeras.data import anatomy
from pneumokeras.data.anatomy import Patient, Projection, draw_patient
from pneumokeras.data.nuisance import NO_NUISANCE, Acquisition, Nuisance
from pneumokeras.data.phantom_dicom import dicom_bytes
from pneumokeras.data.sets import CLASS_NAMES
from pneumokeras.errors import DataError, OutputError
from pneumokeras.files import write_csv

WORKING_SIZE = 256  # pixels; smaller radiographs are drawn at this size and area-averaged
MINIMUM_SIZE = 32  # pixels
MINIMUM_COUNT = 12
SPLIT_SHARES = {"val": 0.2, "test": 0.2}  # the rest is train
NORMAL_SHARE = 0.4
RADIOGRAPHS_PER_PATIENT = (0.5, 0.25, 0.15, 0.1)  # probabilities of one to four
JPEG_QUALITY = 95
FORMATS = ("jpeg", "dicom")

# How many opacities, their radius in image widths, and the share of the air they fill: bacterial ones are
# usually one and large, viral ones are several, smaller and somewhat fainter.
OPACITIES: dict[str, tuple[tuple[int, ...], tuple[float, float], tuple[float, float]]] = {
    "bacteria": ((1, 1, 1, 2), (0.085, 0.12), (0.9, 1.0)),
    "virus": ((2, 3), (0.062, 0.082), (0.85, 1.0)),
}
MASK_EDGE = 0.4  # an opacity ends where its envelope falls under this share of its own peak
MOTTLE = 1.5  # how patchily an opacity fills its envelope
FLUID = 0.5  # attenuation of a filled lung above that of soft tissue

LUNG_TEXTURE, SOFT_TEXTURE = 0.05, 0.05  # relative to the attenuation
METER_SIZE, METER_SHARES = 64, np.linspace(0.0, 1.0, 33)  # the exposure meter reads a coarse film
OPACITY_MASKS, THORAX_MASKS = "masks", "thorax"  # folders
NUISANCE_NAME = "nuisance.csv"
NUISANCE_COLUMNS = ("path", "rotation", "gain", "gamma", "marker")
README_NAME = "README.txt"
README = (
    "Synthetic drawings made by pneumokeras (data/phantoms.py): no patient, no real radiograph.\n"
    "masks/ marks the drawn opacities (255) of each PNEUMONIA radiograph; not for any clinical use.\n"
)


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph.

    Attributes:
        image: `(size, size)` uint8 gray pixels.
        mask: `(size, size)` uint8, 255 where an opacity is and 0 elsewhere; all 0 for NORMAL.
        thorax: `(size, size)` uint8, 255 in the chest: the convex hull of both lungs, with the heart and
            mediastinum between them.
        label: 0 = NORMAL, 1 = PNEUMONIA.
        acquisition: the nuisance in it.
    """

    image: np.ndarray
    mask: np.ndarray
    thorax: np.ndarray
    label: int
    acquisition: Acquisition


@dataclass(frozen=True)
class PhantomSummary:
    """What `write_phantoms` wrote.

    Attributes:
        folder: where it lies.
        counts: radiographs by split and class, e.g. `counts["train"]["NORMAL"]`.
        num_patients: patients over all splits.
    """

    folder: Path
    counts: dict[str, dict[str, int]]
    num_patients: int


def draw_phantom(
    rng: np.random.Generator,
    *,
    label: int,
    size: int = 256,
    patient: Patient | None = None,
    nuisance: Nuisance = NO_NUISANCE,
) -> Phantom:
    """Draw one radiograph.

    A generator of the same seed and the other label gives the same patient, position and exposure
    settings, with or without the opacities. So it does with another nuisance: exposure and marker change
    nothing else, while opacities have another place in lungs that are turned.

    Args:
        rng: source of all randomness.
        label: 0 = NORMAL, 1 = PNEUMONIA.
        size: width and height in pixels, at least 32.
        patient: the anatomy, from `draw_patient`; by default a new patient.
        nuisance: how much it may be turned, differently exposed, and marked.

    Returns:
        The radiograph, with the mask of its opacities.

    Raises:
        DataError: if the label is neither 0 nor 1, or the size is under 32.
    """
    _check_size(size)
    if label not in (0, 1):
        raise DataError(f"A phantom's label is 0 (NORMAL) or 1 (PNEUMONIA), not {label!r}.")
    patient_rng, position_rng, opacity_rng, tissue_rng, film_rng = rng.spawn(5)
    acquisition = nuisance.draw(film_rng.spawn(1)[0], label=label)
    patient = patient or draw_patient(patient_rng)
    projection = _position(position_rng, max(size, WORKING_SIZE), rotation=acquisition.rotation)
    air = anatomy.lungs(patient, projection)
    opacity, mask = np.zeros_like(air), np.zeros(air.shape, np.uint8)
    if label == 1:
        opacity, mask = _opacities(opacity_rng, patient, air)
    film = _expose(film_rng, _attenuation(tissue_rng, patient, projection, air, opacity))
    film = acquisition.develop(film)
    image = np.clip(np.round(255.0 * film), 0, 255).astype(np.uint8)
    if len(image) != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    mask, thorax = _mask_of(mask, (size, size)), _mask_of(_hull(air > 0.5), (size, size))
    return Phantom(image=image, mask=_byte(mask), thorax=_byte(thorax), label=label, acquisition=acquisition)


def _hull(region: np.ndarray) -> np.ndarray:
    points = cv2.findNonZero(region.astype(np.uint8))
    return cv2.fillConvexPoly(np.zeros(region.shape, np.uint8), cv2.convexHull(points), 255)


def _mask_of(drawn: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where at least half of a pixel at `(height, width)` lies in what was drawn at 255: booleans."""
    if drawn.shape != size:
        drawn = cv2.resize(drawn, size[::-1], interpolation=cv2.INTER_AREA)
    return drawn > 127


def _byte(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 255, 0).astype(np.uint8)


def are_phantoms(images: tuple[Path, ...] | np.ndarray) -> bool:
    """Whether some of a set's images lie where `write_phantoms` wrote them, in `folder/{split}/{class}`."""
    if isinstance(images, np.ndarray):
        return False
    folders = {path.resolve().parent.parent for path in {file.parent for file in images}}
    return any(_is_written_here(folder) for folder in folders)


@dataclass(frozen=True, eq=False)
class PhantomMasks:
    """What is known of where things are in phantoms.

    Attributes:
        opacities: `(n, height, width)` booleans; nothing in a NORMAL radiograph.
        thoraxes: `(n, height, width)` booleans, the chest of each.
    """

    opacities: np.ndarray
    thoraxes: np.ndarray


def read_masks(files: Sequence[Path], size: tuple[int, int], *, pad: bool = False) -> PhantomMasks:
    """The masks of phantoms, brought to a model's size as the radiographs themselves are.

    Args:
        files: radiographs where `write_phantoms` wrote them.
        size: `(height, width)` in pixels.
        pad: whether the radiographs are padded to the square instead of stretched; phantoms are square.

    Raises:
        DataError: if a radiograph has no masks beside it.
    """
    if pad and size[0] != size[1]:
        raise DataError(f"Expected a square size for padded phantoms. Received {size[0]} x {size[1]}.")
    thoraxes = [_read_mask(_mask_path(file, THORAX_MASKS), size) for file in files]
    opacities = [
        _read_mask(_mask_path(file, OPACITY_MASKS), size)
        if file.parent.name == CLASS_NAMES[1]
        else np.zeros(size, bool)
        for file in files
    ]
    return PhantomMasks(np.stack(opacities), np.stack(thoraxes))


def _mask_path(file: Path, kind: str) -> Path:
    split = file.resolve().parent.parent
    return split.parent / kind / split.name / file.parent.name / f"{file.stem}.png"


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    drawn = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if drawn is None:
        raise DataError(f"There is no mask at {path}. Draw the phantoms anew: pneumokeras data phantoms.")
    return _mask_of(drawn, size)


def _is_written_here(folder: Path) -> bool:
    note = folder / README_NAME
    return note.is_file() and note.read_text(encoding="utf-8", errors="replace") == README


def write_phantoms(
    folder: str | Path,
    *,
    count: int,
    seed: int = 0,
    size: int = 256,
    nuisance: Nuisance = NO_NUISANCE,
    image_format: str = "jpeg",
) -> PhantomSummary:
    """Write phantoms in the layout and with the file names of the Kaggle chest X-ray set.

    `folder/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg` (or `*.dcm`), about 60, 20 and 20 % of the
    radiographs, 40 % of them NORMAL; a patient has one to four radiographs, all in one split. The masks are
    `folder/masks/{split}/PNEUMONIA/*.png`, named as their radiographs, and those of all chests
    `folder/thorax/{split}/{class}/*.png`. Where a nuisance is asked for, `folder/nuisance.csv` says what
    each radiograph has of it.

    Args:
        folder: a folder that is new or empty; it is filled whole or left as it was.
        count: number of radiographs, at least 12.
        seed: the same seed and settings give the same bytes; with another nuisance, the same patients under
            the same names.
        size: width and height in pixels, at least 32.
        nuisance: how much radiographs may be turned, differently exposed, and marked.
        image_format: `"jpeg"`, or `"dicom"`, which needs pydicom.

    Returns:
        What was written.

    Raises:
        DataError: if the folder holds anything, the count or the size is too small, the format is unknown,
            or pydicom is wanted and not installed.
    """
    folder = Path(folder).resolve()
    _check_size(size)
    if image_format not in FORMATS:
        raise DataError(f"Expected the format {' or '.join(FORMATS)}. Received {image_format!r}.")
    if count < MINIMUM_COUNT:
        raise DataError(
            f"{count} phantoms cannot fill three splits of two classes; ask for {MINIMUM_COUNT} or more."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder} already holds something. Phantoms are written into a new or empty folder only."
        )
    with _scratch_folder_beside(folder) as scratch:
        staged = Path(scratch) / folder.name
        staged.mkdir()
        (staged / README_NAME).write_text(README, encoding="utf-8")
        drawn = _draw_all(_plan(count), np.random.default_rng(seed), size, nuisance)
        num_patients = _write_all(
            staged, drawn, image_format=image_format, say_nuisance=nuisance != NO_NUISANCE
        )
        if folder.exists():
            folder.rmdir()  # it is empty, or this refuses
        staged.rename(folder)
    return PhantomSummary(folder=folder, counts=_plan(count), num_patients=num_patients)


def _scratch_folder_beside(folder: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-")
    except OSError as error:
        raise OutputError(error.errno, error.strerror, str(folder)) from error


def _check_size(size: int) -> None:
    if size < MINIMUM_SIZE:
        raise DataError(
            f"A phantom of {size} pixels shows no opacity; ask for a size of {MINIMUM_SIZE} or more."
        )


def _plan(count: int) -> dict[str, dict[str, int]]:
    """How many radiographs go into each split and class."""
    normal = round(NORMAL_SHARE * count)
    totals = dict(zip(CLASS_NAMES, (normal, count - normal), strict=True))
    held_out = {
        split: {name: max(1, round(share * total)) for name, total in totals.items()}
        for split, share in SPLIT_SHARES.items()
    }
    train = {name: total - sum(part[name] for part in held_out.values()) for name, total in totals.items()}
    return {"train": train, **held_out}


def _write_all(
    folder: Path, drawn: Iterable[tuple[Path, str, Phantom]], *, image_format: str, say_nuisance: bool
) -> int:
    """Write what is drawn; returns the number of patients."""
    patients, rows = set(), []
    for path, patient, phantom in drawn:
        image = path.with_suffix(".dcm" if image_format == "dicom" else ".jpeg")
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        if image_format == "dicom":
            (folder / image).write_bytes(dicom_bytes(phantom.image, patient=patient))
        else:
            _write(folder / image, phantom.image, cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
        masks = {THORAX_MASKS: phantom.thorax} | ({OPACITY_MASKS: phantom.mask} if phantom.label == 1 else {})
        for kind, mask in masks.items():
            target = folder / kind / path.with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(target, mask)
        patients.add(patient)
        rows.append({"path": image.as_posix(), **asdict(phantom.acquisition)})
    if say_nuisance:
        write_csv(folder / NUISANCE_NAME, NUISANCE_COLUMNS, rows)
    return len(patients)


def _draw_all(
    plan: dict[str, dict[str, int]], rng: np.random.Generator, size: int, nuisance: Nuisance
) -> Iterator[tuple[Path, str, Phantom]]:
    """Each planned radiograph: its path in the folder without a suffix, its patient's name, the phantom."""
    number, patient_number = 0, 0
    for split, classes in plan.items():
        for label, class_name in enumerate(CLASS_NAMES):
            for radiographs in _patients(rng, classes[class_name]):
                patient, patient_number = draw_patient(rng), patient_number + 1
                name = f"person{patient_number}_{patient.infection}" if label else f"IM-{patient_number:04d}"
                for view in range(1, radiographs + 1):
                    number += 1
                    phantom = draw_phantom(rng, label=label, size=size, patient=patient, nuisance=nuisance)
                    stem = f"{name}_{number}" if label else f"{name}-{view:04d}"
                    yield Path(split, class_name, stem), name, phantom


def _patients(rng: np.random.Generator, count: int) -> Iterator[int]:
    """Radiographs of one patient after the other, one to four each, `count` in all."""
    while count > 0:
        radiographs = min(count, 1 + int(rng.choice(len(RADIOGRAPHS_PER_PATIENT), p=RADIOGRAPHS_PER_PATIENT)))
        yield radiographs
        count -= radiographs


def _write(path: Path, image: np.ndarray, *settings: int) -> None:
    _, encoded = cv2.imencode(path.suffix, image, settings)
    path.write_bytes(encoded.tobytes())


def _position(rng: np.random.Generator, pixels: int, *, rotation: float) -> Projection:
    return Projection(
        pixels=pixels,
        scale=rng.uniform(1.02, 1.36),
        tilt=rng.normal(0.0, 0.035) + np.radians(rotation),
        shift=(rng.normal(0.0, 0.02), rng.normal(0.0, 0.025)),
        turn=rng.normal(0.0, 0.15),
    )


def _attenuation(
    rng: np.random.Generator, patient: Patient, projection: Projection, air: np.ndarray, opacity: np.ndarray
) -> np.ndarray:
    """Sum of soft tissue, bone and vessels, less what air takes away; opacities fill air and hide vessels."""
    pixels = projection.pixels
    soft = anatomy.trunk(patient, projection) * (1.0 + SOFT_TEXTURE * _cloud(rng, pixels, cells=5))
    aerated = air * (1.0 - opacity)
    texture = 1.0 + LUNG_TEXTURE * _cloud(rng, pixels, cells=40)
    return (
        soft
        * (1.0 - patient.aeration * aerated * texture)
        * (1.0 - anatomy.gas(patient, projection, rng) * (1.0 - air))
        + FLUID * air * opacity
        + anatomy.VESSEL * anatomy.vessels(patient, projection) * aerated
        + anatomy.HEART * anatomy.heart(patient, projection)
        + anatomy.breasts(patient, projection)
        + anatomy.ribs(patient, projection)
        + anatomy.spine(patient, projection)
        + anatomy.shoulder_girdle(patient, projection)
    )


def _opacities(rng: np.random.Generator, patient: Patient, air: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the air that is filled, 0 to 1, and the mask (uint8, 255 = opacity) of one to three."""
    counts, radii, densities = OPACITIES[patient.infection]
    pixels = len(air)
    depth = cv2.distanceTransform((air > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / pixels
    still_clear, mask = np.ones_like(air), np.zeros(air.shape, np.uint8)
    for _ in range(rng.choice(counts)):
        radius = rng.uniform(*radii)
        rows, columns = np.nonzero(depth > min(0.6 * radius, 0.7 * float(depth.max())))
        centre = rng.integers(len(rows))
        envelope = air * _envelope(
            rng, pixels, x=columns[centre] / pixels, y=rows[centre] / pixels, radius=radius
        )
        envelope /= envelope.max()
        mottle = 0.47 + 0.47 * np.tanh(MOTTLE * _cloud(rng, pixels, cells=28))
        still_clear *= 1.0 - rng.uniform(*densities) * envelope * mottle
        mask[envelope > MASK_EDGE] = 255
    return 1.0 - still_clear, mask


def _envelope(rng: np.random.Generator, pixels: int, *, x: float, y: float, radius: float) -> np.ndarray:
    """An irregular patch with fading edges, the union of a few Gaussian lobes around one point."""
    across = np.arange(pixels, dtype=np.float32) / pixels
    lobes = np.zeros((pixels, pixels), np.float32)
    for _ in range(rng.integers(4, 8)):
        shift_x, shift_y = rng.normal(0.0, 0.45 * radius, 2)
        wide, high = radius * rng.uniform(0.35, 0.6, 2)
        lobes += np.outer(
            np.exp(-(((across - y - shift_y) / high) ** 2)), np.exp(-(((across - x - shift_x) / wide) ** 2))
        )
    return 1.0 - np.exp(-3.0 * lobes)


def _cloud(rng: np.random.Generator, pixels: int, *, cells: int) -> np.ndarray:
    """Smooth noise of about unit variance, with structures of `1 / cells` image widths and of half that."""
    grids = [rng.standard_normal((many, many), np.float32) for many in (cells, 2 * cells)]
    coarse, fine = (cv2.resize(grid, (pixels, pixels), interpolation=cv2.INTER_CUBIC) for grid in grids)
    return 0.85 * coarse + 0.5 * fine


def _expose(rng: np.random.Generator, attenuation: np.ndarray) -> np.ndarray:
    """The developed film, about 0 to 1: dose, scatter, tone, uneven field, grain, marker and collimation."""
    pixels = len(attenuation)
    film = 1.0 - np.exp(-rng.uniform(0.8, 1.5) * attenuation)
    film = _develop(rng, film - rng.uniform(0.2, 0.5) * _scatter(film))
    across = np.linspace(-1.0, 1.0, pixels, dtype=np.float32)
    film += rng.normal(0.0, 0.07) * np.add.outer(across**2, across**2) + 0.06 * _cloud(rng, pixels, cells=3)
    film = cv2.GaussianBlur(film, (0, 0), rng.uniform(0.3, 0.9) * pixels / WORKING_SIZE)
    film += rng.uniform(0.004, 0.02) * cv2.GaussianBlur(
        rng.standard_normal(film.shape, np.float32), (0, 0), 0.6
    )
    return _collimate(rng, _mark(rng, film))


def _scatter(film: np.ndarray) -> np.ndarray:
    """The film as a veil: blurred over an eighth of its width. Reading systems subtract part of it."""
    coarse = cv2.GaussianBlur(cv2.resize(film, (32, 32), interpolation=cv2.INTER_AREA), (0, 0), 4.0)
    return cv2.resize(coarse, film.shape, interpolation=cv2.INTER_CUBIC)


def _develop(rng: np.random.Generator, film: np.ndarray) -> np.ndarray:
    """Bring the film to a histogram drawn by chance, as automatic exposure and a maker's tone curve do.

    So an opacity cannot lift the film as a whole; without this a regression on brightness tells the classes
    apart with an AUC of 0.68 instead of 0.6.
    """
    black, white, gamma = rng.uniform(0.0, 0.12), rng.uniform(0.8, 1.0), rng.uniform(0.65, 1.2)
    coarse = cv2.resize(film, (METER_SIZE, METER_SIZE), interpolation=cv2.INTER_AREA)
    reading = np.quantile(coarse, METER_SHARES)
    reading[0], reading[-1] = film.min(), film.max()
    return np.interp(film, reading, black + (white - black) * METER_SHARES**gamma).astype(np.float32)


def _mark(rng: np.random.Generator, film: np.ndarray) -> np.ndarray:
    """Lay a lead letter for the patient's side beside a shoulder, on some films."""
    if rng.uniform() < 0.4:
        return film
    pixels = len(film)
    letter, x = ("R", rng.uniform(0.02, 0.08)) if rng.uniform() < 0.8 else ("L", rng.uniform(0.87, 0.92))
    corner = (int(x * pixels), int(rng.uniform(0.08, 0.3) * pixels))
    height, wide = rng.uniform(0.0012, 0.0025) * pixels, max(1, pixels // 160)
    stamp = np.zeros(film.shape, np.uint8)
    cv2.putText(stamp, letter, corner, cv2.FONT_HERSHEY_SIMPLEX, height, 255, wide, cv2.LINE_AA)
    return np.maximum(film, stamp / np.float32(255.0))


def _collimate(rng: np.random.Generator, film: np.ndarray) -> np.ndarray:
    """Cover some edges of the film with the collimator's blades, black or seldom gray."""
    blades = np.where(rng.uniform(size=4) < 0.25, rng.uniform(0.0, 0.05, 4) * len(film), 0.0).astype(int)
    top, bottom, left, right = blades
    covered = np.full_like(film, rng.choice((0.0, 0.0, 0.0, 0.2)))
    open_field = np.s_[top : len(film) - bottom, left : len(film) - right]
    covered[open_field] = film[open_field]
    return covered
