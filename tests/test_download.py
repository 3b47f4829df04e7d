"""Downloads end with the published file or with one line, whatever the server does."""

import hashlib
import re
import socket
import sys
import threading
import types
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat

import numpy as np
import pytest
from click.testing import CliRunner

from pneumokeras.cli import main
from pneumokeras.core.errors import DataError, OutputError, SettingsError
from pneumokeras.data import download
from pneumokeras.data.download import (
    ATTEMPTS,
    KAGGLE_DATASET,
    PNEUMONIAMNIST,
    PublishedFile,
    download_kaggle,
    download_pneumoniamnist,
    fetch,
)

CONTENT = np.random.default_rng(0).bytes(600_000)
OTHER = np.random.default_rng(1).bytes(600_000)
HALF = 300_000


class Server:
    """Serves CONTENT on loopback as well or as badly as `behaviors` say, the last of them for ever.

    A behavior is a function that answers one request; `asked` keeps the path of each.
    """

    def __init__(self):
        self.asked = []
        self.released = threading.Event()
        self.behave(well)
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                served.asked.append(self.path)
                self.close_connection = True
                with suppress(ConnectionError):  # the client may have hung up
                    next(served.behaviors)(self, served)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def behave(self, *behaviors):
        self.behaviors = chain(behaviors, repeat(behaviors[-1]))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/set.npz"

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def send(handler, body, *, status=200, length=None, content_range=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    if content_range:
        handler.send_header("Content-Range", content_range)
    handler.end_headers()
    handler.wfile.write(body)


def serve(handler, content, *, until=None):
    """`content`, honestly announced; broken off at `until`."""
    send(handler, content[:until], length=len(content))


def well(handler, server):
    serve(handler, CONTENT)


def half(handler, server):
    serve(handler, CONTENT, until=HALF)


def stall(handler, server):
    half(handler, server)
    server.released.wait(5)


def stall_at_once(handler, server):
    server.released.wait(5)


def answer_another_part(handler, server):
    send(handler, CONTENT[5:], status=206, content_range=f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}")


def without_length(handler, server):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT)


def other_file(handler, server):
    serve(handler, OTHER)


def shorter_file(handler, server):
    serve(handler, CONTENT[:1000])


def no_http(handler, server):
    handler.wfile.write(b"hello\r\n\r\n")


def hang_up(handler, server):
    handler.connection.shutdown(socket.SHUT_RDWR)


def answering(status):
    return lambda handler, server: send(handler, b"sorry", status=status)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def get(server, target, *, content=CONTENT, **settings):
    file = PublishedFile(server.url, hashlib.md5(content).hexdigest())
    return fetch(file, target, **{"timeout": 0.3, "pause": 0.001, **settings})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path):
    return tmp_path / "set.npz"


def test_a_file_is_downloaded_with_its_progress(server, target):
    seen = []
    found = get(server, target, progress=lambda done, total: seen.append((done, total)))
    assert (found.path, found.kept) == (target, False)
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["set.npz"]
    assert seen == sorted(seen) and seen[-1] == (len(CONTENT), len(CONTENT))


def test_the_folder_is_made(server, target):
    get(server, target.parent / "new" / "folder" / "set.npz")
    assert (target.parent / "new" / "folder" / "set.npz").read_bytes() == CONTENT


def test_the_right_file_is_kept_without_asking(server, target):
    target.write_bytes(CONTENT)
    assert get(server, target).kept
    assert server.asked == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_another_file_in_the_way_is_never_touched(server, target, is_folder):
    if is_folder:
        target.mkdir()
    else:
        target.write_bytes(b"thesis")
    with pytest.raises(DataError, match="is not the published file"):
        get(server, target)
    assert target.is_dir() if is_folder else target.read_bytes() == b"thesis"
    assert server.asked == []


@pytest.mark.parametrize(
    "trouble", [half, stall, hang_up, no_http, stall_at_once, answering(503), answering(429)]
)
def test_trouble_that_passes_is_waited_out(server, target, trouble):
    server.behave(trouble, trouble, well)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["set.npz"]


def test_a_download_that_is_stopped_leaves_nothing(server, target):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, target, progress=stop)
    assert names(target.parent) == []


