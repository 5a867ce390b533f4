"""A folder of images: claimed once, continued, never mixed."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnnlib.files
import dnnlib.run_folder
import dnnlib.seed_images
from dnnlib.files import atomic_write
from dnnlib.json_files import read_json_object
from dnnlib.pictures import encode_png
from dnnlib.run_folder import RunFolder

SETTINGS: dict[str, Any] = {"sampler": {"steps": 5, "sigmas": [80.0, 1.0]}, "skip": {"rho": None}}
OTHER: dict[str, Any] = {
    "sampler": {"steps": 6, "sigmas": [80.0, 1.0]},
    "skip": {"rho": [0.5, 0.75]},
}


def image(seed: int) -> np.ndarray:
    return np.full((1, 2, 2), seed % 256, dtype=np.uint8)


def begun(
    outdir: Path, seeds: list[int], made: list[int] | None = None, **settings: Any
) -> RunFolder:
    """A run over `seeds` that was killed after it had `made` some."""
    folder = RunFolder(outdir, settings.pop("settings", SETTINGS), **settings)
    with folder.open(seeds):
        for seed in seeds if made is None else made:
            folder.save(seed, image(seed))
    return folder


def finished(outdir: Path, seeds: list[int], **settings: Any) -> RunFolder:
    folder = RunFolder(outdir, settings.pop("settings", SETTINGS), **settings)
    with folder.open(seeds):
        for seed in folder.missing(seeds):
            folder.save(seed, image(seed))
        if folder.kind != "png":
            folder.pack([seed % 3 for seed in folder.seeds()])
        folder.close({"images": len(seeds)})
    return folder


def opened(folder: RunFolder, seeds: list[int], overwrite: bool = False) -> RunFolder:
    """A run that began and did nothing."""
    with folder.open(seeds, overwrite):
        pass
    return folder


def files(outdir: Path) -> list[str]:
    return sorted(str(p.relative_to(outdir)) for p in outdir.rglob("*") if p.is_file())


def record(outdir: Path) -> dict[str, Any]:
    return read_json_object(outdir / "run.json")


def test_names_are_edms(tmp_path: Path) -> None:
    flat, deep = RunFolder(tmp_path, {}), RunFolder(tmp_path, {}, subdirs=True)
    assert str(flat.images.path(1042).relative_to(tmp_path)) == "001042.png"
    assert str(deep.images.path(1042).relative_to(tmp_path)) == "001000/001042.png"
    assert str(deep.images.path(1234567).relative_to(tmp_path)) == "1234000/1234567.png"


@pytest.mark.parametrize("subdirs", [False, True])
def test_a_run_is_recorded(tmp_path: Path, subdirs: bool) -> None:
    folder = begun(tmp_path / "a" / "b", [0, 1, 1000], [0], subdirs=subdirs)
    assert record(folder.outdir) == {
        "settings": SETTINGS | {"subdirs": subdirs}, "seeds": "0-1,1000", "complete": False, "sessions": [],
    }  # fmt: skip
    assert folder.missing([1000, 0, 1]) == [1000, 1]
    with folder.open([0, 1, 1000]):
        folder.save(1, image(1))
        folder.save(1000, image(1000))
        folder.close({"seconds": 1.5})
    assert record(folder.outdir)["complete"] and record(folder.outdir)["sessions"] == [
        {"seconds": 1.5}
    ]
    assert np.array_equal(folder.images.load(1000), image(1000))


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    begun(tmp_path, [0, 1, 2], [1])
    (tmp_path / ".000002.png.0123abcd.tmp").touch()
    again = RunFolder(tmp_path, SETTINGS)
    opened(again, [0, 1, 2])
    assert again.missing([0, 1, 2]) == [0, 2] and files(tmp_path) == ["000001.png", "run.json"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    """A run beside ours that writes other seeds at this moment, and what has nothing to do with us."""
    kept = [".notes.tmp", ".vimrc.0123abcd.tmp", "000077.png", "sub/.000001.png.0123abcd.tmp"]
    (tmp_path / "sub").mkdir()
    for name in kept:
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "000009.png"):
        begun(tmp_path, [0, 1])
        opened(RunFolder(tmp_path, OTHER), [0], overwrite=True)
    assert files(tmp_path) == sorted([*kept, "000009.png", "run.json"])


@pytest.mark.parametrize("subdirs", [False, True])
def test_what_a_killed_run_left_is_removed_by_any_later_one(tmp_path: Path, subdirs: bool) -> None:
    folder = begun(tmp_path, [0, 1, 7000], subdirs=subdirs)
    for path in (
        folder.images.path(7000),
        folder.images.path(0),
        tmp_path / "run.json",
        tmp_path / "images.zip",
    ):
        path.with_name(f".{path.name}.0123abcd.tmp").touch()
    opened(RunFolder(tmp_path, SETTINGS, subdirs), [1])
    assert [name for name in files(tmp_path) if "tmp" in name] == []


def test_more_seeds_join_and_complete_means_all_of_them(tmp_path: Path) -> None:
    finished(tmp_path, [0, 1])
    begun(tmp_path, [1, 5], [])
    assert record(tmp_path)["seeds"] == "0-1,5" and not record(tmp_path)["complete"]
    finished(tmp_path, [7])  # at the same time, say
    assert not record(tmp_path)["complete"]
    finished(tmp_path, [5])
    assert record(tmp_path)["complete"] and [s["images"] for s in record(tmp_path)["sessions"]] == [
        2,
        1,
        1,
    ]


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    finished(tmp_path, [0])
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError) as error:
        opened(RunFolder(tmp_path, OTHER), [0])
    assert (
        "made with sampler.steps=5 (now 6), skip.rho=None (now [0.5, 0.75]); choose another"
        in str(error.value)
    )
    with pytest.raises(ValueError, match=r"subdirs=False \(now True\)"):
        opened(RunFolder(tmp_path, SETTINGS, subdirs=True), [5])
    long = SETTINGS | {"skip": {"rho": [0.123456789] * 20}}
    with pytest.raises(ValueError) as error:
        opened(RunFolder(tmp_path, long), [0])
    assert len(str(error.value)) < 250
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("subdirs", [False, True])
def test_overwrite_removes_what_the_other_run_made(tmp_path: Path, subdirs: bool) -> None:
    finished(tmp_path, [0, 1, 2000], subdirs=subdirs)
    (tmp_path / "grid.png").touch()
    opened(RunFolder(tmp_path, OTHER), [1], overwrite=True)
    assert os.listdir(tmp_path) == ["run.json"]
    assert record(tmp_path)["seeds"] == "1" and record(tmp_path)["sessions"] == []


def test_overwrite_keeps_what_fits(tmp_path: Path) -> None:
    begun(tmp_path, [0, 1], [1])
    again = RunFolder(tmp_path, SETTINGS)
    opened(again, [0, 1], overwrite=True)
    assert again.missing([0, 1]) == [0]


def test_a_claim_without_images_binds_nobody(tmp_path: Path) -> None:
    """Such as a run that failed in its first batch: trying other settings must be easy."""
    begun(tmp_path, [0, 1], [])
    begun(tmp_path, [5], settings=OTHER)
    assert (
        record(tmp_path)["seeds"] == "5" and record(tmp_path)["settings"]["sampler"]["steps"] == 6
    )


def test_images_of_unknown_origin_are_refused_unless_told(tmp_path: Path) -> None:
    (tmp_path / "000003.png").write_bytes(b"somebody's")
    folder = RunFolder(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=r"no run\.json that says how they were made"):
        opened(folder, [3])
    assert files(tmp_path) == ["000003.png"]
    opened(folder, [3, 4], overwrite=True)
    assert folder.missing([3, 4]) == [3, 4]


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        opened(RunFolder(tmp_path / "file", SETTINGS), [0])
    with pytest.raises(OSError, match="Not a directory"):
        opened(RunFolder(tmp_path / "file" / "sub", SETTINGS), [0])
    with pytest.raises(ValueError):
        RunFolder(tmp_path, {"sigma": float("nan")})


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "3", "[" * 100_000, '{"seeds": "0", "settings": 3, "sessions": []}',
        '{"seeds": 3, "settings": {}, "sessions": []}', '{"seeds": ["0"], "settings": {}, "sessions": []}',
        '{"seeds": "0", "settings": {}, "sessions": "abc"}', '{"seeds": "0", "settings": {}, "sessions": {}}',
        '{"seeds": "0-5-9", "settings": {}, "sessions": []}',
        '{"seeds": "%s", "settings": {}, "sessions": []}' % ("9" * 5000),
        '{"seeds": "\x1b[2J", "settings": {}, "sessions": []}', "\udcff",
    ],
)  # fmt: skip
def test_a_damaged_record_is_named_in_few_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"run\.json is damaged \(") as error:
        opened(RunFolder(tmp_path, SETTINGS), [0])
    assert len(str(error.value)) < 600 and str(error.value).isprintable()


def test_a_record_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "run.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        ValueError, match=r"run\.json is damaged \(it has more than 67,108,864 bytes"
    ):
        opened(RunFolder(tmp_path, SETTINGS), [0])


def test_a_full_disk_leaves_no_half_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(tmp_path, [0, 1], [0])

    class FullDisk:
        def __init__(self, path: Path, mode: str) -> None:
            self.file = open(path, mode)  # noqa: SIM115

        def __enter__(self) -> "FullDisk":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

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
    images = [folder.images.path(seed).read_bytes() for seed in (0, 1)]
    folder.pack(None)
    for seed in (0, 1):
        folder.images.path(seed).write_bytes(images[seed])
    (tmp_path / ".images.zip.0123abcd.tmp").touch()
    opened(RunFolder(tmp_path, SETTINGS, kind="zip"), [0, 1])
    assert files(tmp_path) == ["images.zip", "run.json"]


def test_an_archive_takes_no_more_seeds_and_no_other_kind(tmp_path: Path) -> None:
    finished(tmp_path, [0, 1], kind="zip")
    with pytest.raises(ValueError, match=r"images\.zip holds the seeds 0-1"):
        opened(RunFolder(tmp_path, SETTINGS, kind="zip"), [1, 2])
    with pytest.raises(ValueError, match=r"images\.zip holds these images already; .* for npz"):
        opened(RunFolder(tmp_path, SETTINGS, kind="npz"), [0, 1])
    with pytest.raises(ValueError, match=r"steps=5 \(now 6\)"):
        opened(RunFolder(tmp_path, OTHER, kind="zip"), [0])
    opened(RunFolder(tmp_path, OTHER, kind="png"), [0], overwrite=True)
    assert files(tmp_path) == ["run.json"]


def test_an_archive_needs_the_images_of_earlier_commands(tmp_path: Path) -> None:
    begun(tmp_path, [0, 1, 2, 3], [0])
    with pytest.raises(ValueError, match="still lacks the seeds 1-2 of an earlier command"):
        opened(RunFolder(tmp_path, SETTINGS, kind="npz"), [3])
    finished(tmp_path, [1, 2, 3], kind="npz")
    assert files(tmp_path) == ["images.npz", "run.json"]


# ---- damaged files


def damaged() -> dict[str, bytes]:
    """What a power cut, a full quota or a bad disk make of an image."""
    png = encode_png(image(1))
    data = png.index(b"IDAT")
    return {
        "half": png[: len(png) // 2],
        "pixels": png[: data + 6] + b"\0\1\2" + png[data + 9 :],
        "header": png[:20] + b"\7" + png[21:],
        "length": png[: data - 4] + b"\xff\xff\xff\xff" + png[data:],
        "name": png[:data] + b"I\x01\x02T" + png[data + 4 :],
        "empty": b"",
        "zeros": bytes(len(png)),
        "other": b"<html>",
        "no end": png[:-12],
        "bad end": png[:-12] + b"\0\0\0\5\0\0\0\0xxxxx",
        "only an end": png[:8] + png[-12:],
        "of another size": encode_png(np.zeros((1, 3, 2), np.uint8)),
    }


@pytest.mark.parametrize("how", damaged())
@pytest.mark.parametrize("kind", ["png", "npz"])
def test_a_damaged_image_is_named_and_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, kind: str
) -> None:
    begun(tmp_path, [0, 1, 2])
    (tmp_path / "000001.png").write_bytes(damaged()[how])
    again = RunFolder(tmp_path, SETTINGS, kind=kind, size=(2, 2))
    with again.open([0, 1, 2]):
        assert again.missing([0, 1, 2]) == [1]
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{tmp_path}/000001.png" in line and line.endswith("made again")
        again.save(1, image(1))
        if kind == "npz":
            again.pack(None)
            assert np.load(tmp_path / "images.npz")["arr_0"][1].max() == 1
        assert again.missing([0, 1, 2]) == []


def test_nothing_damaged_is_packed(tmp_path: Path) -> None:
    folder = begun(tmp_path, [0, 1], kind="zip")
    folder.images.path(1).write_bytes(damaged()["pixels"])
    with pytest.raises(ValueError, match=r"000001\.png .* a checksum of the PNG is wrong"):
        folder.pack(None)
    assert files(tmp_path) == ["000000.png", "000001.png", "run.json"]


@pytest.mark.parametrize("kind", ["zip", "npz"])
def test_images_stay_until_the_archive_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A disk that writes something else than it was given."""
    folder = begun(tmp_path, [0, 1], kind=kind)
    check = dnnlib.run_folder.check_archive

    def bad_disk(path: str) -> None:
        with open(path, "r+b") as file:
            file.seek(80)
            file.write(b"\xff\xff\xff")
        check(path)

    with monkeypatch.context() as patch:
        patch.setattr(dnnlib.run_folder, "check_archive", bad_disk)
        with pytest.raises(ValueError, match="is damaged"):
            folder.pack(None)
    assert files(tmp_path) == ["000000.png", "000001.png", "run.json"]


