"""Downloads: fetched once, kept whole, checked, and used offline from then on."""

import codecs
import contextlib
import hashlib
import os
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import filelock
import requests
import tqdm

from dnnlib.claims import FOREVER, locked
from dnnlib.cli import warn
from dnnlib.text import printable

ATTEMPTS = 3
RETRY_SECONDS = 1.0  # doubled from one attempt to the next
TIMEOUT_SECONDS = (10, 60)  # to connect; between two pieces of data
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 512
# Clocks of file systems are coarse: a younger file may change again without a sign.
SETTLED_SECONDS = 5.0
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"  # how torch.save's files before its version 1.6 begin
TEXTS = {
    b"<!doctype html": "an HTML page (perhaps a login, or a link that needs a click)",
    b"<html": "an HTML page (perhaps a login, or a link that needs a click)",
    b"<?xml": "an XML text (perhaps a server's error message)",
    b'{"': "a JSON text (perhaps a server's error message)",
    b"version https://git-lfs": "a Git LFS pointer (the real file is elsewhere)",
}


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether `source` is an http or https URL."""
    return str(source).startswith(("http://", "https://"))


def cache_folder() -> Path:
    """Where downloads are kept: $SKIP_TUNING_CACHE, or ~/.cache/skip-tuning-edm.

    Raises:
        RuntimeError: if that is not set and there is no home folder.
    """
    chosen = os.environ.get("SKIP_TUNING_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "skip-tuning-edm"
    except RuntimeError:
        raise RuntimeError(
            "there is no home folder to keep a cache in; set SKIP_TUNING_CACHE to a folder"
        ) from None


def scratch_folder() -> Path:
    """Where to keep what can be made again: in the cache; where that cannot be written, among the temporary files.

    Raises:
        OSError: if no folder can be written.
    """
    try:
        folder = cache_folder()
        _require_writable(folder)
    except (OSError, RuntimeError) as error:
        user = os.getuid() if hasattr(os, "getuid") else "user"
        folder = Path(tempfile.gettempdir()) / f"skip-tuning-edm-{user}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_writable(folder)
        warn(
            f"{error}; until then features are kept in {folder}, or in a folder that you name for them"
        )
    return folder


def _require_writable(folder: Path) -> None:
    """Make the folder, and see that files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"cannot write to the cache {folder} ({reason}); set SKIP_TUNING_CACHE to another folder"
        ) from error


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
        raise ValueError(
            f"SKIP_TUNING_MIRROR is {mirror!r}; set it to a URL such as http://HOST:PORT, or unset it"
        )
    return f"{mirror.rstrip('/')}/{url.removeprefix('https://')}"


def cached_path(url: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The file in which `url` is kept, whether it is there or not.

    A digest of the URL goes first, as two servers may call different files by the same name.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", url.split("?")[0].rstrip("/").rsplit("/", 1)[-1])[-150:]
    folder = Path(cache_dir) if cache_dir is not None else cache_folder()
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits; a file that has not changed is read once per process.

    Hashes are not kept for longer: what a disk does to a file shows in no time of change.
    """
    about = os.stat(path)
    version = _Version(
        os.path.abspath(path), about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
    )
    if version in _hashes:
        return _hashes[version]
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - max(about.st_mtime, about.st_ctime) > SETTLED_SECONDS:
        _hashes[version] = found
    return found


class _Version(NamedTuple):
    """What tells one state of a file from the next."""

    path: str
    inode: int
    size: int
    modified: int
    changed: int


_hashes: dict[_Version, str] = {}


def fetch(
    url: str, sha256: str | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """The local copy of `url`, downloaded if it is not in the cache yet.

    A download that breaks off is continued from where it stopped, now or by a later call. Several processes
    may ask for the same file: one downloads, the others wait. A file that is in the cache needs no network, and one
    that is not comes from $SKIP_TUNING_MIRROR where that is set; see `mirrored`. What is no data file is not kept, nor
    used where it was kept before: a page to log in, a server's excuse, half of an archive; see `check_content`.

    Args:
        url: http or https.
        sha256: what the file must hash to, or how that begins, if it is known: up to 64 hexadecimal digits.
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
    if not _usable(path):
        _require_writable(path.parent)
        with _locked(path):
            if not _usable(path):  # another process may have been faster
                _download(url, path)
    if sha256 is not None and not (found := file_sha256(path)).startswith(sha256.lower()):
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{url}: expected sha256 {sha256}, found {found}; deleted the copy {path}; try again"
        )
    return path


