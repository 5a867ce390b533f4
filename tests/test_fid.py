"""fid.py as a user runs it, with a small untrained detector and the bundled network."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fid import main
from generate import main as generate
from metrics.demo_detector.files import FORMAT, save
from metrics.demo_detector.network import DemoDetector

ROOT = Path(__file__).resolve().parents[1]
SAMPLING = ["--steps", "2", "--labels", "balanced", "--rho-bottom", "0.7"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "detector.safetensors"
    save(DemoDetector().eval(), path, {"format": FORMAT})
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i, image in enumerate(
        np.random.RandomState(0).randint(0, 256, [150, 32, 32], dtype=np.uint8)
    ):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def result(*args: object) -> dict[str, Any]:
    done = run(*args)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def refused(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 2 and done.stdout == "", done.output
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ") and "Traceback" not in done.stderr
    return lines[-1]


@pytest.fixture
def reference(data: Path, detector: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ref.npz"
    assert (
        result("ref", "--data", data, "--dest", path, "--detector", detector)["protocol"]["num"]
        == 150
    )
    return path


def test_reference_is_readable_as_edm_reads_it(reference: Path) -> None:
    with np.load(reference) as arrays:
        assert arrays["mu"].shape == (128,) and arrays["sigma"].shape == (128, 128)
        assert arrays["mu"].dtype == arrays["sigma"].dtype == np.float64
        assert (arrays["count"], arrays["channels"]) == (150, 1)


def test_images_of_the_reference_are_at_distance_zero(
    reference: Path, data: Path, detector: Path
) -> None:
    metrics = "fid,is,kid,pr,dc,immd"
    found = result("calc", "--images", data, "--num", 150, "--ref", reference, "--ref-images", data, "--detector",
                   detector, "--metrics", metrics)  # fmt: skip
    values = found["metrics"]
    scale = float(np.trace(np.load(reference)["sigma"]))
    assert abs(values["fid-demo-fashion-mnist"]) < 1e-6 * scale
    assert values["precision-demo-fashion-mnist"] == values["recall-demo-fashion-mnist"] == 1
    assert "fid" not in values, "only Inception's distance is called FID"
    assert found["detector"]["sha256"] and found["protocol"]["reference_sha256"]
    assert found["protocol"]["reference_num"] == found["protocol"]["reference_images_num"] == 150
    assert (
        list(found["protocol"]["metrics"]) == metrics.split(",")
        and "k = 3" in found["protocol"]["metrics"]["pr"]
    )
    few = result("calc", "--images", data, "--num", 100, "--ref", reference, "--detector", detector)
    assert "100" in " ".join(few["warnings"]), (
        "100 images leave the covariance of 128 features singular"
    )


def test_gen_equals_generate_and_calc(reference: Path, detector: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(
        generate, ["--outdir", str(tmp_path / "out"), "--seeds", "0-39", *SAMPLING]
    )
    assert made.exit_code == 0, made.output
    asked = ["--ref", reference, "--detector", detector, "--metrics", "fid,is"]
    stored = result("calc", "--images", tmp_path / "out", "--num", 40, *asked)
    direct = result("gen", "--seeds", "0-39", *SAMPLING, *asked)
    for name, value in direct["metrics"].items():
        assert value == pytest.approx(stored["metrics"][name], rel=1e-6), name
    assert direct["settings"]["skip"]["rho"][0] == 0.7
    plain = result("gen", "--seeds", "0-39", *SAMPLING[:4], *asked)
    assert plain["metrics"] != direct["metrics"]


def test_several_seed_ranges_give_a_spread(reference: Path, detector: Path) -> None:
    asked = ["--ref", reference, "--detector", detector, "--steps", 2]
    found = result("gen", "--seeds", "0-19", "--seeds", "20-39", *asked)
    alone = result("gen", "--seeds", "20-39", *asked)
    key = "fid-demo-fashion-mnist"
    values = [run["metrics"][key] for run in found["runs"]]
    assert values[1] == pytest.approx(alone["metrics"][key], rel=1e-6)
    assert found["spread"][key]["least"] == min(values)


def test_real_features_are_made_once_and_first(reference: Path, detector: Path, data: Path) -> None:
    done = run("gen", "--seeds", "0-19", "--seeds", "20-39", "--steps", 2, "--detector", detector, "--metrics", "pr",
               "--ref-images", data)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert re.findall(r" 0/(\d+) \[", done.stderr) == ["150", "40"]


def test_kept_features_are_used_again(
    reference: Path, detector: Path, data: Path, tmp_path: Path
) -> None:
    asked = ["calc", "--images", data, "--num", 150, "--ref", reference, "--detector", detector]
    first = result(*asked, "--features", tmp_path / "kept")
    (chunk,) = (tmp_path / "kept").glob("*.npz")
    before = chunk.stat().st_mtime_ns
    assert result(*asked, "--features", tmp_path / "kept")["metrics"] == first["metrics"]
    assert chunk.stat().st_mtime_ns == before
    assert "other images" in refused(
        *asked, "--seed", 1, "--num", 100, "--features", tmp_path / "kept"
    )


def test_two_ranks_agree_with_one(
    reference: Path, detector: Path, data: Path, tmp_path: Path
) -> None:
    asked = [
        "calc", "--images", data, "--num", 150, "--ref", reference, "--detector", detector,
        "--batch", 16,
    ]  # fmt: skip
    done = processes.run(
        "fid.py", *map(str, asked), ranks=2, SKIP_TUNING_CACHE=str(tmp_path / "other")
    )
    assert done.returncode == 0, done.stderr
    two, one = json.loads(done.stdout)["metrics"], result(*asked)["metrics"]
    scale = float(np.trace(np.load(reference)["sigma"]))
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-6, abs=1e-7 * scale), name


def test_bad_input_is_one_line(reference: Path, detector: Path, data: Path, tmp_path: Path) -> None:
    base = ["calc", "--images", data, "--detector", detector]
    assert "150 images, but 50000 are expected" in refused(*base, "--ref", reference)
    assert "--ref" in refused(*base, "--num", 150)
    assert "--ref-images" in refused(*base, "--num", 150, "--ref", reference, "--metrics", "pr")
    assert "unknown metric 'fd'" in refused(*base, "--ref", reference, "--metrics", "fd")
    assert "no such file" in refused(*base, "--ref", tmp_path / "none.npz").lower()
    assert "is not an npz file" in refused(*base, "--num", 150, "--ref", detector)
    assert "no detector is called 'incption'" in refused(
        "calc", "--images", data, "--num", 150, "--ref", reference, "--detector", "incption"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refused(
        "calc", "--images", empty, "--ref", reference, "--detector", detector
    )
    np.savez(tmp_path / "small.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert "dimension" in refused(*base, "--num", 150, "--ref", tmp_path / "small.npz")
    broken = data / "7.png"
    broken.write_bytes(broken.read_bytes()[:100])
    assert "7.png" in refused(*base, "--num", 150, "--ref", reference)
