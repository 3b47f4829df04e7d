"""Confounders of phantoms: rotation, exposure and a side marker, none of them a sign of disease.

The marker can be correlated with the class, to demonstrate that a network learns a shortcut: train on
phantoms where it is correlated, test on the same phantoms where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pneumokeras.core.errors import SettingsError

MAX_ROTATION = 45.0  # degrees
MAX_EXPOSURE = 1.0  # powers of two
MARKER_SIDE = 0.12  # image widths; a black plate makes the letter visible on any background
LETTER_HEIGHT, LETTER_STROKE = 0.08, 0.018


@dataclass(frozen=True)
class Nuisance:
    """How much phantoms vary in rotation, exposure and marking, beyond what `draw_phantom` always varies.

    Attributes:
        rotation: largest rotation of the patient to either side, in degrees, 0 to 45.
        exposure: brightness and gamma are each multiplied by a factor of up to 2 to this power, or divided by
            it, 0 to 1.
        marker: how strongly a side marker, a bright letter on a black plate in an upper corner, is associated
            with the class, 0 to 1. It is on `(1 + marker) / 2` of the PNEUMONIA and `(1 - marker) / 2` of the
            NORMAL radiographs, so 0 reveals nothing about the class and 1 everything. `None`: no markers.

    Raises:
        SettingsError: if a number is out of range.

    Example:
        >>> marked = pk.Nuisance(marker=1.0)
        >>> marked.rotation
        0.0
        >>> summary = pk.write_phantoms("marked", count=12, size=32, nuisance=marked)
    """

    rotation: float = 0.0
    exposure: float = 0.0
    marker: float | None = None

    def __post_init__(self) -> None:
        for name, value, maximum in (
            ("rotation", self.rotation, MAX_ROTATION),
            ("exposure", self.exposure, MAX_EXPOSURE),
            ("marker", self.marker or 0.0, 1.0),
        ):
            if not 0.0 <= value <= maximum:
                raise SettingsError(
                    f"Expected `{name}` from 0 to {maximum:g}. Received {value}.", parameter=name
                )

    def draw(self, rng: np.random.Generator, *, label: int) -> Acquisition:
        """Draw how one radiograph is taken.

        Args:
            rng: source of all randomness; the same seed draws the same rotation and exposure for both labels.
            label: 0 = NORMAL, 1 = PNEUMONIA.
        """
        rotation, gain, gamma = rng.uniform(-1.0, 1.0, 3) * (self.rotation, self.exposure, self.exposure)
        drawn, letter = rng.uniform(), str(rng.choice(("L", "R")))
        probability = 0.0 if self.marker is None else 0.5 + (label - 0.5) * self.marker
        return Acquisition(
            rotation=float(rotation),
            gain=float(2.0**gain),
            gamma=float(2.0**gamma),
            marker=letter if drawn < probability else "",
        )


NO_NUISANCE = Nuisance()


@dataclass(frozen=True)
class Acquisition:
    """How one radiograph was taken.

    Attributes:
        rotation: degrees, clockwise.
        gain: factor on the brightness.
        gamma: exponent of the brightness, applied before the gain.
        marker: `"L"` in the upper right corner, `"R"` in the upper left, or empty.
    """

    rotation: float
    gain: float
    gamma: float
    marker: str

    def apply(self, film: np.ndarray) -> np.ndarray:
        """Return a film, `(pixels, pixels)` floats from 0 (black) to 1 (white), with exposure and marker."""
        film = np.clip(self.gain * np.clip(film, 0.0, 1.0) ** self.gamma, 0.0, 1.0)
        if self.marker:
            side = round(MARKER_SIDE * len(film))
            corner = np.s_[:side, :side] if self.marker == "R" else np.s_[:side, -side:]
            film[corner] = _plate(self.marker, side, len(film))
        return film


def _plate(letter: str, side: int, pixels: int) -> np.ndarray:
    """Return a white letter, 1, on a black plate, 0: `(side, side)` floats."""
    plate = np.zeros((side, side), np.uint8)
    font, stroke = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(LETTER_STROKE * pixels))
    (_, unit), _ = cv2.getTextSize(letter, font, 1.0, 1)
    scale = LETTER_HEIGHT * pixels / unit
    (width, height), _ = cv2.getTextSize(letter, font, scale, stroke)
    place = ((side - width) // 2, (side + height) // 2)
    cv2.putText(plate, letter, place, font, scale, 255, stroke, cv2.LINE_AA)
    return plate / np.float32(255.0)
