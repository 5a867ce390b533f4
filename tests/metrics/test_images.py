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
