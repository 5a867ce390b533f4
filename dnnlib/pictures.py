"""Images as files: PNG, contact sheets, and sheets side by side; and the way to matplotlib."""

import importlib
import io
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dnnlib.files import atomic_write


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 image [C, H, W], C = 1 or 3, as PNG; equal images give equal bytes."""
    file = io.BytesIO()
    to_pil(image).save(file, format="png")
    return file.getvalue()


def decode_png(png: bytes) -> np.ndarray:
    """What `encode_png` encoded."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.array(image)
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
    if not (columns.isdecimal() and rows.isdecimal()) or int(columns) * int(rows) == 0:
        raise ValueError(f"{text} is not COLSxROWS, such as 8x8")
    return int(columns), int(rows)


def contact_sheet(images: Sequence[np.ndarray], columns: int, zoom: int = 1, gap: int = 2) -> Image.Image:
    """Lay images [C, H, W] of one shape out in rows, left to right, with white gaps.

    Args:
        images: at least one.
        columns: images a row.
        zoom: each pixel becomes zoom x zoom pixels.
        gap: pixels between images.
    """
    tiles = [to_pil(image) for image in images]
    tiles = [t.resize((t.width * zoom, t.height * zoom), Image.Resampling.NEAREST) for t in tiles]
    width, height = tiles[0].size
    rows = math.ceil(len(tiles) / columns)
    size = (columns * (width + gap) + gap, rows * (height + gap) + gap)
    sheet = Image.new(tiles[0].mode, size, "white")
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        sheet.paste(tile, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def side_by_side(sheets: Sequence[Image.Image], captions: Sequence[str], gap: int = 24) -> Image.Image:
    """Sheets of one size next to each other, each under its caption."""
    font = ImageFont.load_default(size=18)
    head = 34
    width = sum(sheet.width for sheet in sheets) + gap * (len(sheets) - 1)
    page = Image.new("RGB", (width, max(sheet.height for sheet in sheets) + head), "white")
    draw = ImageDraw.Draw(page)
    left = 0
    for sheet, caption in zip(sheets, captions, strict=True):
        draw.text((left + sheet.width / 2, head / 2), caption, fill="black", font=font, anchor="mm")
        page.paste(sheet, (left, head))
        left += sheet.width + gap
    return page


def save_png(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a Pillow image as PNG, atomically."""
    with atomic_write(path) as file:
        image.save(file, format="png")


def matplotlib_module(module: str) -> Any:
    """A module of matplotlib.

    Raises:
        RuntimeError: if it is not installed.
    """
    try:
        return importlib.import_module(module)  # not at the top: the package is optional
    except ImportError as error:
        raise RuntimeError("pictures need the package matplotlib: pip install '.[plot]'") from error