@pytest.mark.parametrize("kind", ["zip", "npz"])
def test_a_flipped_bit_in_a_finished_archive_is_seen(tmp_path: Path, kind: str) -> None:
    finished(tmp_path, [0, 1, 2], kind=kind)
    archive = tmp_path / f"images.{kind}"
    whole = archive.read_bytes()
    place = whole.index(b"IDAT") + 6 if kind == "zip" else whole.index(b"NUMPY") + 130  # of pixels
    for broken in (
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        whole[:-30],
        b"",
    ):
        archive.write_bytes(broken)
        with pytest.raises(
            ValueError,
            match=f"{archive} is damaged .*; remove it, and the same command makes its images",
        ):
            opened(RunFolder(tmp_path, SETTINGS, kind=kind), [0, 1, 2])
    archive.unlink()
    finished(tmp_path, [0, 1, 2], kind=kind)
    assert archive.read_bytes() == whole


# ---- several runs at once


def test_while_a_run_lives_no_other_settings_begin(tmp_path: Path) -> None:
    """Even before its first image, which is when two that are started together meet."""
    with RunFolder(tmp_path, SETTINGS).open([0]):
        for overwrite in (False, True):
            with pytest.raises(
                RuntimeError, match=r"another run is making images with .*steps=5 \(now 6\)"
            ):
                opened(RunFolder(tmp_path, OTHER), [1], overwrite)
    assert (
        record(tmp_path)["seeds"] == "0" and record(tmp_path)["settings"]["sampler"]["steps"] == 5
    )
    opened(RunFolder(tmp_path, OTHER), [1])


