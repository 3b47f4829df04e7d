"""A DICOM file becomes the gray levels its window shows, and its patient a name that says nobody."""

import logging
import os
import re
import stat
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pydicom
import pydicom.data
import pytest
from keras import layers
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from pneumokeras.core.errors import DataError
from pneumokeras.data.audit.audit_data import audit
from pneumokeras.data.dataset import RadiographSet
from pneumokeras.data.from_path import load_radiographs, load_splits
from pneumokeras.data.images import dicom
from pneumokeras.data.images.image import read_radiograph
from pneumokeras.data.loader import RadiographLoader
from pneumokeras.data.readers.manifest import read_manifest, write_sets
from pneumokeras.data.splits import write_manifest
from pneumokeras.models.saving import save_model
from pneumokeras.training.predict import predict
from tests import calling

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
VALUES = RAMP.astype(float)


@pytest.fixture(autouse=True)
def key(tmp_path, monkeypatch):
    """A key of the test's own."""
    path = tmp_path / "keys" / "patient.key"
    monkeypatch.setenv(dicom.KEY_VARIABLE, str(path))
    return path


def dataset(pixels=RAMP, *, bits=12, syntax=ExplicitVRLittleEndian, **elements):
    """A minimal digital radiograph."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    made.PhotometricInterpretation = "MONOCHROME2"
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    made.BitsStored, made.HighBit = bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def write(path, made):
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def read(tmp_path, *arguments, **elements):
    return read_radiograph(write(tmp_path / "a.dcm", dataset(*arguments, **elements))).astype(int)


def refused(tmp_path, *arguments, **elements):
    with pytest.raises(DataError) as caught:
        read(tmp_path, *arguments, **elements)
    message = str(caught.value)
    assert str(tmp_path / "a.dcm") in message
    assert "\n" not in message
    return message


# What is shown


def test_without_a_window_the_darkest_is_black_and_the_brightest_white(tmp_path):
    shown = read(tmp_path, RAMP + 1000, bits=16)
    assert np.array_equal(shown, np.rint(RAMP / 4095 * 255))


def test_an_even_picture_is_black(tmp_path):
    assert read(tmp_path, np.full((8, 8), 700, np.uint16)).max() == 0


def test_monochrome1_is_inverted(tmp_path):
    assert np.array_equal(255 - read(tmp_path), read(tmp_path, PhotometricInterpretation="MONOCHROME1"))


def test_the_window_is_applied_as_the_standard_says(tmp_path):
    shown = read(tmp_path, WindowCenter=2048, WindowWidth=1024)
    assert np.all(shown[RAMP <= 2048 - 0.5 - 1023 / 2] == 0)
    assert np.all(shown[RAMP > 2048 - 0.5 + 1023 / 2] == 255)
    within = np.abs(VALUES - 2047.5) < 500
    expected = ((VALUES - 2047.5) / 1023 + 0.5) * 255
    assert np.abs(shown - expected)[within].max() <= 0.5001


def test_an_exact_window_and_a_sigmoid_are_what_they_are_called(tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    exact = read(tmp_path, VOILUTFunction="LINEAR_EXACT", **window)
    assert np.abs(exact - np.clip((VALUES - 2000) / 1000 + 0.5, 0, 1) * 255).max() <= 0.5001
    sigmoid = read(tmp_path, VOILUTFunction="SIGMOID", **window)
    assert np.abs(sigmoid - 255 / (1 + np.exp(-4 * (VALUES - 2000) / 1000))).max() <= 0.5001


def test_the_first_of_several_windows_counts(tmp_path):
    several = read(tmp_path, WindowCenter=[1000, 3000], WindowWidth=[500, 200])
    assert np.array_equal(several, read(tmp_path, WindowCenter=1000, WindowWidth=500))


def test_slope_and_intercept_come_before_the_window(tmp_path):
    rescaled = read(tmp_path, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000, WindowWidth=801)
    assert np.abs(rescaled - np.clip((2 * VALUES - 1000 - 999.5) / 800 + 0.5, 0, 1) * 255).max() <= 0.5001


def test_signed_values_are_read(tmp_path):
    signed = (RAMP.astype(np.int16) - 2048).astype(np.int16)
    assert np.array_equal(read(tmp_path, signed, bits=16), read(tmp_path))


def test_a_voi_table_is_applied_before_a_window(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [256, 1000, 8]
    table.LUTData = [255 - value for value in range(256)]
    table["LUTData"].VR = "US"
    shown = read(tmp_path, VOILUTSequence=[table], WindowCenter=1, WindowWidth=1)
    assert np.array_equal(shown, 255 - np.clip(VALUES - 1000, 0, 255))


def with_table(path, curve, *, first, depth, kind="US", **elements):
    table = Dataset()
    table.LUTDescriptor = [len(curve) % 2**16, first, depth]
    table["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    table.LUTData = curve.tolist() if kind == "US" else curve.astype("<u2").tobytes()
    table["LUTData"].VR = kind
    stored = (RAMP.astype(np.int16) - 2048).astype(np.int16)
    return write(path, dataset(stored, bits=16, VOILUTSequence=[table], **elements))


@pytest.mark.parametrize(
    ("entries", "depth", "kind"),
    [(256, 8, "US"), (2048, 8, "US"), (2048, 12, "US"), (4096, 16, "OW"), (2**16, 8, "OW")],
)
@pytest.mark.parametrize("first", [-300, 0, 1000])
def test_a_voi_table_is_looked_up_as_the_standard_says_and_as_pydicom_does(
    tmp_path, entries, depth, first, kind
):
    curve = (np.linspace(0, 1, entries) ** 0.5 * (2**depth - 1)).astype(np.uint16)
    path = with_table(tmp_path / "a.dcm", curve, first=first, depth=depth, kind=kind)
    expected = curve[np.clip(VALUES.astype(int) - 2048 - first, 0, entries - 1)] / (2**depth - 1) * 255
    assert np.abs(read_radiograph(path) - expected).max() <= 0.5001
    if depth > 8:  # else pydicom's index wraps
        assert np.abs(read_radiograph(path) - as_pydicom_shows(path, 1)).max() <= 0.5001


def test_a_voi_table_of_monochrome1_is_inverted(tmp_path):
    curve = np.linspace(0, 4095, 2048).astype(np.uint16)
    shown = [
        read_radiograph(
            with_table(tmp_path / "a.dcm", curve, first=0, depth=12, PhotometricInterpretation=kind)
        ).astype(int)
        for kind in ("MONOCHROME1", "MONOCHROME2")
    ]
    assert np.abs(shown[0] + shown[1] - 255).max() <= 1


@pytest.mark.parametrize(
    ("entries", "depth", "what"), [(256, 9, "VOI table has entries of 9 bits"), (400, 8, "damaged")]
)
def test_a_voi_table_that_is_none_is_one_line(tmp_path, entries, depth, what):
    with pytest.raises(DataError, match=what):
        read_radiograph(with_table(tmp_path / "a.dcm", np.arange(entries), first=0, depth=depth))


def test_color_becomes_luminance(tmp_path):
    green = np.zeros((8, 8, 3), np.uint8)
    green[..., 1] = 200
    shown = read(tmp_path, green, bits=8, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert np.abs(shown - 0.587 * 200).max() <= 1


def test_it_is_brought_to_the_size_asked(tmp_path):
    path = write(tmp_path / "a.dcm", dataset())
    assert read_radiograph(path, image_size=(16, 24)).shape == (16, 24)


def test_a_file_is_dicom_by_its_content(tmp_path):
    path = write(tmp_path / "a.jpeg", dataset())
    assert read_radiograph(path).shape == (64, 64)


def test_run_length_encoding_is_read(tmp_path):
    made = dataset()
    made.compress(RLELossless)
    assert np.array_equal(read_radiograph(write(tmp_path / "rle.dcm", made)), read(tmp_path))


# What is refused


def test_several_frames_are_refused(tmp_path):
    frames = np.zeros((32, 16), np.uint16)
    assert "2 frames" in refused(tmp_path, frames, NumberOfFrames=2, Rows=16)


FRAMES = np.random.default_rng(3).integers(0, 4096, (5, 16, 16), dtype=np.uint16)


def film_of_five(path, **elements):
    """A film of five frames, each shown by one window."""
    made = dataset(FRAMES.reshape(80, 16), NumberOfFrames=5, Rows=16, WindowCenter=2048, WindowWidth=4096)
    for name, value in elements.items():
        setattr(made, name, value)
    return write(path, made)


def frame_alone(path, number):
    return write(path, dataset(FRAMES[number - 1], WindowCenter=2048, WindowWidth=4096))


def rows_of(path, *rows):
    path.write_text("\n".join(["path,label,split,frame", *rows]) + "\n")
    return path


@pytest.fixture
def film_manifest(tmp_path):
    """Two frames of one film, and a frame of its own file in every other split and class."""
    film_of_five(tmp_path / "film.dcm")
    frame_alone(tmp_path / "one.dcm", 1)
    cv2.imwrite(str(tmp_path / "plain.png"), np.full((16, 16), 9, np.uint8))
    return rows_of(
        tmp_path / "a.csv",
        "film.dcm,NORMAL,train,2",
        "film.dcm,PNEUMONIA,train,5",
        "film.dcm,NORMAL,val,1",
        "film.dcm,PNEUMONIA,val,4",
        "one.dcm,NORMAL,test,",
        "plain.png,PNEUMONIA,test,1",
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_a_frame_of_several_is_read_as_if_it_lay_alone(tmp_path, compressed):
    film = film_of_five(tmp_path / "film.dcm")
    if compressed:
        made = pydicom.dcmread(film)
        made.compress(RLELossless)
        write(film, made)
    for number in range(1, 6):
        alone = read_radiograph(frame_alone(tmp_path / "alone.dcm", number))
        assert np.array_equal(read_radiograph(film, frame=number), alone)


def test_a_frame_is_shown_by_its_own_window_and_rescaling(tmp_path):
    def groups(**elements):
        group, window, values = Dataset(), Dataset(), Dataset()
        for name, value in elements.items():
            setattr(window if name.startswith("Window") else values, name, value)
        group.FrameVOILUTSequence = [window] if len(window) else []
        group.PixelValueTransformationSequence = [values] if len(values) else []
        return group

    film = film_of_five(
        tmp_path / "film.dcm",
        SharedFunctionalGroupsSequence=[groups(RescaleSlope=2, RescaleIntercept=-1000)],
        PerFrameFunctionalGroupsSequence=[
            groups(WindowCenter=500 * number, WindowWidth=1000) for number in range(5)
        ],
    )
    elements = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1500, "WindowWidth": 1000}
    alone = write(tmp_path / "alone.dcm", dataset(FRAMES[3], **elements))
    assert np.array_equal(read_radiograph(film, frame=4), read_radiograph(alone))
    assert not np.array_equal(read_radiograph(film, frame=4), read_radiograph(film, frame=5))


def test_a_manifest_chooses_frames_and_two_rows_may_take_two_of_one_file(tmp_path, film_manifest):
    splits = load_splits(film_manifest, keep_val=True)
    shown = [read_radiograph(tmp_path / "film.dcm", frame=number) for number in (2, 5, 1, 4)]
    assert np.array_equal(splits.train.pixels(16), shown[:2])
    assert np.array_equal(splits.val.pixels(16), shown[2:])
    assert list(splits.train.frames) == [2, 5]
    assert [Path(name).name for name in splits.train.names] == ["film.dcm::2", "film.dcm::5"]
    assert not splits.train.columns
    assert len(load_splits(film_manifest, keep_val=True, skip_bad=True).train) == 2
    assert np.array_equal(splits.train[1].read(0), shown[1])


def test_frames_of_one_file_are_one_patients(film_manifest):
    splits = load_splits(film_manifest, keep_val=True)
    assert set(splits.train.patients) == set(splits.val.patients) == {"film.dcm"}
    assert "Suspected: 1 patient of train is also in val, such as film.dcm." in splits.notices


def test_what_identifies_a_radiograph_depends_on_its_frame(tmp_path, film_manifest):
    splits = load_splits(film_manifest, keep_val=True)
    digests = [*splits.train.digests, *splits.val.digests]
    assert len(set(digests)) == 4
    plain = RadiographSet.from_files([tmp_path / "film.dcm", tmp_path / "plain.png"])
    assert [splits.val.digests[0], splits.test.digests[1]] == list(plain.digests)
    loader = RadiographLoader(splits.train, image_size=(16, 16))
    assert loader.view_key(0, 0) != loader.view_key(1, 0)
    rows_of(film_manifest, *film_manifest.read_text().replace("train,5", "train,3").split("\n")[1:-1])
    assert load_splits(film_manifest, keep_val=True).fingerprint != splits.fingerprint


def test_written_manifests_remember_the_frames(tmp_path, film_manifest):
    splits = load_splits(film_manifest, keep_val=True)
    splits.write_csv(tmp_path / "splits.csv")
    (tmp_path / "elsewhere").mkdir()
    write_manifest(tmp_path / "elsewhere" / "b.csv", splits)
    for path in (tmp_path / "splits.csv", tmp_path / "elsewhere" / "b.csv"):
        again = load_splits(path, keep_val=True)
        assert again.fingerprint == splits.fingerprint
        assert sorted(zip(again.train.frames, map(bytes, again.train.pixels(16)), strict=True)) == sorted(
            zip(splits.train.frames, map(bytes, splits.train.pixels(16)), strict=True)
        )


def test_where_no_frame_is_chosen_a_manifest_has_no_column_of_them(tmp_path):
    path = write(tmp_path / "a.dcm", dataset())
    one = RadiographSet.from_files([path], labels=[0])
    write_sets(tmp_path / "a.csv", {"test": one})
    header, _ = (tmp_path / "a.csv").read_text().splitlines()
    assert "frame" not in header


def test_an_audit_looks_at_the_frames(film_manifest):
    report = audit(load_splits(film_manifest, keep_val=True))
    assert not report.bad_files


@pytest.mark.parametrize(
    ("name", "frame", "what"),
    [
        ("film.dcm", "9", "film.dcm cannot be decoded: it holds 5 frames, so there is no frame 9"),
        ("film.dcm", "", "film.dcm cannot be decoded: it holds 5 frames, of which"),
        ("one.dcm", "2", "one.dcm cannot be decoded: it holds 1 frame, so there is no frame 2"),
        ("plain.png", "2", "plain.png cannot be decoded: it is PNG, which has 1 frame here, so"),
        ("film.dcm", "0", "line 2: frame '0' of film.dcm. Expected a whole number from 1"),
        ("film.dcm", "second", "line 2: frame 'second' of film.dcm. Expected a whole number from 1"),
        ("film.dcm", "-1", "line 2: frame '-1' of film.dcm. Expected a whole number from 1"),
        ("film.dcm", "1.5", "line 2: frame '1.5' of film.dcm. Expected a whole number from 1"),
    ],
)
def test_a_frame_that_is_none_is_one_line(tmp_path, film_manifest, name, frame, what):
    with pytest.raises(DataError, match=re.escape(what)) as caught:
        read_manifest(rows_of(tmp_path / "b.csv", f"{name},NORMAL,test,{frame}"))["test"].read(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("frames", [("2", "2"), ("1", "")])
def test_the_same_frame_twice_is_refused(tmp_path, frames):
    rows_of(tmp_path / "a.csv", *(f"film.dcm,NORMAL,test,{frame}" for frame in frames))
    with pytest.raises(DataError, match=r"line 3: film\.dcm is in line 2 already"):
        read_manifest(tmp_path / "a.csv")


def test_a_row_of_an_npz_has_no_second_frame(tmp_path):
    arrays = {
        f"test_{what}": np.zeros((2, *shape), np.uint8)
        for what, shape in [("images", (8, 8)), ("labels", ())]
    }
    np.savez(tmp_path / "a.npz", **arrays)
    assert len(read_manifest(rows_of(tmp_path / "a.csv", "a.npz::test/0,NORMAL,test,1"))["test"]) == 1
    with pytest.raises(DataError, match=r"a\.npz::test/0 is an array, so there is no frame 2"):
        read_manifest(rows_of(tmp_path / "a.csv", "a.npz::test/0,NORMAL,test,2"))


def test_a_compression_without_a_plugin_is_one_line_that_names_it(tmp_path, monkeypatch):
    made = dataset(syntax=JPEGLSLossless)
    made.PixelData = encapsulate([b"\xff\xd8 something"])
    made["PixelData"].is_undefined_length = True
    path = write(tmp_path / "a.dcm", made)
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda syntax: SimpleNamespace(is_available=False))
    with pytest.raises(DataError, match=r"compressed as JPEG-LS Lossless.*pip install"):
        read_radiograph(path)


def test_deflated_files_are_read(tmp_path):
    path = write(tmp_path / "a.dcm", dataset(syntax=DeflatedExplicitVRLittleEndian, PatientID="4711"))
    assert np.array_equal(read_radiograph(path), read(tmp_path / "plain"))
    assert dicom.patient_of(path) == dicom.patient_of(write(tmp_path / "b.dcm", dataset(PatientID="4711")))


def test_deflated_files_that_inflate_to_too_much_are_refused_before_pydicom_inflates_them(
    tmp_path, monkeypatch
):
    path = write(tmp_path / "a.dcm", dataset(syntax=DeflatedExplicitVRLittleEndian))
    damaged = path.read_bytes()[:-100]
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **kwargs: pytest.fail("it was inflated"))
    monkeypatch.setattr(dicom, "_MAX_INFLATED", 4000)
    with pytest.raises(DataError, match="inflates to more than 4000 bytes"):
        read_radiograph(path)
    assert dicom.patient_of(path) is None
    path.write_bytes(damaged[:400] + b"\xff" * 400)
    with pytest.raises(DataError, match=r"deflated data is damaged|inflates to more"):
        read_radiograph(path)


def test_a_palette_is_looked_up(tmp_path):
    palette = {}
    for color in ("Red", "Green", "Blue"):
        palette[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        table = np.arange(255, -1, -1, dtype=np.uint16) << 8
        palette[f"{color}PaletteColorLookupTableData"] = table.tobytes()
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shown = read(tmp_path, pixels, bits=8, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert np.array_equal(shown, 255 - pixels)


BASIC_TEXT_SR, RT_PLAN = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.481.5"


def without_image(path, kind):
    made = dataset(PatientID="4711")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(made, name)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = kind
    return write(path, made)


@pytest.mark.parametrize(
    ("kind", "name"), [(BASIC_TEXT_SR, "Basic Text SR Storage"), (RT_PLAN, "RT Plan Storage")]
)
def test_a_file_without_an_image_is_named_as_what_it_is(tmp_path, kind, name):
    with pytest.raises(DataError, match=f"it holds no image .{name}."):
        read_radiograph(without_image(tmp_path / "a.dcm", kind))


def test_a_film_that_lost_its_pixels_is_not_left_out_without_being_asked(tmp_path):
    write(tmp_path / "set" / "NORMAL" / "whole.dcm", dataset())
    lost = without_image(tmp_path / "set" / "PNEUMONIA" / "lost.dcm", "1.2.840.10008.5.1.4.1.1.1.1")
    with pytest.raises(DataError, match=f"{lost}.*holds no image .Digital X-Ray"):
        load_splits(tmp_path / "set")


@pytest.mark.parametrize("lacking", ["Rows", "BitsStored", "PhotometricInterpretation"])
def test_what_the_header_lacks_is_named(tmp_path, lacking):
    made = dataset()
    delattr(made, lacking)
    with pytest.raises(DataError, match=f"its header lacks {lacking}"):
        read_radiograph(write(tmp_path / "a.dcm", made))


def test_a_folder_that_holds_nothing_else_says_so(tmp_path):
    without_image((tmp_path / "NORMAL").joinpath("report.dcm"), BASIC_TEXT_SR)
    with pytest.raises(DataError, match=r"No images under .*they hold no image .Basic Text SR Storage.: 1"):
        load_splits(tmp_path)


def test_in_a_folder_files_without_a_radiograph_are_left_out_with_a_notice(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("NORMAL", "PNEUMONIA"):
        for number in range(20):
            film = dataset(rng.integers(0, 4096, (8, 8), dtype=np.uint16))
            write(tmp_path / "set" / label / f"{number}.dcm", film)
    without_image(tmp_path / "set" / "NORMAL" / "report.dcm", BASIC_TEXT_SR)
    without_image(tmp_path / "set" / "PNEUMONIA" / "report.dcm", BASIC_TEXT_SR)
    frames = dataset(np.zeros((32, 16), np.uint16), NumberOfFrames=2, Rows=16)
    write(tmp_path / "set" / "NORMAL" / "film.dcm", frames)
    splits = load_splits(tmp_path / "set")
    assert sum(len(part) for part in splits) == 40
    assert not splits.skipped
    assert (
        "Left out, since they hold no image (Basic Text SR Storage): 2, such as report.dcm." in splits.notices
    )
    several = "they hold several frames, of which a manifest's column `frame` chooses one"
    assert f"Left out, since {several}: 1, such as film.dcm." in splits.notices


@pytest.fixture(scope="module")
def brightness():
    """A model that gives an image's mean gray level, from 0 to 1."""
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, layers.Rescaling(1 / 255)(layers.GlobalAveragePooling2D()(inputs)))


