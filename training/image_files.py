"""Named images in a zip or in a folder: listing, reading, decoding. Nothing is ever extracted to disk."""

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.pixels import read_pixels

LABEL_FILE = "dataset.json"
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})

_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


class ImageFiles:
    """The image files of a zip, or below a folder, by their sorted relative names.

    The zip is opened at first use in each process: handles inherited through fork share one file position, so
    data loader workers that used them would read each other's bytes.

    Args:
        path: a .zip file or a folder. Hidden files and macOS's `__MACOSX` copies are passed over.
    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if it is neither a zip nor a folder, holds no image, or a name leaves the archive.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        self._zip_owner = -1
        if self.path.is_dir():
            self.is_zip = False
            everything = [p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()]
        elif self.path.is_file():
            self.is_zip = True
            everything = [name for name in self._archive().namelist() if not name.endswith("/")]
            for name in everything:
                _refuse_escape(name, self.path)
        else:
            raise FileNotFoundError(f"{self.path} does not exist")
        self.has_label_file = LABEL_FILE in everything
        self.names = sorted({name for name in everything if _is_image(name)})
        if not self.names:
            raise ValueError(f"{self.path} holds no images; known suffixes: {' '.join(sorted(SUFFIXES))}")

    def read(self, name: str) -> bytes:
        """The bytes of one file; ValueError that names it if the archive is damaged or the disk refuses."""
        try:
            return self._archive().read(name) if self.is_zip else (self.path / name).read_bytes()
        except _READ_ERRORS as error:
            raise ValueError(f"cannot read {self.where(name)}: {error}") from error

    def image(self, name: str) -> Image.Image:
        """One image as `dnnlib.pixels.read_pixels` gives it, "L" or "RGB"; ValueError that names the file."""
        return read_pixels(io.BytesIO(self.read(name)), self.where(name))

    def where(self, name: str) -> str:
        """How messages name the file `name`."""
        return f"{name} in {self.path}" if self.is_zip else str(self.path / name)

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
            by_name = {name.replace("\\", "/"): label for name, label in pairs}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            expected = '{"labels": [["00000/img00000000.png", 3], ...]}'
            raise ValueError(f"{where} is not of the form {expected}") from error
        missing = [name for name in self.names if name not in by_name]
        if missing:
            count = f"{len(missing)} of {len(self.names)} images"
            raise ValueError(f"{where} has no label for {count}, the first is {missing[0]}")
        return _label_array([by_name[name] for name in self.names], where)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None, "_zip_owner": -1}

    def _archive(self) -> zipfile.ZipFile:
        if self._zip is None or self._zip_owner != os.getpid():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, EOFError) as error:
                raise ValueError(f"{self.path} is not a zip file, or is damaged: {error}") from error
            self._zip_owner = os.getpid()
        return self._zip


def _label_array(labels: list[Any], where: str) -> np.ndarray:
    # One array and two checks, since a loop over a million labels would be felt.
    try:
        values = np.asarray(labels)
    except ValueError as error:
        raise ValueError(f"{where}: label vectors differ in length") from error
    if values.ndim == 1 and values.dtype.kind == "i" and values.min() >= 0:
        return values.astype(np.int64)
    if values.ndim == 2 and values.shape[1] and values.dtype.kind in "if" and np.isfinite(values).all():
        return values.astype(np.float64)
    raise ValueError(f"{where}: labels must be integers >= 0, or lists of finite numbers of one length")


def _is_image(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and os.path.splitext(name)[1].lower() in SUFFIXES


def _refuse_escape(name: str, archive: Path) -> None:
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        raise ValueError(f"{archive} holds the unsafe name {name!r}, which leaves the archive; refused")
