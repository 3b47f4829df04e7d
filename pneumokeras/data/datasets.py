"""Folders, PneumoniaMNIST files and CSV manifests -> sets of radiographs with labels and patients."""

from __future__ import annotations

import logging
import os
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from html import escape
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.data.phantoms import are_phantoms
from pneumokeras.data.radiographs import SUFFIXES, read_radiograph, resize
from pneumokeras.data.splitting import split_by_patient
from pneumokeras.errors import DataError
from pneumokeras.files import read_csv, write_csv

CLASS_NAMES = ("NORMAL", "PNEUMONIA")
PATIENT_PATTERN = r"^(?P<patient>person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_]"
"""Patient or series in the file names of the Kaggle set "chest-xray-pneumonia"."""

SPLITS = ("train", "val", "test")
SMALLEST_VAL = 100
SMALLEST_VAL_CLASS = 20
_FOLDER_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_ARRAY_MARK = "::"
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
_MANIFEST_COLUMNS = ("path", "label", "patient", "split", "digest")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RadiographSet:
    """Radiographs with labels and patients, in a fixed order; pixels stay where they are until asked for.

    Attributes:
        names: `(n,)` strings, the path of each file, or `FILE.npz::train/12` for an array's row.
        labels: `(n,)` integers, 1 = PNEUMONIA; `None` where nobody said.
        patients: `(n,)` strings; where no patient is known, a name that no other radiograph has.
        images: the files, or an `(n, height, width)` array of `uint8`.
        class_names: names of class 0 and class 1.
        split: `train`, `val` or `test` where the set is one of these, else empty.
    """

    names: np.ndarray
    labels: np.ndarray | None
    patients: np.ndarray
    images: tuple[Path, ...] | np.ndarray
    class_names: tuple[str, str] = CLASS_NAMES
    split: str = field(default="", kw_only=True)

    @classmethod
    def from_files(
        cls,
        paths: Iterable[str | PathLike[str]],
        *,
        labels: Sequence[int] | np.ndarray | None = None,
        class_names: tuple[str, str] = CLASS_NAMES,
        patient_pattern: str | None = None,
        root: Path | None = None,
    ) -> RadiographSet:
        """Make a set of image files.

        Args:
            paths: the files, in the order wanted.
            labels: `(n,)` integers, 1 = PNEUMONIA, or `None` if unknown.
            class_names: names of class 0 and class 1.
            patient_pattern: regular expression searched in each file's name; its group `patient`, or its
                first group, is the patient. By default the Kaggle set's naming.
            root: folder that radiographs of unknown patients are named from, so that a split of them does
                not depend on where it lies; `None` takes the paths as they are.

        Raises:
            DataError: if the regular expression is invalid or has no group, or the labels do not fit.
        """
        files = tuple(Path(path) for path in paths)
        return cls(
            names=np.array([str(file) for file in files], dtype=object),
            labels=None if labels is None else _checked_labels(labels, len(files)),
            patients=_patients(files, patient_pattern, root),
            images=files,
            class_names=class_names,
        )

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        names: Sequence[str] | None = None,
        patients: Sequence[str] | None = None,
        class_names: tuple[str, str] = CLASS_NAMES,
    ) -> RadiographSet:
        """Make a set of arrays already in memory.

        Args:
            images: `(n, height, width)` or `(n, height, width, 1)` array of `uint8`, 0 to 255.
            labels: `(n,)` or `(n, 1)` integers, 1 = PNEUMONIA, or `None` if unknown.
            names: `(n,)` strings; by default `image 0`, `image 1`, ...
            patients: `(n,)` strings; by default each image is its own.
            class_names: names of class 0 and class 1.

        Raises:
            DataError: if shapes, types or values are not as said.
        """
        images = np.asarray(images)
        if images.ndim == 4 and images.shape[-1] == 1:
            images = images[..., 0]
        if images.ndim != 3 or images.dtype != np.uint8:
            raise DataError(
                "Expected images as an (n, height, width) array of uint8 gray levels. "
                f"Received shape {images.shape} of {images.dtype}."
            )
        names = [f"image {index}" for index in range(len(images))] if names is None else names
        patients = names if patients is None else patients
        if not len(names) == len(patients) == len(images):
            raise DataError(
                f"Expected a name and a patient for each of {len(images)} images. "
                f"Received {len(names)} names and {len(patients)} patients."
            )
        return cls(
            names=np.array(names, dtype=object),
            labels=None if labels is None else _checked_labels(labels, len(images)),
            patients=np.array(patients, dtype=object),
            images=images,
            class_names=class_names,
        )

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int] | np.ndarray) -> RadiographSet:
        """The radiographs at `indices` (integers or a boolean mask), in that order."""
        chosen = np.arange(len(self))[list(indices)]
        images = (
            self.images[chosen]
            if isinstance(self.images, np.ndarray)
            else tuple(self.images[i] for i in chosen)
        )
        labels = None if self.labels is None else self.labels[chosen]
        return replace(
            self, names=self.names[chosen], labels=labels, patients=self.patients[chosen], images=images
        )

    def read(self, index: int, image_size: tuple[int, int] | None = None, *, pad: bool = False) -> np.ndarray:
        """The gray levels of one radiograph.

        Args:
            index: 0 to n - 1.
            image_size: wanted `(height, width)`; `None` keeps its own.
            pad: keep the proportions and fill up with black, instead of stretching.

        Returns:
            `(height, width)` array of `uint8`.

        Raises:
            DataError: if the file cannot be read.
        """
        if not isinstance(self.images, np.ndarray):
            return read_radiograph(self.images[index], image_size=image_size, pad=pad)
        pixels = self.images[index]
        return pixels if image_size is None else resize(pixels, image_size, pad=pad)

    def pixels(self, image_size: tuple[int, int], *, pad: bool = False) -> np.ndarray:
        """The gray levels of all radiographs: `(n, height, width)` array of `uint8`."""
        array = np.empty((len(self), *image_size), np.uint8)

        def fill(index: int) -> None:
            array[index] = self.read(index, image_size, pad=pad)

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(self))))
        return array

    @cached_property
    def digests(self) -> np.ndarray:
        """`(n,)` strings: a 128-bit hash of each file's bytes (or each array's), equal for equal content."""
        # A few tasks of many files: handing a small file to a thread takes longer than hashing it.
        parts = np.array_split(np.arange(len(self)), 16)
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda rows: [self._digest(row) for row in rows], parts)
            return np.array([digest for part in found for digest in part], dtype=object)

    def _digest(self, index: int) -> str:
        if isinstance(self.images, np.ndarray):
            content = repr(self.images[index].shape).encode() + self.images[index].tobytes()
        else:
            try:
                content = self.images[index].read_bytes()
            except OSError as error:
                raise DataError(
                    f"Cannot read {self.images[index]}: {error.strerror}. Is it still there?"
                ) from error
        return blake2b(content, digest_size=16).hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """How many radiographs each class has."""
        labels = self.require_labels()
        return {name: int(np.sum(labels == value)) for value, name in enumerate(self.class_names)}

    def class_weights(self) -> dict[int, float]:
        """Balanced weights `n / (2 n_class)`, so that both classes weigh the same; 1 for an absent class."""
        labels = self.require_labels()
        counts = np.bincount(labels, minlength=2)
        return {value: len(labels) / (2 * int(count)) if count else 1.0 for value, count in enumerate(counts)}

    def require_labels(self) -> np.ndarray:
        """The labels.

        Raises:
            DataError: if nobody said what they are.
        """
        if self.labels is None:
            raise DataError(
                "These radiographs have no labels. Expected a set of NORMAL and PNEUMONIA folders."
            )
        return self.labels

    def _repr_html_(self) -> str:
        return _html_table([("radiographs", self)])


