"""Download published radiographs: PneumoniaMNIST from Zenodo, the chest X-ray set from Kaggle."""

from __future__ import annotations

import logging
import os
import shutil
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pooch
from requests import HTTPError, RequestException

from pneumokeras.core.errors import DataError, OutputError, SettingsError
from pneumokeras.core.files import filling, replacing

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and, if known, the total."""

KAGGLE_DATASET = "paultimothymooney/chest-xray-pneumonia/versions/2"
"""With its version, so that everybody gets the same files and cached ones need no network."""

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4
PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
_CHUNK = 2**18  # bytes
_TEMPORARY_STATUS = {408, 429, 500, 502, 503, 504}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """A file on the web, and the MD5 its publisher gives, which detects damage but not malice."""

    url: str
    md5: str


@dataclass(frozen=True)
class Download:
    """A finished download.

    Attributes:
        path: the file or folder.
        kept: whether it was complete before, so that nothing was downloaded.
    """

    path: Path
    kept: bool


_RECORD = "https://zenodo.org/records/10519652/files"
PNEUMONIAMNIST = {
    28: PublishedFile(f"{_RECORD}/pneumoniamnist.npz?download=1", "28209eda62fecd6e6a2d98b1501bb15f"),
    64: PublishedFile(f"{_RECORD}/pneumoniamnist_64.npz?download=1", "8f4eceb4ccffa70c672198ea285246c6"),
    128: PublishedFile(f"{_RECORD}/pneumoniamnist_128.npz?download=1", "05b46931834c231683c68f40c47b2971"),
    224: PublishedFile(f"{_RECORD}/pneumoniamnist_224.npz?download=1", "d6a3c71de1b945ea11211b03746c1fe1"),
}
"""By side in pixels; addresses and checksums from the package medmnist 3.0.2."""


def download_pneumoniamnist(
    destination: str | PathLike[str], *, size: int = 28, progress: Progress | None = None
) -> Download:
    """Download PneumoniaMNIST, a `.npz` file of 5,856 radiographs with train, val and test.

    Args:
        destination: a folder, made if it is missing, or the path of the file, ending in `.npz`.
        size: side of the radiographs in pixels: 28, 64, 128 or 224.
        progress: called with the bytes received and, if known, the total.

    Returns:
        The path of the file, and whether it was there before.

    Raises:
        SettingsError: if there is no such size.
        DataError: if another file is in the way, the publisher cannot be reached, or the file is not the
            published one.
        OutputError: if the file cannot be written.

    Reference: Yang et al. (2023), MedMNIST v2, Scientific Data 10:41.

    Example:
        This needs a connection::

            found = pk.download_pneumoniamnist("data", size=64)
            splits = pk.load_splits(found.path)
    """
    if size not in PNEUMONIAMNIST:
        sizes = ", ".join(map(str, PNEUMONIAMNIST))
        raise SettingsError(
            f"PneumoniaMNIST is not published at {size} pixels. Expected `size` as one of {sizes}.",
            parameter="size",
        )
    target = Path(destination)
    if target.suffix != ".npz":
        target /= "pneumoniamnist.npz" if size == 28 else f"pneumoniamnist_{size}.npz"
    return fetch(PNEUMONIAMNIST[size], target, progress=progress)


def download_kaggle(destination: str | PathLike[str]) -> Download:
    """Download the chest X-ray set from Kaggle with kagglehub, its cache and the user's credentials.

    The files are linked from kagglehub's cache if it is on the same disk, and copied otherwise. Kaggle's
    archive holds all files twice; one set is left out.

    Args:
        destination: a folder that is new or empty; it is filled whole or left as it was.

    Returns:
        The folder, holding train, val and test, and whether it was complete before.

    Raises:
        DataError: if kagglehub is not installed, Kaggle does not provide the set, or the folder holds
            something else.
        OutputError: if the folder cannot be written.

    Reference: Kermany et al. (2018), Mendeley Data, 10.17632/rscbjbr9sj.

    Example:
        This needs a connection and an account at Kaggle::

            pk.download_kaggle("chest_xray")
            splits = pk.load_splits("chest_xray")
    """
    folder = Path(destination).absolute()
    source = _in_kagglehubs_cache()
    if _radiographs_in(folder) == (wanted := _radiographs_in(source)):
        return Download(folder, kept=True)
    with filling(folder) as staged:
        for name in wanted:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(source / name, staged / name)
    return Download(folder, kept=False)


def fetch(
    file: PublishedFile,
    target: Path,
    *,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> Download:
    """Download one file; it gets its name only when its checksum is right.

    Args:
        file: address and checksum.
        target: where to put it. Its folder is made if it is missing; an existing file is never touched.
        progress: called with the bytes received and, if known, the total.
        timeout: seconds to wait for a byte.
        pause: seconds before a second attempt, doubled before each further one.

    Returns:
        `target`, and whether it was there before.

    Raises:
        DataError: if another file is in the way, the server cannot be reached or does not have the file, or
            its file has another checksum.
        OutputError: if the file cannot be written.
    """
    try:
        if target.is_file() and pooch.file_hash(str(target), alg="md5") == file.md5:
            return Download(target, kept=True)
    except OSError as error:
        raise DataError(f"Cannot read {target}: {error.strerror}.", path=target) from error
    if target.exists():
        raise DataError(
            f"{target} is not the published file (MD5 {file.md5}). Move it away, or name another place.",
            path=target,
        )
    with replacing(target) as temporary:
        try:
            _download(file.url, temporary, progress, timeout=timeout, pause=pause)
        except OSError as error:  # such as a full disk
            raise OutputError(error.errno, error.strerror, str(target)) from error
        md5 = pooch.file_hash(str(temporary), alg="md5")
        if md5 != file.md5:
            raise DataError(
                f"{file.url} is not the published file: its MD5 is {md5}, not {file.md5}. Nothing was kept. "
                f"Try another network, or put the file at {target}.",
                path=target,
            )
    return Download(target, kept=False)


class _Bar:
    """A progress bar for pooch that passes on the bytes received and the total."""

    def __init__(self, progress: Progress | None):
        self._progress = progress
        self.total = 0
        self._done = 0

    def update(self, count: int) -> None:
        """Add the bytes of a chunk, of which the last may be shorter."""
        if not count:  # the total, if the server did not announce it
            return
        self._done = min(self._done + count, self.total) if self.total else self._done + count
        if self._progress is not None:
            self._progress(self._done, self.total or None)

    def reset(self) -> None:
        """Start again from 0, as pooch does before it reports the total."""
        self._done = 0

    def close(self) -> None:
        """Do nothing: the command owns the bar."""


def _download(url: str, target: Path, progress: Progress | None, *, timeout: float, pause: float) -> None:
    """Download `url` to `target`, with a few attempts where the trouble may be temporary."""
    headers = {"User-Agent": "pneumokeras"}
    for attempt in range(1, ATTEMPTS + 1):
        download = pooch.HTTPDownloader(_Bar(progress), chunk_size=_CHUNK, timeout=timeout, headers=headers)
        try:
            return download(url, str(target), None)
        except HTTPError as error:
            assert error.response is not None
            reason = f"{error.response.status_code} {error.response.reason}"
            if error.response.status_code not in _TEMPORARY_STATUS:
                raise DataError(
                    f"{url} answers {reason}. The publisher may have moved the file; download it by hand."
                ) from error
        except RequestException as error:
            reason = _in_short(error)
        if attempt < ATTEMPTS:
            logger.info("%s: %s; trying again", url, reason)
            time.sleep(pause * 2 ** (attempt - 1))
    raise DataError(f"Cannot download {url} ({reason}). Check the connection and try again.")


def _in_short(error: BaseException) -> str:
    while error.__context__ is not None:  # requests and urllib3 wrap what went wrong
        error = error.__context__
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder="...")


def _in_kagglehubs_cache() -> Path:
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            "Kaggle's set is downloaded by kagglehub. Install it with: pip install 'pneumokeras[kaggle]'"
        ) from error
    try:
        cached = Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception as error:  # kagglehub's own kinds, and those of its dependencies
        raise DataError(
            f"Kaggle does not provide {KAGGLE_DATASET} ({_in_short(error)}). Check the connection, and the "
            "credentials in ~/.kaggle/kaggle.json, or in KAGGLE_USERNAME and KAGGLE_KEY."
        ) from error
    source = cached / "chest_xray"
    if not _radiographs_in(source):
        raise DataError(
            f"{cached} does not hold chest_xray/train and so on. Remove it and try again.", path=cached
        )
    return source


def _radiographs_in(folder: Path) -> dict[str, int]:
    """Return name and size of each file of the set, without anything else in Kaggle's archive."""
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for split in ("train", "val", "test")
        for file in sorted(folder.glob(f"{split}/*/*.jpeg"))
    }


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
