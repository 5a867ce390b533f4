"""dataset_tool.py as a user runs it: what it reads, what it writes, what it refuses."""

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import convert, idx, mnist_folder, noise, put, read_as_edm_does, refused, run
from PIL import Image

from dnnlib.claims import claim
from training.dataset import ImageDataset

ROOT = Path(__file__).parents[1]


def test_fashion_mnist_in_a_frame(tmp_path: Path) -> None:
    images, labels = mnist_folder(tmp_path / "mnist")
    dest = tmp_path / "new" / "a.zip"
    summary = convert(tmp_path / "mnist", dest, "--pad", "32x32")
    assert summary == {
        "path": str(dest), "images": 5, "skipped": 0, "cut": 0, "resolution": 32, "channels": 1, "classes": 10
    }  # fmt: skip
    written, written_labels = read_as_edm_does(dest)
    assert np.array_equal(written, np.pad(images, [(0, 0), (2, 2), (2, 2)]))
    assert written_labels == labels

    data = ImageDataset(dest)
    assert data.name == "a" and data.image_shape == (1, 32, 32)
    assert np.array_equal(data.to_tensor()[0][:, 0].numpy(), written)
    assert data.to_tensor()[1].argmax(1).tolist() == labels


@pytest.mark.parametrize("labels", [[2, 0, 1], [[0.1, 2.5], [1, 0], [-3, 0.3]], None])
def test_a_data_set_survives_a_round_trip_bit_by_bit(tmp_path: Path, labels: Any) -> None:
    names = [f"{i}.png" for i in range(3)]
    for image, name in zip(noise(3, 8, 8), names, strict=True):
        put(tmp_path / "in" / name, image)
    pairs = None if labels is None else [list(pair) for pair in zip(names, labels, strict=True)]
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": pairs}))
    convert(tmp_path / "in", tmp_path / "a.zip")
    images, written = read_as_edm_does(tmp_path / "a.zip")
    assert np.array_equal(images, noise(3, 8, 8)) and written == (labels or [])
    convert(tmp_path / "a.zip", tmp_path / "folder")
    convert(tmp_path / "folder", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    if labels is not None:
        assert (tmp_path / "folder" / "00000" / "img00000002.png").is_file()
        assert len(ImageDataset(tmp_path / "folder")) == 3


def test_equal_input_gives_equal_bytes_at_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "in" / "a.png", noise(8, 8))
    convert(tmp_path / "in", tmp_path / "a.zip")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2e9))
    convert(tmp_path / "in", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_metadata_of_the_source_is_not_carried_over(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(8, 8))
    convert(tmp_path / "in", tmp_path / "a.zip")
    put(tmp_path / "in" / "a.png", noise(8, 8), dpi=(300, 300), icc_profile=b"profile")
    assert "dpi" in Image.open(tmp_path / "in" / "a.png").info
    convert(tmp_path / "in", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_thousand_images_a_folder_and_the_first_ones_only(tmp_path: Path) -> None:
    images = noise(1003, 1, 1)
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(1003, dtype=np.uint8)))
    convert(folder, tmp_path / "a.zip")
    assert "00001/img00001002.png" in zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert np.array_equal(read_as_edm_does(tmp_path / "a.zip")[0], images)
    assert convert(folder, tmp_path / "b.zip", "--max-images", 4)["images"] == 4
    assert np.array_equal(read_as_edm_does(tmp_path / "b.zip")[0], images[:4])


def test_bad_folders_are_one_line(tmp_path: Path) -> None:
    source, dest = tmp_path / "in", tmp_path / "out" / "a.zip"
    assert f"{source} does not exist" in refused(source, dest)
    source.mkdir()
    assert f"{source} holds no images" in refused(source, dest)
    put(source / "a.png", noise(4, 6))
    assert "a.png is 6x4; give a square resolution" in refused(source, dest)
    assert "center-crop needs a resolution" in refused(source, dest, "--transform", "center-crop")
    assert "a.png is 6x4, larger than pad 4x4" in refused(source, dest, "--pad", "4x4")
    assert "leave out the split" in refused(source, dest, "--split", "test")
    args = ("--transform", "center-crop-wide", "--resolution", "4x8")
    assert "needs width >= height" in refused(source, dest, *args)
    assert "resolution is 0x4" in refused(source, dest, "--resolution", "0x4")
    assert "'4by4' is no size" in refused(source, dest, "--resolution", "4by4")
    put(source / "a.png", noise(4, 4))
    put(source / "b.png", noise(8, 8))
    assert "b.png is 8x8, those before it 4x4" in refused(source, dest)
    (source / "b.png").write_bytes((source / "a.png").read_bytes()[:40])
    assert "b.png is not an image, or is corrupt" in refused(source, dest)
    (source / "dataset.json").write_text('{"labels": [["a.png", 1]]}')
    assert "no label for 1 of 2 images, the first is b.png" in refused(source, dest)
    assert not dest.parent.exists() or not any(dest.parent.iterdir())


