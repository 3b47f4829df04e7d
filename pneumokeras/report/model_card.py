"""Write MODEL_CARD.md: what a model is, what it was tested on, what it must not be used for.

The form is that of Hugging Face's model cards, after Mitchell et al. (2019), Model Cards for Model Reporting.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pneumokeras.core.html import environment, plain_markdown
from pneumokeras.evaluation import Interval
from pneumokeras.evaluation.vocabulary import (
    CARD_SCORES,
    describe_point,
    format_count,
    format_share,
    format_threshold,
    score_name,
)
from pneumokeras.report.contents import ReportContents

OMITTED_FACTS = ("radiographs", "evaluated radiographs", "command")
"""Facts that name folders of the machine: a card is published."""


def model_card(contents: ReportContents) -> str:
    """Return the card as Markdown with YAML front matter; names from outside are escaped."""
    evaluation, result = contents.evaluation, contents.evaluation.chosen_result
    scores = evaluation.headline | {score: result.scores[score] for score in CARD_SCORES}
    figures = {score_name(score): interval for score, interval in scores.items()}
    negative, positive = evaluation.predictions.class_names
    templates = environment("pneumokeras.report")
    templates.autoescape = False  # Markdown has its own escapes
    templates.filters |= {
        "plain": plain_markdown,
        "number": format_count,
        "share": format_share,
        "threshold": format_threshold,
        "describe_point": describe_point,
    }
    return templates.get_template("MODEL_CARD.md.jinja").render(
        contents=contents,
        evaluation=evaluation,
        result=result,
        negative=negative,
        positive=positive,
        figures=figures,
        facts={name: fact for name, fact in contents.facts.items() if name not in OMITTED_FACTS},
        front_matter=_yaml(_front_matter(contents, figures)),
    )


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
    """Return YAML with one key a line; the values are JSON, which is a subset of YAML."""
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in content.items())
