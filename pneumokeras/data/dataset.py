"""Radiographs with labels and patients, as paths or arrays, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np

from pneumokeras.core.arguments import whole
from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.core.html import table
from pneumokeras.core.words import number_of
from pneumokeras.data.gallery import SIDE, Gallery
from pneumokeras.data.images.image import (
    Depth,
    decode_radiograph,
    height_and_width,
    read_content,
    read_radiograph,
    resize,
)
from pneumokeras.data.images.patients import patients_of, subtypes_of

CLASS_NAMES = ("NORMAL", "PNEUMONIA")

SPLITS = ("train", "val", "test")

SPLIT_OF_NAME = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The split that a folder or a manifest's cell means, by its name in lower case."""

WHOLE = "all"
"""The name of radiographs without splits in an audit and a report."""

_TRIAL_SIZE = (32, 32)  # small radiographs are decoded faster

_REASONS_SHOWN = 5

Result = TypeVar("Result")


class _NoSuchRadiograph(SettingsError, IndexError):
    """A set has no such radiographs; an `IndexError`, too, at which loops over a set end."""


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file that cannot be used as a radiograph.

    Attributes:
        name: its name in the set; in an audit relative to the source.
        split: the split it belongs to; empty if unknown.
        problem: `unreadable`, `empty`, `truncated` or `undecodable`.
        reason: one or two sentences.
    """

    name: str
    split: str = ""
    problem: str = "undecodable"
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class RadiographSet:
    """Radiographs with labels and patients, in a fixed order; pixels are read only when they are needed.

    Attributes:
        names: `(n,)` strings, the path of each file, or `FILE.npz::train/12` for a row of an array.
        labels: `(n,)` integers, 1 = PNEUMONIA; `None` if unlabeled.
        patients: `(n,)` strings; where the patient is unknown, a name that no other radiograph has.
        images: the files, or an `(n, height, width)` array of `uint8`.
        class_names: names of class 0 and class 1.
        split: `train`, `val` or `test`; empty if the set is none of them.
        subtypes: `(n,)` strings, the kind of pneumonia (`bacteria`, `virus`), or any other subdivision of a
            class in a manifest; empty if unknown.
        frames: `(n,)` integers, the frame that is read of each DICOM file of several, 1 for the first; 0 if
            none is chosen, as of other files.
        columns: the other columns of a manifest, such as `hospital`: `(n,)` strings by name.
        skipped: the files that `without_bad` left out.
        depth: of the images of more than eight bits, in the collection that the set was taken from.

    Example:
        >>> radiographs = pk.load_radiographs("chest_xray", split="train")
        >>> radiographs.subset(radiographs.labels == 1).counts["NORMAL"]
        0
        >>> radiographs.read(0, (32, 32)).shape
        (32, 32)
    """

    names: np.ndarray
    labels: np.ndarray | None
    patients: np.ndarray
    images: tuple[Path, ...] | np.ndarray
    class_names: tuple[str, str] = CLASS_NAMES
    split: str = field(default="", kw_only=True)
    subtypes: np.ndarray = field(kw_only=True)
    frames: np.ndarray = field(kw_only=True)
    columns: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    skipped: tuple[BadFile, ...] = field(default=(), kw_only=True)
    depth: Depth = field(default_factory=Depth, kw_only=True, repr=False)

    @classmethod
    def from_files(
        cls,
        paths: Iterable[str | PathLike[str]],
        *,
        labels: Sequence[int] | np.ndarray | None = None,
        class_names: tuple[str, str] = CLASS_NAMES,
        patients: Sequence[str] | None = None,
        patient_pattern: str | None = None,
        root: Path | None = None,
        subtypes: Sequence[str] | None = None,
        split: str = "",
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> RadiographSet:
        """Make a set of image files.

        Args:
            paths: the files, in order.
            labels: `(n,)` integers, 1 = PNEUMONIA, or `None` if unknown.
            class_names: names of class 0 and class 1.
            patients: `(n,)` strings; an empty one, or all if `None`, is taken from the file.
            patient_pattern: regular expression searched in each file's name; its group `patient`, or its
                first group, is the patient. By default the patient in a DICOM header (hashed), then the
                naming of the Kaggle set.
            root: folder that radiographs of unknown patients are named from, so that a split of them does
                not depend on where it lies; `None` takes the paths as they are.
            subtypes: `(n,)` strings; an empty one, or all if `None`, is taken from the file's name.
            split: as in the class's attributes.
            columns: as in the class's attributes.

        Raises:
            SettingsError: if the regular expression is invalid, has no group or matches no file.
            DataError: if the labels do not fit, or there are DICOM files and pydicom is missing.
        """
        files = tuple(Path(path) for path in paths)
        return cls(
            names=np.array([str(file) for file in files], dtype=object),
            labels=None if labels is None else _checked_labels(labels, len(files)),
            patients=patients_of(files, pattern=patient_pattern, root=root, known=patients),
            images=files,
            depth=Depth(files),
            class_names=class_names,
            split=split,
            subtypes=filled(subtypes, subtypes_of(files)),
            frames=np.zeros(len(files), np.int64),
            columns=columns or {},
        )

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: Sequence[int] | np.ndarray | None = None,
        *,
        names: Sequence[str] | None = None,
        patients: Sequence[str] | np.ndarray | None = None,
        class_names: tuple[str, str] = CLASS_NAMES,
        split: str = "",
    ) -> RadiographSet:
        """Make a set of arrays already in memory.

        Args:
            images: `(n, height, width)` or `(n, height, width, 1)` array of `uint8`, 0 to 255.
            labels: `(n,)` or `(n, 1)` integers, 1 = PNEUMONIA, or `None` if unknown.
            names: `(n,)` strings; by default `image 0`, `image 1`, ...
            patients: `(n,)` strings; by default each image is its own patient.
            class_names: names of class 0 and class 1.
            split: as in the class's attributes.

        Raises:
            DataError: if a shape, type or value is not as described.
        """
        images = np.asarray(images)
        if images.ndim == 4 and images.shape[-1] == 1:
            images = images[..., 0]
        if images.ndim != 3 or images.dtype != np.uint8 or not all(images.shape[1:]):
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
            split=split,
            subtypes=np.full(len(images), "", dtype=object),
            frames=np.zeros(len(images), np.int64),
        )

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int] | np.ndarray, *, split: str | None = None) -> RadiographSet:
        """Return the radiographs at `indices`, in that order, with `skipped` empty.

        Args:
            indices: integers or a boolean mask.
            split: the subset's split; `None` keeps that of the set.

        Raises:
            SettingsError: if there are no such radiographs.
        """
        chosen = self._rows(list(indices))
        images = (
            self.images[chosen]
            if isinstance(self.images, np.ndarray)
            else tuple(self.images[i] for i in chosen)
        )
        part = replace(
            self,
            names=self.names[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            patients=self.patients[chosen],
            subtypes=self.subtypes[chosen],
            frames=self.frames[chosen],
            columns={name: values[chosen] for name, values in self.columns.items()},
            images=images,
            split=self.split if split is None else split,
            skipped=(),
        )
        if "digests" in self.__dict__:  # so that no file is read and hashed again
            part.__dict__["digests"] = self.digests[chosen]
        return part

    def without_bad(self) -> RadiographSet:
        """Return the radiographs that can be decoded, with the others in `skipped`; each is tried once.

        Raises:
            DataError: if there are radiographs, and none can be decoded.
        """
        if isinstance(self.images, np.ndarray):
            return self
        bad = in_threads(self._try_to_decode, len(self))
        skipped = tuple(one for one in bad if one is not None)
        if skipped and len(skipped) == len(self):
            raise DataError(f"None of {len(self)} radiographs can be decoded. The first: {skipped[0].reason}")
        return replace(self.subset([one is None for one in bad]), skipped=skipped)

    def _try_to_decode(self, index: int) -> BadFile | None:
        content = None
        try:
            content = read_content(self.images[index])
            decode_radiograph(content, self.images[index], image_size=_TRIAL_SIZE, frame=self.frame_at(index))
        except DataError as error:
            problem = "unreadable" if content is None else "undecodable" if content.size else "empty"
            return BadFile(name=self.names[index], split=self.split, problem=problem, reason=error.fault)
        return None

    def __getitem__(self, indices: int | slice | Sequence[int] | np.ndarray) -> RadiographSet:
        """Return a subset: one radiograph, a slice, or as for `subset`.

        Raises:
            SettingsError: if there are no such radiographs.
        """
        return self.subset(np.atleast_1d(self._rows(indices)))

    def _rows(self, indices: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        try:
            return np.arange(len(self))[indices]
        except IndexError as error:
            raise _NoSuchRadiograph(
                f"Expected `indices` as whole numbers below {len(self)}, the number of radiographs, or as a "
                f"mask of {len(self)}. Received {repr(indices)[:60]}.",
                parameter="indices",
            ) from error

    def show(self, count: int = 6, *, seed: int = 0) -> Gallery:
        """Show some radiographs, drawn at random, a row for each class.

        Args:
            count: maximum number of each class.
            seed: decides which ones are drawn.

        Returns:
            Their pictures; as the last expression of a notebook cell they show themselves.

        Raises:
            DataError: if one of them cannot be read.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        groups = (
            {"": order}
            if self.labels is None
            else {name: order[self.labels[order] == label] for label, name in enumerate(self.class_names)}
        )
        return Gallery(
            [
                (
                    ", ".join(filter(None, [self.split, name, number_of(len(members), "radiograph")])),
                    [(self._picture(i), Path(self.names[i]).name) for i in np.sort(members[:count])],
                )
                for name, members in groups.items()
            ]
        )

    def _picture(self, index: int) -> np.ndarray:
        pixels = self.read(index)
        height, width = (max(1, round(SIDE * side / max(pixels.shape))) for side in pixels.shape)
        return resize(pixels, (height, width))

    def read(
        self, index: int, image_size: int | tuple[int, int] | None = None, *, pad: bool = False
    ) -> np.ndarray:
        """Read the gray levels of one radiograph.

        Args:
            index: 0 to n - 1.
            image_size: wanted side or `(height, width)`; `None` keeps its own.
            pad: keep the aspect ratio and pad with black, instead of stretching.

        Returns:
            `(height, width)` array of `uint8`.

        Raises:
            SettingsError: if `image_size` is not as described.
            DataError: if the file cannot be read.
        """
        size = None if image_size is None else height_and_width(image_size)
        if not isinstance(self.images, np.ndarray):
            return read_radiograph(
                self.images[index], image_size=size, pad=pad, depth=self.depth, frame=self.frame_at(index)
            )
        pixels = self.images[index]
        return pixels if size is None else resize(pixels, size, pad=pad)

    def at_depth(self, bits: int | None) -> RadiographSet:
        """Return the set as a model reads it that was trained on images of a depth.

        Args:
            bits: the depth that images of more than eight bits are reduced by, brighter ones by their own;
                `None` if it was trained on eight bits alone: each image is then reduced by its own.

        Raises:
            SettingsError: if it is no number of bits from 8 to 16.
        """
        bits = 8 if bits is None else whole("bits", bits, minimum=8, maximum=16)
        if bits == (self.depth.bits or 8):
            return self  # with what it has cached
        return replace(self, depth=Depth(self.depth.files, bits=bits))

    def frame_at(self, index: int) -> int | None:
        """Return the frame that is read of one file, 1 for the first; `None` if none is chosen."""
        return int(self.frames[index]) or None

    def pixels(self, image_size: int | tuple[int, int], *, pad: bool = False) -> np.ndarray:
        """Read the gray levels of all radiographs: `(n, height, width)` array of `uint8`.

        Args:
            image_size: wanted side or `(height, width)`.
            pad: as for `read`.

        Raises:
            SettingsError: if the size is nothing of the kind.
            DataError: if a file cannot be read.
        """
        size = height_and_width(image_size)
        array = np.empty((len(self), *size), np.uint8)

        def fill(index: int) -> None:
            array[index] = self.read(index, size, pad=pad)

        in_threads(fill, len(self))
        return array

    @cached_property
    def digests(self) -> np.ndarray:
        """`(n,)` strings: a 128-bit hash of each file's (or array's) bytes, and of a frame past the first."""
        return np.array(in_threads(self._digest, len(self)), dtype=object)

    def _digest(self, index: int) -> str:
        if isinstance(self.images, np.ndarray):
            content = repr(self.images[index].shape).encode() + self.images[index].tobytes()
        else:
            content = read_content(self.images[index]).tobytes()
        frame = self.frames[index]
        return blake2b(content, digest_size=16, salt=b"%d" % frame if frame > 1 else b"").hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """The number of radiographs in each class."""
        labels = self.require_labels()
        return {name: int(np.sum(labels == value)) for value, name in enumerate(self.class_names)}

    @cached_property
    def known_patients(self) -> frozenset[str]:
        """The known patients: names that are not just the radiograph's own."""
        return frozenset(self.patients[are_named(self.names, self.patients)])

    def class_weights(self) -> dict[int, float]:
        """Return weights `n / (2 n_class)`, so that both classes weigh the same; 1 for an absent class."""
        labels = self.require_labels()
        counts = np.bincount(labels, minlength=2)
        return {value: len(labels) / (2 * int(count)) if count else 1.0 for value, count in enumerate(counts)}

    def require_labels(self) -> np.ndarray:
        """Return the labels.

        Raises:
            DataError: if there are none.
        """
        if self.labels is None:
            raise DataError(
                "These radiographs have no labels. Expected a set of NORMAL and PNEUMONIA folders."
            )
        return self.labels

    def __repr__(self) -> str:
        """Return one line with the split and the numbers of radiographs and patients."""
        title = f"{self.split} set" if self.split else "RadiographSet"
        return f"<{title} of {counted(self)}, patients: {len(set(self.patients))}>"

    def _repr_html_(self) -> str:
        return html_table({self.split or "radiographs": self})


