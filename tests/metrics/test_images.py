"""Images to be measured: linked ones too, each as it is meant to be seen, and none missing without a word."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.images import open_images


def pictures(count: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, [count, 8, 8], dtype=np.uint8)


def put(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_linked_folders_and_files_are_measured(tmp_path: Path) -> None:
    made = pictures(4)
    for name, image in zip(
        ("store/a/0.png", "store/b/0.png", "in/c/0.png", "store/d.png"), made, strict=True
    ):
        put(tmp_path / name, image)
    (tmp_path / "in" / "a").symlink_to("../store/a")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "store" / "b")
    (tmp_path / "in" / "d.png").symlink_to("../store/d.png")
    (tmp_path / "in" / "back").symlink_to(".")
    images = open_images(tmp_path / "in")
    assert np.array_equal(images.batch(range(4))[:, 0].numpy(), made) and len(images) == 4

    # The image behind a link is another now.
    os.utime(tmp_path / "store" / "a" / "0.png", ns=(0, 1))
    timed = open_images(tmp_path / "in").fingerprint
    assert timed != images.fingerprint
    (tmp_path / "store" / "a" / "0.png").write_bytes(
        (tmp_path / "store" / "a" / "0.png").read_bytes() + b"more"
    )
    os.utime(tmp_path / "store" / "a" / "0.png", ns=(0, 1))  # of the same time and another size
    assert open_images(tmp_path / "in").fingerprint != timed
    (tmp_path / "in" / "notes.txt").write_text("no image")
    again = open_images(tmp_path / "in").fingerprint
    (tmp_path / "in" / "notes.txt").write_text("longer")
    assert open_images(tmp_path / "in").fingerprint == again

    (tmp_path / "in" / "e.png").symlink_to("../gone.png")
    with pytest.raises(
        ValueError, match=r"e\.png is a link to \.\./gone\.png, which leads nowhere"
    ):
        open_images(tmp_path / "in")


def test_no_picture_is_left_out_in_silence(tmp_path: Path) -> None:
    for i, image in enumerate(pictures(2)):
        put(tmp_path / "in" / f"{i}.png", image)
        put(tmp_path / "in" / "@eaDir" / f"{i}.png" / "SYNOPHOTO_THUMB_M.jpg", image)
    assert len(open_images(tmp_path / "in")) == 2
    (tmp_path / "in" / "2.heic").write_bytes(b"heic")
    with pytest.raises(ValueError, match=r"1 pictures of formats that are not read \(\.heic\)"):
        open_images(tmp_path / "in")


def test_16_bits_are_rounded(tmp_path: Path) -> None:
    made = pictures(2)
    for i, image in enumerate(made):
        put(tmp_path / f"{i}.png", image.astype(np.uint16) * 257 - np.uint16(100) * (image > 0))
    assert np.array_equal(open_images(tmp_path).batch([0, 1])[:, 0].numpy(), made)


def test_images_without_pixels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((4, 0, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="its images have no pixels"):
        open_images(tmp_path / "a.npz")


def test_an_npy_file_is_a_set_of_images(tmp_path: Path) -> None:
    made = np.random.RandomState(0).randint(0, 256, [5, 6, 8, 3], dtype=np.uint8)
    np.save(tmp_path / "a.npy", made)
    np.savez(tmp_path / "a.npz", arr_0=made)
    array, archive = (open_images(tmp_path / f"a.{suffix}", 3, 1) for suffix in ("npy", "npz"))
    assert len(array) == 3 and array.channels == 3
    assert np.array_equal(array.batch(range(3)), archive.batch(range(3)))
    every = open_images(tmp_path / "a.npy").batch(range(5))
    assert np.array_equal(every.permute(0, 2, 3, 1).numpy(), made)

    fingerprint = array.fingerprint
    np.save(tmp_path / "a.npy", made[:, ::-1])
    assert open_images(tmp_path / "a.npy", 3, 1).fingerprint != fingerprint

    for wrong in (made[0], made.astype(np.float32), made[..., :2], made.transpose(0, 3, 1, 2)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(ValueError, match=r"wrong\.npy: the array is .*; images are uint8 \[N"):
            open_images(tmp_path / "wrong.npy")
    np.save(tmp_path / "one.npy", made[:1])
    with pytest.raises(ValueError, match=r"one\.npy holds 1 image; statistics need at least 2"):
        open_images(tmp_path / "one.npy")
