"""Whether heatmaps are right: where the disease is known, and by what the model says without what they show.

Pure functions of arrays. Where a mask says what is there (phantoms), a map is right if it lies on it, which
asks model and map together. Deletion and insertion need no mask: they ask whether the pixels that a map
calls important matter to the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.evaluation.intervals import patient_bootstrap, percentile_interval, proportion_interval
from pneumokeras.evaluation.types import Interval

REPLICATES = 1000
BASELINES = ("blur", "mean")
BLUR = 0.1  # of the image's width, the blur's standard deviation: wider than an opacity's texture
BORDER = 0.1  # of the image's width, on each side
NOWHERE = (-1, -1)


@dataclass(frozen=True)
class AgainstChance:
    """A figure beside what it would be if the maps knew nothing.

    Attributes:
        figure: the mean over radiographs, in [0, 1].
        chance: the same of a map that is equal everywhere: the share of the image that the region covers.
        of_others: the same with each map laid on another radiograph: what it owes to all maps being alike,
            in the middle of the lungs, say. NaN for a single radiograph, or a region that is the same in all.
    """

    figure: Interval
    chance: float
    of_others: float

    def __str__(self) -> str:
        """`0.978 [0.946, 0.992] (chance 0.048)`."""
        return f"{self.figure} (chance {self.chance:.3f})"

    def json(self) -> dict[str, Any]:
        """As a mapping that JSON can hold."""
        others = None if np.isnan(self.of_others) else self.of_others
        return {"figure": self.figure.json(), "chance": self.chance, "of_others": others}


@dataclass(frozen=True, eq=False)
class PerturbationCurve:
    """What a model says while pixels are taken away from radiographs, or given back, in a map's order.

    Attributes:
        kind: `"deletion"` (from the radiograph to its baseline) or `"insertion"` (the other way).
        shares: `(steps + 1,)` floats in [0, 1], the share of the pixels that was changed.
        scores: `(steps + 1,)` floats, the mean score over radiographs.
        control: `(steps + 1,)` floats, the same in the order of random maps as coarse as the explained layer.
        area: mean area under the curve; low is good for deletion, high for insertion.
        control_area: of the random order.
        gain: how much better than the random order, radiograph by radiograph: above 0 is good for both kinds.
    """

    kind: str
    shares: np.ndarray
    scores: np.ndarray
    control: np.ndarray
    area: Interval
    control_area: Interval
    gain: Interval

    def json(self) -> dict[str, Any]:
        """As a mapping that JSON can hold."""
        return {
            name: value.json() if isinstance(value, Interval) else np.asarray(value).tolist()
            for name, value in vars(self).items()
        }


Score = Callable[[np.ndarray], np.ndarray]
"""From `(n, height, width)` images to `(n,)` scores of the explained class."""


def peaks(heatmaps: np.ndarray) -> np.ndarray:
    """Where each map is highest.

    Args:
        heatmaps: `(n, height, width)` floats from 0.

    Returns:
        `(n, 2)` integers, row and column; -1, -1 for a map with nothing in it.
    """
    flat = heatmaps.reshape(len(heatmaps), -1)
    places = np.stack(np.unravel_index(flat.argmax(axis=1), heatmaps.shape[1:]), axis=1)
    return np.where(flat.max(axis=1, keepdims=True) > 0, places, NOWHERE)


def hits(heatmaps: np.ndarray, masks: np.ndarray, *, tolerance: int = 0) -> np.ndarray:
    """Whether each map is highest inside its mask.

    Args:
        heatmaps: `(n, height, width)` floats from 0.
        masks: `(n, height, width)` booleans.
        tolerance: pixels around a mask that count as inside.

    Returns:
        `(n,)` booleans; a map with nothing in it misses.
    """
    rows, columns = peaks(heatmaps).T
    widened = _widened(masks, tolerance)
    return (rows >= 0) & widened[np.arange(len(masks)), rows, columns]


def pointing_game(
    heatmaps: np.ndarray, masks: np.ndarray, *, patients: ArrayLike | None = None, tolerance: int = 0
) -> AgainstChance:
    """How often a map is highest inside the mask, beside how often a blind guess would be.

    Args:
        heatmaps: `(n, height, width)` floats from 0, n at least 1.
        masks: `(n, height, width)` booleans.
        patients: `(n,)` whose radiograph each is; by default each is its own.
        tolerance: as for `hits`; chance takes it into account.

    Reference: Zhang et al. (2018), International Journal of Computer Vision 126(10), "Top-Down Neural
    Attention by Excitation Backprop"; they allow 15 pixels, here the default allows none.
    """
    figure = proportion_interval(hits(heatmaps, masks, tolerance=tolerance), _own(patients, len(masks)))
    chance = float(_widened(masks, tolerance).mean())
    return AgainstChance(
        figure, chance, _of_others(heatmaps, masks, lambda h, m: hits(h, m, tolerance=tolerance))
    )


def energy_inside(heatmaps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The share of each map's sum that lies inside its mask.

    Args:
        heatmaps: `(n, height, width)` floats from 0.
        masks: `(n, height, width)` or `(height, width)` booleans.

    Returns:
        `(n,)` floats in [0, 1]; NaN for a map with nothing in it.

    Reference: Wang et al. (2020), CVPR Workshops, "Score-CAM".
    """
    whole = heatmaps.sum(axis=(1, 2), dtype=np.float64)
    inside = (heatmaps * masks).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(inside, whole, out=np.full(len(heatmaps), np.nan), where=whole > 0)


