"""Files that are either whole or absent, and folders that two runs do not mix in."""

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import socket
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import filelock

from dnnlib.text import printable

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]

_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
_MOST_JSON, _MOST_JSON_LINES = 2**20, 2**26  # bytes; a file of ours has far fewer
_CHECKSUM = "crc32"
_FEW_FILES = 100  # flushed one by one, some milliseconds each
_OLD_SECONDS = 24 * 3600.0  # where nothing tells whether a partial file's writer lives, its age does
_GATE, _SHARED, _ALONE = ".claims.lock", ".claim-shared-", ".claim-alone-"
_TOKEN = ".token-"
_SOFT = "-soft"  # ends a lock file whose existence is the lock
FOREVER = -1.0  # seconds, for `locked`
_GATE_SECONDS = 60.0  # a gate is held while a run begins or ends, which is short
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # file systems without flock


# ---- one file


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
        raise ValueError(f"{path} is no ordinary file (a device, a pipe or a folder); name another one")
    target.parent.mkdir(parents=True, exist_ok=True)
    if flush:
        remove_partial_files(target.parent, lambda name: name == target.name)
    partial = None
    try:
        with _partial_file(target) as file:
            partial = Path(file.name)
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file
            os.replace(partial, target)
        if flush:
            _flush_folder(target.parent)
    except BaseException as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:  # as of a full disk
            error.filename = str(target)
        raise


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
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
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


def check_writable(dest: str | os.PathLike[str], flag: str = "--dest", folder: bool = False) -> None:
    """Refuse a --dest that cannot be written, before the work, and without leaving a trace; folders are made later.

    Args:
        dest: the place.
        flag: that named it.
        folder: it is a folder, not a file.
    Raises:
        ValueError: naming the place and the reason.
    """
    path = Path(dest).absolute()
    if path.is_dir() and not folder:
        raise ValueError(f"{flag}={dest} is a folder; name a file in it")
    if path.exists() and not (path.is_dir() if folder else path.is_file()):
        kind = "folder" if folder else "ordinary file"
        raise ValueError(f"{flag}={dest} is no {kind}; choose another place")
    above = [path, *path.parents] if folder else path.parents
    there = path
    try:
        there = next(parent for parent in above if parent.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        reason = f"{there} ({error.strerror})"
        raise ValueError(f"{flag}={dest}: cannot write to {reason}; choose another place") from error


def write_json(path: str | os.PathLike[str], value: Any, checksum: bool = False) -> None:
    """Write `value` as indented JSON, atomically; numbers that JSON lacks (NaN, infinity) are refused.

    Args:
        path: of the file.
        value: what it says.
        checksum: add one to an object, for `read_json_object`.
    """
    said = value | {_CHECKSUM: _checksum(value)} if checksum else value
    text = json.dumps(said, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def read_json_object(
    path: str | os.PathLike[str], cure: str = "remove it, or choose another folder", most: int = _MOST_JSON
) -> dict[str, Any]:
    """The object in a JSON file; where it has a checksum, that is compared and left out.

    Args:
        path: of the file.
        cure: what a message says to do.
        most: bytes of a file that is read.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it holds something else, is larger, or was changed.
    """
    try:
        value = json.loads(_read_text(Path(path), most))
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        said = value.pop(_CHECKSUM, None)
        if said is not None and said != _checksum(value):
            raise ValueError(f"its checksum is another; if you changed it yourself, take out {_CHECKSUM} too")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({printable(error)}); {cure}") from error
    return value


def json_line(numbers: dict[str, float]) -> str:
    """A line for `read_json_lines`, with its checksum."""
    return json.dumps(numbers | {_CHECKSUM: _checksum(numbers)}, allow_nan=False) + "\n"


def read_json_lines(path: Path) -> list[dict[str, float]]:
    """The numbers in a file of one JSON object a line; where a line has a checksum, it is compared and left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and its first line that is none, or that was changed.
    """
    try:
        lines = _read_text(path, _MOST_JSON_LINES).splitlines()
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({printable(error)}); remove it to go on without") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_numbers(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number} is damaged ({printable(error)}): remove it, or the file"
            ) from error
    return found


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    said = value.pop(_CHECKSUM, None)
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{printable(name, 40)} is no number")
        if not abs(number) < 1e300:  # a whole number may be larger than any float
            raise ValueError(f"{printable(name, 40)} is NaN, infinite or absurdly large")
    if said is not None and said != _checksum(value):
        raise ValueError("its checksum is another")
    return value


def _checksum(value: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(value).encode()):08x}"