@pytest.fixture
def study(tmp_path):
    """A folder with a film, and with what else a study holds."""
    write(tmp_path / "study" / "film.dcm", dataset(PatientID="4711"))
    without_image(tmp_path / "study" / "plan.dcm", RT_PLAN)
    without_image(tmp_path / "study" / "more" / "report.dcm", BASIC_TEXT_SR)
    return tmp_path / "study"


def test_a_folder_is_predicted_without_files_that_hold_no_radiograph(brightness, study, caplog):
    predictions = predict(brightness, study)
    assert list(predictions.names) == [str(study / "film.dcm")]
    assert "Left out, since they hold no image (RT Plan Storage): 1, such as plan.dcm." in caplog.messages
    (study / "film.dcm").unlink()
    with pytest.raises(DataError, match=r"No images under .*they hold no image .Basic Text SR Storage.: 1"):
        predict(brightness, study)


def test_the_command_predicts_such_a_folder_and_says_what_it_left_out(brightness, study, tmp_path):
    save_model(brightness, tmp_path / "model.keras")
    result = calling.call("predict", tmp_path / "model.keras", study)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    assert "Left out, since they hold no image (RT Plan Storage): 1, such as plan.dcm." in result.stderr


def test_a_file_without_a_radiograph_that_is_named_itself_is_refused(brightness, study):
    with pytest.raises(DataError, match=r"it holds no image .RT Plan Storage"):
        predict(brightness, [study / "film.dcm", study / "plan.dcm"])


