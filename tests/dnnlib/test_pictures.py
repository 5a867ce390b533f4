"""Pictures pixel by pixel."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.pictures import contact_sheet, decode_png, encode_png, save_png, side_by_side, to_pil


def picture(channels: int, value: int, size: int = 4) -> np.ndarray:
    return np.full((channels, size, size), value, dtype=np.uint8)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_png_keeps_every_value(channels: int, mode: str) -> None:
    image = np.random.RandomState(0).randint(0, 256, (channels, 5, 7)).astype(np.uint8)
    png = encode_png(image)
    assert np.array_equal(decode_png(png), image)
    with Image.open(io.BytesIO(png)) as opened:
        assert (opened.mode, opened.size) == (mode, (7, 5))  # EDM's own two modes
    assert encode_png(image.copy()) == png


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=f"images of {channels} channels cannot be PNGs"):
        to_pil(picture(channels, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_contact_sheet_goes_left_to_right_in_rows(channels: int) -> None:
    tiles = [picture(channels, 10 * i) for i in range(5)]
    sheet = np.array(contact_sheet(tiles, columns=3, zoom=2, gap=1))
    assert sheet.shape[:2] == (2 * 8 + 3, 3 * 8 + 4)  # 2 rows and 3 columns of 8 pixels, gaps around
    for i in range(5):
        top, left = 1 + 9 * (i // 3), 1 + 9 * (i % 3)
        assert (sheet[top : top + 8, left : left + 8] == 10 * i).all()
    assert (sheet[0] == 255).all() and (sheet[10:, 19:] == 255).all()  # gaps, and the place that is left over


def test_sheets_lie_side_by_side_under_their_captions() -> None:
    sheets = [Image.new("L", (60, 40), 0), Image.new("L", (60, 40), 100)]
    page = np.array(side_by_side(sheets, ["one", "two"], gap=10))
    assert page.shape == (40 + 34, 130, 3)
    assert (page[34:, :60] == 0).all() and (page[34:, 60:70] == 255).all() and (page[34:, 70:] == 100).all()
    assert all((page[:34, part] < 128).any() for part in (slice(60), slice(70, 130)))  # both captions are there


def test_save_png_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    save_png(to_pil(picture(1, 7)), path)
    assert (decode_png(path.read_bytes()) == 7).all() and len(list(path.parent.iterdir())) == 1
