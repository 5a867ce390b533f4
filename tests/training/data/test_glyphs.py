"""Pictures of a colour font as a data set, from fonts that are made here, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from dataset_files import convert, read_as_edm_does, refused, run
from PIL import features

from training.data.glyphs import Character, Glyphs, read_characters

pytest.importorskip("fontTools")
from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

pytestmark = pytest.mark.skipif(
    not (features.check("raqm") and features.check("fribidi")), reason="Pillow lacks Raqm"
)

NAMES = {0x1F534: "red", 0x1F7E5: "also_red", 0x1F535: "blue", 0x2B1C: "plain", 0x200D: "joiner"}
LIST = """# group: Warm
1F534 ; fully-qualified # red circle
1F7E5 ; fully-qualified # a square that looks like it
# subgroup: unseen
1F534 FE0F ; unqualified # counts for nothing

# group: Cold
1F535 ; fully-qualified
2B1C ; fully-qualified # black and without colour
1F534 200D 1F535 ; fully-qualified # one picture, blue on red
1F535 200D 1F534 ; fully-qualified # the font has no such picture, and draws two
1F9FF ; fully-qualified # nor this one at all
# group: Component
1F3FB ; component
"""


def _square(left: int, bottom: int, right: int, top: int) -> object:
    pen = TTGlyphPen(None)
    pen.moveTo((left, bottom))
    for corner in ((left, top), (right, top), (right, bottom)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def font(path: Path, coloured: bool = True) -> Path:
    """Squares of 600 units in a font of 1000: red, red, blue and black; blue on red for red + joiner + blue."""
    names = [".notdef", *NAMES.values(), "both", "small"]
    shapes = {name: _square(200, 0, 800, 600) for name in names}
    shapes |= {".notdef": TTGlyphPen(None).glyph(), "joiner": TTGlyphPen(None).glyph()}
    shapes["small"] = _square(400, 200, 600, 400)
    made = FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder(names)
    made.setupCharacterMap(NAMES)
    made.setupGlyf(shapes)  # and reckons their boxes
    widths = {name: (1000, shapes[name].xMin) for name in names}
    made.setupHorizontalMetrics(widths | {"joiner": (0, 0)})
    made.setupHorizontalHeader(ascent=1000, descent=0)
    made.setupOS2()
    made.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    made.setupPost()
    addOpenTypeFeaturesFromString(
        made.font, "feature liga { sub red joiner blue by both; } liga;", tables=["GSUB"]
    )
    if coloured:
        made.setupCPAL([[(1, 0, 0, 1), (0, 0, 1, 1)]])
        both = [("plain", 0), ("small", 1)]
        made.setupCOLR(
            {
                "red": [("plain", 0)],
                "also_red": [("plain", 0)],
                "blue": [("plain", 1)],
                "both": both,
            }
        )
    made.save(path)
    return path


def damaged(data: bytes) -> bytes:
    """The font with outlines that lead nowhere."""
    place = TTFont(io.BytesIO(data)).reader.tables["glyf"].offset
    return data[:place] + b"\x7f" * 40 + data[place + 40 :]


def listed(path: Path, text: str = LIST) -> Path:
    path.write_text(text)
    return path


def test_each_picture_once_with_its_group(tmp_path: Path) -> None:
    characters = read_characters(listed(tmp_path / "list.txt"))
    glyphs = Glyphs(font(tmp_path / "a.ttf"), characters)
    assert [str(kept) for kept in glyphs.kept] == ["U+1F534", "U+1F535", "U+1F534 U+200D U+1F535"]
    assert glyphs.groups == ["Warm", "Cold"] and glyphs.labels().tolist() == [0, 1, 1]
    assert dict(glyphs.left_out) == {
        "like an earlier one": 1,
        "without a coloured picture": 2,
        "drawn as several": 1,
    }


def test_pictures_are_square_in_the_middle_and_on_white(tmp_path: Path) -> None:
    glyphs = Glyphs(font(tmp_path / "a.ttf"), read_characters(listed(tmp_path / "list.txt")))
    red, _blue, both = (np.array(glyphs.draw(index)) for index in range(3))
    expected = np.full((160, 160, 3), 255)  # pixels an em
    expected[32:128, 32:128] = [255, 0, 0]  # 200 to 800 of 1000
    assert np.array_equal(red, expected)
    expected[64:96, 64:96] = [0, 0, 255]
    assert np.array_equal(both, expected)


def test_the_data_set(tmp_path: Path) -> None:
    made = font(tmp_path / "a.ttf"), tmp_path / "a.zip", "--characters"
    options = (listed(tmp_path / "list.txt"), "--resolution", "40x40")
    summary = convert(*made, *options)
    assert summary["images"] == 3 and summary["channels"] == 3 and summary["classes"] == 2
    images, labels = read_as_edm_does(tmp_path / "a.zip")
    assert labels == [0, 1, 1] and images[1, 20, 20].tolist() == [0, 0, 255]
    before = (tmp_path / "a.zip").read_bytes()
    assert convert(*made, *options, "--overwrite") == summary
    assert (tmp_path / "a.zip").read_bytes() == before
    assert convert(*made, *options, "--overwrite", "--labels", "none")["classes"] == 0


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    place = ["--source", font(tmp_path / "a.ttf"), "--dest", tmp_path / "a.zip"]
    result = run(*place, "--characters", listed(tmp_path / "list.txt"))
    assert "2 classes, by groups: Warm, Cold\n" in result.stderr
    assert "left out: 2 characters without a coloured picture\n" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no fully-qualified characters"),
        ("# group: A\n1F534 ; component\n", "lists no fully-qualified characters"),
        ("a picture\n", "line 1 is 'a picture'; need lines as '1F600 ; fully-qualified'"),
        ("\x1b[31m\n", r"line 1 is '\\x1b[31m'"),
        ("1F534 ; fully-qualified\nD800 ; fully-qualified\n", "line 2: D800 is no code point"),
        ("FFFFFF ; fully-qualified\n", "line 1: FFFFFF is no code point"),
        ("1F534 " * 40 + "; fully-qualified\n", "40 code points; at most 32"),
        ("\udcff", "no list of characters"),
    ],
)
def test_strange_lists_are_one_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    dest = tmp_path / "a.zip"
    assert words in refused(font(tmp_path / "a.ttf"), dest, "--characters", path)


def test_what_is_no_coloured_font_is_one_line(tmp_path: Path) -> None:
    given = ["--characters", listed(tmp_path / "list.txt")]
    black, dest = font(tmp_path / "black.ttf", coloured=False), tmp_path / "a.zip"
    assert "black.ttf has no coloured picture of any of 7 characters" in refused(
        black, dest, *given
    )
    (tmp_path / "noise.ttf").write_bytes(b"no font" * 99)
    assert "noise.ttf is no font that can be read" in refused(tmp_path / "noise.ttf", dest, *given)
    cut = tmp_path / "cut.ttf"
    cut.write_bytes(black.read_bytes()[:300])
    assert "cut.ttf is no font that can be read" in refused(cut, dest, *given)
    good = font(tmp_path / "bad.ttf").read_bytes()
    (tmp_path / "bad.ttf").write_bytes(damaged(good))
    assert "bad.ttf is a damaged font: " in refused(tmp_path / "bad.ttf", dest, *given)


def test_options_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    made, dest = font(tmp_path / "a.ttf"), tmp_path / "a.zip"
    given = ["--characters", listed(tmp_path / "list.txt")]
    assert "a list says which characters to draw (--characters)" in refused(made, dest)
    assert "which has no splits" in refused(made, dest, *given, "--split", "test")
    assert "has its own labels" in refused(made, dest, *given, "--labels", "folders")
    assert "absent" in refused(made, dest, "--characters", tmp_path / "absent")
    assert "list of characters is for a font" in refused(tmp_path, dest, *given)


def test_a_pillow_without_raqm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "fribidi")
    with pytest.raises(RuntimeError, match="this Pillow lacks Raqm or FriBiDi"):
        Glyphs(font(tmp_path / "a.ttf"), [Character("\U0001f534", "Warm")])
