"""The page: one HTML file that holds its style, its script and its pictures, and needs no network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from pneumokeras.core.html import data_uri, environment
from pneumokeras.evaluation import Interval
from pneumokeras.evaluation.displays.pictures import heatmap_pixels
from pneumokeras.evaluation.displays.style import CROSS, TICK
from pneumokeras.evaluation.presentation import describe_point, score_name
from pneumokeras.report.charts import (
    FRAME,
    Chart,
    calibration_chart,
    comparison_chart,
    perturbation_charts,
    threshold_charts,
    training_charts,
)
from pneumokeras.report.contents import ComparedRuns, Examples, ReportContents
from pneumokeras.report.page_data import Encoded, encoded, page_data, script_json
from pneumokeras.runs.trials import TRIAL_COLUMNS

LARGEST_PAGE = 5_000_000  # bytes
PICTURE_SIDE = (
    256  # pixels: small radiographs are enlarged smoothly here, not by the browser, large ones reduced
)
JPEG_QUALITY = 80
SCRIPTS = ("metrics.js", "charts.js", "viewer.js", "table.js", "page.js")

SCORES = {
    "sensitivity": "share of {positive} radiographs that are called {positive}",
    "specificity": "share of {negative} radiographs that are cleared",
    "accuracy": "share of all radiographs called rightly; depends on how many have {positive}",
    "balanced_accuracy": "mean of sensitivity and specificity",
    "precision": "share of {positive} calls that are right, at this share of {positive}",
    "npv": "share of cleared radiographs that are {negative}, at this share of {positive}",
    "f1": "harmonic mean of precision and sensitivity",
    "mcc": "correlation of truth and call, -1 to 1",
}
POINT_TITLES = {
    "default": "Default",
    "validation": "Chosen on validation",
    "oracle": "Best on these radiographs",
}
MAX_CHOICES = 30  # of a filter; a column with more values is found by its sorting
TITLES = {"roc_auc": "ROC AUC", "brier": "Brier score"}
SCALING_NAMES = {"none": "as the model says", "temperature": "temperature", "platt": "Platt"}


@dataclass(frozen=True)
class Headline:
    """A figure of the first screen.

    Attributes:
        name: what it is called.
        meaning: what it says, in a few words.
        interval: the figure.
    """

    name: str
    meaning: str
    interval: Interval


@dataclass(frozen=True)
class Tile:
    """A radiograph on the page.

    Attributes:
        name: its path or key.
        truth: its class.
        called: the class the model calls.
        right: whether they are the same.
        confidence: probability of the class called, in [0, 1].
        probability: P(PNEUMONIA), in [0, 1].
        radiograph: a data URI.
        overlay: a data URI, or `None`.
        heatmap: a data URI, or `None`.
    """

    name: str
    truth: str
    called: str
    right: bool
    confidence: float
    probability: float
    radiograph: str
    overlay: str | None
    heatmap: str | None


def render_page(contents: ReportContents) -> str:
    """The page as HTML, under `LARGEST_PAGE` bytes: the table's pictures take what the rest leaves."""
    threshold = threshold_charts(contents.evaluation)
    data = page_data(contents, threshold)
    words = dict(zip(("negative", "positive"), map(str.lower, _classes(contents)), strict=True))
    script = _script()
    template = _templates().get_template("index.html.jinja")
    shown = {
        "contents": contents,
        "evaluation": contents.evaluation,
        "result": contents.chosen_result,
        **words,
        "sections": _sections(contents),
        "headlines": _headlines(contents, words),
        "scores": {name: meaning.format(**words) for name, meaning in SCORES.items()},
        "point_titles": POINT_TITLES,
        "scaling_names": SCALING_NAMES,
        "hyperparameters": _hyperparameter_names(contents),
        "frame": FRAME,
        "charts": {
            "threshold": threshold,
            "calibration": [calibration_chart(contents.evaluation)],
            "comparison": _comparison_charts(contents.compared),
            "training": training_charts(contents.history or {}, contents.kept_epoch),
            "checks": perturbation_charts(contents.explanation_checks),
        },
        "samples": _tiles(contents, contents.samples),
        "predictions": _tiles(contents, contents.predictions),
        "mistakes": _tiles(contents, contents.mistakes),
        "explanations": _tiles(contents, contents.explanations),
        "disagreements": _disagreements(contents),
        "table_headers": _table_headers(data),
        "filters": [
            (number, column)
            for number, column in enumerate(data["columns"])
            if len(column["values"]) <= MAX_CHOICES
        ],
        "tick": TICK,
        "cross": CROSS,
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    }

    def page(pictures: Encoded) -> str:
        return template.render(data=Markup(script_json(data | {"pictures": pictures})), **shown)

    bare = page(encoded(None, budget=0))
    if contents.pictures is None:
        return bare
    entries = 2 * len('"100000":"",') * len(contents.pictures)  # what pictures take beside themselves
    room = LARGEST_PAGE - len(bare.encode("utf-8", "surrogateescape")) - entries
    return page(encoded(contents.pictures, budget=room))


def _templates() -> Environment:
    templates = environment("pneumokeras.report")
    templates.filters |= {
        "value": _value,
        "range": _range,
        "signed_range": _signed_range,
        "title_of": _title_of,
        "percent": "{:.0%}".format,
        "cell": _cell,
        "p_value": _p_value,
        "describe_point": describe_point,
    }
    return templates


def _script() -> str:
    """The page's script: its files one after the other in a scope of their own."""
    folder = files("pneumokeras.report") / "scripts"
    parts = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();'


def _classes(contents: ReportContents) -> tuple[str, str]:
    return contents.evaluation.predictions.class_names


