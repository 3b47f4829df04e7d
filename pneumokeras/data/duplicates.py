"""Find duplicates: radiographs with equal pixels, or pixels that differ only as edited versions of one do."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pneumokeras.data.images.image import resize

THUMBNAIL_SIDE = 32  # pixels
RADIUS = 7
"""The hashes of two duplicates may differ in this many of 64 bits."""

MIN_CORRELATION = 0.95
MIN_DETAIL_CORRELATION = 0.85
"""Minimum correlation of the thumbnails of two duplicates, before and after high-pass filtering.

Measured on 5,528 radiographs of children: different ones within the radius reach at most 0.67 in detail,
and two just outside it, perhaps of one child, reach 0.82. Duplicates in JPEG quality 20, halved, brightened,
rotated by 1 degree or cropped by 1% a side lie above 0.88.
"""

_MIN_RANGE = 8  # gray levels; a flatter thumbnail has no features that distinguish it
_FREQUENCIES = 8
_BLUR = 1.0  # pixels; anything coarser is much the same in all chests
_PARTS = 4
_FLIPPED = (0, *(1 << bit for bit in range(16)))
_FEW = 4096
_INDEX_COST = 20  # to look up and compare one pair takes as long as to compare this many one after the other
_MAX_PAIRS, _MAX_THUMBNAILS = 1 << 21, 1 << 13  # compared at a time, to bound memory


def pixel_digest(pixels: np.ndarray) -> str:
    """Return a 128-bit hash of a `(height, width)` array of `uint8`, equal for equal pixels and shape."""
    mark = np.array(pixels.shape).tobytes()  # 2 x 8 pixels are not the same radiograph as 4 x 4
    return blake2b(pixels.tobytes(), digest_size=16, salt=mark).hexdigest()


def thumbnail_of(pixels: np.ndarray) -> np.ndarray:
    """Return a `(height, width)` array of `uint8` at the size that duplicates are sought at, `(32, 32)`."""
    return resize(pixels, (THUMBNAIL_SIDE, THUMBNAIL_SIDE))


def exact_groups(digests: np.ndarray) -> list[np.ndarray]:
    """Return the rows that share a digest, as groups of two or more.

    Args:
        digests: `(n,)` strings.
    """
    _, group_of_row = np.unique(digests.astype(str), return_inverse=True)
    return _groups_of_several(group_of_row)


def near_groups(digests: np.ndarray, thumbnails: np.ndarray) -> list[np.ndarray]:
    """Return the rows of near-duplicates, as groups; of rows with equal pixels only the first is considered.

    Args:
        digests: `(n,)` strings, equal where the pixels are.
        thumbnails: `(n, side, side)` array of `uint8`.
    """
    _, distinct = np.unique(digests.astype(str), return_index=True)
    distinct.sort()
    candidates = distinct[np.ptp(thumbnails[distinct], axis=(1, 2)) >= _MIN_RANGE]
    return [candidates[group] for group in _groups_of_several(link_duplicates(thumbnails[candidates]))]


def merge_near_duplicates(digests: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Return `digests` with one digest for all duplicates, exact and near.

    Args:
        digests: `(n,)` strings, equal where the pixels are.
        thumbnails: `(n, side, side)` array of `uint8`.

    Returns:
        `(n,)` strings.
    """
    merged = {digest: digest for digest in digests}
    for rows in near_groups(digests, thumbnails):
        merged |= dict.fromkeys(digests[rows], min(digests[rows]))
    return np.array([merged[digest] for digest in digests], dtype=object)


def link_duplicates(thumbnails: np.ndarray) -> np.ndarray:
    """Return the number of each thumbnail's group, equal for duplicates, direct or through others.

    Args:
        thumbnails: `(n, side, side)` array of `uint8`, none of them flat.

    Returns:
        `(n,)` integers.
    """
    groups = np.arange(len(thumbnails))
    hashes = np.concatenate([perceptual_hashes(part) for part in _in_parts(thumbnails)])
    for found in close_pairs(hashes):
        for part in _in_parts(found):
            # Linked pairs are skipped: a thousand duplicates would make half a million pairs.
            pairs = part[groups[part[:, 0]] != groups[part[:, 1]]]
            groups = _linked(groups, pairs[are_duplicates(thumbnails, pairs)])
    return groups


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Return a DCT hash of each thumbnail: 64 bits that survive recompression, resizing and exposure.

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
    square[:, 0] = coefficients[:, 0, _FREQUENCIES]  # in place of the mean
    return np.packbits(square > 0, axis=1).view(np.uint64).reshape(-1)


