"""A recipe: a published system as data, as it was published and corrected. Its file is TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from inspect import Parameter, signature
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pneumokeras.core.errors import DataError
from pneumokeras.data.augmentation import RadiographDataGenerator
from pneumokeras.evaluation import POLICIES, SWEEP, BalancedAccuracy, Fixed, ThresholdPolicy
from pneumokeras.models.backbones import BACKBONES
from pneumokeras.models.reference_cnns import REFERENCE_CNNS
from pneumokeras.recipes.catalog import recipe_text
from pneumokeras.training.callbacks import Plateau, Schedule
from pneumokeras.training.objectives import require_objective
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

COMPACT_CNN = "compact-cnn"
_TABLES = ("as_published", "corrected", "published")
_IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}
_NETWORKS = (COMPACT_CNN, *REFERENCE_CNNS)
_WITH_TWO_LOGITS = tuple(
    name for name, network in REFERENCE_CNNS.items() if "two_logits" in signature(network).parameters
)
_HYPERPARAMETERS = {
    COMPACT_CNN: {"width": 24, "depth": 4, "dropout": 0.3},
    "backbone": {"units": 256, "dropout": 0.4, "l2": 1e-4},
}


@dataclass(frozen=True)
class Search:
    """A random search, for a recipe that tunes its head.

    Attributes:
        max_trials: how many configurations.
        epochs: at most, of each trial and of the winner's fit.
        units, dropout, l2, learning_rate: what the search draws from; `None` for what `TransferHyperModel`
            draws from.
    """

    max_trials: int = 10
    epochs: int = 10
    units: tuple[int, int, int] | None = None
    dropout: tuple[float, float, float] | None = None
    l2: tuple[float, float] | None = None
    learning_rate: tuple[float, float] | None = None

    @property
    def ranges(self) -> dict[str, Any]:
        """What is drawn from, as far as it is said."""
        ranges = {name: getattr(self, name) for name in ("units", "dropout", "l2", "learning_rate")}
        return {name: value for name, value in ranges.items() if value is not None}


@dataclass(frozen=True)
class Configuration:
    """All that decides what is trained, and how, but the radiographs and the seed.

    Attributes:
        model: a backbone's name, a reference network's, or `"compact-cnn"`.
        image_size: side of the radiographs in pixels.
        weights: of a backbone: `"imagenet"`, `"none"` or a file.
        preprocessing: of a backbone: `"native"` or `"rescale"`.
        head: of a backbone, a name of `pneumokeras.models.head.HEADS`; `None` for the tunable one.
        two_logits: train a network of two logits as such, and reduce it to one afterwards.
        hyperparameters: of the tunable head or of `compact-cnn`.
        search: a random search instead of stages.
        augmentation: arguments of `RadiographDataGenerator`; false for `None`.
        views: as for `pneumokeras.fit`.
        oversample: as for `pneumokeras.fit`.
        class_weights: `"balanced"`, `"none"`, or a weight for `NORMAL` and one for `PNEUMONIA`, whatever
            class 0 and class 1 are called in the data.
        batch_size: radiographs a step.
        keep_val: keep the val split however small it is.
        objective: what makes an epoch the best.
        stages: what is trained one after the other.
        schedule: how each stage is watched.
        threshold: the rule that chooses the operating point.
        threshold_on: `"val"`, or `"test"` as some documents have it, which is no result.

    Raises:
        DataError: if a setting is unknown or out of range, or settings do not go together.
    """

    model: str
    image_size: int = 224
    weights: str = "imagenet"
    preprocessing: str = "native"
    head: str | None = None
    two_logits: bool = False
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    search: Search | None = None
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    views: int | None = None
    oversample: float | None = None
    class_weights: str | Mapping[str, float] = "balanced"
    batch_size: int = 32
    keep_val: bool = False
    objective: str = "val_auc"
    stages: tuple[Stage, ...] = ()
    schedule: Schedule = field(default_factory=Schedule)
    threshold: ThresholdPolicy = field(default_factory=BalancedAccuracy)
    threshold_on: str = "val"

    def __post_init__(self) -> None:
        _require_model(self.model)
        if (self.search is None) == (not self.stages):
            received = "both" if self.stages else "neither"
            raise DataError(f"Expected either stages or a search for {self.model}. Received {received}.")
        if self.search is not None:
            self._require_what_a_search_does()
        self._require_what_the_model_takes()
        weights = self.class_weights
        if weights not in ("balanced", "none") and (
            isinstance(weights, str)
            or set(weights) != {"NORMAL", "PNEUMONIA"}
            or not all(_is_number(weight) and weight > 0 for weight in weights.values())
        ):
            raise DataError(
                "Expected class_weights as balanced, none, or a weight above 0 for NORMAL and one for "
                f"PNEUMONIA. Received {weights!r}."
            )
        if self.oversample is not None and self.class_weights == "balanced":
            raise DataError(
                'Expected oversample or balanced class weights, received both. Say class_weights = "none".'
            )
        require_objective(self.objective)
        if self.threshold_on not in ("val", "test"):
            raise DataError(f"Expected a threshold chosen on val or test. Received {self.threshold_on!r}.")
        _ = self.generator  # refuses what is out of range

    def _require_what_the_model_takes(self) -> None:
        """Refuse settings that would be left out of account, and sizes that no network can have."""
        if not self.has_backbone:
            defaults = {"weights": "imagenet", "preprocessing": "native", "head": None}
            for name, default in defaults.items():
                if getattr(self, name) != default:
                    raise DataError(f"{name} belongs to a backbone, not to {self.model}.")
        if self.two_logits and self.model not in _WITH_TWO_LOGITS:
            raise DataError(
                f"{self.model} has no two logits to train. Expected two_logits beside one of "
                f"{', '.join(_WITH_TWO_LOGITS)}."
            )
        known: Mapping[str, float] = {}
        if self.head is None and self.search is None:
            known = _HYPERPARAMETERS.get("backbone" if self.has_backbone else self.model, {})
        if self.hyperparameters and not known:
            raise DataError(
                "Expected hyperparameters beside compact-cnn, or a backbone whose head is tunable and not "
                f"searched. Received {dict(self.hyperparameters)} for {self.model}."
            )
        _require_known(self.hyperparameters, known, "hyperparameters")
        for name, value in self.hyperparameters.items():
            if isinstance(known[name], int):
                fits, expected = type(value) is int and value >= 1, "a whole number of at least 1"
            else:
                fits, expected = _is_number(value) and 0 <= value < 1, "a number from 0 to below 1"
            if not fits:
                raise DataError(f"Expected {name} in hyperparameters as {expected}. Received {value!r}.")

    def _require_what_a_search_does(self) -> None:
        """Refuse what `pneumokeras.tune` would leave out of account."""
        if not self.has_backbone:
            raise DataError(f"Expected a backbone to search a head for. Received {self.model}.")
        fixed = {"head": None, "class_weights": "balanced", "oversample": None, "schedule": Schedule()}
        for name, value in fixed.items():
            if getattr(self, name) != value:
                raise DataError(f"A search has its own {name}. Expected none beside it.")
        if self.threshold not in (Fixed(), BalancedAccuracy()) or self.threshold_on != "val":
            raise DataError(
                "A search ends at 0.5 and at the highest balanced accuracy on val whose sensitivity is at "
                "least 0.95. Expected one of these thresholds beside it."
            )

    @property
    def generator(self) -> RadiographDataGenerator:
        """What augments the training radiographs."""
        return _made(RadiographDataGenerator, self.augmentation, "augmentation")

    @property
    def has_backbone(self) -> bool:
        """Whether the model is a head on a backbone."""
        return self.model in BACKBONES

    def settings(self) -> dict[str, Any]:
        """As plain JSON, as a run keeps it."""
        plain = {**asdict(self), "stages": [stage.settings() for stage in self.stages]}
        plain["threshold"] = {"policy": self.threshold.name, **asdict(self.threshold)}  # type: ignore[call-overload]
        plain = json.loads(json.dumps(plain))  # lists for tuples, so that it equals what was written down
        return {name: value for name, value in plain.items() if value not in (None, {}, [])}

    @classmethod
    def for_model(cls, model: str, **settings: Any) -> Configuration:
        """A plain one for a model without a recipe: its head for 10 epochs, or all of it for 30.

        Args:
            model: as in `model`.
            **settings: whatever is to be another.

        Raises:
            DataError: if there is no such model, or settings do not go together.
        """
        _require_model(model)
        backbone = model in BACKBONES
        stage = (
            Stage("head", 10, 1e-3)
            if backbone
            else Stage("all", 30, 1e-3, batch_norm="update", optimizer="adam")
        )
        defaults: dict[str, Any] = {
            "image_size": _native_size(model),
            "hyperparameters": _HYPERPARAMETERS.get("backbone" if backbone else model, {}),
            "views": 4 if backbone else None,
            "stages": (stage,),
        }
        return cls(model, **(defaults | settings))

    @classmethod
    def from_toml(cls, table: Mapping[str, Any], name: str) -> Configuration:
        """Read a table of a recipe's file.

        Args:
            table: settings by name; `chosen_on` of the threshold is `threshold_on` here.
            name: what the file calls the table.

        Raises:
            DataError: if a key is missing or unknown, or a value has the wrong type or is out of range.
        """
        _require_known(table, set(signature(cls).parameters) - {"threshold_on"}, name)
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
        return _made(cls, values, name)


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
    except (tomllib.TOMLDecodeError, DataError) as error:
        raise DataError(f"{name} is no recipe: {error}") from error


def _parsed(name: str, content: Mapping[str, Any]) -> Recipe:
    _require_known(content, ("title", "source", "about", "data", "assumed", *_TABLES), "the file")
    first, changed, published = (
        None if table not in content else dict(_table(content[table], table)) for table in _TABLES
    )
    mended = (changed or {}).pop("mended", [])
    variants = {}
    if first is not None:
        variants[AS_PUBLISHED] = Configuration.from_toml(first, "as_published")
    if changed or first is None:
        variants[CORRECTED] = Configuration.from_toml(_merged(first or {}, changed or {}), "corrected")
    values = {
        **{key: value for key, value in content.items() if key not in _TABLES},
        "name": name,
        "published": None if published is None else _published(published),
        "variants": variants,
        "mended": mended,
    }
    return _made(Recipe, values, "the file")


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


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _require_model(name: str) -> None:
    if name not in (known := (*BACKBONES, *_NETWORKS)):
        raise DataError(f"Unknown model {name!r}. Expected one of {', '.join(known)}.")


def _native_size(model: str) -> int:
    if model in BACKBONES:
        return BACKBONES[model].image_size
    return 64 if model == COMPACT_CNN else REFERENCE_CNNS[model]().input_shape[1]


def with_changes(configuration: Configuration, **changes: Any) -> Configuration:
    """The same, but for what is said otherwise; `None` says nothing.

    Args:
        configuration: where to start.
        **changes: attributes of `Configuration`, `epochs` of every stage or of the search.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    epochs = changes.pop("epochs", None)
    if epochs is not None and configuration.search is not None:
        changes["search"] = replace(configuration.search, epochs=epochs)
    elif epochs is not None:
        changes["stages"] = tuple(replace(stage, epochs=epochs) for stage in configuration.stages)
    return replace(configuration, **changes)
