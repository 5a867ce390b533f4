"""One reader of pictures: depth, orientation, palette, alpha and ink, against files written here by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.pixels import read_pixels

RANDOM = np.random.RandomState(0)
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG's colour types


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(array: np.ndarray, colour: int, *extra: bytes, differences: bool = False) -> bytes:
    """A PNG of 16 bits a channel; `differences` stores each row as differences to the pixel on the left."""
    height, width = array.shape[:2]
    rows = array.astype(">u2").reshape(height, -1).view(np.uint8).reshape(height, width, -1)
    if differences:
        rows = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
    lines = b"".join(bytes([differences]) + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = [
        chunk(b"IHDR", header),
        *extra,
        chunk(b"IDAT", zlib.compress(lines)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def tiff(
    array: np.ndarray, order: str, compressed: bool = False, **tags: int | tuple[int, ...]
) -> bytes:
    """A TIFF of one strip; `tags` are t<number> = value, over those that the array gives."""
    height, width = array.shape[:2]
    channels = array.shape[2] if array.ndim == 3 else 1
    bits = array.dtype.itemsize * 8
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if compressed else data
    entries: dict[int, int | tuple[int, ...]] = {
        256: width, 257: height, 258: (bits,) * channels, 259: 8 if compressed else 1, 262: 2 if channels > 2 else 1,
        273: 8, 277: channels, 278: height, 279: len(data), 284: 1,
    }  # fmt: skip
    entries |= {int(name[1:]): value for name, value in tags.items()}
    body, place = b"", 8 + len(data)
    fields = []
    for tag, value in sorted(entries.items()):
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            offset = struct.pack(f"{order}I", place + len(body))
            body += packed
        else:
            offset = packed.ljust(4, b"\0")
        fields.append(struct.pack(f"{order}HHI", tag, 3, len(values)) + offset)
    directory = struct.pack(f"{order}H", len(fields)) + b"".join(fields) + bytes(4)
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, place + len(body))
    return start + data + body + directory


def read(data: bytes) -> np.ndarray:
    image = read_pixels(io.BytesIO(data), "it")
    assert image.mode in ("L", "RGB")
    return np.array(image)


def refusal(data: bytes) -> str:
    with pytest.raises(ValueError, match=r"^it ") as caught:
        read_pixels(io.BytesIO(data), "it")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def samples(*shape: int) -> np.ndarray:
    """Values of 16 bits, among them the ends and the neighbours of a rounding."""
    values = RANDOM.randint(0, 65536, shape)
    values.flat[:8] = [0, 65535, 128, 129, 255, 256, 65406, 65407]
    return values


def rounded(values: np.ndarray) -> np.ndarray:
    return np.round(values / 257).astype(np.uint8)


@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize("colour, channels", [(GRAY, 1), (RGB, 3), (GRAY_ALPHA, 2), (RGBA, 4)])
def test_a_png_of_16_bits_is_rounded_not_cut(colour: int, channels: int, differences: bool) -> None:
    values = samples(5, 7, channels)
    if colour in (GRAY_ALPHA, RGBA):
        values[:, :, -1] = 65535
    shown = values[:, :, :3] if channels > 2 else values[:, :, 0]
    assert np.array_equal(read(png16(values, colour, differences=differences)), rounded(shown))


@pytest.mark.parametrize("colour, channels", [(GRAY_ALPHA, 2), (RGBA, 4)])
def test_transparency_of_16_bits_is_refused(colour: int, channels: int) -> None:
    values = np.full((3, 3, channels), 65535)
    values[1, 1, -1] = 65535 - 257
    assert "transparent in places" in refusal(png16(values, colour))


def test_a_transparent_colour_of_16_bits_is_refused_if_it_occurs() -> None:
    values = samples(4, 4, 3)
    key = [int(value) for value in values[2, 2]]
    assert "transparent in places" in refusal(
        png16(values, RGB, chunk(b"tRNS", struct.pack(">3H", *key)))
    )
    near = [key[0], key[1], key[2] ^ 1]
    assert np.array_equal(
        read(png16(values, RGB, chunk(b"tRNS", struct.pack(">3H", *near)))), rounded(values)
    )
    gray = values[:, :, 0]
    assert "transparent in places" in refusal(
        png16(gray, GRAY, chunk(b"tRNS", struct.pack(">H", key[0])))
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_shade_of_few_bits_is_found(bits: int) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, bits, GRAY, 0, 0, 0)
    row = bytes([0, (1 << (8 - bits)) | 0])  # the shades 1 and 0
    for key in (0, 1):
        parts = [chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">H", key)),
                 chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b"")]  # fmt: skip
        assert "transparent in places" in refusal(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    del parts[1]
    assert read(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).tolist() == [[255 // (2**bits - 1), 0]]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_16_bits_is_rounded_not_cut(order: str, compressed: bool) -> None:
    colour, gray = samples(5, 7, 3).astype(np.uint16), samples(5, 7).astype(np.uint16)
    assert np.array_equal(read(tiff(colour, order, compressed)), rounded(colour))
    assert np.array_equal(read(tiff(gray, order, compressed)), rounded(gray))
    for extra in (1, 2):  # premultiplied alpha, and plain
        opaque = np.dstack([colour, np.full((5, 7), 65535, np.uint16)])
        assert np.array_equal(read(tiff(opaque, order, compressed, t338=extra)), rounded(colour))
        opaque[:, :, 3] = 65535 - 100  # opaque in 8 bits, as rounded
        assert np.array_equal(read(tiff(opaque, order, compressed, t338=extra)), rounded(colour))
        opaque[0, 0, 3] = 0
        assert "transparent in places" in refusal(tiff(opaque, order, compressed, t338=extra))
    turned = tiff(colour, order, compressed, t274=6)
    assert np.array_equal(read(turned), np.rot90(rounded(colour), -1))


def test_a_tiff_says_what_is_white_and_how_many_bits_count() -> None:
    gray = samples(4, 4).astype(np.uint16)
    assert np.array_equal(read(tiff(gray, "<", t262=0)), rounded(65535 - gray.astype(int)))
    twelve = np.arange(0, 4096, 265).reshape(4, 4)
    pairs = twelve.reshape(-1, 2)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1
    )
    data = packed.astype(np.uint8).reshape(4, 6)
    assert np.array_equal(read(tiff(data, "<", t256=4, t258=12)), np.round(twelve * 255 / 4095))


def test_values_of_unknown_range_are_refused() -> None:
    gray = samples(4, 4)
    assert "32 bits a channel, whose range is unknown" in refusal(tiff(gray.astype(np.uint32), "<"))
    assert "signed or floating-point" in refusal(tiff(gray.astype(np.int16), "<", t339=2))
    assert "signed or floating-point" in refusal(tiff(gray.astype(np.float32), "<", t339=3))
    assert "floating-point values" in refusal(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.5, 1))
    planes = np.ascontiguousarray(samples(3, 4, 4).astype(np.uint16))
    apart = tiff(planes.reshape(4, 4, 3), "<", t284=2, t273=(8, 40, 72), t279=(32, 32, 32))
    assert "planes apart" in refusal(apart)
    file = io.BytesIO()
    Image.fromarray(RANDOM.randint(0, 256, (8, 8, 3)).astype(np.uint8)).save(file, "jpeg2000")
    deep = file.getvalue().replace(b"\x00\x03\x07\x01\x01", b"\x00\x03\x0f\x01\x01")
    assert deep != file.getvalue()
    assert "16 bits a channel in JPEG 2000" in refusal(deep)
    file = io.BytesIO()
    Image.fromarray(RANDOM.randint(0, 256, (8, 8)).astype(np.uint8)).save(file, "jpeg2000")
    flat = file.getvalue().replace(b"\x00\x01\x07\x01\x01", b"\x00\x01\x06\x01\x01")
    assert "7 bits a channel in JPEG 2000" in refusal(flat)


@pytest.mark.parametrize("most", [255, 1000, 4095, 65535])
def test_pgm_and_ppm_say_their_white(most: int) -> None:
    values = RANDOM.randint(0, most + 1, (4, 5, 3))
    data = values.astype(np.uint8 if most < 256 else ">u2")
    colour, gray = (f"P{kind}\n5 4\n{most}\n".encode() for kind in (6, 5))
    assert np.abs(read(colour + data.tobytes()) - values * 255 / most).max() <= 0.51
    one = np.ascontiguousarray(data[:, :, 0])
    assert np.abs(read(gray + one.tobytes()) - values[:, :, 0] * 255 / most).max() <= 0.51


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_carried_out(kind: str, orientation: int) -> None:
    shown = np.zeros((16, 32, 3), np.uint8)
    shown[:8, :16], shown[:8, 16:], shown[8:, :16] = 255, 170, 85  # each corner another shade
    corners = {1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1]}
    sides = {5: shown.transpose(1, 0, 2), 6: np.rot90(shown, 1), 7: shown[::-1, ::-1].transpose(1, 0, 2),
             8: np.rot90(shown, -1)}  # fmt: skip
    # The n-th says: row 0 of the file is that side of what is shown.
    stored = (corners | sides)[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, kind, exif=exif)
    assert np.abs(read(file.getvalue()).astype(int) - shown).max() <= 12


def test_palettes_ink_and_alpha(tmp_path: Path) -> None:
    colour = RANDOM.randint(0, 256, (6, 6, 3)).astype(np.uint8)
    palette = Image.fromarray(colour).quantize(8)
    palette.save(tmp_path / "a.png")
    assert np.array_equal(
        np.array(read_pixels(tmp_path / "a.png")), np.array(palette.convert("RGB"))
    )
    palette.save(tmp_path / "a.png", transparency=palette.getpixel((0, 0)))
    with pytest.raises(ValueError, match=r"a\.png is transparent in places"):
        read_pixels(tmp_path / "a.png")

    ink = Image.fromarray(colour).convert("CMYK")
    ink.save(tmp_path / "a.tif")
    assert np.array_equal(np.array(read_pixels(tmp_path / "a.tif")), np.array(ink.convert("RGB")))

    opaque = Image.fromarray(np.dstack([colour, np.full((6, 6), 255, np.uint8)]))
    opaque.save(tmp_path / "a.png")
    assert np.array_equal(np.array(read_pixels(tmp_path / "a.png")), colour)
    opaque.putpixel((0, 0), (0, 0, 0, 254))
    opaque.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is transparent in places"):
        read_pixels(tmp_path / "a.png")
    Image.fromarray(colour[:, :, 0]).convert("LA").save(tmp_path / "a.png")
    assert np.array_equal(np.array(read_pixels(tmp_path / "a.png")), colour[:, :, 0])
    Image.fromarray(colour[:, :, 0] > 127).save(tmp_path / "a.png")
    assert np.array_equal(
        np.array(read_pixels(tmp_path / "a.png")), np.where(colour[:, :, 0] > 127, 255, 0)
    )


def test_damaged_exif_says_nothing_of_the_orientation() -> None:
    file = io.BytesIO()
    Image.new("L", (4, 2), 9).save(file, "png", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert read(file.getvalue()).tolist() == [[9] * 4] * 2