def require_set(radiographs: object, parameter: str = "radiographs") -> None:
    """Refuse anything but a set where one is meant.

    Raises:
        DataError: if it is none.
    """
    if not isinstance(radiographs, RadiographSet):
        hint = "splits.test" if hasattr(radiographs, "test") else 'load_radiographs("chest_xray")'
        raise DataError(
            f"Expected `{parameter}` as a RadiographSet, such as {hint}. "
            f"Received {type(radiographs).__name__}.",
            parameter=parameter,
        )


def counted(radiographs: RadiographSet) -> str:
    """Return the number of radiographs, and of those of each class, in words."""
    noun = "radiograph" if len(radiographs) == 1 else "radiographs"
    if radiographs.labels is None:
        return f"{len(radiographs)} {noun} (unlabeled)"
    counts = ", ".join(f"{count} {name}" for name, count in radiographs.counts.items())
    return f"{len(radiographs)} {noun} ({counts})"


def in_threads(function: Callable[[int], Result], count: int) -> list[Result]:
    """Return `function(0)` to `function(count - 1)`, computed in several threads.

    A task holds many rows, since handing a small file to a thread takes longer than decoding it.
    """

    def of_part(rows: np.ndarray) -> list[Result]:
        return [function(row) for row in rows.tolist()]

    with ThreadPoolExecutor() as pool:
        return [result for part in pool.map(of_part, np.array_split(np.arange(count), 64)) for result in part]