def test_a_path_has_the_patient_that_its_set_has(brightness, study, monkeypatch, key):
    film = study / "film.dcm"
    (found,) = RadiographSet.from_files([film]).patients
    assert found.startswith("patient-")
    assert list(predict(brightness, film).patients) == [found]
    monkeypatch.setenv(dicom.KEY_VARIABLE, str(film / "no" / "folder.key"))  # no key can be made
    assert list(predict(brightness, film).patients) == [str(film)]


def test_too_many_pixels_are_refused_from_the_header(tmp_path):
    assert "30000 x 30000" in refused(tmp_path, Rows=30_000, Columns=30_000)


@pytest.mark.parametrize(
    ("elements", "what"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "damaged or incomplete"),
        ({"PhotometricInterpretation": "HSV"}, "neither gray"),
        ({"WindowCenter": 1000, "WindowWidth": 0}, "width 0"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "-1e308"}, "no numbers"),
        ({"PixelData": b"short"}, "damaged"),
    ],
)
def test_what_cannot_be_shown_is_one_line(tmp_path, elements, what):
    assert what in refused(tmp_path, **elements)


@pytest.mark.parametrize("kept", [140, 300, 0.5, 0.95])
def test_a_file_that_ends_early_is_one_line(tmp_path, kept):
    path = write(tmp_path / "a.dcm", dataset())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(DataError, match=r"a\.dcm cannot be decoded"):
        read_radiograph(path)


