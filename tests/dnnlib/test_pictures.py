"""Pictures pixel by pixel; and that one function opens them all."""

import ast
import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from dnnlib.pictures import (
    FORMATS,
    check_png,
    check_sheet,
    contact_sheet,
    decode_png,
    encode_png,
    enlarged,
    fitting_zoom,
    open_picture,
    save_png,
    sheet_size,
    side_by_side,
    titled,
    to_pil,
)

ROOT = Path(__file__).parents[2]
EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n"
)
# A Pillow may have been built without.
OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}


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
    # 2 rows and 3 columns of 8 pixels, gaps around.
    assert sheet.shape[:2] == (2 * 8 + 3, 3 * 8 + 4)
    for i in range(5):
        top, left = 1 + 9 * (i // 3), 1 + 9 * (i % 3)
        assert (sheet[top : top + 8, left : left + 8] == 10 * i).all()
    # Gaps, and the place that is left over.
    assert (sheet[0] == 255).all() and (sheet[10:, 19:] == 255).all()


@pytest.mark.parametrize(
    "columns, width, zoom", [(4, 32, 5), (8, 32, 2), (10, 64, 1), (1, 4, 64), (100, 64, 1)]
)
def test_small_images_are_enlarged_by_a_whole_factor(columns: int, width: int, zoom: int) -> None:
    assert fitting_zoom(columns * width) == zoom
    image = np.zeros((1, 1, width), np.uint8)
    assert contact_sheet([image], columns, gap=0).size == (columns * width * zoom, zoom)


def test_enlarging_smooths_nothing() -> None:
    tiny = Image.fromarray(np.array([[0, 255], [90, 7]], np.uint8))
    shown = np.array(enlarged(tiny, 3))
    assert np.array_equal(shown, np.kron(np.array(tiny), np.ones((3, 3), np.uint8)))


def test_a_sheet_that_is_too_large_is_refused() -> None:
    check_sheet(8, 8, 64, 64, 16)
    with pytest.raises(ValueError, match="8x8 images of 64x64 pixels, each 64 times as large"):
        check_sheet(8, 8, 64, 64, 64)
    with pytest.raises(ValueError, match="take a smaller factor"):
        enlarged(Image.new("L", (512, 512)), 64)


def test_long_captions_are_broken_and_stay_over_their_sheets() -> None:
    sheets = [Image.new("L", (90, 40), 0), Image.new("L", (90, 40), 0)]
    page = np.array(side_by_side(sheets, ["one two three four five", "six"], gap=10))
    head = page[: page.shape[0] - 40]
    assert len(head) > 2 * 18 and (head[:, 90:100] == 255).all(), "none runs into its neighbour"
    page = np.array(titled(sheets[0].convert("RGB"), "a title of several words"))
    assert page.shape[1] == 90 and (page[-40:] == 0).all() and (page[:-40] < 128).any()


def test_sheets_lie_side_by_side_under_their_captions() -> None:
    sheets = [Image.new("L", (60, 40), 0), Image.new("L", (60, 40), 100)]
    page = np.array(side_by_side(sheets, ["one", "two"], gap=10))
    assert page.shape == (40 + 34, 130, 3)
    assert (
        (page[34:, :60] == 0).all()
        and (page[34:, 60:70] == 255).all()
        and (page[34:, 70:] == 100).all()
    )
    # Both captions are there.
    assert all((page[:34, part] < 128).any() for part in (slice(60), slice(70, 130)))


def test_save_png_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    save_png(to_pil(picture(1, 7)), path)
    assert (decode_png(path.read_bytes()) == 7).all() and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_every_listed_format_is_read(tmp_path: Path, kind: str) -> None:
    if kind in OPTIONAL and not features.check(OPTIONAL[kind]):
        pytest.skip(f"this Pillow lacks {kind}")
    shades = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    shades.save(tmp_path / "a.png", format=kind)  # the name does not count
    opened = open_picture(tmp_path / "a.png")
    assert opened.format == kind and opened.size == (16, 16)
    if kind not in ("JPEG", "AVIF", "WEBP"):
        assert np.array_equal(np.array(opened.convert("L")), np.array(shades))


def test_no_picture_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **_: started.append(args))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    for data in (EPS, b"\xc5\xd0\xd3\xc6" + EPS):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(
            ValueError, match=r"a\.png is not an image, or is corrupt: unknown format"
        ):
            open_picture(tmp_path / "a.png")
    assert not started and "EPS" not in FORMATS


