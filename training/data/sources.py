"""What dataset_tool.py can read: folders, zips and arrays of images, MNIST's idx files, CIFAR's archives, fonts."""

import os
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.text import printable
from training.data.cifar import is_cifar_folder, read_cifar
from training.data.glyphs import FONTS, Glyphs, read_characters
from training.data.idx import IMAGES, find_idx, read_idx
from training.data.image_arrays import is_array_file, open_image_array, open_image_classes
from training.data.image_files import ImageFiles
from training.data.image_names import LABEL_FILE, suffix

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_LMDB_FILE = "data.mdb"


@dataclass(frozen=True)
class Source:
    """Images to import, in order.

    Args:
        count: how many.
        name: what messages call image i.
        read: gives image i, decoded; ValueError that names it if it is corrupt.
        labels: classes, int64 [N], or vectors, float64 [N, label_dim]; None without labels.
        unread: names of pictures that are left out, since their format is not read.
        several: names of those, among what was read, of which only the first frame or page was taken.
        notes: lines that say where the labels come from, or why there are none.
    """

    count: int
    name: Callable[[int], str]
    read: Callable[[int], Image.Image]
    labels: np.ndarray | None
    unread: Sequence[str] = ()
    several: Collection[str] = ()
    notes: list[str] = field(default_factory=list)


