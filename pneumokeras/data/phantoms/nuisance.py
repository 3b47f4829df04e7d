"""What differs between phantoms and is no sign of disease: how they are turned, exposed and marked.

A side marker can be made to go with the class, so that learning a shortcut can be shown: train on phantoms
where it does, test on the same phantoms where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pneumokeras.core.errors import DataError

MAX_ROTATION = 45.0  # degrees
MAX_EXPOSURE = 1.0  # powers of two
MARKER_SIDE = 0.12  # image widths; the plate that the letter stands on, so that it is seen on any ground
LETTER_HEIGHT, LETTER_STROKE = 0.08, 0.018


@dataclass(frozen=True)
class Nuisance:
    """How much radiographs differ, beside what `draw_phantom` varies anyway.

    Attributes:
        rotation: the patient is turned in the image by up to so many degrees to either side, 0 to 45.
        exposure: brightness and gamma are each multiplied by 2 to the power of up to so much, up or down,
            0 to 1.
        marker: how far a bright letter on a black plate in an upper corner goes with the class, 0 to 1: it
            is on `(1 + marker) / 2` of the PNEUMONIA and `(1 - marker) / 2` of the NORMAL radiographs, so
            that 0 tells nothing of the class and 1 all of it. `None`: on no radiograph.

    Raises:
        DataError: if a number is out of its range.
    """

    rotation: float = 0.0
    exposure: float = 0.0
    marker: float | None = None

    def __post_init__(self) -> None:
        for name, value, most in (
            ("rotation", self.rotation, MAX_ROTATION),
            ("exposure", self.exposure, MAX_EXPOSURE),
            ("marker", self.marker or 0.0, 1.0),
        ):
            if not 0.0 <= value <= most:
                raise DataError(f"Expected a {name} from 0 to {most:g}. Received {value}.")

    def draw(self, rng: np.random.Generator, *, label: int) -> Acquisition:
        """How one radiograph is taken; a generator of the same seed draws the same, but for the marker.

        Args:
            rng: source of all randomness.
            label: 0 = NORMAL, 1 = PNEUMONIA.
        """
        rotation, gain, gamma = rng.uniform(-1.0, 1.0, 3) * (self.rotation, self.exposure, self.exposure)
        chance, letter = rng.uniform(), str(rng.choice(("L", "R")))
        share = 0.0 if self.marker is None else 0.5 + (label - 0.5) * self.marker
        return Acquisition(
            rotation=float(rotation),
            gain=float(2.0**gain),
            gamma=float(2.0**gamma),
            marker=letter if chance < share else "",
        )


NO_NUISANCE = Nuisance()


@dataclass(frozen=True)
class Acquisition:
    """How one radiograph was taken.

    Attributes:
        rotation: degrees, clockwise.
        gain: factor of the brightness.
        gamma: exponent of the brightness, before the gain.
        marker: `"L"` in the upper right corner, `"R"` in the upper left, or empty.
    """

    rotation: float
    gain: float
    gamma: float
    marker: str

    def develop(self, film: np.ndarray) -> np.ndarray:
        """The film with its exposure and its marker.

        Args:
            film: `(pixels, pixels)` floats, about 0 (black) to 1 (white).

        Returns:
            A film of the same shape, 0 to 1.
        """
        film = np.clip(self.gain * np.clip(film, 0.0, 1.0) ** self.gamma, 0.0, 1.0)
        if self.marker:
            side = round(MARKER_SIDE * len(film))
            corner = np.s_[:side, :side] if self.marker == "R" else np.s_[:side, -side:]
            film[corner] = _plate(self.marker, side, len(film))
        return film


def _plate(letter: str, side: int, pixels: int) -> np.ndarray:
    """`(side, side)` floats: a white letter, 1, on black, 0."""
    plate = np.zeros((side, side), np.uint8)
    font, stroke = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(LETTER_STROKE * pixels))
    (_, unit), _ = cv2.getTextSize(letter, font, 1.0, 1)
    scale = LETTER_HEIGHT * pixels / unit
    (width, height), _ = cv2.getTextSize(letter, font, scale, stroke)
    place = ((side - width) // 2, (side + height) // 2)
    cv2.putText(plate, letter, place, font, scale, 255, stroke, cv2.LINE_AA)
    return plate / np.float32(255.0)
