"""Images as files: PNG, contact sheets, and sheets side by side."""

import base64
import contextlib
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np
from PIL import Image, ImageDraw, ImageFile, ImageFont

from dnnlib.files import atomic_write
from dnnlib.names import MOST_ZOOM, ROW
from dnnlib.text import printable

# What Pillow decodes by itself. Left to choose, it hands an EPS file of any name to Ghostscript, which is an
# interpreter: so the list says what may be read, not what may not.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")

MOST_TILES = 10_000  # of a contact sheet
MOST_PIXELS = 100_000_000  # of a contact sheet
FONT = 18  # pixels, of captions

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def open_picture(
    file: str | os.PathLike[str] | IO[bytes],
    where: str | None = None,
    prepare: Callable[[ImageFile.ImageFile], None] | None = None,
) -> Image.Image:
    """Decode a picture of one of FORMATS, seen from its content. No other code of ours calls Pillow's `open`.

    Args:
        file: a path, or a seekable file open for reading.
        where: what messages call it; by default the path.
        prepare: is called with the opened picture before its pixels are decoded.
    Returns:
        The first frame, decoded in full, as Pillow gives it: orientation, palette and alpha are the file's, and
        colours of 16 bits are cut to 8. `dnnlib.pixels.read_pixels` sees to all of that.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another format, damaged, cut short, or so large that it must be a trap (beyond
            twice Pillow's MAX_IMAGE_PIXELS, some 179 million pixels); names `where`.
    """
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as opened:
            return open_picture(opened, where or printable(str(file)))
    where = where or "the picture"

    try:
        with warnings.catch_warnings():
            # Of large pictures and odd metadata; errors are raised all the same.
            warnings.simplefilter("ignore")
            image = Image.open(file, formats=FORMATS)
            if prepare is not None:
                prepare(image)
            with _stderr_closed() if image.format == "TIFF" else contextlib.nullcontext():
                image.load()
    except Exception as error:  # a decoder that meets nonsense can fail in any way at all
        raise ValueError(f"{where} is not an image, or is corrupt: {_cause(error)}") from error

    if image.format == "PNG":
        file.seek(0)
        check_png(file.read(), where)
    return image


