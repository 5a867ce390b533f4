"""Each kind of source, read to the last pixel, and each way in which it can be damaged."""

import gzip
import io
import json
import os
import pickle
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import (
    cifar,
    convert,
    idx,
    mnist_folder,
    noise,
    put,
    python2_batch,
    read_as_edm_does,
    refused,
    run,
    tar_gz,
)
from PIL import Image

from training.data import cifar as dataset_cifar
from training.data import image_files
from training.dataset import ImageDataset


def test_idx_splits_and_single_files(tmp_path: Path) -> None:
    images, _ = mnist_folder(tmp_path / "mnist")
    convert(tmp_path / "mnist", tmp_path / "test.zip", "--split", "test")
    convert(tmp_path / "mnist" / "t10k-images-idx3-ubyte", tmp_path / "one.zip")
    convert(
        tmp_path / "mnist" / "train-images-idx3-ubyte.gz", tmp_path / "none.zip", "--labels", "none"
    )
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


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10_python(tmp_path: Path, protocol: int) -> None:
    """The same files as the binary version's, byte for byte: as published, and as Python 3 would write them."""
    planes, labels = noise(12, 3072), [(7 * i) % 10 for i in range(12)]
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    packed, binary = {}, {}
    for i, name in enumerate(names):
        data, classes = planes[2 * i : 2 * i + 2], labels[2 * i : 2 * i + 2]
        items = {"batch_label": name, "labels": classes, "filenames": ["a.png", "b.png"]}
        as_python3 = {b"data": data, **{key.encode(): value for key, value in items.items()}}
        packed[f"cifar-10-batches-py/{name}"] = (
            python2_batch(data, **items) if protocol == 2 else pickle.dumps(as_python3, protocol)
        )
        records = [bytes([label]) + row.tobytes() for label, row in zip(classes, data, strict=True)]
        binary[f"cifar-10-batches-bin/{name}.bin"] = b"".join(records)
    assert (
        pickle.loads(packed["cifar-10-batches-py/test_batch"], encoding="bytes")[b"labels"]
        == labels[10:]
    )

    source = tar_gz(
        tmp_path / "cifar-10-python.tar.gz",
        {"cifar-10-batches-py/batches.meta": b"not read", **packed},
    )
    for split in ("train", "test"):
        convert(source, tmp_path / f"a-{split}.zip", "--split", split)
        convert(
            tar_gz(tmp_path / "b.tar.gz", binary), tmp_path / f"b-{split}.zip", "--split", split
        )
        assert (tmp_path / f"a-{split}.zip").read_bytes() == (
            tmp_path / f"b-{split}.zip"
        ).read_bytes()

    for name, content in packed.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    convert(tmp_path / "cifar-10-batches-py", tmp_path / "c.zip")
    assert (tmp_path / "c.zip").read_bytes() == (tmp_path / "a-train.zip").read_bytes()


