"""Data for the page's script: all radiographs, and small pictures of some."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np

from pneumokeras.core.errors import one_line
from pneumokeras.core.html import data_uri
from pneumokeras.data.dataset import are_named
from pneumokeras.evaluation import Predictions
from pneumokeras.evaluation.displays.pictures import heatmap_pixels
from pneumokeras.evaluation.intervals import KISH_EVENTS, Z
from pneumokeras.report.charts import SvgChart
from pneumokeras.report.contents import Pictures, ReportContents

PICTURE_SIDES = (224, 176, 144, 112, 88)
"""Longest sides in pixels; the first that keeps the page small enough is used."""

WEBP_QUALITY = 68
HEATMAP_QUALITY = 60
COLORS = 17  # of a heatmap; the script interpolates between them

Encoded = Mapping[str, Mapping[int, str]]
"""Pictures as data URIs: `images` and `heatmaps`, each by index of the radiograph."""


def page_data(contents: ReportContents, charts: Sequence[SvgChart]) -> dict[str, Any]:
    """Return the page's block of data for JSON, without the pictures.

    Args:
        contents: what the report shows.
        charts: those with a mark that follows the threshold.
    """
    evaluation = contents.evaluation
    predictions = evaluation.predictions
    patients, patient_of = np.unique(predictions.patients, return_inverse=True)
    return {
        "classes": list(predictions.class_names),
        "names": shown_names(predictions.names),
        "labels": "".join(map(str, predictions.require_labels())),
        "probabilities": predictions.probabilities.tolist(),
        "patients": patient_of.tolist(),
        "patientNames": _patient_names(predictions, patients, patient_of),
        "columns": [_column(name, values) for name, values in contents.columns.items()],
        "threshold": evaluation.chosen_result.point.threshold,
        "points": {
            name: result.point.threshold
            for name, result in evaluation.operating_points.items()
            if name != "oracle"
        },
        "prevalence": evaluation.prevalence,
        "statedPrevalence": evaluation.stated_prevalence,
        "intervals": {"z": Z, "kishEvents": KISH_EVENTS},
        "colors": heatmap_pixels(np.linspace(0, 1, COLORS)).tolist(),
        "charts": {chart.follows: chart.axes for chart in charts},
    }


def shown_names(names: Sequence[str] | np.ndarray) -> list[str]:
    """Return names without the folder that all of them share, each on one line."""
    paths = [PurePath(name) for name in names]
    try:
        common = os.path.commonpath([path.parent for path in paths])
    except ValueError:  # on several drives, or some absolute and some not
        common = ""
    return [one_line(str(path.relative_to(common)) if common else str(path)) for path in paths]


def encoded(pictures: Pictures | None, *, budget: int) -> Encoded:
    """Encode pictures as data URIs of at most `budget` characters in all.

    The pictures shrink until they fit; if the smallest do not, the last ones are left out.
    """
    if pictures is None:
        return {"images": {}, "heatmaps": {}}
    heatmaps = [
        _webp((heatmap * 255).round().astype(np.uint8), HEATMAP_QUALITY) for heatmap in pictures.heatmaps
    ]
    for side in PICTURE_SIDES:
        images = [_webp(shrunk(image, side), WEBP_QUALITY) for image in pictures.images]
        sizes = np.cumsum(
            [len(image) + len(heatmap) for image, heatmap in zip(images, heatmaps, strict=True)]
        )
        if not sizes.size or sizes[-1] <= budget:
            break
    kept = range(int((sizes <= budget).sum()))
    return {
        "images": {int(pictures.indices[i]): images[i] for i in kept},
        "heatmaps": {int(pictures.indices[i]): heatmaps[i] for i in kept},
    }


def _patient_names(predictions: Predictions, patients: np.ndarray, patient_of: np.ndarray) -> list[str]:
    """Return patients' names by number; `""` for an unknown patient, and an empty list if all are."""
    named = np.zeros(patients.size, dtype=bool)
    named[patient_of[are_named(predictions.names, predictions.patients)]] = True
    if not named.any():
        return []
    return [one_line(name) if known else "" for name, known in zip(patients, named, strict=True)]


def _column(name: str, values: np.ndarray) -> dict[str, Any]:
    distinct, places = np.unique(np.asarray(values, dtype=str), return_inverse=True)
    return {"name": one_line(name), "values": list(map(one_line, distinct)), "of": places.tolist()}


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """Return a picture whose longer side has at most `side` pixels."""
    scale = side / max(image.shape)
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _webp(image: np.ndarray, quality: int) -> str:
    _, content = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data_uri("image/webp", content.tobytes())
