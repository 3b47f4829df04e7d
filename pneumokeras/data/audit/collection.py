"""The radiographs of all audited splits as one sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumokeras.core.errors import one_line
from pneumokeras.data.dataset import RadiographSet


@dataclass(frozen=True, eq=False)
class Collection:
    """The radiographs of all splits as one sequence.

    Attributes:
        sets: the sets by split.
        names: `(n,)` strings, as the sets name the radiographs.
        shown_names: `(n,)` strings, all different: names relative to the audited folder.
        splits: `(n,)` strings.
        labels: `(n,)` integers, 1 = PNEUMONIA.
        patients: `(n,)` strings.
        origins: the set of each radiograph and its row there.
    """

    sets: Mapping[str, RadiographSet]
    names: np.ndarray
    shown_names: np.ndarray
    splits: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    origins: tuple[tuple[RadiographSet, int], ...]

    @classmethod
    def of(cls, sets: Mapping[str, RadiographSet], *, source: str) -> Collection:
        """Join labeled sets.

        Args:
            sets: at least one set, by split.
            source: the folder or file they come from, or empty.

        Raises:
            DataError: if a set has no labels.
        """
        names = np.concatenate([radiographs.names for radiographs in sets.values()])
        splits = np.repeat(np.array(list(sets), dtype=object), [len(found) for found in sets.values()])
        return cls(
            sets=sets,
            names=names,
            shown_names=np.array(_shown_names(names, splits, source), dtype=object),
            splits=splits,
            labels=np.concatenate([radiographs.require_labels() for radiographs in sets.values()]),
            patients=np.concatenate([radiographs.patients for radiographs in sets.values()]),
            origins=tuple((found, row) for found in sets.values() for row in range(len(found))),
        )

    @property
    def class_names(self) -> tuple[str, str]:
        """Names of class 0 and class 1."""
        return next(iter(self.sets.values())).class_names

    def read(self, index: int) -> np.ndarray:
        """Return the gray levels of one radiograph at its own size; see `RadiographSet.read`."""
        radiographs, row = self.origins[index]
        return radiographs.read(row)


def _shown_names(names: Iterable[str], splits: Iterable[str], source: str) -> list[str]:
    """Return a different name for each radiograph; arrays of two splits may share theirs."""
    shown = [_relative_name(name, source) for name in names]
    occurrences = Counter(shown)
    return [
        name if occurrences[name] == 1 else f"{split}: {name}"
        for name, split in zip(shown, splits, strict=True)
    ]


def _relative_name(name: str, source: str) -> str:
    """Return a name relative to the source, or to the folder of a source that is a file."""
    path = Path(name)
    for folder in (Path(source), Path(source).parent) if source else ():
        if path.is_relative_to(folder):
            return one_line(path.relative_to(folder).as_posix())
    return one_line(name)
