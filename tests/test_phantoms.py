import csv
import hashlib
import shutil
import sys
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumokeras.cli import main
from pneumokeras.core.errors import DataError, OutputError, SettingsError
from pneumokeras.data.from_path import load_splits
from pneumokeras.data.phantoms.anatomy import draw_patient
from pneumokeras.data.phantoms.draw import draw_phantom
from pneumokeras.data.phantoms.nuisance import Nuisance
from pneumokeras.data.phantoms.write import write_phantoms

COUNT = 60


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "set", count=COUNT, seed=3, size=64)


def radiographs(folder):
    return sorted(path for split in ("train", "val", "test") for path in (folder / split).rglob("*.jpeg"))


def patient_of(path):
    return path.stem.rsplit("_", 1)[0] if path.stem.startswith("person") else path.stem.rsplit("-", 1)[0]


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pair(seed, size=128):
    """The same patient, position and exposure without and with opacities."""
    return (draw_phantom(np.random.default_rng(seed), label=label, size=size) for label in (0, 1))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    first, again, other = (
        write_phantoms(tmp_path / name, count=12, seed=seed, size=64).folder
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert digests(first) == digests(again)
    assert not {digests(first)[p.relative_to(first).as_posix()] for p in radiographs(first)} & set(
        digests(other).values()
    )


def test_the_phantom_of_a_seed_never_changes():
    """Coarsely, since processors round differently: four by four means of gray levels."""
    image = draw_phantom(np.random.default_rng(0), label=1, size=64).image.astype(np.float32)
    means = cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA)
    expected = [[70, 151, 47, 113], [143, 191, 115, 90], [110, 209, 175, 93], [106, 191, 188, 85]]
    assert np.allclose(means, expected, atol=1.5)


def test_exactly_count_radiographs_lie_in_three_splits_of_both_classes(written):
    counts = Counter((path.parts[-3], path.parts[-2]) for path in radiographs(written.folder))
    assert sum(counts.values()) == COUNT
    assert counts == {(s, c): n for s, classes in written.counts.items() for c, n in classes.items()}
    assert {s: sum(classes.values()) for s, classes in written.counts.items()} == {
        "train": 36,
        "val": 12,
        "test": 12,
    }
    assert sum(classes["NORMAL"] for classes in written.counts.values()) == 24


@pytest.mark.parametrize("count", [12, 13, 17, 29])
def test_a_small_set_has_both_classes_in_every_split(tmp_path, count):
    summary = write_phantoms(tmp_path / "set", count=count, size=32)
    assert len(radiographs(summary.folder)) == count
    assert min(n for classes in summary.counts.values() for n in classes.values()) >= 1


def test_a_patient_is_never_on_two_sides_and_has_one_to_four_radiographs(written):
    sides, views = defaultdict(set), Counter()
    for path in radiographs(written.folder):
        sides[patient_of(path)].add(path.parts[-3:-1])
        views[patient_of(path)] += 1
    assert all(len(places) == 1 for places in sides.values())
    assert set(views.values()) <= {1, 2, 3, 4} and max(views.values()) > 1
    assert len(sides) == written.num_patients


def test_no_name_is_used_twice(written):
    names = [path.name for path in radiographs(written.folder)]
    assert len(set(names)) == COUNT


def test_masks_lie_beside_every_pneumonia_and_no_normal(written):
    masks = {path.relative_to(written.folder / "masks") for path in (written.folder / "masks").rglob("*.png")}
    sick = [
        path.relative_to(written.folder) for path in radiographs(written.folder) if "PNEUMONIA" in path.parts
    ]
    assert masks == {path.with_suffix(".png") for path in sick}
    for path in masks:
        mask = cv2.imread(str(written.folder / "masks" / path), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (64, 64) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}


def test_the_folder_says_that_these_are_drawings(written):
    assert "no patient" in (written.folder / "README.txt").read_text(encoding="utf-8")


def test_masks_are_never_empty_and_cover_six_percent_at_most_on_average():
    areas = [
        np.mean(draw_phantom(np.random.default_rng(seed), label=1, size=64).mask > 0) for seed in range(150)
    ]
    assert min(areas) > 0.003
    assert 0.03 < np.mean(areas) <= 0.06


def test_a_normal_phantom_has_an_empty_mask():
    assert not any(
        draw_phantom(np.random.default_rng(seed), label=0, size=64).mask.any() for seed in range(10)
    )