def test_messages_quote_nothing_from_the_header(tmp_path):
    message = refused(tmp_path, PatientID="4711", PatientName="Doe^Jane", PixelData=b"short")
    assert not re.search(r"4711|Doe", message)


@pytest.fixture
def no_pydicom(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)


def test_without_pydicom_it_is_one_line_that_names_the_extra(tmp_path, no_pydicom):
    path = write(tmp_path / "NORMAL" / "a.dcm", dataset())
    for call in (read_radiograph, dicom.patient_of, lambda path: load_radiographs(path.parent.parent)):
        with pytest.raises(DataError, match=r"a\.dcm is a DICOM file.*pip install 'pneumokeras\[dicom\]'"):
            call(path)


def test_without_pydicom_other_files_are_read(tmp_path, no_pydicom):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 9, np.uint8))
    assert read_radiograph(tmp_path / "a.png")[0, 0] == 9


# Whose it is


def patients(folder, *identities, **elements):
    files = [
        write(folder / f"{number}.dcm", dataset(PatientID=identity, **elements))
        for number, identity in enumerate(identities)
    ]
    return list(RadiographSet.from_files(files).patients)


def test_one_patient_has_one_name_that_does_not_hold_the_identifier(tmp_path, key):
    one, again, other = patients(tmp_path, "4711", "4711 ", "4712")
    assert one == again != other
    assert re.fullmatch(r"patient-[0-9a-f]{16}", one)
    assert "4711" not in one