@dataclass(frozen=True, eq=False)
class Splits:
    """Radiographs for training, for choosing, and for the one look at the end.

    Attributes:
        train: what weights are learned from.
        val: what hyperparameters and thresholds are chosen on.
        test: what is only evaluated; may be empty.
        source: the folder or file they came from.
        notices: what a reader has to know of how they came about, a sentence each.
    """

    train: RadiographSet
    val: RadiographSet
    test: RadiographSet
    source: str = ""
    notices: tuple[str, ...] = field(default=())

    def __iter__(self) -> Iterator[RadiographSet]:
        return iter((self.train, self.val, self.test))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of content, label and split of every radiograph, wherever the files lie."""
        summary = blake2b(digest_size=8)
        for split, radiographs in zip(SPLITS, self, strict=True):
            labels: Iterable[Any] = (
                ["?"] * len(radiographs) if radiographs.labels is None else radiographs.labels
            )
            rows = sorted(
                f"{split} {label} {digest}" for label, digest in zip(labels, radiographs.digests, strict=True)
            )
            summary.update("\n".join(rows).encode())
        return summary.hexdigest()

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Write the splits as a manifest: path, label, patient, split, and a digest of the content."""
        rows = (
            row
            for split, radiographs in zip(SPLITS, self, strict=True)
            for row in _manifest_rows(radiographs, split)
        )
        write_csv(path, _MANIFEST_COLUMNS, rows)

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(notice)}</p>" for notice in self.notices)
        return _html_table(list(zip(SPLITS, self, strict=True))) + notes