def test_cifar100_has_its_fine_classes(tmp_path: Path) -> None:
    planes, fine, coarse = noise(3, 3072), [99, 0, 42], [19, 0, 8]
    batch = python2_batch(planes, fine_labels=fine, coarse_labels=coarse)
    source = tar_gz(
        tmp_path / "a.tar.gz", {"cifar-100-python/train": batch, "cifar-100-python/test": batch}
    )
    assert convert(source, tmp_path / "a.zip")["classes"] == 100
    images, labels = read_as_edm_does(tmp_path / "a.zip")
    assert labels == fine and np.array_equal(
        images, planes.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1)
    )
    records = b"".join(
        bytes([c, f]) + row.tobytes() for c, f, row in zip(coarse, fine, planes, strict=True)
    )
    source = tar_gz(tmp_path / "b.tar", {"cifar-100-binary/train.bin": records})
    convert(source, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def test_a_pickle_of_cifar_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for batch, message in (
        ({b"data": noise(1, 3072), b"labels": Hostile()}, "safe loading refuses posix.system"),
        ({b"data": noise(1, 3072), b"labels": [10]}, "has the label 10, outside 0 ... 9"),
        ({b"data": noise(1, 3072), b"labels": ["1"]}, "not all integers"),
        ({b"data": noise(1, 3072), b"labels": [2**70]}, "not all small integers"),
        (
            {b"data": noise(1, 3071), b"labels": [1]},
            "is damaged: 1 labels for images of the shape [1, 3071]",
        ),
        (
            {b"data": noise(1, 3072).astype(float), b"labels": [1]},
            "is no dict of data (uint8) and labels",
        ),
        ([1], "is no dict of data"),
    ):
        source = tar_gz(
            tmp_path / "c.tar.gz", {"cifar-10-batches-py/data_batch_1": pickle.dumps(batch, 4)}
        )
        assert message in refused(source, tmp_path / "a.zip")
    assert not (tmp_path / "ran").exists()


def test_lmdb_is_told_how_to_get_out(tmp_path: Path) -> None:
    put(tmp_path / "cat_lmdb" / "a.png", noise(4, 4))
    (tmp_path / "cat_lmdb" / "data.mdb").write_bytes(bytes(64))
    for source in (tmp_path / "cat_lmdb", tmp_path / "cat_lmdb" / "data.mdb"):
        assert "is an LMDB database" in refused(source, tmp_path / "a.zip")
    assert "LMDB" in (Path(__file__).parents[3] / "docs" / "training.md").read_text()


def test_linked_folders_and_images_count(tmp_path: Path) -> None:
    images = noise(4, 8, 8)
    for image, name in zip(
        images, ("store/a/0.png", "store/b/0.png", "in/c/0.png", "store/d.png"), strict=True
    ):
        put(tmp_path / name, image)
    (tmp_path / "in" / "a").symlink_to("../store/a")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "store" / "b")
    (tmp_path / "in" / "c" / "d.png").symlink_to("../../store/d.png")
    (tmp_path / "in" / "c" / "loop").symlink_to("..")
    assert convert(tmp_path / "in", tmp_path / "a.zip")["classes"] == 3
    written, labels = read_as_edm_does(tmp_path / "a.zip")
    assert labels == [0, 1, 2, 2] and np.array_equal(written, images)

    (tmp_path / "in" / "b").unlink()
    (tmp_path / "in" / "b").symlink_to("../gone")
    assert "in/b is a link to ../gone, which leads nowhere" in refused(
        tmp_path / "in", tmp_path / "b.zip"
    )


def test_links_that_multiply_are_refused(tmp_path: Path) -> None:
    for level in range(12):  # two ways down at each level: 4096 to the last
        (tmp_path / "in" / str(level)).mkdir(parents=True)
        for way in "xy":
            (tmp_path / "in" / str(level) / way).symlink_to(f"../{level + 1}")
    put(tmp_path / "in" / "12" / "a.png", noise(4, 4))
    assert "in more than 64 ways" in refused(tmp_path / "in", tmp_path / "a.zip")


LABELS = json.dumps({"labels": [["00000/0.png", 1], ["00000/1.png", 0]]}).encode()


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), shade).save(file, "png")
    return file.getvalue()


def said(source: Path, dest: Path, *args: object) -> tuple[list[Any], str]:
    """The labels, and what the tool said of them."""
    result = run("--source", source, "--dest", dest, "--overwrite", *args)
    assert result.exit_code == 0, result.output
    return read_as_edm_does(dest)[1], result.stderr


def test_a_folder_that_was_zipped_as_a_whole_keeps_its_labels(tmp_path: Path) -> None:
    a, b = png(1), png(2)
    dest = tmp_path / "out.zip"
    for members, expected in (
        ({"mydata/dataset.json": LABELS, "mydata/00000/0.png": a, "mydata/00000/1.png": b}, [1, 0]),
        ({"x/mydata/dataset.json": LABELS, "x/mydata/00000/0.png": a, "x/mydata/00000/1.png": b}, [1, 0]),
        ({"mydata\\dataset.json": LABELS, "mydata\\00000\\0.png": a, "mydata\\00000\\1.png": b}, [1, 0]),
        ({"mydata/dataset.json": LABELS.replace(b"0000", b"mydata/0000"), "mydata/00000/0.png": a,
          "mydata/00000/1.png": b}, [1, 0]),
        ({"dataset.json": LABELS.replace(b"/", b"\\\\"), "00000/0.png": a, "00000/1.png": b}, [1, 0]),
        ({"mydata/dog/0.png": a, "mydata/cat/1.png": b, "__MACOSX/mydata/cat/._1.png": b"x"}, [0, 1]),
        ({"dog\\0.png": a, "cat\\1.png": b}, [0, 1]),
    ):  # fmt: skip
        source = packed(tmp_path / "in.zip", members)
        assert said(source, dest)[0] == expected, members
        if not any("\\" in name for name in members):
            with zipfile.ZipFile(source) as archive:
                archive.extractall(tmp_path / "unpacked")
            assert said(tmp_path / "unpacked", dest)[0] == expected
            shutil.rmtree(tmp_path / "unpacked")
    source = packed(
        tmp_path / "a.zip", {"m/dataset.json": LABELS, "m/00000/0.png": a, "m/00000/1.png": b}
    )
    assert ImageDataset(source)[0][1].tolist() == [0, 1]


