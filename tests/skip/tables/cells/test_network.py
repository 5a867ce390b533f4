"""Cells about the network itself: what the studies give, image by image, whatever the batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_network import tiny_network

from metrics.detector import load_detector
from sampling.noise import SeedNoise
from sampling.settings import SamplerSettings
from sampling.sigmas import edm
from skip.evidence.estimate import Estimate
from skip.scale import SkipScale
from skip.source import ImageSource
from skip.studies.gradient import gradient_norm
from skip.studies.inputs import RealImages, pure_noise, random_labels
from skip.studies.norms import skip_norms, slice_norms
from skip.studies.score_matching import detector_features, draw_sigma, losses, pixels
from skip.tables.cells.forward import ForwardPass
from skip.tables.cells.network import Gradient, Inversion, Losses, Norms
from skip.tables.cells.settings import Job
from training.families.uvit.precond import UViTPrecond

CPU = torch.device("cpu")
DATA = "assets/demo/images.zip"
SHAPE = (1, 32, 32)
SEEDS = [0, 1, 2, 3, 4]


def measured(study: Any, folder: Path, batch: int = 2) -> dict[str, Estimate]:
    found: dict[str, Estimate] = study.run(Job(CPU, batch, folder / "partial", folder / "result"))
    return found


def same(found: Estimate, per_image: torch.Tensor) -> None:
    expected = Estimate.of_mean(per_image)
    assert found.value == pytest.approx(expected.value, rel=1e-4)
    assert found.error == pytest.approx(expected.error, rel=1e-3)
    assert found.blocks == pytest.approx(expected.blocks, rel=1e-4)


def test_norms(tmp_path: Path) -> None:
    study = Norms(network="demo", seeds="0-4", scale=SkipScale(0.8), sigma=80.0)
    net = study.network_alone().load(CPU).net
    x = pure_noise(SHAPE, SEEDS, 80.0).float()
    with torch.inference_mode():
        expected = skip_norms(net, x, torch.full([5], 80.0), random_labels(SEEDS, 10, SHAPE))
    found = measured(study, tmp_path)
    same(found["ratio"], expected.mean(1))
    same(found["ratio[8]"], expected[:, 8])
    u, d = slice_norms(net)
    assert [found[f"weight_u[{i}]"].value for i in range(9)] == pytest.approx(u.tolist())
    assert [found[f"weight_d[{i}]"].value for i in range(9)] == pytest.approx(d.tolist())
    of_weights = [found[f"weight_ratio[{i}]"].value for i in range(9)]
    assert of_weights == pytest.approx((d / u).tolist())


def test_norms_over_a_trajectory(tmp_path: Path) -> None:
    study = Norms(network="demo", seeds="0-4", sigma=40.0, trajectory_steps=3)
    assert study.evaluations() == 3 * 5
    net = study.network_alone().load(CPU).net
    labels = random_labels(SEEDS, 10, SHAPE)
    x, seen = pure_noise(SHAPE, SEEDS, 40.0), []
    nodes = SamplerSettings("euler", steps=3, sigma_max=40.0).nodes(net)
    with torch.inference_mode():
        for sigma, below in zip(nodes, [*nodes[1:].tolist(), 0.0], strict=True):
            seen.append(skip_norms(net, x.float(), sigma.float(), labels))
            D = net(x.float(), sigma.float(), labels).double()
            x = x + (below - sigma) * (x - D) / sigma

    found = measured(study, tmp_path)
    same(found["ratio"], torch.stack(seen).mean(0).mean(1))
    same(found["ratio[3]"], torch.stack(seen).mean(0)[:, 3])
    plain = measured(Norms(network="demo", seeds="0-4", sigma=40.0), tmp_path / "plain")
    same(plain["ratio"], seen[0].mean(1))


@pytest.mark.parametrize("probe", ["ones", "random"])
def test_gradient(tmp_path: Path, probe: Any) -> None:
    study = Gradient(
        network="demo",
        seeds="0-4",
        sigma=2.0,
        input="data",
        data=DATA,
        function="denoiser",
        probe=probe,
    )
    net = study.network_alone().load(CPU).net
    images, labels = RealImages(DATA, net, 5).batch(SEEDS, CPU)
    x = images + 2 * SeedNoise(SEEDS).randn(list(images.shape))
    same(
        measured(study, tmp_path)["gradient_norm"],
        gradient_norm(net, x, torch.full([5], 2.0), labels, "denoiser", probe, SEEDS),
    )


def test_gradients_are_of_few_images_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps every layer's output: table 1 at --batch 256 would take 133 GB."""
    sizes = []

    def measure(net: Any, x: torch.Tensor, *args: Any) -> torch.Tensor:
        sizes.append(len(x))
        return torch.ones(len(x), dtype=torch.float64)

    monkeypatch.setattr("skip.tables.cells.network.gradient_norm", measure)
    monkeypatch.setattr("skip.tables.cells.network.MOST_WITH_GRADIENTS", 2)
    measured(Gradient(network="demo", seeds="0-4", sigma=2.0), tmp_path, 4)
    assert sizes == [2, 2, 1]


def test_losses(tmp_path: Path) -> None:
    study = Losses(
        network="demo",
        seeds="0-4",
        data=DATA,
        features=("pixel", "demo", "wavelet"),
        scale=SkipScale(0.8),
    )
    net = study.network_alone().load(CPU).net
    images, labels = RealImages(DATA, net, 5).batch(SEEDS, CPU)
    noise = SeedNoise(SEEDS).randn(list(images.shape))
    maps = {"pixel": pixels, "demo": detector_features(load_detector("demo", CPU))}
    with torch.inference_mode():
        expected = losses(net, images, labels, draw_sigma(SEEDS), noise, maps)
    found = measured(study, tmp_path)
    assert list(found) == ["pixel loss", "demo loss", "LL loss", "LH loss", "HL loss", "HH loss"]
    same(found["pixel loss"], expected["pixel"])
    # uint8 rounds.
    assert found["demo loss"].value == pytest.approx(float(expected["demo"].mean()), rel=0.02)
    assert study.sources() == {"network": "demo", "data": DATA, "detector": "demo"}


