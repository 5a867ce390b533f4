"""Downloads: fetched once, kept whole, checked, and used offline from then on."""

import contextlib
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import filelock
import tqdm

from dnnlib import hub
from dnnlib.claims import FOREVER, locked
from dnnlib.cli import warn
from dnnlib.download import check_content, download

CHUNK_BYTES = 1 << 20
# Clocks of file systems are coarse: a younger file may change again without a sign.
SETTLED_SECONDS = 5.0


_HTTP = ("http://", "https://")


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether `source` is an http or https URL, or a file of the Hugging Face Hub (hf://OWNER/NAME/FILE)."""
    return str(source).startswith(_HTTP) or hub.is_hub(source)


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
    if not mirror.startswith(_HTTP):
        raise ValueError(
            f"SKIP_TUNING_MIRROR is {mirror!r}; set it to a URL such as http://HOST:PORT, or unset it"
        )
    return f"{mirror.rstrip('/')}/{url.removeprefix('https://')}"


def cached_path(url: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The file in which `url` is kept, whether it is there or not; of the Hub's files in the Hub's own cache.

    A digest of the URL goes first, as two servers may call different files by the same name.
    """
    if hub.is_hub(url):
        return hub.cached_path(url)
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
        url: http or https; or hf, which is the business of `dnnlib.hub.fetch`.
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
    if hub.is_hub(url):
        return _as_expected(url, hub.fetch(url), sha256)
    path = cached_path(url, cache_dir)
    if not _usable(path):
        _require_writable(path.parent)
        with _locked(path):
            if not _usable(path):  # another process may have been faster
                download(url, path, mirrored(url))
    return _as_expected(url, path, sha256)


def _as_expected(url: str, path: Path, sha256: str | None) -> Path:
    """The copy of `url`, if it has that hash; it is deleted if not."""
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
