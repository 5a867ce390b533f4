"""CIFAR-10 and CIFAR-100, binary and Python version, packed or not: https://www.cs.toronto.edu/~kriz/cifar.html

The Python version consists of pickles. They are read as data; what else they may ask for is refused.
"""

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from gzip import GzipFile
from pathlib import Path
from typing import IO, Any

import numpy as np

from dnnlib.text import printable

_PIXELS = 3 * 32 * 32  # red, green and blue planes
_MOST_BYTES = 256 * 2**20  # of one file: the largest, CIFAR-100's training set, has 155 million
_MOST_UNFOLDED = 2**30  # of the whole archive, which has less than 200 million
_GZIP = b"\x1f\x8b"

Batch = tuple[np.ndarray, np.ndarray]  # planes uint8 [N, 3072], labels int64 [N]


@dataclass(frozen=True)
class Version:
    """One way in which CIFAR is published.

    Attributes:
        folder: of the archive, in which the files are.
        files: names by split.
        classes: number of them.
        parse: a file's bytes -> its batch.
    """

    folder: str
    files: dict[str, tuple[str, ...]]
    classes: int
    parse: Callable[[bytes], Batch]


def read_cifar(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 [N, 32, 32, 3], and classes, int64 [N], of an archive (.tar or .tar.gz) or a folder.

    CIFAR-100's classes are the 100 fine ones.

    Raises:
        ValueError: if it holds no version of CIFAR, lacks a file of the split, or is damaged.
    """
    where = printable(path)
    version: Version | None = None
    batches: dict[str, Batch] = {}
    try:
        for name, data in _files(path, split):
            version, place = _KNOWN[name]
            if place in version.files[split]:
                batches[place] = _parsed(version, data, f"{name} in {where}")
            if len(batches) == len(version.files[split]):
                break
    except (tarfile.TarError, OSError, EOFError, zlib.error, OverflowError) as error:
        raise ValueError(f"cannot read {where}: {printable(error)}") from error

    if version is None:
        raise ValueError(
            f"{where} is not CIFAR-10 or CIFAR-100; unpack other archives and give the folder"
        )
    missing = [name for name in version.files[split] if name not in batches]
    if missing:
        raise ValueError(
            f"{where} lacks {version.folder}/{missing[0]}, a part of the {split} split; fetch it again"
        )

    ordered = [batches[name] for name in version.files[split]]
    planes, labels = (np.concatenate(parts) for parts in zip(*ordered, strict=True))
    images = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    return np.ascontiguousarray(images), labels


def is_cifar_folder(folder: Path) -> bool:
    """Whether `folder` is the one that an archive of CIFAR unpacks to."""
    return any(_inside(folder, name) for name in _KNOWN)


def _inside(folder: Path, name: str) -> bool:
    top, bare = name.split("/")
    return folder.resolve().name == top and (folder / bare).is_file()


def _files(path: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Known files of a folder or an archive: name in the archive, bytes."""
    if path.is_dir():
        for name in (name for name in _KNOWN if _inside(path, name)):
            file = path / name.split("/")[1]
            _check_size(file.stat().st_size, name)
            yield name, file.read_bytes()
        return

    with open(path, "rb") as packed:
        compressed = packed.read(2) == _GZIP
        packed.seek(0)

        unfolded: IO[bytes] = GzipFile(fileobj=packed) if compressed else packed  # type: ignore[assignment]
        bounded: Any = _Bounded(unfolded)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            for member in archive:
                if member.name in _KNOWN and member.isreg():
                    _check_size(member.size, member.name)
                    content = archive.extractfile(member)
                    yield member.name, content.read() if content is not None else b""


def _check_size(size: int, name: str) -> None:
    if size > _MOST_BYTES:
        raise tarfile.ReadError(f"{name} claims {size} bytes, more than CIFAR has")


def _parsed(version: Version, data: bytes, where: str) -> Batch:
    try:
        planes, labels = version.parse(data)
    except ValueError as error:
        raise ValueError(
            f"{where} is damaged, or not what its name says: {printable(error)}"
        ) from error

    if len(labels) == 0 or planes.shape != (len(labels), _PIXELS):
        raise ValueError(
            f"{where} is damaged: {len(labels)} labels for images of the shape {list(planes.shape)}"
        )

    if labels.min() < 0 or labels.max() >= version.classes:
        wrong = labels.max() if labels.max() >= version.classes else labels.min()
        raise ValueError(
            f"{where} is damaged: it has the label {wrong}, outside 0 ... {version.classes - 1}"
        )

    return planes, labels


def _records(data: bytes, label_bytes: int) -> Batch:
    """The binary version: records of the labels, of which the last is the finest, and the planes."""
    size = label_bytes + _PIXELS
    if not data or len(data) % size:
        raise ValueError(f"{len(data)} bytes are no whole number of {size}")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64)


def _pickled(data: bytes, key: str) -> Batch:
    """The Python version: a dict with "data", uint8 [N, 3072], and lists of labels."""
    # Which imports torch: seconds that other sources can do without.
    from torch_utils import safe_pickle

    batch = safe_pickle.load(io.BytesIO(data))
    batch = {_text(name): value for name, value in batch.items()} if isinstance(batch, dict) else {}
    planes, labels = batch.get("data"), batch.get(key)
    if (
        not isinstance(planes, np.ndarray)
        or planes.dtype != np.uint8
        or not isinstance(labels, list)
    ):
        raise ValueError(f"it is no dict of data (uint8) and {key} (a list)")
    if any(type(label) is not int for label in labels):
        raise ValueError(f"its {key} are not all integers")
    try:
        return planes, np.array(labels, np.int64)
    except OverflowError as error:
        raise ValueError(f"its {key} are not all small integers") from error


def _text(name: Any) -> Any:
    return name.decode("latin1") if isinstance(name, bytes) else name


class _Bounded:
    """An archive's bytes, up to a bound: lengths in a small file are claims, and may unfold to any size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, place: int) -> int:
        self._check(place)
        return self._file.seek(place)

    def read(self, count: int) -> bytes:
        self._check(self._file.tell() + count)
        return self._file.read(count)

    def _check(self, place: int) -> None:
        if not 0 <= place <= _MOST_UNFOLDED:
            raise tarfile.ReadError(
                f"it unfolds to {place} bytes or more, which is more than CIFAR has"
            )


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_VERSIONS = (
    Version(
        "cifar-10-batches-bin",
        {"train": tuple(f"{name}.bin" for name in _BATCHES), "test": ("test_batch.bin",)},
        10,
        lambda data: _records(data, 1),
    ),
    Version(
        "cifar-10-batches-py",
        {"train": _BATCHES, "test": ("test_batch",)},
        10,
        lambda data: _pickled(data, "labels"),
    ),
    Version(
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        100,
        lambda data: _records(data, 2),
    ),
    Version(
        "cifar-100-python",
        {"train": ("train",), "test": ("test",)},
        100,
        lambda data: _pickled(data, "fine_labels"),
    ),
)
_KNOWN = {
    f"{version.folder}/{name}": (version, name)
    for version in _VERSIONS
    for names in version.files.values()
    for name in names
}
