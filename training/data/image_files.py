"""Named images in a zip or in a folder: listing, reading, decoding. Nothing is ever extracted to disk."""

import copy
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.folders import walk_files
from dnnlib.pixels import read_pixels
from dnnlib.text import printable
from training.data.image_arrays import MOST_CLASSES, is_array_file
from training.data.image_names import (
    ARCHIVES,
    LABEL_FILE,
    is_junk,
    known_suffixes,
    picture_suffixes,
    suffix,
    wrapper,
)

MOST_BYTES = 2**30  # of one file in a data set: more than the largest picture that is read

_READ_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError,
)  # fmt: skip


class ImageFiles:
    """The image files of a zip, or below a folder, by their sorted relative names.

    Names have / between their parts, also where Windows wrote a backslash. If all is in one folder that holds
    dataset.json or class folders, as in the zip of a whole folder, names begin below it. Links are followed.

    The zip is opened at first use in each process: handles inherited through fork share one file position, so
    data loader workers that used them would read each other's bytes.

    Args:
        path: a .zip file or a folder. Hidden files and the copies that systems make (`__MACOSX`, `@eaDir`) are
            passed over.
    Attributes:
        names: of the images.
        unread: relative names of pictures whose format is not read, such as .heic.
        archives: relative names of archives among the files, which are not looked into.
        stray_labels: files called dataset.json that stand where they count for nothing.
        several: names of the images read so far whose files hold more frames or pages than the first, which is taken.
    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if it is neither a zip nor a folder, holds no image, a link leads nowhere, or a name leaves the
            archive.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        self._zip_owner = -1
        self.is_zip = not self.path.is_dir()
        if self.is_zip and not self.path.is_file():
            if not self.path.exists():
                raise FileNotFoundError(f"{printable(self.path)} does not exist")
            raise ValueError(
                f"{printable(self.path)} is no file and no folder (a device, a pipe or a socket); name images"
            )
        if is_array_file(self.path):
            raise ValueError(
                f"{printable(self.path)} is a file of arrays; dataset_tool.py makes a data set of its images"
            )
        members = (
            _zip_members(self._archive(), self.path)
            if self.is_zip
            else walk_files(self.path, is_junk)
        )

        self._stored = _with_slashes(members, self.path)
        everything = sorted({name.replace("\\", "/") for name in members})
        known, pictures = known_suffixes(), picture_suffixes()
        images = [name for name in everything if suffix(name) in known]
        label_files = [name for name in everything if name.rsplit("/", 1)[-1] == LABEL_FILE]

        self._wrapper = wrapper(images, label_files)
        self.names = [name[len(self._wrapper) :] for name in images]
        self.unread = [name for name in everything if suffix(name) in pictures - known]
        self.archives = [name for name in everything if name.lower().endswith(ARCHIVES)]
        self.several: set[str] = set()
        self.has_label_file = self._wrapper + LABEL_FILE in label_files
        self.stray_labels = [name for name in label_files if name != self._wrapper + LABEL_FILE]
        if not self.names:
            raise ValueError(self._empty(known))

    def read(self, name: str) -> bytes:
        """The bytes of one file; ValueError that names it if the archive is damaged or the disk refuses."""
        try:
            return (
                self._read_member(name) if self.is_zip else _read_file(self.path / self._at(name))
            )
        except _READ_ERRORS as error:
            raise ValueError(f"cannot read {self.where(name)}: {printable(error)}") from error

    def image(self, name: str) -> Image.Image:
        """One image as `dnnlib.pixels.read_pixels` gives it, "L" or "RGB"; ValueError that names the file."""
        return read_pixels(
            io.BytesIO(self.read(name)), self.where(name), lambda: self.several.add(name)
        )

    def where(self, name: str) -> str:
        """How messages name the file `name`."""
        stored = self._at(name)
        return (
            f"{printable(stored)} in {printable(self.path)}"
            if self.is_zip
            else printable(self.path / stored)
        )

    def stat(self, name: str) -> os.stat_result:
        """Size and times of the file `name` in a folder, or of the zip."""
        return os.stat(self.path if self.is_zip else self.path / self._at(name))

    def about_archives(self) -> str:
        """A line that says which archives are passed over; empty if there are none."""
        if not self.archives:
            return ""
        count = "1 archive" if len(self.archives) == 1 else f"{len(self.archives)} archives"
        first = printable(self.archives[0])
        return f"passed over: {count} within {printable(self.path)}, the first is {first}; unpack what belongs to it"

    def labels(self) -> np.ndarray | None:
        """Labels in the order of `names`, from dataset.json; None where that says null or does not exist.

        Returns:
            Classes, int64 [N], or vectors, float64 [N, label_dim].
        Raises:
            ValueError: if dataset.json has another form, or leaves an image without a label. Names of images
                that are not there are passed over: a subset of a data set may keep the whole file.
        """
        if not self.has_label_file:
            return None
        where = self.where(LABEL_FILE)
        try:
            pairs = json.loads(self.read(LABEL_FILE))["labels"]
            if pairs is None:
                return None
            by_name = {_plain(name): label for name, label in pairs}
            twice = len(by_name) < len(pairs) and [
                name for name, label in pairs if by_name[_plain(name)] != label
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            expected = '{"labels": [["00000/img00000000.png", 3], ...]}'
            raise ValueError(f"{where} is not of the form {expected}") from error

        if twice:
            raise ValueError(f"{where} has two different labels for {printable(twice[0])}")

        # In the zip of a whole folder the names may begin with that folder, too.
        keys = [name if name in by_name else self._wrapper + name for name in self.names]
        missing = [name for name, key in zip(self.names, keys, strict=True) if key not in by_name]
        if missing:
            count = f"{len(missing)} of {len(self.names)} images"
            raise ValueError(
                f"{where} has no label for {count}, the first is {printable(missing[0])}"
            )
        return _label_array([by_name[key] for key in keys], where)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None, "_zip_owner": -1}

    def _at(self, name: str) -> str:
        """The name under which the file is stored."""
        return self._stored.get(self._wrapper + name, self._wrapper + name)

    def _archive(self) -> zipfile.ZipFile:
        if self._zip is None or self._zip_owner != os.getpid():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (*_READ_ERRORS, ValueError) as error:
                reason = printable(error)
                raise ValueError(
                    f"{printable(self.path)} is not a zip file, or is damaged: {reason}"
                ) from error
            self._zip_owner = os.getpid()
        return self._zip

    def _read_member(self, name: str) -> bytes:
        """One member of the zip, which must be as long as the zip's directory says."""
        archive = self._archive()
        info = archive.getinfo(self._at(name))
        if info.file_size > MOST_BYTES:
            raise zipfile.BadZipFile(
                f"it unfolds to {info.file_size} bytes, more than any picture has"
            )
        # zipfile stops where the directory says that the member ends. Allowed one byte more, it tells whether it does.
        longer = copy.copy(info)
        longer.file_size += 1
        with archive.open(longer) as file:
            data = file.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise zipfile.BadZipFile(
                f"it is not of the {info.file_size} bytes that the zip's directory claims"
            )
        return data

    def _empty(self, known: frozenset[str]) -> str:
        others = (
            f"; {len(self.unread)} are of other formats, the first is {self.unread[0]}"
            if self.unread
            else ""
        )
        if self.archives:
            others += f"; archives in it are not looked into, the first is {self.archives[0]}"
        return f"{printable(self.path)} holds no images{printable(others)}; known suffixes: {' '.join(sorted(known))}"


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _with_slashes(members: Sequence[str], path: Path) -> dict[str, str]:
    """Names with / in place of backslashes -> names as stored, where they differ."""
    changed = {name.replace("\\", "/"): name for name in members if "\\" in name}
    twice = changed.keys() & set(members) if changed else set()
    if twice:
        both = min(twice)
        raise ValueError(
            f"{printable(path)} holds both {printable(both)} and {printable(changed[both])}; remove one"
        )
    return changed