def load_splits(
    path: str | PathLike[str],
    *,
    seed: int = 0,
    keep_val: bool = False,
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
) -> Splits:
    """Find the radiographs under `path` and put each into train, val or test.

    A folder holds `train/`, `val/` and `test/`, each with one folder a class, or the class folders alone,
    which are split 80/10/10. A PneumoniaMNIST-style `.npz` holds `train_images`, `train_labels` and so on.
    A CSV manifest has the columns path and label, and may have patient and split. A val that is missing
    or too small to choose on (under 100 images, or 20 of a class) is replaced by a tenth of train and
    val. Nothing that is split here puts a patient on two sides.

    Args:
        path: folder, `.npz` file or `.csv` manifest.
        seed: which of the possible splits.
        keep_val: keep a val however small.
        classes: names of class 0 and class 1.
        patient_pattern: regular expression searched in file names; its group `patient`, or its first
            group, is the patient. By default the Kaggle set's naming.

    Returns:
        The splits, with a sentence in `notices` on whatever was decided here, and on patients and contents
        that two splits share.

    Raises:
        DataError: if nothing usable is found, there are not exactly the two classes, or a file cannot be
            read (whether it can be decoded is not tried: see `RadiographLoader.preload`).
    """
    found = _find(Path(path), classes=classes, patient_pattern=patient_pattern)
    notices: list[str] = []
    if are_phantoms(Path(path)):
        notices.append("These radiographs are synthetic drawings: their figures say nothing about patients.")
    if "train" not in found and "" not in found:
        raise DataError(
            f"{path} has no train split ({_listing(found)} found). Expected train/ or bare class folders."
        )
    if "" in found:
        found = _dealt(found[""], {"train": 0.8, "val": 0.1, "test": 0.1}, seed)
        notices.append("The data had no splits: patients were dealt out 80/10/10 to train, val and test.")
    elif not keep_val and _too_small(found.get("val")):
        before = len(found.get("val", ()))
        pool = _joined([found[split] for split in ("train", "val") if split in found])
        found |= _dealt(pool, {"train": 0.9, "val": 0.1}, seed)
        reason = f"had {before} images, too few to choose on" if before else "was missing"
        notices.append(
            f"val {reason}: it is now a tenth of the patients of train and val, {len(found['val'])} images."
        )
    nothing = found["train"].subset(np.arange(0))
    splits = Splits(
        train=found["train"],
        val=found.get("val", replace(nothing, split="val")),
        test=found.get("test", replace(nothing, split="test")),
        source=str(path),
    )
    _require_both_classes(splits.train, "train")
    _require_both_classes(splits.val, "val")
    notices += _warnings_about(splits)
    for notice in notices:
        logger.info(notice)
    return replace(splits, notices=tuple(notices))


