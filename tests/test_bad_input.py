"""Whatever lies in a folder, an archive or a manifest works or is one line, and skip_bad goes on."""

import errno
import io
import json
import os
import re
import shutil
import struct
import tracemalloc
import zipfile
import zlib

import cv2
import numpy as np
import pytest

from pneumokeras.core.errors import DataError, one_line
from pneumokeras.core.files import read_json, write_json
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.from_path import load_radiographs, load_splits
from pneumokeras.data.images.image import read_radiograph
from pneumokeras.data.readers.manifest import read_manifest
from tests.calling import call

BOTH = ("NORMAL", "PNEUMONIA")


def picture(seed=0, shape=(24, 24)):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def encoded(suffix=".jpeg", **options):
    done, content = cv2.imencode(suffix, picture(**options))
    assert done
    return content.tobytes()


def png_that_claims(width, height):
    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bmp_that_claims(width, height):
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff_that_claims(width, height):
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(200)


def jpeg_that_claims(width, height):
    content = bytearray(encoded())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def cut_and_closed(restart_interval=0):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    content = cv2.imencode(".jpeg", noise, [cv2.IMWRITE_JPEG_RST_INTERVAL, restart_interval])[1].tobytes()
    return content[: len(content) // 2] + b"\xff\xd9"


def endless_scans():
    content = cv2.imencode(".jpeg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last_scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + 1000 * last_scan + content[-2:]


BAD_FILES = {
    "empty.jpeg": b"",
    "text.jpeg": b"<html>404 Not Found</html>",
    "cut.jpeg": encoded()[:-40],
    "cut_early.jpeg": encoded()[:200],
    "cut_and_closed.jpeg": cut_and_closed(),
    "cut_between_restarts.jpeg": cut_and_closed(restart_interval=4),
    "without_frame.jpeg": b"\xff\xd8\xff\xda\0\0",
    "endless_fill.jpeg": b"\xff\xd8" + b"\xff" * 5000,
    "endless_scans.jpeg": endless_scans(),
    "cut.png": encoded(".png")[:-30],
    "cut.bmp": encoded(".bmp")[:-100],
    "cut.tiff": encoded(".tiff")[:60],
    "bomb.png": png_that_claims(30_000, 30_000),
    "bomb_in_a_chunk.png": encoded(".png").replace(b"\0\0\0\0IEND", b"\x3f\xff\xff\xffIDAT" + bytes(12)),
    "bomb.bmp": bmp_that_claims(30_000, -30_000),
    "bomb.tiff": tiff_that_claims(30_000, 30_000),
    "bomb.jpeg": jpeg_that_claims(30_000, 30_000),
    "nothing.png": png_that_claims(0, 24),
    "animation.png": b"GIF89a" + bytes(100),
    "dicom_without_data.dcm": bytes(128) + b"DICM" + bytes(64),
}

NAMES = [
    "two words.png",
    "a\nb.png",
    "a\rb.png",
    "\"double\" and 'single'.png",
    "<img src=x onerror=alert(1)>.png",
    "comma, semicolon; and :: colons.png",
    os.fsdecode(b"r\xf6ntgen.png"),
    "röntgen.png",
    "-rf.png",
    "%s{0}.png",
]


def write_classes(root, count, *, split=""):
    for label, name in enumerate(BOTH):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = folder / f"person{number}{label}_bacteria_{number}.jpeg"
            path.write_bytes(encoded(seed=2 * number + label))
    return root


def the_line(work):
    """The message of the DataError that some work ends in."""
    with pytest.raises(DataError) as caught:
        work()
    message = str(caught.value)
    assert message == one_line(message)
    return message


# Files


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("image_size", [None, (8, 8)])
def test_a_bad_file_is_one_line_that_names_it_and_stays(tmp_path, name, image_size):
    (tmp_path / name).write_bytes(BAD_FILES[name])
    assert str(tmp_path / name) in the_line(lambda: read_radiograph(tmp_path / name, image_size=image_size))
    assert (tmp_path / name).read_bytes() == BAD_FILES[name]


@pytest.mark.parametrize("name", [name for name in BAD_FILES if name.startswith("bomb")])
def test_a_bomb_is_refused_by_its_header_before_anything_is_decoded(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(BAD_FILES[name])
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: pytest.fail("it was decoded"))
    claim = "ends early" if "chunk" in name else "30000 x 30000 pixels"
    assert claim in the_line(lambda: read_radiograph(tmp_path / name))


def test_one_pixel_is_a_radiograph(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((1, 1), 7, np.uint8))
    assert np.all(read_radiograph(tmp_path / "a.png", image_size=(8, 8)) == 7)
    assert read_radiograph(tmp_path / "a.png", image_size=(8, 8), pad=True).max() == 7


def test_a_png_named_jpeg_is_read(tmp_path):
    (tmp_path / "a.jpeg").write_bytes(encoded(".png"))
    assert np.array_equal(read_radiograph(tmp_path / "a.jpeg"), picture())


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpeg")
    for work in (read_radiograph, lambda path: RadiographSet.from_files([path]).digests):
        assert "is not a file" in the_line(lambda work=work: work(tmp_path / "a.jpeg"))


def test_a_file_too_large_to_be_a_radiograph_is_refused_unread(tmp_path):
    with (tmp_path / "a.jpeg").open("wb") as file:
        file.truncate(2**33)
    assert f"{2**33} bytes" in the_line(lambda: read_radiograph(tmp_path / "a.jpeg"))


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png", "a/b.png"])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path, name):
    (tmp_path / "a").write_text("not a folder")
    assert "Cannot read" in the_line(lambda: read_radiograph(f"{tmp_path}/{name}"))


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A file and a folder that may not be read: pretended, since root may read everything."""
    folder = write_classes(tmp_path / "data", 3)
    closed_file, closed_folder = folder / "NORMAL" / "closed.jpeg", folder / "PNEUMONIA" / "closed"
    closed_file.write_bytes(encoded())
    closed_folder.mkdir()
    closed = {str(closed_file), str(closed_folder)}

    def guarded(function):
        def call(path=".", *arguments, **options):
            if str(path) in closed:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return function(path, *arguments, **options)

        return call

    monkeypatch.setattr(np, "fromfile", guarded(np.fromfile))
    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    return closed_file, closed_folder


def test_what_may_not_be_read_is_one_line_that_names_it(locked):
    closed_file, closed_folder = locked
    root = closed_file.parents[1]
    assert f"Cannot read {closed_folder}: Permission denied" in the_line(lambda: load_radiographs(root))
    closed_folder.rmdir()
    assert f"Cannot read {closed_file}: Permission denied" in the_line(lambda: load_splits(root))
    assert [bad.name for bad in load_splits(root, skip_bad=True).skipped] == [str(closed_file)]


# Folders


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_and_survives_the_manifest(tmp_path, name):
    write_classes(tmp_path / "data", 20)
    (tmp_path / "data" / "NORMAL" / name).write_bytes(encoded(".png", seed=99))
    splits = load_splits(tmp_path / "data")
    splits.write_csv(tmp_path / "splits.csv")
    again = read_manifest(tmp_path / "splits.csv")
    names = [image for radiographs in again.values() for image in radiographs.images]
    assert tmp_path / "data" / "NORMAL" / name in names
    splits._repr_html_().encode("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_bad_file_is_one_printable_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an image")
    the_line(lambda: read_radiograph(tmp_path / name)).encode("utf-8")


def test_links_that_turn_in_circles_are_left_out(tmp_path):
    write_classes(tmp_path, 3)
    (tmp_path / "NORMAL" / "one").symlink_to("other")
    (tmp_path / "NORMAL" / "other").symlink_to("one")
    (tmp_path / "NORMAL" / "up").symlink_to("..")
    assert load_radiographs(tmp_path).counts == {"NORMAL": 3, "PNEUMONIA": 3}
    (tmp_path / "loop").symlink_to("loop")
    assert "does not exist" in the_line(lambda: load_radiographs(tmp_path / "loop"))


def test_an_empty_class_and_a_single_patient_are_one_line_each(tmp_path):
    write_classes(tmp_path / "empty", 5)
    shutil.rmtree(tmp_path / "empty" / "PNEUMONIA")
    (tmp_path / "empty" / "PNEUMONIA").mkdir()
    assert "no PNEUMONIA radiographs" in the_line(lambda: load_splits(tmp_path / "empty"))
    write_classes(tmp_path / "single", 8)
    one_patient = r"(person)\d"
    assert "Expected both classes" in the_line(
        lambda: load_splits(tmp_path / "single", patient_pattern=one_patient)
    )
    assert len(load_radiographs(tmp_path / "single", patient_pattern=one_patient)) == 16


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["NORMAL-1-0001.jpeg", "VIRUS-2-0001.jpeg", "BACTERIA-3-0001.jpeg"], [0, 1, 1]),
        (["a_normal.png", "b_Pneumonia_2.png"], [0, 1]),
        (["NORMAL2-IM-0414-0001.jpeg", "person3_virus_1.jpeg"], [0, 1]),
    ],
)
def test_without_class_folders_the_name_says_the_class(tmp_path, names, labels):
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(encoded(seed=number))
    found = load_radiographs(tmp_path)
    by_name = dict(zip(found.names, found.labels, strict=True))
    assert [by_name[str(tmp_path / name)] for name in names] == labels


def test_kinds_of_pneumonia_may_be_the_classes_of_files_without_folders(tmp_path):
    for number, name in enumerate(["person1_bacteria_1.jpeg", "person2_virus_1.jpeg"]):
        (tmp_path / name).write_bytes(encoded(seed=number))
    assert list(load_radiographs(tmp_path, classes=("bacteria", "virus")).labels) == [0, 1]


@pytest.mark.parametrize("name", ["scan.png", "abnormal.png", "normal_virus.png", "normal-pneumonia.png"])
def test_a_name_that_says_no_class_or_both_is_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(".png"))
    assert name in the_line(lambda: load_radiographs(tmp_path))


# Arrays


def pixels(count=4, dtype=np.uint8):
    return np.zeros((count, 8, 8), dtype)


def npy_that_claims(shape):
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(64)


BAD_ARRAYS = {
    "not a number": {"test_images": np.full((4, 8, 8), np.nan), "test_labels": [0, 1, 0, 1]},
    "wrong type": {"test_images": pixels(dtype=np.int32), "test_labels": [0, 1, 0, 1]},
    "objects": {"test_images": np.array([None, 1], dtype=object), "test_labels": [0, 1]},
    "labels are objects": {"test_images": pixels(2), "test_labels": np.array([0, None], dtype=object)},
    "labels are text": {"test_images": pixels(2), "test_labels": ["0", "1"]},
    "labels are no numbers": {"test_images": pixels(2), "test_labels": [0, np.nan]},
    "no labels": {"test_images": pixels()},
    "no images": {"test_labels": [0, 1]},
    "lengths differ": {"test_images": pixels(4), "test_labels": [0, 1, 1]},
    "no pixels": {"test_images": np.zeros((4, 0, 8), np.uint8), "test_labels": [0, 1, 0, 1]},
    "one number": {"test_images": np.uint8(3), "test_labels": [0]},
    "nothing": {},
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
@pytest.mark.filterwarnings("ignore:unsafe")
def test_bad_arrays_are_one_line_that_names_the_file(tmp_path, what):
    np.savez(tmp_path / "a.npz", **BAD_ARRAYS[what])
    assert str(tmp_path / "a.npz") in the_line(lambda: load_radiographs(tmp_path / "a.npz"))


@pytest.mark.parametrize("shape", [(10**6, 1000, 1000), (2**62, 4, 4), (3, -8, 8), (10**30,)])
def test_an_array_that_claims_more_than_its_file_holds_is_refused_before_it_is_made(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("test_images.npy", npy_that_claims(shape))
        archive.writestr("test_labels.npy", npy_that_claims((1,)))
    tracemalloc.start()
    the_line(lambda: load_radiographs(tmp_path / "a.npz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_an_archive_that_would_swell_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("test_images.npy", "w", force_zip64=True) as file:
            file.write(npy_that_claims((9000, 224, 224))[:-64])
            for _ in range(9000):
                file.write(bytes(224 * 224))
        archive.writestr("test_labels.npy", npy_that_claims((9000,))[:-64] + bytes(9000))
    assert "claims 451584000 bytes" in the_line(lambda: load_radiographs(tmp_path / "a.npz"))


@pytest.mark.parametrize("side", [28, 64, 128, 224])
def test_pneumoniamnist_is_read_in_all_its_sizes(tmp_path, side):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in {"train": 60, "val": 20, "test": 10}.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    np.savez_compressed(tmp_path / "pneumoniamnist.npz", **arrays)
    splits = load_splits(tmp_path / "pneumoniamnist.npz", skip_bad=True)
    assert splits.train.images.shape[1:] == (side, side)
    assert splits.skipped == ()


# Manifests


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_and_byte_order_marks_of_other_systems_are_read(tmp_path, start, line_end):
    (tmp_path / "a.png").write_bytes(encoded(".png"))
    lines = ["path,label,subtype", "a.png,PNEUMONIA,virus", ""]
    (tmp_path / "a.csv").write_bytes((start + line_end.join(lines)).encode())
    radiographs = load_radiographs(tmp_path / "a.csv")
    assert list(radiographs.labels) == [1]
    assert list(radiographs.subtypes) == ["virus"]
    assert np.array_equal(radiographs.read(0), picture())


BAD_MANIFESTS = {
    "unknown label": b"path,label\na.png,SICK\n",
    "twice": b"path,label\na.png,NORMAL\n./a.png,NORMAL\n",
    "twice with another label": b"path,label\na.png,NORMAL\na.png,PNEUMONIA\n",
    "no columns": b"a.png NORMAL\n",
    "not text": bytes(range(256)) * 20,
    "an image": encoded(),
    "one endless cell": b"path,label\n" + b"x" * 200_000 + b",NORMAL\n",
    "short rows": b"path,label\na.png\n",
    "long rows": b"path,label\na.png,NORMAL,1,2,3\nb.png\n",
    "not there": b"path,label\nnowhere.png,NORMAL\nneither.png,PNEUMONIA\n",
    "a folder": b"path,label\n.,NORMAL\n..,PNEUMONIA\n",
    "no npz": b"path,label\na.npz::test/0,NORMAL\n",
    "a zero byte": b"path,label\na\0.png,NORMAL\nb.png,PNEUMONIA\n",
}


@pytest.mark.parametrize("what", BAD_MANIFESTS)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_bad_manifest_is_one_line(tmp_path, what, skip_bad):
    (tmp_path / "a.csv").write_bytes(BAD_MANIFESTS[what])
    message = the_line(lambda: load_splits(tmp_path / "a.csv", skip_bad=skip_bad))
    assert str(tmp_path) in message or "radiographs" in message


def test_a_manifest_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    (tmp_path / "a.csv").write_text("path,label\n")
    monkeypatch.setattr("pathlib.Path.read_bytes", closed)
    assert "Permission denied" in the_line(lambda: load_splits(tmp_path / "a.csv"))


# Leaving bad radiographs out


@pytest.fixture
def folder_with_bad_files(tmp_path):
    folder = write_classes(tmp_path / "data", 30, split="train")
    write_classes(folder, 30, split="val")
    write_classes(folder, 6, split="test")
    for number, (name, content) in enumerate(BAD_FILES.items()):
        (folder / ("train", "val", "test")[number % 3] / BOTH[number % 2] / name).write_bytes(content)
    return folder


def test_bad_radiographs_are_left_out_listed_and_said(folder_with_bad_files):
    splits = load_splits(folder_with_bad_files, keep_val=True, skip_bad=True)
    assert [len(radiographs) for radiographs in splits] == [60, 60, 12]
    assert {os.path.basename(bad.name) for bad in splits.skipped} == set(BAD_FILES)
    assert all(bad.name in bad.reason for bad in splits.skipped)
    assert not any("--skip-bad" in bad.reason for bad in splits.skipped)
    assert splits.notices[0].startswith(f"{len(BAD_FILES)} radiographs are left out: ")
    for radiographs in splits:
        assert radiographs.pixels((16, 16)).shape == (len(radiographs), 16, 16)


def test_a_set_to_evaluate_says_what_was_left_out_of_it(folder_with_bad_files):
    radiographs = load_radiographs(folder_with_bad_files, skip_bad=True)
    assert len(radiographs) == 12
    in_test = {path.name for path in (folder_with_bad_files / "test").rglob("*")} & set(BAD_FILES)
    assert {os.path.basename(bad.name) for bad in radiographs.skipped} == in_test
    assert radiographs.subset([0]).skipped == ()
    assert read_radiograph(radiographs.images[3]).shape == (24, 24)


def test_the_files_stay_as_they_are(folder_with_bad_files):
    before = {path: path.read_bytes() for path in folder_with_bad_files.rglob("*") if path.is_file()}
    load_splits(folder_with_bad_files, skip_bad=True)
    assert {path: path.read_bytes() for path in folder_with_bad_files.rglob("*") if path.is_file()} == before


def test_rows_of_a_manifest_without_a_file_are_left_out(tmp_path):
    write_classes(tmp_path, 5)
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in tmp_path.rglob("*.jpeg")]
    (tmp_path / "a.csv").write_text("\n".join(["path,label", *rows, "gone.png,NORMAL"]))
    radiographs = load_radiographs(tmp_path / "a.csv", skip_bad=True)
    assert len(radiographs) == 10
    assert [os.path.basename(bad.name) for bad in radiographs.skipped] == ["gone.png"]


def test_nothing_but_bad_radiographs_is_one_line(tmp_path):
    for name in BOTH:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpeg").write_text("no image")
    assert "None of 2 radiographs" in the_line(lambda: load_radiographs(tmp_path, skip_bad=True))
    assert "None of 2 radiographs" in the_line(lambda: load_splits(tmp_path, skip_bad=True))


TUNE = ["--model", "compact-cnn", "--image-size", "32", "--max-trials", "1", "--epochs", "1", "--keep-val"]


@pytest.mark.slow
def test_a_run_lists_what_it_left_out_and_goes_on_to_its_report(folder_with_bad_files, tmp_path):
    run, odd = tmp_path / "run", os.fsdecode(b"r\xf6ntgen\n.jpeg")
    (folder_with_bad_files / "train" / "NORMAL" / odd).write_bytes(b"no image")
    tune = ["tune", "--data", folder_with_bad_files, *TUNE, "--run", run]
    stopped = call(*tune)
    assert stopped.exit_code == 2
    assert len(re.findall(r"^Error: .*$", stopped.stderr, flags=re.MULTILINE)) == 1
    shutil.rmtree(run, ignore_errors=True)
    done = call(*tune, "--skip-bad")
    assert done.exit_code == 0, done.output
    assert "are left out" in done.stderr
    skipped = read_json(run / "run.json")["data"]["skipped"]
    assert {os.path.basename(bad["name"]) for bad in skipped} == {*BAD_FILES, odd}
    assert not call("report", run).exit_code
    other = call("report", run, "--data", folder_with_bad_files, "--out", tmp_path / "out", "--skip-bad")
    assert other.exit_code == 0, other.output
    assert "left out" in other.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["images"] == 12


def test_json_keeps_names_that_are_no_utf_8(tmp_path):
    name = os.fsdecode(b"r\xf6ntgen")
    write_json(tmp_path / "a.json", {"name": name, "other": "röntgen"})
    assert (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert read_json(tmp_path / "a.json") == {"name": name, "other": "röntgen"}
