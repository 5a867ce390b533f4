"""What a picture shows, as 8 bits a channel: depth, orientation, palette, alpha and ink are seen to here."""

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from dnnlib.pictures import open_picture
from dnnlib.text import printable

_OPAQUE = {
    "1": "L",
    "L": "L",
    "RGB": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "RGBX": "RGB",
}
_ORIENTATION = 274  # EXIF's tag
_TIFF_BITS = 258
_TIFF_PHOTOMETRIC = 262
_TIFF_CHANNELS = 277
_TIFF_PLANAR = 284
_TIFF_SAMPLE_FORMAT = 339
_WHITE_IS_ZERO, _PLANES_APART, _UNSIGNED = 0, 2, 1
# How Pillow names samples of two bytes: big-endian, little-endian, as this machine has them.
_BIG, _LITTLE, _NATIVE = ";16B", ";16L", ";16N"


def read_pixels(
    file: str | os.PathLike[str] | IO[bytes],
    where: str | None = None,
    on_several: Callable[[], None] = lambda: None,
) -> Image.Image:
    """A picture as it is meant to be seen: "L" (grayscale) or "RGB", 8 bits a channel, upright.

    - 16 bits a channel: value v becomes round(v / 257), since 65535 is white, whatever range the pixels take up.
      Pillow cuts those of colour to their high byte.
    - EXIF's orientation is carried out.
    - Palettes become RGB; so does CMYK, by Pillow's formula. Colour profiles are passed over.
    - Alpha is dropped if all is opaque; else the picture behind it is anyone's guess, and it is refused.
    - Of an animation or of several pages, the first.

    Args:
        file: a path, or a seekable file open for reading.
        where: what messages call it; by default the path.
        on_several: is called if the file holds more frames or pages than the first, which are passed over.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if `open_picture` refuses it, it is transparent in places, or its values have no known range
            (32 bits, floating point, signed); names `where`.
    """
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as opened:
            return read_pixels(opened, where or printable(file), on_several)
    where = where or "the picture"

    facts = _Facts()
    image = _upright(open_picture(file, where, facts.note))
    if facts.several:
        on_several()
    problem = facts.problem()
    if problem:
        raise ValueError(f"{where} has {problem}; convert it to 8 or 16 bits first")

    if facts.cut:
        image = _whole_samples(file, where, facts)
    elif image.mode.startswith("I"):
        image = _from_16_bits(image, where, facts)
    elif image.mode == "F":
        raise ValueError(f"{where} has floating-point values; convert it to 8 or 16 bits first")
    return _without_alpha(image, where, facts)


@dataclass
class _Facts:
    """What the header of a picture says, which is gone when its pixels are decoded.

    Attributes:
        format: as Pillow calls it.
        raw: how Pillow names the layout of the file's pixels; "" if it has no name for it.
        bits: of a sample in a PNG or TIFF; 0 if unknown.
        tags: of a TIFF.
        precision: bits of each component of a JPEG 2000.
        several: whether there are more frames or pages than the first. The companions that cameras put into a JPEG
            (MPO: the other eye's view, a map of brightness) are none.
    """

    format: str = ""
    raw: str = ""
    bits: int = 0
    tags: Any = None
    precision: tuple[int, ...] = ()
    several: bool = False

    def note(self, image: ImageFile.ImageFile) -> None:
        """Fill in what `image`, opened and not yet decoded, says."""
        self.format = image.format or ""
        self.raw = _raw_mode(image)
        self.several = self.format != "MPO" and _has_several(image)
        head = image.fp
        if head is None:
            return
        place = head.tell()
        head.seek(0)
        if self.format == "PNG":
            # Signature 8, length and name of IHDR 8, width and height 8.
            self.bits = head.read(25)[24]
        elif self.format == "JPEG2000":
            self.precision = _precision(head.read())
        elif self.format == "TIFF":
            self.tags = dict(image.tag_v2)  # type: ignore[attr-defined]  # TIFF's class has it
            self.bits = max(_as_tuple(self.tags.get(_TIFF_BITS, 1)))
        head.seek(place)

    @property
    def cut(self) -> bool:
        """Whether Pillow keeps only the high byte of each sample."""
        return self.raw.endswith((_BIG, _LITTLE, _NATIVE)) and not self.raw.startswith("I")

    def problem(self) -> str:
        """Why these samples cannot be read truthfully; empty if they can."""
        if self.precision and len(self.precision) > 1 and set(self.precision) != {8}:
            return f"{max(self.precision)} bits a channel in JPEG 2000, which are not decoded truthfully"
        if self.precision and self.precision[0] < 8:
            return (
                f"{self.precision[0]} bits a channel in JPEG 2000, which are not decoded truthfully"
            )

        if self.tags is None:
            return ""
        if (
            self.bits > 8
            and self.tags.get(_TIFF_PLANAR) == _PLANES_APART
            and self.tags.get(_TIFF_CHANNELS, 1) > 1
        ):
            return f"{self.bits} bits a channel in planes apart"
        if set(_as_tuple(self.tags.get(_TIFF_SAMPLE_FORMAT, _UNSIGNED))) != {_UNSIGNED}:
            return "signed or floating-point values"
        return ""


