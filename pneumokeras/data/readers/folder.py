"""Read folders of radiographs, by split and class, into sets."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pneumokeras.core.errors import DataError
from pneumokeras.data.dataset import SPLIT_OF_NAME, SPLITS, RadiographSet
from pneumokeras.data.images import dicom
from pneumokeras.data.images.image import SUFFIXES, UNREAD_SUFFIXES
from pneumokeras.data.images.patients import label_of


@dataclass(frozen=True)
class Contents:
    """The radiographs that a reader found.

    Attributes:
        sets: the sets by split; one set under the key `""` if there are no folders of splits.
        left_out: the number of images beside the folders of splits or classes; they are in no set.
        unread: other files that are in no set, by the reason.
    """

    sets: dict[str, RadiographSet]
    left_out: int = 0
    unread: Mapping[str, Sequence[Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Listing:
    """The direct contents of a folder, without hidden files and folders."""

    folder: Path
    subfolders: tuple[Path, ...]
    images: int

    @classmethod
    def of(cls, folder: Path) -> _Listing:
        """List a folder.

        Raises:
            DataError: if it cannot be read.
        """
        try:
            children = [child for child in sorted(folder.iterdir()) if _is_visible(child.name)]
            subfolders = tuple(child for child in children if child.is_dir())
        except OSError as error:
            raise _unreadable(folder, error) from error
        others = set(children).difference(subfolders)
        return cls(folder, subfolders, sum(child.suffix.lower() in SUFFIXES for child in others))

    def has_splits_or_classes(self, classes: tuple[str, str]) -> bool:
        """Return whether a subfolder has the name of a split or a class."""
        wanted = {name.upper() for name in (*SPLIT_OF_NAME, *classes)}
        return any(child.name.upper() in wanted for child in self.subfolders)

    def by_meaning(self, meaning: Callable[[str], str | None]) -> dict[str, Path]:
        """Return the subfolders by what their names mean; those that mean `None` are omitted.

        Raises:
            DataError: if two mean the same.
        """
        found: dict[str, Path] = {}
        for child in self.subfolders:
            key = meaning(child.name)
            if key is None:
                continue
            if key in found:
                raise DataError(
                    f"{self.folder} holds both {found[key].name} and {child.name}. "
                    "Expected one; merge the two.",
                    path=self.folder,
                )
            found[key] = child
        return found


def read_folder(folder: Path, *, classes: tuple[str, str], patient_pattern: str | None) -> Contents:
    """Find the radiographs in a folder.

    Args:
        folder: holds train, val and test, or is itself one of these: folders of the classes, or files whose
            names contain the class.
        classes: names of class 0 and class 1, in any case.
        patient_pattern: as for `RadiographSet.from_files`.

    Raises:
        DataError: if nothing usable is found, there are not exactly the two classes, or a folder cannot be
            read.
    """
    top = _Listing.of(folder)
    folders = top.by_meaning(lambda name: SPLIT_OF_NAME.get(name.lower()))
    if not folders:
        _refuse_outer_folder(top, classes)
    listings = {split: _Listing.of(folders[split]) for split in SPLITS if split in folders} or {"": top}
    unread: dict[str, list[Path]] = {}
    sets = {
        split: _read_split(
            listing, split, classes=classes, patient_pattern=patient_pattern, root=folder, unread=unread
        )
        for split, listing in listings.items()
    }
    places = (top, *listings.values()) if folders else (top,)
    left_out = sum(place.images for place in places if place.has_splits_or_classes(classes))
    return Contents(sets, left_out, unread)


def _refuse_outer_folder(top: _Listing, classes: tuple[str, str]) -> None:
    """Refuse the outer folder that unpacking an archive puts around the one that was meant."""
    if top.has_splits_or_classes(classes):
        return
    inner = [child for child in top.subfolders if _Listing.of(child).has_splits_or_classes(classes)]
    if len(inner) == 1:
        raise DataError(
            f"{top.folder} holds {inner[0].name}. Expected train, val and test, or {classes[0]} and "
            f"{classes[1]}. Did you mean {inner[0]}?",
            path=top.folder,
        )


def _read_split(
    listing: _Listing,
    split: str,
    *,
    classes: tuple[str, str],
    patient_pattern: str | None,
    root: Path,
    unread: dict[str, list[Path]],
) -> RadiographSet:
    """Return the radiographs of a split, and add the other files to `unread` by the reason."""
    children = listing.by_meaning(str.upper)
    wanted = [name.upper() for name in classes]
    others = sorted(
        name for name, child in children.items() if name not in wanted and any(images_under(child))
    )
    if others:
        held = ", ".join(children[name].name for name in (*wanted, *others) if name in children)
        raise DataError(
            f"{listing.folder} holds {held}. Expected exactly two classes, {classes[0]} and {classes[1]}; "
            "name others with `classes`, or move them out.",
            path=listing.folder,
        )
    if any(name in children for name in wanted):
        labeled = [
            (file, label)
            for label, name in enumerate(wanted)
            if name in children
            for file in radiographs_under(children[name], unread)
        ]
    else:
        labeled = [(file, label_of(file, classes)) for file in radiographs_under(listing.folder, unread)]
    if not labeled:
        raise DataError(
            f"No images under {listing.folder}. {''.join(f'{line} ' for line in unread_notices(unread))}"
            f"Expected folders {classes[0]} and {classes[1]} holding JPEG, PNG, TIFF, BMP or DICOM files.",
            path=listing.folder,
        )
    files, labels = zip(*labeled, strict=True)
    return RadiographSet.from_files(
        files, labels=labels, class_names=classes, patient_pattern=patient_pattern, root=root, split=split
    )


def radiographs_under(folder: Path, unread: dict[str, list[Path]]) -> Iterator[Path]:
    """Yield the files in a folder that should hold a radiograph, sorted; others go to `unread` by the reason.

    Files that are no image at all are in neither.

    Raises:
        DataError: if a folder cannot be read.
    """
    for file in sorted(files_under(folder)):
        if reason := _why_unread(file):
            unread.setdefault(reason, []).append(file)
        elif file.suffix.lower() in SUFFIXES:
            yield file


def unread_notices(unread: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return a sentence for each reason why files were left out."""
    return [
        f"Left out, since {reason}: {len(files)}, such as {files[0].name}."
        for reason, files in unread.items()
    ]


def _why_unread(file: Path) -> str:
    """Return why a file that looks like a radiograph is none; empty if it is one, or no image at all."""
    suffix = file.suffix.lower()
    if suffix in UNREAD_SUFFIXES:
        return f"{suffix} files are not read (save them as .png)"
    return dicom.why_no_radiograph(file) if suffix in dicom.SUFFIXES else ""


def images_under(folder: Path) -> Iterator[Path]:
    """Yield the image files in a folder, as `files_under` does.

    Raises:
        DataError: if a folder cannot be read.
    """
    return (file for file in files_under(folder) if file.suffix.lower() in SUFFIXES)


def files_under(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, except hidden ones, in no particular order.

    Linked subfolders are followed after the real ones, each folder is visited once, and a link back to a
    folder around it is ignored. A broken link counts as a file, and is an error when it is read.

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
                yield Path(place, name)


def _refuse(error: OSError) -> None:
    """Stop at a folder that cannot be read, which `os.walk` would skip silently."""
    raise _unreadable(error.filename, error) from error


def _unreadable(folder: str | Path, error: OSError) -> DataError:
    return DataError(f"Cannot read {folder}: {error.strerror}. Check its permissions.", path=folder)


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))