def opens_pictures(tree: ast.AST) -> list[int]:
    """Lines that open a picture by Pillow's open or by another package's, under whatever name it is imported."""
    readers = {"PIL.Image.open", "PIL.ImageFile.Parser", "matplotlib.pyplot.imread", "matplotlib.image.imread",
               "imageio.imread", "imageio.v2.imread", "imageio.v3.imread", "cv2.imread", "skimage.io.imread",
               "torchvision.io.read_image", "torchvision.io.decode_image"}  # fmt: skip
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        if isinstance(node, ast.ImportFrom):
            names.update(
                {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            )

    def full(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{full(node.value)}.{node.attr}"
        return names.get(node.id, "") if isinstance(node, ast.Name) else ""

    uses = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name))
    return sorted({node.lineno for node in uses if full(node) in readers})


def test_pillows_open_is_called_in_one_place_only() -> None:
    for text in ("from PIL import Image\nImage.open(0)", "import PIL.Image\nPIL.Image.open(0)",
                 "from PIL.Image import open as o\no(0)", "import PIL.Image as I\nf = I.open\n",
                 "from PIL import ImageFile\nImageFile.Parser()"):  # fmt: skip
        assert opens_pictures(ast.parse(text)), text
    assert not opens_pictures(ast.parse("open(0)\nzipfile.open(0)\narchive.open(0)"))

    folders = [
        "programs", "skip", "sampling", "metrics", "training", "torch_utils", "dnnlib", "benchmarks",
        "examples",
    ]  # fmt: skip
    files = [
        *ROOT.glob("*.py"),
        *(path for name in folders for path in (ROOT / name).rglob("*.py")),
    ]
    found = {
        path.relative_to(ROOT).as_posix(): opens_pictures(ast.parse(path.read_text()))
        for path in files
    }
    assert len(found) > 100
    assert [name for name, lines in found.items() for _ in lines] == ["dnnlib/pictures.py"]


def test_a_trap_of_many_pixels_is_one_line_and_a_large_picture_no_warning(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    png = encode_png(picture(1, 0, size=20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    assert open_picture(io.BytesIO(png)).size == (20, 20) and not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 199)
    with pytest.raises(
        ValueError, match=r"^it is not an image.*claims more pixels than any honest picture has$"
    ):
        open_picture(io.BytesIO(png), "it")


@pytest.mark.parametrize(
    "kind", [kind for kind in FORMATS if kind not in OPTIONAL or features.check(OPTIONAL[kind])]
)
def test_random_damage_is_one_line(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.RandomState(0)
    file = io.BytesIO()
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    Image.fromarray(random.randint(0, 256, (16, 16, 3)).astype(np.uint8)).save(
        file, kind, **options
    )
    refused = 0
    for _ in range(60):
        data = np.frombuffer(file.getvalue(), np.uint8).copy()
        data[random.randint(0, len(data), 5)] = random.randint(0, 256, 5)
        try:
            open_picture(io.BytesIO(data[: random.randint(1, len(data) + 1)].tobytes()), "it")
        except ValueError as error:
            refused += str(error).startswith("it ") and "\n" not in str(error)
    assert refused > 10
    assert capfd.readouterr() == ("", "")  # libtiff writes past Python


def test_a_cut_or_flipped_png_is_named_wherever_it_happens() -> None:
    png = encode_png(np.random.RandomState(0).randint(0, 256, (3, 5, 7)).astype(np.uint8))
    check_png(png, "x")
    for length in range(len(png)):
        with pytest.raises(ValueError, match=r"^x is "):
            decode_png(png[:length], "x")
    for place in range(len(png)):
        flipped = bytearray(png)
        flipped[place] ^= 0x10
        with pytest.raises(ValueError, match=r"^x is "):
            decode_png(bytes(flipped), "x")
    assert np.array_equal(decode_png(png + b"after the end"), decode_png(png))


def test_a_png_that_lacks_its_last_bytes_is_cut_short() -> None:
    whole = encode_png(picture(1, 7))
    check_png(whole, "it")
    for length in range(len(whole) - 12, len(whole)):  # all of IEND: length, name and checksum
        with pytest.raises(ValueError, match="the PNG is cut short"):
            check_png(whole[:length], "it")


def test_the_largest_sheet_and_what_is_none() -> None:
    assert (
        sheet_size("8x4") == (8, 4)
        and sheet_size("100x100") == (100, 100)
        and sheet_size("1x10000") == (1, 10000)
    )
    for text in ("100x101", "10001x1", "0x5", "5x0"):
        with pytest.raises(ValueError, match=f"{text} is no sheet of 1 to 10,000 images"):
            sheet_size(text)