def test_names_as_windows_writes_them_in_a_folder(tmp_path: Path) -> None:
    for name, image in (("dog\\0.png", noise(4, 4)), ("cat\\1.png", noise(4, 4) ^ 1)):
        put(tmp_path / "in" / name, image)
    assert said(tmp_path / "in", tmp_path / "a.zip")[0] == [0, 1]
    put(tmp_path / "in" / "dog" / "0.png", noise(4, 4))
    assert "holds both dog/0.png and dog\\0.png" in refused(tmp_path / "in", tmp_path / "b.zip")


def test_labels_that_are_dropped_are_told_and_why(tmp_path: Path) -> None:
    dest = tmp_path / "out.zip"
    two = {"cat/0.png": png(1), "dog/0.png": png(2)}
    labels, words = said(packed(tmp_path / "a.zip", two), dest)
    assert labels == [0, 1] and "2 classes, by folders: cat, dog" in words
    labels, words = said(packed(tmp_path / "a.zip", {**two, "preview.png": png(3)}), dest)
    assert (
        labels == []
        and "no labels: preview.png in " in words
        and "in none of the folders beside it (cat, dog)" in words
    )
    labels, words = said(
        packed(tmp_path / "a.zip", {**two, "dataset.json": b'{"labels": null}'}), dest
    )
    assert labels == [] and "no labels: dataset.json says null" in words
    labels, words = said(packed(tmp_path / "a.zip", {**two, "cat/dataset.json": b"{}"}), dest)
    assert labels == [0, 1] and "cat/dataset.json is passed over" in words
    for names in (
        ("00000/img00000000.png", "00001/img00001000.png"),
        ("000000/000000.png", "001000/001000.jpg"),
    ):
        chunks = packed(tmp_path / "a.zip", {name: png(i) for i, name in enumerate(names)})
        labels, words = said(chunks, dest)
        assert labels == [] and "only divide the numbered images" in words
        assert said(chunks, dest, "--labels", "folders")[0] == [0, 1]
    # The latter is of the second thousand, but by no folder of ours.
    for second in ("1/00013.png", "1/01013.png"):
        digits = packed(tmp_path / "a.zip", {"0/00012.png": png(1), second: png(2)})
        assert said(digits, dest)[0] == [0, 1]


def test_copies_that_systems_make_are_no_images(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(4, 4))
    for name in ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._a.png", "._a.png", ".ipynb_checkpoints/a.png",
                 "#recycle/a.png", "$RECYCLE.BIN/a.png", ".thumbnails/a.png", "@Recycle/a.png"):  # fmt: skip
        put(tmp_path / "in" / name, noise(8, 8), format="png")
    (tmp_path / "in" / "Thumbs.db").write_bytes(b"thumbs")
    assert convert(tmp_path / "in", tmp_path / "a.zip")["images"] == 1
    members = {
        p.relative_to(tmp_path / "in").as_posix(): p.read_bytes() for p in walked(tmp_path / "in")
    }
    summary = convert(packed(tmp_path / "in.zip", members), tmp_path / "b.zip")
    assert summary["images"] == 1 and summary["skipped"] == 0


def walked(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_suffix_of_a_picture_is_read_or_named(tmp_path: Path) -> None:
    image = Image.fromarray(noise(16, 16))
    kinds = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.avif": "AVIF", "d.jp2": "JPEG2000", "e.jpf": "JPEG2000",
             "f.j2k": "JPEG2000", "g.ppm": "PPM", "h.pgm": "PPM", "i.tif": "TIFF", "j.jpg2000": "JPEG2000",
             "k.JPG": "JPEG", "l.dib": "BMP", "m.apng": "PNG"}  # fmt: skip
    for name, kind in kinds.items():
        put(tmp_path / "in" / name, image, format=kind)
    assert convert(tmp_path / "in", tmp_path / "a.zip")["images"] == len(kinds)
    (tmp_path / "in" / "n.heic").write_bytes(b"heic")
    (tmp_path / "in" / "o.tga").write_bytes(b"tga")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    result = run("--source", tmp_path / "in", "--dest", tmp_path / "b.zip")
    assert json.loads(result.stdout)["skipped"] == 2
    assert (
        "left out: 2 pictures of formats that are not read (.heic, .tga), the first is n.heic"
        in result.stderr
    )
    with pytest.raises(
        ValueError, match=r"2 pictures of formats that are not read .*n\.heic: convert or remove"
    ):
        ImageDataset(tmp_path / "in", use_labels=False)
    for name in kinds:
        (tmp_path / "in" / name).unlink()
    assert "2 are of other formats, the first is n.heic" in refused(
        tmp_path / "in", tmp_path / "c.zip"
    )


