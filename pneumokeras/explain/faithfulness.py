"""Faithfulness of heatmaps: agreement with masks, and the effect of the marked pixels on the prediction.

Pure functions of arrays. With ground-truth masks (phantoms), a map is right if it lies inside the mask, which
tests model and map together. Deletion and insertion need no masks: they test whether the pixels that a map
marks as important matter to the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pneumokeras.core.errors import SettingsError
from pneumokeras.evaluation.arguments import patients_or_images
from pneumokeras.evaluation.intervals import patient_bootstrap, percentile_interval, proportion_interval
from pneumokeras.evaluation.types import Interval

REPLICATES = 1000
BASELINES = ("blur", "mean")
BLUR = 0.1  # standard deviation in image widths: coarser than an opacity's texture
BORDER = 0.1  # share of the image's side, on each side
NOWHERE = (-1, -1)

Score = Callable[[np.ndarray], np.ndarray]
"""A function from `(n, height, width)` images to `(n,)` scores of the explained class."""


@dataclass(frozen=True)
class AgainstChance:
    """A measurement of heatmaps and its values for uninformative maps.

    Attributes:
        figure: the mean over radiographs, in [0, 1].
        chance: the value for a uniform map: the share of the image that the region covers.
        of_others: the value with each map laid on another radiograph, which shows how much comes from all
            maps being alike, such as bright in the middle of the lungs. NaN for a single radiograph, or if
            the region is the same in all radiographs.
    """

    figure: Interval
    chance: float
    of_others: float

    def __str__(self) -> str:
        """Format as in `0.978 [0.946, 0.992] (chance 0.048)`."""
        return f"{self.figure} (chance {self.chance:.3f})"

    def json(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold."""
        others = None if np.isnan(self.of_others) else self.of_others
        return {"figure": self.figure.json(), "chance": self.chance, "of_others": others}