def union(sets: Iterable[RadiographSet]) -> RadiographSet:
    """Return all radiographs of several labeled sets as one set, in order.

    Its `split` is the one that all sets have, or empty.

    Raises:
        DataError: if they are arrays of different sizes.
    """
    sets = list(sets)
    if len(sets) == 1:
        return sets[0]
    arrays = [radiographs.images for radiographs in sets if isinstance(radiographs.images, np.ndarray)]
    images: tuple[Path, ...] | np.ndarray
    if len(arrays) == len(sets):
        sizes = sorted({f"{height} x {width}" for _, height, width in (array.shape for array in arrays)})
        if len(sizes) > 1:
            raise DataError(f"Expected arrays of one size to put into one set. Received {', '.join(sizes)}.")
        images = np.concatenate(arrays)
    else:
        images = tuple(file for radiographs in sets for file in radiographs.images)
    splits = {radiographs.split for radiographs in sets}
    return replace(
        sets[0],
        names=np.concatenate([radiographs.names for radiographs in sets]),
        labels=np.concatenate([radiographs.require_labels() for radiographs in sets]),
        patients=np.concatenate([radiographs.patients for radiographs in sets]),
        subtypes=np.concatenate([radiographs.subtypes for radiographs in sets]),
        frames=np.concatenate([radiographs.frames for radiographs in sets]),
        columns={name: np.concatenate([_column(part, name) for part in sets]) for name in columns_of(sets)},
        images=images,
        depth=Depth(dict.fromkeys(file for radiographs in sets for file in radiographs.depth.files)),
        split=splits.pop() if len(splits) == 1 else "",
        skipped=tuple(bad for radiographs in sets for bad in radiographs.skipped),
    )