def test_another_machine_has_other_names(tmp_path, key):
    before = patients(tmp_path, "4711")
    key.unlink()
    assert patients(tmp_path, "4711") != before


def test_the_issuer_tells_equal_identifiers_apart(tmp_path):
    issued = {"IssuerOfPatientID": "another hospital"}
    assert patients(tmp_path, "4711") != patients(tmp_path, "4711", **issued)


def test_without_an_identifier_each_is_its_own(tmp_path):
    assert patients(tmp_path, "", "") == [str(tmp_path / "0.dcm"), str(tmp_path / "1.dcm")]


def test_the_header_goes_before_the_files_name_and_a_pattern_before_both(tmp_path):
    path = write(tmp_path / "person1_virus_2.dcm", dataset(PatientID="4711"))
    assert RadiographSet.from_files([path]).patients[0].startswith("patient-")
    assert list(RadiographSet.from_files([path], patient_pattern=r"(person\d)").patients) == ["person1"]


def test_the_key_is_made_once_and_for_its_user_only(tmp_path, key):
    patients(tmp_path, "4711")
    made = key.read_bytes()
    assert len(made) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    patients(tmp_path, "4712")
    assert key.read_bytes() == made
    assert os.listdir(key.parent) == [key.name]


def test_a_key_that_another_process_made_first_is_taken(tmp_path, key):
    key.parent.mkdir(parents=True)
    key.write_bytes(b"k" * 32)
    dicom._make_key(key)
    assert key.read_bytes() == b"k" * 32
    assert os.listdir(key.parent) == [key.name]


