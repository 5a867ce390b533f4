"""Arrays of plain numbers from npz and npy files: checked before memory is taken, and nothing in them is executed.

numpy's own reader trusts a header's shape, and its messages advise to allow pickles. Here each array's header is
compared with the size that the archive gives the member, the archive's checksums are compared with what is read, and
every refusal has our own words.
"""

import copy
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from dnnlib.files import check_readable
from dnnlib.text import printable

# Of one array in memory; larger ones must be stored uncompressed, and stay on disk.
MOST_BYTES = 16 << 30
PIECE = 1 << 20


class DamagedError(ValueError):
    """The file is damaged, or is another thing than plain arrays."""


DAMAGE = (DamagedError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Header:
    """What an array says of itself.

    Attributes:
        shape: its sizes.
        dtype: numbers, booleans or text; never objects.
        by_columns: Fortran's order.
        begin: of its data, in bytes from the begin of the member.
    """

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    by_columns: bool
    begin: int


class Arrays:
    """An open npz file; `open_arrays` makes one.

    Attributes:
        names: of its arrays, in the order of the file.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        for name in archive.namelist():
            # Which compares the two places where an archive has a member's name.
            archive.open(name).close()
        members = [member for member in archive.namelist() if member.endswith(".npy")]
        self.names = [member.removesuffix(".npy") for member in members]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def header(self, name: str) -> Header:
        """Shape and type of an array, without reading it.

        Raises:
            ValueError: if there is no such array, its header is damaged or claims another size than the member has,
                or it holds objects.
        """
        member = self._member(name)
        with self._archive.open(member) as file:
            return _header(file, name, member.file_size)

    def read(self, name: str, most_bytes: int = MOST_BYTES) -> np.ndarray:
        """An array in memory; its checksum has been compared.

        Args:
            name: of the array.
            most_bytes: a larger one is refused before memory is taken.
        Raises:
            ValueError: as `header`, or if it is damaged or larger than `most_bytes`.
        """
        member = self._member(name)
        if member.file_size > most_bytes:
            size = f"{member.file_size:,} bytes, of which no more than {most_bytes:,} are read"
            raise DamagedError(f"its array {_shown(name)} unfolds to {size}")
        # zipfile stops where the archive says that the member ends; allowed one byte more, it tells whether it does.
        longer = copy.copy(member)
        longer.file_size += 1
        with self._archive.open(longer) as file:
            header = _header(file, name, member.file_size)
            # In pieces: a member whose size lies ends early, and has then cost no more than it holds.
            data = bytearray()
            while piece := file.read(PIECE):
                data += piece
        if len(data) != member.file_size - header.begin:
            raise DamagedError(
                f"its array {_shown(name)} is not of the {member.file_size:,} bytes that the archive claims"
            )
        order = "F" if header.by_columns else "C"
        return np.frombuffer(data, header.dtype).reshape(header.shape, order=order)  # type: ignore[call-overload]

    def mapped(self, name: str) -> np.ndarray | None:
        """An array that stays on disk, read-only: ten thousands of images may be larger than the memory.

        Its checksum is compared, in one pass over the file.

        Returns:
            None if it is compressed or empty, for `read` to deal with.
        Raises:
            ValueError: as `header`, or if it is damaged.
        """
        member, header = self._member(name), self.header(name)
        if member.compress_type != zipfile.ZIP_STORED or 0 in header.shape:
            return None
        with self._archive.open(member) as file:
            while file.read(PIECE):
                pass  # zipfile compares the checksum at the end
        with open(self.path, "rb") as raw:
            # Lengths of the two fields that end the local header of 30 bytes.
            raw.seek(member.header_offset + 26)
            start = (
                member.header_offset + 30 + sum(struct.unpack("<HH", raw.read(4))) + header.begin
            )
        return np.memmap(
            self.path, header.dtype, "r", start, header.shape, "F" if header.by_columns else "C"
        )

    def check(self) -> None:
        """Compare the checksum of every array.

        Raises:
            ValueError: if one is damaged.
        """
        if damaged := self._archive.testzip():
            raise DamagedError(f"the checksum of {_shown(damaged)} is wrong")

    def require(self, *names: str) -> None:
        """Refuse a file that lacks one of these arrays.

        Raises:
            ValueError: naming those that it lacks.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            held = _shown(", ".join(self.names) or "none")
            raise ValueError(f"{self.path} has no array {', '.join(missing)}; it holds {held}")

    def _member(self, name: str) -> zipfile.ZipInfo:
        self.require(name)
        member = self._archive.getinfo(f"{name}.npy")
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            sizes = f"{member.compress_size:,} and {member.file_size:,} bytes"
            raise DamagedError(f"its array {_shown(name)} is of two sizes, {sizes}")
        return member


@contextmanager
def open_arrays(path: str | os.PathLike[str]) -> Iterator[Arrays]:
    """Open an npz file; what is wrong with it in the block is told in one line that names it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no npz file, or the block met damage.
    """
    check_readable(path)

    with _told(path, "an npz file of plain arrays"):
        with open(path, "rb") as raw:
            if raw.read(2) != b"PK":
                raise DamagedError("it is no zip archive")
        with zipfile.ZipFile(path) as archive:
            yield Arrays(Path(path), archive)


def read_arrays(path: str | os.PathLike[str], names: Iterable[str]) -> list[np.ndarray]:
    """Arrays of an npz file, in the order of `names`.

    Raises:
        FileNotFoundError, ValueError: as `open_arrays`.
    """
    with open_arrays(path) as arrays:
        return [arrays.read(name) for name in names]


def map_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an npy file, which stays on disk, read-only.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no npy file, is damaged, claims another size than it has, or holds objects.
    """
    check_readable(path)

    with _told(path, "an npy file of a plain array"), open(path, "rb") as file:
        header = _header(file, None, os.fstat(file.fileno()).st_size)
        order: Literal["F", "C"] = "F" if header.by_columns else "C"
        if 0 in header.shape:
            return np.empty(header.shape, header.dtype, order)
        return np.memmap(path, header.dtype, "r", header.begin, header.shape, order)


@contextmanager
def _told(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """What is wrong with a file, in one line that names it."""
    try:
        yield
    except DamagedError as error:
        raise ValueError(f"{path} is not {kind}, or is damaged: {error}") from error
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged: {printable(str(error) or type(error).__name__)}"
        ) from error


def _header(file: IO[bytes], name: str | None, size: int) -> Header:
    """Read an array's header, and compare it with the size of its member, or of its file.

    Args:
        file: at the begin of the array.
        name: of the array in an npz; None of an npy file's only one.
        size: of the member or the file, in bytes.
    """
    member = "it" if name is None else f"its member {_shown(name)}"
    array = "its array" if name is None else f"its array {_shown(name)}"
    try:
        version = np.lib.format.read_magic(file)
        # The last differs from the second in its text's encoding.
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise DamagedError(f"{member} is npy of the unknown version {version[0]}.{version[1]}")
        old = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
    except DAMAGE:
        raise
    except (
        ValueError,
        TypeError,
        SyntaxError,
        MemoryError,
        RecursionError,
        AttributeError,
    ) as error:
        # Nested brackets by the thousand, a pickle in place of an array, ...: numpy fails in many ways.
        raise DamagedError(f"{member} is no array of plain numbers") from error
    if dtype.hasobject:
        raise DamagedError(
            f"{array} holds Python objects, which are never loaded; store plain numbers"
        )
    if any(type(length) is not int or length < 0 for length in shape) or dtype.itemsize == 0:
        raise DamagedError(f"{array} has an impossible shape")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != size - file.tell():
        raise DamagedError(f"{array} claims {wanted:,} bytes, and has {size - file.tell():,}")
    return Header(shape, dtype, by_columns, file.tell())


def _shown(text: str) -> str:
    return printable(text, 80)
