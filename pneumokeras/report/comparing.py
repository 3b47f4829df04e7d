"""Another run beside the one reported, on the very same radiographs or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pneumokeras.errors import DataError, one_line
from pneumokeras.files import read_csv
from pneumokeras.runs import Run

NAMED = 3  # radiographs named in an error


def require_same_radiographs(first: Run, second: Run, split: str) -> None:
    """Refuse two runs whose splits of one name are not the same radiographs with the same labels.

    They are compared by content, wherever the files lie and whatever they are called.

    Raises:
        DataError: if the splits differ; the message names the difference.
    """
    ours, theirs = _labels_by_content(first, split), _labels_by_content(second, split)
    differences = [
        *_only(first, {content: ours[content] for content in ours.keys() - theirs.keys()}),
        *_only(second, {content: theirs[content] for content in theirs.keys() - ours.keys()}),
    ]
    relabelled = {
        content: name
        for content, (name, label) in ours.items()
        if content in theirs and theirs[content][1] != label
    }
    if relabelled:
        differences.append(f"{len(relabelled)} have other labels, such as {min(relabelled.values())}")
    if differences:
        raise DataError(
            one_line(
                f"{first.folder} and {second.folder} do not have the same {split} radiographs: "
                f"{'; '.join(differences)}. Evaluate both on the same other ones, with --data."
            )
        )


def _labels_by_content(run: Run, split: str) -> dict[str, tuple[str, str]]:
    """For the content of each radiograph its file's name and its label."""
    return {
        row["digest"]: (Path(row["path"]).name, row["label"])
        for row in read_csv(run.splits_path)
        if row["split"] == split
    }


def _only(run: Run, found: Mapping[str, tuple[str, str]]) -> list[str]:
    if not found:
        return []
    names = sorted(name for name, _ in found.values())
    some = ", ".join(names[:NAMED]) + (" and more" if len(names) > NAMED else "")
    return [f"{len(names)} only in {run.folder.name} ({some})"]
