"""The page: one HTML file that holds its style and its pictures, needs no network, and runs no script."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from jinja2 import Environment

from pneumokeras.evaluation import Interval
from pneumokeras.evaluation.presentation import describe_point, score_name
from pneumokeras.figures import CROSS, TICK, Display, heatmap_pixels
from pneumokeras.pages import environment
from pneumokeras.report.contents import TRIAL_COLUMNS, Examples, ReportContents

PICTURE_SIDE = (
    320  # pixels: small radiographs are enlarged smoothly here, not by the browser, large ones reduced
)
JPEG_QUALITY = 85

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
    "oracle": "Chosen on these radiographs",
}


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


def render_page(contents: ReportContents, displays: Mapping[str, Display]) -> str:
    """The page as HTML.

    Args:
        contents: what to show.
        displays: the figures by name, as `displays(contents)` gives them.
    """
    negative, positive = (name.lower() for name in contents.evaluation.predictions.class_names)
    words = {"negative": negative, "positive": positive}
    return (
        _templates()
        .get_template("index.html.jinja")
        .render(
            contents=contents,
            evaluation=contents.evaluation,
            result=contents.chosen_result,
            **words,
            sections=_sections(contents, displays),
            headlines=_headlines(contents, words),
            scores={name: meaning.format(**words) for name, meaning in SCORES.items()},
            point_titles=POINT_TITLES,
            hyperparameters=_hyperparameter_names(contents),
            charts={
                name: _svg(display) for name, display in displays.items() if not _shows_pictures(display)
            },
            samples=_tiles(contents, contents.samples),
            predictions=_tiles(contents, contents.predictions),
            explanations=_tiles(contents, contents.explanations),
            tick=TICK,
            cross=CROSS,
        )
    )


def _templates() -> Environment:
    templates = environment("pneumokeras.report")
    templates.filters |= {
        "value": _value,
        "range": _range,
        "percent": "{:.0%}".format,
        "cell": _cell,
        "score_name": score_name,
        "describe_point": describe_point,
    }
    return templates


def _sections(contents: ReportContents, displays: Mapping[str, Display]) -> dict[str, str]:
    """Titles of the sections that have something to show, by their anchors."""
    present = {
        "operating-points": ("Operating points", True),
        "curves": ("Curves", "roc_curve" in displays),
        "confusion": ("Confusion matrices", True),
        "predictions": ("Predictions", "sample_predictions" in displays),
        "grad-cam": ("Grad-CAM", "grad_cam" in displays),
        "training": ("Training", not displays.keys().isdisjoint({"accuracy_curve", "loss_curve"})),
        "trials": ("Trials", bool(contents.trials)),
        "data": ("Data", "class_distribution" in displays or "sample_radiographs" in displays),
        "making": ("How this was made", bool(contents.facts)),
    }
    return {anchor: title for anchor, (title, shown) in present.items() if shown}


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
    class_names = contents.evaluation.predictions.class_names
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


def _shows_pictures(display: Display) -> bool:
    """Whether it is made of radiographs, which the page lays out itself, to suit the width of the screen."""
    return hasattr(display, "images")


def _svg(display: Display) -> str:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "pneumokeras"}):  # the same report is the same file
        display.plot().figure_.savefig(buffer, format="svg", metadata={"Date": None})
    return _data_uri("image/svg+xml", buffer.getvalue())


def _jpeg(pixels: np.ndarray) -> str:
    """A `(height, width)` gray or `(height, width, 3)` RGB picture of `uint8` as a data URI."""
    scale = PICTURE_SIDE / max(pixels.shape[:2])
    filtering = cv2.INTER_LANCZOS4 if scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=filtering)
    blue_first = resized[..., ::-1] if resized.ndim == 3 else resized
    _, encoded = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return _data_uri("image/jpeg", encoded.tobytes())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _value(interval: Interval) -> str:
    return "undefined" if math.isnan(interval.estimate) else f"{interval.estimate:.3f}"


def _range(interval: Interval) -> str:
    if math.isnan(interval.estimate):
        return ""
    return "no interval" if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"


def _cell(value: Any) -> str:
    """A table's cell: nothing for `None`, four digits of a float."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
