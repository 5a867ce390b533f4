"""A folder of images named by their seeds, with a record of how they were made; a killed run goes on in it."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.archives import Writer, check_archive
from dnnlib.claims import Claim, claim
from dnnlib.files import atomic_write, remove_partial_files
from dnnlib.json_files import read_json_object, write_json
from dnnlib.keywords import resolved
from dnnlib.names import ARCHIVES, RECORD, SHEET
from dnnlib.seed_images import IMAGE, SeedImages
from dnnlib.seeds import Seeds, format_seeds, parse_seeds, united, without
from dnnlib.text import printable, reason

WRITERS: dict[str, Writer] = resolved(__package__, ARCHIVES)
MOST_BYTES = 64 * 2**20  # of a record: some hundred bytes a session


class RunFolder:
    """Images <seed>.png below one folder, or images.zip or .npz in their place, and run.json beside them.

    Several runs with the same settings may share a folder, also at the same time, if all of them make PNGs.

    Args:
        outdir: the folder; created by `open`.
        settings: what determines the images, as JSON; compared with what an existing record says.
        subdirs: put each thousand seeds into a folder of its own.
        kind: one of FORMATS: "png", or the archive that `pack` makes at the end.
        sheet: there shall be a contact sheet of the images, made before they are packed.
        size: width and height of the images, where known: others count as damaged.
    Raises:
        ValueError: if outdir is empty text, as of a shell variable that is not set.
    """

    def __init__(
        self,
        outdir: str | os.PathLike[str],
        settings: dict[str, Any],
        subdirs: bool = False,
        kind: str = "png",
        sheet: bool = False,
        size: tuple[int, int] | None = None,
    ) -> None:
        if not os.fspath(outdir):
            raise ValueError("the output folder has no name; name one, . for the one you are in")
        self.outdir = Path(outdir)
        self.images = SeedImages(self.outdir, subdirs, size)
        self.kind = kind
        self.sheet = sheet
        self.settings: dict[str, Any] = json.loads(
            json.dumps({**settings, "subdirs": subdirs}, allow_nan=False)
        )
        self._claim: Claim | None = None
        self._is_new = False  # whether this run wrote the folder's first record

    def record(self) -> dict[str, Any]:
        """The folder's run.json, empty if there is none.

        Raises:
            ValueError: if it cannot be read.
        """
        path, cure = self.outdir / RECORD, "choose another folder or remove it"
        try:
            record = read_json_object(path, cure, MOST_BYTES)
        except FileNotFoundError:
            return {}
        try:
            kinds = {"seeds": str, "settings": dict, "sessions": list}
            if not all(isinstance(record[key], kind) for key, kind in kinds.items()):
                raise TypeError(f"{', '.join(kinds)} must be text, an object and a list")
            parse_seeds(record["seeds"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({reason(error)}); {cure}") from error
        return record

    # ---- a run, from beginning to end

    @contextlib.contextmanager
    def open(self, seeds: Sequence[int], overwrite: bool = False) -> Iterator[None]:
        """Claim the folder for these seeds while the block runs, or go on with the run that is in it.

        One process of a run does this, before the others look into the folder.

        Args:
            seeds: what will be made now.
            overwrite: remove images that were made otherwise.
        Raises:
            ValueError: if the folder holds images that were made otherwise, or an archive that these seeds or this
                kind do not fit or that is damaged.
            RuntimeError: if a run with other settings is at work there, or any, if this or that one makes an archive.
            OSError: if the folder cannot be written.
        """
        if self.outdir.exists() and not self.outdir.is_dir():
            raise ValueError(f"{self.outdir} is a file; name a folder")

        def begin(alone: bool) -> None:
            self._begin(seeds, overwrite, alone)

        with claim(self.outdir, shared=self.kind == "png", begin=begin) as self._claim:
            try:
                yield
            except Exception:
                self._withdraw()
                raise
        self._claim = None

    def holds(self, seeds: Sequence[int]) -> bool:
        """Whether the images of all these seeds are there, one by one or packed."""
        return self.packed() is not None or len(self.images.among(seeds)) == len(seeds)

    def missing(self, seeds: Sequence[int]) -> list[int]:
        """The seeds whose images are not there yet, or are damaged, which is told on stderr."""
        return [] if self.packed() else [seed for seed in seeds if not self.images.is_whole(seed)]

    def save(self, seed: int, image: np.ndarray) -> None:
        """Write one image, uint8 [C, H, W], atomically; see `flush`. Several threads may call both.

        Raises:
            RuntimeError: if the folder was deleted.
        """
        self.check()
        self.images.save(seed, image)

    def flush(self, least_seconds: float = 0) -> None:
        """See `SeedImages.flush`.

        Raises:
            RuntimeError: if the folder was deleted.
        """
        self.check()
        self.images.flush(least_seconds)

    def seeds(self) -> Seeds:
        """All seeds of the folder, earlier sessions' included, in ascending order."""
        return parse_seeds(self._present()["seeds"])

    def packed(self) -> Path | None:
        """The archive that holds the run's images, if they were packed."""
        return next(
            (self._archive(kind) for kind in ARCHIVES if self._archive(kind).exists()), None
        )

    def pack(self, classes: Sequence[int] | None) -> Path:
        """Replace the single images by one archive, in the order of `seeds()`.

        They are removed when the archive has been read back and is on the disk.

        Args:
            classes: class index of each; None for unconditional images.
        Raises:
            ValueError: if an image is damaged; names it.
        """
        seeds, archive = self.seeds(), self._archive(self.kind)
        with atomic_write(archive) as file:
            WRITERS[self.kind](file, map(self.images.png, seeds), seeds, classes)
            file.flush()
            check_archive(file.name)
        self.images.remove(seeds)
        return archive

    def check(self) -> None:
        """See to it that the folder is still there.

        Raises:
            RuntimeError: if it was deleted, or renamed.
        """
        if self._claim is not None:
            self._claim.check()
        if not (self.outdir / RECORD).exists():
            raise RuntimeError(
                f"{self.outdir} was deleted or moved while this run was at work in it: no {RECORD}"
            )

    def close(self, session: dict[str, Any]) -> None:
        """Add what this session did to the record. The process that opened the folder calls this last.

        Raises:
            RuntimeError: if the folder was deleted, or never opened.
        """
        if self._claim is None:
            raise RuntimeError(f"{self.outdir} is not open")
        with self._claim.undisturbed():
            record = self._present()
            seeds = parse_seeds(record["seeds"])
            record["complete"] = self.holds(seeds)
            record["sessions"].append(session)
            write_json(self.outdir / RECORD, record, checksum=True)

    def _withdraw(self) -> None:
        """After an error, remove a record that was begun for nothing: there are no images."""
        if self._claim is None or not self._is_new:
            return
        with (
            contextlib.suppress(RuntimeError, ValueError, OSError),
            self._claim.undisturbed() as alone,
        ):
            if alone and not self.images.stored() and self.packed() is None:
                (self.outdir / RECORD).unlink()

    # ---- the beginning

    def _begin(self, seeds: Sequence[int], overwrite: bool, alone: bool) -> None:
        record = self.record()
        self._is_new = not record
        self._check_others(record, alone, overwrite)
        problem = self._other_images(record, seeds)
        if problem and not overwrite:
            raise ValueError(
                f"{self.outdir} holds images {problem}; choose another folder, or overwrite them"
            )
        if problem:
            self._remove(record, seeds)
        if problem or (record and _differences(record["settings"], self.settings)):
            record = {}  # made otherwise, and now without images

        made = parse_seeds(record["seeds"]) if record else Seeds([])
        self._check_archive(made, seeds)
        # Which refuses more than it could read back.
        every = parse_seeds(format_seeds(united(made, seeds)))
        if self.packed():
            self.images.remove(every)  # a run that was killed while it packed
        for folder in self.images.folders():
            remove_partial_files(folder, _is_ours)
        claimed = {"settings": self.settings, "seeds": format_seeds(every), "complete": False}
        write_json(
            self.outdir / RECORD, {**claimed, "sessions": record.get("sessions", [])}, checksum=True
        )

    def _check_others(self, record: dict[str, Any], alone: bool, overwrite: bool) -> None:
        """Refuse what would disturb a run that is in the folder at this moment."""
        if alone or not record:
            return
        differing = _differences(record["settings"], self.settings)
        if differing:
            wait = "wait for it" if overwrite else "choose another folder"
            raise RuntimeError(
                f"another run is making images with {differing} in {self.outdir}; {wait}"
            )

    def _other_images(self, record: dict[str, Any], seeds: Sequence[int]) -> str:
        """How images in the folder were made, if otherwise than these will be; a record without images is none."""
        if not record:
            unknown = self.images.among(seeds) or self.packed()
            return f"but no {RECORD} that says how they were made" if unknown else ""
        differing = _differences(record["settings"], self.settings)
        if not differing:
            return ""
        earlier = self._earlier(record)
        there = earlier.packed() or earlier.images.among(parse_seeds(record["seeds"]))
        return f"made with {differing}" if there else ""

    def _check_archive(self, made: Sequence[int], seeds: Sequence[int]) -> None:
        archive = self.packed()
        if archive is None:
            self._check_no_others(made, seeds)
            return

        if archive != self._archive(self.kind):
            raise ValueError(
                f"{archive} holds these images already; choose another folder for {self.kind}"
            )
        if without(seeds, made):
            raise ValueError(
                f"{archive} holds the seeds {format_seeds(made)}; choose another folder for others"
            )

        if self.sheet and not (self.outdir / SHEET).exists():
            raise ValueError(
                f"{archive} is packed: for a contact sheet make its images again, in another folder"
            )

        try:
            check_archive(archive)
        except ValueError as error:
            raise ValueError(
                f"{error}; remove it, and the same command makes its images again"
            ) from error

    def _check_no_others(self, made: Sequence[int], seeds: Sequence[int]) -> None:
        others = (
            without(without(made, seeds), list(self.images.stored())) if self.kind != "png" else ()
        )
        if others:
            raise ValueError(
                f"{self.outdir} still lacks the seeds {format_seeds(others)} of an earlier command; "
                f"make them too, or choose another folder for {self.kind}"
            )

    # ---- files

    def _archive(self, kind: str) -> Path:
        return self.outdir / f"images.{kind}"

    def _present(self) -> dict[str, Any]:
        """The record, which is there from the beginning on.

        Raises:
            RuntimeError: if it is gone.
        """
        self.check()
        return self.record()

    def _earlier(self, record: dict[str, Any]) -> "RunFolder":
        return RunFolder(self.outdir, {}, bool(record["settings"].get("subdirs", False)))

    def _remove(self, record: dict[str, Any], seeds: Sequence[int]) -> None:
        """Delete the recorded run's files, or these seeds' if there is no record, and nothing else."""
        if record:
            self._earlier(record).images.remove(parse_seeds(record["seeds"]))
        else:
            self.images.remove(seeds)
        for path in (*map(self._archive, ARCHIVES), self.outdir / SHEET, self.outdir / RECORD):
            path.unlink(missing_ok=True)


def _is_ours(name: str) -> bool:
    """Whether a run writes files of this name."""
    names = {RECORD, SHEET, *(f"images.{kind}" for kind in ARCHIVES)}
    return name in names or IMAGE.fullmatch(name) is not None


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    """Which settings differ, e.g. "skip.bottom=0.7 (now 0.8)"; empty if none does."""
    found = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(_differences(a, b, f"{prefix}{key}."))
        elif a != b:
            found.append(
                f"{prefix}{printable(key, 40)}={printable(a, 40)} (now {printable(b, 40)})"
            )
    return ", ".join(x for x in found if x)
