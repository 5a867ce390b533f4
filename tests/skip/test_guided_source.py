"""A source with guidance: its record, whose skips are tuned, and what it refuses."""

import json
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
from sampling.samplers import heun, sample
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


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"guidance": float("nan")}, "guidance scale is nan"),
        ({"guidance": float("inf")}, "guidance scale is inf"),
        ({"guide": "weak"}, "weak.safetensors does nothing without guidance"),
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