def _zip_members(archive: zipfile.ZipFile, path: Path) -> list[str]:
    """Names of the files in a zip that may hold images or labels."""
    found = []
    for info in archive.infolist():
        name = info.filename
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            shown = printable(repr(name))
            raise ValueError(
                f"{printable(path)} holds the unsafe name {shown}, which leaves the archive; refused"
            )

        if parts[-1] == "" or any(is_junk(part) for part in parts):
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(
                f"{printable(name)} in {printable(path)} is a link, not a file: zip what it leads to (zip without -y)"
            )
        found.append(name)
    return found


def _read_file(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise OSError(f"it has {size} bytes, more than any picture has")
    return path.read_bytes()


def _label_array(labels: list[Any], where: str) -> np.ndarray:
    # One array and a few checks, since a loop over a million labels would be felt.
    try:
        values = np.asarray(labels)
    except ValueError as error:
        raise ValueError(f"{where}: label vectors differ in length") from error

    if values.ndim == 1 and values.dtype.kind == "i" and values.min() >= 0:
        if values.max() >= MOST_CLASSES:
            raise ValueError(f"{where}: the label {values.max()} is beyond {MOST_CLASSES} classes")
        return values.astype(np.int64)
    if (
        values.ndim == 2
        and values.shape[1]
        and values.dtype.kind in "if"
        and np.isfinite(values).all()
    ):
        return values.astype(np.float64)

    raise ValueError(
        f"{where}: labels must be integers >= 0, or lists of finite numbers of one length"
    )