def test_a_server_that_announces_no_length_is_judged_by_the_checksum(server, target):
    server.behave(without_length)
    seen = []
    get(server, target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert seen == sorted(seen) and {total for _, total in seen} == {None}


@pytest.mark.parametrize("lies", [other_file, shorter_file, answering(200), answer_another_part])
def test_another_checksum_is_one_line_and_leaves_nothing(server, target, lies):
    server.behave(lies)
    with pytest.raises(DataError, match=r"is not the published file: its MD5 is \w{32}, not"):
        get(server, target)
    assert len(server.asked) == 1
    assert names(target.parent) == []


@pytest.mark.parametrize(
    "trouble",
    [stall_at_once, hang_up, no_http, answering(500), half],
)
def test_trouble_that_stays_ends_after_a_few_attempts(server, target, trouble):
    server.behave(trouble)
    with pytest.raises(DataError, match="Check the connection"):
        get(server, target)
    assert len(server.asked) == ATTEMPTS
    assert names(target.parent) == []


def test_a_stall_is_not_waited_for_longer_than_the_timeout(server, target):
    server.behave(stall_at_once)
    with pytest.raises(DataError, match="timed out"):
        get(server, target)


@pytest.mark.parametrize("status", [403, 404, 410, 416])
def test_a_file_that_is_not_there_is_one_line_at_once(server, target, status):
    server.behave(answering(status))
    with pytest.raises(DataError, match=f"answers {status}"):
        get(server, target)
    assert len(server.asked) == 1
    assert names(target.parent) == []


def test_offline_is_one_line(target):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens: the connection is refused
        file = PublishedFile(f"http://127.0.0.1:{taken.getsockname()[1]}/set.npz", "0" * 32)
        with pytest.raises(DataError, match=r"Cannot download .*refused.*Check the connection") as caught:
            fetch(file, target, pause=0.001)
    assert "\n" not in str(caught.value)
    assert names(target.parent) == []


def test_a_place_that_cannot_be_written_is_one_line(server, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="Cannot write"):
        get(server, tmp_path / "file" / "set.npz")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_line_and_leaves_nothing(server, target):
    def full(done, total):
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"Cannot write .*set\.npz: No space left"):
        get(server, target, progress=full)
    assert names(target.parent) == []


class TestPneumoniaMNIST:
    @pytest.fixture(autouse=True)
    def publisher(self, server, monkeypatch):
        file = PublishedFile(server.url, hashlib.md5(CONTENT).hexdigest())
        monkeypatch.setattr(download, "PNEUMONIAMNIST", dict.fromkeys(PNEUMONIAMNIST, file))

    @pytest.mark.parametrize(
        ("destination", "size", "name"),
        [
            ("data", 28, "data/pneumoniamnist.npz"),
            ("data", 64, "data/pneumoniamnist_64.npz"),
            ("a.npz", 28, "a.npz"),
        ],
    )
    def test_it_takes_the_publishers_name_or_the_one_given(self, destination, size, name, tmp_path):
        assert download_pneumoniamnist(tmp_path / destination, size=size).path == tmp_path / name
        assert (tmp_path / name).read_bytes() == CONTENT

    def test_a_size_that_is_not_published_is_refused(self, tmp_path):
        with pytest.raises(SettingsError, match="28, 64, 128, 224"):
            download_pneumoniamnist(tmp_path, size=32)

    def test_the_command_says_where_it_is_and_that_it_was_there(self, tmp_path):
        first, again = (
            CliRunner().invoke(main, ["data", "download", "pneumoniamnist", str(tmp_path)]) for _ in range(2)
        )
        path = tmp_path / "pneumoniamnist.npz"
        assert first.exit_code == again.exit_code == 0
        assert first.stdout.splitlines()[0] == str(path)
        assert again.stdout.splitlines()[0] == f"{path}: already there and complete."
        assert f"Next: pneumokeras tune --data {path}" in first.stdout
        assert first.stderr == ""

    def test_the_command_fails_in_one_line(self, server, tmp_path):
        server.behave(answering(404))
        result = CliRunner().invoke(main, ["data", "download", "pneumoniamnist", str(tmp_path)])
        assert result.exit_code == 2
        assert "answers 404" in result.stderr and len(result.stderr.splitlines()) == 1


