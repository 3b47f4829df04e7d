"""Render the page: one HTML file with its style, script and pictures, which needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from pneumokeras.core.html import data_uri, environment
from pneumokeras.evaluation import Interval
from pneumokeras.evaluation.displays.pictures import CROSS, TICK, heatmap_pixels
from pneumokeras.evaluation.vocabulary import (
    POINT_SCORES,
    SCALING_NAMES,
    capitalized,
    describe_point,
    format_count,
    format_estimate,
    format_p_value,
    format_range,
    format_share,
    format_threshold,
    point_label,
    score_name,
)
from pneumokeras.report.charts import (
    FRAME,
    calibration_charts,
    comparison_charts,
    perturbation_charts,
    threshold_charts,
    training_charts,
)
from pneumokeras.report.contents import Examples, ReportContents
from pneumokeras.report.page_data import Encoded, encoded, page_data
from pneumokeras.runs.trials import TRIAL_COLUMNS

LARGEST_PAGE = 5_000_000  # bytes
PICTURE_SIDE = 256  # pixels; small radiographs are enlarged here, more smoothly than by the browser
JPEG_QUALITY = 80
SCRIPTS = ("metrics.js", "charts.js", "viewer.js", "table.js", "page.js")

SCORE_MEANINGS = {
    "sensitivity": "share of {positive} radiographs that are flagged",
    "specificity": "share of {negative} radiographs that are not flagged",
    "accuracy": "share of all radiographs classified correctly; depends on how many have {positive}",
    "balanced_accuracy": "mean of sensitivity and specificity",
    "precision": "share of flagged radiographs that have {positive}, at this share of {positive}",
    "npv": "share of radiographs not flagged that are {negative}, at this share of {positive}",
    "f1": "harmonic mean of precision and sensitivity",
    "mcc": "correlation of true and predicted class, -1 to 1",
}
HEADLINE_MEANINGS = {
    "sensitivity": "of {positive} radiographs are flagged",
    "specificity": "of {negative} radiographs are not flagged",
    "roc_auc": "how well scores rank, over all thresholds; 0.5 is chance",
    "average_precision": "precision over all recalls; {prevalence:.3f} is chance",
    "brier": "mean squared error of the probabilities; lower is better",
    "calibration_error": "how far probabilities are off; lower is better",
}
MAX_CHOICES = 30  # a column with more values can be sorted, not filtered


@dataclass(frozen=True)
class Headline:
    """A score on the first screen.

    Attributes:
        name: its name.
        meaning: its explanation, in a few words.
        interval: its value.
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
        predicted: the class that the model predicts.
        right: whether they are the same.
        confidence: probability of the predicted class, in [0, 1].
        probability: P(PNEUMONIA), in [0, 1].
        radiograph: a data URI.
        overlay: a data URI, or `None`.
        heatmap: a data URI, or `None`.
    """

    name: str
    truth: str
    predicted: str
    right: bool
    confidence: float
    probability: float
    radiograph: str
    overlay: str | None
    heatmap: str | None


def render_page(contents: ReportContents) -> str:
    """Render the page as HTML under `LARGEST_PAGE` bytes; the table's pictures fill what the rest leaves."""
    threshold = threshold_charts(contents.evaluation)
    data = page_data(contents, threshold)
    words = dict(zip(("negative", "positive"), map(str.lower, _classes(contents)), strict=True))
    script = _script()
    template = _templates().get_template("index.html.jinja")
    shown = {
        "contents": contents,
        "evaluation": contents.evaluation,
        "result": contents.evaluation.chosen_result,
        **words,
        "sections": _sections(contents),
        "headlines": _headlines(contents, words),
        "scores": {name: SCORE_MEANINGS[name].format(**words) for name in POINT_SCORES},
        "scaling_names": SCALING_NAMES,
        "hyperparameters": _hyperparameter_names(contents),
        "frame": FRAME,
        "charts": {
            "threshold": threshold,
            "calibration": calibration_charts(contents.evaluation),
            "comparison": comparison_charts(contents.compared),
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
        content = htmlsafe_json_dumps(data | {"pictures": pictures}, allow_nan=False, separators=(",", ":"))
        return template.render(data=content, **shown)

    bare = page(encoded(None, budget=0))
    if contents.pictures is None:
        return bare
    entries = 2 * len('"100000":"",') * len(contents.pictures)  # the keys of the pictures
    room = LARGEST_PAGE - len(bare.encode("utf-8", "surrogateescape")) - entries
    return page(encoded(contents.pictures, budget=room))


def _templates() -> Environment:
    templates = environment("pneumokeras.report")
    templates.filters |= {
        "estimate": format_estimate,
        "range": format_range,
        "p_value": format_p_value,
        "threshold": format_threshold,
        "number": format_count,
        "share": format_share,
        "percent": "{:.0%}".format,
        "describe_point": describe_point,
        "capitalized": capitalized,
        "point_title": lambda name: capitalized(point_label(name)),
        "score_title": lambda score: capitalized(score_name(score)),
        "cell": _cell,
    }
    return templates


def _script() -> str:
    """Return the page's script: its files joined, in a scope of their own."""
    folder = files("pneumokeras.report") / "scripts"
    parts = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();'


def _classes(contents: ReportContents) -> tuple[str, str]:
    return contents.evaluation.predictions.class_names


def _sections(contents: ReportContents) -> dict[str, str]:
    """Return the titles of the sections that have something to show, by their anchors."""
    history = contents.history or {}
    present = {
        "threshold": ("Move the threshold", True),
        "operating-points": ("Operating points", True),
        "comparison": ("Comparison", contents.compared is not None),
        "subgroups": ("Subgroups", bool(contents.evaluation.subgroups)),
        "calibration": ("Calibration", True),
        "mistakes": ("Most confident mistakes", bool(contents.mistakes)),
        "radiographs": ("All radiographs", True),
        "predictions": ("Random examples", bool(contents.predictions)),
        "heatmaps": ("Heatmaps", _has_heatmaps(contents.explanations) or bool(contents.explanation_checks)),
        "training": ("Training", bool(training_charts(history, contents.kept_epoch))),
        "trials": ("Trials", bool(contents.trials)),
        "data": ("Data", bool(contents.class_counts or contents.samples or contents.audit)),
        "making": ("How this report was made", bool(contents.facts)),
    }
    return {anchor: title for anchor, (title, shown) in present.items() if shown}


def _table_headers(data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return key, title and style classes of each column in the table of all radiographs."""
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
        ("outcome", "Outcome", ""),
    ]


def _has_heatmaps(examples: Examples | None) -> bool:
    return examples is not None and examples.heatmaps is not None


def _disagreements(contents: ReportContents) -> list[tuple[Tile, float]]:
    """Return radiographs on which two runs disagree, each with the other run's probability."""
    compared = contents.compared
    if compared is None or compared.disagreements is None:
        return []
    tiles = _tiles(contents, compared.disagreements)
    theirs = compared.comparison.first.predictions.probabilities[compared.comparison.disagreements]
    return [(tile, float(probability)) for tile, probability in zip(tiles, theirs, strict=False)]


def _headlines(contents: ReportContents, words: Mapping[str, str]) -> list[Headline]:
    evaluation = contents.evaluation
    scores = {**evaluation.chosen_result.scores, **evaluation.headline}
    return [
        Headline(
            capitalized(score_name(score)),
            meaning.format(**words, prevalence=evaluation.prevalence),
            scores[score],
        )
        for score, meaning in HEADLINE_MEANINGS.items()
    ]


def _hyperparameter_names(contents: ReportContents) -> list[str]:
    return list(
        dict.fromkeys(name for trial in contents.trials for name in trial if name not in TRIAL_COLUMNS)
    )


def _tiles(contents: ReportContents, examples: Examples | None) -> list[Tile]:
    if examples is None:
        return []
    class_names, threshold = _classes(contents), contents.evaluation.chosen_result.point.threshold
    tiles = []
    for i, (name, label, probability) in enumerate(
        zip(examples.names, examples.labels, examples.probabilities, strict=True)
    ):
        predicted = bool(probability >= threshold)
        tiles.append(
            Tile(
                name=name,
                truth=class_names[int(label)],
                predicted=class_names[predicted],
                right=predicted == bool(label),
                confidence=float(probability if predicted else 1 - probability),
                probability=float(probability),
                radiograph=_jpeg(examples.images[i]),
                overlay=None if examples.overlays is None else _jpeg(examples.overlays[i]),
                heatmap=None if examples.heatmaps is None else _jpeg(heatmap_pixels(examples.heatmaps[i])),
            )
        )
    return tiles


def _jpeg(pixels: np.ndarray) -> str:
    """Encode a `(height, width)` gray or `(height, width, 3)` RGB picture of `uint8` as a data URI."""
    scale = PICTURE_SIDE / max(pixels.shape[:2])
    filtering = cv2.INTER_LANCZOS4 if scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=filtering)
    blue_first = resized[..., ::-1] if resized.ndim == 3 else resized
    _, encoded = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data_uri("image/jpeg", encoded.tobytes())


def _cell(value: Any) -> str:
    """Return a table's cell: nothing for `None`, a float with four digits."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
