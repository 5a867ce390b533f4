"""A folder of images named by their seeds, with a record of how they were made; a killed run goes on in it."""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.files import atomic_write, remove_partial_files, write_json
from dnnlib.pictures import png_bytes

RECORD = "run.json"
PACKED = {"zip": "images.zip", "npz": "images.npz"}
FORMATS = ("png", *PACKED)


def parse_seeds(text: str) -> list[int]:
    """Seeds from text such as "0-63" or "1,2,5-10", in that order, each once.

    Raises:
        ValueError: if the text is no such list, is empty, or a seed is negative.
    """
    seeds: dict[int, None] = {}
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or ("-" in part and not last):
            raise ValueError(f"seeds {text!r} are not a list such as 0-63 or 1,2,5-10")
        if int(first) > int(last or first):
            raise ValueError(f"seeds {part!r} are empty: {first} is more than {last}")
        seeds |= dict.fromkeys(range(int(first), int(last or first) + 1))
    return list(seeds)


def format_seeds(seeds: Sequence[int]) -> str:
    """The shortest text of sorted seeds that `parse_seeds` reads back."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


class RunFolder:
    """Images <seed>.png below one folder, and run.json beside them.

    Args:
        outdir: the folder; created when the first file is written.
        settings: what determines the images, as JSON; compared with what an existing record says.
        subdirs: put each thousand seeds into a folder of its own.
    """

    def __init__(self, outdir: str | os.PathLike[str], settings: dict[str, Any], subdirs: bool = False) -> None:
        self.outdir, self.subdirs = Path(outdir), subdirs
        self.settings = json.loads(json.dumps({**settings, "subdirs": subdirs}, allow_nan=False))

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
            return record | {"seeds": record["seeds"], "settings": record["settings"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); choose another --outdir or remove it") from error

    def open(self, seeds: Sequence[int], overwrite: bool = False) -> None:
        """Claim the folder for these seeds, or go on with the run that is in it. One process calls this first.

        Args:
            seeds: what will be made now.
            overwrite: remove the images of a run with other settings.
        Raises:
            ValueError: if the folder holds images that were made otherwise.
            OSError: if the folder cannot be written.
        """
        if self.outdir.exists() and not self.outdir.is_dir():
            raise ValueError(f"{self.outdir} is a file; choose a folder as --outdir")
        record = self.record()
        differing = _differences(record.get("settings", self.settings), self.settings)
        if differing and not overwrite:
            raise ValueError(
                f"{self.outdir} holds images made with {differing}; choose another --outdir, or --overwrite"
            )
        if differing:
            self._remove(record)
            record = {}
        if not record and any(self.path(seed).exists() for seed in seeds):
            raise ValueError(f"{self.outdir} holds images but no {RECORD} that says how they were made; choose another")
        made = parse_seeds(record["seeds"]) if record else []
        archive = self.packed()
        if archive is not None and not set(seeds) <= set(made):
            raise ValueError(f"{archive} holds the seeds {record['seeds']}; choose another --outdir for others")
        remove_partial_files(self.outdir)
        record = {
            "settings": self.settings,
            "seeds": format_seeds([*made, *seeds]),
            "complete": bool(record.get("complete")) and set(seeds) <= set(made),
            "nfe": record.get("nfe"),
            "sessions": record.get("sessions", []),
        }
        write_json(self.outdir / RECORD, record)

    def packed(self) -> Path | None:
        """The archive that holds the run's images, if they were packed."""
        return next((self.outdir / n for n in PACKED.values() if (self.outdir / n).exists()), None)

    def seeds(self) -> list[int]:
        """All seeds of the run, earlier sessions' included."""
        return parse_seeds(self.record()["seeds"])

    def missing(self, seeds: Sequence[int]) -> list[int]:
        """The seeds whose images are not there yet."""
        return [seed for seed in seeds if not self.path(seed).exists()]

    def save(self, seed: int, image: np.ndarray) -> None:
        """Write one image, uint8 [C, H, W], atomically."""
        with atomic_write(self.path(seed)) as file:
            file.write(png_bytes(image))

    def load(self, seed: int) -> np.ndarray:
        """Read one image back, uint8 [C, H, W]."""
        with Image.open(self.path(seed)) as image:
            pixels = np.array(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def close(self, nfe: int | None, session: dict[str, Any]) -> None:
        """Mark the run complete, and add what this session did. One process calls this last."""
        record = self.record()
        record |= {"complete": True, "nfe": record["nfe"] if nfe is None else nfe}
        record["sessions"].append(session)
        write_json(self.outdir / RECORD, record)

    def pack(self, kind: str, classes: dict[int, int]) -> Path:
        """Replace the single images by one archive, in the order of the seeds.

        zip is the data set layout of dataset_tool.py; npz holds arr_0 uint8 [N, H, W, C], arr_1 classes, and seeds.

        Args:
            kind: "zip" or "npz".
            classes: class index of each seed; empty for unconditional images.
        """
        seeds = self.seeds()
        archive = self.outdir / PACKED[kind]
        with atomic_write(archive) as file:
            if kind == "zip":
                _write_zip(file, [(self.path(seed).read_bytes(), classes.get(seed)) for seed in seeds])
            else:
                images = np.stack([self.load(seed).transpose(1, 2, 0) for seed in seeds])
                arrays = {"arr_0": images, "seeds": np.array(seeds)}
                if classes:
                    arrays["arr_1"] = np.array([classes[seed] for seed in seeds])
                np.savez(file, **arrays)  # type: ignore[arg-type]
        for seed in seeds:
            self.path(seed).unlink()
        for folder in {self.path(seed).parent for seed in seeds} - {self.outdir}:
            folder.rmdir()
        return archive

    def _remove(self, record: dict[str, Any]) -> None:
        """Delete what the recorded run made, and nothing else."""
        old = RunFolder(self.outdir, {}, record["settings"].get("subdirs", False))
        for seed in parse_seeds(record["seeds"]):
            old.path(seed).unlink(missing_ok=True)
        for name in (*PACKED.values(), RECORD):
            (self.outdir / name).unlink(missing_ok=True)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    """Which settings differ, e.g. "skip.bottom=0.7 (now 0.8)"; empty if none does."""
    found = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(_differences(a, b, f"{prefix}{key}."))
        elif a != b:
            found.append(f"{prefix}{key}={a} (now {b})")
    return ", ".join(x for x in found if x)


def _write_zip(file: Any, members: list[tuple[bytes, int | None]]) -> None:
    labels = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for i, (data, label) in enumerate(members):
            name = f"{i // 1000:05d}/img{i:08d}.png"
            archive.writestr(zipfile.ZipInfo(name), data)  # ZipInfo's fixed date: equal images, equal bytes
            labels.append([name, label])
        known = labels if all(label is not None for _, label in labels) else None
        archive.writestr(zipfile.ZipInfo("dataset.json"), json.dumps({"labels": known}))
