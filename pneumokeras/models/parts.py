"""Find a network's stages by its structure, and cut it into a frozen and a trainable part.

A layer is a *bottleneck* if every path from the radiograph to the output passes through it. A backbone is a
sequence of stages, each of which halves the feature map. A stage ends after its last merging of branches, at
the narrowest bottleneck; the layers between that and the smaller map only prepare the next stage.
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

from pneumokeras.core.code import hash_of_code
from pneumokeras.core.errors import ModelError
from pneumokeras.models.backbones import acting_layers, acts_in_training, frozen
from pneumokeras.models.layers import own_layer_classes
from pneumokeras.models.saving import description_of, own_name
from pneumokeras.models.weights import set_weights

_NEXT_STAGE = 0.7
"""A map whose larger side is below this share of the first map's in its stage begins the next stage.

Convolutions without padding shrink a map by less.
"""


@dataclass(frozen=True)
class Parts:
    """A model cut in two.

    Attributes:
        lower: a frozen copy, from raw pixels to the input of the upper part.
        upper: a copy of the rest, trainable where requested, with the dropout that a frozen backbone is
            built without.
    """

    lower: keras.Model
    upper: keras.Model

    @property
    def storable(self) -> bool:
        """Whether features of the lower part can be stored: it has weights, and nothing acts in training."""
        return bool(self.lower.weights) and not acting_layers(self.lower)

    def write_back(self, model: keras.Model) -> None:
        """Copy the weights of the upper part into the model that was cut."""
        copy_weights(self.upper, model)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy all weights of one model to the layers of the same names in another."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def stage_ends(model: keras.Model) -> tuple[str, ...]:
    """Return the names of the last layers of a network's stages, from the radiograph upwards.

    The last one returns the last feature map, which heads pool and Grad-CAM weighs.

    Args:
        model: a flat functional model, a backbone or one with a head.

    Raises:
        ModelError: if it has no feature map or no fixed image size.
    """
    sources = _sources(model)
    maps = _feature_maps(model, sources)
    if not maps:
        raise ModelError(
            f"{own_name(model)} has no feature map. Expected a network of (n, rows, columns, channels)."
        )
    if any(None in operation.output.shape[1:] for operation in maps):
        raise ModelError(f"{own_name(model)} takes images of any size. Expected one of a fixed size.")
    *lower, _ = _stages(model, maps)
    ends = []
    for stage in lower:
        merges = [place for place, operation in enumerate(stage) if len(sources[operation.name]) > 1]
        after = stage[merges[-1] :] if merges else stage
        ends.append(min(reversed(after), key=lambda operation: math.prod(operation.output.shape[1:])).name)
    return (*ends, maps[-1].name)


def feature_maps(model: keras.Model) -> tuple[str, ...]:
    """Return the names of the bottleneck layers whose output is a feature map, in order.

    Args:
        model: a flat functional model.

    Raises:
        ModelError: if it is not a functional model.
    """
    return tuple(operation.name for operation in _feature_maps(model, _sources(model)))


def trainable_layers(model: keras.Model, what: str) -> frozenset[str]:
    """Return the names of the layers that a stage of fine-tuning trains, always with the head.

    Args:
        model: a flat functional model with a head.
        what: `"head"`; `"stage5"` for that stage of the backbone and all above it; `"top 20"` for the
            backbone's last 20 layers; or `"all"`.

    Raises:
        ModelError: if there is no such part.
    """
    if nested := [own_name(layer) for layer in model.layers if isinstance(layer, keras.Model)]:
        raise ModelError(
            f"{own_name(model)} holds the nested model {nested[0]}, so it has no parts to train. Expected "
            f"one flat graph, as TransferHyperModel({nested[0]}) builds."
        )
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
            f"{own_name(model)} has no part {what!r}. Expected head, stage1 to stage{len(ends)}, "
            f"top 1 to top {head}, or all."
        )
    return frozenset(names[first:])


def cut(model: keras.Model, what: str, *, batch_norm: str = "keep", seed: int = 0) -> Parts:
    """Cut a model in two below the first layer to be trained.

    By default the backbone's BatchNorm stays in inference mode, including scale and offset, because the few
    images of a batch would ruin its statistics.

    Args:
        model: a flat functional model with a head.
        what: the trainable part, as for `trainable_layers`.
        batch_norm: `"keep"`, or `"update"` to train it in the upper part and update its statistics.
        seed: of the restored dropout.

    Raises:
        ModelError: if there is no such part, or the model is no flat graph.
    """
    trainable, head = trainable_layers(model, what), trainable_layers(model, "head")
    order = model.operations.index
    first = min(
        (order(layer) for layer in model.layers if layer.name in trainable and _differs_in_training(layer)),
        default=len(model.operations) - 1,
    )
    bottlenecks = _bottlenecks(model, _sources(model))
    entrance = [operation for operation in bottlenecks if order(operation) < first][-1]
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
        except ValueError as error:  # a layer is called more than once, on both sides of the cut
            raise ModelError(f"{own_name(model)} cannot be cut for {what}: {error}") from error
        copy = keras.models.clone_model(original, clone_function=copied)
        set_weights(copy, original.get_weights())
        return copy

    return Parts(part(model.inputs[0], entrance.output), part(entrance.output, model.outputs[0]))


def fingerprint(model: keras.Model) -> str:
    """Return a hash of what a model computes: its layers, their links and their weights, without names."""
    config = model.get_config()
    numbers = {layer["name"]: number for number, layer in enumerate(config["layers"])}

    def with_numbers(value: Any) -> Any:
        """Return links with each layer's number in place of its name."""
        if isinstance(value, Mapping):
            return {key: with_numbers(part) for key, part in value.items()}
        if not isinstance(value, list | tuple):
            return value
        is_link = len(value) == 3 and isinstance(value[0], str)  # layer, call and tensor
        return [numbers[value[0]], *value[1:]] if is_link else [with_numbers(part) for part in value]

    def unnamed(layer: Mapping[str, Any]) -> dict[str, Any]:
        return {key: part for key, part in layer["config"].items() if key not in ("name", "trainable")}

    structure = [
        [
            [layer["class_name"], unnamed(layer), with_numbers(layer["inbound_nodes"])]
            for layer in config["layers"]
        ],
        with_numbers([config["input_layers"], config["output_layers"]]),
    ]
    digest = blake2b(json.dumps(structure, sort_keys=True).encode(), digest_size=16)
    if custom := own_layer_classes(model):
        digest.update(hash_of_code(*custom).encode())  # a config does not hold a user's code
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _feature_maps(model: keras.Model, sources: Mapping[str, set[str]]) -> list[Operation]:
    return [operation for operation in _bottlenecks(model, sources) if len(operation.output.shape) == 4]


