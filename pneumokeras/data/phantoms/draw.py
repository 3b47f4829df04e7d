"""Draw one synthetic chest radiograph and the opacities in it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pneumokeras.core.errors import SettingsError
from pneumokeras.data.phantoms import anatomy
from pneumokeras.data.phantoms.anatomy import Patient, Projection, draw_patient
from pneumokeras.data.phantoms.masks import resized_mask
from pneumokeras.data.phantoms.nuisance import NO_NUISANCE, Acquisition, Nuisance

WORKING_SIZE = 256  # pixels; smaller radiographs are drawn at this size and area-averaged

MIN_SIZE = 32  # pixels

# Possible numbers of opacities, their radius in image widths, and the share of air they replace: bacterial
# pneumonia has one or two large opacities, viral pneumonia several that are smaller and somewhat fainter.
OPACITIES: dict[str, tuple[tuple[int, ...], tuple[float, float], tuple[float, float]]] = {
    "bacteria": ((1, 1, 1, 2), (0.085, 0.12), (0.9, 1.0)),
    "virus": ((2, 3), (0.062, 0.082), (0.85, 1.0)),
}

MASK_EDGE = 0.4  # an opacity ends where its envelope falls below this share of its peak

MOTTLE = 1.5  # patchiness of an opacity within its envelope

FLUID = 0.5  # attenuation of a fluid-filled lung minus that of soft tissue

LUNG_TEXTURE, SOFT_TEXTURE = 0.05, 0.05  # relative to the attenuation

METER_SIZE, METER_SHARES = 64, np.linspace(0.0, 1.0, 33)  # the exposure meter sees a coarse film


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph.

    Attributes:
        image: `(size, size)` uint8 gray pixels.
        mask: `(size, size)` uint8, 255 inside opacities and 0 elsewhere; all 0 for NORMAL.
        thorax: `(size, size)` uint8, 255 in the chest: the convex hull of both lungs, including heart and
            mediastinum.
        label: 0 = NORMAL, 1 = PNEUMONIA.
        acquisition: its rotation, exposure and marker.
    """

    image: np.ndarray
    mask: np.ndarray
    thorax: np.ndarray
    label: int
    acquisition: Acquisition


def draw_phantom(
    rng: np.random.Generator,
    *,
    label: int,
    size: int = 256,
    patient: Patient | None = None,
    nuisance: Nuisance = NO_NUISANCE,
) -> Phantom:
    """Draw one radiograph.

    The same seed with the other label draws the same patient, position and exposure settings, with or
    without opacities. So it does with another nuisance: exposure and marker change nothing else, while a
    rotation also changes where the opacities are.

    Args:
        rng: source of all randomness.
        label: 0 = NORMAL, 1 = PNEUMONIA.
        size: width and height in pixels, at least 32.
        patient: the anatomy, from `draw_patient`; by default a new patient.
        nuisance: rotation, exposure and marker.

    Returns:
        The radiograph with its masks.

    Raises:
        SettingsError: if the label is neither 0 nor 1, or the size is below 32.
    """
    check_size(size)
    if label not in (0, 1):
        raise SettingsError(
            f"Expected `label` 0 (NORMAL) or 1 (PNEUMONIA). Received {label!r}.", parameter="label"
        )
    patient_rng, position_rng, opacity_rng, tissue_rng, film_rng = rng.spawn(5)
    acquisition = nuisance.draw(film_rng.spawn(1)[0], label=label)
    patient = patient or draw_patient(patient_rng)
    projection = _draw_projection(position_rng, max(size, WORKING_SIZE), rotation=acquisition.rotation)
    air = anatomy.lungs(patient, projection)
    opacity, mask = np.zeros_like(air), np.zeros(air.shape, np.uint8)
    if label == 1:
        opacity, mask = _opacities(opacity_rng, patient, air)
    film = _expose(film_rng, _attenuation(tissue_rng, patient, projection, air, opacity))
    film = acquisition.apply(film)
    image = np.clip(np.round(255.0 * film), 0, 255).astype(np.uint8)
    if len(image) != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    masks = (resized_mask(drawn, (size, size)) for drawn in (mask, _convex_hull(air > 0.5)))
    mask, thorax = (np.where(inside, 255, 0).astype(np.uint8) for inside in masks)
    return Phantom(image=image, mask=mask, thorax=thorax, label=label, acquisition=acquisition)


