"""Folders, arrays and manifests become sets of radiographs that say truly what they hold."""

import logging
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.dataset import RadiographSet, union
from pneumokeras.data.from_path import load_radiographs, load_splits
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.data.readers.manifest import read_manifest, write_sets
from pneumokeras.data.splits import Splits

BOTH = ("NORMAL", "PNEUMONIA")


def write_image(file, gray):
    """A small image of its own: no two `gray` numbers give the same bytes, or near-copies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((16, 16), gray % 200, np.uint8)
    pixels[:4] = np.random.default_rng(gray).integers(0, 256, (4, 16))
    ok, encoded = cv2.imencode(".png", pixels)
    assert ok
    file.write_bytes(encoded.tobytes())
    return file


def write_class(folder, count, *, start=0, name="scan_{}.png"):
    return [write_image(folder / name.format(start + index), start + index) for index in range(count)]


def write_folder(root, *, train=(30, 30), val=None, test=(5, 5), name="person{}_virus_1.png"):
    """A folder with splits, one image a patient, each patient and each image its own."""
    start = 1
    for split, counts in {"train": train, "val": val, "test": test}.items():
        for class_name, count in zip(BOTH, counts or (0, 0), strict=True):
            write_class(root / split / class_name, count, start=start, name=name)
            start += count
    return root


def write_npz(file, *, seed=0, **counts):
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in counts.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, np.newaxis]
    np.savez(file, **arrays)
    return file


def moved(root, names):
    return [str(Path(name).relative_to(root)) for name in names]


# Folders


def test_a_folder_with_splits_is_taken_as_it_is(tmp_path):
    write_folder(tmp_path, train=(100, 100), val=(40, 60), test=(3, 4))
    splits = load_splits(tmp_path)
    assert [radiographs.counts for radiographs in splits] == [
        {"NORMAL": 100, "PNEUMONIA": 100},
        {"NORMAL": 40, "PNEUMONIA": 60},
        {"NORMAL": 3, "PNEUMONIA": 4},
    ]
    assert splits.notices == ()
    assert splits.source == str(tmp_path)


def test_the_order_is_class_then_path_and_stable(tmp_path):
    for name in ("b", "a", "c"):
        write_image(tmp_path / "test" / "PNEUMONIA" / f"{name}.png", ord(name))
        write_image(tmp_path / "test" / "NORMAL" / f"{name}.png", ord(name) - 32)
    radiographs = load_radiographs(tmp_path)
    expected = [f"test/{class_name}/{name}.png" for class_name in BOTH for name in "abc"]
    assert moved(tmp_path, radiographs.names) == expected
    assert list(radiographs.labels) == [0, 0, 0, 1, 1, 1]
    assert list(load_radiographs(tmp_path).names) == list(radiographs.names)


def test_bare_class_folders_are_split_80_10_10_and_that_is_said(tmp_path):
    write_class(tmp_path / "NORMAL", 50)
    write_class(tmp_path / "PNEUMONIA", 150, start=50)
    splits = load_splits(tmp_path)
    assert [len(radiographs) for radiographs in splits] == [160, 20, 20]
    assert splits.val.counts == splits.test.counts == {"NORMAL": 5, "PNEUMONIA": 15}
    assert "80/10/10" in splits.notices[0]
    assert "too few" in splits.notices[1]
    everything = [name for radiographs in splits for name in radiographs.names]
    assert len(everything) == len(set(everything)) == 200


def test_a_tiny_val_is_replaced_by_a_tenth_of_train_and_val_and_that_is_said(tmp_path, caplog):
    write_folder(tmp_path, train=(400, 800), val=(8, 8), test=(10, 10))
    with caplog.at_level(logging.INFO, logger="pneumokeras"):
        splits = load_splits(tmp_path, seed=3)
    assert splits.val.counts == {"NORMAL": 41, "PNEUMONIA": 81}
    assert len(splits.train) == 1200 + 16 - 122
    assert len(splits.test) == 20
    (notice,) = splits.notices
    assert notice.startswith("val had 16 images, too few to choose on: it is now a tenth")
    assert notice.endswith("122 images.")
    assert notice in caplog.text
    assert not set(splits.train.patients) & set(splits.val.patients)


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_dealt_out_here_keeps_equal_contents_together(tmp_path, bare, seed):
    root = write_folder(tmp_path / "data", train=(60, 60))
    files = sorted((root / "train").rglob("*.png"))
    for number, file in enumerate(files):
        (file.parent / f"person{500 + number}_bacteria_1.png").write_bytes(file.read_bytes())
    splits = load_splits(root / "train" if bare else root, seed=seed)
    assert not set(splits.train.digests) & set(splits.val.digests)
    assert not any("same content" in notice for notice in splits.notices)


def test_what_is_dealt_out_here_keeps_the_kinds_of_pneumonia_in_proportion(tmp_path):
    write_class(tmp_path / "NORMAL", 100)
    write_class(tmp_path / "PNEUMONIA", 80, start=100, name="person{}_bacteria_1.png")
    write_class(tmp_path / "PNEUMONIA", 20, start=180, name="person{}_virus_1.png")
    splits = load_splits(tmp_path)
    assert [np.sum(radiographs.subtypes == "virus") for radiographs in splits] == [16, 2, 2]


@pytest.mark.parametrize("seed", range(3))
def test_a_val_is_never_replaced_by_a_smaller_one(tmp_path, seed):
    write_folder(tmp_path, train=(60, 90), val=(9, 39))
    splits = load_splits(tmp_path, seed=seed)
    assert 48 <= len(splits.val) <= 52
    assert min(splits.val.counts.values()) >= 15  # in proportion again
    (notice,) = [notice for notice in splits.notices if notice.startswith("val had")]
    assert notice.startswith(
        "val had 48 images, too few to choose on: it is now another part of the patients"
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_val_is_kept_where_another_would_be_no_larger(tmp_path, seed):
    splits = load_splits(write_folder(tmp_path, train=(20, 30), val=(8, 8)), seed=seed)
    assert all("/val/" in name for name in splits.val.names)
    assert splits.rule == "as published"
    assert splits.notices == (
        "val holds 16 images (8 NORMAL, 8 PNEUMONIA): too few to rank trials reliably; another part of train "
        "and val would be no larger.",
    )


def test_a_val_without_a_class_is_replaced_by_one_with_both(tmp_path):
    assert min(load_splits(write_folder(tmp_path, train=(20, 30), val=(0, 16))).val.counts.values()) > 0


def test_all_splits_load_as_one_set(tmp_path):
    root = write_folder(tmp_path, train=(3, 4), val=(1, 2), test=(2, 2))
    everything = load_radiographs(root, split="all")
    assert everything.split == ""
    assert sorted(everything.names) == sorted(str(file) for file in root.rglob("*.png"))
    assert load_radiographs(root / "train", split="all").split == ""  # bare folders of classes
    with pytest.raises(DataError, match=r"has no all-of-it split .*Choose one of these, or all"):
        load_radiographs(root, split="all-of-it")


@pytest.mark.parametrize("load", [load_splits, load_radiographs])
def test_what_is_no_path_is_refused(spot_splits, load):
    with pytest.raises(SettingsError, match=r"`path` as the path of a file or folder\. Received Splits"):
        load(spot_splits)


def test_an_index_past_the_end_is_one_line_and_a_loop_ends(spot_splits):
    test = spot_splits.test
    for wrong in (1000, -25, [0, 24], [True] * 3, 1.5):
        with pytest.raises(SettingsError, match="below 24, the number of radiographs") as refused:
            test[wrong]
        assert refused.value.parameter == "indices"
    assert [one.names[0] for one in test] == list(test.names)


def test_images_that_are_not_read_are_named(tmp_path):
    write_folder(tmp_path, train=(30, 30), val=(50, 60))
    for name in ("a.gif", "b.GIF", "c.webp"):
        (tmp_path / "train" / "NORMAL" / name).write_bytes(b"GIF89a")
    notices = load_splits(tmp_path).notices
    assert "Left out, since .gif files are not read (save them as .png): 2, such as a.gif." in notices
    assert "Left out, since .webp files are not read (save them as .png): 1, such as c.webp." in notices


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPE"])
def test_jpegs_of_rarer_endings_are_read(tmp_path, suffix):
    write_folder(tmp_path, train=(3, 3), val=(50, 60))
    for number in range(2):
        content = cv2.imencode(".jpg", np.full((8, 8), number, np.uint8))[1]
        (tmp_path / "train" / "NORMAL" / f"{number}{suffix}").write_bytes(content.tobytes())
    assert len(load_splits(tmp_path, keep_val=True).train) == 8


@pytest.mark.parametrize(
    "classes", ["healthy", ("A", "B", "C"), ("A",), ("A", "a"), ("A", ""), ("A", 1), None, 2], ids=repr
)
def test_classes_that_are_not_two_names_are_refused_in_one_line(tmp_path, classes):
    for load in (load_splits, load_radiographs):
        with pytest.raises(SettingsError, match="Expected `classes` as the names of two classes") as refused:
            load(tmp_path, classes=classes)
        assert refused.value.parameter == "classes"


@pytest.mark.parametrize("equal", [True, False])
def test_where_too_few_contents_are_the_cause_the_message_says_so(tmp_path, equal):
    write_folder(tmp_path, train=(1, 1) if not equal else (30, 30), test=(5, 5))
    if equal:
        for file in (tmp_path / "train").rglob("*.png"):
            cv2.imwrite(str(file), np.full((8, 8), 100, np.uint8))
    with pytest.raises(
        DataError, match=r"tied by duplicates, to be kept whole \(\d+ radiographs? with 1 diff"
    ):
        load_splits(tmp_path / "train")


class TestSixteenBits:
    """Files of sixteen bits from detectors of fewer."""

    @staticmethod
    def write(root, brightest):
        for split, label, number, level in brightest:
            file = root / split / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, level, (8, 8)).astype(np.uint16)
            pixels[0, :2] = (200, level)
            cv2.imwrite(str(file), pixels)

    @pytest.fixture
    def folder(self, tmp_path):
        films = [
            (split, label, number + (label == "NORMAL"), 1023 if number % 3 else 4095)
            for split in ("train", "val", "test")
            for label in ("NORMAL", "PNEUMONIA")
            for number in range(0, 8, 2)
        ]
        self.write(tmp_path, films)
        return tmp_path

    def test_films_of_one_detector_are_reduced_alike(self, folder):
        splits = load_splits(folder, keep_val=True)
        assert {part.read(row)[0, 0] for part in splits for row in range(len(part))} == {
            round(200 * 255 / 4095)
        }
        alone = RadiographSet.from_files([folder / "train" / "PNEUMONIA" / "2.png"])
        assert alone.read(0)[0, 0] == round(200 * 255 / 1023)

    def test_parts_and_unions_keep_the_depth_of_the_whole(self, folder):
        radiographs = load_radiographs(folder, split="train")
        dark = [row for row, name in enumerate(radiographs.names) if "2.png" in name]
        assert radiographs.subset(dark).depth.bits == 12
        both = union([radiographs.subset(dark), load_radiographs(folder, split="test")])
        assert both.depth.bits == 12
        assert both.without_bad().depth.bits == 12

    def test_keys_of_views_hold_the_depth_and_those_of_eight_bits_do_not(self, folder):
        file = folder / "train" / "PNEUMONIA" / "2.png"
        whole, alone = load_radiographs(folder, split="train"), RadiographSet.from_files([file])
        (row,) = [row for row, name in enumerate(whole.names) if name == str(file)]
        assert RadiographLoader(whole, 8).view_key(row, 0) != RadiographLoader(alone, 8).view_key(0, 0)
        eight = RadiographSet.from_files([write_eight_bits(folder / "eight.png")])
        arrays = RadiographSet.from_arrays(np.zeros((1, 8, 8), np.uint8))
        arrays.__dict__["digests"] = eight.digests
        assert RadiographLoader(eight, 8).view_key(0, 0) == RadiographLoader(arrays, 8).view_key(0, 0)

    def test_a_damaged_file_does_not_hide_the_depth_of_the_others(self, folder):
        (folder / "train" / "NORMAL" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 17)
        (folder / "train" / "NORMAL" / "empty.png").write_bytes(b"")
        assert load_radiographs(folder, split="train").depth.bits == 12


def write_eight_bits(file):
    cv2.imwrite(str(file), np.arange(64, dtype=np.uint8).reshape(8, 8))
    return file


@pytest.mark.parametrize("image_size", [0, -3, (0, 8), 8.5, (8,), "8", (8, 8, 1)], ids=repr)
def test_an_image_size_that_is_none_is_one_line(image_size):
    radiographs = RadiographSet.from_arrays(np.zeros((2, 8, 8), np.uint8))
    for read in (lambda: radiographs.read(0, image_size), lambda: radiographs.pixels(image_size)):
        with pytest.raises(SettingsError, match="Expected `image_size` as a side or"):
            read()
    with pytest.raises(SettingsError, match="Expected `image_size` as a side or"):
        RadiographLoader(radiographs, image_size)


def test_an_image_size_may_be_one_side():
    radiographs = RadiographSet.from_arrays(np.zeros((2, 8, 8), np.uint8))
    assert radiographs.read(0, 4).shape == (4, 4)
    assert radiographs.pixels(4).shape == (2, 4, 4)


def test_a_missing_val_is_a_tenth_of_train(tmp_path):
    splits = load_splits(write_folder(tmp_path, train=(300, 700)))
    assert splits.val.counts == {"NORMAL": 30, "PNEUMONIA": 70}
    assert splits.notices == (
        "val was missing: it is now a tenth of the patients of train and val, 100 images.",
    )


def test_a_val_with_too_few_of_one_class_is_replaced(tmp_path):
    splits = load_splits(write_folder(tmp_path, train=(300, 800), val=(19, 100)))
    assert "val had 119 images" in splits.notices[0]
    assert splits.val.counts == {"NORMAL": 32, "PNEUMONIA": 90}


def test_a_val_that_suffices_stays(tmp_path):
    write_folder(tmp_path, train=(100, 300), val=(20, 80))
    splits = load_splits(tmp_path)
    assert all("/val/" in name for name in splits.val.names)
    assert len(splits.val) == 100


def test_keep_val_keeps_what_is_there_and_warns(tmp_path):
    splits = load_splits(write_folder(tmp_path, val=(8, 8)), keep_val=True)
    assert all("/val/" in name for name in splits.val.names)
    assert splits.notices == (
        "val holds 16 images (8 NORMAL, 8 PNEUMONIA): too few to rank trials reliably.",
    )


def test_a_replaced_val_keeps_patients_whole(tmp_path):
    for patient in range(60):
        for image in range(3):
            folder = tmp_path / "train" / BOTH[patient % 2]
            write_image(folder / f"person{patient}_bacteria_{image}.png", patient * 3 + image)
    splits = load_splits(tmp_path, seed=5)
    assert not set(splits.train.patients) & set(splits.val.patients)
    assert len(splits.val) == 18
    assert len(set(splits.val.patients)) == 6


def test_another_seed_splits_otherwise_and_the_same_seed_the_same(tmp_path):
    write_class(tmp_path / "NORMAL", 40)
    write_class(tmp_path / "PNEUMONIA", 40, start=40)
    first, again, other = (load_splits(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert list(first.val.names) == list(again.val.names)
    assert list(first.val.names) != list(other.val.names)


@pytest.mark.parametrize("name", ["person{}_virus_1.png", "scan_{}.png"])
def test_the_split_does_not_depend_on_where_the_folder_lies(tmp_path, monkeypatch, name):
    for place in ("here", "there/deeper"):
        write_folder(tmp_path / place, name=name)
    here, there = load_splits(tmp_path / "here"), load_splits(tmp_path / "there/deeper")
    monkeypatch.chdir(tmp_path)
    relative = load_splits("here")
    assert moved(tmp_path / "here", here.val.names) == moved(tmp_path / "there/deeper", there.val.names)
    assert moved("here", relative.val.names) == moved(tmp_path / "here", here.val.names)
    assert here.fingerprint == there.fingerprint == relative.fingerprint


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_val_has_other_names(tmp_path, name):
    write_folder(tmp_path, val=(50, 50))
    (tmp_path / "val").rename(tmp_path / "renamed")
    (tmp_path / "renamed").rename(tmp_path / name)
    splits = load_splits(tmp_path)
    assert len(splits.val) == 100
    assert all(f"/{name}/" in image for image in splits.val.names)


def test_two_folders_for_one_split_are_refused(tmp_path):
    write_folder(tmp_path, val=(50, 50))
    write_class(tmp_path / "validation" / "NORMAL", 3)
    with pytest.raises(DataError, match="val and validation"):
        load_splits(tmp_path)


def test_class_folders_may_be_written_in_any_case(tmp_path):
    write_class(tmp_path / "Test" / "Normal", 2)
    write_class(tmp_path / "Test" / "pneumonia", 3, start=2)
    assert load_radiographs(tmp_path).counts == {"NORMAL": 2, "PNEUMONIA": 3}


def test_two_folders_for_one_class_are_refused(tmp_path):
    write_class(tmp_path / "NORMAL", 2)
    write_class(tmp_path / "normal", 2, start=2)
    write_class(tmp_path / "PNEUMONIA", 2, start=4)
    if len(os.listdir(tmp_path)) < 3:
        pytest.skip("this file system does not tell NORMAL from normal")
    with pytest.raises(DataError, match="NORMAL and normal"):
        load_radiographs(tmp_path)


def test_three_classes_are_one_clear_error(tmp_path):
    for index, name in enumerate(("NORMAL", "PNEUMONIA", "Covid")):
        write_class(tmp_path / "train" / name, 2, start=2 * index)
    with pytest.raises(DataError, match="exactly two classes, NORMAL and PNEUMONIA") as caught:
        load_splits(tmp_path)
    assert "covid" in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_other_class_names_are_taken_by_option(tmp_path):
    write_class(tmp_path / "test" / "clear", 2)
    write_class(tmp_path / "test" / "opacity", 3, start=2)
    radiographs = load_radiographs(tmp_path, classes=("clear", "opacity"))
    assert radiographs.counts == {"clear": 2, "opacity": 3}
    with pytest.raises(DataError, match="NORMAL and PNEUMONIA"):
        load_radiographs(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    write_class(tmp_path / "train" / "NORMAL", 5)
    (tmp_path / "train" / "PNEUMONIA").mkdir()
    with pytest.raises(DataError, match="no PNEUMONIA radiographs"):
        load_splits(tmp_path)


def test_a_class_may_be_absent_where_nothing_is_trained(tmp_path):
    write_class(tmp_path / "test" / "PNEUMONIA", 5)
    assert load_radiographs(tmp_path).counts == {"NORMAL": 0, "PNEUMONIA": 5}


def test_an_empty_folder_third_class_does_not_matter(tmp_path):
    write_class(tmp_path / "NORMAL", 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("not a radiograph")
    assert len(load_radiographs(tmp_path)) == 2


@pytest.mark.parametrize("load", [load_splits, load_radiographs])
def test_a_missing_an_empty_and_a_strange_path_are_one_clear_line_each(tmp_path, load):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    expected = {"nowhere": "does not exist", "empty": "No images under", "notes.txt": "neither a folder"}
    for name, message in expected.items():
        with pytest.raises(DataError, match=message) as caught:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_images_in_nested_folders_are_found(tmp_path):
    write_image(tmp_path / "test" / "NORMAL" / "2017" / "march" / "a.png", 1)
    write_image(tmp_path / "test" / "NORMAL" / "B.JPG", 2)
    assert moved(tmp_path / "test" / "NORMAL", load_radiographs(tmp_path).names) == [
        "2017/march/a.png",
        "B.JPG",
    ] or (
        moved(tmp_path / "test" / "NORMAL", load_radiographs(tmp_path).names) == ["B.JPG", "2017/march/a.png"]
    )


def test_hidden_files_and_folders_are_ignored(tmp_path):
    root = write_folder(tmp_path, train=(2, 2), test=(2, 2))
    normal = root / "test" / "NORMAL"
    (normal / ".DS_Store").write_bytes(b"x")
    (normal / "Thumbs.db").write_bytes(b"x")
    (normal / "._person1_virus_1.jpeg").write_bytes(b"x")
    write_image(normal / ".ipynb_checkpoints" / "copy-checkpoint.png", 90)
    write_image(normal / "__MACOSX" / "copy.png", 91)
    write_image(root / "__MACOSX" / "test" / "NORMAL" / "a.png", 92)
    write_image(root / "test" / "__MACOSX" / "a.png", 93)
    assert load_radiographs(root).counts == {"NORMAL": 2, "PNEUMONIA": 2}


def test_linked_subfolders_of_a_class_are_followed(tmp_path):
    write_class(tmp_path / "elsewhere" / "deep", 3)
    write_class(tmp_path / "test" / "NORMAL" / "site b", 2, start=10)
    (tmp_path / "test" / "NORMAL" / "site a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "test" / "NORMAL" / ".hidden").symlink_to(tmp_path / "elsewhere")
    assert moved(tmp_path / "test" / "NORMAL", load_radiographs(tmp_path).names) == [
        *(f"site a/deep/scan_{index}.png" for index in range(3)),
        *(f"site b/scan_{index}.png" for index in (10, 11)),
    ]


def test_links_that_lead_back_or_lead_to_one_folder_twice_count_once(tmp_path):
    normal = tmp_path / "test" / "NORMAL"
    write_class(normal / "real", 2)
    write_class(tmp_path / "test" / "PNEUMONIA", 3, start=10)
    write_class(tmp_path / "elsewhere" / "a", 4, start=20)
    for link, target in {
        normal / "again": normal / "real",
        normal / "up": tmp_path / "test",
        normal / "self": normal,
        normal / "one": tmp_path / "elsewhere",
        normal / "two": tmp_path / "elsewhere",
        tmp_path / "elsewhere" / "a" / "back": tmp_path / "elsewhere",
        tmp_path / "elsewhere" / "round": normal,
    }.items():
        link.symlink_to(target)
    radiographs = load_radiographs(tmp_path)
    assert radiographs.counts == {"NORMAL": 6, "PNEUMONIA": 3}
    assert moved(normal, radiographs.names[4:6]) == ["real/scan_0.png", "real/scan_1.png"]


@pytest.mark.parametrize("load", [load_splits, load_radiographs])
@pytest.mark.parametrize("bare", [False, True])
def test_the_folder_around_the_radiographs_is_told_which_one_was_meant(tmp_path, load, bare):
    inner = tmp_path / "outer" / "chest_xray"
    for index, class_name in enumerate(BOTH):
        write_class(inner / ("" if bare else "train") / class_name, 3, start=3 * index)
    write_image(tmp_path / "outer" / "__MACOSX" / "chest_xray" / "train" / "._a.png", 1)
    with pytest.raises(DataError, match=re.escape(f"Did you mean {inner}?")) as caught:
        load(tmp_path / "outer")
    assert "two classes" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_keep_their_own_spelling_in_messages(tmp_path):
    for index, name in enumerate(("Normal", "pneumonia", "Covid-19")):
        write_class(tmp_path / name, 2, start=2 * index)
    with pytest.raises(DataError, match=r"holds Normal, pneumonia, Covid-19\. Expected exactly two"):
        load_radiographs(tmp_path)


def test_a_third_class_is_no_more_hidden_by_an_underscore_than_what_lies_in_a_class(tmp_path):
    write_folder(tmp_path, test=(2, 2))
    write_class(tmp_path / "test" / "NORMAL" / "_second_site", 3, start=10)
    assert load_radiographs(tmp_path).counts == {"NORMAL": 5, "PNEUMONIA": 2}
    write_class(tmp_path / "test" / "_unsure", 1, start=20)
    with pytest.raises(DataError, match=r"holds NORMAL, PNEUMONIA, _unsure\. Expected exactly two"):
        load_radiographs(tmp_path)


def test_masks_beside_the_splits_are_ignored(tmp_path):
    write_folder(tmp_path, train=(2, 2), test=(2, 2))
    write_class(tmp_path / "masks" / "test" / "PNEUMONIA", 4)
    assert len(load_radiographs(tmp_path)) == 4


def test_linked_class_folders_and_files_are_followed(tmp_path):
    elsewhere = write_class(tmp_path / "elsewhere", 3)
    (tmp_path / "data" / "test" / "NORMAL").mkdir(parents=True)
    (tmp_path / "data" / "test" / "PNEUMONIA").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "test" / "NORMAL" / "a.png").symlink_to(elsewhere[0])
    assert load_radiographs(tmp_path / "data").counts == {"NORMAL": 1, "PNEUMONIA": 3}


def test_a_link_that_leads_nowhere_is_a_file_that_cannot_be_read(tmp_path):
    write_class(tmp_path / "NORMAL", 2)
    (tmp_path / "NORMAL" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    radiographs = load_radiographs(tmp_path, skip_bad=True)
    assert len(radiographs) == 2
    assert [Path(bad.name).name for bad in radiographs.skipped] == ["broken.png"]


def test_images_beside_the_folders_of_classes_are_left_out_and_counted(tmp_path):
    write_folder(tmp_path, train=(100, 100), val=(50, 50))
    write_class(tmp_path, 2, start=900)
    write_class(tmp_path / "train", 3, start=902)
    assert load_splits(tmp_path).notices == (
        "Left out, since they lie beside the folders of splits or classes: 5 images.",
    )


def test_patients_of_train_in_test_are_said(tmp_path):
    write_folder(tmp_path, train=(100, 100), val=(50, 50))
    write_image(tmp_path / "test" / "PNEUMONIA" / "person7_virus_99.png", 1000)
    assert load_splits(tmp_path).notices == (
        "Suspected: 1 patient of train is also in test, such as person7_virus.",
    )


@pytest.mark.parametrize(("one", "other"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_patients_that_two_splits_share_are_said_of_each_pair(tmp_path, one, other):
    write_folder(tmp_path, train=(100, 100), val=(50, 50))
    for index, split in enumerate((one, one, other, other)):
        write_image(tmp_path / split / "NORMAL" / f"person{2000 + index % 2}_virus_{index}.png", 1000 + index)
    assert load_splits(tmp_path).notices == (
        f"Suspected: 2 patients of {one} are also in {other}, such as person2000_virus.",
    )


@pytest.mark.parametrize(("one", "other"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_contents_that_two_splits_share_are_said_of_each_pair(tmp_path, one, other):
    write_folder(tmp_path, train=(100, 100), val=(50, 50))
    for index in range(2):
        write_image(tmp_path / one / "NORMAL" / f"a{index}.png", 1000 + index)
        write_image(tmp_path / other / "NORMAL" / f"b{index}.png", 1000 + index)
    assert load_splits(tmp_path).notices == (
        f"2 radiographs of {one} are also in {other} (same content), such as a0.png.",
    )


def test_a_name_of_its_own_is_no_patient_that_two_splits_share(tmp_path):
    files = [write_image(tmp_path / f"scan_{index}.png", index) for index in range(250)]
    splits = ["train"] * 120 + ["val"] * 120 + ["test"] * 10
    rows = [f"{file.name},{BOTH[index % 2]},{splits[index]}" for index, file in enumerate(files)]
    (tmp_path / "copy.png").write_bytes(files[0].read_bytes())
    rows.append("copy.png,NORMAL,test")
    assert load_splits(write_manifest(tmp_path, "path,label,split\n" + "\n".join(rows))).notices == (
        "1 radiograph of train is also in test (same content), such as scan_0.png.",
    )


def test_contents_that_arrays_share_are_said(tmp_path):
    file = write_npz(tmp_path / "a.npz", train=300, val=100, test=30)
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["val_images"][7] = arrays["train_images"][12]
    np.savez(file, **arrays)
    assert load_splits(file).notices == (
        "1 radiograph of train is also in val (same content), such as train/12.",
    )


def test_a_file_that_is_not_there_is_named_before_a_training(tmp_path):
    rows = "".join(f"{index}.png,{BOTH[index % 2]}\n" for index in range(100))
    with pytest.raises(DataError, match=r"Cannot read .*\.png"):
        load_splits(write_manifest(tmp_path, "path,label\n" + rows))


# Which split it is


def test_a_set_says_which_split_it_is(tmp_path):
    folder = write_folder(tmp_path / "kept", train=(100, 100), val=(50, 50))
    replaced = write_folder(tmp_path / "replaced", train=(100, 100), val=(5, 5), test=None)
    bare = tmp_path / "bare"
    write_class(bare / "NORMAL", 40)
    write_class(bare / "PNEUMONIA", 40, start=40)
    npz = write_npz(tmp_path / "a.npz", train=300, val=10, test=20)
    for source in (folder, replaced, bare, npz):
        assert [radiographs.split for radiographs in load_splits(source)] == ["train", "val", "test"]
    for source in (folder, npz):
        assert load_radiographs(source).split == "test"
        assert load_radiographs(source, split="val").split == "val"
    load_splits(folder).write_csv(tmp_path / "splits.csv")
    found = read_manifest(tmp_path / "splits.csv")
    assert {split: radiographs.split for split, radiographs in found.items()} == {
        split: split for split in ("train", "val", "test")
    }
    assert found["val"].subset([1, 0]).split == "val"


def test_a_set_that_is_no_split_says_none(tmp_path, images):
    write_class(tmp_path / "bare" / "NORMAL", 3)
    assert load_radiographs(tmp_path / "bare").split == ""
    assert RadiographSet.from_files(images).split == ""
    assert RadiographSet.from_arrays(np.zeros((2, 4, 4), np.uint8)).split == ""
    assert read_manifest(write_manifest(tmp_path, "path,label\na.png,NORMAL\n"))[""].split == ""


def test_no_test_split_is_said_and_is_an_empty_set(tmp_path):
    splits = load_splits(write_folder(tmp_path, train=(100, 100), val=(50, 50), test=None))
    assert len(splits.test) == 0
    assert splits.test.counts == {"NORMAL": 0, "PNEUMONIA": 0}
    assert "no test split" in splits.notices[0]


# Arrays


def test_an_npz_is_read_with_its_own_splits(tmp_path):
    splits = load_splits(write_npz(tmp_path / "a.npz", train=300, val=100, test=30))
    assert [len(radiographs) for radiographs in splits] == [300, 100, 30]
    assert splits.train.labels.shape == (300,)
    assert splits.train.names[12] == f"{tmp_path / 'a.npz'}::train/12"
    assert splits.notices == ()


def test_an_npz_without_val_gets_one_wherever_it_lies(tmp_path):
    (tmp_path / "deep").mkdir()
    here = load_splits(write_npz(tmp_path / "a.npz", train=300, test=30))
    there = load_splits(write_npz(tmp_path / "deep" / "b.npz", train=300, test=30))
    assert here.val.counts == {"NORMAL": 15, "PNEUMONIA": 15}
    assert here.fingerprint == there.fingerprint


def test_an_npz_with_a_tiny_val_pools_it_with_train(tmp_path):
    splits = load_splits(write_npz(tmp_path / "a.npz", train=300, val=20, test=30))
    assert len(splits.train) + len(splits.val) == 320
    assert splits.val.images.shape == (32, 8, 8)


def npz_faults():
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    return {
        "no test_labels": {"test_images": images},
        "holds x": {"x": images},
        r"uint8.*float32": {"test_images": images.astype(np.float32), "test_labels": labels},
        r"\(4, 8, 8, 3\)": {"test_images": np.zeros((4, 8, 8, 3), np.uint8), "test_labels": labels},
        "labels 0 and 1": {"test_images": images, "test_labels": labels + 1},
        "labels 0 and 1.*nan": {"test_images": images, "test_labels": labels * np.nan},
        "one label for each of 4 images. Received 3": {"test_images": images, "test_labels": labels[:3]},
        "Cannot read": {"test_images": np.array([images, None], dtype=object), "test_labels": labels},
    }


def test_arrays_of_different_sizes_are_not_put_into_one_set(tmp_path):
    images, labels = np.zeros((10, 8, 8), np.uint8), np.arange(10) % 2
    np.savez(
        tmp_path / "a.npz",
        train_images=images,
        train_labels=labels,
        val_images=images[:, :4],
        val_labels=labels,
    )
    with pytest.raises(DataError, match="4 x 8, 8 x 8"):
        load_splits(tmp_path / "a.npz")


@pytest.mark.parametrize("message", npz_faults())
def test_a_faulty_npz_is_one_line_that_names_it(tmp_path, message):
    np.savez(tmp_path / "a.npz", **npz_faults()[message])
    with pytest.raises(DataError, match=message) as caught:
        load_radiographs(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_npz_is_one_line_that_names_it(tmp_path):
    whole = write_npz(tmp_path / "whole.npz", test=50).read_bytes()
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    damaged = bytearray(whole)
    damaged[400:600] = bytes(200)
    np.save(tmp_path / "one.npy", np.zeros((2, 8, 8), np.uint8))
    contents = {
        "empty.npz": b"",
        "text.npz": b"<html>404 Not Found</html>",
        "truncated.npz": whole[: len(whole) // 2],
        "damaged.npz": bytes(damaged),
        "npy.npz": (tmp_path / "one.npy").read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "zip.npz"):
        with pytest.raises(DataError) as caught:
            load_radiographs(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_pickled_objects_are_refused_without_being_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "a.npz", test_images=np.array([Trap()], dtype=object), test_labels=np.array([0]))
    with pytest.raises(DataError, match="Cannot read"):
        load_radiographs(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


# What is only evaluated is never split


def test_what_is_evaluated_is_never_split(tmp_path):
    only_test = write_folder(tmp_path / "only_test", train=None, test=(4, 6))
    bare = tmp_path / "bare"
    write_class(bare / "NORMAL", 4)
    write_class(bare / "PNEUMONIA", 6, start=4)
    npz = write_npz(tmp_path / "a.npz", test=10)
    manifest = tmp_path / "a.csv"
    files = sorted(bare.rglob("*.png"))
    manifest.write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in files))
    for source in (only_test, bare, npz, manifest):
        assert len(load_radiographs(source)) == 10


def test_a_split_is_chosen_by_name_and_a_missing_one_is_named(tmp_path):
    write_folder(tmp_path, train=(3, 3), val=(2, 2), test=None)
    assert len(load_radiographs(tmp_path, split="val")) == 4
    with pytest.raises(DataError, match=r"no test split \(train, val found\)"):
        load_radiographs(tmp_path)


def test_training_needs_a_train_split(tmp_path):
    with pytest.raises(DataError, match=r"no train split \(test found\)"):
        load_splits(write_folder(tmp_path, train=None))


# Manifests


@pytest.fixture
def images(tmp_path):
    return [write_image(tmp_path / "images" / f"scan_{index}.png", index) for index in range(6)]


def write_manifest(tmp_path, text):
    (tmp_path / "manifest.csv").write_text(text)
    return tmp_path / "manifest.csv"


def test_a_manifest_names_paths_from_its_own_folder(tmp_path, images, monkeypatch):
    manifest = write_manifest(tmp_path, f"path,label\nimages/scan_1.png,PNEUMONIA\n{images[0]},NORMAL\n")
    monkeypatch.chdir("/")
    (radiographs,) = read_manifest(manifest).values()
    assert list(radiographs.labels) == [1, 0]
    assert radiographs.read(0)[5, 5] == 1
    assert radiographs.read(1)[5, 5] == 0


def test_a_manifest_may_name_patients_and_splits(tmp_path, images):
    text = "split,patient,label,path,remark\n"
    text += "test,ann,NORMAL,images/scan_0.png,x\ntrain,bob,PNEUMONIA,images/scan_1.png,\n"
    text += "test,ann,PNEUMONIA,images/scan_2.png,x\n"
    found = read_manifest(write_manifest(tmp_path, text))
    assert list(found) == ["test", "train"]
    assert list(found["test"].patients) == ["ann", "ann"]
    assert list(found["train"].patients) == ["bob"]


def test_without_a_patient_column_names_say_whose_they_are(tmp_path):
    text = "path,label\nimages/person1_virus_1.png,PNEUMONIA\nimages/person1_virus_2.png,PNEUMONIA\n"
    found = read_manifest(write_manifest(tmp_path, text))
    assert list(found[""].patients) == ["person1_virus"] * 2


def test_patients_that_are_named_count_even_where_others_are_not(tmp_path, images):
    text = "path,label,patient\nimages/scan_0.png,NORMAL,ann\nimages/scan_1.png,NORMAL,ann\n"
    text += "images/scan_2.png,NORMAL,\n"
    patients = read_manifest(write_manifest(tmp_path, text))[""].patients
    assert list(patients[:2]) == ["ann", "ann"]
    assert patients[2] not in ("", "ann")


def test_a_manifest_without_split_is_dealt_out_by_patient(tmp_path):
    for index in range(200):
        write_image(tmp_path / f"{index}.png", index)
    rows = [(f"{index}.png", BOTH[index % 2], f"patient {index % 20}") for index in range(200)]
    text = "path,label,patient\n" + "".join(",".join(row) + "\n" for row in rows)
    splits = load_splits(write_manifest(tmp_path, text))
    sides = [set(radiographs.patients) for radiographs in splits]
    assert [len(side) for side in sides] == [16, 2, 2]
    assert len(set.union(*sides)) == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,HEALTHY\n", "line 2: label 'HEALTHY'. Expected NORMAL or PNEUMONIA"),
        ("path,label,split\na.png,NORMAL,train\nb.png,NORMAL,dev\n", "line 3: split 'dev'"),
        ("path,label,split\na.png,NORMAL,train\nb.png,NORMAL,\n", "1 rows have no split"),
        ("file,label\na.png,NORMAL\n", "path and label, found file, label"),
        ("path,label\n", "has no rows"),
        ("", "path and label, found none"),
        ("label,path\nNORMAL\n", "line 2: no path"),
        ("path,label\n,NORMAL\n", "line 2: no path"),
        ("path,label\na.png\n", "line 2: label"),
        ("path,label\na.npz::test/0,NORMAL\nb.npz::test/0,NORMAL\n", "one .npz"),
        ("path,label\na.png,NORMAL\nb.png,NORMAL\na.png,NORMAL\n", "line 4: a.png is in line 2 already"),
        ("path,label,split\na.png,NORMAL,train\nx/../a.png,NORMAL,test\n", "is in line 2 already"),
    ],
)
def test_a_faulty_manifest_is_one_line_that_says_where(tmp_path, text, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_manifest(write_manifest(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_hand_made_manifest_is_read_with_spaces_other_cases_and_names_of_folders(tmp_path, images):
    text = " Path, label , SPLIT\nimages/scan_0.png, normal,Validation\nimages/scan_1.png,Pneumonia ,VAL\n"
    (split, radiographs) = read_manifest(write_manifest(tmp_path, text)).popitem()
    assert split == "val"
    assert list(radiographs.labels) == [0, 1]


def test_blank_lines_count_where_a_line_is_named(tmp_path, images):
    text = "path,label\n\nimages/scan_0.png,NORMAL\n\nimages/scan_1.png,SICK\n"
    with pytest.raises(DataError, match="line 5: label 'SICK'"):
        read_manifest(write_manifest(tmp_path, text))


@pytest.mark.parametrize("row", ["test/99", "test/x", "test/-1", "train/0", "test"])
def test_a_row_that_the_npz_does_not_have_is_refused(tmp_path, row):
    write_npz(tmp_path / "a.npz", test=4)
    with pytest.raises(DataError, match="does not have"):
        read_manifest(write_manifest(tmp_path, f"path,label\na.npz::{row},NORMAL\n"))


def test_rows_of_an_npz_in_another_folder_are_found_again_from_the_run(tmp_path, monkeypatch):
    file = write_npz(tmp_path / "a.npz", train=300, val=100, test=4)
    load_splits(file).write_csv(tmp_path / "here" / "rows.csv")
    text = (tmp_path / "here" / "rows.csv").read_text().replace(str(file), "../a.npz")
    (tmp_path / "here" / "rows.csv").write_text(text)
    (tmp_path / "far" / "away").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "far" / "away")
    load_splits(tmp_path / "here" / "rows.csv").write_csv("splits.csv")
    again = read_manifest("splits.csv")["test"]
    assert np.array_equal(again.digests, load_radiographs(file).digests)


@pytest.mark.parametrize("source", ["folder", "npz"])
def test_written_splits_come_back_from_anywhere(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    if source == "folder":
        write_folder(Path("data"), train=(150, 150))
        splits = load_splits("data", seed=4)
    else:
        splits = load_splits(write_npz(Path("a.npz"), train=300, test=20), seed=4)
    splits.write_csv(tmp_path / "run" / "splits.csv")
    monkeypatch.chdir("/")
    found = read_manifest(tmp_path / "run" / "splits.csv")
    assert list(found) == ["train", "val", "test"]
    monkeypatch.chdir(tmp_path)
    for radiographs, again in zip(splits, found.values(), strict=True):
        assert np.array_equal(radiographs.labels, again.labels)
        assert np.array_equal(radiographs.patients, again.patients)
        assert np.array_equal(radiographs.digests, again.digests)
        assert np.array_equal(radiographs.read(3), again.read(3))
    assert Splits(*found.values()).fingerprint == splits.fingerprint


# Patients


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person1_bacteria_1.jpeg", "person1_bacteria"),
        ("person1_virus_6.jpeg", "person1_virus"),
        ("person1000_virus_1681.jpeg", "person1000_virus"),
        ("IM-0131-0001.jpeg", "IM-0131"),
        ("IM-0131-0001-0002.jpeg", "IM-0131"),
        ("NORMAL2-IM-0414-0001.jpeg", "NORMAL2-IM-0414"),
        ("BACTERIA-1135262-0002.jpeg", "BACTERIA-1135262"),
    ],
)
def test_the_kaggle_names_say_whose_radiograph_it_is(name, patient):
    assert list(RadiographSet.from_files([f"some/folder/{name}"]).patients) == [patient]


def test_the_number_alone_is_not_a_patient():
    files = ["person1_bacteria_1.jpeg", "person1_virus_6.jpeg", "person11_virus_6.jpeg"]
    assert len(set(RadiographSet.from_files(files).patients)) == 3


def test_unknown_names_are_each_their_own_patient():
    files = ["a/scan.png", "b/scan.png", "myperson1_virus_2.png", "IM-xx-1.png"]
    assert list(RadiographSet.from_files(files).patients) == files


@pytest.mark.parametrize("pattern", [r"(?P<patient>p\d+)_(\d)", r"(\d)x(?P<patient>p\d+)", r"(p\d+)"])
def test_a_users_pattern_names_the_patient(pattern):
    patients = RadiographSet.from_files(
        ["9xp12_3.png", "8xp12_4.png", "other.png"], patient_pattern=pattern
    ).patients
    assert list(patients) == ["p12", "p12", "other.png"]


@pytest.mark.parametrize(
    ("pattern", "message"), [(r"p\d+", "no group"), ("(", "no regular"), (r"(q\d+)", "matches no")]
)
def test_a_pattern_that_cannot_work_is_refused(pattern, message):
    with pytest.raises(SettingsError, match=message):
        RadiographSet.from_files(["p12_3.png"], patient_pattern=pattern)


# Kinds of pneumonia


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("person1_bacteria_1.jpeg", "bacteria"),
        ("person1_virus_6.jpeg", "virus"),
        ("VIRUS-1234-0001.jpeg", "virus"),
        ("IM-0131-0001.jpeg", ""),
        ("antivirus_3.jpeg", ""),
    ],
)
def test_the_name_says_which_kind_of_pneumonia_it_is(name, subtype):
    assert list(RadiographSet.from_files([f"virus/bacteria/{name}"]).subtypes) == [subtype]


def test_arrays_have_no_kind():
    assert list(RadiographSet.from_arrays(np.zeros((2, 4, 4), np.uint8)).subtypes) == ["", ""]


def test_a_manifest_may_say_the_kind_and_else_the_name_does(tmp_path):
    text = "path,label,subtype\n1_virus.png,PNEUMONIA,fungus\n2_virus.png,PNEUMONIA,\n3.png,NORMAL,\n"
    assert list(read_manifest(write_manifest(tmp_path, text))[""].subtypes) == ["fungus", "virus", ""]


def test_the_kind_goes_wherever_its_radiograph_goes(tmp_path):
    for index in range(120):
        name = f"person{index}_{('bacteria', 'virus')[index % 2]}_1.png"
        write_image(tmp_path / "data" / "train" / "PNEUMONIA" / name, index)
    write_class(tmp_path / "data" / "train" / "NORMAL", 60, start=500)
    write_class(tmp_path / "data" / "val" / "NORMAL", 3, start=600)
    splits = load_splits(tmp_path / "data", seed=2)
    splits.write_csv(tmp_path / "splits.csv")
    for found in (splits, read_manifest(tmp_path / "splits.csv").values()):
        for radiographs in found:
            for name, subtype in zip(radiographs.names, radiographs.subtypes, strict=True):
                assert (f"_{subtype}_" in name) if subtype else ("person" not in name)
    assert list(splits.train.subset([5, 3]).subtypes) == list(splits.train.subtypes[[5, 3]])


# The set itself


def test_subsets_keep_everything_together(images):
    radiographs = RadiographSet.from_files(images, labels=[0, 1, 0, 1, 0, 1])
    by_mask, by_index = radiographs.subset(radiographs.labels == 1), radiographs.subset([5, 1])
    assert [Path(name).stem for name in by_mask.names] == ["scan_1", "scan_3", "scan_5"]
    assert [Path(name).stem for name in by_index.names] == ["scan_5", "scan_1"]
    assert by_index.read(0)[5, 5] == 5
    assert list(by_index.labels) == [1, 1]
    assert len(radiographs.subset([])) == len(radiographs.subset(np.zeros(6, bool))) == 0
    assert len(radiographs.subset([True, False, False, False, False, True])) == 2
    arrays = RadiographSet.from_arrays(
        np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
    )
    assert [arrays.subset([5, 1]).read(row)[0, 0] for row in (0, 1)] == [5, 1]
    assert arrays.subset([]).images.shape == (0, 8, 8)


@pytest.mark.parametrize("indices", [[6], [True, False]])
def test_a_subset_that_cannot_be_is_refused(images, indices):
    with pytest.raises(IndexError):
        RadiographSet.from_files(images).subset(indices)


def test_pixels_are_read_in_order_at_the_size_asked(images):
    pixels = RadiographSet.from_files(images).pixels((4, 8))
    assert pixels.shape == (6, 4, 8)
    assert pixels.dtype == np.uint8
    assert list(pixels[:, 3, 7]) == [0, 1, 2, 3, 4, 5]


def test_one_unreadable_file_is_named_by_pixels_and_digests(tmp_path, images):
    radiographs = RadiographSet.from_files([*images, tmp_path / "gone.png"])
    with pytest.raises(DataError, match=r"gone\.png"):
        radiographs.pixels((8, 8))
    with pytest.raises(DataError, match=r"gone\.png"):
        _ = radiographs.digests


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], "one label for each of 6"), ([0, 1, 2, 0, 1, 0], "labels 0 and 1"), ([], "Received 0")],
)
def test_labels_that_do_not_fit_the_files_are_refused(images, labels, message):
    with pytest.raises(DataError, match=message):
        RadiographSet.from_files(images, labels=labels)


def test_names_and_patients_that_do_not_fit_the_arrays_are_refused():
    pixels = np.zeros((3, 8, 8), np.uint8)
    with pytest.raises(DataError, match="3 images"):
        RadiographSet.from_arrays(pixels, names=["a", "b"])
    with pytest.raises(DataError, match="3 images"):
        RadiographSet.from_arrays(pixels, patients=["a", "b", "c", "d"])


def test_arrays_with_a_channel_are_taken_and_others_refused():
    radiographs = RadiographSet.from_arrays(np.zeros((3, 8, 9, 1), np.uint8), [[0], [1], [1]])
    assert radiographs.read(0).shape == (8, 9)
    assert list(radiographs.patients) == ["image 0", "image 1", "image 2"]
    for wrong in (np.zeros((3, 8, 9, 3), np.uint8), np.zeros((3, 8, 9)), np.zeros((8, 9), np.uint8)):
        with pytest.raises(DataError, match="uint8"):
            RadiographSet.from_arrays(wrong)


def test_digests_are_equal_for_equal_content_only(tmp_path, images):
    copy = tmp_path / "copy_of_3.png"
    copy.write_bytes(images[3].read_bytes())
    digests = RadiographSet.from_files([*images, copy]).digests
    assert digests[6] == digests[3]
    assert len(set(digests)) == 6
    pixels = np.zeros((3, 4, 4), np.uint8)
    pixels[2] += 1
    arrays = RadiographSet.from_arrays(pixels).digests
    assert arrays[0] == arrays[1] != arrays[2]
    assert arrays[0] != RadiographSet.from_arrays(pixels.reshape(3, 2, 8)).digests[0]


def test_the_fingerprint_depends_on_split_label_and_content(tmp_path):
    splits = load_splits(write_folder(tmp_path, train=(10, 10), val=(5, 5)), keep_val=True)
    labels = splits.train.labels.copy()
    labels[0] = 1
    changed = {
        splits.fingerprint,
        replace(splits, train=splits.val, val=splits.train).fingerprint,
        replace(splits, train=replace(splits.train, labels=labels)).fingerprint,
        replace(splits, test=splits.test.subset([0, 1])).fingerprint,
        replace(splits, train=splits.train, val=splits.val.subset([])).fingerprint,
        replace(splits, train=splits.val.subset([]), val=splits.train).fingerprint,
    }
    write_image(splits.train.images[0], 999)
    changed.add(load_splits(tmp_path, keep_val=True).fingerprint)
    assert len(changed) == 7


def test_the_fingerprint_does_not_depend_on_order_or_notices(tmp_path):
    splits = load_splits(write_folder(tmp_path, train=(10, 10), val=(5, 5)), keep_val=True)
    turned = replace(splits, train=splits.train.subset(np.arange(20)[::-1]), notices=("x",), source="y")
    assert turned.fingerprint == splits.fingerprint


def test_radiographs_without_labels_have_a_fingerprint_too():
    labeled = RadiographSet.from_arrays(np.zeros((2, 4, 4), np.uint8), [0, 1])
    unlabeled = RadiographSet.from_arrays(np.zeros((2, 4, 4), np.uint8))
    one, other = Splits(labeled, labeled, unlabeled), Splits(labeled, labeled, labeled)
    assert one.fingerprint != other.fingerprint


def test_class_weights_make_both_classes_weigh_the_same():
    pixels = np.zeros((10, 4, 4), np.uint8)
    weights = RadiographSet.from_arrays(pixels, [0] * 2 + [1] * 8).class_weights()
    assert weights == {0: 2.5, 1: 0.625}
    assert 2 * weights[0] == 8 * weights[1]
    assert RadiographSet.from_arrays(pixels, [1] * 10).class_weights()[0] == 1.0


def test_counting_unlabeled_radiographs_is_refused():
    with pytest.raises(DataError, match="no labels"):
        _ = RadiographSet.from_arrays(np.zeros((2, 4, 4), np.uint8)).counts


def test_what_a_notebook_shows_is_escaped():
    pixels = np.zeros((2, 4, 4), np.uint8)
    radiographs = RadiographSet.from_arrays(pixels, [0, 1], class_names=("<b>", "a & b"))
    splits = Splits(radiographs, radiographs, radiographs, notices=("<script>alert(1)</script>",))
    for shown in (radiographs._repr_html_(), splits._repr_html_()):
        assert "<b>" not in shown
        assert "&lt;b&gt;" in shown
        assert "a &amp; b" in shown
    assert "<script>" not in splits._repr_html_()
    assert "?" in RadiographSet.from_arrays(pixels)._repr_html_()


def test_five_thousand_files_are_found_and_split_in_seconds(tmp_path):
    from time import perf_counter

    number = 0
    for class_name in BOTH:
        for index in range(2500):
            write_image(tmp_path / "train" / class_name / f"scan_{class_name}_{index}.png", number)
            number += 1
    start = perf_counter()
    splits = load_splits(tmp_path)
    assert len(splits.train) + len(splits.val) == 5000
    assert perf_counter() - start < 10


def test_loading_splits_imports_no_drawer_of_phantoms(phantom_folder):
    program = (
        "import sys, pneumokeras as pk; pk.load_splits(sys.argv[1]); "
        "print([name for name in sys.modules if 'phantoms' in name or name == 'tensorflow'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, phantom_folder], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


# Real radiographs


def test_the_kaggle_set_gets_a_val_of_a_tenth(chest_xray):
    splits = load_splits(chest_xray, seed=0)
    assert [len(radiographs) for radiographs in splits] == [4695, 521, 312]
    assert not set(splits.train.patients) & set(splits.val.patients)
    rates = [radiographs.labels.mean() for radiographs in (splits.train, splits.val)]
    assert abs(rates[0] - rates[1]) < 0.01
    assert "val had 16 images" in splits.notices[0]


def test_every_kaggle_name_says_whose_it_is(chest_xray):
    for radiographs in load_splits(chest_xray):
        assert not set(radiographs.names) & set(radiographs.patients)
        assert len(set(radiographs.patients)) < len(radiographs)


def test_the_official_test_set_is_left_whole(chest_xray):
    assert load_splits(chest_xray, seed=1).test.counts == {"NORMAL": 117, "PNEUMONIA": 195}
    assert load_radiographs(chest_xray).counts == {"NORMAL": 117, "PNEUMONIA": 195}


def test_pneumoniamnist_is_read_as_published(real_data):
    splits = load_splits(real_data / "pneumoniamnist.npz")
    assert splits.train.counts == {"NORMAL": 1214, "PNEUMONIA": 3494}
    assert [len(radiographs) for radiographs in splits] == [4708, 524, 312]
    assert splits.train.images.shape == (4708, 28, 28)
    (notice,) = splits.notices
    assert notice.startswith("8 radiographs of train are also in val (same content), such as train/")


def test_further_columns_of_a_manifest_are_kept_in_subsets_and_files(tmp_path, images):
    text = "path,label,Hospital,fold\n" + "".join(
        f"{path},{('NORMAL', 'PNEUMONIA')[i % 2]},{('north', 'south', '')[i % 3]},0\n"
        for i, path in enumerate(images)
    )
    radiographs = read_manifest(write_manifest(tmp_path, text))[""]
    assert list(radiographs.columns) == ["hospital"]
    assert list(radiographs.subset([1, 0]).columns["hospital"]) == ["south", "north"]
    write_sets(tmp_path / "again.csv", {"test": radiographs})
    again = read_manifest(tmp_path / "again.csv")["test"]
    assert list(again.columns["hospital"]) == list(radiographs.columns["hospital"])


def test_sets_with_different_columns_are_joined_with_gaps():
    arrays = RadiographSet.from_arrays(np.zeros((2, 4, 4), np.uint8), [0, 1])
    told = replace(arrays, columns={"hospital": np.array(["north", "south"], dtype=object)})
    assert list(union([arrays, told]).columns["hospital"]) == ["", "", "north", "south"]
