"""A network in parts, found by its structure: its stages, what may be trained of it, what stays frozen.

A layer is a *cut* if everything that follows sees the radiograph only through its output. A backbone is a
row of stages, each of which halves the feature map. A stage ends after its last merging of branches, at the
narrowest cut there is: what comes between that and the smaller map only prepares the next stage.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import keras
import numpy as np
from keras import Operation

from pneumokeras.core.errors import ModelError
from pneumokeras.models.backbones import acts_in_training, frozen, set_weights
from pneumokeras.models.saving import description_of

_NEXT_STAGE = 0.7
"""A map whose side is below this share of its stage's begins the next stage; padding changes it by less."""


@dataclass(frozen=True)
class Parts:
    """A model cut in two.

    Attributes:
        lower: a frozen copy, from raw pixels to what enters the upper part.
        upper: a copy of the rest, trainable where it was asked for, with the dropout that a frozen
            backbone is built without.
    """

    lower: keras.Model
    upper: keras.Model

    def write_back(self, model: keras.Model) -> None:
        """Give the model they were cut from the weights of the upper part."""
        copy_weights(self.upper, model)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give the layers of a model the weights of another's layers of the same names; it must have them all."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def stage_ends(model: keras.Model) -> tuple[str, ...]:
    """The names of the layers that a network's stages end with, from the radiograph upwards.

    The last one gives the last feature map: what heads pool and Grad-CAM weighs.

    Args:
        model: a flat functional model, a backbone or one with a head.

    Raises:
        ModelError: if it has no feature map, or takes images of any size.
    """
    sources = _sources(model)
    maps = _feature_maps(model, sources)
    if not maps:
        raise ModelError(
            f"{model.name} has no feature map. Expected a network of (n, rows, columns, channels)."
        )
    if any(None in operation.output.shape[1:] for operation in maps):
        raise ModelError(f"{model.name} takes images of any size. Expected one of a fixed size.")
    *lower, _ = _stages(model, maps)
    ends = []
    for stage in lower:
        merges = [place for place, operation in enumerate(stage) if len(sources[operation.name]) > 1]
        after = stage[merges[-1] :] if merges else stage
        ends.append(min(reversed(after), key=lambda operation: math.prod(operation.output.shape[1:])).name)
    return (*ends, maps[-1].name)


def feature_maps(model: keras.Model) -> tuple[str, ...]:
    """The names of the layers through whose feature map alone what follows sees the radiograph, in order.

    Args:
        model: a flat functional model.

    Raises:
        ModelError: if it has no graph to cut.
    """
    return tuple(operation.name for operation in _feature_maps(model, _sources(model)))


def trainable_layers(model: keras.Model, what: str) -> frozenset[str]:
    """The names of the layers that a stage of fine-tuning trains; the head always is among them.

    Args:
        model: a flat functional model with a head.
        what: `"head"`; `"stage5"` for that stage of the backbone and those above; `"top 20"` for the
            backbone's last 20 layers; `"all"`.

    Raises:
        ModelError: if there is no such part.
    """
    names = [layer.name for layer in model.layers]
    ends = stage_ends(model)
    head = names.index(ends[-1]) + 1
    stage, top = re.fullmatch(r"stage(\d+)", what), re.fullmatch(r"top (\d+)", what)
    if what == "head":
        first = head
    elif what == "all":
        first = 0
    elif top and 1 <= int(top[1]) <= head:
        first = head - int(top[1])
    elif stage and 1 <= int(stage[1]) <= len(ends):
        number = int(stage[1])
        first = names.index(ends[number - 2]) + 1 if number > 1 else 0
    else:
        raise ModelError(
            f"Nothing in {model.name} is called {what!r}. Expected head, stage1 to stage{len(ends)}, "
            f"top 1 to top {head}, or all."
        )
    return frozenset(names[first:])