def _convex_hull(region: np.ndarray) -> np.ndarray:
    points = cv2.findNonZero(region.astype(np.uint8))
    return cv2.fillConvexPoly(np.zeros(region.shape, np.uint8), cv2.convexHull(points), 255)


def check_size(size: int) -> None:
    """Refuse a size in pixels that is too small to show opacities.

    Raises:
        SettingsError: if it is below 32.
    """
    if size < MIN_SIZE:
        raise SettingsError(
            f"Expected `size` of {MIN_SIZE} or more, in pixels: smaller phantoms show no opacities. "
            f"Received {size}.",
            parameter="size",
        )


def _draw_projection(rng: np.random.Generator, pixels: int, *, rotation: float) -> Projection:
    return Projection(
        pixels=pixels,
        scale=rng.uniform(1.02, 1.36),
        tilt=rng.normal(0.0, 0.035) + np.radians(rotation),
        shift=(rng.normal(0.0, 0.02), rng.normal(0.0, 0.025)),
        turn=rng.normal(0.0, 0.15),
    )


def _attenuation(
    rng: np.random.Generator, patient: Patient, projection: Projection, air: np.ndarray, opacity: np.ndarray
) -> np.ndarray:
    """Add up soft tissue, bone and vessels, less the air; opacities replace air and hide vessels."""
    pixels = projection.pixels
    soft = anatomy.trunk(patient, projection) * (1.0 + SOFT_TEXTURE * _smooth_noise(rng, pixels, cells=5))
    aerated = air * (1.0 - opacity)
    texture = 1.0 + LUNG_TEXTURE * _smooth_noise(rng, pixels, cells=40)
    return (
        soft
        * (1.0 - patient.aeration * aerated * texture)
        * (1.0 - anatomy.gas(patient, projection, rng) * (1.0 - air))
        + FLUID * air * opacity
        + anatomy.VESSEL * anatomy.vessels(patient, projection) * aerated
        + anatomy.HEART * anatomy.heart(patient, projection)
        + anatomy.breasts(patient, projection)
        + anatomy.ribs(patient, projection)
        + anatomy.spine(patient, projection)
        + anatomy.shoulder_girdle(patient, projection)
    )


