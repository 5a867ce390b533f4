"""Images in PNG files named by their seeds, below one folder."""

import contextlib
import os
import re
import struct
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dnnlib.files import atomic_write, flush_to_disk
from dnnlib.pictures import check_png, decode_png, encode_png
from dnnlib.seeds import Seeds, shared

IMAGE, _SUBDIR = re.compile(r"(\d{6,})\.png"), re.compile(r"\d{6,}")


class SeedImages:
    """Images <seed>.png below one folder. Several threads may save and flush.

    Args:
        root: the folder, which need not exist yet.
        subdirs: each thousand seeds is in a folder of its own.
        size: width and height of the images, where known: others count as damaged.
    """

    def __init__(
        self, root: Path, subdirs: bool = False, size: tuple[int, int] | None = None
    ) -> None:
        self.root = root
        self.subdirs = subdirs
        self.size = size
        self._unflushed: list[Path] = []
        self._flushed = time.monotonic()
        self._flushing = threading.Lock()

    def path(self, seed: int) -> Path:
        """Where the image of `seed` is."""
        folder = self.root / f"{seed - seed % 1000:06d}" if self.subdirs else self.root
        return folder / f"{seed:06d}.png"

    def folders(self) -> list[Path]:
        """Where images are or may be; the folder itself first."""
        folders = [self.root]
        if self.subdirs and self.root.is_dir():
            with os.scandir(self.root) as entries:
                folders += [
                    Path(entry.path)
                    for entry in entries
                    if _SUBDIR.fullmatch(entry.name) and entry.is_dir()
                ]
        return folders

    def stored(self) -> set[int]:
        """The seeds of the images that are there, told by the names of the files."""
        found = set()
        for folder in self.folders():
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                seeds = (
                    int(match[1]) for entry in entries if (match := IMAGE.fullmatch(entry.name))
                )
                found |= {seed for seed in seeds if self.path(seed).parent == folder}
        return found

    def among(self, seeds: Sequence[int]) -> Seeds:
        """Those of the seeds whose images are there."""
        return shared(list(self.stored()), seeds)

    def is_whole(self, seed: int) -> bool:
        """Whether the image is there; one that is damaged is told, and to be made again."""
        try:
            self.png(seed)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except ValueError as error:
            tqdm.write(f"{error}: it is made again", file=sys.stderr)
            return False
        return True

    def png(self, seed: int) -> bytes:
        """The image's file, its checksums compared.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged.
        """
        path = self.path(seed)
        png = path.read_bytes()
        check_png(png, str(path), every_chunk=True)
        if png[12:16] != b"IHDR":
            raise ValueError(f"{path} is damaged: it does not begin with a PNG's header")
        size = struct.unpack(">II", png[16:24])
        if self.size is not None and size != self.size:
            raise ValueError(
                f"{path} has {size[0]}x{size[1]} pixels instead of {self.size[0]}x{self.size[1]}"
            )
        return png

    def load(self, seed: int) -> np.ndarray:
        """Read one image back, uint8 [C, H, W].

        Raises:
            ValueError: if it is damaged; names the file.
        """
        return decode_png(self.path(seed).read_bytes(), str(self.path(seed)))

    def save(self, seed: int, image: np.ndarray) -> None:
        """Write one image, uint8 [C, H, W], atomically; it is on the disk after `flush`."""
        with atomic_write(self.path(seed), flush=False) as file:
            file.write(encode_png(image))
        self._unflushed.append(self.path(seed))

    def flush(self, least_seconds: float = 0) -> None:
        """Wait until the saved images are on the disk, unless it is less than so many seconds since the last time.

        What a power cut takes before is noticed by its checksums, and made again.
        """
        with self._flushing:
            written = self._unflushed.copy()  # other threads add to it meanwhile
            if not written or time.monotonic() - self._flushed < least_seconds:
                return
            flush_to_disk(written)
            del self._unflushed[: len(written)]
            self._flushed = time.monotonic()

    def remove(self, seeds: Sequence[int]) -> None:
        """Delete these images, and the folders of thousands that are empty then."""
        folders = set()
        for seed in self.among(seeds):
            self.path(seed).unlink(missing_ok=True)
            folders.add(self.path(seed).parent)
        for folder in folders - {self.root}:
            with contextlib.suppress(OSError):  # the user keeps something in it
                folder.rmdir()