def load_radiographs(
    path: str | PathLike[str],
    *,
    split: str = "test",
    classes: tuple[str, str] = CLASS_NAMES,
    patient_pattern: str | None = None,
) -> RadiographSet:
    """Load one set to evaluate, never splitting anything.

    Args:
        path: a folder, `.npz` or `.csv` as in `load_splits`. Bare class folders and a manifest without
            `split` are the set, whole.
        split: which split to take where there are several.
        classes: names of class 0 and class 1.
        patient_pattern: as in `load_splits`.

    Returns:
        The set, in file order.

    Raises:
        DataError: if nothing usable is found or there is no such split.
    """
    found = _find(Path(path), classes=classes, patient_pattern=patient_pattern)
    if "" in found:
        return found[""]
    if split not in found:
        raise DataError(
            f"{path} has no {split} split ({_listing(found)} found). Choose one of these with split."
        )
    return found[split]


def read_manifest(
    path: str | PathLike[str], *, classes: tuple[str, str] = CLASS_NAMES, patient_pattern: str | None = None
) -> dict[str, RadiographSet]:
    """Read a CSV manifest: path and label, and if they are there patient and split.

    Args:
        path: the `.csv` file; relative paths in it are taken from its folder.
        classes: names of class 0 and class 1, as the column label has them.
        patient_pattern: used where the manifest has no patient column.

    Returns:
        The sets by split; the one set under the key `""` where there is no split column.

    Raises:
        DataError: if a column is missing, or a label or a split is unknown.
    """
    path = Path(path)
    rows = read_csv(path)
    if not rows or not {"path", "label"} <= set(rows[0]):
        header = ", ".join(rows[0]) if rows else "no rows"
        raise DataError(f"{path} is no manifest: expected the columns path and label, found {header}.")
    labels = {name: value for value, name in enumerate(classes)}
    for number, row in enumerate(rows, start=2):
        if not row["path"]:
            raise DataError(f"{path}, line {number}: no path. Expected the path of an image.")
        if row["label"] not in labels:
            raise DataError(
                f"{path}, line {number}: label {row['label']!r}. Expected {classes[0]} or {classes[1]}."
            )
        if row.get("split") and row["split"] not in SPLITS:
            raise DataError(f"{path}, line {number}: split {row['split']!r}. Expected train, val or test.")
    by_split: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_split.setdefault(row.get("split") or "", []).append(row)
    if "" in by_split and len(by_split) > 1:
        raise DataError(
            f"{path}: {len(by_split[''])} rows have no split while others have. Fill the column or drop it."
        )
    return {
        split: replace(_set_from_rows(rows, path.parent, labels, classes, patient_pattern), split=split)
        for split, rows in by_split.items()
    }


def _find(path: Path, *, classes: tuple[str, str], patient_pattern: str | None) -> dict[str, RadiographSet]:
    """The sets found at `path` by split, or under the key `""` where there are no splits."""
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Expected a folder of radiographs, an .npz or a .csv manifest."
        )
    if path.is_dir():
        return _find_in_folder(path, classes, patient_pattern)
    if path.suffix == ".npz":
        return _find_in_npz(path, classes)
    if path.suffix == ".csv":
        return read_manifest(path, classes=classes, patient_pattern=patient_pattern)
    raise DataError(f"{path} is neither a folder, an .npz file nor a .csv manifest.")


def _find_in_folder(folder: Path, classes: tuple[str, str], pattern: str | None) -> dict[str, RadiographSet]:
    splits = _subfolders(folder, lambda name: _FOLDER_NAMES.get(name.lower()))
    if not splits:
        _refuse_outer_folder(folder, classes)
        return {"": _set_from_class_folders(folder, classes, pattern, root=folder)}
    return {
        split: replace(_set_from_class_folders(splits[split], classes, pattern, root=folder), split=split)
        for split in SPLITS
        if split in splits
    }