def _sections(contents: ReportContents) -> dict[str, str]:
    """Titles of the sections that have something to show, by their anchors."""
    history = contents.history or {}
    present = {
        "threshold": ("Move the threshold", True),
        "operating-points": ("Operating points", True),
        "comparison": ("Comparison", contents.compared is not None),
        "subgroups": ("Subgroups", bool(contents.evaluation.subgroups)),
        "calibration": ("Calibration", True),
        "mistakes": ("Most confident mistakes", bool(contents.mistakes)),
        "radiographs": ("All radiographs", True),
        "predictions": ("Drawn blindly", bool(contents.predictions)),
        "heatmaps": ("Heatmaps", _has_heatmaps(contents.explanations) or bool(contents.explanation_checks)),
        "training": ("Training", bool(training_charts(history, contents.kept_epoch))),
        "trials": ("Trials", bool(contents.trials)),
        "data": ("Data", bool(contents.class_counts or contents.samples or contents.audit)),
        "making": ("How this was made", bool(contents.facts)),
    }
    return {anchor: title for anchor, (title, shown) in present.items() if shown}


def _table_headers(data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Of the table of all radiographs: what each column is sorted by, its title and its style."""
    return [
        ("name", "Radiograph", "name"),
        *([("patient", "Patient", "wide")] if data["patientNames"] else []),
        ("label", "True", "wide"),
        *(
            (f"column-{number}", column["name"].capitalize(), "wide")
            for number, column in enumerate(data["columns"])
        ),
        ("probability", f"P({data['classes'][1]})", "number"),
        ("error", "Off by", "number wide"),
        ("outcome", "Call", ""),
    ]


def _has_heatmaps(examples: Examples | None) -> bool:
    return examples is not None and examples.heatmaps is not None


def _comparison_charts(compared: ComparedRuns | None) -> list[Chart]:
    if compared is None or not compared.comparison.first.roc.x.size:
        return []
    return [comparison_chart(compared.comparison, compared.names)]


def _disagreements(contents: ReportContents) -> list[tuple[Tile, float]]:
    """Radiographs that two runs call differently, each with what the other one says."""
    compared = contents.compared
    if compared is None or compared.disagreements is None:
        return []
    tiles = _tiles(contents, compared.disagreements)
    theirs = compared.comparison.first.predictions.probabilities[compared.comparison.disagreements]
    return [(tile, float(probability)) for tile, probability in zip(tiles, theirs, strict=False)]


def _headlines(contents: ReportContents, words: Mapping[str, str]) -> list[Headline]:
    evaluation, scores = contents.evaluation, contents.chosen_result.scores
    return [
        Headline(
            "Sensitivity", "of {positive} radiographs are called".format(**words), scores["sensitivity"]
        ),
        Headline(
            "Specificity", "of {negative} radiographs are cleared".format(**words), scores["specificity"]
        ),
        Headline("ROC AUC", "how well scores rank, over all thresholds; 0.5 is chance", evaluation.roc_auc),
        Headline(
            "Average precision",
            f"precision over all recalls; {evaluation.prevalence:.3f} is chance",
            evaluation.average_precision,
        ),
        Headline("Brier score", "mean squared error of the probabilities; lower is better", evaluation.brier),
        Headline(
            "Calibration error",
            "how far probabilities are off; lower is better",
            evaluation.calibration_error,
        ),
    ]


def _hyperparameter_names(contents: ReportContents) -> list[str]:
    return list(
        dict.fromkeys(name for trial in contents.trials for name in trial if name not in TRIAL_COLUMNS)
    )


def _tiles(contents: ReportContents, examples: Examples | None) -> list[Tile]:
    if examples is None:
        return []
    class_names = _classes(contents)
    tiles = []
    for i, (name, label, probability) in enumerate(
        zip(examples.names, examples.labels, examples.probabilities, strict=True)
    ):
        called = bool(probability >= contents.chosen_result.point.threshold)
        tiles.append(
            Tile(
                name=name,
                truth=class_names[int(label)],
                called=class_names[called],
                right=called == bool(label),
                confidence=float(probability if called else 1 - probability),
                probability=float(probability),
                radiograph=_jpeg(examples.images[i]),
                overlay=None if examples.overlays is None else _jpeg(examples.overlays[i]),
                heatmap=None if examples.heatmaps is None else _jpeg(heatmap_pixels(examples.heatmaps[i])),
            )
        )
    return tiles


def _jpeg(pixels: np.ndarray) -> str:
    """A `(height, width)` gray or `(height, width, 3)` RGB picture of `uint8` as a data URI."""
    scale = PICTURE_SIDE / max(pixels.shape[:2])
    filtering = cv2.INTER_LANCZOS4 if scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=filtering)
    blue_first = resized[..., ::-1] if resized.ndim == 3 else resized
    _, encoded = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data_uri("image/jpeg", encoded.tobytes())


def _value(interval: Interval) -> str:
    return "undefined" if math.isnan(interval.estimate) else f"{interval.estimate:.3f}"


def _range(interval: Interval) -> str:
    if math.isnan(interval.estimate):
        return ""
    return "no interval" if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"


def _p_value(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _signed_range(interval: Interval) -> str:
    return "no interval" if math.isnan(interval.low) else f"{interval.low:+.3f} to {interval.high:+.3f}"


def _title_of(score: str) -> str:
    """A figure's name as it stands at the beginning of a row."""
    name = TITLES.get(score, score_name(score))
    return name[0].upper() + name[1:]


def _cell(value: Any) -> str:
    """A table's cell: nothing for `None`, four digits of a float."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