def test_each_published_size_has_its_own_address_and_checksum():
    files = PNEUMONIAMNIST.values()
    assert len({file.url for file in files}) == len({file.md5 for file in files}) == len(PNEUMONIAMNIST)
    assert all(re.fullmatch("[0-9a-f]{32}", file.md5) for file in files)
    assert all(file.url.startswith("https://zenodo.org/records/10519652/") for file in files)


class TestKaggle:
    """A module in kagglehub's place, and a cache as kagglehub fills it."""

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        cache = tmp_path / "cache" / "versions" / "2"
        for outer in ("chest_xray", "chest_xray/chest_xray", "chest_xray/__MACOSX"):
            for split in ("train", "val", "test"):
                for name in ("NORMAL", "PNEUMONIA"):
                    folder = cache / outer / split / name
                    folder.mkdir(parents=True)
                    (folder / f"{split}-{name}.jpeg").write_text(f"{split} {name}")
                    (folder / ".DS_Store").write_text("")
        asked = []
        hub = types.ModuleType("kagglehub")
        hub.dataset_download = lambda handle: asked.append(handle) or str(cache)
        monkeypatch.setitem(sys.modules, "kagglehub", hub)
        yield cache
        assert set(asked) <= {KAGGLE_DATASET}

    def content(self, folder):
        return {
            path.relative_to(folder).as_posix(): path.read_text()
            for path in folder.rglob("*")
            if path.is_file()
        }

    def test_the_set_is_there_once_and_without_litter(self, cache, tmp_path):
        found = download_kaggle(tmp_path / "set")
        assert (found.path, found.kept) == (tmp_path / "set", False)
        assert self.content(found.path) == {
            f"{split}/{name}/{split}-{name}.jpeg": f"{split} {name}"
            for split in ("train", "val", "test")
            for name in ("NORMAL", "PNEUMONIA")
        }

    def test_where_there_are_no_links_files_are_copied(self, cache, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr("os.link", refuse)
        assert len(self.content(download_kaggle(tmp_path / "set").path)) == 6

    def test_the_whole_set_is_kept(self, cache, tmp_path):
        download_kaggle(tmp_path / "set")
        assert download_kaggle(tmp_path / "set").kept

    def test_an_empty_folder_is_filled_and_another_is_left_as_it_was(self, cache, tmp_path):
        (tmp_path / "empty").mkdir()
        assert not download_kaggle(tmp_path / "empty").kept
        next((tmp_path / "empty" / "test").rglob("*.jpeg")).unlink()
        before = self.content(tmp_path / "empty")
        with pytest.raises(DataError, match="already holds something"):
            download_kaggle(tmp_path / "empty")
        assert self.content(tmp_path / "empty") == before

    def test_a_full_disk_leaves_nothing(self, cache, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.link", full)
        monkeypatch.setattr("shutil.copyfile", full)
        with pytest.raises(OutputError, match="No space left"):
            download_kaggle(tmp_path / "set")
        assert names(tmp_path) == ["cache"]

    def test_without_kagglehub_the_line_says_how_to_install_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "kagglehub", None)
        result = CliRunner().invoke(main, ["data", "download", "kaggle", str(tmp_path / "set")])
        assert result.exit_code == 2
        assert "pip install 'pneumokeras[kaggle]'" in result.stderr and len(result.stderr.splitlines()) == 1

    def test_without_credentials_or_a_connection_it_is_one_line(self, cache, tmp_path, monkeypatch):
        def refuse(handle):
            raise ConnectionError("403 Client Error.\n\nYou don't have permission to access it.")

        monkeypatch.setattr(sys.modules["kagglehub"], "dataset_download", refuse)
        with pytest.raises(DataError, match=r"403 Client Error\. You don't.*KAGGLE_USERNAME") as caught:
            download_kaggle(tmp_path / "set")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "set").exists()

    def test_a_cache_that_holds_something_else_is_said(self, cache, tmp_path):
        (cache / "chest_xray").rename(cache / "other")
        with pytest.raises(DataError, match="does not hold chest_xray"):
            download_kaggle(tmp_path / "set")
