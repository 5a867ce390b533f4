"""What the dataset tests share: hand-made sources, the tool run as a user runs it, an independent reader."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from dataset_tool import main


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def convert(source: Path, dest: Path, *args: object) -> dict[str, Any]:
    result = run("--source", source, "--dest", dest, *args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(source: Path, dest: Path, *args: object) -> str:
    """The one line of a failed run, which must leave nothing at or beside `dest`."""
    before = sorted(dest.parent.iterdir()) if dest.parent.is_dir() else []
    result = run("--source", source, "--dest", dest, *args)
    assert result.exit_code == 2 and result.stdout == ""
    assert before == (sorted(dest.parent.iterdir()) if dest.parent.is_dir() else [])
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("Error: ") and "Traceback" not in result.stderr
    return lines[-1]


def read_as_edm_does(path: Path) -> tuple[np.ndarray, list[Any]]:
    """An independent reader: zipfile, Pillow and json, with the layout of StyleGAN and EDM spelled out."""
    with zipfile.ZipFile(path) as archive:
        *names, last = archive.namelist()
        assert last == "dataset.json"
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert names == [f"{i // 1000:05d}/img{i:08d}.png" for i in range(len(names))]
        pairs = json.loads(archive.read("dataset.json"))["labels"]
        assert pairs is None or [name for name, _ in pairs] == names
        images = [np.array(Image.open(archive.open(name))) for name in names]
    return np.stack(images), [label for _, label in pairs or []]


def noise(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


def put(path: Path, image: np.ndarray | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def mnist_folder(folder: Path, count: int = 5) -> tuple[np.ndarray, list[int]]:
    images, labels = noise(count, 28, 28), [(3 * i) % 10 for i in range(count)]
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx(np.array(labels, np.uint8)))
    )
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(images[:2] ^ 255))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([9, 8], np.uint8)))
    return images, labels


def tar_gz(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def python2_batch(data: np.ndarray, **items: Any) -> bytes:
    """A CIFAR batch as Python 2's cPickle wrote them (protocol 2), opcode by opcode.

    Strings are SHORT_BINSTRING and BINSTRING, the array is numpy's _reconstruct and its state.
    """

    def text(value: bytes) -> bytes:
        short = len(value) < 256
        return (
            b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))
        ) + value

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def other(value: Any) -> bytes:
        if isinstance(value, list):
            return b"](" + b"".join(map(other, value)) + b"e"
        return integer(value) if isinstance(value, int) else text(value.encode("latin1"))

    shape = b"(" + b"".join(map(integer, data.shape)) + b"t"
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
        + integer(0)
        + b"t"
        + text(b"b")
        + b"tR"
    )
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + integer(0) + integer(1) + b"tR"
    dtype += (
        b"(" + integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    )
    array = empty + b"(" + integer(1) + shape + dtype + b"\x89" + text(data.tobytes()) + b"tb"
    pairs = b"".join(text(name.encode()) + other(value) for name, value in items.items())
    return b"\x80\x02}(" + text(b"data") + array + pairs + b"u."


def cifar(count: int, first: int = 0) -> tuple[bytes, np.ndarray, list[int]]:
    planes = noise(count, 3, 32, 32) ^ np.uint8(first)
    labels = [(first + i) % 10 for i in range(count)]
    records = b"".join(
        bytes([label]) + image.tobytes() for label, image in zip(labels, planes, strict=True)
    )
    return records, planes.transpose(0, 2, 3, 1), labels
