"""Train published systems as published and corrected, and put their results into a table."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pneumokeras.core.errors import DataError, PneumokerasError, SettingsError
from pneumokeras.core.former_names import former_arguments
from pneumokeras.data.from_path import load_splits
from pneumokeras.data.splits import Splits
from pneumokeras.evaluation import Evaluation, Interval, Predictions, evaluate_predictions, wilson
from pneumokeras.evaluation.intervals import hanley_mcneil, mean_of_two
from pneumokeras.evaluation.thresholds import ORACLE_WARNING
from pneumokeras.models.backbones import BACKBONES
from pneumokeras.models.saving import description_of
from pneumokeras.recipes.configuration import Configuration, with_changes
from pneumokeras.recipes.recipe import ALL_VARIANTS, FIGURES, VARIANTS, Published, Recipe, load_recipe
from pneumokeras.recipes.rows import NORMALS, PNEUMONIAS, PUBLISHED, Row
from pneumokeras.recipes.table import render_html, render_markdown
from pneumokeras.recipes.train import parameters, train
from pneumokeras.runs.folder import open_run
from pneumokeras.runs.result import RunResult, write_predictions
from pneumokeras.training.predict import predict
from pneumokeras.training.progress import Progress
from pneumokeras.training.settings import Confirm

logger = logging.getLogger(__name__)
CHOSEN_ON_TEST = "chosen_on_test"

NO_INTERVAL = "none: the document does not print what it needs"

OnRunStart = Callable[[str, str, int], None]
"""Called before each run with the recipe's name, the variant and the seed."""

OnRow = Callable[["Reproduction"], None]
"""Called after each variant with the table so far."""