def _whole_samples(file: IO[bytes], where: str, facts: _Facts) -> Image.Image:
    """Decode both bytes of each sample, by telling Pillow which of them to take; round to 8 bits."""
    if facts.raw == f"LA{_BIG}":
        # Four bytes a pixel, as RGBA has: high and low of gray, high and low of alpha.
        # (H, W, 4)
        quads = np.asarray(_upright(open_picture(file, where, _taken_as("RGBA"))), np.uint16)
        values = quads[:, :, ::2] * 256 + quads[:, :, 1::2]
        return Image.fromarray(_to_8_bits(values))

    colours, order = facts.raw.rsplit(";", 1)
    colours = colours.replace("a", "A")  # premultiplied alpha is the same where it is opaque
    native = _LITTLE if sys.byteorder == "little" else _BIG
    high_order = native if f";{order}" == _NATIVE else f";{order}"
    low_order = _BIG if high_order == _LITTLE else _LITTLE
    high, low = (
        _upright(open_picture(file, where, _taken_as(colours + part)))
        for part in (high_order, low_order)
    )
    values = np.asarray(high, np.uint16) * 256 + np.asarray(low, np.uint16)  # (H, W, C)
    image = Image.frombytes(high.mode, high.size, _to_8_bits(values).tobytes())
    key = high.info.get("transparency")
    if key is not None and (values == np.array(key, np.uint16)).all(axis=2).any():
        raise _transparent(where)
    return image


def _from_16_bits(image: Image.Image, where: str, facts: _Facts) -> Image.Image:
    """Grayscale of 16 bits as "L"."""
    full = 65535
    if image.mode == "I" and facts.format != "PPM":  # PPM's are scaled to 65535 by Pillow
        raise ValueError(
            f"{where} has 32 bits a channel, whose range is unknown; convert it to 8 or 16 bits first"
        )
    values = np.asarray(image).astype(np.int64)  # (H, W)
    if facts.format == "TIFF" and facts.bits == 12:
        full = 4095
    if facts.tags is not None and facts.tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = full - values
    key = image.info.get("transparency")
    if key is not None and (values == key).any():
        raise _transparent(where)
    return Image.fromarray(((values * 255 + full // 2) // full).astype(np.uint8))


def _without_alpha(image: Image.Image, where: str, facts: _Facts) -> Image.Image:
    """`image` as "L" or "RGB", if nothing of it is transparent."""
    key = image.info.get("transparency")
    if image.mode in _OPAQUE and key is None:
        return image if image.mode in ("L", "RGB") else image.convert(_OPAQUE[image.mode])

    if image.mode in ("1", "L") and isinstance(key, int):
        # Pillow stretches 2 and 4 bits to 8, but leaves the transparent value as the PNG has it.
        if facts.format == "PNG" and facts.bits in (2, 4):
            key = key * 255 // (2**facts.bits - 1)
        if (np.asarray(image.convert("L")) == key).any():
            raise _transparent(where)
        return image.convert("L")

    if image.mode not in _OPAQUE and image.mode not in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        raise ValueError(f"{where} is in the colour space {image.mode}; convert it to RGB first")
    seen = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    lowest, _ = seen.getchannel("A").getextrema()
    if lowest != 255:
        raise _transparent(where)
    return seen.convert("L" if seen.mode == "LA" else "RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # damaged EXIF fails in many ways, and then says nothing of the orientation
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _transparent(where: str) -> ValueError:
    return ValueError(f"{where} is transparent in places; lay it over a background first")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """round(v / 257) of uint16."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    if not image.tile:
        return ""
    args = image.tile[0].args
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _has_several(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow looks at a GIF's second frame, and that one is damaged
        return True


def _taken_as(raw: str) -> Callable[[ImageFile.ImageFile], None]:
    """What has an opened picture decoded as if its pixels were laid out as `raw`."""

    def prepare(image: ImageFile.ImageFile) -> None:
        tiles = []
        for tile in image.tile:
            args = (raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw
            tiles.append(tile._replace(args=args))
        image.tile = tiles

    return prepare


def _as_tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _precision(data: bytes) -> tuple[int, ...]:
    """Bits of each component, from the SIZ marker of a JPEG 2000 codestream (ISO/IEC 15444-1, A.5.1)."""
    start = data.find(b"\xff\x4f\xff\x51")  # start of codestream, then SIZ
    if start < 0:
        return ()
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    depths = data[start + 42 : start + 42 + 3 * count : 3]
    return tuple((depth & 0x7F) + 1 for depth in depths)
