"""Published systems run here, as published and corrected, and a table of what each reached."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import DataError, PneumokerasError
from pneumokeras.data.from_path import load_splits
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import Evaluation, Interval, Predictions, evaluate_predictions, wilson
from pneumokeras.evaluation.intervals import hanley_mcneil, mean_of_two
from pneumokeras.evaluation.thresholds import ORACLE_WARNING
from pneumokeras.models.backbones import BACKBONES
from pneumokeras.models.saving import description_of
from pneumokeras.recipes.configuration import Configuration, with_changes
from pneumokeras.recipes.recipe import FIGURES, VARIANTS, Published, Recipe, load_recipe
from pneumokeras.recipes.rows import NORMALS, PNEUMONIAS, PUBLISHED, Row
from pneumokeras.recipes.table import render_html, render_markdown
from pneumokeras.recipes.train import parameters, train
from pneumokeras.runs.folder import open_run
from pneumokeras.runs.result import TuningResult, write_predictions
from pneumokeras.training.predict import predict
from pneumokeras.training.progress import Progress
from pneumokeras.training.settings import Confirm

logger = logging.getLogger(__name__)
CHOSEN_ON_TEST = "chosen_on_test"

NO_INTERVAL = "none: the document does not print what it needs"

Began = Callable[[str, str, int], None]
"""Told which recipe, which variant and which seed is run next."""

Reached = Callable[["Reproduction"], None]
"""Given the table as far as it goes, after each variant."""


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
        """What could not be run, or not with every seed."""
        return tuple(row for row in self.rows if row.reason)

    def with_row(self, row: Row) -> Reproduction:
        """The same table, one row longer."""
        return replace(self, rows=(*self.rows, row))

    def json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        notes = {
            recipe.name: {
                "title": recipe.title,
                "source": recipe.source,
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
    reached: Reached | None = None,
    progress: Progress | None = None,
    **reading: Any,
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
        reached: called after each variant, for one to keep the table of a command that may be interrupted.
        progress: as for `train`.
        **reading: `classes`, `patient_pattern` and `skip_bad` of `load_splits`.

    Returns:
        The table.

    Raises:
        DataError: if there is no such recipe, variant or backbone, there are no test radiographs, or a
            radiograph cannot be read.
    """
    loaded = tuple(one if isinstance(one, Recipe) else load_recipe(one) for one in recipes)
    names = [recipe.name for recipe in loaded]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"Two recipes are called {twice}. Expected another name of the file for each.")
    _require_variants(loaded, variants)
    _require_backbones(weights)
    ways = [
        replace(recipe, variants={name: _changed(configuration, weights, epochs, views)})
        for recipe in loaded
        for name, configuration in recipe.variants.items()
        if name in variants
    ]
    keeping = {_only(way)[1].keep_val for way in ways} or {False}
    splits = {keep: load_splits(data, keep_val=keep, **reading) for keep in sorted(keeping)}
    test = next(iter(splits.values())).test
    if test.labels is None or len(test) == 0:
        raise DataError(f"{data} has no test radiographs to compare systems on. Expected a split test.")
    options = {"cache": cache, "confirm": confirm, "progress": progress}
    normals, pneumonias = test.counts.values()
    table = Reproduction((), loaded, str(data), (normals, pneumonias))
    for recipe in loaded:
        if recipe.published is not None:
            table = table.with_row(_published_row(recipe, recipe.published))
        for way in ways:
            if way.name == recipe.name:
                asked = {"epochs": epochs, "views": views if _only(way)[1].views else None}
                changes = {name: value for name, value in asked.items() if value is not None}
                table = table.with_row(
                    _reached(way, changes, splits, seeds, Path(out) / way.name, began, options)
                )
                if reached is not None:
                    reached(table)
    return table


def _require_variants(recipes: Sequence[Recipe], variants: Sequence[str]) -> None:
    for name in variants:
        if name not in VARIANTS:
            raise DataError(f"Unknown variant {name!r}. Expected {' or '.join(VARIANTS)}.")
    for recipe in recipes:
        if not any(name in recipe.variants for name in variants):
            raise DataError(
                f"{recipe.name} has no variant {' or '.join(variants)}. "
                f"Expected {' or '.join(recipe.variants)}."
            )


def _require_backbones(weights: str | Mapping[str, str] | None) -> None:
    """Refuse weights of something else, which would be trained without them."""
    for name in weights if isinstance(weights, Mapping) else ():
        if name not in BACKBONES:
            raise DataError(f"Unknown backbone {name!r}. Expected one of {', '.join(BACKBONES)}.")


def _only(way: Recipe) -> tuple[str, Configuration]:
    """The name and the configuration of a recipe's only variant."""
    ((variant, configuration),) = way.variants.items()
    return variant, configuration


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
    way: Recipe,
    changes: Mapping[str, int],
    splits: Mapping[bool, Splits],
    seeds: Sequence[int],
    out: Path,
    began: Began | None,
    options: Mapping[str, Any],
) -> Row:
    """What one variant of a recipe reaches with some seeds, as far as they can be run."""
    variant, configuration = _only(way)
    changed = [f"{name}-{value}" for name, value in changes.items()]
    rows: list[Row] = []
    reason = ""
    try:
        for seed in seeds:
            if began is not None:
                began(way.name, variant, seed)
            run = out / "-".join([variant.replace(" ", "-"), str(seed), *changed])
            rows.append(_run_seed(way, splits[configuration.keep_val], seed, run, options))
    except PneumokerasError as error:
        reason = str(error)
    except Exception as error:  # such as too little memory: what others reached is not lost with it
        logger.info("%s, %s, failed", way.name, variant, exc_info=True)
        reason = f"{type(error).__name__}: {error}"
    row = _mean(rows) if rows else Row(way.name, way.title, variant, {})
    return replace(row, changes=changes or None, reason=reason)


