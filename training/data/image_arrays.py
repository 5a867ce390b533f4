"""Arrays of images: an npy file, or an npz as generate.py and ADM's evaluator have them."""

import os
from pathlib import Path

import numpy as np

from dnnlib.arrays import Arrays, map_array, open_arrays
from dnnlib.files import check_readable
from dnnlib.text import printable

SUFFIXES = (".npy", ".npz")
# A label beyond is a mistake, and its one-hot vector would take all memory.
MOST_CLASSES = 1_000_000


def is_array_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a file of arrays, not a folder or another kind of file."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()


def open_image_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The images of an npy file, or those of an npz: its arr_0, or its only array.

    They stay on disk, unless they are compressed.

    Args:
        path: of the file.
    Returns:
        uint8 [N, H, W, 1 or 3]; one must not write to it.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no ordinary file, is damaged or holds no such array.
    """
    check_readable(path)
    if Path(path).suffix.lower() == ".npy":
        images = map_array(path)
        _check(images.dtype, images.shape, f"{path}: the array")
        return images

    with open_arrays(path) as arrays:
        name = _name(arrays)
        header = arrays.header(name)
        _check(header.dtype, header.shape, f"{path}: {name}")
        mapped = arrays.mapped(name)
        return arrays.read(name) if mapped is None else mapped


def open_image_classes(path: str | os.PathLike[str], count: int) -> np.ndarray | None:
    """The classes of an npz's images: its arr_1, int64 [N]; None where there is none.

    Args:
        path: of an npy or npz file of images.
        count: N, how many images it holds.
    Raises:
        ValueError: if arr_1 is something else.
    """
    if Path(path).suffix.lower() == ".npy":
        return None
    with open_arrays(path) as arrays:
        if "arr_1" not in arrays:
            return None
        classes = arrays.read("arr_1")
    fits = classes.dtype.kind in "iu" and classes.shape == (count,)
    if not fits or (count and not 0 <= classes.min() <= classes.max() < MOST_CLASSES):
        raise ValueError(
            f"{path}: arr_1 is {classes.dtype} {list(classes.shape)}; it must be the classes of {count} images, "
            "whole numbers from 0; or import it without labels"
        )
    return classes.astype(np.int64)


def _name(arrays: Arrays) -> str:
    """Which array of an npz is that of images."""
    name = "arr_0" if "arr_0" in arrays or len(arrays.names) != 1 else arrays.names[0]
    if name not in arrays:
        held = printable(", ".join(arrays.names) or "nothing")
        others = "; these are statistics, which a reference is" if "mu" in arrays else ""
        raise ValueError(f"{arrays.path} holds {held}, but no array arr_0 of images{others}")
    return name


def _check(dtype: np.dtype, shape: tuple[int, ...], what: str) -> None:
    """Refuse what are no images."""
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
        raise ValueError(f"{what} is {dtype} {list(shape)}; images are uint8 [N, H, W, 1 or 3]")
    if 0 in shape[1:]:
        raise ValueError(f"{what} is {list(shape)}; its images have no pixels")