def test_runs_with_other_seeds_share_a_folder_and_its_record(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path, SETTINGS), RunFolder(tmp_path, SETTINGS)
    with first.open([0, 1]), second.open([5]):
        assert record(tmp_path)["seeds"] == "0-1,5"
        second.save(5, image(5))
        second.close({"images": 1})
        assert not record(tmp_path)["complete"]
        first.save(0, image(0))
        first.save(1, image(1))
        first.close({"images": 2})
    assert record(tmp_path)["complete"] and [s["images"] for s in record(tmp_path)["sessions"]] == [
        1,
        2,
    ]


@pytest.mark.parametrize(("first", "second"), [("png", "zip"), ("zip", "png"), ("npz", "npz")])
def test_a_run_that_makes_an_archive_is_alone(tmp_path: Path, first: str, second: str) -> None:
    refused = pytest.raises(RuntimeError, match=f"another run is at work in {tmp_path} ")
    with RunFolder(tmp_path, SETTINGS, kind=first).open([0]), refused:
        opened(RunFolder(tmp_path, SETTINGS, kind=second), [0])
    assert files(tmp_path) == ["run.json"]


@pytest.mark.parametrize("subdirs", [False, True])
def test_a_folder_that_is_deleted_during_the_run_stays_deleted(
    tmp_path: Path, subdirs: bool
) -> None:
    outdir = tmp_path / "out"
    folder = RunFolder(outdir, SETTINGS, subdirs)
    with folder.open([0, 1]):
        folder.save(0, image(0))
        shutil.rmtree(outdir)
        for act in (
            lambda: folder.save(1, image(1)),
            folder.flush,
            folder.seeds,
            lambda: folder.close({}),
        ):
            with pytest.raises(RuntimeError, match=f"{outdir} was deleted or moved"):
                act()
    assert not outdir.exists()


