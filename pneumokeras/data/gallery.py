"""Pictures of radiographs for a notebook, as HTML that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from pneumokeras.core.html import data_uri
from pneumokeras.core.words import number_of

SIDE = 160
"""Longer side of a picture, in pixels."""


@dataclass(frozen=True, repr=False)
class Gallery:
    """Radiographs in titled rows; as the last expression of a notebook cell it shows itself.

    Attributes:
        rows: for each row a title, and its pictures: `(height, width)` gray levels and a caption.
    """

    rows: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]]

    def __repr__(self) -> str:
        """Return the number of pictures."""
        return f"<Gallery of {number_of(sum(len(pictures) for _, pictures in self.rows), 'radiograph')}>"

    def _repr_html_(self) -> str:
        return "".join(
            f"<p><b>{escape(title)}</b></p>"
            f'<div style="display: flex; flex-wrap: wrap; gap: 8px">{"".join(map(_figure, pictures))}</div>'
            for title, pictures in self.rows
        )


def _figure(picture: tuple[np.ndarray, str]) -> str:
    pixels, caption = picture
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    text = escape(caption)
    return (
        f'<figure style="margin: 0; width: {SIDE}px; overflow-wrap: anywhere">'
        f'<img src="{data_uri("image/jpeg", jpeg)}" alt="{text}" title="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
