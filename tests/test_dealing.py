"""New splits keep patients and duplicates whole, say where they fall short, and are written as a manifest."""

import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pneumokeras as pk
from pneumokeras.core.errors import DataError, SettingsError
from pneumokeras.data.dataset import RadiographSet, union
from pneumokeras.data.from_path import find_radiographs, load_radiographs, load_splits
from pneumokeras.data.splits import write_manifest
from pneumokeras.data.splitting import duplicates_notice, split
from tests.calling import call


def hospital(seed, *, patients=60, repeated=0.1, most=4):
    """Radiographs in memory, some of them the same as another's: bacteria, virus and normal."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["IM", "bacteria", "virus"], patients, p=[0.3, 0.4, 0.3])
    names = [
        f"IM-{number:04d}-{view:04d}.jpeg" if kind == "IM" else f"person{number}_{kind}_{view}.jpeg"
        for number, kind in enumerate(kinds)
        for view in range(rng.integers(1, most + 1))
    ]
    images = rng.integers(0, 256, (len(names), 4, 4), dtype=np.uint8)
    for index in np.flatnonzero(rng.random(len(names)) < repeated):
        images[index] = images[rng.integers(len(names))]
    patients = [name[: name.rindex("-" if name.startswith("IM") else "_")] for name in names]
    labels = [int(name.startswith("person")) for name in names]
    subtypes = np.array([name.split("_")[1] if "_" in name else "" for name in names], dtype=object)
    radiographs = RadiographSet.from_arrays(images, labels, names=names, patients=patients)
    return replace(radiographs, subtypes=subtypes)


def sides(splits):
    """The split of each radiograph by name."""
    return {name: part.split for part in splits for name in part.names}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def class_folders(phantom_folder, tmp_path_factory):
    """Sixty phantoms in two bare class folders, five files there twice."""
    folder = tmp_path_factory.mktemp("bare")
    for part in ("train", "val", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            shutil.copytree(phantom_folder / part / name, folder / name, dirs_exist_ok=True)
    for number, file in enumerate(sorted((folder / "PNEUMONIA").iterdir())[::8]):
        shutil.copy(file, folder / "PNEUMONIA" / f"person{900 + number}_virus_1.jpeg")
    return folder


@given(seed=st.integers(0, 1000), repeated=st.sampled_from([0.0, 0.1, 0.3]), folds=st.sampled_from([None, 3]))
@settings(max_examples=30)
def test_no_patient_and_no_content_is_on_two_sides(seed, repeated, folds):
    radiographs = hospital(seed, repeated=repeated, patients=150)
    dealt = split(radiographs, seed=seed, folds=folds)
    for splits in dealt if folds else [dealt]:
        assert sorted(sides(splits)) == sorted(radiographs.names)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            parts = list(splits)
            assert not set(parts[one].patients) & set(parts[other].patients)
            assert not set(parts[one].digests) & set(parts[other].digests)


@given(seed=st.integers(0, 1000), shuffle=st.randoms())
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_split_in_any_order(seed, shuffle):
    radiographs = hospital(seed, patients=150)
    order = list(range(len(radiographs)))
    shuffle.shuffle(order)
    again = radiographs.subset(order)
    assert sides(split(radiographs, seed=seed)) == sides(split(again, seed=seed))
    for one, other in zip(
        split(radiographs, seed=seed, folds=3), split(again, seed=seed, folds=3), strict=True
    ):
        assert sides(one) == sides(other)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_sizes_and_rates_of_classes_and_subtypes_hold_within_one_percent(seed):
    radiographs = hospital(seed, patients=800, repeated=0.01)
    splits = split(radiographs, seed=seed)
    subtype = {name: name.split("_")[1] if "_" in name else "" for name in radiographs.names}
    for part, share in zip(splits, (0.8, 0.1, 0.1), strict=True):
        assert abs(len(part) / len(radiographs) - share) < 0.01
        for kind in ("", "bacteria", "virus"):
            whole = np.mean([subtype[name] == kind for name in radiographs.names])
            assert abs(np.mean([subtype[name] == kind for name in part.names]) - whole) < 0.01
    assert not any("not 10" in notice or "the whole" in notice for notice in splits.notices)


def test_where_a_rate_is_off_by_more_than_one_percent_that_is_said():
    splits = split(hospital(1, patients=40, most=8, repeated=0.0))
    off = [
        part.split
        for part in splits
        if abs(part.labels.mean() - np.mean([label for part in splits for label in part.labels])) > 0.01
    ]
    assert off
    for name in off:
        assert any(notice.startswith(f"{name} is ") for notice in splits.notices)


def test_each_fold_is_val_once_and_test_is_the_same_with_and_without_folds():
    radiographs = hospital(2, patients=150)
    folds = split(radiographs, folds=4, seed=3)
    tested = set(split(radiographs, seed=3).test.names)
    assert all(set(fold.test.names) == tested for fold in folds)
    in_val = [name for fold in folds for name in fold.val.names]
    assert sorted(in_val) == sorted(set(radiographs.names) - tested)


def test_test_depends_on_its_own_share_alone():
    radiographs = hospital(4, patients=150)
    assert set(split(radiographs, val=0.3).test.names) == set(split(radiographs).test.names)


def test_a_part_of_no_share_is_empty():
    splits = split(hospital(5), val=0.0, test=0.0)
    assert (len(splits.val), len(splits.test)) == (0, 0)


def test_radiographs_of_unknown_patients_are_split_by_themselves_and_that_is_said():
    images = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2)
    splits = split(RadiographSet.from_arrays(images, np.arange(40) % 2))
    assert [len(part) for part in splits] == [32, 4, 4]
    assert any("each radiograph was split by itself" in notice for notice in splits.notices)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"val": 0.5, "test": 0.5}, "leave something to train on"),
        ({"val": -0.1}, "of at least 0"),
        ({"folds": 1}, "of at least 2"),
    ],
)
def test_impossible_shares_are_refused(settings, what):
    with pytest.raises(SettingsError, match=what):
        split(hospital(0), **settings)


def test_a_class_that_is_not_there_is_named():
    images = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2)
    with pytest.raises(DataError, match=r"no NORMAL radiographs to split \(40 in all\)"):
        split(RadiographSet.from_arrays(images, np.ones(40)))


def test_nothing_cannot_be_split():
    with pytest.raises(DataError, match=r"no NORMAL radiographs to split \(0 in all\)"):
        split(RadiographSet.from_arrays(np.empty((0, 4, 4), np.uint8), []))


def test_patients_who_are_tied_by_copies_count_as_one():
    images = np.repeat(np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2), 2, axis=0)
    images[::2] = 7
    with pytest.raises(DataError, match="that class has 1 patient or group"):
        split(RadiographSet.from_arrays(images, np.arange(40) % 2), folds=2, test=0.0)


@pytest.mark.parametrize("settings", [{}, {"folds": 2, "test": 0.0}])
def test_a_single_patient_cannot_be_split(settings):
    images = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2)
    lonely = RadiographSet.from_arrays(images, np.arange(40) % 2, patients=["one"] * 40)
    with pytest.raises(DataError, match="has 1 patient or group of patients tied by duplicates,"):
        split(lonely, **settings)


class TestCopies:
    """Twenty phantoms of each class, each with a copy under another patient's name."""

    @staticmethod
    def saved_again(image):
        return image

    @staticmethod
    def halved_and_brightened(image):
        small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return np.clip(small.astype(int) + 10, 0, 255).astype(np.uint8)

    @pytest.fixture(params=["saved_again", "halved_and_brightened"])
    def twice(self, request, class_folders, tmp_path):
        for name, pattern in (("NORMAL", "IM-{}-0001"), ("PNEUMONIA", "person{}_virus_1")):
            (tmp_path / "set" / name).mkdir(parents=True)
            files = sorted((class_folders / name).glob("*.jpeg"))[:20]
            for number, file in enumerate(files):
                shutil.copy(file, tmp_path / "set" / name)
                copy = getattr(self, request.param)(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
                target = tmp_path / "set" / name / pattern.format(7000 + number)
                cv2.imwrite(f"{target}.png", copy)
        return tmp_path / "set"

    def test_copies_in_other_files_are_on_one_side_and_that_is_said(self, twice):
        splits = split(union(find_radiographs(twice).values()))
        assert not [group for group in pk.audit(splits).duplicates if group.crosses_splits]
        assert any("duplicates of others" in notice for notice in splits.notices)

    def test_copies_are_on_one_side_in_folds_too(self, twice):
        for fold in split(union(find_radiographs(twice).values()), folds=3):
            assert not [group for group in pk.audit(fold).duplicates if group.crosses_splits]

    def test_a_file_that_cannot_be_decoded_is_named(self, twice):
        bad = next(twice.rglob("*.png"))
        bad.write_bytes(b"hello")
        with pytest.raises(DataError, match=bad.name):
            split(union(find_radiographs(twice).values()))


@pytest.fixture(scope="module")
def mixed_folder(class_folders, tmp_path_factory):
    """Phantoms of several views, subtypes, exact copies and near-copies, in bare class folders."""
    folder = tmp_path_factory.mktemp("mixed") / "set"
    shutil.copytree(class_folders, folder)
    for number, file in enumerate(sorted((folder / "PNEUMONIA").iterdir())[::3]):
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        copy = TestCopies.halved_and_brightened(image) if number % 2 else image
        kind = ("bacteria", "virus")[number % 2]
        cv2.imwrite(str(folder / "PNEUMONIA" / f"person{8000 + number}_{kind}_1.png"), copy)
    return folder


def test_a_split_of_a_collection_that_is_split_alone_is_said(class_folders, tmp_path, caplog):
    for name in ("train", "test"):
        shutil.copytree(class_folders, tmp_path / "set" / name)
    warning = "These are the test radiographs of a collection that has splits"
    assert split(load_radiographs(tmp_path / "set")).notices[0].startswith(warning)
    folds = split(load_radiographs(tmp_path / "set"), folds=2)
    assert all(fold.notices[0].startswith(warning) for fold in folds)
    assert warning in caplog.text
    caplog.clear()
    split(load_radiographs(tmp_path / "set", split="all"))
    split(load_radiographs(tmp_path / "set", split="train"), test=0.0)  # keeps the published test
    result = call("data", "split", tmp_path / "set", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert "of a collection that has splits" not in caplog.text + result.output


def test_duplicates_are_counted_of_what_they_are_counted():
    assert duplicates_notice(np.array(list("abcdef"))) == ""
    stay = "duplicates stay in one split with all their patients."
    several, one = (duplicates_notice(np.array(list(films))) for films in ("aaabbc", "aab"))
    assert several == f"3 of 6 radiographs are duplicates of others (further copies of 2): {stay}"
    assert one == f"1 of 3 radiographs is a duplicate of others (further copies of 1): {stay}"


class TestOneSplitter:
    """`load_splits` gives the sets that `split` gives."""

    @staticmethod
    def names_by_split(splits):
        return [sorted(part.names) for part in splits]

    @pytest.mark.parametrize("seed", [0, 1, 2, 7, 20])
    def test_bare_folders_give_the_same_three_sets(self, mixed_folder, seed):
        loaded, made = load_splits(mixed_folder, seed=seed), split(load_radiographs(mixed_folder), seed=seed)
        assert self.names_by_split(loaded) == self.names_by_split(made)
        assert loaded.fingerprint == made.fingerprint
        assert loaded.rule == made.rule
        assert not [group for group in pk.audit(loaded).duplicates if group.crosses_splits]

    @pytest.mark.parametrize("seed", [0, 3, 11])
    def test_a_manifest_with_patients_and_subtypes_gives_the_same_three_sets(
        self, mixed_folder, tmp_path, seed
    ):
        files = sorted(mixed_folder.rglob("*.*"))
        rows = [
            f"{file},{file.parent.name},somebody {number % 30},{'abc'[number % 3]}"
            for number, file in enumerate(files)
        ]
        manifest = tmp_path / "a.csv"
        manifest.write_text("\n".join(["path,label,patient,subtype", *rows]))
        loaded, made = load_splits(manifest, seed=seed), split(load_radiographs(manifest), seed=seed)
        assert self.names_by_split(loaded) == self.names_by_split(made)

    @pytest.mark.parametrize("seed", [0, 5])
    def test_a_val_that_is_replaced_is_the_one_of_split(self, mixed_folder, tmp_path, seed):
        shutil.copytree(mixed_folder, tmp_path / "set" / "train")
        loaded = load_splits(tmp_path / "set", seed=seed)
        made = split(load_radiographs(tmp_path / "set", split="train"), test=0.0, seed=seed)
        assert self.names_by_split(loaded) == self.names_by_split(made)
        assert not [group for group in pk.audit(loaded).duplicates if group.crosses_splits]
        assert any("duplicates of others" in notice for notice in loaded.notices)
        assert loaded.rule.startswith("train and val by version 2")  # there is no published test

    def test_a_published_test_is_in_the_rule(self, phantom_folder):
        assert load_splits(phantom_folder).rule.startswith("test as published; train and val by version 2")

    def test_what_needs_no_split_is_not_decoded(self, phantom_folder, monkeypatch):
        monkeypatch.setattr(cv2, "imdecode", lambda *arguments: pytest.fail("it was decoded"))
        assert load_splits(phantom_folder, keep_val=True).rule == "as published"

    def test_an_exact_copy_is_not_decoded_again(self, mixed_folder, monkeypatch):
        decoded = []
        read = RadiographSet.read
        monkeypatch.setattr(
            RadiographSet, "read", lambda self, index: decoded.append(index) or read(self, index)
        )
        load_splits(mixed_folder)
        radiographs = load_radiographs(mixed_folder)
        assert len(decoded) == len(set(radiographs.digests)) < len(radiographs)

    def test_the_record_of_the_data_names_the_rule(self, mixed_folder):
        record = load_splits(mixed_folder).record()
        assert record["split_rule"] == (
            "version 2: patients and duplicates kept together; test drawn first, then val"
        )
        assert json.loads(json.dumps(record)) == record


class TestManifest:
    def test_load_splits_reads_what_was_split(self, class_folders, tmp_path):
        radiographs = union(find_radiographs(class_folders).values())
        splits = split(radiographs, seed=1)
        write_manifest(tmp_path / "out.csv", splits)
        read = load_splits(tmp_path / "out.csv", keep_val=True)
        for dealt, again in zip(splits, read, strict=True):
            assert {file.resolve() for file in again.images} == set(dealt.images)
            assert sorted(zip(dealt.digests, dealt.labels, dealt.patients, strict=True)) == sorted(
                zip(again.digests, again.labels, again.patients, strict=True)
            )
        assert not any("also in" in notice for notice in read.notices)

    def test_rows_of_an_npz_are_read_too(self, spot_splits, tmp_path):
        arrays = {}
        for name, part in zip(("train", "val", "test"), spot_splits, strict=True):
            arrays |= {f"{name}_images": part.images, f"{name}_labels": part.labels}
        np.savez(tmp_path / "spots.npz", **arrays)
        splits = split(union(find_radiographs(tmp_path / "spots.npz").values()))
        write_manifest(tmp_path / "out.csv", splits)
        assert rows_of(tmp_path / "out.csv")[0]["path"].startswith("spots.npz::test/")
        read = load_splits(tmp_path / "out.csv", keep_val=True)
        for dealt, again in zip(splits, read, strict=True):
            assert sorted(dealt.digests) == sorted(again.digests)

    def test_beside_its_radiographs_it_can_be_moved_with_them(self, class_folders, tmp_path):
        shutil.copytree(class_folders, tmp_path / "here" / "set")
        out = tmp_path / "here" / "out.csv"
        write_manifest(out, split(union(find_radiographs(tmp_path / "here" / "set").values())))
        assert all(row["path"].startswith("set/") for row in rows_of(out))
        (tmp_path / "here").rename(tmp_path / "there")
        assert len(load_splits(tmp_path / "there" / "out.csv", keep_val=True).train)

    def test_a_folder_reached_through_a_link_finds_its_radiographs(self, class_folders, tmp_path):
        (tmp_path / "deep" / "down").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "deep" / "down")
        shutil.copytree(class_folders, tmp_path / "set")
        out = tmp_path / "link" / "out.csv"
        write_manifest(out, split(union(find_radiographs(tmp_path / "set").values())))
        assert load_splits(out, keep_val=True).train.read(0).size

    def test_arrays_that_no_file_holds_cannot_be_written(self, tmp_path):
        with pytest.raises(DataError, match="no file holds"):
            write_manifest(tmp_path / "out.csv", split(hospital(0)))
        assert not list(tmp_path.iterdir())


class TestCommand:
    def test_it_writes_a_manifest_and_says_what_is_in_it(self, class_folders, tmp_path):
        before = {file: file.read_bytes() for file in class_folders.rglob("*.jpeg")}
        result = call("data", "split", class_folders, tmp_path / "out.csv", "--folds", 3)
        assert result.exit_code == 0, result.output
        rows = rows_of(tmp_path / "out.csv")
        for name in ("train", "val", "test"):
            count = sum(row["split"] == name for row in rows)
            assert f"{name:<6} {count} radiographs" in result.stdout
        assert {row["fold"] for row in rows if row["split"] != "test"} == {"0", "1", "2"}
        assert {row["fold"] for row in rows if row["split"] == "test"} == {""}
        assert "duplicates of others" in result.stderr
        assert before == {file: file.read_bytes() for file in class_folders.rglob("*.jpeg")}

    def test_the_same_seed_writes_the_same_bytes_wherever_the_files_lie(self, class_folders, tmp_path):
        for name in ("one", "other"):
            shutil.copytree(class_folders, tmp_path / name / "set")
            call("data", "split", tmp_path / name / "set", tmp_path / name / "out.csv", "--seed", 7)
        assert (tmp_path / "one" / "out.csv").read_bytes() == (tmp_path / "other" / "out.csv").read_bytes()

    def test_splits_that_are_there_are_merged_and_that_is_said(self, phantom_folder, tmp_path):
        result = call("data", "split", phantom_folder, tmp_path / "out.csv", "--val", 0.2, "--test", 0.2)
        assert "has splits of its own (train, val, test)" in result.stderr
        assert len(rows_of(tmp_path / "out.csv")) == 60

    def test_a_manifest_that_is_there_is_kept_unless_forced(self, class_folders, tmp_path):
        (tmp_path / "out.csv").write_text("mine")
        result = call("data", "split", class_folders, tmp_path / "out.csv")
        assert result.exit_code == 2
        assert "already exists" in result.stderr and len(result.stderr.splitlines()) == 1
        assert (tmp_path / "out.csv").read_text() == "mine"
        assert call("data", "split", class_folders, tmp_path / "out.csv", "--force").exit_code == 0
        assert len(rows_of(tmp_path / "out.csv")) == 65

    def test_an_ending_in_capitals_is_an_ending(self, class_folders, tmp_path):
        assert call("data", "split", class_folders, tmp_path / "OUT.CSV").exit_code == 0

    def test_what_is_split_is_never_replaced(self, class_folders, tmp_path):
        call("data", "split", class_folders, tmp_path / "out.csv")
        before = (tmp_path / "out.csv").read_bytes()
        result = call("data", "split", tmp_path / "out.csv", tmp_path / "out.csv", "--force")
        assert result.exit_code == 2 and "name another file" in result.stderr
        assert (tmp_path / "out.csv").read_bytes() == before

    @pytest.mark.parametrize(
        ("arguments", "what"),
        [
            (["{set}", "out.txt"], "ends in .csv"),
            (["absent", "out.csv"], "absent does not exist"),
            (["{set}", "out.csv", "--val", "0.6", "--test", "0.5"], "leave something to train on"),
            (["{set}", "out.csv", "--folds", "40"], "radiographs: that class has"),
            (["{set}", "folder.csv", "--force"], "folder.csv is a folder"),
            (["{set}", "file/out.csv"], "file is not a folder"),
        ],
    )
    def test_wrong_usage_is_one_line_and_writes_nothing(self, arguments, what, class_folders, in_tmp):
        (in_tmp / "folder.csv").mkdir()
        (in_tmp / "file").touch()
        result = call("data", "split", *(argument.format(set=class_folders) for argument in arguments))
        assert result.exit_code == 2
        assert what in result.stderr and len(result.stderr.splitlines()) == 1
        assert sorted(path.name for path in in_tmp.iterdir()) == ["file", "folder.csv"]


def test_the_published_radiographs_are_split_within_one_percent(chest_xray):
    splits = split(union(find_radiographs(chest_xray).values()), seed=7)
    assert len(splits.notices) == 1 and "duplicates of others" in splits.notices[0]
