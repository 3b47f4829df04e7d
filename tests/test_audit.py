"""The audit finds what is wrong with a folder, says it in sentences, and changes nothing."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import pneumokeras as pk
from pneumokeras.cli import main
from pneumokeras.core.errors import DataError
from pneumokeras.core.files import read_json, write_csv
from pneumokeras.data.images.formats import FileFormat


@pytest.fixture
def folder(phantom_folder, tmp_path):
    """A copy of the phantoms to spoil."""
    return Path(shutil.copytree(phantom_folder, tmp_path / "chest_xray"))


def files_of(folder, split="train", class_name="NORMAL"):
    return sorted((folder / split / class_name).iterdir())


def read(file):
    return cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)


def texts(audit, kind):
    return [finding.text for finding in audit.findings if finding.kind == kind]


def severities(audit, kind):
    return {finding.severity for finding in audit.findings if finding.kind == kind}


def call(*arguments):
    return CliRunner().invoke(main, ["data", "audit", *(str(argument) for argument in arguments)])


class TestFiles:
    def test_a_clean_folder_has_nothing_serious(self, phantom_folder):
        audit = pk.audit(phantom_folder)
        assert not audit.is_serious
        assert audit.radiographs == 60
        assert audit.formats == {"JPEG gray": 60}
        assert audit.heights.low == audit.heights.high == 64
        assert 0 < audit.brightness["train"]["NORMAL"].median < 255

    def test_bad_files_are_findings_and_the_others_are_looked_at(self, folder):
        place = folder / "train" / "NORMAL"
        whole = files_of(folder)[0].read_bytes()
        (place / "cut.jpeg").write_bytes(whole[: len(whole) // 2])
        (place / "empty.jpeg").write_bytes(b"")
        (place / "text.jpeg").write_text("hello")
        audit = pk.audit(folder)
        assert {Path(file.name).name: file.problem for file in audit.bad_files} == {
            "cut.jpeg": "truncated",
            "empty.jpeg": "empty",
            "text.jpeg": "undecodable",
        }
        assert texts(audit, "bad-files") == [
            "3 files cannot be used (1 truncated, 1 empty, 1 undecodable), such as train/NORMAL/cut.jpeg."
        ]
        assert audit.is_serious
        assert sum(audit.formats.values()) == 60

    def test_why_a_file_is_bad_is_said_in_page_and_json(self, folder, tmp_path):
        place = folder / "train" / "NORMAL"
        whole = files_of(folder)[0].read_bytes()
        (place / "cut.jpeg").write_bytes(whole[: len(whole) // 2])
        (place / "empty.jpeg").write_bytes(b"")
        (place / "text.jpeg").write_text("hello")
        cv2.imwrite(str(place / "floats.tiff"), np.zeros((8, 8), np.float32))
        audit = pk.audit(folder)
        reasons = {Path(file.name).name: file.reason for file in audit.bad_files}
        assert reasons["cut.jpeg"] == (
            "train/NORMAL/cut.jpeg has no end mark: the file was cut, or not copied whole."
        )
        assert reasons["empty.jpeg"].startswith("train/NORMAL/empty.jpeg is empty.")
        assert reasons["floats.tiff"].startswith(
            "train/NORMAL/floats.tiff cannot be decoded: it holds float32, not 8 or 16 bits"
        )
        assert str(folder) not in "".join(reasons.values())
        assert all(reason in Outline(page_of(audit, tmp_path)).text for reason in reasons.values())
        assert {bad["reason"] for bad in audit.json()["bad_files"]} == set(reasons.values())

    def test_a_dicom_file_is_misnamed_with_another_ending_and_not_without_one(self):
        assert not FileFormat("DICOM").fits(".jpeg")
        assert FileFormat("DICOM").fits(".dcm") and FileFormat("DICOM").fits("")

    def test_a_file_that_a_manifest_names_in_vain_is_a_finding(self, folder, tmp_path):
        rows = [
            {"path": file, "label": name}
            for name in ("NORMAL", "PNEUMONIA")
            for file in files_of(folder, class_name=name)
        ]
        write_csv(tmp_path / "all.csv", ("path", "label"), [*rows, {"path": "absent.png", "label": "NORMAL"}])
        audit = pk.audit(tmp_path / "all.csv")
        assert [(file.problem, file.split) for file in audit.bad_files] == [("unreadable", "all")]

    def test_modes_and_wrong_endings_are_said(self, folder):
        place, pixels = folder / "train" / "NORMAL", read(files_of(folder)[0])
        cv2.imwrite(str(place / "deep.png"), pixels[1:].astype(np.uint16) * 257)
        (place / "not a jpeg.jpeg").write_bytes(cv2.imencode(".png", pixels[2:])[1].tobytes())
        audit = pk.audit(folder)
        assert audit.formats == {"JPEG gray": 60, "PNG gray 16-bit": 1, "PNG gray": 1}
        assert audit.misnamed == ("train/NORMAL/not a jpeg.jpeg",)
        assert not audit.is_serious

    def test_radiographs_unlike_the_others_are_named_with_the_reason(self, folder):
        place, pixels = folder / "train" / "NORMAL", read(files_of(folder)[0])
        cv2.imwrite(str(place / "black.png"), np.zeros((64, 64), np.uint8))
        cv2.imwrite(str(place / "wide.png"), cv2.resize(pixels, (192, 64)))
        cv2.imwrite(str(place / "tiny.png"), pixels[::8, ::8])
        reasons = {Path(outlier.name).name: outlier.reason for outlier in pk.audit(folder).outliers}
        assert "contrast 0" in reasons["black.png"]
        assert reasons["wide.png"] == "aspect 3.00"
        assert reasons["tiny.png"] == "8 x 8 pixels"

    def test_nothing_readable_is_still_an_audit(self, tmp_path):
        for name in ("NORMAL", "PNEUMONIA"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "text.jpeg").write_text("hello")
        audit = pk.audit(tmp_path)
        assert audit.heights is None
        assert len(audit.bad_files) == 2
        assert "unknown" in page_of(audit, tmp_path)
        assert "Brightness" not in page_of(audit, tmp_path)

    def test_files_are_left_as_they_were(self, folder):
        before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        pk.audit(folder)
        assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


class TestCounts:
    def test_a_folder_is_looked_at_as_it_is(self, folder):
        """`load_splits` would replace so small a val."""
        audit = pk.audit(folder)
        val = {name: len(files_of(folder, "val", name)) for name in ("NORMAL", "PNEUMONIA")}
        assert audit.counts["val"] == val
        assert "too few to rank trials" in texts(audit, "small-val")[0]

    def test_a_class_that_is_missing_in_a_split_is_serious(self, folder):
        shutil.rmtree(folder / "val" / "NORMAL")
        audit = pk.audit(folder)
        assert texts(audit, "missing-class") == ["val has no NORMAL radiographs."]
        assert audit.is_serious

    def test_bare_class_folders_are_one_set(self, folder):
        audit = pk.audit(folder / "train")
        assert list(audit.counts) == ["all"]
        assert audit.shifts == ()

    def test_splits_and_arrays_can_be_audited(self, spot_splits):
        audit = pk.audit(spot_splits)
        assert audit.counts["train"] == {"NORMAL": 32, "PNEUMONIA": 32}
        assert audit.formats == {"array gray": 120}
        assert audit.shortcut.auc > 0.8  # a bright spot raises the brightness

    def test_a_set_is_audited_like_a_split_of_its_name(self, phantom_folder):
        splits = pk.load_splits(phantom_folder)
        none = splits.test.subset([])
        alone = replace(splits, train=none, val=none, source=str(phantom_folder))
        audit = pk.audit(splits.test, source=str(phantom_folder))
        assert list(audit.counts) == ["test"]
        assert audit.json() == pk.audit(alone).json()
        assert list(pk.audit(replace(splits.test, split="")).counts) == ["all"]

    def test_a_split_of_an_npz_that_is_empty_is_no_split(self, spot_splits, tmp_path):
        train = spot_splits.train
        nothing = {"test_images": train.images[:0], "test_labels": train.labels[:0]}
        np.savez(tmp_path / "a.npz", train_images=train.images, train_labels=train.labels, **nothing)
        assert list(pk.audit(tmp_path / "a.npz").counts) == ["train"]
        np.savez(tmp_path / "b.npz", **nothing)
        with pytest.raises(DataError, match=r"b\.npz holds no radiographs"):
            pk.audit(tmp_path / "b.npz")

    def test_a_path_that_does_not_exist_is_one_line(self):
        with pytest.raises(DataError, match="does not exist"):
            pk.audit("absent")


class TestDuplicates:
    def test_a_copy_in_test_is_serious(self, folder):
        shutil.copy(files_of(folder)[0], folder / "test" / "NORMAL" / "renamed.jpeg")
        audit = pk.audit(folder)
        (group,) = audit.duplicates
        assert group.kind == "exact"
        assert group.splits == ("train", "test")
        assert (
            "1 radiograph of test is also in train (same pixels)"
            in texts(audit, "duplicates-across-splits")[0]
        )

    def test_equal_pixels_in_another_file_format_are_a_copy(self, folder):
        cv2.imwrite(str(folder / "test" / "NORMAL" / "renamed.png"), read(files_of(folder)[0]))
        assert [group.kind for group in pk.audit(folder).duplicates] == ["exact"]

    def test_an_edited_copy_in_val_is_serious(self, folder):
        pixels = cv2.resize(read(files_of(folder)[0]), (57, 57), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "val" / "NORMAL" / "edited.jpeg"), np.clip(pixels, 0, 250) + 5)
        audit = pk.audit(folder)
        assert [(group.kind, group.splits) for group in audit.duplicates] == [("near", ("train", "val"))]
        assert "near-duplicates" in texts(audit, "duplicates-across-splits")[0]
        assert audit.is_serious

    def test_a_copy_in_the_same_split_is_worth_knowing(self, folder):
        shutil.copy(files_of(folder)[0], folder / "train" / "NORMAL" / "renamed.jpeg")
        audit = pk.audit(folder)
        assert severities(audit, "duplicates-within-split") == {"worth knowing"}
        assert not audit.is_serious

    def test_copies_named_as_in_the_same_split_are_in_the_same_split(self, folder):
        file = files_of(folder)[0]
        for name in ("there.jpeg", "there too.jpeg"):
            shutil.copy(file, folder / "test" / "NORMAL" / name)
        (within,) = texts(pk.audit(folder), "duplicates-within-split")
        assert within.endswith("such as test/NORMAL/there too.jpeg and test/NORMAL/there.jpeg.")

    def test_arrays_of_one_name_in_two_splits_are_told_apart(self, spot_splits):
        train, test = (
            pk.RadiographSet.from_arrays(part.images[::-1].copy(), part.labels[::-1])
            for part in (spot_splits.train, spot_splits.test)
        )
        test.images[3] = train.images[5]
        audit = pk.audit(replace(spot_splits, train=train, test=test))
        (group,) = audit.duplicates
        assert group.names == ("train: image 5", "test: image 3")
        assert audit.pictures.keys() >= {"train: image 5"}

    def test_a_copy_under_the_other_class_is_a_conflict(self, folder):
        shutil.copy(files_of(folder)[0], folder / "train" / "PNEUMONIA" / "renamed.jpeg")
        audit = pk.audit(folder)
        assert severities(audit, "label-conflict") == {"serious"}
        assert "train/PNEUMONIA/renamed.jpeg" in texts(audit, "label-conflict")[0]


class TestPatients:
    def test_a_patient_on_both_sides_is_suspected(self, folder):
        file = files_of(folder)[0]
        patient = "-".join(file.stem.split("-")[:2])
        cv2.imwrite(str(folder / "test" / "NORMAL" / f"{patient}-0099.png"), read(file)[:, ::-1])
        audit = pk.audit(folder)
        (shared,) = audit.shared_patients
        assert shared.patient == patient
        assert shared.images["test"] == 1
        assert texts(audit, "patients-across-splits")[0].startswith(
            "Suspected: 1 patient is in both train and test"
        )

    def test_a_radiograph_without_a_patient_is_nobody_s(self, spot_splits):
        names = [f"image {number}" for number in range(len(spot_splits.test))]
        unnamed = replace(spot_splits.test, names=np.array(names), patients=np.array(names))
        audit = pk.audit(replace(spot_splits, val=unnamed, test=unnamed))
        assert audit.shared_patients == ()

    def test_a_patient_whom_a_manifest_names_is_not_just_suspected(self, folder, tmp_path):
        columns = ("path", "label", "patient", "split")
        rows = [
            {"path": file, "label": name, "patient": f"child {number // 2}", "split": split}
            for split in ("train", "test")
            for name in ("NORMAL", "PNEUMONIA")
            for number, file in enumerate(files_of(folder, split, name))
        ]
        write_csv(tmp_path / "set.csv", columns, rows)
        audit = pk.audit(tmp_path / "set.csv")
        assert not any(shared.suspected for shared in audit.shared_patients)
        (text,) = texts(audit, "patients-across-splits")
        assert "patients are in both train and test, such as child 0" in text
        assert "uspected" not in text and "Suspected" not in page_of(audit, tmp_path)

    @pytest.fixture
    def nameless(self, tmp_path):
        """Radiographs of which nobody says whose they are."""
        rng = np.random.default_rng(0)
        for split in ("train", "test"):
            for name in ("NORMAL", "PNEUMONIA"):
                (tmp_path / "set" / split / name).mkdir(parents=True)
                for number in range(8):
                    pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
                    cv2.imwrite(str(tmp_path / "set" / split / name / f"scan{number}.png"), pixels)
        return tmp_path / "set"

    def test_where_no_patient_is_known_none_is_counted(self, nameless, tmp_path):
        audit = pk.audit(nameless)
        assert audit.patients == {"train": None, "test": None}
        page = Outline(page_of(audit, tmp_path)).text
        assert "No patient is known" in page and "No patient was found" not in page
        assert "8 NORMAL, 8 PNEUMONIA; patients unknown" in call(nameless).stdout

    def test_one_patient_for_everything_is_serious(self, nameless):
        audit = pk.audit(nameless, patient_pattern="(scan)")
        assert texts(audit, "few-patients") == [
            "All 16 radiographs of train are of 1 patient: too few to split, or to evaluate a model on.",
            "All 16 radiographs of test are of 1 patient: too few to split, or to evaluate a model on.",
        ]
        assert severities(audit, "few-patients") == {"serious"}
        assert not texts(pk.audit(nameless), "few-patients")


class TestSeparations:
    @pytest.fixture
    def shifted(self, spot_splits):
        """Normals are brighter in test."""
        test = spot_splits.test
        images = np.tile(test.images, (3, 1, 1))
        labels = np.tile(test.labels, 3)
        images[labels == 0] += np.uint8(60)
        names = [f"test/{number}" for number in range(len(images))]
        patients = np.tile(test.patients, 3)
        test = pk.RadiographSet.from_arrays(images, labels, names=names, patients=patients)
        return replace(spot_splits, test=test)

    def test_a_shift_is_told_class_by_class(self, shifted):
        shifts = {shift.class_name: shift for shift in pk.audit(shifted).shifts}
        assert shifts["NORMAL"].auc > 0.95
        assert shifts["PNEUMONIA"].auc < 0.8

    def test_examples_come_from_the_split_they_are_of_and_have_pictures(self, shifted):
        audit = pk.audit(shifted)
        for title, names in audit.shifts[0].examples.items():
            assert names
            assert all(name.startswith(title.split(",")[0]) for name in names)
            assert audit.pictures.keys() >= set(names)

    def test_classes_told_by_brightness_alone_are_serious(self, spot_splits):
        train = spot_splits.train
        images = np.where(train.labels[:, None, None] == 1, train.images // 2, train.images)
        audit = pk.audit(replace(spot_splits, train=replace(train, images=images)))
        assert audit.shortcut.auc > 0.98
        assert severities(audit, "shortcut") == {"serious"}

    def test_the_shortcut_is_measured_on_train_wherever_a_manifest_has_it(self, spot_splits, tmp_path):
        rows = []
        for split, part in (("test", spot_splits.test), ("train", spot_splits.train)):
            for name, pixels, label in zip(part.names, part.images, part.labels, strict=True):
                file = f"{name.replace('/', '-')}.png"
                cv2.imwrite(str(tmp_path / file), pixels)
                rows.append({"path": file, "label": part.class_names[label], "split": split})
        write_csv(tmp_path / "set.csv", ("path", "label", "split"), rows)
        audit = pk.audit(tmp_path / "set.csv")
        assert audit.shortcut.split == "train"
        assert list(audit.counts) == ["train", "test"]

    def test_the_same_seed_gives_the_same_audit(self, phantom_folder):
        assert pk.audit(phantom_folder, seed=3).json() == pk.audit(phantom_folder, seed=3).json()


class Outline(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def page_of(audit, tmp_path):
    audit.write_html(tmp_path / "audit.html")
    return (tmp_path / "audit.html").read_text(encoding="utf-8")


class TestPage:
    NAME = "<img src=x onerror=alert(1)>.jpeg"

    @pytest.fixture
    def audit(self, folder):
        shutil.copy(files_of(folder)[0], folder / "test" / "NORMAL" / self.NAME)
        return pk.audit(folder)

    def test_names_are_shown_as_they_are_and_never_run(self, audit, tmp_path):
        page = Outline(page_of(audit, tmp_path))
        assert f"test/NORMAL/{self.NAME}" in page.text
        assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
        assert not [tag for tag, _ in page.tags if tag == "script"]
        assert self.NAME not in audit._repr_html_()

    def test_the_page_needs_no_network(self, audit, tmp_path):
        tags = Outline(page_of(audit, tmp_path)).tags
        sources = [
            value for _, attributes in tags for key, value in attributes.items() if key in ("src", "href")
        ]
        assert sources
        assert all(source.startswith(("data:", "#")) for source in sources)

    def test_brightness_is_a_table(self, audit, tmp_path):
        tables = Outline(page_of(audit, tmp_path)).text.split("Brightness")
        assert len(tables) == 2
        assert all(split in tables[1] for split in ("train", "val", "test"))

    def test_one_set_is_not_compared_with_itself(self, folder, tmp_path):
        page = page_of(pk.audit(folder / "train"), tmp_path)
        text = Outline(page).text
        assert "more than one split" not in text
        assert "Train and test" not in text and 'href="#shift"' not in page
        assert "radiographs in all" not in text

    def test_a_list_that_is_cut_says_so(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("pneumokeras.data.audit.page.LISTED", 1)
        monkeypatch.setattr("pneumokeras.data.audit.page.SHOWN_GROUPS", 1)
        for file in files_of(folder)[:4]:
            shutil.copy(file, file.with_name(f"again {file.name}"))
        assert "The first 1 of 3" in Outline(page_of(pk.audit(folder), tmp_path)).text

    def test_the_summary_has_findings_and_counts(self, audit):
        text = Outline(audit._repr_html_()).text
        assert all(finding.text in text for finding in audit.findings)
        assert "train" in text

    def test_json_has_all_of_it_and_no_pictures(self, audit, tmp_path):
        audit.write_json(tmp_path / "audit.json")
        content = read_json(tmp_path / "audit.json")
        assert content["schema"] == 1
        assert "pictures" not in content
        assert content == json.loads(json.dumps(audit.json()))
        assert content["duplicates"][0]["crosses_splits"]

    def test_a_name_can_be_shown_anywhere(self, folder, tmp_path):
        shutil.copy(files_of(folder)[0], folder / "test" / "NORMAL" / "a\n\x1b[31m\udcff ü.jpeg")
        audit = pk.audit(folder)
        assert audit.duplicates[0].names[1] == "test/NORMAL/a\\n\\x1b[31m\\udcff ü.jpeg"
        assert "\x1b" not in page_of(audit, tmp_path) + call(folder).output


class TestCommand:
    def test_findings_go_to_stdout_and_files_are_written(self, folder, tmp_path):
        result = call(folder, "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
        assert result.exit_code == 0, result.output
        assert "worth knowing: val has" in result.stdout
        assert (tmp_path / "a.html").stat().st_size > 5000
        assert read_json(tmp_path / "a.json")["counts"]["train"]

    def test_strict_fails_on_what_is_serious_and_on_nothing_else(self, folder):
        assert call(folder, "--strict").exit_code == 0
        (folder / "train" / "NORMAL" / "empty.jpeg").write_bytes(b"")
        assert call(folder, "--strict").exit_code == 1
        assert call(folder).exit_code == 0

    @pytest.mark.parametrize("option", ["--json", "--html"])
    def test_what_cannot_be_written_is_said_before_the_work(self, option, in_tmp, monkeypatch):
        monkeypatch.setattr("pneumokeras.data.audit.audit", None)
        (in_tmp / "file").touch()
        (in_tmp / "folder").mkdir()
        for name, reason in (("file/a", "file is not a folder"), ("folder", "folder is a folder")):
            result = call(in_tmp, option, name)
            assert result.exit_code == 2
            assert f"{name} cannot be written: {in_tmp / reason}" in result.stderr.replace("\n", " ")
            assert result.stderr.count("\n") == 1

    def test_a_folder_that_is_not_ours_is_said_before_the_work(self, in_tmp, monkeypatch):
        monkeypatch.setattr("os.access", lambda place, mode: False)
        result = call(in_tmp, "--json", "new/a.json")
        assert f"new/a.json cannot be written: {in_tmp} is not writable" in result.stderr
        assert not (in_tmp / "new").exists()

    def test_a_path_that_does_not_exist_is_wrong_input(self, tmp_path):
        result = call(tmp_path / "absent")
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_what_the_real_radiographs_are_known_for_is_found(chest_xray):
    audit = pk.audit(chest_xray)
    shifts = {shift.class_name: shift.auc for shift in audit.shifts}
    assert len(audit.duplicates) == 29
    assert {group.kind for group in audit.duplicates} == {"exact"}
    assert audit.shared_patients == ()
    assert audit.shortcut.auc == pytest.approx(0.95, abs=0.02)
    assert shifts["NORMAL"] == pytest.approx(0.93, abs=0.03)
    assert shifts["PNEUMONIA"] == pytest.approx(0.64, abs=0.05)