def open_source(
    path: str | os.PathLike[str],
    split: str | None = None,
    labels: str = "auto",
    characters: str | os.PathLike[str] | None = None,
) -> Source:
    """Open `path`, whose kind is seen from what it is and holds.

    Args:
        path: a folder of images (recursive) or of idx files, a zip of images, an array of them (npy, npz), one idx
            file of images, or CIFAR-10's or CIFAR-100's archive, also unpacked; or a colour font.
        split: "train" (the default) or "test", where the source holds both.
        labels: "none", or for folders and zips: "auto": dataset.json; where there is none, top-level folder
            names in sorted order if there are at least two. "folders": always these.
        characters: of a font: the list of what to draw, as Unicode's emoji-test.txt, whose groups are the classes.
    Raises:
        FileNotFoundError: if `path` or a file that belongs to it does not exist.
        ValueError: if the format is unknown or damaged, or an option does not fit it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{printable(path)} does not exist")
    if _is_font(path, characters):
        return _without(labels, _open_font(path, split, characters))
    if path.is_dir():
        return _open_folder(path, split, labels)
    if not path.is_file():
        raise ValueError(
            f"{printable(path)} is no file and no folder (a device, a pipe or a socket); store it first"
        )

    return _open_file(path, split, labels)


def _open_file(path: Path, split: str | None, labels: str) -> Source:
    if path.name.endswith(_TAR_SUFFIXES):
        return _without(labels, _open_cifar(path, split))
    if IMAGES in path.name:
        if split is not None:
            raise ValueError(
                f"{printable(path)} is one file of one split: leave out the split, or give the folder"
            )
        return _without(labels, _open_idx(path))
    if path.name == _LMDB_FILE:
        raise _lmdb(path)

    if is_array_file(path):
        return _without(labels, _open_array(path, split, labels))
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return _open_images(path, split, labels)

    known = f"a folder, a .zip, an array (.npy, .npz), an idx file (*{IMAGES}[.gz])"
    raise ValueError(
        f"{printable(path)} is of no known format; expected {known}, cifar-10-python.tar.gz, cifar-10-binary.tar.gz "
        "or a font"
    )


def _open_folder(path: Path, split: str | None, labels: str) -> Source:
    images = find_idx(path, split or "train")
    if images is not None:
        return _without(labels, _open_idx(images))
    if is_cifar_folder(path):
        return _without(labels, _open_cifar(path, split))
    if (path / _LMDB_FILE).is_file():
        raise _lmdb(path)
    return _open_images(path, split, labels)


def _open_idx(path: Path) -> Source:
    images, labels = read_idx(path)
    where = printable(path)
    return Source(
        count=len(images),
        name=lambda index: f"image {index} of {where}",
        read=lambda index: Image.fromarray(images[index]),
        labels=labels.astype(np.int64),
    )


def _open_cifar(path: Path, split: str | None) -> Source:
    images, labels = read_cifar(path, split or "train")
    where = printable(path)
    return Source(
        count=len(images),
        name=lambda index: f"image {index} of {where}",
        read=lambda index: Image.fromarray(images[index]),
        labels=labels,
    )


def _open_array(path: Path, split: str | None, labels: str) -> Source:
    if split is not None:
        raise ValueError(
            f"{printable(path)} holds plain images, which have no splits: leave out the split"
        )
    images = open_image_array(path)
    where = printable(path)
    if len(images) == 0:
        raise ValueError(f"{where} holds no images")
    gray = images.shape[3] == 1
    return Source(
        count=len(images),
        name=lambda index: f"image {index} of {where}",
        read=lambda index: Image.fromarray(images[index].squeeze(2) if gray else images[index]),
        labels=None if labels == "none" else open_image_classes(path, len(images)),
    )


def _open_font(path: Path, split: str | None, characters: str | os.PathLike[str] | None) -> Source:
    if split is not None:
        raise ValueError(f"{printable(path)} is a font, which has no splits: leave out the split")
    if characters is None:
        raise ValueError(
            f"{printable(path)} is a font: a list says which characters to draw (--characters), "
            "such as emoji-test.txt of Debian's unicode-data"
        )

    glyphs = Glyphs(path, read_characters(Path(characters)))
    notes = [f"{len(glyphs.groups)} classes, by groups: {printable(', '.join(glyphs.groups))}"]
    notes += [f"left out: {count} characters {why}" for why, count in glyphs.left_out.items()]
    return Source(
        count=len(glyphs.kept),
        name=lambda index: f"{glyphs.kept[index]} of {printable(path)}",
        read=glyphs.draw,
        labels=glyphs.labels(),
        notes=notes,
    )


def _is_font(path: Path, characters: str | os.PathLike[str] | None) -> bool:
    font = path.suffix.lower() in FONTS and path.is_file()
    if characters is not None and not font:
        raise ValueError(
            f"a list of characters is for a font ({', '.join(FONTS)}); {printable(path)} is none"
        )
    return font


def _without(labels: str, source: Source) -> Source:
    if labels == "folders":
        raise ValueError(
            "labels from folders need a folder or a zip of images; this source has its own labels"
        )
    return source if labels == "auto" else Source(source.count, source.name, source.read, None)


def _lmdb(path: Path) -> ValueError:
    way_out = "write its images into a folder first: docs/training.md, LMDB, has the lines that do"
    return ValueError(f"{printable(path)} is an LMDB database, which is not read here; {way_out}")


# Folders and zips of images.


def _open_images(path: Path, split: str | None, labels: str) -> Source:
    if split is not None:
        raise ValueError(
            f"{printable(path)} holds plain images, which have no splits: leave out the split"
        )

    files = ImageFiles(path)
    values, notes = _labels_of(files, labels)
    return Source(
        count=len(files.names),
        name=lambda index: files.where(files.names[index]),
        read=lambda index: files.image(files.names[index]),
        labels=values,
        unread=files.unread,
        several=files.several,
        notes=notes + _notes_on_unread(files),
    )


def _labels_of(files: ImageFiles, labels: str) -> tuple[np.ndarray | None, list[str]]:
    """Labels, and what the user should know of them."""
    if labels == "none":
        return None, []
    if labels == "folders":
        return _labels_from_folders(files), [_classes_note(files)]

    notes = []
    if files.stray_labels:
        others = f"{len(files.stray_labels)} in all, " if len(files.stray_labels) > 1 else ""
        shown = printable(files.stray_labels[0])
        notes.append(f"{shown} is passed over ({others}not in the folder that holds all images)")
    if files.has_label_file:
        values = files.labels()
        if values is None:
            notes.append(f"no labels: {LABEL_FILE} says null")
        return values, notes

    folders = _top_folders(files)
    problem = _why_no_classes(files, folders)
    if problem:
        return None, [*notes, f"no labels: {problem}"]
    if len(set(folders)) < 2:
        return None, notes
    return _labels_from_folders(files), [*notes, _classes_note(files)]


def _top_folders(files: ImageFiles) -> list[str]:
    return [name.split("/")[0] if "/" in name else "" for name in files.names]


def _labels_from_folders(files: ImageFiles) -> np.ndarray:
    folders = _top_folders(files)
    if "" in folders:
        stray = files.where(files.names[folders.index("")])
        raise ValueError(f"{stray} is in no sub-folder, so it has no label")
    classes = {folder: index for index, folder in enumerate(sorted(set(folders)))}
    return np.array([classes[folder] for folder in folders], dtype=np.int64)


def _classes_note(files: ImageFiles) -> str:
    folders = sorted(set(_top_folders(files)))
    return f"{len(folders)} classes, by folders: {printable(', '.join(folders))}"


def _why_no_classes(files: ImageFiles, folders: Sequence[str]) -> str:
    """Why folders that look like classes are none; empty if they are, or if there are none."""
    named = sorted(set(folders) - {""})
    if "" in folders and named:
        stray = files.where(files.names[folders.index("")])
        beside = printable(", ".join(named))
        return f"{stray} is in none of the folders beside it ({beside}); were they classes, move or remove it"
    if len(named) > 1 and all(_is_chunk(name) for name in files.names):
        chunks = printable(", ".join(named))
        return f"the folders ({chunks}) only divide the numbered images of a data set, whose {LABEL_FILE} is missing"
    return ""


def _is_chunk(name: str) -> bool:
    """Whether this is a numbered image in the folder of its thousand, as data sets and generate.py --subdirs have."""
    folder, _, rest = name.partition("/")
    number = rest.rsplit(".", 1)[0].removeprefix("img")
    if not (folder.isdecimal() and number.isdecimal() and len(folder) >= 5):
        return False
    return int(folder) in (int(number) // 1000, int(number) - int(number) % 1000)


def _notes_on_unread(files: ImageFiles) -> list[str]:
    notes = [files.about_archives()] if files.archives else []
    if files.unread:
        kinds = ", ".join(sorted({suffix(name) for name in files.unread}))
        first, count = printable(files.unread[0]), len(files.unread)
        notes.append(
            f"left out: {count} pictures of formats that are not read ({kinds}), the first is {first}"
        )
    return notes