def _refuse_outer_folder(folder: Path, classes: tuple[str, str]) -> None:
    """Say what was meant where an archive was unpacked into a folder of its own."""
    if _has_folders_of_radiographs(folder, classes):
        return
    inner = [child for child in _visible_folders(folder) if _has_folders_of_radiographs(child, classes)]
    if len(inner) == 1:
        raise DataError(
            f"{folder} holds {inner[0].name}. Expected train, val and test, or {classes[0]} and "
            f"{classes[1]}. Did you mean {inner[0]}?"
        )


def _has_folders_of_radiographs(folder: Path, classes: tuple[str, str]) -> bool:
    wanted = {name.upper() for name in (*_FOLDER_NAMES, *classes)}
    return any(child.name.upper() in wanted for child in _visible_folders(folder))


def _set_from_class_folders(
    folder: Path, classes: tuple[str, str], pattern: str | None, *, root: Path
) -> RadiographSet:
    children = _subfolders(folder, str.upper)
    wanted = [name.upper() for name in classes]
    others = sorted(
        name for name, child in children.items() if name not in wanted and any(images_under(child))
    )
    if others:
        held = ", ".join(children[name].name for name in (*wanted, *others) if name in children)
        raise DataError(
            f"{folder} holds {held}. Expected exactly two classes, {classes[0]} and {classes[1]}; "
            "name others with --classes, or move them out."
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(wanted):
        found = sorted(images_under(children[name])) if name in children else []
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(
            f"No images under {folder}. "
            f"Expected folders {classes[0]} and {classes[1]} holding JPEG or PNG files."
        )
    return RadiographSet.from_files(
        files, labels=labels, class_names=classes, patient_pattern=pattern, root=root
    )


def _subfolders(folder: Path, meaning: Callable[[str], str | None]) -> dict[str, Path]:
    """The subfolders by what their names mean, without hidden ones and those that mean nothing."""
    found: dict[str, Path] = {}
    for child in _visible_folders(folder):
        key = meaning(child.name)
        if key is None:
            continue
        if key in found:
            raise DataError(
                f"{folder} holds both {found[key].name} and {child.name}. Expected one; merge the two."
            )
        found[key] = child
    return found


def _visible_folders(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.name[0] not in "._" and child.is_dir()]


def images_under(folder: Path) -> Iterator[Path]:
    """The image files in a folder and its subfolders, hidden ones left out, in no particular order.

    Linked subfolders are followed after the real ones, each folder is gone through once, and a link back
    to a folder that lies around it is left out.
    """
    root = Path(folder).resolve()
    seen: set[Path] = set()
    waiting = deque([folder])
    while waiting:
        for place, subfolders, files in os.walk(waiting.popleft()):
            here = Path(place).resolve()
            subfolders[:] = [] if here in seen else sorted(filter(_is_visible, subfolders))
            if here in seen:
                continue
            seen.add(here)
            links = [path for name in subfolders if (path := Path(place, name)).is_symlink()]
            waiting += [
                link for link in links if not {root, here, *root.parents, *here.parents} & {link.resolve()}
            ]
            for name in filter(_is_visible, files):
                file = Path(place, name)
                if file.suffix.lower() in SUFFIXES and file.is_file():
                    yield file


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _find_in_npz(path: Path, classes: tuple[str, str]) -> dict[str, RadiographSet]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except _UNREADABLE as error:
        raise DataError(f"Cannot read {path} ({error}). Expected a PneumoniaMNIST-style .npz.") from error
    splits = [split for split in SPLITS if f"{split}_images" in arrays]
    if not splits:
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'nothing'}. Expected train_images, train_labels and so on."
        )
    missing = [f"{split}_labels" for split in splits if f"{split}_labels" not in arrays]
    if missing:
        raise DataError(f"{path} has no {missing[0]}. Expected labels beside every array of images.")
    return {
        split: _set_from_arrays(path, split, arrays[f"{split}_images"], arrays[f"{split}_labels"], classes)
        for split in splits
    }


def _set_from_arrays(
    path: Path, split: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, str]
) -> RadiographSet:
    members = [f"{split}/{index}" for index in range(len(images))]
    names = [f"{path}{_ARRAY_MARK}{member}" for member in members]
    try:
        radiographs = RadiographSet.from_arrays(
            images, labels, names=names, patients=members, class_names=classes
        )
    except DataError as error:
        raise DataError(f"{path}, {split}: {error}") from error
    return replace(radiographs, split=split)


