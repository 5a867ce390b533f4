"""Crop, size, frame and colour of imported images, against slices and Pillow's own resizing."""

from pathlib import Path

import numpy as np
import pytest
from dataset_files import convert, noise, put, read_as_edm_does, refused, run
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


def test_letterbox_letterboxes_and_leaves_out_what_is_too_small(tmp_path: Path) -> None:
    tall, wide = noise(10, 8), noise(4, 12)
    put(tmp_path / "in" / "a.png", tall)
    put(tmp_path / "in" / "b.png", noise(3, 12))
    put(tmp_path / "in" / "c.png", wide)
    args = ("--resolution", "8x4", "--transform", "center-crop-letterbox")
    summary = convert(tmp_path / "in", tmp_path / "a.zip", *args)
    assert (summary["images"], summary["skipped"], summary["resolution"]) == (2, 1, 8)
    images, _ = read_as_edm_does(tmp_path / "a.zip")
    assert np.array_equal(images[0], np.pad(tall[3:7], [(2, 2), (0, 0)]))
    assert np.array_equal(images[1], np.pad(wide[:, 2:10], [(2, 2), (0, 0)]))
    message = refused(
        tmp_path / "in",
        tmp_path / "b.zip",
        "--resolution=64x32",
        "--transform=center-crop-letterbox",
    )
    assert "none is left" in message


def test_letterbox_shrinks_the_largest_rectangle(tmp_path: Path) -> None:
    image = noise(14, 16, 3)
    put(tmp_path / "in" / "a.png", image)
    convert(
        tmp_path / "in",
        tmp_path / "a.zip",
        "--resolution",
        "8x4",
        "--transform",
        "center-crop-letterbox",
    )
    middle = np.array(Image.fromarray(image[3:11]).resize((8, 4), Image.Resampling.LANCZOS))
    expected = np.pad(middle, [(2, 2), (0, 0), (0, 0)])
    assert np.array_equal(read_as_edm_does(tmp_path / "a.zip")[0][0], expected)


def as_edm(image: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """EDM's rule for wide images, in arrays [h, w, 3]: W h / w rows of the middle, resized, between black bars."""
    rows, columns = image.shape[:2]
    kept = int(np.round(width * rows / columns))
    if columns < width or kept < height:
        return None
    top = (rows - kept) // 2
    middle = Image.fromarray(image[top : top + kept]).resize(
        (width, height), Image.Resampling.LANCZOS
    )
    black = (width - height) // 2
    return np.pad(np.array(middle), [(black, width - height - black), (0, 0), (0, 0)])


def test_center_crop_wide_is_edms_rule(tmp_path: Path) -> None:
    shapes = [
        (9, 16),
        (14, 16),
        (13, 17),
        (24, 16),
        (7, 8),
        (3, 16),
        (40, 33),
        (6, 12),
        (8, 7),
        (10, 16),
    ]
    expected = []
    for i, (rows, columns) in enumerate(shapes):
        image = noise(rows, columns, 3) ^ np.uint8(i)
        put(tmp_path / "in" / f"{i}.png", image)
        expected.append(as_edm(image, 8, 5))
    summary = convert(
        tmp_path / "in",
        tmp_path / "a.zip",
        "--resolution",
        "8x5",
        "--transform",
        "center-crop-wide",
    )
    kept = [image for image in expected if image is not None]
    assert (summary["images"], summary["skipped"]) == (len(kept), len(shapes) - len(kept)) and len(
        kept
    ) == 6
    assert np.array_equal(read_as_edm_does(tmp_path / "a.zip")[0], np.stack(kept))


def halved(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, halves rounded up; of odd sides, Pillow's box filter."""
    if image.shape[0] % 2 or image.shape[1] % 2:
        size = (image.shape[1] // 2, image.shape[0] // 2)
        return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    sums = sum(image[i::2, j::2].astype(int) for i in (0, 1) for j in (0, 1))
    return ((sums + 2) // 4).astype(np.uint8)


@pytest.mark.parametrize(
    "shape", [(40, 64), (64, 40), (16, 16), (33, 47), (15, 31), (5, 9), (8, 8), (70, 17)]
)
def test_dhariwals_crop_halves_fits_and_crops(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = noise(*shape, 3)
    put(tmp_path / "in" / "a.png", image)
    args = ("--resolution", "8x8", "--transform", "center-crop-dhariwal")
    convert(tmp_path / "in", tmp_path / "a.zip", *args)
    while min(image.shape[:2]) >= 16:
        image = halved(image)
    rows, columns = (round(side * 8 / min(image.shape[:2])) for side in image.shape[:2])
    fitted = np.array(Image.fromarray(image).resize((columns, rows), Image.Resampling.BICUBIC))
    top, left = (rows - 8) // 2, (columns - 8) // 2
    written = read_as_edm_does(tmp_path / "a.zip")[0][0].astype(int)
    # Pillow's box filter has 1 of 255 more or less than the mean now and then
    assert np.abs(written - fitted[top : top + 8, left : left + 8]).max() <= 2


def test_sizes_that_no_transform_makes_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(4, 4))
    for args, message in (
        (
            ("--resolution", "99999x99999"),
            "resolution is 99999x99999; both must be between 1 and 10000",
        ),
        (
            ("--resolution", "99999x1", "--transform", "center-crop-wide"),
            "both must be between 1 and 10000",
        ),
        (("--pad", "4x99999"), "pad is 4x99999"),
        (
            ("--resolution", "8x4", "--transform", "center-crop-dhariwal"),
            "makes squares; resolution is 8x4",
        ),
        (
            ("--resolution", "4x8", "--transform", "center-crop-wide"),
            "center-crop-wide needs width >= height",
        ),
        (("--transform", "center-crop-dhariwal"), "needs a resolution"),
    ):
        assert message in refused(tmp_path / "in", tmp_path / "a.zip", *args)


def test_a_thread_of_pixels_is_not_enlarged_beyond_all_bounds(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(1, 2000))
    args = ("--resolution", "1024x1024", "--transform", "center-crop-dhariwal")
    assert "a.png is 2000x1, too narrow to be enlarged" in refused(
        tmp_path / "in", tmp_path / "a.zip", *args
    )


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


def test_what_a_killed_run_had_replaced_is_removed_by_the_next(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", noise(4, 4))
    dest = tmp_path / "folder"
    convert(tmp_path / "in", dest)
    put(tmp_path / ".folder.old" / "a.png", noise(2, 2))  # killed after its second rename
    assert "exists" in run("--source", tmp_path / "in", "--dest", dest).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "in"]
    assert (dest / "00000" / "img00000000.png").is_file()