def test_what_was_saved_is_flushed_now_and_then_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[list[Path]] = []
    monkeypatch.setattr(dnnlib.seed_images, "flush_to_disk", flushed.append)
    folder = begun(tmp_path, [0, 1, 2], [0, 1])
    folder.flush(least_seconds=3600)
    assert flushed == []
    folder.flush()
    assert flushed == [[folder.images.path(0), folder.images.path(1)]]
    folder.flush()
    assert len(flushed) == 1


def test_a_run_that_fails_without_an_image_leaves_nothing(tmp_path: Path) -> None:
    def fails(outdir: Path, made: list[int]) -> None:
        folder = RunFolder(outdir, SETTINGS)
        with folder.open([0, 1]):
            for seed in made:
                folder.save(seed, image(seed))
            raise ValueError("no")

    for made, left in (([], False), ([0], True)):
        with pytest.raises(ValueError, match="no"):
            fails(tmp_path / "new" / "run", made)
        assert (tmp_path / "new").exists() == left
    begun(tmp_path / "killed", [0, 1], [])
    with pytest.raises(ValueError, match="no"):
        fails(tmp_path / "killed", [])
    assert files(tmp_path / "killed") == ["run.json"]  # an earlier run's


def test_a_record_that_was_changed_is_refused(tmp_path: Path) -> None:
    finished(tmp_path, [0, 1, 2])
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"seeds": "0-2"', '"seeds": "0-1"'))
    with pytest.raises(ValueError, match=r"run\.json is damaged \(its checksum is another"):
        opened(RunFolder(tmp_path, SETTINGS), [0])
    old = json.loads(path.read_text())
    del old["crc32"]  # as older versions wrote it
    path.write_text(json.dumps(old))
    opened(RunFolder(tmp_path, SETTINGS), [0])
