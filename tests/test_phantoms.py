import hashlib
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pneumokeras.data.anatomy import draw_patient
from pneumokeras.data.datasets import load_splits
from pneumokeras.data.phantoms import draw_phantom, write_phantoms
from pneumokeras.errors import DataError

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
        for _ in range(2):
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

    monkeypatch.setattr("pneumokeras.data.phantoms._write", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_phantoms(tmp_path / "set", count=12, size=32)
    assert list(tmp_path.iterdir()) == []


def test_too_few_or_too_small_phantoms_are_refused_with_the_minimum(tmp_path):
    with pytest.raises(DataError, match="12 or more"):
        write_phantoms(tmp_path / "set", count=11)
    with pytest.raises(DataError, match="32 or more"):
        write_phantoms(tmp_path / "set", count=12, size=31)
    assert not (tmp_path / "set").exists()


def test_an_unknown_label_is_refused():
    with pytest.raises(DataError, match="NORMAL"):
        draw_phantom(np.random.default_rng(0), label=2)


def test_whoever_loads_them_is_told_that_they_are_drawings(tmp_path):
    write_phantoms(tmp_path / "phantoms", count=24, size=64)
    notices = load_splits(tmp_path / "phantoms").notices
    assert any("synthetic drawings" in notice for notice in notices)
