"""Average several models in one flat graph that gives the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from pneumokeras.core.errors import ModelError
from pneumokeras.models.backbones import frozen
from pneumokeras.models.head import sigmoid
from pneumokeras.models.saving import description_of, set_description

MEMBER_LOGITS = "member_logits"
AREA_MEANS = "area_means_of"


def averaged(
    models: Mapping[str, keras.Model], *, temperatures: Sequence[float] | None = None
) -> keras.Model:
    """Return one model that gives the mean of several models' probabilities and keeps the model contract.

    The layers of member k are copied as `member<k>_...` and frozen. The input has the size of the largest
    member; for smaller members, radiographs are averaged over areas a second time, as the loader does it.
    On 25 radiographs of original size read at 224 pixels, this differs from reading them at the member's own
    size by 0.2 gray levels on average at 28 pixels and by 0.5 at 100; at sharp edges by up to 9 and 30.

    Instead of the mean p, its logit is computed from the members' logits z, so that it is exact even where
    the probability underflows in float32: log p - log(1 - p) = LSE(log s(z)) - LSE(log s(-z)), where s is the
    sigmoid and LSE the logarithm of a sum of exponentials.

    Args:
        models: two or more models of this package, by the names that messages use for them.
        temperatures: divisors of the members' logits, above 0; by default 1.

    Returns:
        A new model, uncompiled. The members stay as they are.

    Raises:
        ModelError: if there are fewer than two, their classes, padding, channels or (with padding)
            proportions differ, or one does not end in the sigmoid of one logit.
    """
    require_alike(models)
    descriptions = [description_of(model) for model in models.values()]
    height, width = np.max([each.image_size for each in descriptions], axis=0).tolist()
    channels = next(iter(models.values())).input_shape[-1]
    inputs = keras.Input((height, width, channels), name="radiograph")
    logits = []
    for number, (name, model) in enumerate(models.items(), start=1):
        logit = _member(name, model, inputs, prefix=f"member{number}")
        if temperatures is not None:
            scale = 1 / temperatures[number - 1]
            logit = layers.Rescaling(scale, name=f"member{number}_temperature")(logit)
        logits.append(logit)
    together = layers.Concatenate(name=MEMBER_LOGITS)(logits)
    # It changes nothing, but every model of this package ends in a dense layer of this name.
    last = layers.Dense(1, kernel_initializer="ones", name="logit", trainable=False)
    ensemble = keras.Model(inputs, sigmoid(last(_logit_of_mean(together))), name="ensemble")
    set_description(
        ensemble,
        classes=descriptions[0].classes,
        classes_known=all(each.classes_known for each in descriptions),
        architecture=f"ensemble of {', '.join(each.architecture for each in descriptions)}",
        preprocessing=_shared_or_by_member([each.preprocessing for each in descriptions]),
        weights=_shared_or_by_member([each.weights for each in descriptions]),
        pad=descriptions[0].pad,
        bits=next((each.bits for each in descriptions if each.bits is not None), None),
    )
    return ensemble


def require_alike(models: Mapping[str, keras.Model]) -> None:
    """Refuse models that `averaged` cannot average.

    Raises:
        ModelError: if there are fewer than two, or their inputs or classes differ.
    """
    if len(models) < 2:
        raise ModelError(f"Expected two or more models to average. Received {len(models)}.")
    (first, model), *others = models.items()
    known = _what_must_agree(model)
    for other, another in others:
        for what, value in _what_must_agree(another).items():
            if value != known.get(what, value):
                raise ModelError(
                    f"{first} and {other} cannot be averaged: they have {what} {known[what]} and {value}. "
                    "Expected models with equal inputs and classes."
                )


def members_of(model: keras.Model) -> list[keras.Model]:
    """Return an ensemble's member models, flattening nested ensembles.

    A model that is not an ensemble is returned as its only member.

    Args:
        model: any functional model, also one loaded by plain Keras.

    Returns:
        Models from the ensemble's input to each member's logit, with the ensemble's own layers.
    """
    together = [layer for layer in model.layers if layer.name.endswith(MEMBER_LOGITS)]
    if not together:
        return [model]
    parts = [keras.Model(model.inputs[0], logit) for logit in together[-1].input]
    return [member for part in parts for member in members_of(part)]


def is_area_mean(layer: keras.Layer) -> bool:
    """Return whether a layer of an ensemble reduces radiographs to a smaller member's size."""
    return AREA_MEANS in layer.name


