"""Guidance, --sigma-init and a network's defaults in generate.py and fid.py, as their users run them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_network import saved

import fid
import generate
from dnnlib.pictures import decode_png
from dnnlib.places import ROOT
from dnnlib.util import file_sha256
from training.presets import load_presets

REFERENCE = ROOT / "assets/demo/reference.npz"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    saved(folder, "tiny")
    saved(folder, "weak", label_dim=0)
    saved(folder, "colour", channels=3)
    return folder


def run(outdir: Path, args: str) -> Result:
    return CliRunner().invoke(generate.main, ["--outdir", str(outdir), *args.split()])


def made(outdir: Path, args: str) -> np.ndarray:
    result = run(outdir, args)
    assert result.exit_code == 0, result.stderr
    return np.stack([decode_png(path.read_bytes()) for path in sorted(outdir.glob("*.png"))])


def record(outdir: Path) -> dict[str, Any]:
    return json.loads((outdir / "run.json").read_text())


def refused(result: Result) -> str:
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_a_guided_run_and_its_record(networks: Path, tmp_path: Path) -> None:
    args = f"--network {networks}/tiny.safetensors --seeds 0-5 --steps 5 --class 3"
    guide = f"{networks}/weak.safetensors"
    plain = made(tmp_path / "plain", args)
    free = made(tmp_path / "free", f"{args} --guidance 3")
    auto = made(tmp_path / "auto", f"{args} --guidance 3 --guide {guide} --batch 1")
    assert len({images.tobytes() for images in (plain, free, auto)}) == 3
    settings = record(tmp_path / "auto")["settings"]
    session = record(tmp_path / "auto")["sessions"][0]
    assert settings["guidance"] == {"scale": 3.0, "guide_sha256": file_sha256(guide)}
    assert settings["sampler"]["nfe"] == 18 and session["network"]["guide"] == guide
    assert record(tmp_path / "free")["settings"]["guidance"] == {"scale": 3.0, "guide_sha256": None}
    assert "guidance" not in record(tmp_path / "plain")["settings"]


def test_scale_one_goes_on_with_a_plain_run(networks: Path, tmp_path: Path) -> None:
    args = f"--network {networks}/tiny.safetensors --seeds 0-3 --steps 5"
    plain = made(tmp_path / "plain", args)
    (tmp_path / "plain/000002.png").unlink()
    assert np.array_equal(made(tmp_path / "plain", f"{args} --guidance 1"), plain)
    assert "guidance" in refused(run(tmp_path / "plain", f"{args} --guidance 1.5 --guide-rho 0.9"))


@pytest.mark.parametrize(
    "args, message",
    [
        ("{0}/tiny.safetensors --guidance nan", "guidance scale is nan"),
        (
            "{0}/tiny.safetensors --guide weak",
            "guide weak does nothing without guidance: give its scale (--guidance)",
        ),
        (
            "{0}/weak.safetensors --guidance 1.4",
            "guidance 1.4 is asked for, but the network is unconditional",
        ),
        (
            "{0}/tiny.safetensors --guidance 2 --guide {0}/colour.safetensors",
            "the guide has img_channels 3, the network 1",
        ),
        ("{0}/tiny.safetensors --guidance 2 --guide {0}/gone.safetensors", "no such file: "),
        (
            "{0}/tiny.safetensors --guidance 2 --guide gone",
            "no network is called 'gone'; choose from demo",
        ),
        (
            "{0}/tiny.safetensors --sigma-init 2 --steps 3",
            "--sigma-init=2 is one evaluation of the network; drop --steps",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    networks: Path, tmp_path: Path, args: str, message: str
) -> None:
    result = run(tmp_path / "out", f"--network {args.format(networks)}")
    assert message in refused(result) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("program", ["generate", "fid"])
def test_a_network_that_nothing_fetches_says_how_to_get_it(program: str, tmp_path: Path) -> None:
    for name in ("uvit-h2-imagenet-256", "diff-instruct-imagenet-64x64"):
        preset = load_presets()[name]
        if preset.local_path.exists():
            pytest.skip("the file is here")
        if program == "generate":
            result = run(tmp_path / "out", f"--network {name}")
        else:
            args = [
                "gen", "--network", name, "--detector", "demo", "--ref", str(REFERENCE), "--seeds",
                "0-1",
            ]  # fmt: skip
            result = CliRunner().invoke(fid.main, args)
        assert (
            refused(result)
            == f"Error: {name} is not here: {preset.obtain}; save it as {preset.local_path}\n"
        )


def test_sigma_init_is_the_one_step_of_consistency_models(tmp_path: Path) -> None:
    """On the demo network: the clamp before the rounding to bytes changes no byte."""
    one = made(tmp_path / "one", "--seeds 0-3 --sigma-init 80")
    assert np.array_equal(
        one, made(tmp_path / "two", "--seeds 0-3 --sampler consistency --sigmas 80")
    )
    sampler = record(tmp_path / "one")["settings"]["sampler"]
    assert (sampler["sampler"], sampler["sigmas"], sampler["nfe"], sampler["clip"]) == (
        "consistency",
        [80, 0],
        1,
        False,
    )
    assert not np.array_equal(one, made(tmp_path / "three", "--seeds 0-3 --sigma-init 2"))


def test_the_defaults_of_a_network_are_in_the_record(
    networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP_TUNING_CACHE", str(tmp_path))
    os.symlink(networks / "tiny.safetensors", load_presets()["cd-imagenet-64x64-l2"].local_path)
    named = made(tmp_path / "named", "--network cd-imagenet-64x64-l2 --seeds 0-3")
    flags = "--seeds 0-3 --sampler consistency --sigmas 80"
    assert np.array_equal(
        named, made(tmp_path / "path", f"--network {networks}/tiny.safetensors {flags}")
    )
    assert record(tmp_path / "named")["settings"] == record(tmp_path / "path")["settings"]
    assert record(tmp_path / "named")["settings"]["sampler"]["nfe"] == 1
    other = made(
        tmp_path / "heun", "--network cd-imagenet-64x64-l2 --seeds 0-3 --sampler heun --steps 3"
    )
    assert (
        not np.array_equal(named, other)
        and record(tmp_path / "heun")["settings"]["sampler"]["nfe"] == 5
    )


def test_fid_of_guided_images() -> None:
    def result(*args: str) -> dict[str, Any]:
        asked = ["--detector", "demo", "--ref", str(REFERENCE), "--seeds", "0-19", "--steps", "2"]
        done = CliRunner().invoke(fid.main, ["gen", *asked, *args])
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    plain, guided = result(), result("--guidance", "2")
    assert guided["settings"]["guidance"] == {"scale": 2.0, "guide_sha256": None}
    assert guided["settings"]["sampler"]["nfe"] == 6 and plain["settings"]["sampler"]["nfe"] == 3
    assert guided["metrics"] != plain["metrics"] == result("--guidance", "1")["metrics"]
