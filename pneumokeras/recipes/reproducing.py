"""Published systems run here, as published and corrected, and a table of what each reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.data.datasets import Splits, load_splits
from pneumokeras.errors import DataError, PneumokerasError
from pneumokeras.evaluation import Evaluation, Interval, OperatingPoint, evaluate_predictions, wilson
from pneumokeras.evaluation.intervals import hanley_mcneil
from pneumokeras.evaluation.thresholds import ORACLE_WARNING
from pneumokeras.fitting import Confirm
from pneumokeras.inference import predict
from pneumokeras.keeping import TuningResult, write_predictions
from pneumokeras.models.saved import describe
from pneumokeras.recipes.recipe import (
    FIGURES,
    VARIANTS,
    Configuration,
    Published,
    Recipe,
    load_recipe,
    with_changes,
)
from pneumokeras.recipes.table import render_html, render_markdown
from pneumokeras.recipes.training import Progress, train
from pneumokeras.runs import open_run

NORMALS, PNEUMONIAS = 234, 390
"""The test radiographs that the documents' figures are about."""

PUBLISHED = "published"
CHOSEN_ON_TEST = "chosen_on_test"

Began = Callable[[str, str, int], None]
"""Told which recipe, which variant and which seed is run next."""


@dataclass(frozen=True)
class Row:
    """What one system reached, in one way.

    Attributes:
        recipe: its name.
        title: what its document calls it.
        variant: `"published"`, `"as published"` or `"corrected"`.
        figures: by name. Of several seeds the mean, of estimates and of the ends of their intervals.
        seeds: how many were run.
        spread: lowest and highest estimate among the seeds, if there are several.
        threshold: where the operating point comes from, in words.
        weights: where the backbone's weights come from; empty for a network from scratch.
        parameters: of the network.
        size: of the saved model in megabytes.
        minutes: of training, the seeds' mean.
        changes: what was run otherwise than the recipe says, such as `{"epochs": 2}`.
        reason: why there are no figures; empty if there are.
    """

    recipe: str
    title: str
    variant: str
    figures: Mapping[str, Interval]
    seeds: int = 0
    spread: Mapping[str, tuple[float, float]] | None = None
    threshold: str = ""
    weights: str = ""
    parameters: int | None = None
    size: float | None = None
    minutes: float | None = None
    changes: Mapping[str, Any] | None = None
    reason: str = ""

    def json(self) -> dict[str, Any]:
        """As plain JSON; NaN becomes `None`."""
        plain = {**vars(self), "figures": {name: figure.json() for name, figure in self.figures.items()}}
        return {name: value for name, value in plain.items() if value not in (None, "", {})}


@dataclass(frozen=True)
class Reproduction:
    """Published systems beside what they reached here.

    Attributes:
        rows: three for each recipe: published, as published, corrected.
        recipes: those that were run.
        data: where the radiographs lie.
        test: how many NORMAL and PNEUMONIA radiographs the figures of here are about.
    """

    rows: tuple[Row, ...]
    recipes: tuple[Recipe, ...]
    data: str
    test: tuple[int, int]

    @property
    def failed(self) -> tuple[Row, ...]:
        """What could not be run."""
        return tuple(row for row in self.rows if row.reason)

    def json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        notes = {
            recipe.name: {
                "footnotes": list(recipe.published.footnotes) if recipe.published else [],
                "assumed": list(recipe.assumed),
                "mended": list(recipe.mended),
            }
            for recipe in self.recipes
        }
        return {
            "schema": 1,
            "data": self.data,
            "test": dict(zip(("NORMAL", "PNEUMONIA"), self.test, strict=True)),
            "rows": [row.json() for row in self.rows],
            "notes": notes,
        }

    def markdown(self) -> str:
        """The table with its footnotes, for a page of documentation."""
        return render_markdown(self)

    def html(self) -> str:
        """The table with its footnotes, as one page."""
        return render_html(self)

    def _repr_html_(self) -> str:
        return render_html(self, whole=False)