def _bottlenecks(model: keras.Model, sources: Mapping[str, set[str]]) -> list[Operation]:
    """Return the layers that every path from the radiograph to the output passes through, in order."""
    last_use = {name: position for position, inputs in enumerate(sources.values()) for name in inputs}
    bottlenecks, open_until = [], 0
    for position, operation in enumerate(model.operations):
        if open_until <= position and isinstance(operation.output, keras.KerasTensor):
            bottlenecks.append(operation)
        open_until = max(open_until, last_use.get(operation.name, position))
    return bottlenecks


def _sources(model: keras.Model) -> dict[str, set[str]]:
    """Return, for each layer in order, the names of the layers it takes its input from."""

    def histories(value: Any) -> set[str]:
        if isinstance(value, Mapping):
            if "keras_history" in value:
                return {value["keras_history"][0]}
            value = list(value.values())
        return set(itertools.chain(*map(histories, value))) if isinstance(value, list | tuple) else set()

    try:
        return {layer["name"]: histories(layer["inbound_nodes"]) for layer in model.get_config()["layers"]}
    except (KeyError, NotImplementedError) as error:
        raise ModelError(
            f"{own_name(model)} has no graph. Expected a functional Keras model, such as "
            "keras.Model(model.inputs[0], model.outputs[0]) of a Sequential one."
        ) from error


def _stages(model: keras.Model, maps: list[Operation]) -> list[list[Operation]]:
    """Group the bottleneck maps into stages; a last pooling has no weights and joins the stage before."""
    runs: list[list[Operation]] = []
    for operation in maps:
        if not runs or _larger_side(operation) <= _NEXT_STAGE * _larger_side(runs[-1][0]):
            runs.append([])
        runs[-1].append(operation)
    stages: list[list[Operation]] = []
    start = 0
    for run in runs:
        end = model.operations.index(run[-1]) + 1
        if any(map(_has_trained_weights, model.operations[start:end])):
            stages.append(run)
        elif stages:
            stages[-1] += run
        start = end
    return stages or [maps]


def _has_trained_weights(operation: Operation) -> bool:
    return bool(getattr(operation, "weights", ())) and not isinstance(operation, keras.layers.Normalization)


def _differs_in_training(layer: keras.Layer) -> bool:
    """Return whether a layer has weights, or acts in training only, as dropout does."""
    return bool(layer.weights) or acts_in_training(layer)


def _larger_side(operation: Operation) -> int:
    return max(operation.output.shape[1:3])
