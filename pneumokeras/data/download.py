"""Radiographs from their publishers: PneumoniaMNIST from Zenodo, the chest X-ray set from Kaggle."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import ssl
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pneumokeras.core.errors import DataError

Progress = Callable[[int, int | None], None]
"""Is told the bytes that are there, and how many there will be if the server says so."""

KAGGLE_DATASET = "paultimothymooney/chest-xray-pneumonia/versions/2"
"""With its version, so that everybody gets the same files and a cached copy needs no network."""

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4  # in a row that bring nothing new
PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
_CHUNK = 2**18  # bytes
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
_PASSING = (URLError, TimeoutError, ConnectionError, HTTPException, ssl.SSLError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """A file on the web and the checksum its publisher gives.

    Attributes:
        url: where it lies.
        md5: of its content, 32 hexadecimal digits. It tells damage from the real file, not malice.
    """

    url: str
    md5: str


@dataclass(frozen=True)
class Download:
    """What a download left.

    Attributes:
        path: the file or folder.
        kept: whether it was there already, whole and right.
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
"""By side in pixels; addresses and checksums as the package medmnist 3.0.2 has them."""


def download_pneumoniamnist(
    destination: str | PathLike[str], *, size: int = 28, progress: Progress | None = None
) -> Download:
    """Download PneumoniaMNIST, a `.npz` file of 5,856 radiographs with train, val and test.

    Args:
        destination: a folder, made if it is missing, or the path of the file, ending in `.npz`.
        size: side of the radiographs in pixels: 28, 64, 128 or 224.
        progress: is told how far it is.

    Returns:
        The path of the file, and whether it was there already.

    Raises:
        DataError: if there is no such size, another file is in the way, the publisher cannot be reached, or
            what came is not what was published.

    Reference: Yang et al. (2023), MedMNIST v2, Scientific Data 10:41.
    """
    if size not in PNEUMONIAMNIST:
        sizes = ", ".join(map(str, PNEUMONIAMNIST))
        raise DataError(f"PneumoniaMNIST is not published at {size} pixels. Expected one of {sizes}.")
    target = Path(destination)
    if target.suffix != ".npz":
        target /= "pneumoniamnist.npz" if size == 28 else f"pneumoniamnist_{size}.npz"
    return fetch(PNEUMONIAMNIST[size], target, progress=progress)


def download_kaggle(destination: str | PathLike[str]) -> Download:
    """Download the chest X-ray set from Kaggle, by kagglehub: its cache, the user's credentials.

    The files are linked from kagglehub's cache where that is on the same disk, else copied; the second
    copy of everything that is in Kaggle's archive is left out.

    Args:
        destination: a folder that is new or empty; it is filled whole or left as it was.

    Returns:
        The folder, holding train, val and test, and whether all of it was there already.

    Raises:
        DataError: if kagglehub is not installed, Kaggle does not give the set, or the folder holds
            something else.

    Reference: Kermany et al. (2018), Mendeley Data, 10.17632/rscbjbr9sj.
    """
    folder = Path(destination).absolute()
    source = _in_kagglehubs_cache()
    if _radiographs_in(folder) == (wanted := _radiographs_in(source)):
        return Download(folder, kept=True)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder} already holds something else. Expected a new or empty folder, or the whole set."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            staged = Path(scratch) / folder.name
            for name in wanted:
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(source / name, staged / name)
            if folder.exists():
                folder.rmdir()  # it is empty, or this refuses
            staged.rename(folder)
    except OSError as error:
        raise DataError(f"Cannot fill {folder}: {error.strerror}.") from error
    return Download(folder, kept=False)


