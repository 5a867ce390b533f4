"""A folder of images named by their seeds, with a record of how they were made; a killed run goes on in it."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.archives import ARCHIVES
from dnnlib.files import atomic_write, write_json
from dnnlib.pictures import decode_png, encode_png
from dnnlib.seeds import Seeds, format_seeds, parse_seeds

RECORD, SHEET = "run.json", "grid.png"
FORMATS = ("png", *ARCHIVES)


class RunFolder:
    """Images <seed>.png below one folder, or images.zip or .npz in their place, and run.json beside them.

    Several runs with the same settings and other seeds may share a folder, also at the same time.

    Args:
        outdir: the folder; created by `open`.
        settings: what determines the images, as JSON; compared with what an existing record says.
        subdirs: put each thousand seeds into a folder of its own.
        kind: one of FORMATS: "png", or the archive that `pack` makes at the end.
        sheet: there shall be a contact sheet of the images, made before they are packed.
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
    ) -> None:
        if not os.fspath(outdir):
            raise ValueError("--outdir is empty; name a folder, . for the one you are in")
        self.outdir, self.subdirs, self.kind, self.sheet = Path(outdir), subdirs, kind, sheet
        self.settings: dict[str, Any] = json.loads(json.dumps({**settings, "subdirs": subdirs}, allow_nan=False))

    def path(self, seed: int) -> Path:
        """Where the image of `seed` is."""
        folder = self.outdir / f"{seed - seed % 1000:06d}" if self.subdirs else self.outdir
        return folder / f"{seed:06d}.png"

    def record(self) -> dict[str, Any]:
        """The folder's run.json, empty if there is none.

        Raises:
            ValueError: if it cannot be read.
        """
        path = self.outdir / RECORD
        if not path.exists():
            return {}
        try:
            record = json.loads(path.read_text())
            parse_seeds(record["seeds"])
            return {**record, "settings": dict(record["settings"]), "sessions": list(record["sessions"])}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}); choose another --outdir or remove it") from error

    def open(self, seeds: Sequence[int], overwrite: bool = False) -> None:
        """Claim the folder for these seeds, or go on with the run that is in it. One process calls this first.

        Args:
            seeds: what will be made now.
            overwrite: remove images that were made otherwise.
        Raises:
            ValueError: if the folder holds images that were made otherwise, or an archive that these seeds or this
                kind do not fit.
            OSError: if the folder cannot be written.
        """
        if self.outdir.exists() and not self.outdir.is_dir():
            raise ValueError(f"{self.outdir} is a file; choose a folder as --outdir")
        record = self.record()
        problem = self._other_images(record, seeds)
        if problem and not overwrite:
            raise ValueError(f"{self.outdir} holds images {problem}; choose another --outdir, or --overwrite them")
        if problem:
            self._remove(record, seeds)
        if problem or (record and _differences(record["settings"], self.settings)):
            record = {}  # made otherwise, and now without images
        made = parse_seeds(record["seeds"]) if record else []
        self._check_archive(made, seeds)
        if self.packed():
            self._remove_images(made)  # a run that was killed while it packed
        self._remove_partial_files(seeds)
        claim = {"settings": self.settings, "seeds": format_seeds([*made, *seeds]), "complete": False}
        write_json(self.outdir / RECORD, {**claim, "sessions": record.get("sessions", [])})

    def packed(self) -> Path | None:
        """The archive that holds the run's images, if they were packed."""
        return next((self._archive(kind) for kind in ARCHIVES if self._archive(kind).exists()), None)

    def seeds(self) -> Seeds:
        """All seeds of the folder, earlier sessions' included, in ascending order."""
        return parse_seeds(self.record()["seeds"])

    def missing(self, seeds: Sequence[int]) -> list[int]:
        """The seeds whose images are not there yet."""
        return [] if self.packed() else [seed for seed in seeds if not self.path(seed).exists()]

    def save(self, seed: int, image: np.ndarray) -> None:
        """Write one image, uint8 [C, H, W], atomically."""
        with atomic_write(self.path(seed)) as file:
            file.write(encode_png(image))

    def load(self, seed: int) -> np.ndarray:
        """Read one image back, uint8 [C, H, W]."""
        return decode_png(self.path(seed).read_bytes(), str(self.path(seed)))

    def pack(self, classes: Sequence[int] | None) -> Path:
        """Replace the single images by one archive, in the order of `seeds()`.

        Args:
            classes: class index of each; None for unconditional images.
        """
        seeds, archive = self.seeds(), self._archive(self.kind)
        with atomic_write(archive) as file:
            ARCHIVES[self.kind](file, (self.path(seed).read_bytes() for seed in seeds), seeds, classes)
        self._remove_images(seeds)
        return archive

    def close(self, session: dict[str, Any]) -> None:
        """Add what this session did to the record. One process calls this last."""
        record = self.record()
        record["complete"] = not self.missing(self.seeds())
        record["sessions"].append(session)
        write_json(self.outdir / RECORD, record)

    def _archive(self, kind: str) -> Path:
        return self.outdir / f"images.{kind}"

    def _other_images(self, record: dict[str, Any], seeds: Sequence[int]) -> str:
        """How images in the folder were made, if otherwise than these will be; a record without images is none."""
        if not record:
            unknown = any(self.path(seed).exists() for seed in seeds) or self.packed()
            return f"but no {RECORD} that says how they were made" if unknown else ""
        differing = _differences(record["settings"], self.settings)
        if not differing:
            return ""
        made = parse_seeds(record["seeds"])
        return f"made with {differing}" if len(self._earlier(record).missing(made)) < len(made) else ""

    def _check_archive(self, made: Sequence[int], seeds: Sequence[int]) -> None:
        archive = self.packed()
        if archive is not None and archive != self._archive(self.kind):
            raise ValueError(f"{archive} holds these images already; choose another --outdir for --format={self.kind}")
        if archive is not None and not set(seeds) <= set(made):
            raise ValueError(f"{archive} holds the seeds {format_seeds(made)}; choose another --outdir for others")
        if archive is not None and self.sheet and not (self.outdir / SHEET).exists():
            raise ValueError(f"{archive} is packed: for a contact sheet make its images again, in another --outdir")
        others = set() if self.kind == "png" else set(self.missing(made)) - set(seeds)
        if others:
            raise ValueError(
                f"{self.outdir} still lacks the seeds {format_seeds([*others])} of an earlier command; "
                f"add them to --seeds, or choose another --outdir for --format={self.kind}"
            )

    def _earlier(self, record: dict[str, Any]) -> "RunFolder":
        return RunFolder(self.outdir, {}, record["settings"].get("subdirs", False))

    def _remove(self, record: dict[str, Any], seeds: Sequence[int]) -> None:
        """Delete the recorded run's files, or these seeds' if there is no record, and nothing else."""
        if record:
            self._earlier(record)._remove_images(parse_seeds(record["seeds"]))
        else:
            self._remove_images(seeds)
        for path in (*map(self._archive, ARCHIVES), self.outdir / SHEET, self.outdir / RECORD):
            path.unlink(missing_ok=True)

    def _remove_images(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            self.path(seed).unlink(missing_ok=True)
        for folder in {self.path(seed).parent for seed in seeds} - {self.outdir}:
            with contextlib.suppress(OSError):  # absent, or the user keeps something in it
                folder.rmdir()

    def _remove_partial_files(self, seeds: Sequence[int]) -> None:
        """Delete what a killed run left of `atomic_write`, but not what another run is writing at this moment."""
        ours = {self.path(seed).name for seed in seeds} | {self._archive(self.kind).name, SHEET}
        for folder in {self.path(seed).parent for seed in seeds} | {self.outdir}:
            for partial in folder.glob(".*.tmp"):
                if partial.name[1:].rsplit(".", 2)[0] in ours:
                    partial.unlink(missing_ok=True)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    """Which settings differ, e.g. "skip.bottom=0.7 (now 0.8)"; empty if none does."""
    found = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(_differences(a, b, f"{prefix}{key}."))
        elif a != b:
            found.append(f"{prefix}{key}={_short(a)} (now {_short(b)})")
    return ", ".join(x for x in found if x)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."
