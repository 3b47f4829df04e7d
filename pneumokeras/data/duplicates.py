"""The same radiograph twice: equal pixels, or pixels that differ as copies of one film differ."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pneumokeras.data.images.image import resize

THUMBNAIL_SIDE = 32  # pixels
BANDS, BAND_BITS = 4, 16
RADIUS = 2 * BANDS - 1
"""Bits of 64 in which the hashes of two copies may differ: then one band differs in a single bit or none."""

MIN_CORRELATION = 0.95
MIN_DETAIL_CORRELATION = 0.85
"""How alike two thumbnails are at the least, as they are and without what is coarse in them.

Measured on 5,528 radiographs of children: of films within the radius that are no copies, the most alike
reach 0.67 in detail, and a little outside of it two that may be one child's reach 0.82; copies in JPEG
quality 20, halved, brightened, turned by 1 degree or cut by 1 % a side lie above 0.88.
"""

_MIN_RANGE = 8  # gray levels; what is flatter has no features to tell it from others by
_FREQUENCIES = 8
_BLUR = 1.0  # pixels; what is coarser than this makes all chests alike
_MAX_PAIRS, _MAX_PICTURES = 1 << 21, 1 << 13  # looked at in one go, to bound memory
_BIT_COUNTS = np.array([bits.bit_count() for bits in range(1 << BAND_BITS)], dtype=np.uint8)


def pixel_digest(pixels: np.ndarray) -> str:
    """A 128-bit hash of a `(height, width)` array of `uint8`, equal for equal pixels in equal places."""
    mark = np.array(pixels.shape).tobytes()  # 2 x 8 pixels are not the same radiograph as 4 x 4
    return blake2b(pixels.tobytes(), digest_size=16, salt=mark).hexdigest()


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """A `(height, width)` array of `uint8` at the size that copies are compared at, `(32, 32)`."""
    return resize(pixels, (THUMBNAIL_SIDE, THUMBNAIL_SIDE))


def exact_groups(digests: np.ndarray) -> list[np.ndarray]:
    """The rows that share a digest, group by group, each of two or more.

    Args:
        digests: `(n,)` strings.
    """
    _, group_of_row = np.unique(digests.astype(str), return_inverse=True)
    return _groups_of_several(group_of_row)


def near_groups(digests: np.ndarray, thumbnails: np.ndarray) -> list[np.ndarray]:
    """The rows that show one film, though not with equal pixels; of those with equal pixels only the first.

    Args:
        digests: `(n,)` strings, equal where the pixels are.
        thumbnails: `(n, side, side)` array of `uint8`.
    """
    _, distinct = np.unique(digests.astype(str), return_index=True)
    distinct.sort()
    telling = distinct[np.ptp(thumbnails[distinct], axis=(1, 2)) >= _MIN_RANGE]
    return [telling[group] for group in _groups_of_several(films_of(thumbnails[telling]))]


def digests_of_films(digests: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """`digests` with one for all radiographs that show one film, be their pixels equal or not.

    Args:
        digests: `(n,)` strings, equal where the pixels are.
        thumbnails: `(n, side, side)` array of `uint8`.

    Returns:
        `(n,)` strings.
    """
    film_of = {digest: digest for digest in digests}
    for rows in near_groups(digests, thumbnails):
        film_of |= dict.fromkeys(digests[rows], digests[rows[0]])
    return np.array([film_of[digest] for digest in digests], dtype=object)


def films_of(thumbnails: np.ndarray) -> np.ndarray:
    """Which film each picture shows: pictures that are linked by copies have the same number.

    Args:
        thumbnails: `(n, side, side)` array of `uint8`, none of them flat.

    Returns:
        `(n,)` integers.
    """
    films = np.arange(len(thumbnails))
    hashes = np.concatenate([perceptual_hashes(part) for part in _in_parts(thumbnails)])
    for found in close_pairs(hashes):
        for part in _in_parts(found):
            # Pairs that are linked already need no look: a thousand copies would make half a million.
            pairs = part[films[part[:, 0]] != films[part[:, 1]]]
            films = _linked(films, pairs[are_copies(thumbnails, pairs)])
    return films


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """64 bits of each picture that survive recompression, resizing and exposure: a DCT hash.

    Args:
        thumbnails: `(n, side, side)` array, side 9 or more.

    Returns:
        `(n,)` array of `uint64`: the signs of the coarsest cosine coefficients, without the mean.

    Reference: Zauner (2010), Implementation and Benchmarking of Perceptual Image Hash Functions.
    """
    side = thumbnails.shape[-1]
    steps = np.pi / side * (np.arange(side) + 0.5)
    cosines = np.cos(np.outer(np.arange(_FREQUENCIES + 1), steps)).astype(np.float32)
    coefficients = cosines @ thumbnails.astype(np.float32) @ cosines.T
    square = coefficients[:, :_FREQUENCIES, :_FREQUENCIES].reshape(-1, _FREQUENCIES**2)
    square[:, 0] = coefficients[:, 0, _FREQUENCIES]  # in the place of the mean
    return np.packbits(square > 0, axis=1).view(np.uint64).reshape(-1)


def close_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """All pairs of hashes that differ in at most `RADIUS` bits, each once.

    Two such hashes have a band of 16 bits in which they differ in one bit or none (pigeonhole), so only
    the members of equal and of neighboring buckets are compared, never all with all.

    Args:
        hashes: `(n,)` array of `uint64`.

    Yields:
        `(p, 2)` integers, rows of `hashes`; memory stays bounded however many pairs there are.

    Reference: Norouzi, Punjani, Fleet (2012), Fast Search in Hamming Space with Multi-Index Hashing.
    """
    bands = _bands(hashes)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        values = bands[order, band].astype(int)
        starts = np.searchsorted(values, np.arange((1 << BAND_BITS) + 1))
        for flip in (0, *(1 << bit for bit in range(BAND_BITS))):
            for left, right in _neighbors(values, starts, flip):
                pairs = np.stack([order[left], order[right]], axis=1)
                differences = _BIT_COUNTS[bands[pairs[:, 0]] ^ bands[pairs[:, 1]]]
                is_close = differences.sum(axis=1) <= RADIUS
                found_before = (differences[:, :band] <= 1).any(axis=1)
                yield pairs[is_close & ~found_before]


def are_copies(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Whether the two of each pair show one film.

    Args:
        thumbnails: `(n, side, side)` array of `uint8`, none of them flat.
        pairs: `(p, 2)` integers, rows of `thumbnails`.

    Returns:
        `(p,)` booleans.
    """
    first, second = (thumbnails[pairs[:, column]].astype(np.float32) for column in (0, 1))
    alike = _correlations(first, second) >= MIN_CORRELATION
    alike[alike] = _correlations(_detail(first[alike]), _detail(second[alike])) >= MIN_DETAIL_CORRELATION
    return alike