def test_what_is_no_key_is_refused_and_left_alone(tmp_path, key):
    key.parent.mkdir(parents=True)
    key.write_bytes(b"my letter")
    with pytest.raises(DataError, match="is not the key") as caught:
        patients(tmp_path, "4711")
    assert "my letter" not in str(caught.value)
    assert key.read_bytes() == b"my letter"


def test_a_key_that_cannot_be_made_is_one_line(tmp_path, key):
    key.parent.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=dicom.KEY_VARIABLE):
        patients(tmp_path, "4711")


def test_neither_key_nor_identifier_gets_into_what_is_written(tmp_path, key):
    for number in range(60):
        folder = tmp_path / "data" / ("NORMAL", "PNEUMONIA")[number % 2]
        pixels = np.random.default_rng(number).integers(0, 4096, (8, 8), dtype=np.uint16)
        made = dataset(pixels, PatientID=f"secret{number // 4}")
        write(folder / f"scan{number}.dcm", made)
    splits = load_splits(tmp_path / "data")
    splits.write_csv(tmp_path / "splits.csv")
    written = (tmp_path / "splits.csv").read_bytes()
    assert b"secret" not in written
    assert key.read_bytes().hex().encode() not in written
    found = read_manifest(tmp_path / "splits.csv")
    assert np.array_equal(found["train"].patients, splits.train.patients)
    assert not set(splits.train.patients) & set(splits.val.patients)