def test_an_opacity_brightens_its_place_against_the_same_chest_without_it():
    lifts = []
    for seed in range(40):
        clear, sick = pair(seed)
        inside = sick.mask > 0
        change = sick.image.astype(float) - clear.image
        lifts.append(change[inside].mean() - change[~inside].mean())
    assert np.mean(np.array(lifts) > 5.0) > 0.9
    assert np.median(lifts) > 15.0


def test_away_from_the_opacities_the_two_classes_show_the_same_chest():
    for seed in range(8):
        clear, sick = pair(seed)
        far = cv2.dilate(sick.mask, np.ones((25, 25), np.uint8)) == 0
        assert np.corrcoef(clear.image[far], sick.image[far])[0, 1] > 0.97


def test_one_patient_shows_one_anatomy_in_differing_positions():
    patient = draw_patient(np.random.default_rng(5))
    rng = np.random.default_rng(6)
    first, second = (draw_phantom(rng, label=0, size=64, patient=patient).image for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("size", [32, 64, 256, 300])
def test_radiographs_are_gray_bytes_with_contrast(size):
    for label in (0, 1):
        phantom = draw_phantom(np.random.default_rng(9), label=label, size=size)
        assert phantom.image.shape == phantom.mask.shape == (size, size)
        assert phantom.image.dtype == phantom.mask.dtype == np.uint8
        assert phantom.image.std() > 20 and np.ptp(phantom.image) > 120
        assert phantom.label == label


def brightness(image):
    """The thirteen: whole image, its four borders, its central half, its skewness."""
    image = image.astype(float)
    strip, quarter = len(image) // 10, len(image) // 4
    borders = image[:strip], image[-strip:], image[:, :strip], image[:, -strip:]
    skewness = np.mean(((image - image.mean()) / image.std()) ** 3)
    return [
        image.mean(),
        image.std(),
        *np.percentile(image, [5, 25, 50, 75, 95]),
        *(border.mean() for border in borders),
        image[quarter:-quarter, quarter:-quarter].mean(),
        skewness,
    ]


def brightness_auc(images, labels, patients):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    features = np.array([brightness(image) for image in images])
    scores = cross_val_predict(
        model, features, labels, groups=patients, cv=GroupKFold(5), method="predict_proba"
    )
    return roc_auc_score(labels, scores[:, 1])


def test_brightness_alone_does_not_tell_the_class():
    rng = np.random.default_rng(11)
    images, labels, patients = [], [], []
    for number in range(300):
        patient, label = draw_patient(rng), int(rng.uniform() < 0.6)
        images.append(draw_phantom(rng, label=label, size=64, patient=patient).image)
        labels.append(label)
        patients.append(number)
    labels = np.array(labels)
    assert brightness_auc(images, labels, patients) < 0.65
    brightened = [np.clip(image + 20.0 * label, 0, 255) for image, label in zip(images, labels, strict=True)]
    assert brightness_auc(brightened, labels, patients) > 0.65  # the measure sees what it is there to see


def test_a_folder_that_holds_something_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="already holds something"):
        write_phantoms(tmp_path / "mine", count=12, size=32)
    with pytest.raises(DataError, match="already holds something"):
        write_phantoms(tmp_path / "mine" / "thesis.txt", count=12, size=32)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    assert len(radiographs(write_phantoms(tmp_path / "empty", count=12, size=32).folder)) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_run_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("pneumokeras.data.phantoms.write._write_image", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_phantoms(tmp_path / "set", count=12, size=32)
    assert list(tmp_path.iterdir()) == []


def test_too_few_or_too_small_phantoms_are_refused_with_the_minimum(tmp_path):
    with pytest.raises(SettingsError, match="12 or more"):
        write_phantoms(tmp_path / "set", count=11)
    with pytest.raises(SettingsError, match="32 or more"):
        write_phantoms(tmp_path / "set", count=12, size=31)
    assert not (tmp_path / "set").exists()


def test_an_unknown_label_is_refused():
    with pytest.raises(SettingsError, match="NORMAL"):
        draw_phantom(np.random.default_rng(0), label=2)


def test_whoever_loads_them_is_told_that_they_are_drawings(tmp_path):
    write_phantoms(tmp_path / "phantoms", count=48, size=64)
    written = load_splits(tmp_path / "phantoms")
    written.write_csv(tmp_path / "anew.csv")
    for path in (tmp_path / "phantoms", tmp_path / "phantoms" / "train", tmp_path / "anew.csv"):
        assert any("synthetic drawings" in notice for notice in load_splits(path).notices)


def test_other_radiographs_are_not_called_drawings(tmp_path):
    write_phantoms(tmp_path / "phantoms", count=24, size=64)
    shutil.copytree(tmp_path / "phantoms" / "train", tmp_path / "train")
    assert not any("drawings" in notice for notice in load_splits(tmp_path).notices)


def drawn(seed, *, label=0, size=256, **nuisance):
    return draw_phantom(np.random.default_rng(seed), label=label, size=size, nuisance=Nuisance(**nuisance))


@pytest.mark.parametrize("marker", [0.0, 0.5, 1.0])
def test_a_marker_goes_with_the_class_as_far_as_asked(marker):
    rng = np.random.default_rng(0)
    share = [
        np.mean([Nuisance(marker=marker).draw(rng, label=label).marker != "" for _ in range(4000)])
        for label in (0, 1)
    ]
    assert np.allclose(share, [(1 - marker) / 2, (1 + marker) / 2], atol=0.03)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_a_marker_changes_its_corner_and_nothing_else(size):
    for seed in range(6):
        plain, marked = drawn(seed, label=1, size=size), drawn(seed, label=1, size=size, marker=1.0)
        changed = np.any(plain.image != marked.image, axis=0)
        side = int(np.ceil(0.13 * size))
        assert marked.acquisition.marker == ("R" if changed[:side].any() else "L")
        corner = np.s_[:side, :side] if marked.acquisition.marker == "R" else np.s_[:side, -side:]
        assert marked.image[corner].max() > 100 and marked.image[corner].min() < 20
        plain.image[corner] = marked.image[corner]
        assert np.array_equal(plain.image, marked.image)
        assert np.array_equal(plain.mask, marked.mask)


def test_a_turned_phantom_is_the_plain_one_turned():
    middle = np.s_[64:-64, 64:-64]

    def likeness(phantom, degrees):
        turned = cv2.warpAffine(
            plain.image, cv2.getRotationMatrix2D((127.5, 127.5), degrees, 1.0), (256, 256)
        )
        return np.corrcoef(turned[middle].ravel(), phantom.image[middle].ravel())[0, 1]

    for seed in range(8):
        plain, turned = drawn(seed), drawn(seed, rotation=30.0)
        degrees = turned.acquisition.rotation
        assert abs(degrees) <= 30
        assert likeness(turned, -degrees) > 0.8  # OpenCV turns counter-clockwise
        if abs(degrees) > 8:
            assert likeness(turned, -degrees) > max(likeness(turned, 0.0), likeness(turned, degrees)) + 0.1


def test_the_mask_of_a_turned_phantom_lies_on_its_opacity():
    lifts = []
    for seed in range(20):
        clear, sick = drawn(seed, size=128, rotation=30.0), drawn(seed, label=1, size=128, rotation=30.0)
        change = sick.image.astype(float) - clear.image
        lifts.append(change[sick.mask > 0].mean() - change[sick.mask == 0].mean())
    assert np.median(lifts) > 15.0


def test_exposure_changes_gain_and_gamma_within_its_spread():
    gains = []
    for seed in range(20):
        plain, exposed = drawn(seed), drawn(seed, exposure=0.5)
        gain, gamma = exposed.acquisition.gain, exposed.acquisition.gamma
        assert 2**-0.5 <= min(gain, gamma) <= max(gain, gamma) <= 2**0.5
        expected = 255.0 * np.clip(gain * (plain.image / 255.0) ** gamma, 0.0, 1.0)
        assert np.median(np.abs(expected - exposed.image)) <= 1.0
        gains.append(gain)
    assert np.ptp(gains) > 0.4


@pytest.mark.slow
def test_a_classifier_learns_the_shortcut_and_fails_without_it():
    """Trained where the marker goes with the class, judged where it does not: what a user is to see."""

    def pixels(seeds, marker):
        rows = [drawn(seed, label=seed % 2, size=32, marker=marker).image.ravel() for seed in seeds]
        return np.array(rows) / 255.0, np.array(seeds) % 2

    model = LogisticRegression(max_iter=500).fit(*pixels(range(300), 1.0))
    seen, judged = {}, range(300, 450)
    for marker in (1.0, 0.0):
        images, labels = pixels(judged, marker)
        seen[marker] = roc_auc_score(labels, model.predict_proba(images)[:, 1])
    assert seen[1.0] > 0.95
    assert seen[0.0] < 0.7


@pytest.mark.parametrize(
    "wrong", [{"rotation": 46.0}, {"exposure": -0.1}, {"marker": 1.1}, {"marker": float("nan")}]
)
def test_a_nuisance_out_of_range_is_refused(wrong):
    with pytest.raises(SettingsError, match=f"Expected `{next(iter(wrong))}` from 0 to"):
        Nuisance(**wrong)


def test_what_each_radiograph_has_of_the_nuisance_is_written(tmp_path, written):
    assert not (written.folder / "nuisance.csv").exists()
    summary = write_phantoms(tmp_path / "set", count=40, seed=3, size=32, nuisance=Nuisance(10.0, 0.2, 1.0))
    with (summary.folder / "nuisance.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {
        path.relative_to(summary.folder).as_posix() for path in radiographs(summary.folder)
    }
    for row in rows:
        assert (row["marker"] in ("L", "R")) == ("PNEUMONIA" in row["path"])
        assert abs(float(row["rotation"])) <= 10.0


def test_another_nuisance_keeps_patients_and_names(tmp_path):
    plain = write_phantoms(tmp_path / "plain", count=20, seed=4, size=32)
    marked = write_phantoms(tmp_path / "marked", count=20, seed=4, size=32, nuisance=Nuisance(marker=0.0))
    assert [path.name for path in radiographs(plain.folder)] == [
        path.name for path in radiographs(marked.folder)
    ]
    masks = "masks/*/PNEUMONIA/*.png"
    for one, other in zip(sorted(plain.folder.glob(masks)), sorted(marked.folder.glob(masks)), strict=True):
        assert one.read_bytes() == other.read_bytes()


class TestDicom:
    @pytest.fixture
    def pydicom(self):
        return pytest.importorskip(
            "pydicom", reason="pydicom is not installed: pip install pneumokeras[dicom]"
        )

    def test_a_file_holds_the_pixels_and_the_patient(self, pydicom, tmp_path):
        folders = [
            write_phantoms(tmp_path / name, count=12, seed=6, size=33, image_format=name).folder
            for name in ("dicom", "jpeg")
        ]
        files = sorted(folders[0].rglob("*.dcm"))
        assert [file.stem for file in files] == [
            file.stem for file in sorted(folders[1].glob("[tv]*/*/*.jpeg"))
        ]
        identities = set()
        for file in files:
            header = pydicom.dcmread(file)  # without force: it has to be a Part 10 file
            jpeg = folders[1] / file.relative_to(folders[0]).with_suffix(".jpeg")
            assert header.pixel_array.shape == (33, 33) and header.pixel_array.dtype == np.uint8
            assert np.abs(header.pixel_array - cv2.imread(str(jpeg), 0).astype(float)).mean() < 3
            assert header.PhotometricInterpretation == "MONOCHROME2"
            assert header.PatientID == patient_of(file)
            assert header.ConversionType == "SYN"
            identities.add(header.SOPInstanceUID)
            assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert len(identities) == 12

    def test_the_same_seed_gives_the_same_bytes(self, pydicom, tmp_path):
        first, again = (
            write_phantoms(tmp_path / name, count=12, seed=6, size=32, image_format="dicom").folder
            for name in ("first", "again")
        )
        assert digests(first) == digests(again)

    def test_without_pydicom_it_is_one_line_and_nothing_is_left(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pydicom", None)
        with pytest.raises(SettingsError, match=r"pip install 'pneumokeras\[dicom\]'"):
            write_phantoms(tmp_path / "set", count=12, size=32, image_format="dicom")
        assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="jpeg or dicom"):
        write_phantoms(tmp_path / "set", count=12, size=32, image_format="tiff")


def test_the_command_takes_the_nuisance(tmp_path):
    options = ["--count", "12", "--size", "32", "--rotation", "5", "--exposure", "0.1", "--marker", "0.9"]
    result = CliRunner().invoke(main, ["data", "phantoms", str(tmp_path / "set"), *options])
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "set" / "nuisance.csv").read_text().splitlines()) == 13


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"Cannot write .*file/phantoms"):
        write_phantoms(tmp_path / "file" / "phantoms", count=12)