def energy(
    heatmaps: np.ndarray, masks: np.ndarray, *, patients: ArrayLike | None = None, seed: int = 0
) -> AgainstChance:
    """The mean share of a map inside its mask; a map with nothing in it counts as 0.

    Args:
        heatmaps: `(n, height, width)` floats from 0, n at least 1.
        masks: `(n, height, width)` booleans.
        patients: `(n,)` whose radiograph each is; by default each is its own.
        seed: of the bootstrap.
    """

    def shares(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
        return np.nan_to_num(energy_inside(maps, regions))

    figure = mean_interval(shares(heatmaps, masks), patients, seed=seed)
    return AgainstChance(figure, float(masks.mean()), _of_others(heatmaps, masks, shares))


def attention_outside(
    heatmaps: np.ndarray, regions: np.ndarray, *, patients: ArrayLike | None = None, seed: int = 0
) -> AgainstChance:
    """The mean share of a map outside a region, such as the thorax; maps with nothing in them are left out.

    Args:
        heatmaps: `(n, height, width)` floats from 0, n at least 1.
        regions: `(n, height, width)` booleans, or `(height, width)` for one that is the same in all.
        patients: `(n,)` whose radiograph each is; by default each is its own.
        seed: of the bootstrap.

    Returns:
        The share; its figure is undefined (NaN) if no map has anything in it.
    """
    is_same = regions.ndim == 2
    regions = np.broadcast_to(regions, heatmaps.shape)
    shares = 1 - energy_inside(heatmaps, regions)
    seen = ~np.isnan(shares)
    figure = mean_interval(shares[seen], _own(patients, len(heatmaps))[seen], seed=seed)
    of_others = (
        float("nan")
        if is_same
        else _of_others(heatmaps[seen], regions[seen], lambda h, m: 1 - energy_inside(h, m))
    )
    return AgainstChance(figure, float(1 - regions.mean()), of_others)


def center(size: tuple[int, int], *, border: float = BORDER) -> np.ndarray:
    """The image without its border, where letters, tubes and collimation lie: `(height, width)` booleans.

    It is no thorax mask: on a radiograph that is cropped closely lungs reach into the border.

    Args:
        size: `(height, width)` in pixels.
        border: width of the border on each side, as a share of the image's.
    """
    inner = np.zeros(size, bool)
    top, left = (round(border * side) for side in size)
    inner[top : size[0] - top, left : size[1] - left] = True
    return inner


def baseline_of(images: np.ndarray, *, kind: str = "blur") -> np.ndarray:
    """Radiographs without what a model could see in them, in their own gray levels.

    Args:
        images: `(n, height, width)` gray levels.
        kind: `"blur"` (a Gaussian of a tenth of the width) or `"mean"` (one gray level, its own mean).

    Returns:
        `(n, height, width)` `float32`.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in BASELINES:
        raise ValueError(f"Expected one of {', '.join(BASELINES)}. Received {kind!r}.")
    images = np.asarray(images, np.float32)
    if kind == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    return np.stack([cv2.GaussianBlur(image, (0, 0), BLUR * image.shape[1]) for image in images])


def deletion_scores(
    score: Score, images: np.ndarray, heatmaps: np.ndarray, *, steps: int = 16, baseline: str = "blur"
) -> np.ndarray:
    """What a model says while the pixels a map calls important give way to a baseline, most important first.

    Args:
        score: the model, as a function of images.
        images: `(n, height, width)` gray levels.
        heatmaps: `(n, height, width)` floats.
        steps: in how many equal parts the pixels go.
        baseline: as for `baseline_of`.

    Returns:
        `(n, steps + 1)` floats: the scores of the whole radiographs first, of the baselines last.

    Reference: Petsiuk et al. (2018), BMVC, "RISE".
    """
    return _replaced(score, images, baseline_of(images, kind=baseline), heatmaps, steps)


def insertion_scores(
    score: Score, images: np.ndarray, heatmaps: np.ndarray, *, steps: int = 16, baseline: str = "blur"
) -> np.ndarray:
    """What a model says while a baseline gets back the pixels a map calls important, most important first.

    Arguments, result and reference as for `deletion_scores`; the baselines come first.
    """
    return _replaced(score, baseline_of(images, kind=baseline), images, heatmaps, steps)


def _replaced(
    score: Score, before: np.ndarray, after: np.ndarray, heatmaps: np.ndarray, steps: int
) -> np.ndarray:
    flat = heatmaps.reshape(len(heatmaps), -1)
    ranks = np.empty(flat.shape, np.int32)
    order = np.argsort(-flat, axis=1, kind="stable")
    np.put_along_axis(ranks, order, np.arange(flat.shape[1], dtype=np.int32)[np.newaxis], axis=1)
    changed = np.linspace(0, flat.shape[1], steps + 1).round().astype(int)
    scores = [
        score(np.where(ranks.reshape(heatmaps.shape) < count, after, before).astype(np.float32))
        for count in changed
    ]
    return np.stack([np.asarray(one, np.float64) for one in scores], axis=1)


def random_heatmaps(
    count: int, size: tuple[int, int], grain: tuple[int, int], *, rng: np.random.Generator
) -> np.ndarray:
    """Maps that know nothing, as smooth as those of a layer: a fair control, unlike single random pixels.

    Args:
        count: how many.
        size: `(height, width)` in pixels.
        grain: rows and columns of the layer.
        rng: source of randomness.

    Returns:
        `(count, height, width)` `float32` in [0, 1].
    """
    coarse = rng.random((count, *grain), np.float32)
    return np.stack(
        [np.clip(cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1) for one in coarse]
    )


def perturbation_curve(
    kind: str,
    scores: np.ndarray,
    control: np.ndarray,
    *,
    patients: ArrayLike | None = None,
    seed: int = 0,
) -> PerturbationCurve:
    """Sum up the curves of many radiographs.

    Args:
        kind: `"deletion"` or `"insertion"`.
        scores: `(n, steps + 1)` floats, in the maps' order.
        control: `(n, steps + 1)` floats, in a random order.
        patients: `(n,)` whose radiograph each is; by default each is its own.
        seed: of the bootstrap.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in ("deletion", "insertion"):
        raise ValueError(f"Expected deletion or insertion. Received {kind!r}.")
    shares = np.linspace(0, 1, scores.shape[1])
    areas, control_areas = ((rows[:, 1:] + rows[:, :-1]).mean(axis=1) / 2 for rows in (scores, control))
    gains = control_areas - areas if kind == "deletion" else areas - control_areas
    area, control_area, gain = (
        mean_interval(values, patients, seed=seed) for values in (areas, control_areas, gains)
    )
    return PerturbationCurve(
        kind, shares, scores.mean(axis=0), control.mean(axis=0), area, control_area, gain
    )


def mean_interval(values: np.ndarray, patients: ArrayLike | None = None, *, seed: int = 0) -> Interval:
    """A mean with its bootstrap interval over patients.

    Args:
        values: `(n,)` floats.
        patients: `(n,)` whose value each is; by default each is its own.
        seed: of the bootstrap.

    Returns:
        The interval; all NaN without any value.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return Interval(np.nan, np.nan, np.nan, "bootstrap")

    def means(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": weights @ values / weights.sum(axis=1)}

    drawn = patient_bootstrap(
        means, _own(patients, values.size), replicates=REPLICATES, rng=np.random.default_rng(seed)
    )
    return percentile_interval(float(values.mean()), drawn["mean"])


def _own(patients: ArrayLike | None, count: int) -> np.ndarray:
    return np.arange(count) if patients is None else np.asarray(patients)


def _widened(masks: np.ndarray, tolerance: int) -> np.ndarray:
    if not tolerance:
        return masks
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * tolerance + 1, 2 * tolerance + 1))
    return np.stack([cv2.dilate(mask.astype(np.uint8), disc) > 0 for mask in masks])


def _of_others(
    heatmaps: np.ndarray,
    regions: np.ndarray,
    figures: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> float:
    """A figure's mean with each map laid on the region of the next radiograph but some, over all shifts."""
    shifts = range(1, min(len(heatmaps), 20))
    means = [figures(heatmaps, np.roll(regions, shift, axis=0)).mean() for shift in shifts]
    return float(np.mean(means)) if means else float("nan")
