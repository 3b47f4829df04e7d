"""The randomization check of saliency maps: if the weights are random, the map has to change.

A map that stays the same while the layers that it explains lose what they learned shows the radiograph, not
the model.

Reference: Adebayo et al. (2018), NeurIPS, "Sanity Checks for Saliency Maps".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import keras
import numpy as np
from scipy.stats import rankdata

from pneumokeras.evaluation.types import plain
from pneumokeras.explain.gradcam import heatmap_function
from pneumokeras.models.averaging import is_area_mean
from pneumokeras.models.weights import set_weights

MAX_CORRELATION = 0.5
"""Maps have changed if their mean rank correlation with those of the trained network is below this."""

SSIM_SIGMA = 1.5  # pixels at a side of 64, in proportion at other sizes
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for maps in [0, 1]


def reinitialized(model: keras.Model, *, seed: int) -> keras.Model:
    """Return a copy of a model with new initial weights, drawn by its layers' initializers.

    Preprocessing layers keep their weights: the mean and variance of `Normalization`, and the layers that
    reduce radiographs to the size of an ensemble's smaller members.

    Args:
        model: a flat functional or Sequential model.
        seed: the same seed gives the same weights.
    """
    rng = np.random.default_rng(seed)

    def fresh(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(_seeded(layer.get_config(), rng))

    copy = keras.models.clone_model(model, clone_function=fresh)
    for layer, original in zip(copy.layers, model.layers, strict=True):
        if _is_preprocessing(layer):
            layer.set_weights(original.get_weights())
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()
    return copy


def _is_preprocessing(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Normalization) or is_area_mean(layer)


def _seeded(config: Any, rng: np.random.Generator) -> Any:
    """Return a layer's configuration with a seed for each of its initializers."""
    if isinstance(config, Mapping):
        seeded = {key: _seeded(value, rng) for key, value in config.items()}
        return seeded | {"seed": int(rng.integers(2**31))} if "seed" in seeded else seeded
    return config


@dataclass(frozen=True)
class RandomizationStep:
    """Heatmaps after the upper layers of a network were randomized.

    Attributes:
        layers: number of randomized layers with weights, counted from the score downwards.
        lowest: name of the lowest of these layers.
        rank_correlation: mean over images of Spearman's correlation with the trained network's maps, -1 to 1;
            0 for a map that became empty.
        ssim: mean structural similarity to the trained network's maps, -1 to 1.
        empty: number of maps that are all zeros.
    """

    layers: int
    lowest: str
    rank_correlation: float
    ssim: float
    empty: int


@dataclass(frozen=True)
class Randomization:
    """The randomization check of one model's maps, layer by layer from the score downwards.

    Attributes:
        steps: from the last layer alone to the whole network.
        unrelated: mean rank correlation of the trained network's maps with those of *other* images: how alike
            unrelated maps are. NaN for a single image.
        images: number of images in the means: those whose trained map is not empty, since an empty map cannot
            change. Without images the means are NaN, and the check is not passed.
    """

    steps: tuple[RandomizationStep, ...]
    unrelated: float
    images: int

    @property
    def passed(self) -> bool:
        """Whether the maps of the fully randomized network differ: rank correlation below 0.5."""
        return self.steps[-1].rank_correlation < MAX_CORRELATION

    def json(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold."""
        return plain(asdict(self)) | {"passed": self.passed}


def randomization_check(
    model: keras.Model,
    images: np.ndarray,
    *,
    method: str = "grad-cam",
    target: int = 1,
    layer: str | None = None,
    steps: int = 6,
    seed: int = 0,
) -> Randomization:
    """Randomize a network from the score downwards and compare its heatmaps with the trained network's.

    Args:
        model: as for `grad_cam`; it is not changed.
        images: as for `grad_cam`, at least one.
        method: as for `grad_cam`.
        target: as for `grad_cam`.
        layer: as for `grad_cam`.
        steps: number of depths to compare at, evenly spread over the layers with weights.
        seed: seed of the new weights, as for `reinitialized`.

    Raises:
        SettingsError: as for `grad_cam`.
        ModelError: as for `grad_cam`.
    """
    copy = keras.models.clone_model(model)
    set_weights(copy, model.get_weights())
    heatmaps_of = heatmap_function(copy, method=method, target=target, layer=layer)
    trained = heatmaps_of(images)
    not_empty = trained.max(axis=(1, 2)) > 0
    images, trained = np.asarray(images)[not_empty], trained[not_empty]
    fresh = reinitialized(model, seed=seed)
    learned = [
        (own, new)
        for own, new in zip(copy.layers, fresh.layers, strict=True)
        if own.weights and not _is_preprocessing(own)
    ][::-1]
    depths = np.unique(np.linspace(1, len(learned), min(steps, len(learned))).round().astype(int))
    done, results = 0, []
    for depth in depths:
        for own, new in learned[done:depth]:
            own.set_weights(new.get_weights())
        done = int(depth)
        maps = heatmaps_of(images)
        results.append(
            RandomizationStep(
                layers=done,
                lowest=learned[done - 1][0].name,
                rank_correlation=_mean(rank_correlations(trained, maps)),
                ssim=_mean(structural_similarities(trained, maps)),
                empty=int((maps.max(axis=(1, 2)) == 0).sum()),
            )
        )
    others = rank_correlations(trained, np.roll(trained, 1, axis=0))
    return Randomization(tuple(results), _mean(others) if len(trained) > 1 else float("nan"), len(trained))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def rank_correlations(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each map with its counterpart; 0 if one of them is constant.

    Args:
        ones: `(n, height, width)` floats.
        others: floats of the same shape.

    Returns:
        `(n,)` floats in [-1, 1].

    Reference: Spearman (1904), American Journal of Psychology 15(1).
    """

    def ranks(maps: np.ndarray) -> np.ndarray:
        ranked = rankdata(maps.reshape(len(maps), math.prod(maps.shape[1:])), axis=1)
        centered = ranked - ranked.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(centered, axis=1, keepdims=True)
        return np.divide(centered, lengths, out=np.zeros_like(centered), where=lengths > 0)

    return (ranks(ones) * ranks(others)).sum(axis=1)


def structural_similarities(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean structural similarity of each map to its counterpart.

    `tf.image.ssim` leaves out the border, which changes the mean by up to 0.1; here the border is reflected.

    Args:
        ones: `(n, height, width)` floats in [0, 1].
        others: floats of the same shape.

    Returns:
        `(n,)` floats in [-1, 1].

    Reference: Wang et al. (2004), IEEE Transactions on Image Processing 13(4).
    """
    return np.array([_ssim(one, other) for one, other in zip(ones, others, strict=True)])


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    sigma = SSIM_SIGMA * min(one.shape) / 64

    def local(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values.astype(np.float64), (0, 0), sigma)

    mean_one, mean_other = local(one), local(other)
    variances = local(one**2) - mean_one**2 + local(other**2) - mean_other**2
    covariance = local(one * other) - mean_one * mean_other
    similarity = (2 * mean_one * mean_other + SSIM_C1) * (2 * covariance + SSIM_C2)
    return float((similarity / ((mean_one**2 + mean_other**2 + SSIM_C1) * (variances + SSIM_C2))).mean())
