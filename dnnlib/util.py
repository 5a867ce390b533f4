"""Downloads: fetched once, kept whole, checked, and used offline from then on."""

import contextlib
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import requests
import tqdm

ATTEMPTS = 3
RETRY_SECONDS = 1.0  # doubled from one attempt to the next
TIMEOUT_SECONDS = (10, 60)  # to connect; between two pieces of data
CHUNK_BYTES = 1 << 20


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether `source` is an http or https URL."""
    return str(source).startswith(("http://", "https://"))


def cache_folder() -> Path:
    """Where downloads are kept: $SKIP_TUNING_CACHE, or ~/.cache/skip-tuning-edm."""
    chosen = os.environ.get("SKIP_TUNING_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "skip-tuning-edm"


def mirrored(url: str) -> str:
    """Where `url` is really fetched from: https://HOST/PATH from $SKIP_TUNING_MIRROR/HOST/PATH, if that is set.

    For machines that reach a server of their own and not the internet. The name in the cache stays that of `url`, and
    http URLs stay as they are.

    Raises:
        ValueError: if the mirror is no http or https URL.
    """
    mirror = os.environ.get("SKIP_TUNING_MIRROR")
    if not mirror or not url.startswith("https://"):
        return url
    if not is_url(mirror):
        raise ValueError(f"SKIP_TUNING_MIRROR is {mirror!r}; set it to a URL such as http://HOST:PORT, or unset it")
    return f"{mirror.rstrip('/')}/{url.removeprefix('https://')}"


def cached_path(url: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The file in which `url` is kept, whether it is there or not.

    A digest of the URL goes first, as two servers may call different files by the same name.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", url.split("?")[0].rstrip("/").rsplit("/", 1)[-1])[-150:]
    folder = Path(cache_dir) if cache_dir is not None else cache_folder()
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, sha256: str | None = None, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The local copy of `url`, downloaded if it is not in the cache yet.

    A download that breaks off is continued from where it stopped, now or by a later call. Several processes
    may ask for the same file: one downloads, the others wait. A file that is in the cache needs no network, and one
    that is not comes from $SKIP_TUNING_MIRROR where that is set; see `mirrored`.

    Args:
        url: http or https.
        sha256: what the file must hash to, if that is known; 64 hexadecimal digits.
        cache_dir: the folder of the copy; None means `cache_folder()`.
    Returns:
        Path of the whole file.
    Raises:
        ValueError: if `url` or the mirror is no URL, or the file has another hash; the file is then deleted.
        RuntimeError: if the download fails; the message tells what to put where by hand.
        OSError: if the folder cannot be written or the disk is full.
    """
    if not is_url(url):
        raise ValueError(f"not an http or https URL: {url}")
    path = cached_path(url, cache_dir)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.is_file():  # another process may have been faster
                _download(url, path)
    if sha256 is not None and (found := file_sha256(path)) != sha256.lower():
        path.unlink(missing_ok=True)
        raise ValueError(f"{url}: expected sha256 {sha256}, found {found}; deleted the copy {path}; try again")
    return path


def open_url(
    source: str | os.PathLike[str], sha256: str | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> BinaryIO:
    """Open a local path, or the cached copy of a URL, for reading; see `fetch`."""
    return open(fetch(str(source), sha256, cache_dir) if is_url(source) else source, "rb")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        tqdm.tqdm.write(f"waiting for another process to download {path.name}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _PermanentError(Exception):
    """Trying again would not help."""


def _download(url: str, path: Path) -> None:
    """Fetch `url` into `path`, in several attempts if need be."""
    address = mirrored(url)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
        try:
            _download_once(address, path)
            return
        except (_PermanentError, requests.exceptions.InvalidURL) as error:
            reason = str(error)
            break
        except requests.RequestException as error:
            # Of "HTTPConnectionPool(..): .. (Caused by ..: [Errno 111] Connection refused'))" the end tells.
            reason = str(error).rsplit(": ", 1)[-1].rstrip(")'\"")
    through = "" if address == url else f" from the mirror, {address}"
    raise RuntimeError(
        f"cannot download {url}{through} ({reason}); try again, or get the file in another way and save it as {path}"
    )


def _download_once(url: str, path: Path) -> None:
    """One attempt, from the end of what an earlier one has left in `path`.part."""
    part, version = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.version")
    # The server's name for the version that the part belongs to: without it nothing can be continued.
    validator = version.read_text() if part.is_file() and version.is_file() else ""
    have = part.stat().st_size if validator else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        _check_answer(response, have, part)
        have = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file, _progress(path.name, have, total) as bar:
            version.write_text(_validator(response))
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size != total:
        raise requests.RequestException(f"the transfer ended after {part.stat().st_size} of {total} bytes")
    os.replace(part, path)
    version.unlink()


def _check_answer(response: requests.Response, have: int, part: Path) -> None:
    """Refuse what is neither the whole file nor the rest of it that was asked for."""
    code = response.status_code
    answer = f"the server answers {code} {response.reason}"
    rest = response.headers.get("Content-Range", "")
    if code == 416 or (code == 206 and not rest.startswith(f"bytes {have}-")):
        part.unlink(missing_ok=True)  # the next attempt starts from nothing
        raise requests.RequestException(answer)
    if code in (408, 429) or code >= 500:
        raise requests.RequestException(answer)
    if code not in (200, 206):
        raise _PermanentError(answer)


def _validator(response: requests.Response) -> str:
    """What If-Range may hold: a strong ETag, else the date; empty if the server tells neither."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _progress(name: str, done: int, total: int | None) -> "tqdm.tqdm[Any]":
    """A bar on stderr, which shows only in a terminal."""
    return tqdm.tqdm(
        desc=name,
        initial=done,
        total=total,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,
        file=sys.stderr,
    )
