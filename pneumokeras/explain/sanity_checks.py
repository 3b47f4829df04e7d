"""Check a model's heatmaps: faithfulness and randomization on any radiographs, masks on phantoms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pneumokeras.core.errors import DataError, ModelError
from pneumokeras.core.former_names import former_attribute
from pneumokeras.core.html import table
from pneumokeras.data.dataset import RadiographSet, require_set
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
from pneumokeras.models.saving import ModelDescription, ModelSource, description_of, model_of

MAX_IMAGES = 64
STEPS = 16
RANDOMIZATION_IMAGES = 16
BATCH_SIZE = 32


@dataclass(frozen=True)
class MaskChecks:
    """Checks against ground-truth masks, available for phantoms only.

    They say little about a model that was not trained on phantoms.

    Attributes:
        pointing: how often a map's maximum lies inside an opacity.
        energy: share of a map inside the opacities.
        outside_thorax: share of a map outside the chest, which a shortcut such as a marker raises.
        largest: the largest share of an image covered by opacities.
    """

    pointing: AgainstChance
    energy: AgainstChance
    outside_thorax: AgainstChance
    largest: float

    def json(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold."""
        return {
            name: value.json() if isinstance(value, AgainstChance) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True, eq=False, repr=False)
class ExplanationChecks:
    """How far a model's heatmaps can be trusted, measured on PNEUMONIA radiographs; in a notebook a table.

    Attributes:
        method: the method, as for `grad_cam`.
        layer: the explained layer; for an ensemble those of all members, separated by commas.
        images: number of radiographs.
        empty: number of maps that are all zeros.
        deletion: the model's predictions while the pixels that a map marks are removed.
        insertion: the model's predictions while they are put back.
        randomization: whether maps change when the network's weights are randomized.
        border: share of a map in the outer tenth of the image on each side.
        masks: checks against masks; `None` for radiographs without masks.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> test = pk.load_splits("chest_xray").test
        >>> checks = pk.check_explanations(model, test, images=4)
        >>> checks.method, checks.images
        ('hirescam', 4)
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

    randomisation = former_attribute("randomisation", "randomization")

    def __repr__(self) -> str:
        """Return one line with the method, and whether its maps depend on what was learned."""
        passed = "passed" if self.randomization.passed else "not passed"
        return f"<ExplanationChecks of {self.method} on {self.images} radiographs, randomization {passed}>"

    def _repr_html_(self) -> str:
        random = self.randomization
        change = f"rank correlation {random.steps[-1].rank_correlation:.3f} once all weights are random"
        rows = [
            ("deletion, gain over random maps", self.deletion.gain),
            ("insertion, gain over random maps", self.insertion.gain),
            ("randomization " + ("passed" if random.passed else "not passed"), change),
            ("share in the border", self.border),
        ]
        if self.masks is not None:
            rows += [
                ("maximum inside an opacity", self.masks.pointing),
                ("share inside the opacities", self.masks.energy),
                ("share outside the thorax", self.masks.outside_thorax),
            ]
        caption = f"{self.method} of {self.layer}, {self.images} radiographs, {self.empty} empty maps"
        return table(("check", "figure"), rows, caption=caption)

    def json(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold."""
        parts = vars(self) | {"randomisation": self.randomization}  # report.json's name since version 0.1
        del parts["randomization"]
        return {name: value.json() if hasattr(value, "json") else value for name, value in parts.items()}


