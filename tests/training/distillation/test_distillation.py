"""Distillation: killed runs against uninterrupted ones, and what both methods share."""

import filecmp
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from small_network import image_folder, least
from standins_distill import CPU, RUN
from torch import Tensor, nn

from dnnlib.util import file_sha256
from sampling.sigmas import edm
from torch_utils import distributed
from training.checkpoint import load_network, save_network
from training.distillation.consistency import ConsistencyConfig, ConsistencyDistillation, l2
from training.distillation.diff_instruct import DiffInstruct, DiffInstructConfig
from training.distillation.loop import Distillation, DistillConfig, distill
from training.run.state import STATE_FILE
from training.run.steps import descend, follow

Build = Callable[..., Distillation]

FEW: dict[str, Any] = RUN | {"duration": 24, "batch": 4, "snap": 8, "tick": 8}


def same(one: Any, two: Any) -> bool:
    """Whether two states hold the same values."""
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(value, two[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return image_folder(tmp_path)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.safetensors"
    save_network(least(), path)
    return path


@pytest.fixture(params=["consistency", "diff-instruct"])
def build(request: pytest.FixtureRequest, teacher: Path, data: Path) -> Build:
    def consistency(**changes: Any) -> Distillation:
        config = ConsistencyConfig(
            teacher=str(teacher), data=str(data), **FEW, num_levels=6, target_decay=0.5
        )
        return ConsistencyDistillation(replace(config, **changes), edm(6, 0.002, 80.0), l2, CPU)

    def diff_instruct(**changes: Any) -> Distillation:
        config = DiffInstructConfig(teacher=str(teacher), **FEW, aux_lr=1e-3)
        return DiffInstruct(replace(config, **changes), CPU)

    return consistency if request.param == "consistency" else diff_instruct


def test_stopped_run_ends_like_an_uninterrupted_one(build: Build, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    last = distill(build(), whole, CPU)
    distill(build(duration=8), parts, CPU)
    resumed = distill(build(), parts, CPU)
    assert filecmp.cmp(last, resumed, shallow=False)
    saved = [torch.load(run / STATE_FILE, weights_only=True) for run in (whole, parts)]
    for part in type(build().state).PARTS:
        assert same(saved[0][part], saved[1][part]), part
    lines = [
        [json.loads(x) for x in (run / "stats.jsonl").read_text().splitlines()]
        for run in (whole, parts)
    ]
    assert [[x["images"], x["loss"]] for x in lines[0]] == [
        [x["images"], x["loss"]] for x in lines[1]
    ]
    assert [x["images"] for x in lines[0]] == [8, 16, 24]


def test_snapshot_tells_where_it_comes_from(build: Build, teacher: Path, tmp_path: Path) -> None:
    method = build(duration=4, ema_halflife=0)
    path = distill(method, tmp_path / "run", CPU)
    with safetensors.safe_open(path, "pt") as file:
        provenance = json.loads(file.metadata()["provenance"])
    assert provenance["method"] == type(method).__name__ and provenance["images_seen"] == 4
    assert (
        provenance["teacher_sha256"] == file_sha256(teacher)
        and provenance["settings"]["lr"] == 1e-3
    )
    loaded = load_network(path).state_dict()
    assert all(
        torch.equal(value, loaded[name]) for name, value in method.state.net.state_dict().items()
    )


def test_other_settings_are_refused(build: Build, tmp_path: Path) -> None:
    distill(build(duration=4), tmp_path / "run", CPU)
    with pytest.raises(ValueError, match=r"trained with lr=0.001, now 0.002; use another --outdir"):
        distill(build(lr=0.002), tmp_path / "run", CPU)


def test_a_run_that_diverges_keeps_its_last_state(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill(build(duration=4), tmp_path / "run", CPU)
    kept = {
        p.name: p.read_bytes()
        for p in (tmp_path / "run").iterdir()
        if p.suffix in (".pt", ".safetensors")
    }
    monkeypatch.setattr(DistillConfig, "learning_rate", lambda self, images: 1e30)
    with pytest.raises(
        RuntimeError, match=r"what (net|aux) returns holds NaN or infinity: the run stops"
    ):
        distill(build(duration=8), tmp_path / "run", CPU)
    with pytest.raises(
        RuntimeError, match=r"the loss of the step to \d+ images is (nan|inf): the run stops"
    ):
        distill(build(duration=24, snap=24), tmp_path / "run", CPU)
    now = {
        p.name: p.read_bytes()
        for p in (tmp_path / "run").iterdir()
        if p.suffix in (".pt", ".safetensors")
    }
    assert now == kept and len(kept) == 2


def test_snapshots_whose_state_is_gone_are_not_written_over(build: Build, tmp_path: Path) -> None:
    path = distill(build(duration=4), tmp_path / "run", CPU)
    (tmp_path / "run" / STATE_FILE).unlink()
    with pytest.raises(ValueError, match=rf"{path.name} but no training-state\.pt to go on from"):
        distill(build(duration=4), tmp_path / "run", CPU)


def test_bfloat16_keeps_float32_weights(build: Build, tmp_path: Path) -> None:
    half = load_network(
        distill(build(dtype="bfloat16", duration=12), tmp_path / "half", CPU)
    ).state_dict()
    full = load_network(distill(build(duration=12), tmp_path / "full", CPU)).state_dict()
    assert {value.dtype for value in half.values()} == {torch.float32}
    assert not all(torch.equal(half[name], full[name]) for name in full)


def test_seed_changes_the_run(build: Build, tmp_path: Path) -> None:
    one, two = (
        distill(build(seed=seed, duration=12), tmp_path / str(seed), CPU) for seed in (0, 1)
    )
    a, b = load_network(one).state_dict(), load_network(two).state_dict()
    assert not all(torch.equal(a[name], b[name]) for name in a)


def test_loss_falls(teacher: Path, data: Path, tmp_path: Path) -> None:
    config = ConsistencyConfig(
        teacher=str(teacher), data=str(data), **(RUN | {"duration": 240, "tick": 80})
    )
    distill(ConsistencyDistillation(config, edm(6, 0.002, 80.0), l2, CPU), tmp_path / "run", CPU)
    losses = [
        json.loads(x)["loss"] for x in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < 0.6 * losses[0]  # 0.73 without training: other noise levels are drawn


def test_descent_takes_the_mean_gradient_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rank's gradients are three times ours."""
    net = nn.Linear(2, 3)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda flat: flat + 3 * flat)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    before = [p.detach().clone() for p in net.parameters()]
    net.weight.grad = torch.arange(6.0).reshape(3, 2)
    net.bias.grad = torch.tensor([1.0, 2.0, float("nan")])
    grads = [net.weight.grad.clone(), torch.tensor([1.0, 2.0, 0.0])]
    descend(optimizer, lr=0.5)
    for old, new, grad in zip(before, net.parameters(), grads, strict=True):
        assert torch.allclose(new, old - 0.5 * 2 * grad)
        assert new.grad is None


def test_averages_follow() -> None:
    mean, net = nn.Linear(2, 2), nn.Linear(2, 2)
    before = mean.weight.detach().clone()
    follow(mean, net, 0.75)
    assert torch.allclose(mean.weight, 0.75 * before + 0.25 * net.weight)
    follow(mean, net, 0.0)
    assert torch.equal(mean.weight, net.weight)