def filled(known: Iterable[str] | None, fallback: np.ndarray) -> np.ndarray:
    """Return the `(n,)` strings of `known`, or those of `fallback` where they are empty or `None`."""
    if known is None:
        return fallback
    return np.array([one or other for one, other in zip(known, fallback, strict=True)], dtype=object)


def columns_of(sets: Iterable[RadiographSet]) -> tuple[str, ...]:
    """Return the names of the further columns of any of the sets."""
    return tuple(dict.fromkeys(name for radiographs in sets for name in radiographs.columns))


def _column(radiographs: RadiographSet, name: str) -> np.ndarray:
    return radiographs.columns.get(name, np.full(len(radiographs), "", dtype=object))


def skipped_notice(skipped: Sequence[BadFile]) -> str:
    """Return a sentence on the radiographs that were left out, with the first few reasons."""
    subject = "1 radiograph is" if len(skipped) == 1 else f"{len(skipped)} radiographs are"
    more = "" if len(skipped) <= _REASONS_SHOWN else f" And {len(skipped) - _REASONS_SHOWN} more."
    return f"{subject} left out: " + " ".join(bad.reason for bad in skipped[:_REASONS_SHOWN]) + more


def _checked_labels(labels: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.size != count:
        raise DataError(f"Expected one label for each of {count} images. Received {labels.size} labels.")
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        some = ", ".join(map(str, np.unique(labels)[:5])) if labels.dtype.kind in "biuf" else labels.dtype
        raise DataError(f"Expected labels 0 and 1. Received {some}.")
    return labels.reshape(-1).astype(np.int64)


def html_table(rows: Mapping[str, RadiographSet]) -> str:
    """Return the HTML table of titles and counts that notebooks show of sets, escaped."""
    names = next(iter(rows.values())).class_names
    cells = [
        (
            title,
            *(radiographs.counts.values() if radiographs.labels is not None else ("?", "?")),
            len(radiographs),
            len(set(radiographs.patients)),
        )
        for title, radiographs in rows.items()
    ]
    return table(("", *names, "images", "patients"), cells)


def are_named(names: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return whether each radiograph has a known patient, other than its own name or the end of its path.

    Args:
        names: `(n,)` strings, the radiographs.
        patients: `(n,)` strings, their patients.

    Returns:
        `(n,)` booleans.
    """

    def is_named(name: str, patient: str) -> bool:
        return name != patient and not name.replace("\\", "/").endswith((f"/{patient}", f"::{patient}"))

    return np.array([is_named(*pair) for pair in zip(names, patients, strict=True)], dtype=bool)
