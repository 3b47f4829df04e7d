"""Write a folder of phantoms: splits, classes, patients and masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pneumokeras.core.errors import SettingsError
from pneumokeras.core.files import filling, write_csv
from pneumokeras.data.dataset import CLASS_NAMES
from pneumokeras.data.phantoms.anatomy import draw_patient
from pneumokeras.data.phantoms.dicom import dicom_bytes
from pneumokeras.data.phantoms.draw import Phantom, check_size, draw_phantom
from pneumokeras.data.phantoms.masks import OPACITY_MASKS, THORAX_MASKS
from pneumokeras.data.phantoms.nuisance import NO_NUISANCE, Nuisance
from pneumokeras.data.readers.synthetic import README, README_NAME

MIN_COUNT = 12

SPLIT_SHARES = {"val": 0.2, "test": 0.2}  # the rest is train

NORMAL_SHARE = 0.4

RADIOGRAPHS_PER_PATIENT = (0.5, 0.25, 0.15, 0.1)  # probabilities of one to four

JPEG_QUALITY = 95

FORMATS = ("jpeg", "dicom")

NUISANCE_NAME = "nuisance.csv"

NUISANCE_COLUMNS = ("path", "rotation", "gain", "gamma", "marker")


@dataclass(frozen=True)
class PhantomSummary:
    """What `write_phantoms` wrote.

    Attributes:
        folder: the absolute path.
        counts: number of radiographs by split and class, such as `counts["train"]["NORMAL"]`.
        num_patients: number of patients in all splits.
    """

    folder: Path
    counts: dict[str, dict[str, int]]
    num_patients: int


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

    Radiographs are at `folder/{split}/{class}/*.jpeg` (or `*.dcm`): about 60% train, 20% val and 20% test,
    40% of them NORMAL. A patient has one to four radiographs, all in one split. Masks of opacities are at
    `folder/masks/{split}/PNEUMONIA/*.png`, named like the radiographs, and masks of the thorax at
    `folder/thorax/{split}/{class}/*.png`. With a nuisance, `folder/nuisance.csv` lists the rotation, exposure
    and marker of each radiograph.

    Args:
        folder: a new or empty folder; it is filled completely or left as it was.
        count: number of radiographs, at least 12.
        seed: the same seed and settings give the same bytes; with another nuisance, the same patients under
            the same names.
        size: width and height in pixels, at least 32.
        nuisance: how much the radiographs vary in rotation, exposure and side marker.
        image_format: `"jpeg"`, or `"dicom"`, which needs pydicom.

    Returns:
        The folder, and how many radiographs and patients are in it.

    Raises:
        DataError: if the folder is not empty.
        OutputError: if it cannot be written.
        SettingsError: if count or size is too small, the format is unknown, or pydicom is needed and not
            installed.

    Example:
        >>> summary = pk.write_phantoms("phantoms", count=12, size=32)
        >>> summary.counts["test"]
        {'NORMAL': 1, 'PNEUMONIA': 1}
    """
    check_size(size)
    if image_format not in FORMATS:
        raise SettingsError(
            f"Expected `image_format` {' or '.join(FORMATS)}. Received {image_format!r}.",
            parameter="image_format",
        )
    if count < MIN_COUNT:
        raise SettingsError(
            f"Expected `count` of {MIN_COUNT} or more phantoms, to fill three splits of two classes. "
            f"Received {count}.",
            parameter="count",
        )
    folder, counts = Path(folder).resolve(), _planned_counts(count)
    with filling(folder) as staged:
        (staged / README_NAME).write_text(README, encoding="utf-8")
        drawn = _draw_all(counts, rng=np.random.default_rng(seed), size=size, nuisance=nuisance)
        num_patients = _write_all(
            staged, drawn, image_format=image_format, with_nuisance=nuisance != NO_NUISANCE
        )
    return PhantomSummary(folder=folder, counts=counts, num_patients=num_patients)


def _planned_counts(count: int) -> dict[str, dict[str, int]]:
    """Return the number of radiographs of each split and class."""
    normal = round(NORMAL_SHARE * count)
    totals = dict(zip(CLASS_NAMES, (normal, count - normal), strict=True))
    held_out = {
        split: {name: max(1, round(share * total)) for name, total in totals.items()}
        for split, share in SPLIT_SHARES.items()
    }
    train = {name: total - sum(part[name] for part in held_out.values()) for name, total in totals.items()}
    return {"train": train, **held_out}


def _write_all(
    folder: Path, drawn: Iterable[tuple[Path, str, Phantom]], *, image_format: str, with_nuisance: bool
) -> int:
    """Write phantoms with their paths and patients, and return the number of patients."""
    patients, rows = set(), []
    for path, patient, phantom in drawn:
        image = path.with_suffix(".dcm" if image_format == "dicom" else ".jpeg")
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        if image_format == "dicom":
            (folder / image).write_bytes(dicom_bytes(phantom.image, patient=patient))
        else:
            _write_image(folder / image, phantom.image, cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
        masks = {THORAX_MASKS: phantom.thorax} | ({OPACITY_MASKS: phantom.mask} if phantom.label == 1 else {})
        for kind, mask in masks.items():
            target = folder / kind / path.with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_image(target, mask)
        patients.add(patient)
        rows.append({"path": image.as_posix(), **asdict(phantom.acquisition)})
    if with_nuisance:
        write_csv(folder / NUISANCE_NAME, NUISANCE_COLUMNS, rows)
    return len(patients)


def _draw_all(
    counts: dict[str, dict[str, int]], *, rng: np.random.Generator, size: int, nuisance: Nuisance
) -> Iterator[tuple[Path, str, Phantom]]:
    """Draw each planned radiograph: its path without a suffix, its patient's name, and the phantom."""
    number, patient_number = 0, 0
    for split, classes in counts.items():
        for label, class_name in enumerate(CLASS_NAMES):
            for radiographs in _radiographs_per_patient(rng, classes[class_name]):
                patient, patient_number = draw_patient(rng), patient_number + 1
                name = f"person{patient_number}_{patient.infection}" if label else f"IM-{patient_number:04d}"
                for view in range(1, radiographs + 1):
                    number += 1
                    phantom = draw_phantom(rng, label=label, size=size, patient=patient, nuisance=nuisance)
                    stem = f"{name}_{number}" if label else f"{name}-{view:04d}"
                    yield Path(split, class_name, stem), name, phantom


def _radiographs_per_patient(rng: np.random.Generator, count: int) -> Iterator[int]:
    """Draw the number of radiographs of one patient after another, one to four each, `count` in all."""
    while count > 0:
        radiographs = min(count, 1 + int(rng.choice(len(RADIOGRAPHS_PER_PATIENT), p=RADIOGRAPHS_PER_PATIENT)))
        yield radiographs
        count -= radiographs


def _write_image(path: Path, image: np.ndarray, *settings: int) -> None:
    _, encoded = cv2.imencode(path.suffix, image, settings)
    path.write_bytes(encoded.tobytes())
