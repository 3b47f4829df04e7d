"""A recipe: a published system as data, as it was published and corrected. Its file is TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.evaluation import POLICIES, SWEEP, Fixed, ThresholdPolicy
from pneumokeras.recipes.catalog import recipe_text
from pneumokeras.recipes.configuration import Configuration, Search
from pneumokeras.training.callbacks import Plateau, Schedule
from pneumokeras.training.stages import Stage

AS_PUBLISHED, CORRECTED = VARIANTS = ("as published", "corrected")

FIGURES = (
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "balanced_accuracy",
    "roc_auc",
)
"""What a document may report of a system, and a table compares."""

_TABLES = ("as_published", "corrected", "published")
_IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True)
class Published:
    """What a document reports of a system, and what of it cannot be right.

    Attributes:
        figures: by name, each in [0, 1]; on the document's own 624 test radiographs.
        parameters: of the network, as printed.
        size: of the saved model in megabytes, as printed.
        minutes: of training, as printed.
        footnotes: a sentence each.

    Raises:
        DataError: if a figure lies outside [0, 1].
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


@dataclass(frozen=True)
class Recipe:
    """A system that can be run.

    Attributes:
        name: what it is called on the command line.
        title: what its document calls it.
        source: the document.
        about: what it is, in a sentence.
        published: its figures; `None` for a recipe of ours.
        variants: how it is run: `"as published"`, mistakes included, and `"corrected"`.
        data: what it was published on.
        assumed: what the document leaves open and is ours, a sentence each.
        mended: what is different in `"corrected"`, and why, a sentence each.
    """

    name: str
    title: str
    source: str
    about: str
    published: Published | None
    variants: Mapping[str, Configuration]
    data: str = "chest_xray"
    assumed: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()

    def variant(self, name: str) -> Configuration:
        """One way to run it.

        Raises:
            DataError: if there is no such variant.
        """
        if name not in self.variants:
            raise DataError(f"{self.name} has no variant {name!r}. Expected {' or '.join(self.variants)}.")
        return self.variants[name]


def load_recipe(name: str | PathLike[str]) -> Recipe:
    """A recipe by its name, or from a file of your own.

    Args:
        name: one of `recipe_names()`, or the path of a `.toml` file.

    Raises:
        DataError: if there is none, or the file is not one.
    """
    text = recipe_text(name)
    try:
        return _parsed(Path(name).stem, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, DataError, SettingsError) as error:
        fault = str(error).replace("`", "")  # the keys of the file, not parameters or options
        raise DataError(f"{name} is no recipe: {fault}") from error


def _parsed(name: str, content: Mapping[str, Any]) -> Recipe:
    _require_known(content, ("title", "source", "about", "data", "assumed", *_TABLES), "the file")
    first, changed, published = (
        None if table not in content else dict(_table(content[table], table)) for table in _TABLES
    )
    mended = (changed or {}).pop("mended", [])
    variants = {}
    if first is not None:
        variants[AS_PUBLISHED] = configuration_from_toml(first, "as_published")
    if changed or first is None:
        variants[CORRECTED] = configuration_from_toml(_merged(first or {}, changed or {}), "corrected")
    values = {
        **{key: value for key, value in content.items() if key not in _TABLES},
        "name": name,
        "published": None if published is None else _published(published),
        "variants": variants,
        "mended": mended,
    }
    return _made(Recipe, values, "the file")


def configuration_from_toml(table: Mapping[str, Any], name: str) -> Configuration:
    """Read a table of a recipe's file.

    Args:
        table: settings by name; `chosen_on` of the threshold is `threshold_on` here.
        name: what the file calls the table.

    Raises:
        DataError: if a key is missing or unknown, or a value has the wrong type or is out of range.
    """
    _require_known(table, set(signature(Configuration).parameters) - {"threshold_on"}, name)
    values = dict(table)
    if "search" in values:
        values["search"] = _made(Search, values["search"], "search")
    if not isinstance(stages := values.get("stages", []), list):
        raise DataError(f"Expected stages as a list of tables. Received {stages!r}.")
    values["stages"] = tuple(_made(Stage, stage, "stages") for stage in stages)
    values["schedule"] = _schedule(values.get("schedule", {}))
    threshold = dict(_table(values.get("threshold", {}), "threshold"))
    values["threshold_on"] = threshold.pop("chosen_on", "val")
    values["threshold"] = _policy(threshold)
    return _made(Configuration, values, name)