def reproduce(
    recipes: Iterable[str | PathLike[str] | Recipe],
    data: str | PathLike[str],
    *,
    out: str | PathLike[str] = "tuner_runs/reproduction",
    seeds: Sequence[int] = (0,),
    variants: Sequence[str] = VARIANTS,
    weights: str | Mapping[str, str] | None = None,
    epochs: int | None = None,
    views: int | None = None,
    cache: bool = True,
    confirm: Confirm | None = None,
    began: Began | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Run recipes as published and corrected, and put what they reach on test beside what was reported.

    Each run keeps its folder under `out`, and one that is finished is found again. A recipe that cannot be
    run is a row with its reason.

    Args:
        recipes: names or files.
        data: a folder, `.npz` or manifest with a test split.
        out: where the run folders go.
        seeds: of training; the splits are the same for all.
        variants: which ones.
        weights: of all backbones, or by backbone, instead of the recipe's.
        epochs: of each stage or trial, instead of the recipe's.
        views: versions of each radiograph, instead of the recipe's.
        cache: as for `train`.
        confirm: as for `train`.
        began: called before each run.
        progress: as for `train`.

    Returns:
        The table.

    Raises:
        DataError: if there is no such recipe, there are no test radiographs, or a radiograph cannot be read.
    """
    loaded = tuple(one if isinstance(one, Recipe) else load_recipe(one) for one in recipes)
    splits = {keep: load_splits(data, keep_val=keep) for keep in (False, True)}
    test = splits[False].test
    if test.labels is None or len(test) == 0:
        raise DataError(f"{data} has no test radiographs to compare systems on. Expected a split test.")
    rows = []
    for recipe in loaded:
        if recipe.published is not None:
            rows.append(_published_row(recipe, recipe.published))
        for variant in variants:
            if variant not in recipe.variants:
                continue
            configuration = _changed(recipe.variants[variant], weights, epochs, views)
            changed = replace(recipe, variants={variant: configuration})
            results = []
            try:
                for seed in seeds:
                    if began is not None:
                        began(recipe.name, variant, seed)
                    results.append(
                        _reached(
                            changed,
                            variant,
                            splits[configuration.keep_val],
                            seed,
                            Path(out) / recipe.name / f"{variant.replace(' ', '-')}-{seed}",
                            {"cache": cache, "confirm": confirm, "progress": progress},
                        )
                    )
            except PneumokerasError as error:
                rows.append(Row(recipe.name, recipe.title, variant, {}, reason=str(error)))
                continue
            changes = {"epochs": epochs, "views": configuration.views if views else None}
            rows.append(_mean(results, {name: value for name, value in changes.items() if value}))
    normals, pneumonias = test.counts.values()
    return Reproduction(tuple(rows), loaded, str(data), (normals, pneumonias))


def _changed(
    configuration: Configuration,
    weights: str | Mapping[str, str] | None,
    epochs: int | None,
    views: int | None,
) -> Configuration:
    """A recipe as it is run: random weights that it asks for, and views that are not fixed, stay."""
    if not configuration.has_backbone or configuration.weights == "none":
        weights = None
    elif isinstance(weights, Mapping):
        weights = weights.get(configuration.model)
    return with_changes(
        configuration, weights=weights, epochs=epochs, views=views if configuration.views else None
    )


def _reached(
    recipe: Recipe, variant: str, splits: Splits, seed: int, run: Path, options: Mapping[str, Any]
) -> Row:
    """Train one way with one seed, and look at test."""
    configuration = recipe.variant(variant)
    result = train(recipe, splits, variant=variant, seed=seed, run=run, **options)
    predictions = predict(result.model, splits.test)
    write_predictions(predictions, open_run(run).predictions_path("test"))
    evaluation, point = _judged(predictions, result, configuration)
    scores = {**evaluation.operating_points[point].scores, "roc_auc": evaluation.roc_auc}
    return Row(
        recipe=recipe.name,
        title=recipe.title,
        variant=variant,
        figures={name: scores[name] for name in FIGURES},
        seeds=1,
        threshold=_in_words(evaluation.operating_points[point].point),
        weights=describe(result.model).weights if configuration.has_backbone else "",
        parameters=result.model.count_params(),
        size=open_run(run).model_path.stat().st_size / 1e6,
        minutes=sum(open_run(run).record()["timings"].values()) / 60,
    )


def _judged(predictions: Any, result: TuningResult, configuration: Configuration) -> tuple[Evaluation, str]:
    """The evaluation, and the name of the operating point that the recipe speaks of."""
    if configuration.threshold_on == "test":
        chosen = configuration.threshold.choose(
            predictions.labels, predictions.probabilities, chosen_on=f"test {ORACLE_WARNING}"
        )
        return evaluate_predictions(predictions, operating_points={CHOSEN_ON_TEST: chosen}), CHOSEN_ON_TEST
    evaluation = evaluate_predictions(predictions, operating_points=result.operating_points)
    return evaluation, "default" if configuration.threshold.name == "fixed" else "validation"


def _mean(rows: Sequence[Row], changes: Mapping[str, Any]) -> Row:
    """One row for several seeds."""
    first = rows[0]

    def mean(values: Iterable[float]) -> float:
        return float(np.mean([*values]))

    figures = {
        name: Interval(
            mean(row.figures[name].estimate for row in rows),
            mean(row.figures[name].low for row in rows),
            mean(row.figures[name].high for row in rows),
            first.figures[name].method,
        )
        for name in first.figures
    }
    estimates = {name: [row.figures[name].estimate for row in rows] for name in first.figures}
    several = len(rows) > 1
    return replace(
        first,
        figures=figures,
        seeds=len(rows),
        spread={name: (min(values), max(values)) for name, values in estimates.items()} if several else None,
        threshold="; ".join(dict.fromkeys(row.threshold for row in rows)),
        minutes=mean(row.minutes or math.nan for row in rows),
        changes=changes or None,
    )


def _published_row(recipe: Recipe, published: Published) -> Row:
    """A document's figures; where the number of radiographs is known, with an interval."""
    return Row(
        recipe=recipe.name,
        title=recipe.title,
        variant=PUBLISHED,
        figures={name: _published_interval(name, published.figures) for name in published.figures},
        parameters=published.parameters,
        size=published.size,
        minutes=published.minutes,
    )


def _published_interval(name: str, figures: Mapping[str, float]) -> Interval:
    value = figures[name]
    images = {
        "accuracy": NORMALS + PNEUMONIAS,
        "sensitivity": PNEUMONIAS,
        "specificity": NORMALS,
        "precision": figures.get("sensitivity", math.nan) * PNEUMONIAS / figures.get("precision", math.nan),
    }.get(name, math.nan)
    if name == "roc_auc":
        return hanley_mcneil(value, negatives=NORMALS, positives=PNEUMONIAS)
    if math.isnan(images):
        return Interval(value, math.nan, math.nan, "none: the matrix is not printed")
    return wilson(value * images, images)


def _in_words(point: OperatingPoint) -> str:
    value = f"{point.threshold:.3g}"
    return value if point.chosen_on == "fixed" else f"{value}, chosen on {point.chosen_on}"
