"""Folders of radiographs, by split and class -> sets."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import SPLIT_OF_NAME, SPLITS, RadiographSet
from pneumokeras.data.images.image import SUFFIXES
from pneumokeras.data.images.patients import label_of


def read_folder(
    folder: Path, *, classes: tuple[str, str], patient_pattern: str | None
) -> dict[str, RadiographSet]:
    """Find the radiographs in a folder.

    Args:
        folder: holds train, val and test, or is itself one of these: folders of the classes, or files whose
            names say the class.
        classes: names of class 0 and class 1, in any case.
        patient_pattern: as for `RadiographSet.from_files`.

    Returns:
        The sets by split; the one set under the key `""` where there are no folders of splits.

    Raises:
        DataError: if nothing usable is found, there are not exactly the two classes, or a folder cannot be
            read.
    """
    splits = _subfolders(folder, lambda name: SPLIT_OF_NAME.get(name.lower()))
    if not splits:
        _refuse_outer_folder(folder, classes)
        return {"": _set_from_folder(folder, classes, patient_pattern, root=folder)}
    return {
        split: replace(_set_from_folder(splits[split], classes, patient_pattern, root=folder), split=split)
        for split in SPLITS
        if split in splits
    }


def images_beside(folder: Path, *, classes: tuple[str, str]) -> int:
    """How many images lie beside the folders of splits or classes, where `read_folder` passes them over."""
    splits = [child for child in _visible_folders(folder) if child.name.lower() in SPLIT_OF_NAME]
    return sum(
        file.suffix.lower() in SUFFIXES and _is_visible(file.name) and not file.is_dir()
        for place in (folder, *splits)
        if _has_folders_of_radiographs(place, classes)
        for file in place.iterdir()
    )


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
    wanted = {name.upper() for name in (*SPLIT_OF_NAME, *classes)}
    return any(child.name.upper() in wanted for child in _visible_folders(folder))


def _set_from_folder(
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
    if any(name in children for name in wanted):
        labeled = [
            (file, label)
            for label, name in enumerate(wanted)
            if name in children
            for file in sorted(images_under(children[name]))
        ]
    else:
        labeled = [(file, label_of(file, classes)) for file in sorted(images_under(folder))]
    if not labeled:
        raise DataError(
            f"No images under {folder}. "
            f"Expected folders {classes[0]} and {classes[1]} holding JPEG, PNG, TIFF, BMP or DICOM files."
        )
    files, labels = zip(*labeled, strict=True)
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
    try:
        return [child for child in sorted(folder.iterdir()) if _is_visible(child.name) and child.is_dir()]
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror}. May you read it?") from error


def images_under(folder: Path) -> Iterator[Path]:
    """The image files in a folder and its subfolders, hidden ones left out, in no particular order.

    Linked subfolders are followed after the real ones, each folder is gone through once, and a link back
    to a folder that lies around it is left out. A link that leads nowhere counts, and is an error where it
    is read.

    Raises:
        DataError: if a folder cannot be read.
    """
    root = Path(folder).resolve()
    seen: set[Path] = set()
    waiting = deque([folder])
    while waiting:
        for place, subfolders, files in os.walk(waiting.popleft(), onerror=_refuse):
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
                if file.suffix.lower() in SUFFIXES:
                    yield file


def _refuse(error: OSError) -> None:
    """Stop where a folder cannot be read, which `os.walk` would pass over in silence."""
    raise DataError(f"Cannot read {error.filename}: {error.strerror}. May you read it?") from error


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))