def frames(kind: str, count: int) -> bytes:
    """A picture of `count` frames or pages, unlike one another."""
    first, *others = [Image.fromarray(np.full((8, 8, 3), 60 * i, np.uint8)) for i in range(count)]
    file = io.BytesIO()
    first.save(
        file,
        kind,
        save_all=True,
        append_images=others,
        **({} if kind == "TIFF" else {"duration": 100}),
    )
    return file.getvalue()


def test_pictures_of_several_frames_are_cut_to_the_first_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {
        "a.gif": "GIF",
        "b.webp": "WEBP",
        "c.png": "PNG",
        "d.tiff": "TIFF",
        "e.avif": "AVIF",
        "f.mpo": "MPO",
    }
    many = packed(tmp_path / "many.zip", {name: frames(kind, 3) for name, kind in kinds.items()})
    result = run("--source", many, "--dest", tmp_path / "a.zip")
    assert (json.loads(result.stdout)["images"], json.loads(result.stdout)["cut"]) == (6, 5)
    assert "cut: 5 pictures to their first frame or page, such as a.gif\n" in result.stderr
    written, _ = read_as_edm_does(tmp_path / "a.zip")
    assert written.max() < 8  # the first frame is black, but for AVIF's and JPEG's rounding

    one = packed(
        tmp_path / "one.zip",
        {name: frames(kind, 1) for name, kind in kinds.items() if kind != "MPO"},
    )
    result = run("--source", one, "--dest", tmp_path / "b.zip")
    assert json.loads(result.stdout)["cut"] == 0 and "cut:" not in result.stderr

    capsys.readouterr()
    dataset = ImageDataset(many, use_labels=False)
    dataset.to_tensor()
    words = f"Warning: a.gif in {many} holds several frames or pages; of such files the first is taken\n"
    assert len(dataset) == 6 and capsys.readouterr().err == words


def test_a_damaged_second_frame_leaves_the_first(tmp_path: Path) -> None:
    whole = frames("GIF", 2)
    for length in range(len(whole) - 30, len(whole)):
        put(tmp_path / "in" / "good.png", noise(8, 8, 3))
        (tmp_path / "in" / "a.gif").write_bytes(whole[:length])
        assert convert(tmp_path / "in", tmp_path / "a.zip", "--overwrite")["images"] == 2


def test_archives_among_the_images_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = packed(tmp_path / "inner.zip", {"x.png": png(1), "y.png": png(2)}).read_bytes()
    outer = packed(
        tmp_path / "outer.zip",
        {"a.png": png(1), "more/b.zip": inner, "more/c.TAR.gz": b"", "t.txt": b""},
    )
    words = f"passed over: 2 archives within {outer}, the first is more/b.zip; unpack what belongs to it\n"
    assert run("--source", outer, "--dest", tmp_path / "a.zip").stderr.startswith(words)
    capsys.readouterr()
    assert (
        len(ImageDataset(outer, use_labels=False)) == 1
        and capsys.readouterr().err == f"Warning: {words}"
    )

    alone = packed(tmp_path / "alone.zip", {"images.zip": inner})
    assert "archives in it are not looked into, the first is images.zip" in refused(
        alone, tmp_path / "b.zip"
    )


def test_a_small_file_that_promises_much_is_refused_at_once(tmp_path: Path) -> None:
    folder, dest = tmp_path / "mnist", tmp_path / "a.zip"
    mnist_folder(folder)
    images = folder / "train-images-idx3-ubyte.gz"
    for shape in ((5, 50_000, 50_000), (2_000_000_000, 28, 28), (4_000_000, 56, 56)):
        images.write_bytes(
            gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape) + bytes(1000))
        )
        message = refused(folder, dest)
        assert "it claims to hold" in message or "compressed bytes can hold" in message
    good = idx(noise(5, 28, 28))
    images.write_bytes(gzip.compress(good + b"more"))
    assert "goes on after the 3920 values that it promises" in refused(folder, dest)
    flipped = bytearray(gzip.compress(good))
    flipped[-6] ^= 1  # of the checksum
    images.write_bytes(flipped)
    assert f"cannot read {images}" in refused(folder, dest)


