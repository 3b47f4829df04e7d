"""Synthetic chest radiographs with known opacities: the data the library carries with it.

A patient is drawn from numbers, projected onto a film and exposed; nothing comes from a real radiograph.
PNEUMONIA radiographs carry opacities in the lungs whose place is known, so that a classifier and its
explanations can be checked against the truth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pneumokeras.data import anatomy
from pneumokeras.data.anatomy import Patient, Projection, draw_patient
from pneumokeras.errors import DataError

WORKING_SIZE = 256  # pixels; smaller radiographs are drawn at this size and area-averaged
MINIMUM_SIZE = 32
MASK_EDGE = 0.4  # an opacity ends where it falls under this share of its own peak


@dataclass(frozen=True)
class Phantom:
    image: np.ndarray
    mask: np.ndarray
    label: int


def draw_phantom(rng, *, label, size=256, patient=None):
    patient = patient or draw_patient(rng)
    pixels = max(size, WORKING_SIZE)
    projection = _position(rng, pixels)
    opacity_rng, film_rng = rng.spawn(2)
    air = anatomy.lungs(patient, projection)
    opacity, mask = np.zeros_like(air), np.zeros(air.shape, np.uint8)
    if label == 1:
        opacity, mask = _opacities(opacity_rng, patient, air)
    image = _expose(film_rng, _attenuation(film_rng, patient, projection, air, opacity), projection)
    if pixels != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
    return Phantom(image=image, mask=np.where(mask > 127, 255, 0).astype(np.uint8), label=label)


def _position(rng, pixels):
    return Projection(
        pixels=pixels,
        scale=rng.uniform(1.02, 1.36),
        tilt=rng.normal(0.0, 0.035),
        shift=(rng.normal(0.0, 0.02), rng.normal(0.0, 0.025)),
        turn=rng.normal(0.0, 0.15),
    )


def _attenuation(rng, patient, projection, air, opacity):
    """Sum of soft tissue, bone and vessels, less what air takes away; opacities fill air and hide vessels."""
    p = patient
    soft = anatomy.trunk(p, projection) * (1.0 + 0.05 * _cloud(rng, projection.pixels, cells=5))
    filled = air * (1.0 - opacity)
    aerated = soft * (1.0 - p.aeration * filled * (1.0 + 0.05 * _cloud(rng, projection.pixels, cells=40)))
    heart = anatomy.heart(p, projection)
    gas = anatomy.TRACHEA * anatomy.windpipe(p, projection) * (1 - air) 
    gas += anatomy.STOMACH_AIR * anatomy.stomach(p, projection, rng) * (1.0 - air)
    return (
        aerated * (1.0 - 0.5 * gas)
        + anatomy.HEART * heart
        + anatomy.VESSEL * anatomy.vessels(p, projection) * filled
        + anatomy.breasts(p, projection)
        + anatomy.ribs(p, projection)
        + anatomy.spine(p, projection)
        + 0.2 * opacity * anatomy.lungs(p, projection)
        + anatomy.shoulder_girdle(p, projection)
    )


def _cloud(rng, pixels, *, cells):
    """Smooth noise of unit variance with structures of about `1 / cells` and half of it."""
    coarse = cv2.resize(rng.standard_normal((cells, cells), np.float32), (pixels, pixels), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.standard_normal((2 * cells, 2 * cells), np.float32), (pixels, pixels), interpolation=cv2.INTER_CUBIC)
    return 0.85 * coarse + 0.5 * fine


def _opacities(rng, patient, air):
    pixels = len(air)
    inside = cv2.distanceTransform((air > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / pixels
    if patient.infection == "bacteria":
        plan = [(rng.uniform(0.1, 0.15), rng.uniform(0.8, 1.0)) for _ in range(rng.choice((1, 1, 1, 2)))]
    else:
        plan = [(rng.uniform(0.065, 0.1), rng.uniform(0.7, 0.9)) for _ in range(rng.integers(2, 4))]
    clear = np.ones_like(air)
    mask = np.zeros(air.shape, np.uint8)
    for radius, density in plan:
        rows, columns = np.nonzero(inside > min(0.6 * radius, 0.7 * inside.max()))
        pick = rng.integers(len(rows))
        patch = air * _patch(rng, pixels, centre=(columns[pick] / pixels, rows[pick] / pixels), radius=radius)
        clear *= 1.0 - density * patch / patch.max()
        mask[patch > MASK_EDGE * patch.max()] = 255
    return 1.0 - clear, mask


def _patch(rng, pixels, *, centre, radius):
    """One ill-defined patch: Gaussian lobes around the centre, mottled."""
    y, x = np.mgrid[0:pixels, 0:pixels].astype(np.float32) / pixels
    patch = np.zeros((pixels, pixels), np.float32)
    for _ in range(rng.integers(4, 8)):
        dx, dy = rng.normal(0.0, 0.45 * radius, 2)
        wide, high = radius * rng.uniform(0.35, 0.6, 2)
        patch += np.exp(-(((x - centre[0] - dx) / wide) ** 2 + ((y - centre[1] - dy) / high) ** 2))
    patch = 1.0 - np.exp(-3.0 * patch)
    return patch * np.clip(1.0 + 0.22 * _cloud(rng, pixels, cells=28), 0.3, 1.6)


def _expose(rng, attenuation, projection):
    n = projection.pixels
    fog, dose, gamma = rng.uniform(0.0, 0.15), rng.uniform(0.8, 1.5), rng.uniform(0.75, 1.4)
    film = (1.0 - np.exp(-dose * (attenuation + fog))) ** gamma
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j].astype(np.float32)
    film *= 1.0 + rng.normal(0, 0.05) * x + rng.normal(0, 0.05) * y - rng.uniform(0.0, 0.1) * (x * x + y * y)
    film = film - rng.uniform(0.35, 0.7) * _lowpass(film.astype(np.float32))
    film = _develop(rng, film)
    film = film + UNEVEN * _cloud(rng, n, cells=3) + rng.normal(0, VIGN) * (x * x + y * y)
    film = cv2.GaussianBlur(film.astype(np.float32), (0, 0), rng.uniform(0.3, 0.9) * n / 256)
    film += rng.uniform(0.004, 0.02) * cv2.GaussianBlur(rng.standard_normal((n, n), np.float32), (0, 0), 0.6)
    film = _collimate(rng, _marker(rng, film))
    return np.clip(np.round(255 * film), 0, 255).astype(np.uint8)


import os
UNEVEN=float(os.environ.get("UNEVEN","0.03"))
VIGN=float(os.environ.get("VIGN","0.04"))
def _lowpass(film):
    small = cv2.resize(film, (32, 32), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), 32*float(os.environ.get("LP","0.12")), borderType=cv2.BORDER_REPLICATE), film.shape[::-1], interpolation=cv2.INTER_CUBIC)

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
LEVELS = (0.02, 0.12, 0.38, 0.56, 0.7, 0.88, 1.0)

def _develop(rng, film):
    contrast, brightness = rng.uniform(0.75,1.05), rng.uniform(-0.07,0.07)
    levels = np.sort(np.asarray(LEVELS) + rng.normal(0,0.02,len(LEVELS)))
    levels = 0.5+brightness + contrast*(levels-0.5)
    return np.interp(film, np.quantile(film, SHARES), levels).astype(np.float32)

def _marker(rng, film):
    n = len(film)
    if rng.uniform() < 0.6:
        side, x = ("R", 0.02 + 0.06*rng.uniform()) if rng.uniform() < 0.8 else ("L", 0.88 + 0.05*rng.uniform())
        y = rng.uniform(0.08, 0.3)
        size = rng.uniform(0.0012, 0.0025) * n
        stamp = np.zeros((n, n), np.uint8)
        cv2.putText(stamp, side, (int(x * n), int(y * n)), cv2.FONT_HERSHEY_SIMPLEX, size, 255, max(1, n // 160), cv2.LINE_AA)
        film = np.maximum(film, 1.1*stamp / 255)
    return film


def _collimate(rng, film):
    n = len(film)
    level = rng.choice((0.0, 0.0, 0.0, 0.2))
    a = [int(n * rng.uniform(0, 0.05)) if rng.uniform() < 0.25 else 0 for _ in range(4)]
    out = np.full_like(film, level)
    out[a[0]:n - a[1], a[2]:n - a[3]] = film[a[0]:n - a[1], a[2]:n - a[3]]
    return out