def close_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all pairs of hashes that differ in at most `RADIUS` bits, each once.

    Two such hashes differ in at most one bit of at least one of their four 16-bit parts. Where few hashes
    agree so far in a part, only these are compared; otherwise each with all.

    Args:
        hashes: `(n,)` array of `uint64`.

    Yields:
        `(p, 2)` integers, rows of `hashes`; at most `_MAX_PAIRS` or n pairs, so that memory stays bounded
        however many pairs there are.
    """
    parts = np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, _PARTS)
    if len(hashes) < _FEW or _INDEX_COST * _count_alike(parts) > len(hashes) ** 2:
        yield from _pairs_of_all(hashes)
        return
    for number in range(_PARTS):
        for pairs in _pairs_alike(parts[:, number]):
            differences = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
            close = np.bitwise_count(differences) <= RADIUS
            earlier = differences[close].view(np.uint16).reshape(-1, _PARTS)[:, :number]
            yield pairs[close][(np.bitwise_count(earlier) > 1).all(axis=1)]  # the others came before


def _count_alike(parts: np.ndarray) -> int:
    """Return how many pairs of rows, in either order, differ in at most one bit of a part, part by part."""
    total = 0
    for part in parts.T:
        counts = np.bincount(part, minlength=2**16)
        total += sum(int(counts @ counts[np.arange(2**16) ^ flipped]) for flipped in _FLIPPED)
    return total


def _pairs_alike(part: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pairs of rows whose 16 bits differ in at most one, each once, the earlier row first."""
    order = np.argsort(part, kind="stable")
    starts = np.searchsorted(part[order], np.arange(2**16 + 1))
    for flipped in _FLIPPED:
        sought = part.astype(np.intp) ^ flipped
        first, counts = starts[sought], starts[sought + 1] - starts[sought]
        ends = np.cumsum(counts)
        begins = ends - counts
        for rows in np.split(np.arange(len(part)), np.flatnonzero(np.diff(ends // _MAX_PAIRS)) + 1):
            left = np.repeat(rows, counts[rows])
            right = order[first[left] + (begins[rows[0]] + np.arange(len(left))) - begins[left]]
            yield np.stack([left, right], axis=1)[right > left]


def _pairs_of_all(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the close pairs by comparing each hash with all that follow it, a block of rows at a time."""
    count = len(hashes)
    height = max(1, _MAX_PAIRS // max(count, 1))
    for start in range(0, count, height):
        block = hashes[start : start + height]
        distances = np.bitwise_count(block[:, np.newaxis] ^ hashes[start:])
        left, right = np.nonzero(distances <= RADIUS)
        later = right > left
        yield start + np.stack([left[later], right[later]], axis=1)


def are_duplicates(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return whether the two thumbnails of each pair are of duplicates.

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
    return np.array_split(rows, len(rows) // _MAX_THUMBNAILS + 1)


def _linked(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return `groups` with the two groups of each pair merged."""
    if not len(pairs):
        return groups
    links = coo_array((np.ones(len(pairs)), groups[pairs].T), shape=(len(groups), len(groups)))
    return connected_components(links, directed=False)[1][groups]


def _groups_of_several(group_of_row: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(group_of_row, kind="stable")
    edges = np.flatnonzero(np.diff(group_of_row[order])) + 1
    return sorted((group for group in np.split(order, edges) if len(group) > 1), key=lambda group: group[0])


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the `(p,)` correlations of two `(p, side, side)` arrays, image by image."""
    one, other = (images - images.mean(axis=(1, 2), keepdims=True) for images in (first, second))
    products = np.einsum("pij,pij->p", one, other)
    norms = np.sqrt(np.einsum("pij,pij->p", one, one) * np.einsum("pij,pij->p", other, other))
    return products / np.maximum(norms, np.finfo(np.float32).tiny)


def _detail(images: np.ndarray) -> np.ndarray:
    """Return images minus their Gaussian blur."""
    places = np.arange(images.shape[-1])
    blur = np.exp(-0.5 * (np.subtract.outer(places, places) / _BLUR) ** 2)
    blur = (blur / blur.sum(axis=1, keepdims=True)).astype(np.float32)
    return images - blur @ images @ blur.T