def test_an_archive_that_unfolds_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_cifar, "_MOST_BYTES", 10_000)
    monkeypatch.setattr(dataset_cifar, "_MOST_UNFOLDED", 100_000)
    name, dest = "cifar-10-batches-bin/data_batch_1.bin", tmp_path / "a.zip"
    source = tar_gz(tmp_path / "c.tar.gz", {name: bytes(3073 * 4)})
    assert "claims 12292 bytes, more than CIFAR has" in refused(source, dest)
    source = tar_gz(tmp_path / "c.tar.gz", {"filler": bytes(200_000), name: bytes(3073)})
    assert "which is more than CIFAR has" in refused(source, dest)
    # A long name is read whole.
    source = tar_gz(tmp_path / "c.tar.gz", {"x" * 150_000: b"", name: bytes(3073)})
    assert "which is more than CIFAR has" in refused(source, dest)


def test_a_member_of_another_size_than_claimed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, data = tmp_path / "out.zip", png()
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for claimed in (len(data) - 12, len(data) + 12):  # 12: the end mark
            path = tmp_path / "a.zip"
            with zipfile.ZipFile(path, "w", method) as archive:
                archive.writestr("a.png", data)
                archive.filelist[0].file_size = claimed
                archive.filelist[0].CRC = zlib.crc32(data[:claimed])
            assert "cannot read a.png in " in refused(path, dest)
    monkeypatch.setattr(image_files, "MOST_BYTES", 50)
    path = packed(tmp_path / "a.zip", {"a.png": data})
    assert f"it unfolds to {len(data)} bytes, more than any picture has" in refused(path, dest)

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(data)
    assert f"it has {len(data)} bytes, more than any picture has" in refused(folder, dest)
    monkeypatch.setattr(image_files, "MOST_BYTES", len(data))
    assert convert(folder, dest)["images"] == convert(path, tmp_path / "b.zip")["images"] == 1


def test_a_zip_of_links_and_one_with_a_password_are_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("cat")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "../store/cat")
        archive.writestr("dog/a.png", png())
    assert "cat in " in refused(tmp_path / "a.zip", tmp_path / "b.zip")
    data = bytearray(packed(tmp_path / "c.zip", {"a.png": png()}).read_bytes())
    for place in (6, data.index(b"PK\x01\x02") + 8):
        data[place] |= 1  # encrypted
    (tmp_path / "c.zip").write_bytes(data)
    assert "cannot read a.png in " in refused(tmp_path / "c.zip", tmp_path / "b.zip")


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
        ({"cifar-10-batches-py/data_batch_1": b"pickle"}, "data_batch_1 in "),
        ({f"{prefix}1.bin": cifar(1)[0]}, f"lacks {prefix}2.bin"),
        ({**good, f"{prefix}2.bin": cifar(1)[0][:-1]}, f"{prefix}2.bin in "),
        ({**good, f"{prefix}3.bin": b""}, ": 0 bytes are no whole number"),
        ({**good, f"{prefix}4.bin": b"\x0a" + cifar(1)[0][1:]}, "has the label 10"),
        (
            {f"../../{name}": data for name, data in good.items()},
            "is not CIFAR-10 or CIFAR-100; unpack",
        ),
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


def test_arrays_of_images_are_sources(tmp_path: Path) -> None:
    """npy and npz, gray and in colour; arr_1 are the classes."""
    made, gray = noise(3, 8, 8, 3), noise(3, 8, 8)
    np.save(tmp_path / "a.npy", made)
    np.savez(tmp_path / "b.npz", arr_0=made, arr_1=np.array([2, 0, 1]), seeds=np.arange(3))
    np.save(tmp_path / "gray.npy", gray[..., None])
    for name, images, labels in [
        ("a.npy", made, []),
        ("b.npz", made, [2, 0, 1]),
        ("gray.npy", gray, []),
    ]:
        convert(tmp_path / name, tmp_path / f"{name}.zip")
        written, found = read_as_edm_does(tmp_path / f"{name}.zip")
        assert np.array_equal(written, images) and found == labels
    convert(tmp_path / "b.npz", tmp_path / "none.zip", "--labels", "none")
    assert read_as_edm_does(tmp_path / "none.zip")[1] == []

    np.savez(tmp_path / "c.npz", arr_0=made, arr_1=np.array([2, 0]))
    assert "arr_1 is int64 [2]; it must be the classes of 3 images" in refused(
        tmp_path / "c.npz", tmp_path / "c.zip"
    )
    np.save(tmp_path / "empty.npy", made[:0])
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name, said in [
        ("empty.npy", "holds no images"),
        ("objects.npy", "holds Python objects, which are never loaded"),
    ]:
        assert said in refused(tmp_path / name, tmp_path / "c.zip")
    with pytest.raises(ValueError, match=r"a\.npy is a file of arrays; dataset_tool\.py makes"):
        image_files.ImageFiles(tmp_path / "a.npy")
