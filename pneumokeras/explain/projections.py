"""Radiographs as points of a plane, before and after a network: how far it pulls the classes apart."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pneumokeras.core.errors import DataError
from pneumokeras.explain.randomization import reinitialized
from pneumokeras.models.averaging import members_of
from pneumokeras.models.graph import ModelGraph, layer_outputs

PERPLEXITY = 30.0
PCA_BEFORE_TSNE = 50  # components; as van der Maaten & Hinton do, which also saves most of the time
FEWEST = 5


@dataclass(frozen=True, eq=False)
class Projection:
    """Radiographs as points of a plane.

    Attributes:
        points: `(n, 2)` floats.
        labels: `(n,)` integers, 1 = PNEUMONIA, or `None` where nobody said.
        method: `"PCA"` or `"t-SNE"`.
        source: what was projected, such as `"pixels"` or `"features after training"`.
        explained_variance: the share of all variance along either axis, in [0, 1]; `None` for t-SNE, whose
            axes mean nothing.
    """

    points: np.ndarray
    labels: np.ndarray | None
    method: str
    source: str = ""
    explained_variance: tuple[float, ...] | None = None


def pca(values: np.ndarray, *, labels: np.ndarray | None = None, source: str = "") -> Projection:
    """The plane in which values vary most.

    Args:
        values: `(n, ...)` numbers, a row each.
        labels: `(n,)` integers to note with the points.
        source: what the values are.

    Raises:
        DataError: if there are fewer than five rows.

    Reference: Pearson (1901), Philosophical Magazine 2(11).
    """
    rows = _rows(values)
    fitted = PCA(2, svd_solver="full" if min(rows.shape) < 500 else "auto", random_state=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 where all rows are alike
        points = fitted.fit_transform(rows)
    shares = tuple(float(share) for share in np.nan_to_num(fitted.explained_variance_ratio_))
    return Projection(points, labels, "PCA", source, shares)


def tsne(
    values: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    source: str = "",
    perplexity: float = PERPLEXITY,
    seed: int = 0,
) -> Projection:
    """A plane in which neighbors stay neighbors. Distances and sizes of clusters mean nothing in it.

    Args:
        values: `(n, ...)` numbers, a row each; beyond 50 columns their first 50 principal components count.
        labels: `(n,)` integers to note with the points.
        source: what the values are.
        perplexity: about how many neighbors a point has; at most a third of the points.
        seed: of what is random in it.

    Raises:
        DataError: if there are fewer than five rows.

    Reference: van der Maaten & Hinton (2008), Journal of Machine Learning Research 9.
    """
    rows = _rows(values)
    if not rows.any():  # all alike: scikit-learn would give NaN
        return Projection(np.zeros((len(rows), 2)), labels, "t-SNE", source)
    most = min(PCA_BEFORE_TSNE, *rows.shape)
    if rows.shape[1] > most:
        rows = PCA(most, random_state=seed).fit_transform(rows)
    fitted = TSNE(2, perplexity=min(perplexity, (len(rows) - 1) / 3), init="pca", random_state=seed)
    return Projection(fitted.fit_transform(rows), labels, "t-SNE", source)


def features(
    model: keras.Model, images: np.ndarray, *, layer: str | None = None, batch_size: int = 32
) -> np.ndarray:
    """What a network makes of each radiograph before its last dense layer draws a line.

    Args:
        model: as for `grad_cam`.
        images: as for `grad_cam`.
        layer: a layer whose output to take instead; its rows and columns are averaged, if it has any.
        batch_size: images at a time.

    Returns:
        `(n, channels)` `float32`; of an ensemble every member's, side by side.

    Raises:
        ModelError: if the model has no such layer, or no dense layer.
    """
    members = members_of(model) if layer is None else [model]
    return np.concatenate([_features(member, images, layer, batch_size) for member in members], axis=1)


def _features(model: keras.Model, images: np.ndarray, layer: str | None, batch_size: int) -> np.ndarray:
    graph = ModelGraph.of(model)
    tensor = graph.features if layer is None else graph.output(layer)
    if len(tensor.shape) == 4:
        tensor = keras.ops.mean(tensor, axis=(1, 2))
    return layer_outputs(model, graph, tensor, images, batch_size=batch_size)


def project_radiographs(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    untrained: keras.Model | None = None,
    layer: str | None = None,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
) -> tuple[Projection, ...]:
    """PCA and t-SNE of raw pixels, and of the network's features before and after its training.

    Args:
        model: the trained model.
        images: as for `grad_cam`.
        labels: `(n,)` integers, 1 = PNEUMONIA, or `None`.
        untrained: the network before its training. By default `reinitialized(model, seed=seed)`: what the
            network would be had nothing been learnt. That is where a network trained from scratch began, but
            for the seed; one that began with ImageNet's weights began elsewhere.
        layer: as for `features`.
        perplexity: as for `tsne`.
        seed: of the initial weights and of t-SNE.

    Returns:
        Six projections: of pixels, of features before training and of features after training, each by PCA
        and then by t-SNE.

    Raises:
        DataError: if there are fewer than five images.
        ModelError: as `features`.
    """
    before = reinitialized(model, seed=seed) if untrained is None else untrained
    sources = {
        "pixels": np.asarray(images, np.float32),
        "features before training": features(before, images, layer=layer),
        "features after training": features(model, images, layer=layer),
    }
    return tuple(
        projection
        for source, values in sources.items()
        for projection in (
            pca(values, labels=labels, source=source),
            tsne(values, labels=labels, source=source, perplexity=perplexity, seed=seed),
        )
    )


def _rows(values: np.ndarray) -> np.ndarray:
    """Values as `(n, columns)` floats about zero, whose spread is 1 over all: tiny features are no noise."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    if len(rows) < FEWEST:
        raise DataError(f"Expected at least {FEWEST} radiographs to project. Received {len(rows)}.")
    rows = np.pad(rows, ((0, 0), (0, max(0, 2 - rows.shape[1]))))  # a plane needs two columns
    rows = rows - rows.mean(axis=0)
    spread = rows.std()
    return rows / spread if spread > 0 else rows