def copy_note(path: str | os.PathLike[str]) -> str:
    """What to add to a message that a file cannot be read: of a download, how to get it again; else nothing."""
    try:
        ours = Path(path).parent == cache_folder()
    except RuntimeError:  # no home
        ours = False
    return "; it is a download: delete it, and it is fetched again" if ours else ""


def open_url(
    source: str | os.PathLike[str],
    sha256: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> BinaryIO:
    """Open a local path, or the cached copy of a URL, for reading; see `fetch`."""
    return open(fetch(str(source), sha256, cache_dir) if is_url(source) else source, "rb")


def check_content(path: Path) -> None:
    """See that a file is a data file of some kind, and no text; and whole, as far as its first and last bytes tell.

    Raises:
        ValueError: saying what it is.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(size - 1, 0))
        last = file.read(1)

    if not head:
        raise ValueError("an empty file")

    kind = _text_kind(head)
    if kind is not None:
        raise ValueError(
            f"{kind} in place of a data file: {printable(head.decode(errors='replace'), 80)!r}"
        )

    if head.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        raise ValueError("an archive that is cut short")

    pickled = head.startswith(
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    ) and not head.startswith(OLD_TORCH)
    if pickled and last != b".":  # the opcode that ends it
        raise ValueError("a pickle that is cut short")


def _text_kind(head: bytes) -> str | None:
    """What a text that begins so is called; None for anything else."""
    text = head.lstrip().lower()
    for start, kind in TEXTS.items():
        if text.startswith(start):
            return kind
    with contextlib.suppress(UnicodeDecodeError):
        # The last character may be cut in two.
        words = codecs.getincrementaldecoder("utf-8")().decode(head)
        if all(character.isprintable() or character.isspace() for character in words):
            return "text"
    return None


def _usable(path: Path) -> bool:
    """Whether a file is in the cache, and what it should be; what is not, as an older version kept it, is deleted."""
    if not path.is_file():
        return False
    try:
        check_content(path)
    except ValueError:
        path.unlink(missing_ok=True)
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(lock, 0))
        except filelock.Timeout:
            tqdm.tqdm.write(f"waiting for another process to download {path.name}", file=sys.stderr)
            held.enter_context(locked(lock, FOREVER))
        yield


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
            reason = printable(error)
            break
        except requests.RequestException as error:
            # Of "HTTPConnectionPool(..): .. (Caused by ..: .. ([Errno 111] Connection refused)'))" the end tells.
            reason = printable(re.sub(r"['\"]\)+$", "", str(error).rsplit(": ", 1)[-1]))
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
        # Some servers compress although they are asked not to: then the length is that of what is transferred.
        packed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and not packed else None
        with open(part, "ab" if have else "wb") as file, _progress(path.name, have, total) as bar:
            version.write_text("" if packed else _validator(response))
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
        received = have + response.raw.tell() if packed else part.stat().st_size
    if length and received != have + int(length):
        raise requests.RequestException(
            f"the transfer ended after {received} of {have + int(length)} bytes"
        )
    version.unlink()
    try:
        check_content(part)
    except ValueError as error:
        part.unlink()
        raise _PermanentError(f"the server sends {error}") from error
    os.replace(part, path)


def _check_answer(response: requests.Response, have: int, part: Path) -> None:
    """Refuse what is neither the whole file nor the rest of it that was asked for."""
    code = response.status_code
    answer = f"the server answers {code} {response.reason}"
    rest = response.headers.get("Content-Range", "")
    # Then the rest of a file is the rest of something else.
    packed = "Content-Encoding" in response.headers
    if code == 416 or (code == 206 and (packed or not rest.startswith(f"bytes {have}-"))):
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