def cut(model: keras.Model, what: str, *, batch_norm: str = "keep", seed: int = 0) -> Parts:
    """Cut a model where the first layer to be trained begins.

    By default the backbone's BatchNorm stays in inference mode, its scale and offset as they are, or the few
    images of a batch would ruin its statistics.

    Args:
        model: a flat functional model with a head.
        what: what is trainable, as for `trainable_layers`.
        batch_norm: `"keep"`; or `"update"` to train it and its statistics in the upper part, too.
        seed: of the restored dropout.

    Raises:
        ModelError: if there is no such part, or the model is not one flat graph.
    """
    if any(isinstance(layer, keras.Model) for layer in model.layers):
        raise ModelError(
            f"{model.name} holds a nested model. Expected one flat graph, as a HyperModel builds."
        )
    trainable, head = trainable_layers(model, what), trainable_layers(model, "head")
    order = model.operations.index
    first = min(
        (order(layer) for layer in model.layers if layer.name in trainable and _differs_in_training(layer)),
        default=len(model.operations) - 1,
    )
    cuts = _cuts(model, _sources(model))
    entrance = [operation for operation in cuts if order(operation) < first][-1]
    rates = description_of(model).frozen_dropout
    seeds = {name: seed + number for number, name in enumerate(reversed([*rates]))}

    def copied(layer: keras.Layer) -> keras.Layer:
        if layer.name not in trainable:
            return frozen(layer)
        config = layer.get_config()
        if layer.name in rates:
            config |= {"rate": rates[layer.name], "seed": seeds[layer.name]}
        copy = type(layer).from_config(config)
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        copy.trainable = batch_norm == "update" or layer.name in head or not is_norm
        return copy

    def part(inputs: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.Model:
        try:
            original = keras.Model(inputs, outputs)
        except ValueError as error:  # a layer that is called more than once has no one place
            raise ModelError(f"{model.name} cannot be cut for {what}: {error}") from error
        copy = keras.models.clone_model(original, clone_function=copied)
        set_weights(copy, original.get_weights())
        return copy

    return Parts(part(model.inputs[0], entrance.output), part(entrance.output, model.outputs[0]))


def fingerprint(model: keras.Model) -> str:
    """A hash of what a model computes: its layers, how they are linked, their weights; names do not count."""
    config = model.get_config()
    numbers = {layer["name"]: number for number, layer in enumerate(config["layers"])}

    def linked(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: linked(part) for key, part in value.items()}
        if not isinstance(value, list | tuple):
            return value
        is_link = len(value) == 3 and isinstance(value[0], str)  # layer, call and tensor
        return [numbers[value[0]], *value[1:]] if is_link else [linked(part) for part in value]

    def own(layer: Mapping[str, Any]) -> dict[str, Any]:
        return {key: part for key, part in layer["config"].items() if key not in ("name", "trainable")}

    structure = [
        [[layer["class_name"], own(layer), linked(layer["inbound_nodes"])] for layer in config["layers"]],
        linked([config["input_layers"], config["output_layers"]]),
    ]
    digest = blake2b(json.dumps(structure, sort_keys=True).encode(), digest_size=16)
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _feature_maps(model: keras.Model, sources: Mapping[str, set[str]]) -> list[Operation]:
    return [operation for operation in _cuts(model, sources) if len(operation.output.shape) == 4]


def _cuts(model: keras.Model, sources: Mapping[str, set[str]]) -> list[Operation]:
    """The layers through whose output alone the rest sees the radiograph, in order."""
    last_use = {name: position for position, inputs in enumerate(sources.values()) for name in inputs}
    cuts, open_until = [], 0
    for position, operation in enumerate(model.operations):
        if open_until <= position and isinstance(operation.output, keras.KerasTensor):
            cuts.append(operation)
        open_until = max(open_until, last_use.get(operation.name, position))
    return cuts


def _sources(model: keras.Model) -> dict[str, set[str]]:
    """For each layer, in order, the names of those it takes its input from."""

    def histories(value: Any) -> set[str]:
        if isinstance(value, Mapping):
            if "keras_history" in value:
                return {value["keras_history"][0]}
            value = list(value.values())
        return set(itertools.chain(*map(histories, value))) if isinstance(value, list | tuple) else set()

    try:
        return {layer["name"]: histories(layer["inbound_nodes"]) for layer in model.get_config()["layers"]}
    except (KeyError, NotImplementedError) as error:
        raise ModelError(f"{model.name} has no graph to cut. Expected a functional Keras model.") from error


def _stages(model: keras.Model, maps: list[Operation]) -> list[list[Operation]]:
    """The cuts of each stage. What learns nothing, such as a last pooling, is no stage of its own."""
    runs: list[list[Operation]] = []
    for operation in maps:
        if not runs or _side(operation) <= _NEXT_STAGE * _side(runs[-1][0]):
            runs.append([])
        runs[-1].append(operation)
    stages: list[list[Operation]] = []
    start = 0
    for run in runs:
        end = model.operations.index(run[-1]) + 1
        if any(map(_learns, model.operations[start:end])):
            stages.append(run)
        elif stages:
            stages[-1] += run
        start = end
    return stages or [maps]


def _learns(operation: Operation) -> bool:
    return bool(getattr(operation, "weights", ())) and not isinstance(operation, keras.layers.Normalization)


def _differs_in_training(layer: keras.Layer) -> bool:
    """Whether a layer learns, or acts in training only, as dropout does."""
    return bool(layer.weights) or acts_in_training(layer)


def _side(operation: Operation) -> int:
    return max(operation.output.shape[1:3])
