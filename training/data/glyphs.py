"""A colour font as images: each character of a list, drawn on white; the list's groups are the classes."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from dnnlib.json_files import read_text
from dnnlib.text import printable

FONTS = (".ttf", ".otf", ".ttc")

_LARGEST, _SMALLEST = 160, 32  # pixels an em: fonts of bitmaps have one size, others take the first
_MOST_PIXELS = 1024  # along a picture's edge
_MOST_BYTES = 10_000_000  # of a list
_MOST_POINTS = 32  # of a character
_WHITE, _BLACK, _RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


@dataclass(frozen=True)
class Character:
    """What is drawn as one picture: one code point or a sequence of them.

    Args:
        text: the code points.
        group: what it belongs to.
    """

    text: str
    group: str

    def __str__(self) -> str:
        return " ".join(f"U+{ord(point):04X}" for point in self.text)


class Glyphs:
    """The pictures that a font has of characters: in colours of its own, in one piece, and no two alike.

    Args:
        font: path of the font.
        characters: in order; of equal pictures the first one's stays.
    Attributes:
        kept: the characters that have a picture.
        left_out: why others have none -> how many.
    Raises:
        FileNotFoundError: if there is no such file.
        RuntimeError: if this Pillow cannot draw sequences.
        ValueError: if it is no font, or has no picture of any of them.
    """

    def __init__(self, font: Path, characters: Sequence[Character]) -> None:
        self._font, self._characters, self._path = _open(font), characters, printable(font)
        self.kept: list[Character] = []
        self.left_out: Counter[str] = Counter()
        try:
            self._choose()
        except OSError as error:  # of FreeType, which names no file
            raise ValueError(f"{self._path} is a damaged font: {error}") from error

    def draw(self, index: int) -> Image.Image:
        """The picture of `kept[index]`: square, RGB, on white."""
        return self._picture(self.kept[index].text)

    @property
    def groups(self) -> list[str]:
        """Groups of those that are kept, in order."""
        return list(dict.fromkeys(character.group for character in self.kept))

    def labels(self) -> np.ndarray:
        """The class of each: its group's place in `groups`, int64 [N]."""
        places = {group: place for place, group in enumerate(self.groups)}
        return np.array([places[character.group] for character in self.kept], dtype=np.int64)

    def _choose(self) -> None:
        widths = [self._font.getlength(character.text) for character in self._characters]
        usual, seen = median(widths), set()
        for character, width in zip(self._characters, widths, strict=True):
            why = "drawn as several" if width > 1.5 * usual else self._flaw(character.text)
            picture = b"" if why else self._picture(character.text).tobytes()
            digest = hashlib.sha256(picture).digest()
            if not why and digest in seen:
                why = "like an earlier one"
            if why:
                self.left_out[why] += 1
                continue
            seen.add(digest)
            self.kept.append(character)
        if not self.kept:
            raise ValueError(
                f"{self._path} has no coloured picture of any of {len(widths)} characters; "
                "a font of emoji has, such as NotoColorEmoji.ttf of Debian's fonts-noto-color-emoji"
            )

    def _flaw(self, text: str) -> str:
        """Why the font has no coloured picture of it; empty if it has. Such a picture does not depend on the ink."""
        inks = [self._picture(text, ink) for ink in (_BLACK, _RED)]
        blank = inks[0].getextrema() == ((255, 255),) * 3
        return "without a coloured picture" if blank or inks[0] != inks[1] else ""

    def _picture(self, text: str, ink: tuple[int, int, int] = _BLACK) -> Image.Image:
        left, top, right, bottom = self._font.getbbox(text)
        side = self._side
        made = Image.new("RGB", (side, side), _WHITE)
        corner = ((side - left - right) // 2, (side - top - bottom) // 2)
        ImageDraw.Draw(made).text(corner, text, fill=ink, font=self._font, embedded_color=True)
        return made

    @cached_property
    def _side(self) -> int:
        """The edge of a square that holds the usual picture, with the room that the font leaves beside it."""
        boxes = [self._font.getbbox(character.text) for character in self._characters]
        edges = [max(right - left, bottom - top) for left, top, right, bottom in boxes]
        side = round(median(edges))
        if not 1 <= side <= _MOST_PIXELS:
            raise ValueError(
                f"{self._path} draws pictures of {side} pixels; need 1 to {_MOST_PIXELS}"
            )
        return side


def read_characters(path: Path) -> list[Character]:
    """The fully qualified characters of a list in the format of Unicode's emoji-test.txt, with their groups.

    Lines are `# group: NAME`, `1F469 200D 1F680 ; fully-qualified # comment`, other comments, or empty.

    Reference: https://www.unicode.org/reports/tr51/#emoji_data

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none; names the line.
    """
    try:
        lines = read_text(path, _MOST_BYTES).splitlines()
    except ValueError as error:
        raise ValueError(f"{printable(path)}: no list of characters: {printable(error)}") from error

    found, group = [], "none"
    for number, line in enumerate(lines, 1):
        heading = re.fullmatch(r"# group: (.+)", line)
        entry = re.match(r"((?:[0-9A-Fa-f]{1,6}\s+)+);\s*([a-z-]+)", line)
        if heading:
            group = heading[1].strip()
        elif entry and entry[2] == "fully-qualified":
            found.append(Character(_text(entry[1], f"{printable(path)}, line {number}"), group))
        elif line.strip() and not entry and not line.startswith("#"):
            raise ValueError(
                f"{printable(path)}, line {number} is {printable(line, 60)!r}; "
                "need lines as '1F600 ; fully-qualified', as in Unicode's emoji-test.txt"
            )
    if not found:
        raise ValueError(f"{printable(path)} lists no fully-qualified characters")
    return found


def _text(points: str, where: str) -> str:
    values = [int(point, 16) for point in points.split()]
    for value in values:
        if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
            raise ValueError(f"{where}: {value:X} is no code point")
    if len(values) > _MOST_POINTS:
        raise ValueError(f"{where}: {len(values)} code points; at most {_MOST_POINTS}")
    return "".join(map(chr, values))


def _open(path: Path) -> ImageFont.FreeTypeFont:
    """The font at the largest size that it has."""
    if not (features.check("raqm") and features.check("fribidi")):
        raise RuntimeError(
            "this Pillow lacks Raqm or FriBiDi, and would draw a sequence of characters as several: "
            "install libfribidi (Debian: libfribidi0), or Pillow's own wheel"
        )
    reason: OSError | None = None
    for size in range(_LARGEST, _SMALLEST - 1, -1):
        try:
            return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.RAQM)
        except OSError as error:
            reason = error
            if "pixel size" not in str(error):
                break
    raise ValueError(f"{printable(path)} is no font that can be read: {reason}")