def fetch(
    file: PublishedFile,
    target: Path,
    *,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> Download:
    """Download one file; it takes its name when its checksum is right.

    What has come of it lies beside it, with `.part` after the name, and the next call goes on from there.
    Whether that still fits the publisher's file is left to the checksum: if it does not, all of it is
    asked for once more.

    Args:
        file: address and checksum.
        target: where to put it. Its folder is made if it is missing; a file that is there is never touched.
        progress: is told how far it is.
        timeout: seconds to wait for a byte.
        pause: seconds before a second attempt, doubled before each further one.

    Returns:
        `target`, and whether the right file was there already.

    Raises:
        DataError: if another file is in the way, the server cannot be reached or does not give the file, or
            what it gives has another checksum.
    """
    try:
        if target.exists():
            if target.is_file() and _md5(target) == file.md5:
                return Download(target, kept=True)
            raise DataError(
                f"{target} is not the published file (MD5 {file.md5}). Move it away, or name another place."
            )
        part = target.with_name(f"{target.name}.part")
        for _ in range(2):
            came_at_once = _complete(part, file.url, progress, timeout, pause)
            md5 = _md5(part)
            if md5 == file.md5:
                part.replace(target)
                return Download(target, kept=False)
            part.unlink()
            if came_at_once:
                break
    except OSError as error:
        raise DataError(f"Cannot write {target}: {error.strerror}.") from error
    raise DataError(
        f"{file.url} gives another file (MD5 {md5}) than was published ({file.md5}): nothing was kept. "
        f"Is something between you and the publisher? Try another network, or put the file at {target}."
    )


def _complete(part: Path, url: str, progress: Progress | None, timeout: float, pause: float) -> bool:
    """Bring `part` to its end, while attempts bring something new; whether one answer held it all."""
    furthest, idle = _size(part), 0
    while True:
        try:
            return _ask(part, url, progress, timeout)
        except HTTPError as error:
            reason = f"{error.code} {error.reason}"
            error.close()
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and _size(part):
                return False
            if error.code not in _PASSING_STATUS:
                raise DataError(
                    f"{url} answers {reason}. The publisher may have moved the file: fetch it by hand."
                ) from error
        except _PASSING as error:
            reason = _in_short(error)
        idle = 0 if _size(part) > furthest else idle + 1
        furthest = max(furthest, _size(part))
        if idle == ATTEMPTS:
            raise DataError(
                f"Cannot download {url} ({reason}). Are you online? The same call again goes on from here."
            )
        logger.info("%s: %s; trying again", url, reason)
        time.sleep(pause * 2 ** max(0, idle - 1))


def _ask(part: Path, url: str, progress: Progress | None, timeout: float) -> bool:
    """Ask once for what is missing of `part`, or for all of it; whether this one answer held it all."""
    done = _size(part)
    request = Request(url, headers={"User-Agent": "pneumokeras"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urlopen(request, timeout=timeout) as answer:
        continues = answer.status == HTTPStatus.PARTIAL_CONTENT
        if continues and not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            part.unlink(missing_ok=True)
            raise ConnectionError("the answer is not the part that was asked for")
        done = done if continues else 0
        total = None if answer.length is None else done + answer.length
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab" if continues else "wb") as file:
            while chunk := answer.read1(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done < total:
        raise ConnectionError(f"the answer broke off after {done} of {total} bytes")
    return not continues


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _in_short(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    return textwrap.shorten(str(reason) or type(error).__name__, 200, placeholder="...")


def _in_kagglehubs_cache() -> Path:
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            "Kaggle's set is downloaded by kagglehub. Install it with: pip install 'pneumokeras[kaggle]'"
        ) from error
    try:
        cached = Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception as error:  # kagglehub's own kinds, and those of the packages it stands on
        raise DataError(
            f"Kaggle does not give {KAGGLE_DATASET} ({_in_short(error)}). Are you online, and are your "
            "credentials in ~/.kaggle/kaggle.json, or in KAGGLE_USERNAME and KAGGLE_KEY?"
        ) from error
    source = cached / "chest_xray"
    if not _radiographs_in(source):
        raise DataError(f"{cached} does not hold chest_xray/train and so on. Remove it and try again.")
    return source


def _radiographs_in(folder: Path) -> dict[str, int]:
    """Name and size of each file of the set; what else lies in Kaggle's archive is left out."""
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for split in ("train", "val", "test")
        for file in sorted(folder.glob(f"{split}/*/*.jpeg"))
    }


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
