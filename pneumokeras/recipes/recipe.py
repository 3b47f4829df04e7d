"""Recipes: published systems as data, each as published and corrected, read from TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any

from pneumokeras.core.errors import DataError, PneumokerasError, SettingsError
from pneumokeras.core.former_names import former_attribute
from pneumokeras.core.html import table
from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.evaluation import POLICIES, SWEEP, Fixed, ThresholdPolicy
from pneumokeras.recipes.catalog import recipe_text
from pneumokeras.recipes.configuration import Configuration
from pneumokeras.recipes.from_toml import from_table, require_known, require_table

AS_PUBLISHED, CORRECTED = VARIANTS = ("as published", "corrected")
ON_LITE0 = "on lite0"
"""Corrected, on EfficientNet-Lite0, whose ImageNet weights can be had wherever packages can."""

ALL_VARIANTS = (*VARIANTS, ON_LITE0)

FIGURES = (
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "balanced_accuracy",
    "roc_auc",
)
"""The scores that a document may report, in the order of the table."""

_TABLES = ("as_published", "corrected", "on_lite0", "published")


@dataclass(frozen=True)
class Published:
    """What a document reports of its system.

    Attributes:
        figures: scores by name, each in [0, 1], on the document's own 624 test radiographs.
        parameters: of the network, as printed.
        size: of the saved model in megabytes, as printed.
        minutes: of training, as printed.
        footnotes: what is inconsistent or impossible in these figures, a sentence each.

    Raises:
        DataError: if a score lies outside [0, 1].
    """

    figures: Mapping[str, float]
    parameters: int | None = None
    size: float | None = None
    minutes: float | None = None
    footnotes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, figure in self.figures.items():
            if not (isinstance(figure, float | int) and 0 <= figure <= 1):
                raise DataError(f"Expected the published {name} in [0, 1]. Received {figure!r}.")


@dataclass(frozen=True, repr=False)
class Recipe:
    """A published system, or one of your own, that can be trained.

    Attributes:
        name: its name on the command line.
        title: the name its document gives it.
        source: the document.
        about: one sentence of description.
        published: the figures its document reports; `None` where there is no document.
        variants: configurations by name: `"as published"`, mistakes included; `"corrected"`; and, of some,
            `"on lite0"`: corrected, on EfficientNet-Lite0.
        data: the data set it was published on.
        assumed: settings the document leaves open and we chose, a sentence each.
        corrections: what `"corrected"` changes and why, a sentence each.

    Example:
        >>> recipe = pk.load_recipe("customcnn")
        >>> recipe.title, list(recipe.variants)
        ('CustomCNN', ['as published', 'corrected'])
    """

    name: str
    title: str
    source: str
    about: str
    published: Published | None
    variants: Mapping[str, Configuration]
    data: str = "chest_xray"
    assumed: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()

    mended = former_attribute("mended", "corrections")

    def __repr__(self) -> str:
        """Return one line with the name, the title and the variants."""
        return f"<Recipe {self.name}: {self.title}, {' and '.join(self.variants)}>"

    def _repr_html_(self) -> str:
        settings = [configuration.settings() for configuration in self.variants.values()]
        names = dict.fromkeys(name for one in settings for name in one)
        caption = "\n".join([f"{self.name}: {self.title}", self.about, self.source])
        rows = [(name, *(one.get(name) for one in settings)) for name in names]
        return table(("", *self.variants), rows, caption=caption)

    def variant(self, name: str) -> Configuration:
        """Return the configuration of a variant.

        Raises:
            SettingsError: if the recipe has no such variant.
        """
        if name not in self.variants:
            raise SettingsError(
                f"{self.name} has no variant {name!r}. Expected {' or '.join(self.variants)}.",
                parameter="variant",
            )
        return self.variants[name]


def load_recipe(name: str | PathLike[str]) -> Recipe:
    """Load a recipe that comes with the package, or one from a file of your own.

    Args:
        name: a name that `pneumokeras recipes` lists, or the path of a `.toml` file.

    Raises:
        SettingsError: if there is no recipe of that name.
        DataError: if the file is not a recipe.

    Example:
        >>> pk.load_recipe("customcnn").variant("corrected").image_size
        224
    """
    text = recipe_text(name)
    try:
        return _recipe(Path(name).stem, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, PneumokerasError) as error:
        fault = str(error).replace("`", "")  # the keys of the file, not parameters or options
        raise DataError(f"{name} is no recipe: {fault}", path=name) from error


def _recipe(name: str, content: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a file describes; each variant holds only what differs from the one before."""
    known = set(signature(Recipe).parameters) - {"name", "variants", "corrections"}
    require_known(content, {*known, *_TABLES}, "the file")
    tables = {name: dict(require_table(content[name], name)) for name in _TABLES if name in content}
    as_published, corrected = tables.get("as_published"), tables.get("corrected", {})
    if not isinstance(corrections := corrected.pop("mended", []), list):
        raise DataError(f"Expected mended in corrected as a list. Received {corrections!r}.")
    variants = {}
    if as_published is not None:
        variants[AS_PUBLISHED] = _configuration(as_published, "as_published")
    corrected = _merged(as_published or {}, corrected)
    if tables.get("corrected") or as_published is None:
        variants[CORRECTED] = _configuration(corrected, "corrected")
    if "on_lite0" in tables:
        variants[ON_LITE0] = _configuration(_merged(corrected, tables["on_lite0"]), "on_lite0")
    published = _published(tables["published"]) if "published" in tables else None
    rest = {key: value for key, value in content.items() if key not in _TABLES}
    made = {"name": name, "published": published, "variants": variants, "corrections": corrections}
    return from_table(Recipe, {**rest, **made}, "the file")


def _configuration(table: Mapping[str, Any], name: str) -> Configuration:
    """Return the configuration that a table describes; the file keeps `threshold_on` in `threshold`."""
    require_known(table, set(signature(Configuration).parameters) - {"threshold_on"}, name)
    augmentation = require_table(table.get("augmentation", {}), f"augmentation in {name}")
    from_table(RadiographDataGenerator, augmentation, "augmentation")  # the configuration keeps the table
    threshold = dict(require_table(table.get("threshold", {}), "threshold"))
    chosen_on = threshold.pop("chosen_on", "val")
    return from_table(
        Configuration, {**table, "threshold": _policy(threshold), "threshold_on": chosen_on}, name
    )


def _published(table: Mapping[str, Any]) -> Published:
    """Return what a document reports; the file has the figures beside the rest."""
    rest = {key: value for key, value in table.items() if key not in FIGURES}
    require_known(rest, {*FIGURES, *signature(Published).parameters} - {"figures"}, "published")
    figures = {key: table[key] for key in FIGURES if key in table}
    return from_table(Published, {**rest, "figures": figures}, "published")


def _policy(table: Mapping[str, Any]) -> ThresholdPolicy:
    """Return the threshold policy that a table names, with its settings."""
    settings = dict(table)
    name = settings.pop("policy", Fixed.name)
    if str(name) not in POLICIES:
        raise DataError(f"Unknown threshold policy {name!r}. Expected one of {', '.join(POLICIES)}.")
    if settings.get("among") == "sweep":
        settings["among"] = list(SWEEP)
    return from_table(POLICIES[name], settings, f"threshold {name}")


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with `changes` applied: tables are merged, lists and values replaced."""
    merged = dict(table)
    for name, value in changes.items():
        inner = merged.get(name)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return merged