def _set_from_rows(
    rows: list[dict[str, str]],
    folder: Path,
    labels: dict[str, int],
    classes: tuple[str, str],
    pattern: str | None,
) -> RadiographSet:
    names = [row["path"] for row in rows]
    y = np.array([labels[row["label"]] for row in rows], dtype=np.int64)
    if any(_ARRAY_MARK in name for name in names):
        radiographs = _set_from_array_names(names, folder, classes)
        radiographs = replace(radiographs, labels=y)
    else:
        files = [folder / name for name in names]
        radiographs = RadiographSet.from_files(
            files, labels=y, class_names=classes, patient_pattern=pattern, root=folder
        )
    patients = [row.get("patient") or own for row, own in zip(rows, radiographs.patients, strict=True)]
    return replace(radiographs, patients=np.array(patients, dtype=object))


def _set_from_array_names(names: list[str], folder: Path, classes: tuple[str, str]) -> RadiographSet:
    """Rows of an `.npz` named as `FILE.npz::train/12`, as `Splits.write_csv` names them."""
    parts = [name.partition(_ARRAY_MARK) for name in names]
    files = {file for file, _, _ in parts}
    if len(files) != 1:
        raise DataError("A manifest of arrays must name the rows of one .npz file.")
    found = _find_in_npz(folder / files.pop(), classes)
    members = {
        f"{split}/{index}": image
        for split, radiographs in found.items()
        for index, image in enumerate(radiographs.images)
    }
    try:
        images = np.stack([members[member] for _, _, member in parts])
    except (KeyError, ValueError) as error:
        raise DataError(f"The manifest names a row that {parts[0][0]} does not have ({error}).") from error
    patients = [member for _, _, member in parts]
    return RadiographSet.from_arrays(images, names=names, patients=patients, class_names=classes)


def _manifest_rows(radiographs: RadiographSet, split: str) -> Iterator[dict[str, Any]]:
    if not len(radiographs):
        return
    names = radiographs.names
    if not isinstance(radiographs.images, np.ndarray):
        names = np.array([str(file.absolute()) for file in radiographs.images], dtype=object)
    else:
        names = np.array([_absolute_array_name(name) for name in names], dtype=object)
    columns = (names, radiographs.require_labels(), radiographs.patients, radiographs.digests)
    for name, label, patient, digest in zip(*columns, strict=True):
        yield {
            "path": name,
            "label": radiographs.class_names[label],
            "patient": patient,
            "split": split,
            "digest": digest,
        }


def _absolute_array_name(name: str) -> str:
    file, mark, member = name.partition(_ARRAY_MARK)
    return f"{Path(file).absolute()}{mark}{member}" if mark else name


def _patients(files: Sequence[Path], pattern: str | None, root: Path | None) -> np.ndarray:
    try:
        expression = re.compile(PATIENT_PATTERN if pattern is None else pattern)
    except re.error as error:
        raise DataError(f"Patient pattern {pattern!r} is no regular expression: {error}.") from error
    if not expression.groups:
        raise DataError(
            f"Patient pattern {pattern!r} has no group. Put the patient in brackets, as in '^(\\w+)_'."
        )
    group = "patient" if "patient" in expression.groupindex else 1
    matches = [expression.search(file.name) for file in files]
    if pattern is not None and files and not any(matches):
        raise DataError(f"Patient pattern {pattern!r} matches no file name, such as {files[0].name}.")
    return np.array(
        [
            match[group] if match and match[group] else _path_within(root, file)
            for match, file in zip(matches, files, strict=True)
        ],
        dtype=object,
    )


def _path_within(root: Path | None, file: Path) -> str:
    return file.relative_to(root).as_posix() if root is not None and file.is_relative_to(root) else str(file)


