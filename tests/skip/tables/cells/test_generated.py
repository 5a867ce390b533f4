"""Cells of generated images: the numbers of fid.py, with block means that give their error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import fid
from dnnlib.pictures import decode_png
from metrics.images import open_images
from metrics.statistics import Statistics
from skip.tables.cells.generated import Images, Sheet
from skip.tables.cells.settings import Job
from skip.tables.cells.words import build, record_of
from skip.tables.item import Cell, nfe

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "network": "demo",
    "sampler": "unipc",
    "steps": 3,
    "seeds": "0-23",
    "rho": 0.8,
}
DETECTOR: dict[str, Any] = {
    "detector": "demo",
    "reference": "assets/demo/reference.npz",
    "data": "assets/demo/images.zip",
}


def job(folder: Path, batch: int = 8) -> Job:
    return Job(CPU, batch, folder / "partial", folder / "result")


def test_too_few_images_are_refused_before_there_are_any() -> None:
    cell = SETTINGS | DETECTOR | {"metrics": ["fid", "fid_inf"]}
    build(Images, cell | {"seeds": "0-1279"}).check()
    with pytest.raises(ValueError, match="1,280 or more; 24 given"):
        build(Images, cell).check()


def test_images_are_measured_as_fid_py_does(tmp_path: Path) -> None:
    found = build(Images, SETTINGS | DETECTOR | {"metrics": ["fid", "is"]}).run(job(tmp_path))
    flags = "--detector demo --ref assets/demo/reference.npz --seeds 0-23 --sampler unipc --steps 3"
    flags += " --rho-bottom 0.8 --batch 8"
    result = CliRunner().invoke(fid.main, ["gen", *flags.split(), "--metrics", "fid,is"])
    assert result.exit_code == 0, result.output
    expected = json.loads(result.stdout)["metrics"]
    name = next(key for key in expected if key.startswith("fid-"))
    assert found[name].value == pytest.approx(expected[name], rel=1e-9)
    assert found[name].error == pytest.approx(
        expected[name.replace("fid", "fid_standard_error", 1)], rel=1e-6
    )
    assert len(found[name].blocks) == 24
    assert np.mean(found[name].blocks) == pytest.approx(found[name].value, rel=1e-9)
    score = next(key for key in expected if key.startswith("is-"))
    spread = expected[score.replace("is", "is_std", 1)]
    assert (found[score].value, found[score].error) == pytest.approx(
        (expected[score], spread / 10**0.5)
    )
    assert set(found) == {name, score}


def statistics(path: Path, dim: int, channels: int | None = None) -> str:
    """A reference that another detector made, or of images of other colours."""
    Statistics(np.zeros(dim), np.eye(dim), 1000, channels=channels).save(path)
    return str(path)


def test_a_wrong_reference_is_refused_before_there_are_images(tmp_path: Path) -> None:
    wrong = {
        "statistics of dimension 128 and 64 cannot be compared": statistics(
            tmp_path / "64.npz", 64
        ),
        "the generated images are grayscale, those of .*rgb.npz RGB": statistics(
            tmp_path / "rgb.npz", 128, 3
        ),
        "none.npz: no such file": str(tmp_path / "none.npz"),
        "is not an npz file": __file__,
    }
    for message, reference in wrong.items():
        study = build(Images, SETTINGS | DETECTOR | {"reference": reference})
        for refused in (study.check, lambda study=study: study.run(job(tmp_path))):
            with pytest.raises((ValueError, FileNotFoundError), match=message):
                refused()
        assert not (tmp_path / "partial").exists()


def test_an_adm_reference_batch_is_statistics_as_reference_and_images_as_data(
    tmp_path: Path,
) -> None:
    """What --ref and --ref-images of `tables.py tune` become; fid.py's --ref-images alone takes the statistics."""
    real = open_images("assets/demo/images.zip", 40)
    arrays = {"arr_0": real.batch(range(40)).permute(0, 2, 3, 1).numpy()}
    with np.load("assets/demo/reference.npz") as published:
        own = {"mu": published["mu"], "sigma": published["sigma"]}
    np.savez(tmp_path / "adm.npz", **arrays, **own)
    np.savez(tmp_path / "images.npz", **arrays)
    np.savez(tmp_path / "moved.npz", mu=own["mu"] + 1, sigma=own["sigma"])

    def measured(reference: str, data: str) -> dict[str, float]:
        few = {
            "network": "demo",
            "sampler": "euler",
            "steps": 2,
            "seeds": "0-7",
            "detector": "demo",
        }
        study = build(
            Images, few | {"reference": reference, "data": data, "metrics": ["fid", "kid"]}
        )
        found = study.run(job(tmp_path / f"{Path(reference).stem}-{Path(data).stem}"))
        return {name.partition("-")[0]: estimate.value for name, estimate in found.items()}

    adm, images, moved = (f"{tmp_path}/{name}.npz" for name in ("adm", "images", "moved"))
    plain = measured("assets/demo/reference.npz", images)
    assert measured(adm, adm) == plain, "its statistics beside its images"
    beside = measured(moved, adm)
    assert beside["kid"] == plain["kid"] and beside["fid"] > plain["fid"] + 1, (
        "data does not replace the reference"
    )


