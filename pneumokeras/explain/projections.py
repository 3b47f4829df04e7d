"""Projection of radiographs into a plane, which shows how far training separates the classes."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pneumokeras.core.errors import DataError
from pneumokeras.data.inputs import Images
from pneumokeras.explain.inputs import labels_of, model_images
from pneumokeras.explain.randomization import reinitialized
from pneumokeras.models.averaging import members_of
from pneumokeras.models.graph import ModelGraph, layer_outputs
from pneumokeras.models.saving import ModelSource, model_of

PERPLEXITY = 30.0
PCA_BEFORE_TSNE = 50  # components, as in van der Maaten & Hinton; it also saves most of the time
MIN_ROWS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Projection:
    """Radiographs as points in a plane.

    Attributes:
        points: `(n, 2)` floats.
        labels: `(n,)` integers, 1 = PNEUMONIA, or `None` if unlabeled.
        method: `"PCA"` or `"t-SNE"`.
        source: what was projected, such as `"pixels"` or `"features after training"`.
        explained_variance: share of the total variance along each axis, in [0, 1]; `None` for t-SNE, whose
            axes have no meaning.

    Example:
        >>> projection = pk.pca(np.eye(6), source="identity")
        >>> projection.method, projection.source
        ('PCA', 'identity')
    """

    points: np.ndarray
    labels: np.ndarray | None
    method: str
    source: str = ""
    explained_variance: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        """Return one line with the method, what was projected, and the number of points."""
        source = f" of {self.source}" if self.source else ""
        return f"<Projection: {self.method}{source}, {len(self.points)} radiographs>"


def pca(values: np.ndarray, *, labels: np.ndarray | None = None, source: str = "") -> Projection:
    """Project values onto the plane of their two largest principal components.

    Args:
        values: `(n, ...)` numbers, one row per radiograph.
        labels: `(n,)` integers to keep with the points.
        source: what the values are.

    Raises:
        DataError: if there are fewer than five rows.

    Reference: Pearson (1901), Philosophical Magazine 2(11).

    Example:
        >>> projection = pk.pca(np.random.default_rng(0).normal(size=(20, 8)))
        >>> projection.points.shape
        (20, 2)
    """
    rows = _rows(values)
    fitted = PCA(2, svd_solver="full" if min(rows.shape) < 500 else "auto", random_state=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 if all rows are equal
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
    """Project values into a plane that keeps neighbors together, by t-SNE.

    Distances between clusters and their sizes have no meaning.

    Args:
        values: `(n, ...)` numbers, one row per radiograph; more than 50 columns are reduced to their first 50
            principal components.
        labels: `(n,)` integers to keep with the points.
        source: what the values are.
        perplexity: approximate number of neighbors of a point; limited to a third of the points.
        seed: seed of PCA and t-SNE.

    Raises:
        DataError: if there are fewer than five rows.

    Reference: van der Maaten & Hinton (2008), Journal of Machine Learning Research 9.

    Example:
        >>> values = np.random.default_rng(0).normal(size=(20, 8))
        >>> pk.tsne(values, perplexity=5, seed=1).points.shape
        (20, 2)
    """
    rows = _rows(values)
    if not rows.any():  # all rows are equal: scikit-learn would return NaN
        return Projection(np.zeros((len(rows), 2)), labels, "t-SNE", source)
    components = min(PCA_BEFORE_TSNE, *rows.shape)
    if rows.shape[1] > components:
        rows = PCA(components, random_state=seed).fit_transform(rows)
    fitted = TSNE(2, perplexity=min(perplexity, (len(rows) - 1) / 3), init="pca", random_state=seed)
    return Projection(fitted.fit_transform(rows), labels, "t-SNE", source)


def features(
    model: keras.Model, images: Images, *, layer: str | None = None, batch_size: int = 32
) -> np.ndarray:
    """Return what enters the network's last dense layer, for each radiograph.

    Args:
        model: as for `grad_cam`.
        images: as for `grad_cam`.
        layer: a layer whose output to return instead, averaged over rows and columns if it has any.
        batch_size: images per batch.

    Returns:
        `(n, channels)` `float32`; for an ensemble the members' features side by side.

    Raises:
        ModelError: if the model has no such layer, or no dense layer.
    """
    pixels = model_images(model, images)
    members = members_of(model) if layer is None else [model]
    return np.concatenate(
        [_member_features(member, pixels, layer=layer, batch_size=batch_size) for member in members], axis=1
    )


def _member_features(
    model: keras.Model, images: np.ndarray, *, layer: str | None, batch_size: int
) -> np.ndarray:
    graph = ModelGraph.of(model)
    tensor = graph.features if layer is None else graph.output(layer)
    if len(tensor.shape) == 4:
        tensor = keras.ops.mean(tensor, axis=(1, 2))
    return layer_outputs(model, graph, tensor, images, batch_size=batch_size)


def project_radiographs(
    model: ModelSource,
    images: Images,
    labels: np.ndarray | None = None,
    *,
    untrained: ModelSource | None = None,
    layer: str | None = None,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
) -> tuple[Projection, ...]:
    """Project raw pixels, and the network's features before and after training, by PCA and t-SNE.

    Args:
        model: the trained model.
        images: as for `grad_cam`.
        labels: `(n,)` integers, 1 = PNEUMONIA; by default those of the set, if it is one.
        untrained: the network before training. By default the same network with new initial weights: training
            from scratch starts there, except for the seed, but training from ImageNet weights does not.
        layer: name of a layer whose output to project; by default the input of the last dense layer.
        perplexity: as for `tsne`.
        seed: seed of the initial weights and of t-SNE.

    Returns:
        Six projections: of pixels, of features before training and of features after training, each by PCA
        and then by t-SNE.

    Raises:
        DataError: if there are fewer than five images.
        ModelError: if the model has no such layer, or no dense layer.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> test = pk.load_splits("chest_xray").test
        >>> projections = pk.project_radiographs(model, test, perplexity=5)
        >>> projections[0].method, projections[0].source
        ('PCA', 'pixels')
    """
    model = model_of(model)
    before = reinitialized(model, seed=seed) if untrained is None else model_of(untrained)
    labels, pixels = labels_of(images, labels), model_images(model, images)
    sources = {
        "pixels": np.asarray(pixels, np.float32),
        "features before training": features(before, pixels, layer=layer),
        "features after training": features(model, pixels, layer=layer),
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
    """Return values as `(n, columns)` floats, centered and scaled to a standard deviation of 1 over all."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    if len(rows) < MIN_ROWS:
        raise DataError(f"Expected at least {MIN_ROWS} radiographs to project. Received {len(rows)}.")
    rows = np.pad(rows, ((0, 0), (0, max(0, 2 - rows.shape[1]))))  # a plane needs two columns
    rows = rows - rows.mean(axis=0)
    spread = rows.std()
    return rows / spread if spread > 0 else rows