def _checked_labels(labels: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.size != count:
        raise DataError(f"Expected one label for each of {count} images. Received {labels.size} labels.")
    if not np.isin(labels, (0, 1)).all():
        raise DataError(
            "Expected labels 0 and 1. Received " + ", ".join(map(str, np.unique(labels)[:5])) + "."
        )
    return labels.reshape(-1).astype(np.int64)


def _dealt(radiographs: RadiographSet, fractions: dict[str, float], seed: int) -> dict[str, RadiographSet]:
    splits = split_by_patient(
        radiographs.require_labels(), radiographs.patients, fractions=fractions, seed=seed
    )
    return {split: replace(radiographs.subset(splits == split), split=split) for split in fractions}


def _joined(sets: list[RadiographSet]) -> RadiographSet:
    if len(sets) == 1:
        return sets[0]
    arrays = [radiographs.images for radiographs in sets if isinstance(radiographs.images, np.ndarray)]
    together: tuple[Path, ...] | np.ndarray
    if len(arrays) == len(sets):
        together = np.concatenate(arrays)
    else:
        together = tuple(file for radiographs in sets for file in radiographs.images)
    return replace(
        sets[0],
        names=np.concatenate([radiographs.names for radiographs in sets]),
        labels=np.concatenate([radiographs.require_labels() for radiographs in sets]),
        patients=np.concatenate([radiographs.patients for radiographs in sets]),
        images=together,
    )


def _too_small(val: RadiographSet | None) -> bool:
    return val is None or len(val) < SMALLEST_VAL or min(val.counts.values()) < SMALLEST_VAL_CLASS


def _require_both_classes(radiographs: RadiographSet, split: str) -> None:
    absent = [name for name, count in radiographs.counts.items() if not count]
    if absent:
        raise DataError(
            f"The {split} split has no {absent[0]} radiographs ({len(radiographs)} in all). "
            "Expected both classes; add images or patients of the missing one."
        )


def _warnings_about(splits: Splits) -> Iterator[str]:
    if _too_small(splits.val):
        counts = ", ".join(f"{count} {name}" for name, count in splits.val.counts.items())
        yield f"val holds {len(splits.val)} images ({counts}): too few to rank trials reliably."
    pairs = list(combinations(zip(SPLITS, splits, strict=True), 2))
    for (one, radiographs), (other, others) in pairs:
        patients = _known_patients(radiographs) & _known_patients(others)
        if patients:
            yield f"Suspected: {_are(patients, 'patient', one)} also in {other}, such as {min(patients)}."
    for (one, radiographs), (other, others) in pairs:
        contents = set(radiographs.digests) & set(others.digests)
        if contents:
            example = next(
                name
                for name, digest in zip(radiographs.names, radiographs.digests, strict=True)
                if digest in contents
            )
            yield (
                f"{_are(contents, 'radiograph', one)} also in {other} (same content), "
                f"such as {_short_name(example)}."
            )
    if not len(splits.test):
        yield "There is no test split: report on other radiographs with --data, or on val with --split val."


def _known_patients(radiographs: RadiographSet) -> set[str]:
    """The patients somebody named, without those that are only a radiograph's own name."""
    return {
        patient
        for name, patient in zip(radiographs.names, radiographs.patients, strict=True)
        if patient != name and not name.replace("\\", "/").endswith((f"/{patient}", _ARRAY_MARK + patient))
    }


def _are(shared: set[str], what: str, split: str) -> str:
    return f"1 {what} of {split} is" if len(shared) == 1 else f"{len(shared)} {what}s of {split} are"


def _short_name(name: str) -> str:
    file, mark, member = name.partition(_ARRAY_MARK)
    return member if mark else Path(file).name


def _listing(found: dict[str, RadiographSet]) -> str:
    return ", ".join(name for name in found if name) or "no split"


def _html_table(rows: list[tuple[str, RadiographSet]]) -> str:
    names = rows[0][1].class_names
    head = "".join(f"<th>{escape(text)}</th>" for text in ("", *names, "images", "patients"))
    body = ""
    for title, radiographs in rows:
        counts = radiographs.counts.values() if radiographs.labels is not None else ("?", "?")
        cells = (*counts, len(radiographs), len(set(radiographs.patients)))
        body += f"<tr><th>{escape(title)}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