def check_explanations(
    model: ModelSource,
    radiographs: RadiographSet,
    *,
    method: str = METHOD,
    layer: str | None = None,
    masks: PhantomMasks | None = None,
    images: int = MAX_IMAGES,
    baseline: str = "blur",
    seed: int = 0,
) -> ExplanationChecks:
    """Check a model's heatmaps on some of a set's PNEUMONIA radiographs.

    Args:
        model: as for `grad_cam`, with one probability as its output.
        radiographs: the set, labeled.
        method: as for `grad_cam`.
        layer: as for `grad_cam`.
        masks: masks of the whole set, at the model's size. By default those that `write_phantoms` wrote
            beside the radiographs, if there are any.
        images: maximum number of PNEUMONIA radiographs, drawn at random.
        baseline: replacement of deleted pixels: `"blur"` or `"mean"`.
        seed: seed of everything random.

    Returns:
        The measurements, with intervals over patients.

    Raises:
        DataError: if the set has no labels or no PNEUMONIA radiographs, one cannot be read, or the masks do
            not have the set's and the model's size.
        SettingsError: if there is no such method or baseline.
        ModelError: if the model cannot be explained, or has more than one output.

    Example:
        >>> model = pk.load_model("model.keras")
        >>> test = pk.load_splits("chest_xray").test
        >>> checks = pk.check_explanations(model, test, images=4)
        >>> checks.masks.pointing.chance < 0.2
        True
    """
    model = model_of(model)
    require_set(radiographs)
    if model.output_shape[-1] != 1:
        raise ModelError(
            f"Expected a model with one probability as output. Received output shape {model.output_shape}."
        )
    sick = np.flatnonzero(radiographs.require_labels() == 1)
    if not sick.size:
        raise DataError("There is no PNEUMONIA radiograph to explain. Expected at least one.")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(sick)[:images])
    subset, description = radiographs.subset(chosen), description_of(model)
    if masks is None:
        subset_masks = _stored_masks(subset, description)
    else:
        _require_shape(masks, (len(radiographs), *description.image_size))
        subset_masks = PhantomMasks(masks.opacities[chosen], masks.thoraxes[chosen])
    pixels = subset.at_depth(description.bits).pixels(description.image_size, pad=description.pad)
    names, outputs = explained_layers(model, method=method, layer=layer), ModelGraph.of(model).outputs
    heatmaps = heatmap_function(model, method=method, layer=layer)(pixels)
    patients = subset.patients

    grain = max((tuple(outputs[name].shape[1:3]) for name in names), key=math.prod)
    random = random_heatmaps(len(pixels), size=pixels.shape[1:], grain=grain, rng=rng)
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
            model, pixels[:RANDOMIZATION_IMAGES], method=method, layer=layer, seed=seed
        ),
        border=attention_outside(heatmaps, center(pixels.shape[1:]), patients=patients, seed=seed),
        masks=None
        if subset_masks is None
        else _mask_checks(heatmaps, subset_masks, patients=patients, seed=seed),
    )


def _require_shape(masks: PhantomMasks, expected: tuple[int, int, int]) -> None:
    for mask in (masks.opacities, masks.thoraxes):
        if mask.shape != expected:
            raise DataError(f"Expected masks of shape {expected}. Received {mask.shape}.")


def _stored_masks(radiographs: RadiographSet, description: ModelDescription) -> PhantomMasks | None:
    """Read the masks beside phantoms; `None` for other radiographs."""
    files = radiographs.images
    if isinstance(files, tuple) and are_phantoms(files):
        return read_masks(files, description.image_size, pad=description.pad)
    return None


def _mask_checks(heatmaps: np.ndarray, masks: PhantomMasks, *, patients: np.ndarray, seed: int) -> MaskChecks:
    return MaskChecks(
        pointing=pointing_game(heatmaps, masks.opacities, patients=patients),
        energy=energy(heatmaps, masks.opacities, patients=patients, seed=seed),
        outside_thorax=attention_outside(heatmaps, masks.thoraxes, patients=patients, seed=seed),
        largest=float(masks.opacities.mean(axis=(1, 2)).max()),
    )


def _probability_of(model: keras.Model) -> Score:
    function = compiled(model)

    def score(images: np.ndarray) -> np.ndarray:
        batches = batches_of(model, images, batch_size=BATCH_SIZE)
        return np.concatenate([function(batch).numpy()[:, 0] for batch in batches])

    return score