def _published(table: Mapping[str, Any]) -> Published:
    rest = {name: value for name, value in table.items() if name not in FIGURES}
    _require_known(rest, (*FIGURES, *(set(signature(Published).parameters) - {"figures"})), "published")
    figures = {name: table[name] for name in FIGURES if name in table}
    return _made(Published, {**rest, "figures": figures}, "published")


def _schedule(table: Any) -> Schedule:
    values = dict(_table(table, "schedule"))
    if isinstance(values.get("plateau"), Mapping):
        values["plateau"] = _made(Plateau, values["plateau"], "plateau")
    return _made(Schedule, values, "schedule")


def _policy(table: Mapping[str, Any]) -> ThresholdPolicy:
    values = dict(table)
    name = values.pop("policy", Fixed.name)
    if str(name) not in POLICIES:
        raise DataError(f"Unknown threshold policy {name!r}. Expected one of {', '.join(POLICIES)}.")
    if values.get("among") == "sweep":
        values["among"] = list(SWEEP)
    return _made(POLICIES[name], values, f"threshold {name}")


def _made(kind: Any, table: Any, what: str) -> Any:
    """What a table describes.

    Args:
        kind: the class.
        table: its arguments, as TOML has them: lists for tuples, false for `None`.
        what: what the file calls the table.

    Raises:
        DataError: if a key is missing or unknown, or a value has the wrong type or is out of range.
    """
    values = _table(table, what)
    known = signature(kind).parameters
    _require_known(values, known, what)
    for name, parameter in known.items():
        if parameter.default is Parameter.empty and name not in values:
            raise DataError(f"{what} lacks {name!r}.")
    hints = get_type_hints(kind.__init__)
    try:
        return kind(**{name: _argument(value, hints[name], name, what) for name, value in values.items()})
    except TypeError as error:
        raise DataError(f"A value in {what} has the wrong type: {error}") from error


def _argument(value: Any, hint: Any, name: str, what: str) -> Any:
    """A TOML value as an argument: a list as a tuple, false as `None` where it is no switch."""
    kinds = _kinds(hint)
    if value is False and NoneType in kinds and bool not in kinds:
        return None
    if type(value) in _IN_WORDS and kinds.isdisjoint({type(value), Any}):
        expected = " or ".join(dict.fromkeys(words for kind, words in _IN_WORDS.items() if kind in kinds))
        raise DataError(f"Expected {name} in {what} as {expected}. Received {value!r}.")
    return tuple(value) if isinstance(value, list) else value


def _kinds(hint: Any) -> set[Any]:
    """Which kinds of TOML values go where a type is expected: of `float | None` float, int, NoneType."""
    if isinstance(hint, UnionType):
        return set().union(*map(_kinds, get_args(hint)))
    kind = get_origin(hint) or hint
    if kind is float:
        return {float, int}
    if kind is Mapping:
        return {dict}
    return {list} if kind in (tuple, Sequence) else {kind}


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"Expected {name} as a table. Received {value!r}.")
    return value


def _require_known(table: Iterable[str], known: Iterable[str], what: str) -> None:
    known = sorted(known)
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise DataError(f"Unknown key {unknown[0]!r} in {what}. Expected {', '.join(known)}.")


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with what `changes` says otherwise; tables inside are merged, lists replaced."""
    merged = dict(table)
    for name, value in changes.items():
        inner = merged.get(name)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return merged