def test_few_images_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = job(tmp_path)
    for _ in range(2):
        build(Images, SETTINGS | DETECTOR | {"seeds": "0-3"}).run(few)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "singular" in line]
    assert len(warnings) == 1 and warnings[0].startswith("Warning: the covariance of the ")


def test_cost_is_counted() -> None:
    assert build(Images, SETTINGS | DETECTOR).evaluations() == 3 * 24
    assert (
        build(
            Sheet, {"network": "demo", "sampler": "heun", "steps": 10, "seeds": "0-7"}
        ).evaluations()
        == 19 * 8
    )


def test_guidance_is_counted_and_makes_other_images(tmp_path: Path) -> None:
    settings = {"network": "demo", "sampler": "unipc", "steps": 3, "seeds": "0-3", "rho": 0.8}
    plain, alone, guided = (
        build(Sheet, settings | {"guidance": scale}) for scale in (None, 1.0, 1.5)
    )
    assert [s.evaluations() for s in (plain, alone, guided)] == [12, 12, 24]
    assert [nfe(Cell("sheet", s, {})) for s in (plain, guided)] == [3, 6]
    images = [next(s.source().load(CPU).batches([0, 1], 2)) for s in (plain, alone, guided)]
    assert [batch.nfe for batch in images] == [3, 3, 6]
    assert torch.equal(images[0].images, images[1].images) and not torch.equal(
        images[0].images, images[2].images
    )
    assert "guidance" not in record_of(plain) and record_of(guided)["guidance"] == 1.5
    with pytest.raises(ValueError, match="guidance scale is inf"):
        Sheet(network="demo", guidance=float("inf"))


def test_the_time_axis_has_the_ends_that_it_is_given() -> None:
    scale = build(
        Images, SETTINGS | DETECTOR | {"time": "increasing", "time_range": [0.03, 15.0]}
    ).scale
    assert scale(4, 15.0).tolist() == [1.0] * 4 and scale(4, 0.03).tolist() == pytest.approx(
        [0.8, 0.85, 0.9, 0.95]
    )
    edm = build(Images, SETTINGS | DETECTOR | {"time": "increasing"}).scale
    assert edm(4, 15.0)[0] < 1 and edm(4, 80.0).tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="time axis runs from 3"):
        build(Images, SETTINGS | DETECTOR | {"time_range": [3.0, 2.0]})


def test_files_that_a_cell_needs() -> None:
    latent = Sheet(network="uvit-h2-imagenet-256")
    assert latent.sources() == {
        "network": "uvit-h2-imagenet-256",
        "autoencoder": "downloads/autoencoder_kl.pth",
    }
    plain = build(Images, SETTINGS | DETECTOR)
    assert plain.sources() == {
        "network": "demo",
        "detector": "demo",
        "reference": "assets/demo/reference.npz",
    }
    more = build(Images, SETTINGS | DETECTOR | {"metrics": ["fid", "pr"]})
    assert more.sources()["data"] == "assets/demo/images.zip"


def test_across() -> None:
    layers = build(Images, SETTINGS | DETECTOR).scale.per_layer(4)
    assert layers.tolist() == pytest.approx([0.8, 0.85, 0.9, 0.95])
    constant = build(Images, SETTINGS | DETECTOR | {"across": "constant"}).scale.per_layer(4)
    assert constant.tolist() == pytest.approx([0.8] * 4)


def test_sheet(tmp_path: Path) -> None:
    about = {
        "network": "demo",
        "sampler": "unipc",
        "steps": 3,
        "seeds": "0-5",
        "columns": 3,
        "labels": "balanced",
    }
    settings = build(Sheet, about | {"rho": 0.7})
    assert settings.run(job(tmp_path))["images"].value == 6
    with Image.open(tmp_path / "result.png") as image:
        assert image.size == (3 * 34 + 2, 2 * 34 + 2)
        sheet = np.array(image)
    source = settings.source().load(CPU)
    (batch,) = source.batches([4], 1)
    assert np.abs(sheet[36:68, 36:68].astype(int) - batch.images[0, 0].numpy()).max() <= 1
    assert decode_png((tmp_path / "result.png").read_bytes()).shape == (1, 70, 104)
