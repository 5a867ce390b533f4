"""Many images in one file: the data set zip, and npz."""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import IO

import numpy as np

from dnnlib.pictures import decode_png
from dnnlib.text import printable

# What zipfile and zlib make of damaged files
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, NotImplementedError, RuntimeError, OSError,
)  # fmt: skip

Writer = Callable[[IO[bytes], Iterable[bytes], Sequence[int], Sequence[int] | None], None]


def write_zip(
    file: IO[bytes],
    pngs: Iterable[bytes],
    seeds: Sequence[int],
    classes: Sequence[int] | None = None,
) -> None:
    """Write images in the data set layout of `training.dataset.ImageDataset`, which EDM's tools read too.

    Equal images give equal bytes. The seeds are not kept: members are numbered.

    Args:
        file: open for binary writing.
        pngs: each image as PNG.
        seeds: one per image.
        classes: one index per image; None writes {"labels": null}.
    """
    names = [f"{i // 1000:05d}/img{i:08d}.png" for i in range(len(seeds))]
    labels = None if classes is None else [list(pair) for pair in zip(names, classes, strict=True)]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, png in zip(names, pngs, strict=True):
            archive.writestr(zipfile.ZipInfo(name), png)  # ZipInfo's fixed date
        archive.writestr(zipfile.ZipInfo("dataset.json"), json.dumps({"labels": labels}))


def write_npz(
    file: IO[bytes],
    pngs: Iterable[bytes],
    seeds: Sequence[int],
    classes: Sequence[int] | None = None,
) -> None:
    """Write arr_0, the images as uint8 [N, H, W, C]; arr_1, their classes; seeds.

    Args:
        file: open for binary writing.
        pngs: each image as PNG; all of one shape, held in memory at once.
        seeds: one per image.
        classes: one index per image; None leaves arr_1 out.
    """
    arrays = {
        "arr_0": np.stack([decode_png(png).transpose(1, 2, 0) for png in pngs]),
        "seeds": np.array(seeds),
    }
    if classes is not None:
        arrays["arr_1"] = np.array(classes)
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own keyword


def check_archive(path: str | os.PathLike[str]) -> None:
    """Compare all checksums of a zip or npz, in one pass over the file.

    Raises:
        ValueError: naming the file and what is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged ({printable(error)})") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged (in {printable(damaged)})")
