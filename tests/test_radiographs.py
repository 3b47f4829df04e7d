"""One image file becomes gray levels at the size asked, or one line that names the file."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from pneumokeras.data.radiographs import read_radiograph, resize
from pneumokeras.errors import DataError


def smooth(height, width):
    """Gray levels that JPEG keeps nearly as they are, different in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    return (40 + 120 * x / width + 60 * y / height).astype(np.uint8)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_with_orientation(path, pixels, orientation):
    """Write a JPEG whose EXIF block says how the camera, or the scanner, was held."""
    ok, encoded = cv2.imencode(".jpeg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert ok
    content = encoded.tobytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])


def test_a_png_is_read_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    read = read_radiograph(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("suffix", [".jpeg", ".jpg", ".png"])
def test_gray_and_colour_files_of_one_picture_read_the_same(tmp_path, suffix):
    pixels = smooth(32, 48)
    cv2.imwrite(str(tmp_path / f"gray{suffix}"), pixels)
    cv2.imwrite(str(tmp_path / f"colour{suffix}"), cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    gray, colour = (
        read_radiograph(tmp_path / f"gray{suffix}"),
        read_radiograph(str(tmp_path / f"colour{suffix}")),
    )
    assert gray.shape == colour.shape == (32, 48)
    assert np.abs(gray.astype(int) - pixels).max() <= 3
    assert np.abs(gray.astype(int) - colour).max() <= 2


def test_colour_becomes_luminance(tmp_path):
    green = np.zeros((8, 8, 3), np.uint8)
    green[..., 1] = 200
    cv2.imwrite(str(tmp_path / "green.png"), green)
    assert np.abs(read_radiograph(tmp_path / "green.png").astype(float) - 0.587 * 200).max() <= 1


def test_sixteen_bits_become_eight(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), smooth(16, 16).astype(np.uint16) * 257)
    assert np.abs(read_radiograph(tmp_path / "deep.png").astype(int) - smooth(16, 16)).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "upright"), [(3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1))]
)
def test_an_exif_orientation_is_applied(tmp_path, orientation, upright):
    pixels = smooth(32, 48)
    write_with_orientation(tmp_path / "turned.jpeg", pixels, orientation)
    read = read_radiograph(tmp_path / "turned.jpeg")
    assert read.shape == upright(pixels).shape
    assert np.abs(read.astype(int) - upright(pixels)).max() <= 3


def test_shrinking_averages_over_areas(tmp_path):
    pixels = np.zeros((32, 32), np.uint8)
    pixels[::4, ::4] = 160
    cv2.imwrite(str(tmp_path / "dots.png"), pixels)
    assert np.all(read_radiograph(tmp_path / "dots.png", image_size=(8, 8)) == 10)


def test_the_size_is_height_then_width(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), smooth(32, 32))
    assert read_radiograph(tmp_path / "a.png", image_size=(12, 20)).shape == (12, 20)
    assert read_radiograph(tmp_path / "a.png", image_size=(12, 20), pad=True).shape == (12, 20)
    assert read_radiograph(tmp_path / "a.png", image_size=(64, 48)).shape == (64, 48)


def test_padding_keeps_proportions_and_is_black():
    wide = resize(np.full((20, 40), 255, np.uint8), (32, 32), pad=True)
    assert np.all(wide[8:24] == 255)
    assert np.all(wide[:8] == 0)
    assert np.all(wide[24:] == 0)
    tall = resize(np.full((40, 20), 255, np.uint8), (32, 32), pad=True)
    assert np.array_equal(tall, wide.T)


def test_stretching_fills_the_square():
    assert np.all(resize(np.full((20, 40), 255, np.uint8), (32, 32)) == 255)


def test_padding_a_sliver_keeps_at_least_one_pixel():
    assert resize(np.full((2, 400), 255, np.uint8), (16, 16), pad=True).sum() == 16 * 255


def test_a_size_that_is_already_right_changes_nothing():
    pixels = np.random.default_rng(1).integers(0, 256, (24, 24), dtype=np.uint8)
    for pad in (False, True):
        assert np.array_equal(resize(pixels, (24, 24), pad=pad), pixels)


def broken_files():
    ok, jpeg = cv2.imencode(".jpeg", np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    assert ok
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    giant = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"0"))
    return {
        "empty.jpeg": b"",
        "text.jpeg": b"<html>404 Not Found</html>",
        "only_a_header.jpeg": jpeg.tobytes()[:20],
        "half.jpeg": jpeg.tobytes()[: jpeg.size // 2],
        "larger_than_opencv_allows.png": giant + png_chunk(b"IEND", b""),
    }


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_file_is_one_line_that_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(broken_files()[name])
    with pytest.raises(DataError) as caught:
        read_radiograph(tmp_path / name, image_size=(16, 16))
    assert str(tmp_path / name) in str(caught.value)
    assert "Expected a JPEG or PNG" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["empty.jpeg", "text.jpeg", "half.jpeg"])
def test_a_broken_file_prints_nothing(tmp_path, capfd, name):
    (tmp_path / name).write_bytes(broken_files()[name])
    with pytest.raises(DataError):
        read_radiograph(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_and_a_folder_are_one_line_that_names_them(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jpeg: No such file") as caught:
        read_radiograph(tmp_path / "nowhere.jpeg")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="Is a directory"):
        read_radiograph(tmp_path)


def test_a_name_that_is_not_utf_8_is_read(tmp_path):
    name = os.fsdecode(b"r\xf6ntgen.png")
    ok, encoded = cv2.imencode(".png", smooth(16, 16))
    assert ok
    (tmp_path / name).write_bytes(encoded.tobytes())
    assert np.array_equal(read_radiograph(tmp_path / name), smooth(16, 16))


def test_published_files_are_read_gray_and_colour_alike(real_data):
    files = sorted((real_data / "original_size").rglob("*.jpeg"))[::6]
    assert files
    for file in files:
        pixels = read_radiograph(file, image_size=(64, 64))
        assert pixels.shape == (64, 64)
        assert 20 < pixels.mean() < 230
        assert pixels.std() > 10
