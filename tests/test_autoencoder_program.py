"""autoencoder.py and train.py on latents, from images to images."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import autoencoder
import dataset_tool
import generate
import train

SMALL = "--duration 0.000032 --batch 16 --lr-rampup 0"


def run(program: object, line: str) -> Result:
    return CliRunner().invoke(program, line.split())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder of a few steps, and latents of it."""
    folder = tmp_path_factory.mktemp("autoencoder")
    data = folder / "data.npz"
    flags = f"--data {_few(folder)} --outdir {folder}/vae {SMALL} --cbase 8 --cres 1,2 --tick 1"
    result = run(autoencoder.main, f"train {flags}")
    assert result.exit_code == 0, result.output
    line = f"encode --autoencoder {_vae(folder)} --data {_few(folder)} --dest {data}"
    assert json.loads(run(autoencoder.main, line).stdout) == {"images": 32, "dest": str(data)}
    return folder


def _few(folder: Path) -> Path:
    """The first of the bundled images, as a data set."""

    few = folder / "few.zip"
    if not few.exists():
        line = f"--source assets/demo/images.zip --dest {few} --max-images 32 --resolution 16x16"
        result = run(dataset_tool.main, line)
        assert result.exit_code == 0, result.output
    return few


def _vae(folder: Path) -> Path:
    return folder / "vae" / "network-snapshot-000000.safetensors"


@pytest.mark.parametrize(
    "flags",
    [
        "ldm --cbase 32 --cres 1,1 --num-blocks 1 --attn 8",
        "uvit --cbase 32 --num-blocks 1 --patch 2",
    ],
)
def test_a_network_of_latents_is_trained_shown_and_sampled(
    flags: str, made: Path, tmp_path: Path
) -> None:
    line = f"--outdir {tmp_path}/run --data {made}/data.npz --cond 1 --arch {flags} --grid 2x1 --label-dropout 0.1"
    result = run(train.main, f"{line} {SMALL}")
    assert result.exit_code == 0, result.output
    assert {"images-000000.png", "network-snapshot-000000.safetensors"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    network = tmp_path / "run" / "network-snapshot-000000.safetensors"
    line = f"--network {network} --autoencoder {_vae(made)} --outdir {tmp_path}/out"
    result = run(generate.main, f"{line} --seeds 0 --steps 3 --guidance 1.5 --rho-bottom 0.8")
    assert result.exit_code == 0, result.output


def test_reconstructions(made: Path, tmp_path: Path) -> None:
    line = f"reconstruct --autoencoder {_vae(made)} --data {_few(made)} --num 3 --dest {tmp_path}/out.npz"
    assert json.loads(run(autoencoder.main, line).stdout)["images"] == 3
    assert np.load(tmp_path / "out.npz")["arr_0"].shape == (3, 16, 16, 1)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--arch adm", "holds latents, and --arch=adm is for images; choose ldm or uvit"),
        ("--arch ldm --precond vp", "--arch=ldm has its own, leave it out"),
        ("--arch ldm --augment 0.1", "--augment=0.1 is of images"),
        ("--arch ldm --patch 2", "--patch=2 is of --arch=uvit"),
        ("--arch uvit --cres 1,2", "--cres is of U-Nets"),
        ("--arch uvit --dropout 0.1", "--dropout=0.1 is of EDM's networks; --arch=uvit has none"),
        ("--arch ldm --dropout 0.13", "--dropout=0.13 is of EDM's networks; --arch=ldm has none"),
        ("--arch ldm --autoencoder no.pt --grid none", "--autoencoder=no.pt does nothing: --grid"),
        ("--arch ldm --xflip 1 --cres 1", "holds latents, which have no mirror image"),
    ],
)
def test_what_does_not_fit_is_one_line(
    flags: str, message: str, made: Path, tmp_path: Path
) -> None:
    line = f"--outdir {tmp_path}/run --data {made}/data.npz --cond 1 {flags} {SMALL}"
    result = run(train.main, line)
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "run").exists()


def test_more_reconstructions_than_images_are_refused(made: Path, tmp_path: Path) -> None:
    line = f"reconstruct --autoencoder {_vae(made)} --data {_few(made)} --num 33 --dest {tmp_path}/x.npz"
    result = run(autoencoder.main, line)
    assert result.exit_code == 2 and not list(tmp_path.iterdir())
    assert result.stderr.endswith("few.zip holds 32 images, but 33 are expected: ask for fewer\n")


def test_attention_of_latents_at_no_level_is_said(made: Path, tmp_path: Path) -> None:
    line = f"--outdir {tmp_path}/run --data {made}/data.npz --arch ldm --attn 8,5 --dry-run {SMALL}"
    result = run(train.main, line)
    assert result.exit_code == 0, result.output
    assert "no attention at 5x5, which --attn names: the network's levels are 8x8, 4x4" in (
        result.stderr
    )


def test_images_are_no_latents(made: Path, tmp_path: Path) -> None:
    line = f"--outdir {tmp_path}/run --data {_few(made)}"
    result = run(train.main, f"{line} --arch ldm")
    assert result.exit_code == 2 and "make some with autoencoder.py encode" in result.stderr
    result = run(train.main, f"{line} --arch adm --autoencoder {_vae(made)}")
    assert result.exit_code == 2 and "does nothing: --data are images" in result.stderr


def test_the_perceptual_term_is_for_the_clothes_only(made: Path, tmp_path: Path) -> None:
    line = f"train --data {_few(made)} --outdir {tmp_path}/vae {SMALL} --perceptual 1"
    result = run(autoencoder.main, line)
    assert result.exit_code == 2 and "reads 1x32x32 images; these are 1x16x16" in result.stderr
    assert not (tmp_path / "vae").exists()
