"""What dataset_tool.py can read: folders and zips of images, MNIST's idx files, CIFAR-10's archive."""

import gzip
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from training.image_files import ImageFiles

SPLITS = ("train", "test")
LABEL_SOURCES = ("auto", "folders", "none")

_IDX_PREFIX = {"train": "train", "test": "t10k"}
_IDX_IMAGES, _IDX_LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_CIFAR_RECORD = 1 + 3 * 32 * 32  # label, then red, green and blue planes
_CIFAR_MEMBERS = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{batch}.bin" for batch in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}  # the Python version consists of pickles, which can run code
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Source:
    """Images to import, in order.

    Args:
        names: what messages call each image.
        read: gives image i, decoded; ValueError that names it if it is corrupt.
        labels: classes, int64 [N], or vectors, float64 [N, label_dim]; None without labels.
    """

    names: list[str]
    read: Callable[[int], Image.Image]
    labels: np.ndarray | None


def open_source(path: str | os.PathLike[str], split: str | None = None, labels: str = "auto") -> Source:
    """Open `path`, whose kind is seen from what it is and holds.

    Args:
        path: a folder of images (recursive) or of idx files, a zip of images, one idx file of images, or
            cifar-10-binary.tar.gz.
        split: "train" (the default) or "test", where the source holds both.
        labels: "none", or for folders and zips: "auto": dataset.json; where there is none, top-level folder
            names in sorted order if there are at least two. "folders": always these.
    Raises:
        FileNotFoundError: if `path` or a file that belongs to it does not exist.
        ValueError: if the format is unknown or damaged, or an option does not fit it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        images = _find_idx(path, split or "train")
        if images is not None:
            return _without(labels, _open_idx(images))
        return _open_images(path, split, labels)
    if path.name.endswith(_TAR_SUFFIXES):
        return _without(labels, _open_cifar10(path, split or "train"))
    if _IDX_IMAGES in path.name:
        if split is not None:
            raise ValueError(f"{path} is one file of one split: leave out the split, or give the folder")
        return _without(labels, _open_idx(path))
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return _open_images(path, split, labels)
    known = f"a folder, a .zip, an idx file (*{_IDX_IMAGES}[.gz]) or cifar-10-binary.tar.gz"
    raise ValueError(f"{path} is of no known format; expected {known}")


def _without(labels: str, source: Source) -> Source:
    if labels == "folders":
        raise ValueError("labels from folders need a folder or a zip of images; this source has its own labels")
    return source if labels == "auto" else Source(source.names, source.read, None)


def _from_array(images: np.ndarray, labels: np.ndarray, where: str) -> Source:
    names = [f"image {index} of {where}" for index in range(len(images))]
    return Source(names, lambda index: Image.fromarray(images[index]), labels.astype(np.int64))


# Folders and zips of images.


def _open_images(path: Path, split: str | None, labels: str) -> Source:
    if split is not None:
        raise ValueError(f"{path} holds plain images, which have no splits: leave out the split")
    files = ImageFiles(path)
    values = files.labels() if labels == "auto" else None
    if labels == "folders" or (labels == "auto" and not files.has_label_file):
        values = _labels_from_folders(files, required=labels == "folders")
    names = [files.where(name) for name in files.names]
    return Source(names, lambda index: files.image(files.names[index]), values)


def _labels_from_folders(files: ImageFiles, required: bool) -> np.ndarray | None:
    folders = [name.split("/")[0] if "/" in name else "" for name in files.names]
    classes = {folder: index for index, folder in enumerate(sorted(set(folders)))}
    if required and "" in classes:
        stray = files.where(files.names[folders.index("")])
        raise ValueError(f"{stray} is in no sub-folder, so it has no label")
    if required or (len(classes) > 1 and "" not in classes):
        return np.array([classes[folder] for folder in folders], dtype=np.int64)
    return None


# MNIST, Fashion-MNIST and their kin: http://yann.lecun.com/exdb/mnist


def _find_idx(folder: Path, split: str) -> Path | None:
    def found(prefix: str) -> Path | None:
        paths = (folder / f"{prefix}-{_IDX_IMAGES}{suffix}" for suffix in ("", ".gz"))
        return next((path for path in paths if path.is_file()), None)

    if not any(found(prefix) for prefix in _IDX_PREFIX.values()):
        return None
    path = found(_IDX_PREFIX[split])
    if path is None:
        raise FileNotFoundError(f"{folder} has no {_IDX_PREFIX[split]}-{_IDX_IMAGES}[.gz], the {split} split")
    return path


def _open_idx(images_path: Path) -> Source:
    stem = images_path.name.removesuffix(".gz").replace(_IDX_IMAGES, _IDX_LABELS)
    choices = [images_path.with_name(stem + suffix) for suffix in ("", ".gz")]
    labels_path = next((path for path in choices if path.is_file()), None)
    if labels_path is None:
        raise FileNotFoundError(f"{images_path} needs its labels beside it: {stem} or {stem}.gz")
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise ValueError(f"{images_path} has {len(images)} images, {labels_path} {len(labels)} labels")
    return _from_array(images, labels, str(images_path))


def _read_idx(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array of an idx file: bytes 0, 0, 8 (uint8), ndim; big-endian int32 sizes; the values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    header = 4 + 4 * ndim
    if len(data) < header or data[:4] != bytes((0, 0, 8, ndim)):
        raise ValueError(f"{path} is not an idx file of unsigned bytes in {ndim} dimensions")
    shape = [int(size) for size in np.frombuffer(data, ">u4", count=ndim, offset=4)]
    size = int(np.prod(shape, dtype=object))
    if size == 0 or len(data) != header + size:
        raise ValueError(f"{path} is damaged: {shape} needs {size} values, it holds {len(data) - header}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


# CIFAR-10, binary version: https://www.cs.toronto.edu/~kriz/cifar.html


def _open_cifar10(path: Path, split: str) -> Source:
    batches = []
    try:
        with tarfile.open(path) as archive:
            for name in _CIFAR_MEMBERS[split]:
                batches.append(_read_cifar10_batch(archive.extractfile(name), f"{name} in {path}"))
    except KeyError as error:
        version = "the binary version, cifar-10-binary.tar.gz"
        raise ValueError(f"{path} lacks {_CIFAR_MEMBERS[split][len(batches)]}; give {version}") from error
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    records = np.concatenate(batches)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
    return _from_array(np.ascontiguousarray(images), records[:, 0], str(path))


def _read_cifar10_batch(file: IO[bytes] | None, where: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    data = file.read() if file is not None else b""
    if not data or len(data) % _CIFAR_RECORD:
        raise ValueError(f"{where} is damaged: {len(data)} bytes are no whole number of {_CIFAR_RECORD}")
    records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)  # (N, 1 + 3 * 32 * 32)
    if records[:, 0].max() > 9:
        raise ValueError(f"{where} is damaged: it has the label {records[:, 0].max()}, outside 0 ... 9")
    return records
