"""Each kind of source, read to the last pixel, and each way in which it can be damaged."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
from dataset_files import cifar, convert, idx, mnist_folder, noise, put, read_as_edm_does, refused, tar_gz


def test_idx_splits_and_single_files(tmp_path: Path) -> None:
    images, _ = mnist_folder(tmp_path / "mnist")
    convert(tmp_path / "mnist", tmp_path / "test.zip", "--split", "test")
    convert(tmp_path / "mnist" / "t10k-images-idx3-ubyte", tmp_path / "one.zip")
    convert(tmp_path / "mnist" / "train-images-idx3-ubyte.gz", tmp_path / "none.zip", "--labels", "none")
    for name, expected in (("test", (images[:2] ^ 255, [9, 8])), ("none", (images, []))):
        written, written_labels = read_as_edm_does(tmp_path / f"{name}.zip")
        assert np.array_equal(written, expected[0]) and written_labels == expected[1]
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "test.zip").read_bytes()


def test_cifar10_binary(tmp_path: Path) -> None:
    batches = [cifar(2, first) for first in range(6)]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    source = tar_gz(
        tmp_path / "cifar-10-binary.tar.gz",
        {f"cifar-10-batches-bin/{n}.bin": b[0] for n, b in zip(names, batches, strict=True)},
    )
    convert(source, tmp_path / "train.zip")
    images, labels = read_as_edm_does(tmp_path / "train.zip")
    assert np.array_equal(images, np.concatenate([b[1] for b in batches[:5]]))
    assert labels == [label for b in batches[:5] for label in b[2]]
    assert convert(source, tmp_path / "test.zip", "--split", "test")["images"] == 2
    assert np.array_equal(read_as_edm_does(tmp_path / "test.zip")[0], batches[5][1])


def test_top_level_folders_are_classes(tmp_path: Path) -> None:
    images = noise(3, 8, 8, 3)
    for image, name in zip(images, ("cat/deep/b.png", "cat/z.png", "dog/a.PNG"), strict=True):
        put(tmp_path / "in" / name, image)
    put(tmp_path / "in" / ".hidden.png", images[0])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert convert(tmp_path / "in", tmp_path / "a.zip")["classes"] == 2
    written, labels = read_as_edm_does(tmp_path / "a.zip")
    assert np.array_equal(written, images) and labels == [0, 0, 1]
    convert(tmp_path / "in", tmp_path / "b.zip", "--labels", "none")
    assert read_as_edm_does(tmp_path / "b.zip")[1] == []
    put(tmp_path / "in" / "stray.png", images[0])
    assert convert(tmp_path / "in", tmp_path / "c.zip")["classes"] == 0
    message = refused(tmp_path / "in", tmp_path / "d.zip", "--labels", "folders")
    assert "stray.png is in no sub-folder" in message


def test_bad_idx_files_are_one_line(tmp_path: Path) -> None:
    folder, dest = tmp_path / "mnist", tmp_path / "a.zip"
    mnist_folder(folder)
    images, labels = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    good = images.read_bytes()
    for data, message in (
        (good[:-20], f"cannot read {images}"),
        (b"no gzip", f"cannot read {images}"),
        (gzip.compress(b"no idx"), "is not an idx file"),
        (gzip.compress(gzip.decompress(good)[:-1]), "[5, 28, 28] needs 3920 values, it holds 3919"),
        (gzip.compress(idx(noise(0, 28, 28))), "is damaged"),
        (gzip.compress(idx(noise(4, 28, 28))), f"{images} has 4 images, {labels} 5 labels"),
    ):
        images.write_bytes(data)
        assert message in refused(folder, dest)
    labels.unlink()
    assert "needs its labels beside it" in refused(folder, dest)
    images.unlink()
    assert "has no train-images-idx3-ubyte[.gz], the train split" in refused(folder, dest)
    one = folder / "t10k-images-idx3-ubyte"
    assert "one file of one split" in refused(one, dest, "--split", "test")
    assert "has its own labels" in refused(one, dest, "--labels", "folders")


def test_bad_archives_are_one_line(tmp_path: Path) -> None:
    dest = tmp_path / "out.zip"
    prefix = "cifar-10-batches-bin/data_batch_"
    good = {f"{prefix}{i}.bin": cifar(1)[0] for i in range(1, 6)}
    for members, message in (
        ({"cifar-10-batches-py/data_batch_1": b"pickle"}, "give the binary version, cifar-10-binary.tar.gz"),
        ({**good, f"{prefix}2.bin": cifar(1)[0][:-1]}, f"{prefix}2.bin in "),
        ({**good, f"{prefix}3.bin": b""}, "is damaged: 0 bytes"),
        ({**good, f"{prefix}4.bin": b"\x0a" + cifar(1)[0][1:]}, "has the label 10"),
        ({f"../../{name}": data for name, data in good.items()}, f"lacks {prefix}1.bin"),
    ):
        assert message in refused(tar_gz(tmp_path / "c.tar.gz", members), dest)
    (tmp_path / "c.tar.gz").write_bytes(b"no tar")
    assert "cannot read" in refused(tmp_path / "c.tar.gz", dest)
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert "is not a zip file" in refused(tmp_path / "a.zip", dest)
    (tmp_path / "a.bin").write_bytes(b"what is it")
    assert "is of no known format; expected a folder, a .zip" in refused(tmp_path / "a.bin", dest)


def test_names_that_leave_the_archive_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.png", noise(4, 4))
    for name in ("../a.png", "/a.png", "x/../../a.png", "..\\a.png"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(tmp_path / "a.png", name)
            archive.filelist[0].filename = name  # `write` would tidy an absolute name
        assert "unsafe name" in refused(tmp_path / "a.zip", tmp_path / "out.zip")