def _run_seed(way: Recipe, splits: Splits, seed: int, run: Path, options: Mapping[str, Any]) -> Row:
    """Train a recipe's only variant with one seed, and look at test."""
    variant, configuration = _only(way)
    result = train(way, splits, variant=variant, seed=seed, run=run, **options)
    predictions = predict(result.model, splits.test)
    folder = open_run(run)
    write_predictions(predictions, folder.predictions_path("test"))
    evaluation, name = _evaluate_at(predictions, result, configuration)
    reached = evaluation.operating_points[name]
    scores = {**reached.scores, "roc_auc": evaluation.roc_auc}
    return Row(
        recipe=way.name,
        title=way.title,
        variant=variant,
        figures={name: scores[name] for name in FIGURES},
        seeds=1,
        thresholds=(reached.point.threshold,),
        chosen_on=reached.point.chosen_on,
        weights=description_of(result.model).weights if configuration.has_backbone else "",
        parameters=parameters(result.model),
        size=folder.model_path.stat().st_size / 1e6,
        minutes=sum(folder.record()["timings"].values()) / 60,
    )


def _evaluate_at(
    predictions: Predictions, result: TuningResult, configuration: Configuration
) -> tuple[Evaluation, str]:
    """The evaluation, and the name of the operating point that the recipe speaks of."""
    if configuration.threshold_on == "test":
        assert predictions.labels is not None
        chosen = configuration.threshold.choose(
            predictions.labels, predictions.probabilities, chosen_on=f"test {ORACLE_WARNING}"
        )
        return evaluate_predictions(predictions, operating_points={CHOSEN_ON_TEST: chosen}), CHOSEN_ON_TEST
    evaluation = evaluate_predictions(predictions, operating_points=result.operating_points)
    return evaluation, "default" if configuration.threshold.name == "fixed" else "validation"


def _mean(rows: Sequence[Row]) -> Row:
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
    spread = {
        name: (min(values), max(values))
        for name, values in estimates.items()
        if not any(map(math.isnan, values))
    }
    return replace(
        first,
        figures=figures,
        seeds=len(rows),
        spread=spread if len(rows) > 1 else None,
        thresholds=tuple(threshold for row in rows for threshold in row.thresholds),
        minutes=mean(row.minutes for row in rows if row.minutes is not None),
    )


def _published_row(recipe: Recipe, published: Published) -> Row:
    """A document's figures."""
    return Row(
        recipe=recipe.name,
        title=recipe.title,
        variant=PUBLISHED,
        figures=published_intervals(published.figures),
        parameters=published.parameters,
        size=published.size,
        minutes=published.minutes,
    )


def published_intervals(figures: Mapping[str, float]) -> dict[str, Interval]:
    """A document's figures with the intervals that its numbers of test radiographs allow.

    Proportions have Wilson's: of all radiographs, of those with pneumonia, of those without, or of those
    called so, as many as precision and sensitivity mean. F1 is 2 J / (1 + J) of the Jaccard index J, the
    share of true calls among the radiographs that have pneumonia or are called so; accuracy tells how many
    these are. Where a figure is missing that another's interval needs, there is none.

    Args:
        figures: by name, each in [0, 1].
    """
    accuracy, sensitivity, precision = (
        figures.get(name, math.nan) for name in ("accuracy", "sensitivity", "precision")
    )
    images = {
        "accuracy": NORMALS + PNEUMONIAS,
        "sensitivity": PNEUMONIAS,
        "specificity": NORMALS,
        "precision": sensitivity * PNEUMONIAS / precision if precision else math.nan,
    }
    intervals = {name: _wilson(figures[name], images[name]) for name in images if name in figures}
    if "f1" in figures:
        jaccard = figures["f1"] / (2 - figures["f1"])
        errors = (1 - accuracy) * (NORMALS + PNEUMONIAS)
        found = _wilson(jaccard, errors / (1 - jaccard) if jaccard < 1 else math.nan)
        low, high = (2 * end / (1 + end) for end in (found.low, found.high))
        intervals["f1"] = Interval(figures["f1"], low, high, found.method)
    if "balanced_accuracy" in figures:
        nothing = Interval(math.nan, math.nan, math.nan, NO_INTERVAL)
        both = mean_of_two(*(intervals.get(name, nothing) for name in ("sensitivity", "specificity")))
        intervals["balanced_accuracy"] = replace(both, estimate=figures["balanced_accuracy"])
    if "roc_auc" in figures:
        intervals["roc_auc"] = hanley_mcneil(figures["roc_auc"], negatives=NORMALS, positives=PNEUMONIAS)
    return {name: intervals[name] for name in FIGURES if name in intervals}


def _wilson(proportion: float, images: float) -> Interval:
    if math.isnan(images):
        return Interval(proportion, math.nan, math.nan, NO_INTERVAL)
    return wilson(proportion * images, images)
