"""A source with guidance: its record, whose skips are tuned, and what it refuses."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_network import saved, tiny_network

from dnnlib.util import file_sha256
from sampling.denoiser import bind
from sampling.generate import to_uint8
from sampling.guidance import Guided
from sampling.noise import SeedNoise
from sampling.onestep import heun
from sampling.samplers import sample
from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.source import ImageSource, LoadedSource
from skip.tuned import SkipTuned
from training.checkpoint import load_network, save_network

STEPS = SamplerSettings(steps=5)
SEEDS = [0, 1, 2]
HALF = SkipScale(0.5)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    saved(folder, "tiny")
    saved(folder, "plain", label_dim=0)
    saved(folder, "colour", channels=3)
    weak = tiny_network()
    for parameter in weak.parameters():
        parameter.mul_(0.9)
    save_network(weak, folder / "weak.safetensors")
    broken = tiny_network()
    broken.model.map_layer0.weight[0, 0] = float("nan")
    save_network(broken, folder / "nan.safetensors")
    return folder


def source(
    networks: Path, network: str = "tiny", guide: str | None = None, **settings: Any
) -> LoadedSource:
    named = None if guide is None else str(networks / f"{guide}.safetensors")
    return ImageSource(
        str(networks / f"{network}.safetensors"), STEPS, guide=named, **settings
    ).load("cpu")


def images(loaded: LoadedSource) -> np.ndarray:
    return np.concatenate([batch.images.numpy() for batch in loaded.batches(SEEDS, batch_size=8)])


def test_the_record_holds_the_scale_and_the_guide(networks: Path) -> None:
    plain, free = source(networks), source(networks, guidance=1.4)
    auto = source(networks, guidance=1.4, guide="weak")
    for found, sha256 in ((free, None), (auto, file_sha256(networks / "weak.safetensors"))):
        expected = plain.record | {"guidance": {"scale": 1.4, "guide_sha256": sha256}}
        assert found.record == expected | {"sampler": plain.record["sampler"] | {"nfe": 18}}
        assert json.loads(json.dumps(found.record, allow_nan=False)) == found.record
        (batch,) = found.batches(SEEDS, 8)
        assert batch.nfe == found.record["sampler"]["nfe"] == 2 * plain.record["sampler"]["nfe"]
    assert auto.checkpoint["guide"] == str(networks / "weak.safetensors")
    assert "guide" not in plain.checkpoint.keys() | free.checkpoint.keys()
    assert len({images(loaded).tobytes() for loaded in (plain, free, auto)}) == 3


def test_scale_one_is_no_guidance(networks: Path) -> None:
    plain = source(networks)
    for one in (source(networks, guidance=1.0), source(networks, guidance=1.0, guide="weak")):
        assert one.record == plain.record and one.checkpoint == plain.checkpoint
        assert np.array_equal(images(one), images(plain))
    assert np.array_equal(
        images(source(networks, "plain", guidance=1.0)), images(source(networks, "plain"))
    )


@pytest.mark.parametrize("guide", [None, "weak"])
def test_skips_are_tuned_with_and_without_the_class_but_not_in_a_guide(
    networks: Path, guide: str | None
) -> None:
    net, weak = (
        load_network(networks / f"{name}.safetensors").channels_last() for name in ("tiny", "weak")
    )
    loaded, tuned = source(networks, guide=guide, guidance=2.0, scale=HALF), SkipTuned(net, HALF)
    labels = torch.eye(10)[loaded.classes(SEEDS)]
    main = bind(tuned, labels)
    guided = Guided(main, bind(tuned) if guide is None else bind(weak, labels), 2.0)
    noise = SeedNoise(SEEDS).randn([3, 1, 8, 8])
    with torch.inference_mode():
        expected = to_uint8(sample(heun, guided, noise, STEPS.nodes(net), "zero")).numpy()
    assert np.array_equal(images(loaded), expected)
    assert not np.array_equal(images(source(networks, guide=guide, guidance=2.0)), expected)


def test_skip_guidance_is_away_from_the_network_with_another_rho(networks: Path) -> None:
    net = load_network(networks / "tiny.safetensors").channels_last()
    loaded = source(networks, guide_rho=0.7, guidance=2.0, scale=HALF)
    labels = torch.eye(10)[loaded.classes(SEEDS)]
    main, guide = (bind(SkipTuned(net, one), labels) for one in (HALF, SkipScale(0.7)))
    noise = SeedNoise(SEEDS).randn([3, 1, 8, 8])
    with torch.inference_mode():
        denoise = Guided(main, guide, 2.0)
        expected = to_uint8(sample(heun, denoise, noise, STEPS.nodes(net), "zero")).numpy()
    assert np.array_equal(images(loaded), expected)
    assert loaded.record["guidance"]["guide_rho"] == pytest.approx([0.7, 0.775, 0.85, 0.925])
    assert loaded.record["sampler"]["nfe"] == 18

    # Without classes too; and a guide that is the network itself changes nothing but the last digits.
    free = images(source(networks, "plain", guide_rho=0.7, guidance=2.0))
    assert not np.array_equal(free, images(source(networks, "plain")))
    same = images(source(networks, guide_rho=1.0, guidance=2.0))
    assert np.abs(same.astype(int) - images(source(networks))).max() <= 1


def test_the_record_holds_the_interval(networks: Path) -> None:
    some = source(networks, guidance=2.0, guidance_sigma=(0.1, 10.0)).record
    whole = source(networks, guidance=2.0).record
    assert some["guidance"]["sigma"] == [0.1, 10.0] and "sigma" not in whole["guidance"]
    counted = next(
        iter(source(networks, guidance=2.0, guidance_sigma=(0.1, 10.0)).batches([0], 1))
    ).nfe
    assert 9 < some["sampler"]["nfe"] == counted < whole["sampler"]["nfe"] == 18
    endless = source(networks, guidance=2.0, guidance_sigma=(0.1, math.inf)).record
    assert endless["guidance"]["sigma"] == [0.1, "inf"]


def test_a_network_that_was_never_without_its_class_is_warned_of(
    networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "was not trained without its class"
    source(networks, guidance=2.0)
    assert words in capsys.readouterr().err
    saved(tmp_path, "dropped", label_dropout=0.1)
    for one in (
        {"guidance": 2.0, "guide_rho": 0.9},
        {"guidance": 2.0, "guide": "weak"},
        {"guidance": 1.0},
        {},
    ):
        source(networks, **one)
    ImageSource(str(tmp_path / "dropped.safetensors"), STEPS, guidance=2.0).load("cpu")
    assert words not in capsys.readouterr().err


def test_a_guide_computes_in_the_dtype_asked_for(networks: Path) -> None:
    loaded = source(networks, guidance=2.0, guide="weak", dtype="bfloat16")
    assert loaded.guide is not None and loaded.guide.dtype == torch.bfloat16


def test_both_networks_are_compiled(networks: Path) -> None:
    path = str(networks / "weak.safetensors")
    loaded = ImageSource(str(networks / "tiny.safetensors"), STEPS, guidance=2.0, guide=path).load(
        "cpu", compile=True
    )
    assert loaded.guide is not None
    assert (
        loaded.net.net.model._compiled_call_impl
        is not None
        is not loaded.guide.model._compiled_call_impl
    )


def test_ends_of_a_window_and_an_interval_are_those_of_float32(networks: Path) -> None:
    """In which a network is told its noise level: 0.1 is a little more there, and is its own end all the same."""
    levels = SamplerSettings(sigmas="10,5,0.1")
    guided = ImageSource(str(networks / "tiny.safetensors"), levels, guidance=2.0, guide_rho=0.5)
    at_an_end, above_all = (0.05, 0.1), (10.0, 11.0)

    replace(guided, guidance_sigma=at_an_end).load("cpu")
    replace(guided, scale=SkipScale(0.5, window=at_an_end)).load("cpu")
    for beyond in ({"guidance_sigma": above_all}, {"scale": SkipScale(0.5, window=above_all)}):
        with pytest.raises(ValueError, match="no evaluation has a noise level above 10 and up to"):
            replace(guided, **beyond).load("cpu")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"guidance": float("nan")}, "guidance scale is nan"),
        ({"guidance": float("inf")}, "guidance scale is inf"),
        ({"guide": "weak"}, "weak.safetensors does nothing without guidance"),
        ({"guide_rho": 0.9}, "guide_rho 0.9 does nothing without guidance"),
        (
            {"guidance_sigma": (1.0, 2.0)},
            r"guidance_sigma \(1.0, 2.0\) does nothing without guidance",
        ),
        ({"guidance": 2.0, "guidance_sigma": (2.0, 1.0)}, "noise levels of guidance are 2,1"),
        (
            {"guidance": 2.0, "guidance_sigma": (100.0, 200.0)},
            "no evaluation has a noise level above 100 and up to 200, where alone there is guidance",
        ),
        (
            {"scale": SkipScale(0.8, window=(100.0, 200.0))},
            r"where alone the skips are changed \(--rho-sigma\); they are at 0.002 to 80",
        ),
        ({"guidance": 2.0, "guide_rho": math.nan}, "a skip coefficient is nan"),
        ({"guidance": 2.0, "guide_rho": 0.9, "guide": "weak"}, "give one of them"),
        ({"network": "plain", "guidance": 1.4}, "the network is unconditional.* as its guide"),
        ({"guidance": 2.0, "guide": "colour"}, "the guide has img_channels 3, the network 1"),
        (
            {"guidance": 2.0, "guide": "nan"},
            r"nan\.safetensors: its tensor model\.map_layer0\.weight holds NaN",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    networks: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        source(networks, **settings)


def test_a_guide_that_is_not_there(networks: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        source(networks, guidance=2.0, guide="gone")


def test_an_unconditional_network_can_have_an_unconditional_guide(
    networks: Path, tmp_path: Path
) -> None:
    weak = tiny_network(label_dim=0)
    for parameter in weak.parameters():
        parameter.mul_(0.9)
    save_network(weak, tmp_path / "weak.safetensors")
    plain = str(networks / "plain.safetensors")
    guided = ImageSource(plain, STEPS, guidance=2.0, guide=str(tmp_path / "weak.safetensors")).load(
        "cpu"
    )
    assert not np.array_equal(images(guided), images(source(networks, "plain")))
