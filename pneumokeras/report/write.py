"""Write a report's folder: each file whole or not at all, the page last."""

from __future__ import annotations

import json
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

from pneumokeras.core.errors import DataError
from pneumokeras.core.files import read_json, write_json, write_text
from pneumokeras.evaluation import Evaluation
from pneumokeras.evaluation.displays import save
from pneumokeras.evaluation.vocabulary import describe_point
from pneumokeras.report.contents import ReportContents
from pneumokeras.report.displays import FIGURES, displays
from pneumokeras.report.model_card import model_card
from pneumokeras.report.page import render_page

FIGURE_FORMATS = ("png", "svg")


def write_report(contents: ReportContents, folder: str | PathLike[str]) -> Path:
    """Write a report: report.json, classification_report.txt, MODEL_CARD.md, figures/* and index.html.

    The page contains everything it shows and opens offline. Figures that an earlier report left in the
    folder are removed if this one has no data for them.

    Args:
        contents: what to show.
        folder: new, empty, or that of an earlier report.

    Returns:
        The path of index.html.

    Raises:
        DataError: if the folder holds something other than a report.
    """
    folder = Path(folder)
    require_report_folder(folder)
    write_json(folder / "report.json", contents.json())
    write_text(folder / "classification_report.txt", _classification_reports(contents.evaluation))
    write_text(folder / "MODEL_CARD.md", model_card(contents))
    drawn = displays(contents)
    for name in FIGURES:
        paths = [folder / "figures" / f"{name}.{kind}" for kind in FIGURE_FORMATS]
        if name in drawn:
            save(drawn[name], *paths)
        else:
            for path in paths:
                path.unlink(missing_ok=True)
    page = folder / "index.html"
    write_text(page, render_page(contents))
    return page


def require_report_folder(folder: Path) -> None:
    """Refuse a folder where a report would overwrite, or mix with, other files.

    Raises:
        DataError: if it is a file, or a folder that holds something but no report.
    """
    if not folder.exists() or (folder.is_dir() and (_is_report(folder) or not any(folder.iterdir()))):
        return
    raise DataError(
        f"{folder} holds something other than a report. Choose a new or empty folder with `out`.",
        path=folder,
        parameter="out",
    )


def _is_report(folder: Path) -> bool:
    try:
        content = read_json(folder / "report.json")
    except (OSError, ValueError):  # missing, or no JSON
        return False
    return isinstance(content, dict) and {"schema", "operating_points"} <= content.keys()


def _classification_reports(evaluation: Evaluation) -> str:
    """Return scikit-learn's report, with a heading, at each operating point except the oracle."""
    parts = []
    for name, result in evaluation.operating_points.items():
        if name != "oracle":
            heading = f"Operating point {name!r}: {describe_point(result.point)}"
            parts.append(f"{heading}\n{'-' * len(heading)}\n{evaluation.classification_report(name)}")
    return "\n".join(parts)


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of report.json."""
    path = files("pneumokeras.report") / "report.schema.json"
    return json.loads(path.read_text(encoding="utf-8"))
