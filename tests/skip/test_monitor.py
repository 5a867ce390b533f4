"""The monitor: the same numbers as fid.py, and no line twice."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny_network import saved

import fid
from skip.monitor import METRICS_FILE, Monitor

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "demo" / "network.safetensors"
REFERENCE = ROOT / "assets" / "demo" / "reference.npz"
CPU = torch.device("cpu")


def test_the_number_is_that_of_fid_py(tmp_path: Path) -> None:
    network = saved(tmp_path, resolution=32)
    monitor = Monitor(tmp_path, CPU, "none", 6, str(REFERENCE), "demo")
    monitor(Path(network), 1000)
    line = json.loads((tmp_path / METRICS_FILE).read_text())
    flags = [
        "--network", network, "--seeds", "0-5", "--ref", str(REFERENCE), "--detector", "demo",
    ]  # fmt: skip
    result = CliRunner().invoke(fid.main, ["gen", *flags])
    assert result.exit_code == 0, result.output
    assert line["images"] == 1000
    name = "fid-demo-fashion-mnist"
    assert line[name] == pytest.approx(json.loads(result.stdout)["metrics"][name], rel=1e-6)
    assert not list(tmp_path.glob("*.png"))


def test_images_that_the_detector_does_not_take_are_refused(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, CPU, "none", 6, str(REFERENCE), "demo")
    monitor.check((1, 32, 32))
    with pytest.raises(
        ValueError, match="reads images of 32x32 pixels, not 8x8; give another as --detector"
    ):
        monitor.check((1, 8, 8))
    Monitor(tmp_path, CPU, "none", 0, "", "").check((1, 8, 8))


def test_the_detector_is_that_of_the_reference(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, CPU, "none", 6, str(REFERENCE), None)
    assert monitor.evaluation.detector.name == "demo-fashion-mnist"


def test_pictures_are_enlarged(tmp_path: Path) -> None:
    network = saved(tmp_path, resolution=8)
    Monitor(tmp_path, CPU, "2x1", 0, "", "", zoom=5)(Path(network), 1000)
    (picture,) = tmp_path.glob("*.png")
    with Image.open(picture) as shown:
        assert shown.size == (2 * 40 + 6, 40 + 4)
    with pytest.raises(ValueError, match="--zoom=5 enlarges the contact sheet, and --grid=none"):
        Monitor(tmp_path, CPU, "none", 0, "", "", zoom=5)
    with pytest.raises(ValueError, match="take fewer images or a smaller factor"):
        Monitor(tmp_path, CPU, "8x8", 0, "", "", zoom=64).check((3, 64, 64))


def test_lines_of_a_killed_session_are_replaced(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, CPU, "none", 0, "", "")
    for images in (1000, 2000, 3000, 2000):
        monitor.append({"images": images, "fid": 1.0})
    lines = [
        json.loads(line)["images"] for line in (tmp_path / METRICS_FILE).read_text().splitlines()
    ]
    assert lines == [1000, 2000]
