"""The demo, as a newcomer runs it."""

from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image

from demo import main
from training.checkpoint import load_network


def test_demo_draws_both_sheets_of_the_same_seeds(tmp_path: Path) -> None:
    picture = tmp_path / "demo.png"
    result = CliRunner().invoke(main, ["--out", str(picture), "--steps", "3"])
    assert result.exit_code == 0, result.output
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert f"on {device}: {picture}" in result.stdout
    page = np.asarray(Image.open(picture).convert("L"), dtype=float)
    side = 8 * (2 * 32 + 2) + 2
    assert page.shape[0] > side and page.shape[1] > 2 * side
    plain, tuned = page[-side:, :side], page[-side:, -side:]
    assert np.corrcoef(plain.ravel(), tuned.ravel())[0, 1] > 0.8  # the same seeds
    assert np.abs(plain - tuned).max() > 20  # but not the same images


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
