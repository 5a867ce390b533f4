"""Folders and files that two runs do not mix in: claims, locks, and a token that shows who shares a folder."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from dnnlib.files import NO_LOCKS, hidden
from dnnlib.text import printable

_GATE, _SHARED, _ALONE = ".claims.lock", ".claim-shared-", ".claim-alone-"
_TOKEN = ".token-"
_SOFT = "-soft"  # ends a lock file whose existence is the lock
FOREVER = -1.0  # seconds, for `locked`
_GATE_SECONDS = 60.0  # a gate is held while a run begins or ends, which is short


@contextlib.contextmanager
def claim(
    folder: str | os.PathLike[str],
    shared: bool = False,
    begin: Callable[[bool], None] | None = None,
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
            raise RuntimeError(
                f"{self.folder} was deleted or moved while this run was at work in it"
            )


def _living(folder: Path, mine: Path | None = None) -> list[Path]:
    """The claims in the folder whose runs live; the files of others are removed. `mine` lives."""
    found = []
    for path in sorted(hidden(folder)):
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
        if error.errno not in NO_LOCKS:
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
            # Before the release: who waits for it sees that it is gone, and makes a new one.
            file.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    """Who holds a lock file, as far as it tells."""
    try:
        process, host = path.read_text().split("\n")[:2]
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
    except (OSError, ValueError):
        return f"see {path}"
    told = f"process {printable(process, 20)} on {printable(host, 60)} since {since}"
    return (
        f"{told}; if there is no such process, remove {path}" if path.name.endswith(_SOFT) else told
    )
