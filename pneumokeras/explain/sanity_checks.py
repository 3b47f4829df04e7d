"""One model's explanations, checked: on any radiographs what needs no mask, on phantoms what does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import DataError, ModelError
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.phantoms.masks import PhantomMasks, read_masks
from pneumokeras.data.readers.synthetic import are_phantoms
from pneumokeras.explain.faithfulness import (
    AgainstChance,
    PerturbationCurve,
    Score,
    attention_outside,
    center,
    deletion_scores,
    energy,
    insertion_scores,
    perturbation_curve,
    pointing_game,
    random_heatmaps,
)
from pneumokeras.explain.gradcam import METHOD, explained_layers, heatmap_function
from pneumokeras.explain.randomization import Randomization, randomization_check
from pneumokeras.models.forward import compiled
from pneumokeras.models.graph import ModelGraph, batches_of
from pneumokeras.models.saving import ModelDescription, description_of

IMAGES = 64
STEPS = 16
RANDOMISED_IMAGES = 16
BATCH_SIZE = 32


@dataclass(frozen=True)
class MaskChecks:
    """What only phantoms can tell, since only there is it known what is where.

    A model that was not trained on phantoms has no reason to be right on them.

    Attributes:
        pointing: how often a map is highest inside an opacity.
        energy: share of a map inside the opacities.
        outside_thorax: share of a map outside the chest: what a shortcut such as a marker raises.
        largest: the largest share of an image that its opacities cover.
    """

    pointing: AgainstChance
    energy: AgainstChance
    outside_thorax: AgainstChance
    largest: float

    def json(self) -> dict[str, Any]:
        """As a mapping that JSON can hold."""
        return {
            name: value.json() if isinstance(value, AgainstChance) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True, eq=False)
class ExplanationChecks:
    """How far a model's heatmaps of PNEUMONIA can be believed, on PNEUMONIA radiographs.

    Attributes:
        method: which heatmaps.
        layer: whose feature map they weigh; of an ensemble each member's, separated by commas.
        images: how many radiographs.
        empty: how many maps have nothing in them.
        deletion: what the model says while what the maps show is taken away.
        insertion: what the model says while it is given back.
        randomization: whether maps change when the network's weights do.
        border: share of a map in the outer tenth of the image on each side.
        masks: what phantoms tell; `None` for real radiographs, on which nobody drew any mask.
    """

    method: str
    layer: str
    images: int
    empty: int
    deletion: PerturbationCurve
    insertion: PerturbationCurve
    randomization: Randomization
    border: AgainstChance
    masks: MaskChecks | None

    def json(self) -> dict[str, Any]:
        """As a mapping that JSON can hold."""
        parts = vars(self) | {"randomisation": self.randomization}  # report.json's name since version 0.1
        del parts["randomization"]
        return {name: value.json() if hasattr(value, "json") else value for name, value in parts.items()}


def check_explanations(
    model: keras.Model,
    radiographs: RadiographSet,
    *,
    method: str = METHOD,
    layer: str | None = None,
    masks: PhantomMasks | None = None,
    images: int = IMAGES,
    baseline: str = "blur",
    seed: int = 0,
) -> ExplanationChecks:
    """Check a model's heatmaps on some of a set's PNEUMONIA radiographs.

    Args:
        model: as for `grad_cam`, with one probability as its output.
        radiographs: the set, labeled.
        method: as for `grad_cam`.
        layer: as for `grad_cam`.
        masks: of the whole set, at the model's size. By default those that `write_phantoms` wrote beside the
            radiographs, if it did.
        images: of how many PNEUMONIA radiographs at most; they are drawn blindly.
        baseline: what takes the place of deleted pixels, as for `baseline_of`.
        seed: of all that is random.

    Raises:
        DataError: if the set has no labels or no PNEUMONIA radiographs, one cannot be read, or masks are not
            of this set at the model's size.
        ModelError: if the model cannot be explained, or gives more than one probability.
    """
    if model.output_shape[-1] != 1:
        raise ModelError(
            f"Expected a model with one probability as output. Received output shape {model.output_shape}."
        )
    sick = np.flatnonzero(radiographs.require_labels() == 1)
    if not sick.size:
        raise DataError("There is no PNEUMONIA radiograph to explain. Expected at least one.")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(sick)[:images])
    some, description = radiographs.subset(chosen), description_of(model)
    known = _known_masks(masks, radiographs, chosen, description)
    pixels = some.pixels(description.image_size, pad=description.pad)
    names, outputs = explained_layers(model, method=method, layer=layer), ModelGraph.of(model).outputs
    heatmaps = heatmap_function(model, method=method, layer=layer)(pixels)
    patients = some.patients

    grain = max((tuple(outputs[name].shape[1:3]) for name in names), key=math.prod)
    random = random_heatmaps(len(pixels), pixels.shape[1:], grain, rng=rng)
    score = _probability_of(model)
    curves = {
        kind: perturbation_curve(
            kind,
            *(scores(score, pixels, maps, steps=STEPS, baseline=baseline) for maps in (heatmaps, random)),
            patients=patients,
            seed=seed,
        )
        for kind, scores in (("deletion", deletion_scores), ("insertion", insertion_scores))
    }
    return ExplanationChecks(
        method=method,
        layer=", ".join(names),
        images=len(pixels),
        empty=int((heatmaps.max(axis=(1, 2)) == 0).sum()),
        deletion=curves["deletion"],
        insertion=curves["insertion"],
        randomization=randomization_check(
            model, pixels[:RANDOMISED_IMAGES], method=method, layer=layer, seed=seed
        ),
        border=attention_outside(heatmaps, center(pixels.shape[1:]), patients=patients, seed=seed),
        masks=_mask_checks(heatmaps, known, patients, seed),
    )


def _known_masks(
    masks: PhantomMasks | None, radiographs: RadiographSet, chosen: np.ndarray, description: ModelDescription
) -> PhantomMasks | None:
    """The masks of the chosen radiographs: the given ones, or those beside phantoms."""
    if masks is not None:
        expected = (len(radiographs), *description.image_size)
        for mask in (masks.opacities, masks.thoraxes):
            if mask.shape != expected:
                raise DataError(f"Expected masks of shape {expected}, received {mask.shape}.")
        return PhantomMasks(masks.opacities[chosen], masks.thoraxes[chosen])
    files = radiographs.subset(chosen).images
    if isinstance(files, tuple) and are_phantoms(files):
        return read_masks(files, description.image_size, pad=description.pad)
    return None


def _mask_checks(
    heatmaps: np.ndarray, masks: PhantomMasks | None, patients: np.ndarray, seed: int
) -> MaskChecks | None:
    if masks is None:
        return None
    return MaskChecks(
        pointing=pointing_game(heatmaps, masks.opacities, patients=patients),
        energy=energy(heatmaps, masks.opacities, patients=patients, seed=seed),
        outside_thorax=attention_outside(heatmaps, masks.thoraxes, patients=patients, seed=seed),
        largest=float(masks.opacities.mean(axis=(1, 2)).max()),
    )


def _probability_of(model: keras.Model) -> Score:
    function = compiled(model)

    def score(images: np.ndarray) -> np.ndarray:
        batches = batches_of(model, images, BATCH_SIZE)
        return np.concatenate([function(batch).numpy()[:, 0] for batch in batches])

    return score
