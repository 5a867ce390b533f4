"""The studies that draw without a network: wavelet bands, and rho over time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sampling.settings import SamplerSettings
from skip.studies.inputs import RealImages
from skip.studies.wavelet import bands
from skip.tables.cells.drawn import Bands, Schedule
from skip.tables.cells.settings import Job
from skip.tables.cells.words import build
from training.checkpoint import load_network

CPU = torch.device("cpu")
DATA = "assets/demo/images.zip"


def job(folder: Path) -> Job:
    return Job(CPU, 2, folder / "partial", folder / "result")


def test_the_bands_of_images(tmp_path: Path) -> None:
    study = build(Bands, {"data": DATA, "seeds": "3-4", "wavelet": "haar", "zoom": 3})
    study.check()
    assert (study.evaluations(), study.sources()) == (0, {"data": DATA})
    assert study.run(job(tmp_path))["images"].value == 2
    page = np.array(Image.open(tmp_path / "result.png").convert("L")).astype(float)

    net: Any = load_network("demo", "cpu")
    images, _ = RealImages(DATA, net, 5).batch([3, 4], CPU)  # what the losses are measured on
    found = bands(images.double(), "haar")
    side = 32 * 3 + 4
    for column, name in enumerate(["image", "LL", "LH", "HL", "HH"]):
        left = column * (side + 24) + 2
        shown = page[-side * 2 :, left : left + 96]
        lower = shown[-98:-2][1::3, 1::3]  # of the second image, a pixel of each
        if name == "image":
            expected = images[1, 0]
        else:
            scale = 2 if name == "LL" else found[name].abs().max()
            expected = (found[name][1, 0] / scale).repeat_interleave(2, 0).repeat_interleave(2, 1)
        assert np.abs(lower - (expected.numpy() + 1) * 127.5).max() <= 1


def test_bands_beyond_the_border_are_left_out(tmp_path: Path) -> None:
    Bands(data=DATA, seeds="0", wavelet="bior1.3").run(job(tmp_path))
    with Image.open(tmp_path / "result.png") as page:
        assert page.size == (5 * 36 + 4 * 24, 36 + 54), "each as large as the image"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"zoom": 0}, "zoom is 0"),
        ({"seeds": "70000"}, "seeds below .* can be used"),
        ({"wavelet": "nonsense"}, "unknown wavelet 'nonsense'"),
    ],
)
def test_what_cannot_be_drawn(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Bands, {"data": DATA, **settings}).check()


def test_rho_over_the_steps_of_a_sampler(tmp_path: Path) -> None:
    about = {"network": "demo", "steps": 5, "rho": 0.8, "time": "decreasing"}
    study = build(Schedule, about)
    assert (study.evaluations(), study.count) == (0, 0)
    found = study.run(job(tmp_path))
    # Even over EDM's steps, from the highest level on.
    expected = [0.8, 0.85, 0.9, 0.95, 1.0]
    assert [found[f"rho[{i}]"].value for i in range(5)] == pytest.approx(expected)

    log = build(Schedule, about | {"axis": "log-sigma"}).run(job(tmp_path))
    levels = SamplerSettings(steps=5).nodes(load_network("demo", "cpu")).log()
    expected = (1 - 0.2 * (levels - levels[-1]) / (levels[0] - levels[-1])).tolist()
    assert [one.value for one in log.values()] == pytest.approx(expected)


def test_rho_over_the_networks_own_time(tmp_path: Path) -> None:
    about = {"network": "demo-uvit", "sigmas": "timesteps", "steps": 4, "rho": 0.7}
    study = build(Schedule, about | {"time": "increasing", "axis": "time"})
    assert set(study.sources()) == {"network", "autoencoder"}
    found = [one.value for one in study.run(job(tmp_path)).values()]
    assert found == pytest.approx([1, 0.9, 0.8, 0.7], abs=1e-6)
