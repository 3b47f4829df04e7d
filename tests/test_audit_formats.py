"""A file's bytes say what it is and whether its end is there."""

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumokeras.data.images.formats import FileFormat, format_of

GRAY = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
COLOR = np.dstack([GRAY, GRAY[::-1], GRAY])
ALPHA = np.dstack([COLOR, GRAY])


def encoded(suffix, pixels, *settings):
    ok, content = cv2.imencode(suffix, pixels, list(settings))
    assert ok
    return content.tobytes()


def with_thumbnail(jpeg):
    """A JPEG that carries a small whole one in its first segment, as cameras write it."""
    inner = encoded(".jpg", GRAY[:8, :8])
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + jpeg[2:]


@pytest.mark.parametrize(
    ("content", "title"),
    [
        (encoded(".jpg", GRAY), "JPEG gray"),
        (encoded(".jpg", COLOR), "JPEG RGB"),
        (encoded(".jpg", GRAY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "JPEG gray"),
        (with_thumbnail(encoded(".jpg", COLOR)), "JPEG RGB"),
        (encoded(".png", GRAY), "PNG gray"),
        (encoded(".png", GRAY.astype(np.uint16) * 257), "PNG gray 16-bit"),
        (encoded(".png", ALPHA), "PNG RGB with alpha"),
        (encoded(".bmp", GRAY), "BMP"),
        (encoded(".tiff", GRAY), "TIFF"),
        (bytes(128) + b"DICM" + bytes(8), "DICOM"),
        (b"hello", "other"),
    ],
)
def test_format_and_mode_are_told_by_content(content, title):
    header = format_of(content)
    assert header.title == title
    assert header.complete


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_file_without_its_end_is_incomplete(suffix, share):
    content = encoded(suffix, COLOR)
    assert not format_of(content[: int(share * len(content))]).complete


def test_the_end_of_an_embedded_thumbnail_is_not_the_end_of_the_file():
    content = with_thumbnail(encoded(".jpg", COLOR))
    assert not format_of(content[: int(0.9 * len(content))]).complete


def test_markers_are_found_behind_filling_and_beside_those_without_a_length():
    content = encoded(".jpg", COLOR)
    assert format_of(content[:2] + b"\xff\x01" + 5 * b"\xff" + content[2:]) == FileFormat("JPEG", "RGB")


def test_bytes_behind_the_end_do_no_harm():
    assert format_of(encoded(".jpg", GRAY) + bytes(16)).complete
    assert format_of(encoded(".png", GRAY) + b"\n").complete


def test_a_format_fits_its_own_endings_only():
    assert FileFormat("JPEG").fits(".jpg")
    assert not FileFormat("PNG").fits(".jpeg")
    assert FileFormat("").fits(".jpeg")  # nothing is known of it: decoding will tell


@given(st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]), st.binary(max_size=80))
def test_no_bytes_make_it_fail(start, rest):
    assert isinstance(format_of(start + rest), FileFormat)