def _opacities(rng: np.random.Generator, patient: Patient, air: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw one to three opacities: the share of air they replace, 0 to 1, and their mask (uint8, 255)."""
    counts, radii, densities = OPACITIES[patient.infection]
    pixels = len(air)
    depth = cv2.distanceTransform((air > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / pixels
    still_clear, mask = np.ones_like(air), np.zeros(air.shape, np.uint8)
    for _ in range(rng.choice(counts)):
        radius = rng.uniform(*radii)
        rows, columns = np.nonzero(depth > min(0.6 * radius, 0.7 * float(depth.max())))
        center = rng.integers(len(rows))
        envelope = air * _envelope(
            rng, pixels, x=columns[center] / pixels, y=rows[center] / pixels, radius=radius
        )
        envelope /= envelope.max()
        mottle = 0.47 + 0.47 * np.tanh(MOTTLE * _smooth_noise(rng, pixels, cells=28))
        still_clear *= 1.0 - rng.uniform(*densities) * envelope * mottle
        mask[envelope > MASK_EDGE] = 255
    return 1.0 - still_clear, mask


def _envelope(rng: np.random.Generator, pixels: int, *, x: float, y: float, radius: float) -> np.ndarray:
    """Draw an irregular patch with fading edges, the union of a few Gaussian lobes around one point."""
    across = np.arange(pixels, dtype=np.float32) / pixels
    lobes = np.zeros((pixels, pixels), np.float32)
    for _ in range(rng.integers(4, 8)):
        shift_x, shift_y = rng.normal(0.0, 0.45 * radius, 2)
        wide, high = radius * rng.uniform(0.35, 0.6, 2)
        lobes += np.outer(
            np.exp(-(((across - y - shift_y) / high) ** 2)), np.exp(-(((across - x - shift_x) / wide) ** 2))
        )
    return 1.0 - np.exp(-3.0 * lobes)


def _smooth_noise(rng: np.random.Generator, pixels: int, *, cells: int) -> np.ndarray:
    """Draw noise of about unit variance, with structures of `1 / cells` image widths and of half that."""
    grids = [rng.standard_normal((many, many), np.float32) for many in (cells, 2 * cells)]
    coarse, fine = (cv2.resize(grid, (pixels, pixels), interpolation=cv2.INTER_CUBIC) for grid in grids)
    return 0.85 * coarse + 0.5 * fine


def _expose(rng: np.random.Generator, attenuation: np.ndarray) -> np.ndarray:
    """Expose and develop the film, about 0 to 1, with scatter, uneven field, grain and collimation."""
    pixels = len(attenuation)
    film = 1.0 - np.exp(-rng.uniform(0.8, 1.5) * attenuation)
    film = _develop(rng, film - rng.uniform(0.2, 0.5) * _scatter(film))
    across = np.linspace(-1.0, 1.0, pixels, dtype=np.float32)
    film += rng.normal(0.0, 0.07) * np.add.outer(across**2, across**2) + 0.06 * _smooth_noise(
        rng, pixels, cells=3
    )
    film = cv2.GaussianBlur(film, (0, 0), rng.uniform(0.3, 0.9) * pixels / WORKING_SIZE)
    film += rng.uniform(0.004, 0.02) * cv2.GaussianBlur(
        rng.standard_normal(film.shape, np.float32), (0, 0), 0.6
    )
    return _collimate(rng, _add_letter(rng, film))


def _scatter(film: np.ndarray) -> np.ndarray:
    """Return scattered radiation: the film blurred over an eighth of its width.

    Imaging systems subtract part of it.
    """
    coarse = cv2.GaussianBlur(cv2.resize(film, (32, 32), interpolation=cv2.INTER_AREA), (0, 0), 4.0)
    return cv2.resize(coarse, film.shape, interpolation=cv2.INTER_CUBIC)


def _develop(rng: np.random.Generator, film: np.ndarray) -> np.ndarray:
    """Match the film to a random histogram, as automatic exposure and a vendor's tone curve do.

    An opacity then cannot brighten the film as a whole. Without this, a regression on brightness separates
    the classes with an AUC of 0.68 instead of 0.6.
    """
    black, white, gamma = rng.uniform(0.0, 0.12), rng.uniform(0.8, 1.0), rng.uniform(0.65, 1.2)
    coarse = cv2.resize(film, (METER_SIZE, METER_SIZE), interpolation=cv2.INTER_AREA)
    reading = np.quantile(coarse, METER_SHARES)
    reading[0], reading[-1] = film.min(), film.max()
    return np.interp(film, reading, black + (white - black) * METER_SHARES**gamma).astype(np.float32)


def _add_letter(rng: np.random.Generator, film: np.ndarray) -> np.ndarray:
    """Add a lead letter for the patient's side beside a shoulder, on some films."""
    if rng.uniform() < 0.4:
        return film
    pixels = len(film)
    letter, x = ("R", rng.uniform(0.02, 0.08)) if rng.uniform() < 0.8 else ("L", rng.uniform(0.87, 0.92))
    corner = (int(x * pixels), int(rng.uniform(0.08, 0.3) * pixels))
    scale, stroke = rng.uniform(0.0012, 0.0025) * pixels, max(1, pixels // 160)
    stamp = np.zeros(film.shape, np.uint8)
    cv2.putText(stamp, letter, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, stroke, cv2.LINE_AA)
    return np.maximum(film, stamp / np.float32(255.0))


def _collimate(rng: np.random.Generator, film: np.ndarray) -> np.ndarray:
    """Cover some edges of the film with the collimator's blades, black or rarely gray."""
    blades = np.where(rng.uniform(size=4) < 0.25, rng.uniform(0.0, 0.05, 4) * len(film), 0.0).astype(int)
    top, bottom, left, right = blades
    covered = np.full_like(film, rng.choice((0.0, 0.0, 0.0, 0.2)))
    open_field = np.s_[top : len(film) - bottom, left : len(film) - right]
    covered[open_field] = film[open_field]
    return covered