def test_losses_of_what_a_picture_can_show(tmp_path: Path) -> None:
    """D is cut off for pixels and wavelets; a detector reads uint8 images, so that it sees no difference."""
    features = ("pixel", "wavelet", "demo")
    as_it_is, cut = (
        measured(
            Losses(network="demo", seeds="3-8", data=DATA, features=features, clip=clip),
            tmp_path / str(clip),
        )
        for clip in (False, True)
    )
    assert cut["pixel loss"].value < as_it_is["pixel loss"].value
    assert cut["LL loss"].value < as_it_is["LL loss"].value
    assert cut["demo loss"] == as_it_is["demo loss"]


def test_losses_at_the_levels_of_a_sampler(tmp_path: Path) -> None:
    study = Losses(network="demo", seeds="3-8", data=DATA, sigma_steps=5, weighting="one")
    net = study.network_alone().load(CPU).net
    nodes = edm(5, 0.002, 80)
    assert study.levels(net, [5, 6, 9, 12]).tolist() == nodes[[0, 1, 4, 2]].tolist()
    images, labels = RealImages(DATA, net, 9).batch(study.numbers, CPU)
    noise = SeedNoise(study.numbers).randn(list(images.shape))
    with torch.inference_mode():
        expected = losses(
            net, images, labels, nodes[[3, 4, 0, 1, 2, 3]], noise, {"pixel": pixels}, "one"
        )
    same(measured(study, tmp_path)["pixel loss"], expected["pixel"])


def test_inversion(tmp_path: Path) -> None:
    found = measured(
        Inversion(
            network="demo",
            seeds="0-9",
            data=DATA,
            sampler=SamplerSettings(steps=3),
            draws=2,
            groups=5,
        ),
        tmp_path,
        5,
    )
    assert {"rbf_1_unbiased", "rbf_1_v", "laplace_v", "polynomial_v", "imq_unbiased"} <= set(found)
    assert all(estimate.error and len(estimate.blocks) == 5 for estimate in found.values())
    assert found["rbf_1_v"].value > 0


def test_the_images_are_those_of_their_numbers() -> None:
    net = ImageSource("demo").load("cpu").net
    images, labels = RealImages(DATA, net, 2000).batch([7, 3], CPU)
    alone, label = RealImages(DATA, net, 8).batch([7], CPU)
    assert torch.equal(images[:1], alone)
    assert labels is not None and label is not None and torch.equal(labels[:1], label)
    assert labels.sum(1).tolist() == [1, 1]
    _, first = RealImages(DATA, net, 200).batch(list(range(200)), CPU)
    assert first is not None and first.sum(0).min() > 5  # a sample of every class
    assert -1 <= float(images.min()) < float(images.max()) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "image"}, "unknown input 'image'"),
        ({"input": "data"}, "name them as data"),
    ],
)
def test_wrong_inputs_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForwardPass(network="demo", **settings)


def test_noise_levels_are_those_that_the_network_knows() -> None:
    narrow = {"embed_dim": 32, "depth": 2, "num_heads": 1, "beta_end": 0.0009}
    net: Any = UViTPrecond(8, 4, 0, rounding="nearest", **narrow)
    between = ForwardPass(network="uvit", sigma=None).levels(
        UViTPrecond(8, 4, 0, **narrow), list(range(500))
    )  # type: ignore[arg-type]
    assert float(between.min()) == net.sigma_min and float(between.max()) == net.sigma_max
    drawn = ForwardPass(network="uvit", sigma=None).levels(net, list(range(500)))
    assert torch.equal(drawn, net.round_sigma(drawn)) and drawn.dtype == torch.float64
    assert (drawn == net.sigma_min).any() and (drawn == net.sigma_max).any(), (
        "the range is narrower than EDM's draws"
    )
    near = net.round_sigma(torch.tensor([1.0, 1.0], dtype=torch.float64))
    assert (
        torch.equal(ForwardPass(network="uvit", sigma=1.0).levels(net, [0, 1]), near)
        and not (near == 1).any()
    )
    with pytest.raises(
        ValueError, match=r"sigma is 80; uvit knows noise levels from 0.02\d+ to 1.1\d+"
    ):
        ForwardPass(network="uvit", sigma=80.0).levels(net, [0])
    edm: Any = tiny_network()
    assert torch.equal(ForwardPass(network="edm", sigma=None).levels(edm, SEEDS), draw_sigma(SEEDS))


def test_wrong_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown probe 'two'"):
        Gradient(network="demo", probe="two")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="input must be data"):
        Losses(network="demo", input="noise")
    with pytest.raises(ValueError, match="unknown weighting"):
        Losses(network="demo", data=DATA, weighting="three")
    with pytest.raises(ValueError, match="sigma = 2 and sigma_steps both"):
        Losses(network="demo", data=DATA, sigma=2.0, sigma_steps=5)
    with pytest.raises(ValueError, match="draws is 0"):
        Inversion(network="demo", data=DATA, draws=0)
    with pytest.raises(ValueError, match="groups is 20; of 4 images it must be 2 to 4"):
        Inversion(network="demo", data=DATA, seeds="0-3")
    with pytest.raises(ValueError, match="has 2000 images; seeds below 2000"):
        measured(Losses(network="demo", seeds="1999-2000", data=DATA), tmp_path)