@pytest.mark.parametrize("name", ["IM00001", "scan.jpeg"])
def test_a_dicom_file_of_any_name_says_whose_it_is(tmp_path, name):
    for number in range(2):
        write(tmp_path / str(number) / name, dataset(PatientID="4711"))
    (tmp_path / "a.csv").write_text(f"path,label\n0/{name},NORMAL\n1/{name},PNEUMONIA\n")
    one, other = read_manifest(tmp_path / "a.csv")[""].patients
    assert one == other
    assert one.startswith("patient-")


def test_where_somebody_says_whose_it_is_no_key_is_needed(tmp_path, key):
    key.parent.write_text("a file where the folder should be")
    write(tmp_path / "a.dcm", dataset(PatientID="4711"))
    (tmp_path / "a.csv").write_text("path,label,patient\na.dcm,NORMAL,ann\n")
    assert list(read_manifest(tmp_path / "a.csv")[""].patients) == ["ann"]


# What pydicom says of it


def test_pydicom_says_nothing_beside_our_own_line(tmp_path, caplog, recwarn):
    made = dataset(syntax=JPEG2000Lossless)
    made.PixelData = encapsulate([b"no code stream"])
    with pytest.raises(DataError):
        read_radiograph(write(tmp_path / "a.dcm", made))
    write(tmp_path / "long.dcm", dataset(PatientID="4711"))
    content = (tmp_path / "long.dcm").read_bytes()
    (tmp_path / "long.dcm").write_bytes(content.replace(b"LO\x04\x004711", b"LO\x50\x00" + 80 * b"7"))
    (patient,) = RadiographSet.from_files([tmp_path / "long.dcm"]).patients
    assert patient.startswith("patient-")
    assert caplog.records == []
    assert recwarn.list == []


