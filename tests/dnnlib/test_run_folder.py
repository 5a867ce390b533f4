"""A folder of images: claimed once, continued, never mixed."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnnlib.files
from dnnlib.run_folder import RunFolder

SETTINGS: dict[str, Any] = {"sampler": {"steps": 5, "sigmas": [80.0, 1.0]}, "skip": {"rho": None}}
OTHER: dict[str, Any] = {"sampler": {"steps": 6, "sigmas": [80.0, 1.0]}, "skip": {"rho": [0.5, 0.75]}}


def image(seed: int) -> np.ndarray:
    return np.full((1, 2, 2), seed % 256, dtype=np.uint8)


def begun(outdir: Path, seeds: list[int], made: list[int] | None = None, **settings: Any) -> RunFolder:
    """A run over `seeds` that was killed after it had `made` some."""
    folder = RunFolder(outdir, settings.pop("settings", SETTINGS), **settings)
    folder.open(seeds)
    for seed in seeds if made is None else made:
        folder.save(seed, image(seed))
    return folder


def finished(outdir: Path, seeds: list[int], **settings: Any) -> RunFolder:
    folder = begun(outdir, seeds, **settings)
    if folder.kind != "png":
        folder.pack([seed % 3 for seed in folder.seeds()])
    folder.close({"images": len(seeds)})
    return folder


def files(outdir: Path) -> list[str]:
    return sorted(str(p.relative_to(outdir)) for p in outdir.rglob("*") if p.is_file())


def record(outdir: Path) -> dict[str, Any]:
    return json.loads((outdir / "run.json").read_text())


def test_names_are_edms(tmp_path: Path) -> None:
    flat, deep = RunFolder(tmp_path, {}), RunFolder(tmp_path, {}, subdirs=True)
    assert str(flat.path(1042).relative_to(tmp_path)) == "001042.png"
    assert str(deep.path(1042).relative_to(tmp_path)) == "001000/001042.png"
    assert str(deep.path(1234567).relative_to(tmp_path)) == "1234000/1234567.png"


@pytest.mark.parametrize("subdirs", [False, True])
def test_a_run_is_recorded(tmp_path: Path, subdirs: bool) -> None:
    folder = begun(tmp_path / "a" / "b", [0, 1, 1000], [0], subdirs=subdirs)
    assert record(folder.outdir) == {
        "settings": SETTINGS | {"subdirs": subdirs}, "seeds": "0-1,1000", "complete": False, "sessions": [],
    }  # fmt: skip
    assert folder.missing([1000, 0, 1]) == [1000, 1]
    folder.save(1, image(1))
    folder.save(1000, image(1000))
    folder.close({"seconds": 1.5})
    assert record(folder.outdir)["complete"] and record(folder.outdir)["sessions"] == [{"seconds": 1.5}]
    assert np.array_equal(folder.load(1000), image(1000))


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    begun(tmp_path, [0, 1, 2], [1])
    (tmp_path / ".000002.png.0123abcd.tmp").touch()
    again = RunFolder(tmp_path, SETTINGS)
    again.open([0, 1, 2])
    assert again.missing([0, 1, 2]) == [0, 2] and files(tmp_path) == ["000001.png", "run.json"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    """A run beside ours that writes other seeds, and what has nothing to do with us."""
    kept = [".000009.png.0123abcd.tmp", ".notes.tmp", ".vimrc.0123abcd.tmp", "000077.png", "sub/.000001.png.0.tmp"]
    (tmp_path / "sub").mkdir()
    for name in kept:
        (tmp_path / name).touch()
    begun(tmp_path, [0, 1])
    RunFolder(tmp_path, OTHER).open([0], overwrite=True)
    assert files(tmp_path) == sorted([*kept, "run.json"])


def test_more_seeds_join_and_complete_means_all_of_them(tmp_path: Path) -> None:
    finished(tmp_path, [0, 1])
    begun(tmp_path, [1, 5], [])
    assert record(tmp_path)["seeds"] == "0-1,5" and not record(tmp_path)["complete"]
    finished(tmp_path, [7])  # at the same time, say
    assert not record(tmp_path)["complete"]
    finished(tmp_path, [5])
    assert record(tmp_path)["complete"] and [s["images"] for s in record(tmp_path)["sessions"]] == [2, 1, 1]


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    finished(tmp_path, [0])
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError) as error:
        RunFolder(tmp_path, OTHER).open([0])
    assert "made with sampler.steps=5 (now 6), skip.rho=None (now [0.5, 0.75]); choose another" in str(error.value)
    with pytest.raises(ValueError, match=r"subdirs=False \(now True\)"):
        RunFolder(tmp_path, SETTINGS, subdirs=True).open([5])
    long = SETTINGS | {"skip": {"rho": [0.123456789] * 20}}
    with pytest.raises(ValueError) as error:
        RunFolder(tmp_path, long).open([0])
    assert len(str(error.value)) < 250
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("subdirs", [False, True])
def test_overwrite_removes_what_the_other_run_made(tmp_path: Path, subdirs: bool) -> None:
    finished(tmp_path, [0, 1, 2000], subdirs=subdirs)
    (tmp_path / "grid.png").touch()
    RunFolder(tmp_path, OTHER).open([1], overwrite=True)
    assert os.listdir(tmp_path) == ["run.json"]
    assert record(tmp_path)["seeds"] == "1" and record(tmp_path)["sessions"] == []


def test_overwrite_keeps_what_fits(tmp_path: Path) -> None:
    begun(tmp_path, [0, 1], [1])
    again = RunFolder(tmp_path, SETTINGS)
    again.open([0, 1], overwrite=True)
    assert again.missing([0, 1]) == [0]


def test_a_claim_without_images_binds_nobody(tmp_path: Path) -> None:
    """Such as a run that failed in its first batch: trying other settings must be easy."""
    begun(tmp_path, [0, 1], [])
    begun(tmp_path, [5], settings=OTHER)
    assert record(tmp_path)["seeds"] == "5" and record(tmp_path)["settings"]["sampler"]["steps"] == 6


def test_images_of_unknown_origin_are_refused_unless_told(tmp_path: Path) -> None:
    (tmp_path / "000003.png").write_bytes(b"somebody's")
    folder = RunFolder(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=r"no run\.json that says how they were made"):
        folder.open([3])
    assert files(tmp_path) == ["000003.png"]
    folder.open([3, 4], overwrite=True)
    assert folder.missing([3, 4]) == [3, 4]


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        RunFolder(tmp_path / "file", SETTINGS).open([0])
    with pytest.raises(OSError, match="Not a directory"):
        RunFolder(tmp_path / "file" / "sub", SETTINGS).open([0])
    for text in ("", "[]", "{}", '{"seeds": "0", "settings": 3, "sessions": []}', '{"seeds": 3, "settings": {}}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            RunFolder(tmp_path, SETTINGS).open([0])
    with pytest.raises(ValueError):
        RunFolder(tmp_path, {"sigma": float("nan")})


def test_a_full_disk_leaves_no_half_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(tmp_path, [0, 1], [0])

    class FullDisk:
        def __init__(self, path: Path, mode: str) -> None:
            self.file = open(path, mode)  # noqa: SIM115

        def __enter__(self) -> "FullDisk":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(dnnlib.files, "open", FullDisk, raising=False)
        with pytest.raises(OSError, match="No space left"):
            folder.save(1, image(1))
    assert files(tmp_path) == ["000000.png", "run.json"] and folder.missing([0, 1]) == [1]


@pytest.mark.parametrize("kind", ["zip", "npz"])
def test_an_archive_replaces_the_images(tmp_path: Path, kind: str) -> None:
    folder = finished(tmp_path, [1000, 2], kind=kind, subdirs=True)
    assert files(tmp_path) == [f"images.{kind}", "run.json"] and len(os.listdir(tmp_path)) == 2
    assert record(tmp_path)["complete"] and folder.missing([2, 1000]) == []
    with np.load(tmp_path / "images.npz") if kind == "npz" else open(os.devnull) as arrays:
        if kind == "npz":
            assert arrays["seeds"].tolist() == [2, 1000] and arrays["arr_1"].tolist() == [2, 1]


def test_an_archive_that_was_killed_before_it_tidied_up(tmp_path: Path) -> None:
    folder = begun(tmp_path, [0, 1], kind="zip")
    images = [folder.path(seed).read_bytes() for seed in (0, 1)]
    folder.pack(None)
    for seed in (0, 1):
        folder.path(seed).write_bytes(images[seed])
    (tmp_path / ".images.zip.0123abcd.tmp").touch()
    RunFolder(tmp_path, SETTINGS, kind="zip").open([0, 1])
    assert files(tmp_path) == ["images.zip", "run.json"]


def test_an_archive_takes_no_more_seeds_and_no_other_kind(tmp_path: Path) -> None:
    finished(tmp_path, [0, 1], kind="zip")
    with pytest.raises(ValueError, match=r"images\.zip holds the seeds 0-1"):
        RunFolder(tmp_path, SETTINGS, kind="zip").open([1, 2])
    with pytest.raises(ValueError, match=r"images\.zip holds these images already; .* --format=npz"):
        RunFolder(tmp_path, SETTINGS, kind="npz").open([0, 1])
    with pytest.raises(ValueError, match=r"steps=5 \(now 6\)"):
        RunFolder(tmp_path, OTHER, kind="zip").open([0])
    RunFolder(tmp_path, OTHER, kind="png").open([0], overwrite=True)
    assert files(tmp_path) == ["run.json"]


def test_an_archive_needs_the_images_of_earlier_commands(tmp_path: Path) -> None:
    begun(tmp_path, [0, 1, 2, 3], [0])
    with pytest.raises(ValueError, match="still lacks the seeds 1-2 of an earlier command"):
        RunFolder(tmp_path, SETTINGS, kind="npz").open([3])
    finished(tmp_path, [1, 2, 3], kind="npz")
    assert files(tmp_path) == ["images.npz", "run.json"]
