"""Files are written whole or not at all, strictly, and read back as they were."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumokeras.core.errors import OutputError, one_line
from pneumokeras.core.files import (
    read_csv,
    read_json,
    replacing,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)

CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=20)


def test_an_exception_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "run.json"
    file.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(file) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("half way")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_exception_while_writing_a_new_file_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "model.keras") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_is_seen_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "history.csv"
    file.write_text("old")
    with file.open() as reader:
        with replacing(file) as temporary:
            temporary.write_text("new")
            assert file.read_text() == "old"
        assert reader.read() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_the_temporary_file_lies_beside_its_target_with_the_same_suffix(tmp_path):
    with replacing(tmp_path / "deep" / "folder" / "model.keras") as temporary:
        assert temporary.parent == tmp_path / "deep" / "folder"
        assert temporary.suffix == ".keras"
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"zip")
    assert (tmp_path / "deep" / "folder" / "model.keras").read_bytes() == b"zip"


def test_a_file_that_the_block_removed_is_an_error_and_keeps_the_old_one(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(file) as temporary:
        temporary.unlink()
    assert file.read_text() == "old"


def test_a_place_where_nothing_can_be_written_is_one_line_that_names_it(tmp_path):
    (tmp_path / "a\nfile").write_text("mine")
    target = tmp_path / "a\nfile" / "report.json"
    with pytest.raises(OutputError) as caught:
        write_bytes(target, b"")
    assert str(caught.value).startswith(f"Cannot write {one_line(str(target))}: ")
    assert (tmp_path / "a\nfile").read_text() == "mine"


def test_a_folder_in_a_files_place_is_one_line(tmp_path):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write .*report\.json: Is a directory"):
        write_bytes(tmp_path / "report.json", b"")
    assert list(tmp_path.iterdir()) == [tmp_path / "report.json"]


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a.bin", b"\0\1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == expected


def test_threads_that_write_leave_the_umask_of_the_process_alone(tmp_path):
    """Files made by other means at the same time have the permissions that the umask allows them."""

    def write(thread):
        for number in range(200):
            write_text(tmp_path / "shared.txt", f"{thread} {number}")
            (tmp_path / f"{thread} {number}").touch()

    before = os.umask(0o077)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(8)))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == 8 * 200 + 1
    assert (tmp_path / "shared.txt").read_text().endswith(" 199")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"auc": [0.5, -float("inf")]}])
def test_json_refuses_what_json_cannot_say(tmp_path, value):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {"old": 1}


def test_json_is_for_people_too(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Thorax, prä-OP", "values": [1, 0.25, None, True]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "prä-OP" in text
    assert text.endswith("}\n")
    assert json.loads(text) == read_json(tmp_path / "a.json")


@given(rows=st.lists(st.fixed_dictionaries({"path": CELLS, "label": CELLS}), max_size=5))
def test_a_csv_comes_back_as_it_was_written(tmp_path_factory, rows):
    file = tmp_path_factory.getbasetemp() / "round_trip.csv"
    write_csv(file, ("path", "label"), rows)
    assert read_csv(file) == rows


def test_a_name_that_is_not_utf_8_comes_back_as_the_same_file(tmp_path):
    name = os.fsdecode(b"r\xf6ntgen.jpeg")
    (tmp_path / name).write_bytes(b"x")
    write_csv(tmp_path / "a.csv", ["path"], [{"path": name}])
    (row,) = read_csv(tmp_path / "a.csv")
    assert row["path"] == name
    assert Path(tmp_path, row["path"]).read_bytes() == b"x"
    assert b"r\xf6ntgen.jpeg" in (tmp_path / "a.csv").read_bytes()


def test_a_csv_leaves_missing_values_empty(tmp_path):
    write_csv(tmp_path / "a.csv", ["trial", "score"], [{"trial": 1, "score": None}, {"trial": 2}])
    assert (tmp_path / "a.csv").read_text() == "trial,score\n1,\n2,\n"


def test_a_csv_refuses_a_value_without_a_column(tmp_path):
    with pytest.raises(ValueError, match="recall"):
        write_csv(tmp_path / "a.csv", ["trial"], [{"trial": 1, "recall": 0.5}])
    assert list(tmp_path.iterdir()) == []


def test_a_csv_from_a_spreadsheet_program_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes('\ufeffpath,label\r\n"a, b.jpeg",NORMAL\r\n'.encode())
    assert read_csv(tmp_path / "a.csv") == [{"path": "a, b.jpeg", "label": "NORMAL"}]


def test_text_keeps_its_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "ä\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\r\nb\n".encode()
