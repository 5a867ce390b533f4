"""From any readable source to the dataset zip: deterministic bytes, all or nothing."""

import contextlib
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from dnnlib.claims import claim
from dnnlib.files import atomic_write, flush_to_disk
from dnnlib.text import printable
from training.data.image_names import LABEL_FILE
from training.data.image_recipe import MODES, Recipe, size_of
from training.data.sources import Source

_OTHER_ARCHIVES = frozenset(
    {".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar", ".npz", ".npy", ".h5", ".hdf5", ".lmdb"}
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment a zip can express
_Save = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Summary:
    """What was written.

    Attributes:
        skipped: pictures left out.
        cut: pictures, among those read, of which only the first frame or page was taken.
        classes: length of a label vector, 0 for none.
    """

    path: str
    images: int
    skipped: int
    cut: int
    resolution: int
    channels: int
    classes: int


def import_dataset(
    source: Source,
    dest: str | os.PathLike[str],
    recipe: Recipe,
    max_images: int | None = None,
    overwrite: bool = False,
) -> Summary:
    """Write the first `max_images` images of `source` as a dataset zip, or as a folder of the same layout.

    Equal input gives equal bytes. `dest` appears when it is whole; a failure leaves what was there before.

    Args:
        dest: *.zip, or the name of a folder.
        overwrite: replace `dest` if it is a file, or a folder that holds a data set.
    Raises:
        ValueError: if an image is corrupt, not square, or unlike the first in size or channels; names it.
        RuntimeError: if `dest` exists or cannot be written.
    """
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images is {max_images}; it must be at least 1")
    dest = Path(dest)
    writer = _zip_writer if _is_zip(dest) else _folder_writer
    try:
        _recover(dest)
        _check_dest(dest, overwrite)
        with writer(dest) as save:
            return _convert(source, dest, recipe, max_images, save)
    except OSError as error:
        raise RuntimeError(f"cannot write {dest}: {error.strerror or error}") from error


def check_apart(source: str | os.PathLike[str], dest: str | os.PathLike[str]) -> None:
    """ValueError if writing `dest` would replace `source`, or a folder around it."""
    inner, outer = Path(source).resolve(), Path(dest).resolve()
    if outer == inner or outer in inner.parents:
        raise ValueError(f"writing {dest} would replace the source {source}; choose another name")


def _convert(
    source: Source, dest: Path, recipe: Recipe, max_images: int | None, save: _Save
) -> Summary:
    labels: list[Any] = []
    names: list[str] = []
    first: Image.Image | None = None
    indices = range(source.count)[:max_images]
    for index in tqdm(
        indices, desc=printable(dest.name), unit="img", file=sys.stderr, mininterval=1
    ):
        where = source.name(index)
        image = recipe.apply(_colour(source.read(index), recipe, first, where), where)
        if image is None:  # smaller than the resolution
            continue
        first = first or image
        _check_size(image, first, where)

        names.append(f"{len(names) // 1000:05d}/img{len(names):08d}.png")
        save(names[-1], _png(image))
        if source.labels is not None:
            labels.append(source.labels[index].tolist())

    if first is None:
        raise ValueError(f"all {len(indices)} images are smaller than the resolution; none is left")
    pairs = [list(pair) for pair in zip(names, labels, strict=True)] if labels else None
    save(LABEL_FILE, json.dumps({"labels": pairs}).encode())

    return Summary(
        path=str(dest),
        images=len(names),
        skipped=len(indices) - len(names) + len(source.unread),
        cut=len(source.several),
        resolution=first.width,
        channels=len(first.getbands()),
        classes=_label_dim(labels),
    )


def _check_size(image: Image.Image, first: Image.Image, where: str) -> None:
    """Refuse what is not square, or of another size than the first."""
    if image.width != image.height:
        raise ValueError(
            f"{where} is {size_of(image)}; give a square resolution, or transform center-crop"
        )
    if image.size != first.size:
        sizes = f"{size_of(image)}, those before it {size_of(first)}"
        raise ValueError(f"{where} is {sizes}; give a resolution that makes all images alike")


def _colour(
    image: Image.Image, recipe: Recipe, first: Image.Image | None, where: str
) -> Image.Image:
    if recipe.channels is not None:
        return image.convert(MODES[recipe.channels])
    if first is None:
        return image
    if first.mode == "L" and image.mode != "L":
        raise ValueError(
            f"{where} has colours, those before it are grayscale; give --channels 3 (or 1)"
        )
    return image.convert(first.mode)


def _label_dim(labels: list[Any]) -> int:
    if labels and isinstance(labels[0], list):
        return len(labels[0])
    return max(labels, default=-1) + 1


def _png(image: Image.Image) -> bytes:
    # Level 0: training decodes it fastest, and no zlib release changes the bytes.
    buffer = io.BytesIO()
    image.info.clear()  # gamma, resolution and comments of the source are no part of a data set
    image.save(buffer, format="png", compress_level=0)
    return buffer.getvalue()


def _is_zip(dest: Path) -> bool:
    return dest.suffix.lower() == ".zip"


def _check_dest(dest: Path, overwrite: bool) -> None:
    if dest.suffix.lower() in _OTHER_ARCHIVES:
        raise ValueError(
            f"{dest} would be a folder in spite of its name: data sets are *.zip, or folders"
        )
    if not dest.exists() or (dest.is_dir() and not _is_zip(dest) and not any(dest.iterdir())):
        return
    if not overwrite:
        raise RuntimeError(f"{dest} exists already; choose another name, or overwrite it")
    if dest.is_dir() and (_is_zip(dest) or not (dest / LABEL_FILE).is_file()):
        raise RuntimeError(
            f"{dest} is a folder without {LABEL_FILE}, so no data set; it is not overwritten"
        )
    if dest.is_file() and not _is_zip(dest):
        raise RuntimeError(f"{dest} is a file and no .zip; it is not overwritten")


@contextlib.contextmanager
def _zip_writer(dest: Path) -> Iterator[_Save]:
    with atomic_write(dest) as file, zipfile.ZipFile(file, "w") as archive:

        def save(name: str, data: bytes) -> None:
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system = 3  # Unix, also when written elsewhere
            member.external_attr = 0o644 << 16
            archive.writestr(member, data, zipfile.ZIP_STORED)

        yield save


@contextlib.contextmanager
def _folder_writer(dest: Path) -> Iterator[_Save]:
    """Write a folder beside `dest` and rename it at the end; what a killed run left there is removed."""
    partial, old = _beside(dest, "partial"), _beside(dest, "old")
    written: list[Path] = []

    def save(name: str, data: bytes) -> None:
        path = partial / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        written.append(path)

    with claim(partial):
        _clear(partial)
        try:
            yield save
            flush_to_disk(written)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    if dest.exists():
        dest.rename(old)
    partial.rename(dest)
    shutil.rmtree(old, ignore_errors=True)


def _beside(dest: Path, what: str) -> Path:
    return dest.with_name(f".{dest.name}.{what}")


def _clear(partial: Path) -> None:
    """Remove what a killed run left, but not the claim on the folder."""
    for path in partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name == LABEL_FILE:
            path.unlink()


def _recover(dest: Path) -> None:
    """Put back what a run was about to replace when it was killed between its two renames."""
    old = _beside(dest, "old")
    if old.is_dir() and not dest.exists():
        old.rename(dest)
    elif old.is_dir():
        shutil.rmtree(old)