def test_whoever_uses_pydicom_elsewhere_hears_it_as_before(tmp_path):
    logger, filters = logging.getLogger("pydicom"), list(warnings.filters)
    level = logger.level
    files = [write(tmp_path / f"{number}.dcm", dataset()) for number in range(20)]
    RadiographSet.from_files(files).pixels((8, 8))
    assert (logger.level, warnings.filters) == (level, filters)


# What pydicom ships

WHY_NOT = (
    "holds no image|frames, of which|its header|compressed as .*, for which pydicom has no plugin|"
    "data is damaged|damaged or incomplete|colors are not eight bits|cannot be decoded. Expected"
)


def as_pydicom_shows(path, frame):
    """The gray levels by pydicom's own functions."""
    from pydicom.pixels import (
        apply_color_lut,
        apply_modality_lut,
        apply_voi_lut,
        apply_windowing,
        pixel_array,
    )

    made = pydicom.dcmread(path)
    stored = pixel_array(made, index=frame - 1)
    if made.PhotometricInterpretation == "PALETTE COLOR":
        colors = apply_color_lut(stored, made)
        return cv2.cvtColor((colors >> 8 if colors.dtype == np.uint16 else colors).astype(np.uint8), 7)
    if made.SamplesPerPixel == 3:
        return cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
    for groups, place in (("Shared", 0), ("PerFrame", frame - 1)):
        for group in made.get(f"{groups}FunctionalGroupsSequence", [])[place : place + 1]:
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                made.update(group.get(name, [{}])[0])
    values = np.asarray(apply_modality_lut(stored, made), float)
    if made.get("VOILUTSequence"):
        bits = made.VOILUTSequence[0].LUTDescriptor[2]
        shown = apply_voi_lut(values.astype(int), made) / (2**bits - 1)
    elif "WindowWidth" in made:
        black, white = apply_windowing(np.array([-1e9, 1e9]), made)
        shown = (apply_windowing(values, made) - black) / (white - black)
    else:
        shown = (values - values.min()) / max(np.ptp(values), 1e-300)
    return 255 * (1 - shown if made.PhotometricInterpretation == "MONOCHROME1" else shown)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_that_pydicom_ships_is_read_as_pydicom_shows_it_or_refused_with_the_reason():
    read, refused, of_several = 0, [], 0
    for path in sorted(set(map(Path, pydicom.data.get_testdata_files()))):
        if not path.is_file():
            continue
        frame = None
        try:
            try:
                shown = read_radiograph(path)
            except DataError as error:
                if "frames, of which" not in str(error):
                    raise
                frame = int(re.search(r"holds (\d+) frames", str(error))[1])
                shown = read_radiograph(path, frame=frame)
        except DataError as error:
            assert re.search(WHY_NOT, str(error)), error
            assert "AttributeError" not in str(error)
            assert "\n" not in str(error)
            refused.append(path.name)
            continue
        read += 1
        of_several += frame is not None
        assert np.abs(shown - as_pydicom_shows(path, frame or 1)).max() <= 1, path
    assert read >= 50  # of its own formats; more with the decoders of the extra
    assert of_several >= 3
    assert {"reportsi.dcm", "rtplan.dcm", "test-SR.dcm"} <= set(refused)