def _read_text(path: Path, most: int) -> str:
    if path.is_fifo():  # nobody may ever write to it
        raise ValueError("it is a pipe, no file")
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return data.decode()


@contextlib.contextmanager
def _partial_file(target: Path) -> Iterator[IO[bytes]]:
    """A new file beside `target`, locked as long as it is open: so a living writer's is told from a dead one's."""
    while True:
        with open(target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp"), "xb") as file:
            if _lock(file) is False:  # someone who tidied up took it for a dead one's in this very moment
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


def remove_partial_files(folder: str | os.PathLike[str], of: Callable[[str], bool] | None = None) -> int:
    """Delete what killed writers left of `atomic_write`, and nothing that a living one is writing.

    Args:
        folder: where to look.
        of: whether the file of this name is meant, in the folder itself; None takes all, in its subfolders too.
    Returns:
        How many files were deleted.
    """
    removed = 0
    for path in Path(folder).rglob(".*.tmp") if of is None else _hidden(Path(folder)):
        match = _PARTIAL.fullmatch(path.name)
        if match and (of is None or of(match[1])) and _remove_if_dead(path):
            removed += 1
    return removed


def _hidden(folder: Path) -> list[Path]:
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
        return None if error.errno in _NO_LOCKS else False
    return os.fstat(file.fileno()).st_nlink > 0


# ---- a folder


@contextlib.contextmanager
def claim(
    folder: str | os.PathLike[str], shared: bool = False, begin: Callable[[bool], None] | None = None
) -> Iterator["Claim"]:
    """Keep other runs out of a folder while the block runs. One process of a run calls this for all.

    A claim is a small hidden file in the folder, locked by the system: it falls with its process, however that ends,
    and the next run removes the file. On file systems without such locks the file itself is the claim; a crashed
    process of the same machine is known by its number, and of another machine the message names the file to remove.

    Args:
        folder: created where it is missing, and removed in the end if it was and nothing is in it.
        shared: several runs may hold the folder together, if all of them share.
        begin: called with whether no other run is there, while no other can begin or end; what it raises gives the
            claim up.
    Raises:
        RuntimeError: if another run is there, and either does not share; or if the block missed a file as the folder
            was deleted.
        OSError: if the folder cannot be written.
    """
    folder = Path(folder)
    name = f"{_SHARED if shared else _ALONE}{secrets.token_hex(4)}.lock"
    with contextlib.ExitStack() as held:
        held.enter_context(_made(folder))
        with _gate(folder):
            others = _living(folder)
            for other in others:
                if not (shared and other.name.startswith(_SHARED)):
                    who = _holder(other)
                    raise RuntimeError(
                        f"another run is at work in {folder} ({who}); wait for it, or choose another folder"
                    )
            mine = held.enter_context(locked(folder / name, 0))
            if begin is not None:
                begin(not others)
        held_now = Claim(folder, mine)
        try:
            yield held_now
        except FileNotFoundError:
            held_now.check()
            raise


@contextlib.contextmanager
def claim_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs from writing a file while the block runs; for a run that has no folder of its own.

    Raises:
        RuntimeError: if another run is writing it.
        OSError: if its folder cannot be written.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as held:
        held.enter_context(_made(path.parent))
        try:
            held.enter_context(locked(lock, 0))
        except filelock.Timeout:
            raise RuntimeError(
                f"another run is writing {path} ({_holder(lock)}); wait for it, or choose another place"
            ) from None
        yield


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Create a folder for the block, with its parents; those of them that are new and stay empty are removed."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # something is in it
            for path in new:
                path.rmdir()


@contextlib.contextmanager
def token(folder: str | os.PathLike[str], name: bytes) -> Iterator[None]:
    """Keep a hidden file in a folder while the block runs, for others to see that they have the same one.

    Args:
        folder: created where it is missing.
        name: of the file, drawn at random: nobody can have looked for it before, nor remember that it was not there.
    Raises:
        OSError: if the folder cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with locked(token_path(folder, name), 0):
        yield


def token_path(folder: str | os.PathLike[str], name: bytes) -> Path:
    """Where `token` keeps its file; beside it, where the file system has no locks, one that ends in -soft."""
    return Path(folder) / f"{_TOKEN}{name.hex()}.lock"


def has_token(folder: str | os.PathLike[str], name: bytes) -> bool:
    """Whether another process keeps this `token` in what is the same folder here."""
    path = token_path(folder, name)
    return path.exists() or Path(f"{path}{_SOFT}").exists()


class Claim:
    """What `claim` holds.

    Args:
        folder: the claimed folder.
        path: the claim's file in it.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path = folder, path

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[bool]:
        """Run a block while no other run can begin or end, nor be in such a block; it gets whether none is there.

        Raises:
            RuntimeError: if the folder was deleted.
        """
        self.check()
        with _gate(self.folder):
            yield [self.path] == _living(self.folder, self.path)

    def check(self) -> None:
        """See to it that the folder is still there, and ours.

        Raises:
            RuntimeError: if it was deleted or renamed.
        """
        if not self.path.exists():
            raise RuntimeError(f"{self.folder} was deleted or moved while this run was at work in it")


def _living(folder: Path, mine: Path | None = None) -> list[Path]:
    """The claims in the folder whose runs live; the files of others are removed. `mine` lives."""
    found = []
    for path in sorted(_hidden(folder)):
        if not path.name.startswith((_SHARED, _ALONE, _TOKEN)):
            continue
        try:
            if path != mine:
                with locked(Path(str(path).removesuffix(_SOFT)), 0):
                    continue
        except filelock.Timeout:
            pass
        if not path.name.startswith(_TOKEN):
            found.append(path)
    return found


@contextlib.contextmanager
def _gate(folder: Path) -> Iterator[None]:
    path = folder / _GATE
    try:
        with locked(path, _GATE_SECONDS):
            yield
    except filelock.Timeout:
        raise RuntimeError(
            f"another run holds {path} for long ({_holder(path)}); try again when it has ended"
        ) from None


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[Path]:
    """Hold a lock file for the block; yields the file, which is gone afterwards.

    Where the file system has no locks, the existence of a file of another name is the lock; see `claim`.

    Args:
        path: of the lock file.
        seconds: how long to wait for another process that holds it; or FOREVER.
    Raises:
        filelock.Timeout: if another process holds it for longer than `seconds`.
    """
    lock: filelock.BaseFileLock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=seconds)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        path.unlink(missing_ok=True)
        lock = filelock.SoftFileLock(f"{path}{_SOFT}")
        lock.acquire(timeout=seconds)
    file = Path(lock.lock_file)
    try:
        if file == path:
            with contextlib.suppress(OSError):  # a full disk: it only helps a message
                file.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
        yield file
    finally:
        if file == path:
            file.unlink(
                missing_ok=True
            )  # before the release: who waits for it sees that it is gone, and makes a new one
        lock.release()


def _holder(path: Path) -> str:
    """Who holds a lock file, as far as it tells."""
    try:
        process, host = path.read_text().split("\n")[:2]
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
    except (OSError, ValueError):
        return f"see {path}"
    told = f"process {printable(process, 20)} on {printable(host, 60)} since {since}"
    return f"{told}; if there is no such process, remove {path}" if path.name.endswith(_SOFT) else told