def _in_parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, len(rows) // _MAX_PICTURES + 1)


def _linked(films: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """`films` after those of each pair have become one."""
    if not len(pairs):
        return films
    links = coo_array((np.ones(len(pairs)), films[pairs].T), shape=(len(films), len(films)))
    return connected_components(links, directed=False)[1][films]


def _groups_of_several(group_of_row: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(group_of_row, kind="stable")
    edges = np.flatnonzero(np.diff(group_of_row[order])) + 1
    return sorted((group for group in np.split(order, edges) if len(group) > 1), key=lambda group: group[0])


def _bands(hashes: np.ndarray) -> np.ndarray:
    """`(n, 4)` array of `uint16`; bits that hardly vary are dealt out, or one band would tell little."""
    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1)
    by_balance = np.argsort(np.abs(bits.mean(axis=0) - 0.5), kind="stable") if len(bits) else np.arange(64)
    dealt = np.concatenate([by_balance[band::BANDS] for band in range(BANDS)])
    return np.packbits(bits.take(dealt, axis=1), axis=1).view(np.uint16)


def _neighbors(values: np.ndarray, starts: np.ndarray, flip: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of places in sorted `values` that differ by `flip`, the smaller first, a chunk at a time."""
    places = np.arange(len(values))
    partners = values ^ flip
    first = np.maximum(starts[partners], places + 1) if flip == 0 else starts[partners]
    numbers = np.where(values <= partners, starts[partners + 1] - first, 0)
    chunk_of_place = np.cumsum(numbers) // _MAX_PAIRS
    for chunk in np.split(places, np.flatnonzero(np.diff(chunk_of_place)) + 1):
        number = numbers[chunk]
        ends = np.cumsum(number)
        left = np.repeat(chunk, number)
        right = np.arange(len(left)) + np.repeat(first[chunk] - (ends - number), number)
        yield left, right


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`(p,)` correlations of two `(p, side, side)` arrays, picture by picture."""
    one, other = (pictures - pictures.mean(axis=(1, 2), keepdims=True) for pictures in (first, second))
    products = np.einsum("pij,pij->p", one, other)
    norms = np.sqrt(np.einsum("pij,pij->p", one, one) * np.einsum("pij,pij->p", other, other))
    return products / np.maximum(norms, np.finfo(np.float32).tiny)


def _detail(pictures: np.ndarray) -> np.ndarray:
    """What a Gaussian blur would take away."""
    places = np.arange(pictures.shape[-1])
    blur = np.exp(-0.5 * (np.subtract.outer(places, places) / _BLUR) ** 2)
    blur = (blur / blur.sum(axis=1, keepdims=True)).astype(np.float32)
    return pictures - blur @ pictures @ blur.T
