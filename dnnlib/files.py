"""Files that are either whole or absent, and that tell when they were changed."""

import contextlib
import ctypes
import errno
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from dnnlib import hub

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]

_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
_FEW_FILES = 100  # flushed one by one, some milliseconds each
# Where nothing tells whether a partial file's writer lives, its age does.
_OLD_SECONDS = 24 * 3600.0
# File systems without flock.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], flush: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of `path` for binary writing; rename it to `path` if the block succeeds.

    A reader, or a run that is killed at any moment, sees the old file or the new one, never half of it; and so does
    who comes after a power cut, as the file is on the disk before it is renamed. The folder is created where it is
    missing, a failed write leaves nothing behind, and what killed writers of the same file left is removed.

    Args:
        path: the file to create or replace.
        flush: False for one of many files, where waiting for the disk each time is slow: after a power cut it may be
            damaged. `flush_to_disk` then makes them safe together.
    Raises:
        ValueError: if something other than a file is there: a rename would take the place of a device.
        OSError: if the folder cannot be written or the disk is full; it names the file.
    """
    target = Path(path)
    if target.exists() and not target.is_file():  # the rename would put a file in a device's place
        raise ValueError(
            f"{path} is no ordinary file (a device, a pipe or a folder); name another one"
        )

    target.parent.mkdir(parents=True, exist_ok=True)
    if flush:
        remove_partial_files(target.parent, lambda name: name == target.name)

    partial = None
    try:
        with _partial_file(target) as file:
            partial = Path(file.name)
            yield file
            file.flush()  # a full disk shows here, and not under the final name
            if flush:
                os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file
            os.replace(partial, target)
        if flush:
            _flush_folder(target.parent)
    except BaseException as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            _name(error, target)
        raise


def _name(error: OSError, target: Path) -> None:
    """Let an error say the file that was to be written: a full disk's says none, others the partial file."""
    said = error.filename
    if said is None or _PARTIAL.fullmatch(Path(str(said)).name):
        error.filename, error.filename2 = str(target), None


def flush_to_disk(paths: Iterable[Path]) -> None:
    """Wait until these files and their folders are on the disk; for what `atomic_write` wrote with flush=False.

    Many are flushed with all of their file system, where the system can: one by one takes up to a hundred times
    longer. But few are not, as that would also wait for whatever other programs have written. Files that are gone are
    passed over.

    Raises:
        OSError: if a folder is gone, or the disk fails.
    """
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    many = sum(map(len, by_folder.values())) > _FEW_FILES
    devices: set[int] = set()
    for folder, files in by_folder.items():
        device = folder.stat().st_dev
        if device in devices or (many and _sync_file_system(folder)):
            devices.add(device)
            continue
        for path in files:
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                os.fsync(file.fileno())
        _flush_folder(folder)


def _sync_file_system(folder: Path) -> bool:
    """Flush the file system that the folder is on; False if only Linux could."""
    syncfs = (
        getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if sys.platform == "linux"
        else None
    )

    if syncfs is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
    return True


def check_readable(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file, before it is opened: a pipe would be waited for.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is a folder, a device or a pipe.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    if not Path(path).is_file():
        raise ValueError(f"{path} is no ordinary file (a device, a pipe or a socket); name another")


def check_writable(
    dest: str | os.PathLike[str], name: str, *endings: str, folder: bool = False
) -> None:
    """Refuse a place that cannot be written, before the work, and without leaving a trace; folders are made later.

    Args:
        dest: the place.
        name: what the user calls it, as a flag.
        endings: of a file, see `check_ending`; none where every name will do.
        folder: it is a folder, not a file.
    Raises:
        ValueError: naming the place and the reason.
    """
    if hub.is_hub(dest):
        raise ValueError(
            f"{name}={dest}: only python -m training.checkpoint writes to the Hub; name a place on this machine"
        )

    path = Path(dest).absolute()
    if path.is_dir() and not folder:
        raise ValueError(f"{name}={dest} is a folder; name a file in it")
    if path.exists() and not (path.is_dir() if folder else path.is_file()):
        kind = "folder" if folder else "ordinary file"
        raise ValueError(f"{name}={dest} is no {kind}; choose another place")

    above = [path, *path.parents] if folder else path.parents
    there = path
    try:
        there = next(parent for parent in above if parent.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        reason = f"{there} ({error.strerror})"
        raise ValueError(
            f"{name}={dest}: cannot write to {reason}; choose another place"
        ) from error
    if endings:
        check_ending(dest, name, *endings)


def check_ending(dest: str | os.PathLike[str], name: str, *endings: str) -> None:
    """Refuse a file whose name says that something else is in it than what will be written.

    Args:
        dest: the file.
        name: what the user calls it, as a flag.
        endings: that the name may have, in small letters: ".npz"; "" where it may have none, as the file is known by
            its content.
    Raises:
        ValueError: naming the file and the endings.
    """
    if Path(dest).suffix.lower() not in endings:
        *others, last = [ending for ending in endings if ending]
        listed = f"{', '.join(others)} or {last}" if others else last
        better = f"{Path(dest).stem}{(*others, last)[0]}"
        raise ValueError(
            f"{name}={dest}: what is written there is {listed}; name a file that ends so, as {better}"
        )


@contextlib.contextmanager
def _partial_file(target: Path) -> Iterator[IO[bytes]]:
    """A new file beside `target`, locked as long as it is open: so a living writer's is told from a dead one's."""
    while True:
        with open(target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp"), "xb") as file:
            # Someone who tidied up took it for a dead one's in this very moment.
            if _lock(file) is False:
                continue
            yield file
            return


def _flush_folder(folder: Path) -> None:
    """Make renames in the folder survive a power cut, where the system can."""
    with contextlib.suppress(OSError):  # Windows, and some network file systems
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ---- what killed runs left


def remove_partial_files(
    folder: str | os.PathLike[str], of: Callable[[str], bool] | None = None
) -> int:
    """Delete what killed writers left of `atomic_write`, and nothing that a living one is writing.

    Args:
        folder: where to look.
        of: whether the file of this name is meant, in the folder itself; None takes all, in its subfolders too.
    Returns:
        How many files were deleted.
    """
    removed = 0
    for path in Path(folder).rglob(".*.tmp") if of is None else hidden(Path(folder)):
        match = _PARTIAL.fullmatch(path.name)
        if match and (of is None or of(match[1])) and _remove_if_dead(path):
            removed += 1
    return removed


def hidden(folder: Path) -> list[Path]:
    """What begins with a dot in a folder; nothing if there is none."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def _remove_if_dead(path: Path) -> bool:
    try:
        with open(path, "r+b") as file:
            locked = _lock(file)
            old = time.time() - os.fstat(file.fileno()).st_mtime > _OLD_SECONDS
            dead = old if locked is None else locked
            if dead:
                path.unlink()
        return dead
    except OSError:  # another has removed it, it is no file, or it is another user's
        return False


def _lock(file: IO[bytes]) -> bool | None:
    """Take an open file's lock, which falls with the process; False if another has it, or the file was deleted.

    None where there are no such locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in NO_LOCKS else False
    return os.fstat(file.fileno()).st_nlink > 0
