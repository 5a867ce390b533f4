"""A source: what it records, what it refuses, and that rho reaches the network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_network import saved, tiny_network

from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.source import ImageSource, LoadedSource
from training.checkpoint import save_network
from training.networks import SKIP_TARGETS, SkipTarget
from training.precond import EDMPrecond

STEPS = SamplerSettings(steps=5)
SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("source"))


def images(source: LoadedSource) -> np.ndarray:
    return np.concatenate([batch.images.numpy() for batch in source.batches(SEEDS, batch_size=8)])


def made(network: str, **settings: Any) -> np.ndarray:
    return images(ImageSource(network, STEPS, **settings).load("cpu"))


def test_the_record_determines_the_images(network: str) -> None:
    record = ImageSource(network, STEPS, SkipScale(0.5), class_idx=3).load("cpu").record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record == {
        "network_sha256": record["network_sha256"],
        "sampler": STEPS.resolved(tiny_network()),
        "skip": {"rho": [0.5, 0.625, 0.75, 0.875], "target": "full", "time": "constant"},
        "labels": 3, "dtype": "float32", "noise_device": "cpu",
    }  # fmt: skip
    assert len(record["network_sha256"]) == 64


def test_equal_settings_have_equal_records_however_they_are_put(network: str) -> None:
    ways = [SkipScale(0.8, 0.8), SkipScale(layers=(0.8,) * 4), SkipScale(0.8, 0.8, axis="sigma")]
    records = [ImageSource(network, STEPS, scale).load("cpu").record for scale in ways]
    assert records[0] == records[1] == records[2]
    plain = [
        ImageSource(network, STEPS, scale).load("cpu").record
        for scale in (SkipScale(), SkipScale(layers=(1,) * 4))
    ]
    assert plain[0] == plain[1] and plain[0]["skip"] == {"rho": None}


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": SkipScale(0.5)},
        {"scale": SkipScale(top=0.5)},
        {"scale": SkipScale(0.5, spacing="one-based")},
        {"scale": SkipScale(0.5, spacing="inclusive")},
        {"scale": SkipScale(layers=(1, 1, 1, 0))},
        {"scale": SkipScale(0.5, time="increasing")},
        {"scale": SkipScale(0.5, time="decreasing")},
        {"scale": SkipScale(0.5, time="decreasing", axis="sigma")},
        {"scale": SkipScale(0.5, window=(1.0, float("inf")))},
        {"scale": SkipScale(0.5), "skip_target": "norm_output"},
        {"skip_method": "freeu:b1=1.2"},
        {"skip_method": "freeu2:s2=0.5", "scale": SkipScale(window=(1.0, 9.0))},
        {"skip_method": "scalelong:kappa=0.9", "scale": SkipScale(0.5, time="decreasing")},
        {"labels": "balanced"},
        {"class_idx": 7},
        {"dtype": "bfloat16"},
    ],
    ids=lambda settings: "-".join(f"{key}={value}" for key, value in settings.items())[:60],
)
def test_every_setting_changes_images_and_record(network: str, settings: dict[str, Any]) -> None:
    compared = [{}, *([{"scale": SkipScale(0.5)}] if settings != {"scale": SkipScale(0.5)} else [])]
    changed = ImageSource(network, STEPS, **settings).load("cpu")
    for other in compared:
        reference = ImageSource(network, STEPS, **other).load("cpu")
        assert (images(changed) != images(reference)).any() and changed.record != reference.record
    json.dumps(changed.record, allow_nan=False)


@pytest.mark.parametrize("target", SKIP_TARGETS)
def test_the_skip_target_reaches_the_network(
    network: str, target: SkipTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in the call: a group norm undoes the scaling of whole groups, so the images may well be equal."""
    seen = set()
    forward = EDMPrecond.forward

    def watched(net: EDMPrecond, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.add((kwargs["skip_target"], tuple(kwargs["skip_scale"].tolist())))
        return forward(net, *args, **kwargs)

    monkeypatch.setattr(EDMPrecond, "forward", watched)
    source = ImageSource(network, STEPS, SkipScale(0.5), skip_target=target).load("cpu")
    images(source)
    assert (
        seen == {(target, (0.5, 0.625, 0.75, 0.875))} and source.record["skip"]["target"] == target
    )


def test_rho_1_leaves_the_plain_images(network: str) -> None:
    assert np.array_equal(made(network), made(network, scale=SkipScale()))


def test_bfloat16_is_near_float32(network: str) -> None:
    difference = np.abs(made(network).astype(int) - made(network, dtype="bfloat16").astype(int))
    assert 0 < difference.mean() < 2


@pytest.mark.parametrize("settings", [{}, {"labels": "balanced"}, {"class_idx": 4}])
def test_classes_are_known_without_the_images(network: str, settings: dict[str, Any]) -> None:
    source = ImageSource(network, STEPS, **settings).load("cpu")
    assert source.classes(SEEDS) == [
        index for batch in source.batches(SEEDS, batch_size=2) for index in batch.classes
    ]


def test_an_unconditional_network_has_no_classes(tmp_path: Path) -> None:
    source = ImageSource(saved(tmp_path, label_dim=0, channels=3), STEPS).load("cpu")
    assert source.classes(SEEDS) is None and source.record["labels"] is None
    assert images(source).shape == (3, 3, 8, 8)


def test_compiled_images_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that only records the graph: the real one takes a minute. A network of two long skips."""
    network = saved(tmp_path, channel_mult=[1])
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile(module, backend="eager"))
    source = ImageSource(network, SamplerSettings(steps=2), SkipScale(0.5)).load(
        "cpu", compile=True
    )
    plain = ImageSource(network, SamplerSettings(steps=2), SkipScale(0.5)).load("cpu")
    assert source.net.net.model._compiled_call_impl is not None
    assert np.array_equal(images(source), images(plain))
    sizes: set[int] = set()
    source.net.net.model.register_forward_pre_hook(lambda _, given: sizes.add(len(given[0])))
    (batch,) = source.batches([7], 2)  # another size would be compiled anew
    assert sizes == {2} and batch.images.shape[0] == 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"skip_target": "half"}, "unknown skip_target 'half'; choose from full"),
        ({"dtype": "int8"}, "unknown dtype 'int8'; choose from float32"),
        ({"class_idx": 10}, "classes 0 to 9"),
        (
            {"scale": SkipScale(layers=(0.5,))},
            "1 skip coefficients given; this network has 4 long skips",
        ),
        (
            {"scale": SkipScale(0.5, time="increasing", axis="time")},
            "axis time .*this network was trained at noise levels, not at times",
        ),
        ({"noise_device": "tpu"}, "unknown device 'tpu'"),
        ({"noise_device": "cuda:99"}, "device cuda:99 asked for, but this machine has"),
        ({"sampler": SamplerSettings("unipc", steps=2)}, "needs at least 3 steps"),
    ],
)
def test_what_does_not_fit_is_refused(network: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSource(network, **settings).load("cpu")


def test_float64_is_needed(network: str) -> None:
    with pytest.raises(ValueError, match="float64, which mps devices lack"):
        ImageSource(network).load("mps")


def test_a_checkpoint_with_nan_is_refused_by_the_tensors_name(tmp_path: Path) -> None:
    net = tiny_network()
    net.model.dec["8x8_block1"].conv0.weight.data[0, 0] = float("nan")
    save_network(net, tmp_path / "nan.safetensors")
    with pytest.raises(
        ValueError,
        match=r"nan\.safetensors: its tensor model\.dec\.8x8_block1\.conv0\.weight holds NaN",
    ):
        ImageSource(str(tmp_path / "nan.safetensors")).load("cpu")
