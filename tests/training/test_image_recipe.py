"""Crop, size, frame and colour of imported images, against slices and Pillow's own resizing."""

from pathlib import Path

import numpy as np
from dataset_files import convert, noise, put, read_as_edm_does, refused
from PIL import Image


def test_center_crop_takes_the_middle_square(tmp_path: Path) -> None:
    image = noise(6, 11, 3)
    put(tmp_path / "in" / "a.png", image)
    args = ("--resolution", "6x6", "--transform", "center-crop")
    convert(tmp_path / "in", tmp_path / "a.zip", *args)
    assert np.array_equal(read_as_edm_does(tmp_path / "a.zip")[0][0], image[:, 2:8])
    convert(tmp_path / "in", tmp_path / "b.zip", "--resolution", "3", "--transform", "center-crop")
    expected = Image.fromarray(image[:, 2:8]).resize((3, 3), Image.Resampling.LANCZOS)
    assert np.array_equal(read_as_edm_does(tmp_path / "b.zip")[0][0], np.array(expected))


def test_center_crop_wide_letterboxes_and_leaves_out_what_is_too_small(tmp_path: Path) -> None:
    tall, wide = noise(10, 8), noise(4, 12)
    put(tmp_path / "in" / "a.png", tall)
    put(tmp_path / "in" / "b.png", noise(3, 12))
    put(tmp_path / "in" / "c.png", wide)
    args = ("--resolution", "8x4", "--transform", "center-crop-wide")
    summary = convert(tmp_path / "in", tmp_path / "a.zip", *args)
    assert (summary["images"], summary["skipped"], summary["resolution"]) == (2, 1, 8)
    images, _ = read_as_edm_does(tmp_path / "a.zip")
    assert np.array_equal(images[0], np.pad(tall[3:7], [(2, 2), (0, 0)]))
    assert np.array_equal(images[1], np.pad(wide[:, 2:10], [(2, 2), (0, 0)]))
    message = refused(tmp_path / "in", tmp_path / "b.zip", "--resolution=64x32", "--transform=center-crop-wide")
    assert "none is left" in message


def test_center_crop_wide_shrinks_the_largest_rectangle(tmp_path: Path) -> None:
    image = noise(14, 16, 3)
    put(tmp_path / "in" / "a.png", image)
    convert(tmp_path / "in", tmp_path / "a.zip", "--resolution", "8x4", "--transform", "center-crop-wide")
    middle = np.array(Image.fromarray(image[3:11]).resize((8, 4), Image.Resampling.LANCZOS))
    expected = np.pad(middle, [(2, 2), (0, 0), (0, 0)])
    assert np.array_equal(read_as_edm_does(tmp_path / "a.zip")[0][0], expected)


def test_resolution_alone_stretches(tmp_path: Path) -> None:
    image = Image.fromarray(noise(6, 11, 3))
    put(tmp_path / "in" / "a.png", image)
    convert(tmp_path / "in", tmp_path / "a.zip", "--resolution", "5,5")
    expected = np.array(image.resize((5, 5), Image.Resampling.LANCZOS))
    assert np.array_equal(read_as_edm_does(tmp_path / "a.zip")[0][0], expected)


def test_colour_modes(tmp_path: Path) -> None:
    gray, colour = noise(4, 4), noise(4, 4, 3)
    opaque = np.dstack([colour, np.full((4, 4), 255, np.uint8)])
    put(tmp_path / "in" / "a.png", opaque)
    put(tmp_path / "in" / "b.png", gray)
    put(tmp_path / "in" / "c.png", Image.fromarray(colour).convert("P"))
    assert convert(tmp_path / "in", tmp_path / "a.zip")["channels"] == 3
    images, _ = read_as_edm_does(tmp_path / "a.zip")
    assert np.array_equal(images[0], colour)
    assert np.array_equal(images[1], np.dstack([gray] * 3))
    assert np.array_equal(images[2], np.array(Image.fromarray(colour).convert("P").convert("RGB")))

    put(tmp_path / "in" / "a.png", gray)
    put(tmp_path / "in" / "b.png", opaque)
    message = refused(tmp_path / "in", tmp_path / "b.zip")
    assert "b.png has colours, those before it are grayscale; give --channels 3 (or 1)" in message
    for channels in (1, 3):
        summary = convert(tmp_path / "in", tmp_path / f"{channels}.zip", "--channels", channels)
        assert summary["channels"] == channels


def test_transparency_is_refused_and_16_bits_are_rounded(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", np.dstack([noise(4, 4, 3), noise(4, 4)]))
    assert "a.png is transparent in places" in refused(tmp_path / "in", tmp_path / "a.zip")
    deep = noise(4, 4).astype(np.uint16) * 257 + 120
    put(tmp_path / "in" / "a.png", deep)
    convert(tmp_path / "in", tmp_path / "a.zip")
    assert np.array_equal(read_as_edm_does(tmp_path / "a.zip")[0][0], noise(4, 4))