def test_what_exists_is_kept_unless_told(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(4, 4))
    source, packed, folder = tmp_path / "in", tmp_path / "a.zip", tmp_path / "folder"
    for dest in (packed, folder):
        convert(source, dest)
        assert f"{dest} exists already" in refused(source, dest)
        put(source / "b.png", noise(4, 4))
        assert convert(source, dest, "--overwrite")["images"] == 2
        (source / "b.png").unlink()
        assert len(ImageDataset(dest, use_labels=False)) == 2
    assert not list(tmp_path.glob(".*"))

    before = packed.read_bytes()
    put(source / "b.png", noise(8, 8))
    refused(source, packed, "--overwrite")
    refused(source, folder, "--overwrite")
    assert packed.read_bytes() == before and len(ImageDataset(folder, use_labels=False)) == 2

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("text")
    (tmp_path / "plain").write_text("text")
    assert "so no data set; it is not overwritten" in refused(
        source, tmp_path / "precious", "--overwrite"
    )
    assert "it is not overwritten" in refused(source, tmp_path / "plain", "--overwrite")
    assert "would replace the source" in refused(source, source, "--overwrite")
    assert "would replace the source" in refused(source, tmp_path, "--overwrite")


def test_a_folder_whose_run_was_killed_is_made_good_by_the_next(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(4, 4))
    source, dest = tmp_path / "in", tmp_path / "folder"
    partial = tmp_path / ".folder.partial"
    put(partial / "00000" / "img00000007.png", noise(4, 4))  # a run that was killed while it wrote
    (partial / "dataset.json").write_text("{")
    convert(source, dest)
    assert len(ImageDataset(dest, use_labels=False)) == 1 and not list(tmp_path.glob(".*"))

    dest.rename(tmp_path / ".folder.old")  # and one between its two renames
    result = run("--source", source, "--dest", dest)
    assert result.exit_code == 2 and f"{dest} exists already" in result.stderr
    assert len(ImageDataset(dest, use_labels=False)) == 1 and not list(tmp_path.glob(".*"))

    with claim(partial):
        result = run("--source", source, "--dest", dest, "--overwrite")
        assert result.exit_code == 2 and "another run is at work in" in result.stderr
    convert(source, dest, "--overwrite")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "A.NPZ", "a.lmdb"])
def test_a_dest_that_is_no_zip_in_spite_of_its_name_is_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path / "in" / "a.png", noise(4, 4))
    assert "data sets are *.zip, or folders" in refused(tmp_path / "in", tmp_path / name)


def test_a_dest_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(4, 4))
    (tmp_path / "file").write_text("")
    for name in ("a.zip", "folder"):
        message = refused(tmp_path / "in", tmp_path / "file" / name)
        assert f"cannot write {tmp_path / 'file' / name}" in message


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    put(tmp_path / "in" / "a.png", noise(4, 4))
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    for name in ("a.zip", "folder"):
        message = refused(tmp_path / "in", tmp_path / name)
        assert message == f"Error: cannot write {tmp_path / name}: No space left on device"


def test_the_program_itself(tmp_path: Path) -> None:
    mnist_folder(tmp_path / "mnist")
    command = [sys.executable, "dataset_tool.py", "--source", str(tmp_path / "mnist"), "--dest"]
    done = subprocess.run(
        [*command, tmp_path / "a.zip"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["images"] == 5  # nothing else on stdout
    assert "5/5" in done.stderr
    failed = subprocess.run(
        [*command, tmp_path / "a.zip"], cwd=ROOT, capture_output=True, text=True
    )
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1

    help_text = run("--help").output
    assert "--pad 32x32" in help_text and "--source" in help_text


def test_a_killed_run_leaves_no_dest(tmp_path: Path) -> None:
    folder, dest = tmp_path / "mnist", tmp_path / "out" / "a.zip"
    folder.mkdir()
    count = 200_000
    (folder / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((count, 8, 8), np.uint8)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(count, np.uint8)))
    command = [sys.executable, "dataset_tool.py", "--source", str(folder), "--dest", str(dest)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not list(dest.parent.glob(".*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not dest.exists()
    # SIGKILL leaves no time to clean up; the next run does.
    assert len(list(dest.parent.iterdir())) == 1
    convert(folder, dest, "--max-images", 2)
    assert list(dest.parent.iterdir()) == [dest] and len(ImageDataset(dest)) == 2