@dataclass(frozen=True, repr=False)
class Reproduction:
    """Published systems with their results here.

    Attributes:
        rows: per recipe: published, then the variants that were run.
        recipes: the recipes, in the order of the table.
        data: where the radiographs are.
        test: number of NORMAL and of PNEUMONIA test radiographs that our figures refer to.

    Example:
        >>> table = pk.Reproduction(rows=(), recipes=(), data="chest_xray", test=(234, 390))
        >>> table.json()["test"]
        {'NORMAL': 234, 'PNEUMONIA': 390}
        >>> print(table.markdown())
        Here: 624 test radiographs (234 NORMAL, 390 PNEUMONIA). ...
    """

    rows: tuple[Row, ...]
    recipes: tuple[Recipe, ...]
    data: str
    test: tuple[int, int]

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows of variants that failed with at least one seed."""
        return tuple(row for row in self.rows if row.reason)

    def with_row(self, row: Row) -> Reproduction:
        """Return the table with one more row."""
        return replace(self, rows=(*self.rows, row))

    def json(self) -> dict[str, Any]:
        """Return the table as plain JSON."""
        notes = {
            recipe.name: {
                "title": recipe.title,
                "source": recipe.source,
                "footnotes": list(recipe.published.footnotes) if recipe.published else [],
                "assumed": list(recipe.assumed),
                "mended": list(recipe.corrections),
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
        """Return the table with its footnotes in Markdown."""
        return render_markdown(self.rows, self.recipes, test=self.test)

    def html(self) -> str:
        """Return the table with its footnotes as an HTML page."""
        return render_html(self.rows, self.recipes, test=self.test, data=self.data)

    def __repr__(self) -> str:
        """Return one line with the recipes and the data."""
        return f"<Reproduction of {', '.join(recipe.name for recipe in self.recipes)} on {self.data}>"

    def _repr_html_(self) -> str:
        return render_html(self.rows, self.recipes, test=self.test, data=self.data, whole=False)


@former_arguments(began="on_run_start", reached="on_row")
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
    on_run_start: OnRunStart | None = None,
    on_row: OnRow | None = None,
    progress: Progress | None = None,
    **reading: Any,
) -> Reproduction:
    """Train recipes as published and corrected, and compare their test results with the published figures.

    Each run keeps its folder under `out`; finished runs are loaded, not repeated. A variant that fails
    becomes a row with the reason.

    Args:
        recipes: names, files or recipes.
        data: a folder, `.npz` or manifest with a test split.
        out: parent of the run folders.
        seeds: of training; the splits are the same for all seeds.
        variants: any of `"as published"`, `"corrected"` and `"on lite0"`, which few recipes have.
        weights: of all backbones, or by backbone, instead of the recipe's.
        epochs: of each stage or trial, instead of the recipe's.
        views: augmented versions of each radiograph, instead of the recipe's fixed number.
        cache: as for `train`.
        confirm: as for `train`.
        on_run_start: called before each run with the recipe's name, the variant and the seed.
        on_row: called after each variant with the table so far, for example to save it.
        progress: as for `train`.
        **reading: `classes`, `patient_pattern` and `skip_bad`, as for `load_splits`.

    Returns:
        The table.

    Raises:
        SettingsError: if a recipe, variant or backbone is unknown, or two recipes have the same name.
        DataError: if a recipe's file is invalid, there are no test radiographs, or a radiograph cannot be
            read.

    Example:
        >>> table = pk.reproduce(["customcnn"], "chest_xray", seeds=())  # no seeds: nothing is trained
        >>> [row.variant for row in table.rows]
        ['published', 'as published', 'corrected']
    """
    loaded = tuple(one if isinstance(one, Recipe) else load_recipe(one) for one in recipes)
    _require_names(loaded)
    _require_variants(loaded, variants)
    _require_backbones(weights)
    to_run = [
        replace(
            recipe,
            variants={
                name: _changed(configuration, weights=weights, epochs=epochs, views=views)
                for name, configuration in recipe.variants.items()
                if name in variants
            },
        )
        for recipe in loaded
    ]
    keep_val = {one.keep_val for recipe in to_run for one in recipe.variants.values()} or {False}
    splits = {keep: load_splits(data, keep_val=keep, **reading) for keep in sorted(keep_val)}
    test = next(iter(splits.values())).test
    if test.labels is None or len(test) == 0:
        raise DataError(f"{data} has no test radiographs to compare systems on.", path=data)
    normals, pneumonias = test.counts.values()
    table = Reproduction(rows=(), recipes=loaded, data=str(data), test=(normals, pneumonias))
    for recipe in to_run:
        if recipe.published is not None:
            table = table.with_row(_published_row(recipe, recipe.published))
        for variant, configuration in recipe.variants.items():
            given = {"epochs": epochs, "views": views if configuration.views else None}
            changes = {name: value for name, value in given.items() if value is not None}
            suffix = "".join(f"-{name}-{value}" for name, value in changes.items())
            folder = Path(out) / recipe.name
            row = _run_seeds(
                recipe,
                variant,
                splits[configuration.keep_val],
                runs=[(seed, folder / f"{variant.replace(' ', '-')}-{seed}{suffix}") for seed in seeds],
                on_run_start=on_run_start,
                cache=cache,
                confirm=confirm,
                progress=progress,
            )
            table = table.with_row(replace(row, changes=changes or None))
            if on_row is not None:
                on_row(table)
    return table


def _require_names(recipes: Sequence[Recipe]) -> None:
    names = [recipe.name for recipe in recipes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SettingsError(
            f"Two recipes are called {twice}. Expected each file under another name.", parameter="recipes"
        )


def _require_variants(recipes: Sequence[Recipe], variants: Sequence[str]) -> None:
    for name in variants:
        if name not in ALL_VARIANTS:
            raise SettingsError(
                f"Unknown variant {name!r}. Expected {' or '.join(ALL_VARIANTS)}.", parameter="variants"
            )
    for recipe in recipes:
        if not any(name in recipe.variants for name in variants):
            raise SettingsError(
                f"{recipe.name} has no variant {' or '.join(variants)}. "
                f"Expected {' or '.join(recipe.variants)}.",
                parameter="variants",
            )


def _require_backbones(weights: str | Mapping[str, str] | None) -> None:
    """Refuse weights for an unknown backbone: they would not be used."""
    for name in weights if isinstance(weights, Mapping) else ():
        if name not in BACKBONES:
            raise SettingsError(
                f"Unknown backbone {name!r}. Expected one of {', '.join(BACKBONES)}.", parameter="weights"
            )


def _changed(
    configuration: Configuration,
    *,
    weights: str | Mapping[str, str] | None = None,
    epochs: int | None = None,
    views: int | None = None,
) -> Configuration:
    """Return a configuration with the caller's settings, where it has the setting.

    A recipe that asks for random weights keeps them, and one that augments anew in each epoch gets no views.
    """
    if not configuration.has_backbone or configuration.weights == "none":
        weights = None
    elif isinstance(weights, Mapping):
        weights = weights.get(configuration.model)
    return with_changes(
        configuration, weights=weights, epochs=epochs, views=views if configuration.views else None
    )


def _run_seeds(
    recipe: Recipe,
    variant: str,
    splits: Splits,
    *,
    runs: Iterable[tuple[int, Path]],
    on_run_start: OnRunStart | None,
    **options: Any,
) -> Row:
    """Run a variant with each seed and run folder until one fails, and return the mean of those that ran."""
    rows: list[Row] = []
    reason = ""
    try:
        for seed, run in runs:
            if on_run_start is not None:
                on_run_start(recipe.name, variant, seed)
            rows.append(_run_seed(recipe, variant, splits, seed=seed, run=run, **options))
    except PneumokerasError as error:
        reason = str(error)
    except Exception as error:  # such as too little memory: keep the other variants' results
        logger.info("%s, %s, failed", recipe.name, variant, exc_info=True)
        reason = f"{type(error).__name__}: {error}"
    nothing = Row(recipe=recipe.name, title=recipe.title, variant=variant, figures={})
    return replace(_mean_of_seeds(rows) if rows else nothing, reason=reason)


def _run_seed(recipe: Recipe, variant: str, splits: Splits, *, seed: int, run: Path, **options: Any) -> Row:
    """Train a variant with one seed, and evaluate it on test."""
    configuration = recipe.variant(variant)
    result = train(recipe, splits, variant=variant, seed=seed, run=run, **options)
    predictions = predict(result.model, splits.test)
    folder = open_run(run)
    write_predictions(predictions, folder.predictions_path("test"))
    evaluation, name = _evaluate_at(predictions, result, configuration)
    at_point = evaluation.operating_points[name]
    scores = {**at_point.scores, "roc_auc": evaluation.roc_auc}
    return Row(
        recipe=recipe.name,
        title=recipe.title,
        variant=variant,
        figures={name: scores[name] for name in FIGURES},
        seeds=1,
        thresholds=(at_point.point.threshold,),
        chosen_on=at_point.point.chosen_on,
        weights=description_of(result.model).weights if configuration.has_backbone else "",
        parameters=parameters(result.model),
        size=folder.model_path.stat().st_size / 1e6,
        minutes=sum(folder.record()["timings"].values()) / 60,
    )


def _evaluate_at(
    predictions: Predictions, result: RunResult, configuration: Configuration
) -> tuple[Evaluation, str]:
    """Return the evaluation, and the name of the operating point that the configuration asks for."""
    if configuration.threshold_on == "test":
        assert predictions.labels is not None  # `reproduce` refuses a test split without labels
        chosen = configuration.threshold.choose(
            predictions.labels, predictions.probabilities, chosen_on=f"test {ORACLE_WARNING}"
        )
        return evaluate_predictions(predictions, operating_points={CHOSEN_ON_TEST: chosen}), CHOSEN_ON_TEST
    evaluation = evaluate_predictions(predictions, operating_points=result.operating_points)
    return evaluation, "default" if configuration.threshold.name == "fixed" else "validation"


def _mean_of_seeds(rows: Sequence[Row]) -> Row:
    """Return one row for several seeds, with the means of their figures."""
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
    """Return the row of a document's figures."""
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
    """Return a document's figures with the intervals that its numbers of test radiographs allow.

    Proportions get Wilson's interval. The denominator is all radiographs (accuracy), those with pneumonia
    (sensitivity), those without (specificity), or the predicted positives (precision), whose number follows
    from precision and sensitivity. F1 is 2 J / (1 + J) of the Jaccard index J, the share of true positives
    among the radiographs that have pneumonia or are predicted positive; their number follows from accuracy.
    Balanced accuracy gets MOVER's interval, ROC AUC Hanley and McNeil's. A figure whose interval needs one
    that is not printed has no interval.

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