def check_png(data: bytes, where: str, every_chunk: bool = False) -> None:
    """Compare the checksums of a PNG's pixels and header, which Pillow leaves alone, and look for its end mark.

    Args:
        data: the file.
        where: what messages call it.
        every_chunk: compare those of what else is in the file too: for PNGs that we wrote.
    Raises:
        ValueError: if it is no PNG, is damaged or cut short; names `where`.
    """
    if not data.startswith(_PNG_SIGNATURE):
        raise ValueError(f"{where} is no PNG, or is corrupt")

    place, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        header = data[place : place + 8]
        length, kind = struct.unpack(">I4s", header) if len(header) == 8 else (0, b"")

        stored = data[place + 8 + length : place + 12 + length]
        if len(stored) < 4:
            raise ValueError(f"{where} is not an image, or is corrupt: the PNG is cut short")

        if every_chunk or kind in _PNG_CRITICAL:
            content = memoryview(data)[place + 4 : place + 8 + length]
            if zlib.crc32(content) != int.from_bytes(stored, "big"):
                raise ValueError(
                    f"{where} is not an image, or is corrupt: a checksum of the PNG is wrong"
                )
        place += 12 + length


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Keep libtiff's own lines from the screen: it prints them past Python, also for files that it reads."""
    try:
        saved = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _cause(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "unknown format"
    if isinstance(error, Image.DecompressionBombError):
        return "it claims more pixels than any honest picture has"
    return printable(str(error)) or type(error).__name__


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 image [C, H, W], C = 1 or 3, as PNG; equal images give equal bytes."""
    file = io.BytesIO()
    to_pil(image).save(file, format="png")
    return file.getvalue()


def decode_png(png: bytes, where: str = "the PNG") -> np.ndarray:
    """What `encode_png` encoded; ValueError that names `where` if it is damaged."""
    pixels = np.array(open_picture(io.BytesIO(png), where))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def to_pil(image: np.ndarray) -> Image.Image:
    """A uint8 array [C, H, W], C = 1 (grayscale) or 3 (RGB), as a Pillow image.

    Raises:
        ValueError: for another number of channels.
    """
    check_channels(image.shape[0])
    return Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))


def check_channels(channels: int) -> None:
    """Refuse what PNG cannot hold.

    Raises:
        ValueError: unless there are 1 (grayscale) or 3 (RGB) channels.
    """
    if channels not in (1, 3):
        raise ValueError(f"images of {channels} channels cannot be PNGs; those of 1 and 3 can")


def sheet_size(text: str) -> tuple[int, int]:
    """Columns and rows from a text such as 8x4.

    Raises:
        ValueError: if it is another text.
    """
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal()) or max(len(columns), len(rows)) > 9:
        raise ValueError(f"{printable(text)} is not COLSxROWS, such as 8x8")
    if not 0 < int(columns) * int(rows) <= MOST_TILES:
        raise ValueError(f"{text} is no sheet of 1 to {MOST_TILES:,} images, such as 8x8")
    return int(columns), int(rows)


def fitting_zoom(width: int, row: int = ROW) -> int:
    """The largest whole factor, at least 1, at which what is `width` pixels wide is at most `row` wide."""
    return min(MOST_ZOOM, max(1, row // width))


def check_sheet(columns: int, rows: int, width: int, height: int, zoom: int | None) -> None:
    """Refuse a contact sheet that is too large to be made or looked at.

    Args:
        columns, rows: of images.
        width, height: of an image.
        zoom: as that of `contact_sheet`.
    Raises:
        ValueError: if it has more than MOST_PIXELS pixels.
    """
    factor = fitting_zoom(columns * width) if zoom is None else zoom
    across, down = columns * width * factor, rows * height * factor
    if across * down > MOST_PIXELS:
        raise ValueError(
            f"a sheet of {columns}x{rows} images of {width}x{height} pixels, each {factor} times as large, would have "
            f"{across}x{down} pixels; take fewer images or a smaller factor"
        )


def enlarged(image: Image.Image, zoom: int) -> Image.Image:
    """Each pixel becomes zoom x zoom pixels: nothing is smoothed.

    Raises:
        ValueError: if there would be more than MOST_PIXELS pixels.
    """
    size = image.width * zoom, image.height * zoom
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(
            f"{image.width}x{image.height} pixels enlarged by {zoom} are too many; take a smaller factor"
        )
    return image.resize(size, Image.Resampling.NEAREST) if zoom > 1 else image


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, zoom: int | None = None, gap: int = 2
) -> Image.Image:
    """Lay images [C, H, W] of one shape out in rows, left to right, with white gaps.

    Args:
        images: at least one.
        columns: images a row.
        zoom: each pixel becomes zoom x zoom pixels; None enlarges small images until a row is about ROW pixels wide.
        gap: pixels between images.
    """
    if zoom is None:
        zoom = fitting_zoom(columns * images[0].shape[-1])
    tiles = [enlarged(to_pil(image), zoom) for image in images]
    width, height = tiles[0].size
    rows = math.ceil(len(tiles) / columns)
    size = (columns * (width + gap) + gap, rows * (height + gap) + gap)
    sheet = Image.new(tiles[0].mode, size, "white")
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        sheet.paste(tile, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def side_by_side(
    sheets: Sequence[Image.Image], captions: Sequence[str], gap: int = 24
) -> Image.Image:
    """Sheets next to each other, each under its caption; one that is wider than its sheet is broken into lines."""
    font = ImageFont.load_default(size=FONT)
    wrapped = [wrap(caption, sheet.width) for sheet, caption in zip(sheets, captions, strict=True)]
    head = 14 + (FONT + 2) * max(text.count("\n") + 1 for text in wrapped)
    width = sum(sheet.width for sheet in sheets) + gap * (len(sheets) - 1)
    page = Image.new("RGB", (width, max(sheet.height for sheet in sheets) + head), "white")
    draw = ImageDraw.Draw(page)
    left = 0
    for sheet, text in zip(sheets, wrapped, strict=True):
        place = left + sheet.width / 2, head / 2
        draw.text(place, text, fill="black", font=font, anchor="mm", align="center", spacing=2)
        page.paste(sheet, (left, head))
        left += sheet.width + gap
    return page


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other, on white."""
    size = max(one.width for one in pictures), sum(one.height for one in pictures)
    whole = Image.new("RGB", size, "white")
    top = 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    return whole


def beside(left: Image.Image, right: Image.Image | None, gap: int = 24) -> Image.Image:
    """Two pictures next to each other, in the middle of the height; the left one alone if there is no right."""
    if right is None:
        return left
    height = max(left.height, right.height)
    whole = Image.new("RGB", (left.width + gap + right.width, height), "white")
    whole.paste(left, (0, (height - left.height) // 2))
    whole.paste(right, (left.width + gap, (height - right.height) // 2))
    return whole


def wrap(text: str, width: float, size: int = FONT) -> str:
    """Break a line of text between words so that it is at most `width` pixels wide, words allowing."""
    font = ImageFont.load_default(size=size)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def titled(image: Image.Image, title: str) -> Image.Image:
    """A picture under its title."""
    size = FONT + 2
    text = wrap(title, image.width, size)
    head = 16 + (size + 2) * (text.count("\n") + 1)
    page = Image.new("RGB", (image.width, image.height + head), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=size)
    place = image.width / 2, head / 2
    draw.text(place, text, fill="black", font=font, anchor="mm", align="center", spacing=2)
    page.paste(image, (0, head))
    return page


def encoded(image: Image.Image) -> bytes:
    """A Pillow image as a small PNG."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def data_url(picture: bytes, kind: str = "png") -> str:
    """An encoded picture as the text of an address, so that a page needs no file beside it; kind: png or svg+xml."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def save_png(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a Pillow image as PNG, atomically."""
    with atomic_write(path) as file:
        image.save(file, format="png")
