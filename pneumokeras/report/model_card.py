"""MODEL_CARD.md: what a model is, what it was tested on, what it must not be used for.

The form is that of Hugging Face's model cards, after Mitchell et al. (2019), Model Cards for Model Reporting.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pneumokeras.core.html import environment
from pneumokeras.evaluation import Interval
from pneumokeras.evaluation.presentation import describe_point, score_name
from pneumokeras.report.contents import ReportContents

CARD_SCORES = ("sensitivity", "specificity", "precision", "npv", "balanced_accuracy")
UNTOLD = ("radiographs", "evaluated radiographs", "command")
"""Facts that name folders of the machine it was made on: a card travels."""

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&#])")


def model_card(contents: ReportContents) -> str:
    """The card as Markdown with YAML front matter; every name from outside is shown and never obeyed."""
    evaluation, result = contents.evaluation, contents.chosen_result
    figures = {
        "ROC AUC": evaluation.roc_auc,
        "average precision": evaluation.average_precision,
        "Brier score": evaluation.brier,
        "calibration error": evaluation.calibration_error,
        **{score_name(score): result.scores[score] for score in CARD_SCORES},
    }
    negative, positive = evaluation.predictions.class_names
    templates = environment("pneumokeras.report")
    templates.autoescape = False  # Markdown has its own escapes
    templates.filters |= {"plain": plain, "interval": _interval, "describe_point": describe_point}
    return templates.get_template("MODEL_CARD.md.jinja").render(
        contents=contents,
        evaluation=evaluation,
        result=result,
        negative=negative,
        positive=positive,
        figures=figures,
        facts={name: fact for name, fact in contents.facts.items() if name not in UNTOLD},
        front_matter=_yaml(_front_matter(contents, figures)),
    )


def plain(text: str) -> str:
    """Text in which Markdown finds no marks."""
    return _SPECIAL.sub(r"\\\1", str(text))


def _front_matter(contents: ReportContents, figures: dict[str, Interval]) -> dict[str, Any]:
    dataset = {"type": "chest-radiographs", "name": "chest radiographs", "split": contents.evaluation.split}
    metrics = [
        {"type": name.lower().replace(" ", "_"), "name": name, "value": round(interval.estimate, 4)}
        for name, interval in figures.items()
        if not math.isnan(interval.estimate)
    ]
    return {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["chest-radiograph", "pneumonia", "medical-imaging", "research-only", "pneumokeras"],
        "model-index": [
            {
                "name": contents.evaluation.run or contents.title,
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "pneumonia on chest radiographs"},
                        "dataset": dataset,
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _yaml(content: dict[str, Any]) -> str:
    """YAML with one key a line at the top; the values are JSON, which YAML contains."""
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in content.items())


def _interval(interval: Interval) -> str:
    if math.isnan(interval.estimate):
        return "undefined"
    if math.isnan(interval.low):
        return f"{interval.estimate:.3f} (no interval)"
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"