def _member(name: str, model: keras.Model, inputs: keras.KerasTensor, *, prefix: str) -> keras.KerasTensor:
    """Copy a model onto the ensemble's input and return its `(n, 1)` logit."""
    last = model.layers[-1]
    fused = type(last) is layers.Dense and last.units == 1
    if not (fused or isinstance(last, layers.Activation)) or last.activation is not keras.activations.sigmoid:
        raise ModelError(
            f"{name} ends in {type(last).__name__} {last.name!r}. Expected the sigmoid of one logit."
        )
    body = keras.Model(model.inputs[0], last.output if fused else last.input)
    prepared = _reduced(inputs, model.input_shape[1:3], prefix=prefix)

    def copied(layer: keras.Layer) -> keras.Layer:
        copy = frozen(layer, name=f"{prefix}_{layer.name}")
        if fused and layer is last:
            copy.activation = keras.activations.linear
        return copy

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        args = keras.tree.map_structure(lambda value: prepared if value is inputs else value, args)
        return layer(*args, **kwargs)

    copy = keras.models.clone_model(body, input_tensors=inputs, clone_function=copied, call_function=call)
    for layer in body.layers:
        if layer.weights:
            twin = copy.get_layer(f"{prefix}_{layer.name}")
            twin.set_weights(layer.get_weights())
            if isinstance(twin, layers.Normalization):
                twin.finalize_state()  # it would keep using the mean and variance it was built with
    return copy.output


def _reduced(inputs: keras.KerasTensor, image_size: tuple[int, int], *, prefix: str) -> keras.KerasTensor:
    """Average radiographs over areas: one matrix for the rows, one for the columns.

    `Resizing` also averages over areas, but has no gradient there; its anti-aliasing blurs.
    """
    tensor = inputs
    for axis, equation, name in ((1, "nrcg,rs->nscg", "rows"), (2, "nrcg,cs->nrsg", "columns")):
        before, after = tensor.shape[axis], image_size[axis - 1]
        if before != after:
            shape = list(tensor.shape[1:])
            shape[axis - 1] = after
            means = layers.EinsumDense(equation, shape, trainable=False, name=f"{prefix}_{AREA_MEANS}_{name}")
            tensor = means(tensor)
            means.set_weights([_area_means(before, after)])
    return tensor


def _area_means(before: int, after: int) -> np.ndarray:
    """Return the `(before, after)` share of each pixel in each of the fewer pixels that cover them."""
    edges = np.linspace(0, before, after + 1)
    pixel = np.arange(before)[:, np.newaxis]
    overlap = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    return (np.clip(overlap, 0, None) * after / before).astype(np.float32)


def _logit_of_mean(logits: keras.KerasTensor) -> keras.KerasTensor:
    """Return the `(n, 1)` logit of the mean sigmoid of `(n, k)` logits; the logarithm of k cancels."""
    positive = ops.logsumexp(ops.log_sigmoid(logits), axis=-1, keepdims=True)
    negative = ops.logsumexp(ops.log_sigmoid(ops.negative(logits)), axis=-1, keepdims=True)
    return ops.subtract(positive, negative)


def _what_must_agree(model: keras.Model) -> dict[str, Any]:
    description = description_of(model)
    height, width = description.image_size
    agreeing = {
        "classes": ", ".join(description.classes),
        "padding": "on" if description.pad else "off",
        "channels": model.input_shape[-1],
    }
    # Padding puts the black bars of other proportions elsewhere; a stretched image can be stretched again.
    if description.pad:
        agreeing["height by width"] = height / width
    if description.bits is not None:
        agreeing["images of so many bits"] = description.bits
    return agreeing


def _shared_or_by_member(facts: Sequence[str]) -> str:
    """Return the fact that all members share, or each member's own if they differ."""
    if len(set(facts)) == 1:
        return facts[0]
    return "by member: " + "; ".join(f"{number} {fact}" for number, fact in enumerate(facts, start=1))
