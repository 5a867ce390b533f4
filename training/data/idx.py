"""MNIST, Fashion-MNIST and their kin: http://yann.lecun.com/exdb/mnist"""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from dnnlib.text import printable

SPLITS = {"train": "train", "test": "t10k"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"

_MOST_ITEMS = 100_000_000
_MOST_PIXELS = 100_000_000  # of one image
_MOST_UNFOLDED = 1032  # deflate makes of one byte at most so many


class IdxFile:
    """An idx file of bytes: 0, 0, 8 (uint8), the number of dimensions; big-endian int32 sizes; the values.

    Values are read item by item, as they are asked for: a small .gz may unfold to more than the memory holds.

    Args:
        path: with suffix .gz if it is compressed.
        ndim: expected number of dimensions.
    Attributes:
        shape: of the array; an item is what one index into the first dimension gives.
    Raises:
        ValueError: if it is no such file, or promises more than it can hold.
    """

    def __init__(self, path: Path, ndim: int) -> None:
        self.path = path
        self._where = printable(path)
        compressed = path.name.endswith(".gz")
        opener: Any = gzip.open if compressed else open
        self._file: IO[bytes] = opener(path, "rb")  # open as long as the source is read
        self._header = 4 + 4 * ndim
        head = self._read(self._header)
        if len(head) < self._header or head[:4] != bytes((0, 0, 8, ndim)):
            raise ValueError(
                f"{self._where} is not an idx file of unsigned bytes in {ndim} dimensions"
            )
        self.shape = tuple(int(size) for size in np.frombuffer(head, ">u4", count=ndim, offset=4))
        self._item = math.prod(self.shape[1:])
        self._size = self.shape[0] * self._item

        if self._size == 0 or self.shape[0] > _MOST_ITEMS or self._item > _MOST_PIXELS:
            raise ValueError(
                f"{self._where} is damaged: it claims to hold {list(self.shape)} values"
            )
        stored = path.stat().st_size
        if not compressed and stored != self._header + self._size:
            raise self._of_another_size(stored - self._header)
        if compressed and self._size > stored * _MOST_UNFOLDED:
            raise ValueError(
                f"{self._where} is damaged: {list(self.shape)} needs {self._size} values, more than {stored} "
                "compressed bytes can hold"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """Item `index`, uint8; in ascending order, a compressed file is unfolded once.

        Raises:
            ValueError: if the file is damaged, or of another size than it promises.
        """
        start = self._header + index * self._item
        data = self._read(self._item, start)
        if len(data) < self._item:
            raise self._of_another_size(index * self._item + len(data))
        if index == len(self) - 1 and self._read(1):  # which also has gzip compare its checksum
            raise ValueError(
                f"{self._where} is damaged: it goes on after the {self._size} values that it promises"
            )
        return np.frombuffer(data, np.uint8).reshape(self.shape[1:])

    def whole(self) -> np.ndarray:
        """All items at once."""
        data = self._read(self._size, self._header)
        if len(data) < self._size:
            raise self._of_another_size(len(data))
        if self._read(1):
            raise ValueError(
                f"{self._where} is damaged: it goes on after the {self._size} values that it promises"
            )
        return np.frombuffer(data, np.uint8).reshape(self.shape)

    def _read(self, count: int, start: int | None = None) -> bytes:
        try:
            if start is not None and self._file.tell() != start:
                self._file.seek(start)
            return self._file.read(count)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"cannot read {self._where}: {printable(error)}") from error

    def _of_another_size(self, held: int) -> ValueError:
        needs = f"{list(self.shape)} needs {self._size} values"
        return ValueError(f"{self._where} is damaged: {needs}, it holds {held}")


def find_idx(folder: Path, split: str) -> Path | None:
    """The images of a split in a folder of idx files; None if the folder holds no such files.

    Raises:
        FileNotFoundError: if it holds the other split only.
    """

    def found(prefix: str) -> Path | None:
        paths = (folder / f"{prefix}-{IMAGES}{suffix}" for suffix in ("", ".gz"))
        return next((path for path in paths if path.is_file()), None)

    if not any(found(prefix) for prefix in SPLITS.values()):
        return None
    path = found(SPLITS[split])
    if path is None:
        wanted = f"{SPLITS[split]}-{IMAGES}[.gz], the {split} split"
        raise FileNotFoundError(f"{printable(folder)} has no {wanted}")
    return path


def read_idx(path: Path) -> tuple[IdxFile, np.ndarray]:
    """Images [N, H, W], to be read one by one, and their labels [N], which lie beside them.

    Raises:
        FileNotFoundError: if there are no labels.
        ValueError: if either file is damaged, or they differ in number.
    """
    stem = path.name.removesuffix(".gz").replace(IMAGES, LABELS)
    choices = [path.with_name(stem + suffix) for suffix in ("", ".gz")]
    labels_path = next((choice for choice in choices if choice.is_file()), None)
    if labels_path is None:
        raise FileNotFoundError(
            f"{printable(path)} needs its labels beside it: {stem} or {stem}.gz"
        )
    images, labels = IdxFile(path, 3), IdxFile(labels_path, 1)
    if len(images) != len(labels):
        counts = f"{len(images)} images, {printable(labels_path)} {len(labels)} labels"
        raise ValueError(f"{printable(path)} has {counts}")
    return images, labels.whole()
