"""The demo, as a newcomer runs it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from demo import DemoFlags, main
from programs.demo import work
from training.checkpoint import load_network

ROOT = Path(__file__).resolve().parents[1]


def test_demo_draws_pairs_of_the_same_seeds(tmp_path: Path) -> None:
    picture = tmp_path / "demo.png"
    flags = ["--out", str(picture), "--steps", "3", "--num", "6", "--zoom", "2"]
    result = CliRunner().invoke(main, flags)
    assert result.exit_code == 0, result.output
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert f"on {device}: {picture}" in result.stdout
    assert "no curve: table2 has no FID of UniPC with 3 steps" in result.stderr

    page = np.asarray(Image.open(picture).convert("L"), dtype=float)
    height, width = 2 * 32 + 4, work.PAIRS * (2 * 32 + 2) + 2
    assert page.shape == (3 * (height + 34), width)
    plain, tuned, gap = (page[end - height : end] for end in (102, 204, 306))
    assert np.corrcoef(plain.ravel(), tuned.ravel())[0, 1] > 0.8  # the same seeds
    assert np.abs(plain - tuned).max() > 20  # but not the same images
    inside = slice(2, 66), slice(2, 66)
    assert np.abs(gap[inside] - 127.5 - (tuned - plain)[inside] / 2).max() <= 1


def test_the_pairs_are_those_that_change_most() -> None:
    plain = np.zeros((8, 1, 2, 2), np.uint8)
    tuned = plain.copy()
    for seed, level in enumerate([3, 200, 0, 9, 9, 1, 40, 2]):
        tuned[seed, 0, 0, 0] = level
    gaps = work.changes(plain, tuned)
    assert gaps[1] == 100 and work.most_changed(gaps) == [1, 6, 3, 4, 0]


def test_the_curve_is_that_of_the_committed_results() -> None:
    panel = work.measured_curve(9)
    assert panel is not None and panel.ylabel == "demo FID, relative to rho 1"
    (curve,) = panel.curves.values()
    at = {point.x: point for point in curve}
    assert at[1.0].y.value == 1 and at[0.7].images == 2000
    # docs/results.md: 0.99 of 1.11 at rho 0.7, and -0.135 +- 0.016 of 1.109 at 0.8.
    assert at[0.7].y.value == pytest.approx(0.889, abs=0.001)
    assert at[0.8].y.value == pytest.approx(1 - 0.135 / 1.109, abs=0.001)
    assert 0 < (at[0.8].y.error or 0) < 0.03 and work.measured_curve(3) is None


def test_without_matplotlib_the_pairs_are_drawn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert work._curve(9) is None


def test_readme_has_the_pictures_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "(docs/images/demo.png)" in readme
    assert "python demo.py --dest docs/images/demo.png" in readme
    assert DemoFlags().num == 200 and DemoFlags().steps == 9, "as its caption says"


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "demo.png"), "--rho-bottom", "nan"])
    assert result.exit_code == 2
    assert "Error: " in result.stderr and "nan" in result.stderr


def test_rho_is_not_edms_exponent_here(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "demo.png"), "--rho", "0.6"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and "--rho-bottom=0.6" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for dest in (tmp_path, tmp_path / "file" / "demo.png"):
        result = CliRunner().invoke(main, ["--dest", str(dest)])
        assert result.exit_code == 2 and result.stderr.startswith(f"Error: --dest={dest}")


def test_demo_network_is_the_documented_one() -> None:
    net = load_network("demo")
    assert (net.img_resolution, net.img_channels, net.label_dim, net.num_skips) == (32, 1, 10, 9)
    assert sum(p.numel() for p in net.parameters()) == 1_111_617
