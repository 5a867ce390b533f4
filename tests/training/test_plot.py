"""The loss curve."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from training.plot import curves, main

LINES = [{"images": 1000.0 * i, "loss": 1.0 / i} for i in range(1, 5)]


def test_curve_shows_the_losses() -> None:
    (axes,) = curves(LINES).axes
    line = axes.lines[0]
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == [x["loss"] for x in LINES]
    assert "images" in axes.get_xlabel() and "loss" in axes.get_ylabel()


def test_program_writes_a_picture(tmp_path: Path) -> None:
    stats, picture = tmp_path / "stats.jsonl", tmp_path / "curve.png"
    stats.write_text("".join(json.dumps(x) + "\n" for x in LINES))
    assert CliRunner().invoke(main, [str(stats), str(picture)]).exit_code == 0
    assert Image.open(picture).width > 500


@pytest.mark.parametrize(
    ("suffix", "begins"), [("pdf", b"%PDF"), ("SVG", b"<?xml"), ("png", b"\x89PNG")]
)
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str, begins: bytes) -> None:
    stats, picture = tmp_path / "stats.jsonl", tmp_path / f"curve.{suffix}"
    stats.write_text("".join(json.dumps(x) + "\n" for x in LINES))
    assert CliRunner().invoke(main, [str(stats), str(picture)]).exit_code == 0
    assert picture.read_bytes().startswith(begins)


@pytest.mark.parametrize("name", ["curve", "curve.gif", "curve.png.gz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "stats.jsonl").write_text(json.dumps(LINES[0]))
    result = CliRunner().invoke(main, [str(tmp_path / "stats.jsonl"), str(tmp_path / name)])
    assert (
        result.exit_code == 2
        and "is .png, .pdf or .svg; name a file that ends so, as curve" in result.output
    )
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"images": "many", "loss": 1}', "line 1 is damaged (images is no number)"),
        ('{"images": 1, "loss": NaN}', "line 1 is damaged (loss is NaN"),
        ('{"images": 1' + "0" * 400 + ', "loss": 1}', "absurdly large"),
        ('{"images": 1}', "line 1 has no 'loss'"),
        ("[" * 100_000, "line 1 is damaged"),
        ('{"images": 1, "loss": 1, "crc32": "00000000"}', "its checksum is another"),
    ],
)
def test_other_statistics_are_one_line(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "stats.jsonl").write_text(line)
    result = CliRunner().invoke(main, [str(tmp_path / "stats.jsonl"), str(tmp_path / "x.png")])
    assert result.exit_code == 2 and words in result.output and len(result.output.splitlines()) == 1


def test_fid_is_drawn_below(tmp_path: Path) -> None:
    fids = [
        {"images": 2000, "fid-demo": 5.0, "fid_standard_error-demo": 0.5},
        {"images": 4000, "fid-demo": 3.0},
    ]
    loss, fid = curves(LINES, fids).axes
    assert list(fid.lines[0].get_xdata()) == [2, 4] and list(fid.lines[0].get_ydata()) == [5, 3]
    assert (
        fid.get_ylabel() == "FID (detector demo)"
        and "images" in fid.get_xlabel()
        and "loss" in loss.get_ylabel()
    )
    stats = tmp_path / "stats.jsonl"
    for name, lines in (("stats.jsonl", LINES), ("metrics.jsonl", fids)):
        (tmp_path / name).write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert CliRunner().invoke(main, [str(stats), str(tmp_path / "curve.png")]).exit_code == 0
    assert Image.open(tmp_path / "curve.png").height > 700


def test_no_statistics(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no statistics yet"):
        curves([])
    result = CliRunner().invoke(main, [str(tmp_path / "none.jsonl"), str(tmp_path / "x.png")])
    assert (
        result.exit_code == 2
        and result.output.startswith("Error: ")
        and "none.jsonl" in result.output
    )


def test_what_are_no_statistics_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    for name, words in (
        ("a.npy", "damaged (it is no text in UTF-8); name the stats.jsonl of a training run"),
        ("none.jsonl", "none.jsonl; name the stats.jsonl of a training run"),
        ("", "is a folder; name the stats.jsonl in it"),
    ):
        result = CliRunner().invoke(main, [str(tmp_path / name), str(tmp_path / "x.png")])
        assert result.exit_code == 2 and result.stderr.endswith(f"{words}\n"), name


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text(json.dumps(LINES[0]) + '\n{"images": 2000, "lo')
    result = CliRunner().invoke(main, [str(tmp_path / "stats.jsonl"), str(tmp_path / "x.png")])
    assert result.exit_code == 2 and "stats.jsonl, line 2 is damaged" in result.output
    assert not (tmp_path / "x.png").exists()


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "stats.jsonl").write_text(json.dumps(LINES[0]))
    result = CliRunner().invoke(main, [str(tmp_path / "stats.jsonl"), str(tmp_path / "x.png")])
    assert result.exit_code == 2 and "pictures need the package matplotlib" in result.output


def test_a_picture_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(
        main, [str(tmp_path / "absent.jsonl"), str(tmp_path / "file" / "curve.png")]
    )
    assert (
        result.exit_code == 2 and "PICTURE=" in result.stderr and "cannot write to" in result.stderr
    )
