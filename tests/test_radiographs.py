"""One image file becomes gray levels at the size asked, or one line that names the file."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from pneumokeras.core.errors import DataError
from pneumokeras.data.images.image import eight_bits, read_radiograph, resize


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
def test_gray_and_color_files_of_one_picture_read_the_same(tmp_path, suffix):
    pixels = smooth(32, 48)
    cv2.imwrite(str(tmp_path / f"gray{suffix}"), pixels)
    cv2.imwrite(str(tmp_path / f"color{suffix}"), cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    gray, color = (
        read_radiograph(tmp_path / f"gray{suffix}"),
        read_radiograph(str(tmp_path / f"color{suffix}")),
    )
    assert gray.shape == color.shape == (32, 48)
    assert np.abs(gray.astype(int) - pixels).max() <= 3
    assert np.abs(gray.astype(int) - color).max() <= 2


def test_color_becomes_luminance(tmp_path):
    green = np.zeros((8, 8, 3), np.uint8)
    green[..., 1] = 200
    cv2.imwrite(str(tmp_path / "green.png"), green)
    assert np.abs(read_radiograph(tmp_path / "green.png").astype(float) - 0.587 * 200).max() <= 1


def write_with_pillow(path, picture, **options):
    """Pillow writes what OpenCV only reads: CMYK, progressive files, palettes, transparency."""
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_become_eight_by_the_depth_that_was_used(tmp_path, suffix, bits, channels):
    shades = np.rint(smooth(16, 16) / 255 * (2**bits - 1)).astype(np.uint16)
    shades[0, 0] = 2**bits - 1
    deep = shades if channels == 1 else np.repeat(shades[..., None], channels, axis=2)
    cv2.imwrite(str(tmp_path / f"deep{suffix}"), deep)
    read = read_radiograph(tmp_path / f"deep{suffix}").astype(int)
    assert read[0, 0] == 255
    assert np.abs(read - smooth(16, 16))[1:].max() <= 1


def test_a_dark_picture_of_sixteen_bits_is_not_stretched_to_white():
    assert eight_bits(np.array([[0, 2**13]], np.uint16)).max() == 128
    assert eight_bits(np.array([[0, 2**15]], np.uint16)).max() == 128
    assert eight_bits(np.zeros((2, 2), np.uint16)).max() == 0


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_gray_color_and_palette_of_files_without_loss_are_read_exactly(tmp_path, suffix, mode):
    picture = Image.fromarray(smooth(20, 30)).convert(mode)
    path = write_with_pillow(tmp_path / f"a{suffix}", picture)
    assert np.array_equal(read_radiograph(path), smooth(20, 30))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"])
def test_compressed_tiff_is_read_exactly(tmp_path, compression):
    picture = Image.fromarray(smooth(20, 30))
    path = write_with_pillow(tmp_path / "a.tiff", picture, compression=compression)
    assert np.array_equal(read_radiograph(path), smooth(20, 30))


def write_tiff_where_white_is_zero(path, pixels):
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    content = cv2.imencode(".tiff", pixels, options)[1].tobytes()
    black_is_zero, white_is_zero = (struct.pack("<HHII", 262, 3, 1, value) for value in (1, 0))
    assert black_is_zero in content
    path.write_bytes(content.replace(black_is_zero, white_is_zero))
    return path


def test_tiff_where_white_is_zero_is_turned_round_or_refused(tmp_path):
    eight = write_tiff_where_white_is_zero(tmp_path / "8.tiff", smooth(8, 8))
    assert np.array_equal(read_radiograph(eight), 255 - smooth(8, 8))
    sixteen = write_tiff_where_white_is_zero(tmp_path / "16.tiff", smooth(8, 8).astype(np.uint16) * 257)
    with pytest.raises(DataError, match="white is zero"):
        read_radiograph(sixteen)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_ignored(tmp_path, mode):
    picture = Image.fromarray(smooth(20, 30)).convert(mode)
    picture.putalpha(100)
    assert np.array_equal(read_radiograph(write_with_pillow(tmp_path / "a.png", picture)), smooth(20, 30))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("image_size", [None, (30, 40)])
def test_every_kind_of_jpeg_is_read(tmp_path, mode, progressive, image_size):
    picture = Image.fromarray(smooth(240, 320)).convert("RGB").convert(mode)
    path = write_with_pillow(tmp_path / "a.jpeg", picture, quality=95, progressive=progressive)
    expected = smooth(240, 320) if image_size is None else resize(smooth(240, 320), image_size)
    assert np.abs(read_radiograph(path, image_size=image_size).astype(int) - expected).max() <= 4


def test_a_file_is_what_its_content_says_whatever_its_ending(tmp_path):
    path = write_with_pillow(tmp_path / "a.jpeg", Image.fromarray(smooth(20, 30)), format="PNG")
    assert np.array_equal(read_radiograph(path), smooth(20, 30))


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("shape", [(300, 400), (1201, 1603), (999, 2999), (3001, 1000)])
def test_a_large_jpeg_is_decoded_small_and_loses_nothing(tmp_path, monkeypatch, shape, pad):
    rough = np.random.default_rng(0).normal(0, 12, shape)
    picture = np.clip(smooth(*shape) + cv2.GaussianBlur(rough, (0, 0), 2), 0, 255).astype(np.uint8)
    path = write_with_pillow(tmp_path / "a.jpeg", Image.fromarray(picture), quality=90)
    ways = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda content, how: ways.append(how) or decode(content, how))
    small = read_radiograph(path, image_size=(224, 224), pad=pad).astype(int)
    whole = resize(read_radiograph(path), (224, 224), pad=pad)
    assert np.abs(small - whole).mean() < 1
    factor = 1 if min(shape) < 500 else 4
    flags = {1: cv2.IMREAD_GRAYSCALE, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
    assert ways == [flags[factor], cv2.IMREAD_GRAYSCALE]


def test_a_turned_jpeg_that_is_decoded_small_stands_upright(tmp_path):
    write_with_orientation(tmp_path / "turned.jpeg", smooth(600, 900), 6)
    read = read_radiograph(tmp_path / "turned.jpeg", image_size=(90, 60))
    assert np.abs(read.astype(int) - resize(np.rot90(smooth(600, 900), -1), (90, 60))).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("image_size", [None, (40, 40)])
@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 5}, {"restart_marker_rows": 1}])
def test_a_jpeg_that_was_cut_and_closed_again_is_noticed(tmp_path, mode, kept, image_size, options):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(stream, "JPEG", **options)
    content = stream.getvalue()
    (tmp_path / "cut.jpeg").write_bytes(content[: int(kept * len(content))] + b"\xff\xd9")
    with pytest.raises(DataError, match="lower part is missing"):
        read_radiograph(tmp_path / "cut.jpeg", image_size=image_size)


@pytest.mark.parametrize("image_size", [None, (40, 40)])
def test_a_whole_jpeg_whose_last_pixel_is_middle_gray_by_chance_is_decoded_once(
    tmp_path, monkeypatch, capfd, image_size
):
    # libjpeg would write of a second decoding to standard error.
    block = np.where(np.arange(8) < 4, 120, 128) * np.ones((8, 1))
    path = tmp_path / "a.jpeg"
    Image.fromarray(np.tile(block, (30, 40)).astype(np.uint8)).save(path, quality=100)
    ways, decode = [], cv2.imdecode

    def seen(content, how):
        ways.append(decode(content, how))
        return ways[-1]

    monkeypatch.setattr(cv2, "imdecode", seen)
    read_radiograph(path, image_size=image_size)
    assert [pixels[-1, -1] for pixels in ways] == [128]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}])
@pytest.mark.parametrize("trailer", [b"", b"what some cameras add" * 9])
def test_a_whole_jpeg_that_ends_in_middle_gray_is_read(tmp_path, mode, options, trailer):
    pixels = smooth(240, 320)
    pixels[-40:] = 128
    path = tmp_path / "a.jpeg"
    Image.fromarray(pixels).convert(mode).save(path, **options)
    path.write_bytes(path.read_bytes() + trailer)
    assert read_radiograph(path)[-1, -1] == 128


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
        "larger_than_memory.png": giant + png_chunk(b"IEND", b""),
    }


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_file_is_one_line_that_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(broken_files()[name])
    with pytest.raises(DataError) as caught:
        read_radiograph(tmp_path / name, image_size=(16, 16))
    assert str(tmp_path / name) in str(caught.value)
    assert "Expected a JPEG, PNG, TIFF, BMP or DICOM image" in str(caught.value)
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
    with pytest.raises(DataError, match="is not a file"):
        read_radiograph(tmp_path)


def test_a_name_that_is_not_utf_8_is_read(tmp_path):
    name = os.fsdecode(b"r\xf6ntgen.png")
    ok, encoded = cv2.imencode(".png", smooth(16, 16))
    assert ok
    (tmp_path / name).write_bytes(encoded.tobytes())
    assert np.array_equal(read_radiograph(tmp_path / name), smooth(16, 16))


def test_published_files_are_read_gray_and_color_alike(real_data):
    files = sorted((real_data / "original_size").rglob("*.jpeg"))[::6]
    assert files
    for file in files:
        pixels = read_radiograph(file, image_size=(64, 64))
        assert pixels.shape == (64, 64)
        assert 20 < pixels.mean() < 230
        assert pixels.std() > 10
