"""Read PneumoniaMNIST-style `.npz` files into sets."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from pneumokeras.core.errors import DataError, first_line
from pneumokeras.data.dataset import SPLITS, RadiographSet

ARRAY_MARK = ".npz::"
"""What marks the name of an array's row, as in `FILE.npz::train/12`."""

_EXPECTED = "Expected a PneumoniaMNIST-style .npz."
_LARGEST_EXPANSION = 100
_NEVER_TOO_LARGE = 2**28
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path, *, classes: tuple[str, str]) -> dict[str, RadiographSet]:
    """Read the arrays `train_images`, `train_labels` and so on.

    Args:
        path: the `.npz` file. Nothing in it is unpickled.
        classes: names of class 0 and class 1.

    Returns:
        The sets by split.

    Raises:
        DataError: if the file cannot be read, an array of images has no labels, or
            `RadiographSet.from_arrays` refuses a shape, type or value.
    """
    try:
        arrays = _arrays(path)
    except DataError:
        raise
    except Exception as error:  # damaged archives make zipfile, zlib and NumPy raise nearly anything
        raise DataError(
            f"Cannot read {path} ({type(error).__name__}: {first_line(error)}). {_EXPECTED}", path=path
        ) from error
    return {
        split: _set_from_arrays(path, split, arrays[f"{split}_images"], arrays[f"{split}_labels"], classes)
        for split in SPLITS
        if f"{split}_images" in arrays
    }


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the images and labels of each split that the file has."""
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds a single array. {_EXPECTED}", path=path)
        splits = [split for split in SPLITS if f"{split}_images" in archive.files]
        if not splits:
            held = ", ".join(archive.files) or "nothing"
            raise DataError(f"{path} holds {held}. Expected train_images, train_labels and so on.", path=path)
        wanted = [f"{split}_{what}" for split in splits for what in ("images", "labels")]
        missing = [name for name in wanted if name not in archive.files]
        if missing:
            raise DataError(
                f"{path} has no {missing[0]}. Expected labels beside every array of images.", path=path
            )
        for name in wanted:
            _require_honest_size(path, name)
        return {name: archive[name] for name in wanted}


def _require_honest_size(path: Path, name: str) -> None:
    """Refuse an array, before it is allocated, if the file does not hold as much as it claims."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        shape, _, dtype = _HEADER_READERS[np.lib.format.read_magic(file)](file)
        member = archive.getinfo(f"{name}.npy")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > member.file_size or claimed > max(
        _NEVER_TOO_LARGE, _LARGEST_EXPANSION * member.compress_size
    ):
        raise DataError(
            f"{path}: {name} claims {claimed} bytes, its file holds {member.compress_size}. {_EXPECTED}",
            path=path,
        )


def _set_from_arrays(
    path: Path, split: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, str]
) -> RadiographSet:
    try:
        members = [f"{split}/{index}" for index in range(len(np.atleast_1d(images)))]
        return RadiographSet.from_arrays(
            images,
            labels,
            names=[f"{path}::{member}" for member in members],
            patients=members,
            class_names=classes,
            split=split,
        )
    except DataError as error:
        raise DataError(f"{path}, {split}: {error}", path=path) from error


def rows_of_npz(names: list[str], folder: Path, *, classes: tuple[str, str]) -> RadiographSet:
    """Read rows of one `.npz` file as a set without labels, named as `read_npz` names them.

    Args:
        names: `FILE.npz::train/12` and so on, as `Splits.write_csv` names them.
        folder: the folder that a relative file name starts from.
        classes: names of class 0 and class 1.

    Raises:
        DataError: if the names are of several files, the file cannot be read, or it has no such row.
    """
    parts = [name.rpartition("::") for name in names]
    files = {file for file, _, _ in parts}
    if len(files) != 1:
        raise DataError(
            f"A manifest in {folder} names rows of {len(files)} files. Expected rows of one .npz file.",
            path=folder,
        )
    file = folder / files.pop()
    members = {
        f"{split}/{index}": image
        for split, radiographs in read_npz(file, classes=classes).items()
        for index, image in enumerate(radiographs.images)
    }
    wanted = [member for _, _, member in parts]
    try:
        images = np.stack([members[member] for member in wanted])
    except (KeyError, ValueError) as error:
        raise DataError(
            f"The manifest names a row that {parts[0][0]} does not have ({error}).", path=file
        ) from error
    return RadiographSet.from_arrays(
        images, names=[f"{file}::{member}" for member in wanted], patients=wanted, class_names=classes
    )