@dataclass(frozen=True, eq=False)
class PerturbationCurve:
    """Mean score while pixels are deleted from radiographs, or inserted, in the order of their importance.

    Attributes:
        kind: `"deletion"` (from the radiograph to its baseline) or `"insertion"` (the other way).
        shares: `(steps + 1,)` floats in [0, 1], the share of pixels changed.
        scores: `(steps + 1,)` floats, the mean score over radiographs.
        control: `(steps + 1,)` floats, the same in the order of random maps as coarse as the explained layer.
        area: mean area under the curve; low is good for deletion, high for insertion.
        control_area: mean area under the control.
        gain: mean improvement over the control, paired by radiograph; above 0 is good for both kinds.
    """

    kind: str
    shares: np.ndarray
    scores: np.ndarray
    control: np.ndarray
    area: Interval
    control_area: Interval
    gain: Interval

    def json(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold."""
        return {
            name: value.json() if isinstance(value, Interval) else np.asarray(value).tolist()
            for name, value in vars(self).items()
        }


def peaks(heatmaps: np.ndarray) -> np.ndarray:
    """Return the position of each map's maximum.

    Args:
        heatmaps: `(n, height, width)` floats from 0.

    Returns:
        `(n, 2)` integers, row and column; -1, -1 for an empty map, which is all zeros.
    """
    flat = heatmaps.reshape(len(heatmaps), -1)
    places = np.stack(np.unravel_index(flat.argmax(axis=1), heatmaps.shape[1:]), axis=1)
    return np.where(flat.max(axis=1, keepdims=True) > 0, places, NOWHERE)


def hits(heatmaps: np.ndarray, masks: np.ndarray, *, tolerance: int = 0) -> np.ndarray:
    """Return whether each map's maximum lies inside its mask.

    Args:
        heatmaps: `(n, height, width)` floats from 0.
        masks: `(n, height, width)` booleans.
        tolerance: pixels around a mask that count as inside.

    Returns:
        `(n,)` booleans; false for an empty map.
    """
    rows, columns = peaks(heatmaps).T
    dilated = _dilated(masks, tolerance)
    return (rows >= 0) & dilated[np.arange(len(masks)), rows, columns]


def pointing_game(
    heatmaps: np.ndarray, masks: np.ndarray, *, patients: ArrayLike | None = None, tolerance: int = 0
) -> AgainstChance:
    """Measure how often a map's maximum lies inside the mask, and how often a random pixel does.

    Args:
        heatmaps: `(n, height, width)` floats from 0, n at least 1.
        masks: `(n, height, width)` booleans.
        patients: `(n,)` patients; by default each radiograph is a patient of its own.
        tolerance: as for `hits`; chance takes it into account.

    Reference: Zhang et al. (2018), International Journal of Computer Vision 126(10), "Top-Down Neural
    Attention by Excitation Backprop"; they use a tolerance of 15 pixels, here the default is none.
    """
    figure = proportion_interval(
        hits(heatmaps, masks, tolerance=tolerance), patients_or_images(patients, len(masks))
    )
    chance = float(_dilated(masks, tolerance).mean())
    return AgainstChance(
        figure, chance, _of_others(heatmaps, masks, lambda h, m: hits(h, m, tolerance=tolerance))
    )


def energy_inside(heatmaps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of each map's sum that lies inside its mask.

    Args:
        heatmaps: `(n, height, width)` floats from 0.
        masks: `(n, height, width)` or `(height, width)` booleans.

    Returns:
        `(n,)` floats in [0, 1]; NaN for an empty map.

    Reference: Wang et al. (2020), CVPR Workshops, "Score-CAM".
    """
    whole = heatmaps.sum(axis=(1, 2), dtype=np.float64)
    inside = (heatmaps * masks).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(inside, whole, out=np.full(len(heatmaps), np.nan), where=whole > 0)


def energy(
    heatmaps: np.ndarray, masks: np.ndarray, *, patients: ArrayLike | None = None, seed: int = 0
) -> AgainstChance:
    """Measure the mean share of a map inside its mask; an empty map counts as 0.

    Args:
        heatmaps: `(n, height, width)` floats from 0, n at least 1.
        masks: `(n, height, width)` booleans.
        patients: `(n,)` patients; by default each radiograph is a patient of its own.
        seed: seed of the bootstrap.
    """

    def shares(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
        return np.nan_to_num(energy_inside(maps, regions))

    figure = mean_interval(shares(heatmaps, masks), patients, seed=seed)
    return AgainstChance(figure, float(masks.mean()), _of_others(heatmaps, masks, shares))


def attention_outside(
    heatmaps: np.ndarray, regions: np.ndarray, *, patients: ArrayLike | None = None, seed: int = 0
) -> AgainstChance:
    """Measure the mean share of a map outside a region, such as the thorax; empty maps are left out.

    Args:
        heatmaps: `(n, height, width)` floats from 0, n at least 1.
        regions: `(n, height, width)` booleans, or `(height, width)` for the same region in all.
        patients: `(n,)` patients; by default each radiograph is a patient of its own.
        seed: seed of the bootstrap.

    Returns:
        The share; its figure is undefined (NaN) if all maps are empty.
    """
    is_same = regions.ndim == 2
    regions = np.broadcast_to(regions, heatmaps.shape)
    shares = 1 - energy_inside(heatmaps, regions)
    seen = ~np.isnan(shares)
    figure = mean_interval(shares[seen], patients_or_images(patients, len(heatmaps))[seen], seed=seed)
    of_others = (
        float("nan")
        if is_same
        else _of_others(heatmaps[seen], regions[seen], lambda h, m: 1 - energy_inside(h, m))
    )
    return AgainstChance(figure, float(1 - regions.mean()), of_others)


def center(size: tuple[int, int], *, border: float = BORDER) -> np.ndarray:
    """Return the image without its border, where letters, tubes and collimation lie, as a mask.

    It is not a thorax mask: lungs reach into the border of closely cropped radiographs.

    Args:
        size: `(height, width)` in pixels.
        border: width of the border on each side, as a share of the image's side.

    Returns:
        `(height, width)` booleans, true inside.
    """
    inner = np.zeros(size, bool)
    top, left = (round(border * side) for side in size)
    inner[top : size[0] - top, left : size[1] - left] = True
    return inner


def baseline_of(images: np.ndarray, *, baseline: str = "blur") -> np.ndarray:
    """Return radiographs without anything that a model could recognize, in their own gray levels.

    Args:
        images: `(n, height, width)` gray levels.
        baseline: `"blur"` (a Gaussian of a tenth of the width) or `"mean"` (each radiograph's mean).

    Returns:
        `(n, height, width)` `float32`.

    Raises:
        SettingsError: if there is no such baseline.
    """
    if baseline not in BASELINES:
        raise SettingsError(
            f"Expected `baseline` as one of {', '.join(BASELINES)}. Received {baseline!r}.",
            parameter="baseline",
        )
    images = np.asarray(images, np.float32)
    if baseline == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    return np.stack([cv2.GaussianBlur(image, (0, 0), BLUR * image.shape[1]) for image in images])


def deletion_scores(
    score: Score, images: np.ndarray, heatmaps: np.ndarray, *, steps: int = 16, baseline: str = "blur"
) -> np.ndarray:
    """Score radiographs while their pixels are replaced by a baseline, most important first.

    Args:
        score: the model, as a function of images.
        images: `(n, height, width)` gray levels.
        heatmaps: `(n, height, width)` floats, the importance of the pixels.
        steps: number of equal parts in which pixels are replaced.
        baseline: as for `baseline_of`.

    Returns:
        `(n, steps + 1)` floats, from the radiographs to the baselines.

    Reference: Petsiuk et al. (2018), BMVC, "RISE".
    """
    return _scores_between(score, images, baseline_of(images, baseline=baseline), heatmaps, steps=steps)


def insertion_scores(
    score: Score, images: np.ndarray, heatmaps: np.ndarray, *, steps: int = 16, baseline: str = "blur"
) -> np.ndarray:
    """Score baselines while their pixels are replaced by the radiograph's, most important first.

    Arguments and reference are as for `deletion_scores`; scores run from the baselines to the radiographs.
    """
    return _scores_between(score, baseline_of(images, baseline=baseline), images, heatmaps, steps=steps)


def _scores_between(
    score: Score, before: np.ndarray, after: np.ndarray, heatmaps: np.ndarray, *, steps: int
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
    count: int, *, size: tuple[int, int], grain: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Draw random maps as smooth as those of a layer: a fair control, unlike single random pixels.

    Args:
        count: number of maps.
        size: `(height, width)` in pixels.
        grain: rows and columns of the layer's feature map.
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
    """Summarize the curves of many radiographs.

    Args:
        kind: `"deletion"` or `"insertion"`.
        scores: `(n, steps + 1)` floats, in the order of the maps.
        control: `(n, steps + 1)` floats, in the order of random maps.
        patients: `(n,)` patients; by default each radiograph is a patient of its own.
        seed: seed of the bootstrap.

    Raises:
        SettingsError: if there is no such kind.
    """
    if kind not in ("deletion", "insertion"):
        raise SettingsError(f"Expected `kind` deletion or insertion. Received {kind!r}.", parameter="kind")
    shares = np.linspace(0, 1, scores.shape[1])
    areas, control_areas = ((rows[:, 1:] + rows[:, :-1]).mean(axis=1) / 2 for rows in (scores, control))
    gains = control_areas - areas if kind == "deletion" else areas - control_areas
    area, control_area, gain = (
        mean_interval(values, patients, seed=seed) for values in (areas, control_areas, gains)
    )
    return PerturbationCurve(
        kind=kind,
        shares=shares,
        scores=scores.mean(axis=0),
        control=control.mean(axis=0),
        area=area,
        control_area=control_area,
        gain=gain,
    )


def mean_interval(values: np.ndarray, patients: ArrayLike | None = None, *, seed: int = 0) -> Interval:
    """Return a mean with its bootstrap interval over patients.

    Args:
        values: `(n,)` floats.
        patients: `(n,)` patients; by default each value is from a patient of its own.
        seed: seed of the bootstrap.

    Returns:
        The interval; all NaN without values.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return Interval(np.nan, np.nan, np.nan, "bootstrap")

    def means(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": weights @ values / weights.sum(axis=1)}

    drawn = patient_bootstrap(
        means,
        patients_or_images(patients, values.size),
        replicates=REPLICATES,
        rng=np.random.default_rng(seed),
    )
    return percentile_interval(float(values.mean()), drawn["mean"])


def _dilated(masks: np.ndarray, tolerance: int) -> np.ndarray:
    if not tolerance:
        return masks
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * tolerance + 1, 2 * tolerance + 1))
    return np.stack([cv2.dilate(mask.astype(np.uint8), disc) > 0 for mask in masks])


def _of_others(
    heatmaps: np.ndarray,
    regions: np.ndarray,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> float:
    """Return the mean of `measure` with each map laid on other radiographs' regions, over up to 19 shifts."""
    shifts = range(1, min(len(heatmaps), 20))
    means = [measure(heatmaps, np.roll(regions, shift, axis=0)).mean() for shift in shifts]
    return float(np.mean(means)) if means else float("nan")
