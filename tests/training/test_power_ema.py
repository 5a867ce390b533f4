"""Power-function averages: against their profile, and reconstructed ones against those tracked directly."""

import filecmp
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from click.testing import CliRunner
from conftest import relative_error
from small_network import image_folder
from standins_edm2 import edm2_snapshot, fill_edm2
from tiny_network import tiny_network
from torch import Tensor, nn

from train import main as train_main
from training import checkpoint
from training.checkpoint import load_network, save_network
from training.families.edm2.unet import EDM2Precond
from training.power_ema import (
    ERROR,
    LONGEST,
    MOST_ERROR,
    WARNED_ERROR,
    PowerAverages,
    added,
    decay,
    exponent,
    find_stored,
    fit_error,
    mixture,
    path_of,
    weights_for,
)
from training.run.config import TrainingConfig
from training.training_loop import train

CPU = torch.device("cpu")
NETWORK = {"model_type": "DhariwalUNet", "model_channels": 16, "channel_mult": [1], "num_blocks": 1,
           "attn_resolutions": [], "dropout": 0.1}  # fmt: skip


def profile(std: float, t: float, tau: Any) -> Any:
    g = exponent(std)
    return np.where(tau <= t, (g + 1) * tau**g / t ** (g + 1), 0.0)


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.2, 0.288])
def test_a_length_is_the_spread_of_its_profile(std: float) -> None:
    tau = (np.arange(400_000) + 0.5) / 400_000
    p = profile(std, 1.0, tau) / len(tau)
    mean = (p * tau).sum()
    assert p.sum() == pytest.approx(1, rel=1e-4)
    assert math.sqrt((p * (tau - mean) ** 2).sum()) == pytest.approx(std, rel=1e-4)


def test_lengths_that_no_average_has_are_refused() -> None:
    assert exponent(LONGEST * (1 - 1e-12)) == pytest.approx(0, abs=1e-5)  # the plain mean
    for std in (0.0, -0.1, 0.3, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"the length of an average is {std:g}; it must be"):
            exponent(std)


class Walk(nn.Module):
    """Weights that are the number of the step, as one of many."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full([steps], 7.0, dtype=torch.float64))

    def be(self, step: int) -> None:
        with torch.no_grad():
            self.weight.zero_()
            self.weight[step] = 1


def test_tracked_weights_are_those_of_the_profile() -> None:
    """Exactly: what a step contributes is the integral of the profile over it, and nothing is left of the start."""
    walk = Walk(40)
    averages = PowerAverages(walk, (0.05, 0.2))
    for step in range(40):
        walk.be(step)
        averages.follow(walk, (step + 1) * 16, 16)
    ends = torch.arange(41, dtype=torch.float64) / 40
    for std, mean in zip((0.05, 0.2), averages.means, strict=True):
        assert torch.allclose(mean.weight, (ends ** (exponent(std) + 1)).diff(), atol=1e-14)
    assert decay(0.1, 16, 16) == 0


def test_a_stored_average_is_its_own_reconstruction() -> None:
    times, stds = [8.0, 8.0, 16.0, 16.0], [0.05, 0.1, 0.05, 0.1]
    for i in range(4):
        x = weights_for(times, stds, times[i], stds[i])
        assert np.allclose(x, np.eye(4)[i], atol=1e-9)


def test_the_weights_are_those_of_least_squares() -> None:
    """With profiles on a fine grid instead of integrals in closed form."""
    times, stds = [4.0, 6.0, 10.0, 10.0], [0.1, 0.05, 0.05, 0.1]
    tau = (np.arange(200_000) + 0.5) / 20_000
    profiles = np.stack([profile(std, t, tau) for t, std in zip(times, stds, strict=True)])
    wanted = profile(0.08, 10.0, tau)
    expected = np.linalg.solve(profiles @ profiles.T, profiles @ wanted)
    got = weights_for(times, stds, 10.0, 0.08)
    assert np.allclose(got, expected / expected.sum(), rtol=1e-3)


def norm(std: float) -> float:
    """The integral of p^2, from 0 to 1."""
    g = exponent(std)
    return (g + 1) ** 2 / (2 * g + 1)


def test_how_far_a_sum_is_from_what_is_wanted() -> None:
    """Of one average: none if it is the same, else || p - q || / || q || in closed form."""
    one = np.ones(1)
    for std in (0.01, 0.05, 0.1, 0.28):
        assert fit_error(one, [12.0], [std], 12.0, std) == 0

    for std, other in ((0.1, 0.15), (0.1, 0.05), (0.05, 0.1), (0.1, 0.2)):
        g, h = exponent(std), exponent(other)
        mixed = (g + 1) * (h + 1) / (g + h + 1)
        expected = math.sqrt((norm(std) - 2 * mixed + norm(other)) / norm(other))
        assert fit_error(one, [12.0], [std], 12.0, other) == pytest.approx(expected, rel=1e-12)

    tau = (np.arange(200_000) + 0.5) / 20_000
    times, stds = [4.0, 10.0], [0.1, 0.05]
    x = weights_for(times, stds, 10.0, 0.07)
    wanted = profile(0.07, 10.0, tau)
    made = sum(w * profile(std, t, tau) for w, t, std in zip(x, times, stds, strict=True))
    expected = np.linalg.norm(made - wanted) / np.linalg.norm(wanted)
    assert fit_error(x, times, stds, 10.0, 0.07) == pytest.approx(expected, rel=1e-3)


def test_the_bounds_are_those_of_the_documents() -> None:
    """From 16 snapshots of 0.05 and 0.1 nothing between 0.03 and 0.25 is warned of, and 0.01 is refused."""
    times = [float(t) for t in range(1, 17) for _ in range(2)]
    stds = [0.05, 0.1] * 16

    def error(std: float) -> float:
        return fit_error(weights_for(times, stds, 16.0, std), times, stds, 16.0, std)

    assert max(map(error, (0.07, 0.15, 0.2))) < 0.025
    assert max(map(error, (0.03, 0.25))) < WARNED_ERROR < error(0.28) < MOST_ERROR < error(0.01)
    assert WARNED_ERROR == 0.1 and MOST_ERROR == 0.25


def test_other_lengths_come_near_those_tracked_directly() -> None:
    """From two lengths that were stored 16 times, in parts of how far the nearest of these is."""
    walk, steps, wanted = Walk(320), 320, {0.03: 0.2, 0.07: 0.02, 0.15: 0.05, 0.2: 0.05}
    averages = PowerAverages(walk, (0.05, 0.1, *wanted))
    stored: list[tuple[int, float, Tensor]] = []
    for step in range(steps):
        walk.be(step)
        averages.follow(walk, step + 1, 1)
        if (step + 1) % 20 == 0:
            for length, mean in zip((0.05, 0.1), averages.means, strict=False):
                stored.append((step + 1, length, mean.weight.detach().clone()))

    times, stds = [one[0] for one in stored], [one[1] for one in stored]
    for (std, most), mean in zip(wanted.items(), list(averages.means)[2:], strict=True):
        x = weights_for(times, stds, steps, std)
        made = sum(float(a) * one[2] for a, one in zip(x, stored, strict=True))
        nearest = min(float((one[2] - mean.weight).norm()) for one in stored)
        assert float((made - mean.weight).detach().norm()) < most * nearest, std


# ---- in training, and afterwards


def config(data: Path, **changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {"duration": 64, "batch": 8, "lr_rampup": 16, "snap": 16, "tick": 32}
    settings |= {"network": NETWORK, "power_ema": (0.05, 0.1, 0.07)}
    return TrainingConfig(data=str(data), **(settings | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run's folder, and its data."""
    folder = tmp_path_factory.mktemp("power")
    data = image_folder(folder)
    train(config(data), folder / "run", CPU)
    return folder / "run", data


@torch.inference_mode()
def test_a_network_of_another_length(run: tuple[Path, Path], tmp_path: Path) -> None:
    """Of the length 0.07, whose own averages are put aside: nearer to them than to the two that it is made of."""
    names = sorted(path.name for path in run[0].glob("power-ema-*"))
    assert len(names) == 3 * 4 and names[0] == "power-ema-000000000016-0.050.safetensors"
    for path in run[0].glob("power-ema-*"):
        if "-0.070." not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    target = tmp_path / "made.safetensors"
    arguments = ["reconstruct", str(tmp_path), str(target), "--std", "0.07"]
    result = CliRunner().invoke(checkpoint.main, arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{target}: length 0.07 after 64 images, from 8 files, 3.61% off\n"
    assert result.stderr == ""
    with safetensors.safe_open(target, framework="pt") as file:
        told = json.loads(file.metadata()["provenance"])
    assert told["power_ema"] == 0.07 and told[ERROR] == pytest.approx(0.0361, abs=5e-5)

    made = load_network(target).state_dict()
    tracked, *others = (
        load_network(path_of(run[0], 64, std)).state_dict() for std in (0.07, 0.05, 0.1)
    )
    start = load_network(path_of(run[0], 16, 0.07)).state_dict()
    moved = [name for name in made if not torch.equal(tracked[name], start[name])]
    assert len(moved) > 10
    for name in moved:
        away = min(float((tracked[name] - other[name]).norm()) for other in others)
        assert float((made[name] - tracked[name]).norm()) < 0.2 * away, name
    for name in made.keys() - set(moved):
        assert torch.equal(made[name], tracked[name])


def test_an_earlier_time(run: tuple[Path, Path], tmp_path: Path) -> None:
    """A length that is stored comes out as it was stored."""
    target = tmp_path / "made.safetensors"
    arguments = ["reconstruct", str(run[0]), str(target), "--std", "0.1", "--images", "48"]
    result = CliRunner().invoke(checkpoint.main, arguments)
    assert result.exit_code == 0 and "48 images, from 9 files, 0.00% off" in result.stdout
    made, stored = (load_network(path).state_dict() for path in (target, path_of(run[0], 48, 0.1)))
    assert all(relative_error(made[n], stored[n]) < 1e-5 for n in made if stored[n].any())


def test_a_stopped_run_has_the_same_averages(run: tuple[Path, Path], tmp_path: Path) -> None:
    train(config(run[1], duration=40), tmp_path, CPU)
    train(config(run[1]), tmp_path, CPU)
    for std in (0.05, 0.1, 0.07):
        one, two = path_of(run[0], 64, std), path_of(tmp_path, 64, std)
        assert filecmp.cmp(one, two, shallow=False)


def test_averages_change_nothing_else(run: tuple[Path, Path], tmp_path: Path) -> None:
    last = train(config(run[1], power_ema=None), tmp_path, CPU)
    assert not list(tmp_path.glob("power-ema-*"))
    assert filecmp.cmp(last, run[0] / last.name, shallow=False)
    with pytest.raises(ValueError, match=r"was trained with power_ema=None, now \[0.05, 0.1\]"):
        train(config(run[1], power_ema=(0.05, 0.1)), tmp_path, CPU)


@torch.inference_mode()
def test_raw_snapshots_of_edm2(tmp_path: Path) -> None:
    """By their names, of which thousands are rounded down from multiples of 1024."""
    snapshots = ((8388, 0.05, 1.0), (8388, 0.1, 3.0), (16777, 0.05, 2.0), (16777, 0.1, 4.0))
    for kimg, std, factor in snapshots:
        net = fill_edm2(
            EDM2Precond(
                8, 3, 4, model_channels=8, channel_mult=[1], num_blocks=1, channels_per_head=8
            )
        )
        for value in net.parameters():
            value.mul_(factor)
        name = f"edm2-img64-xs-{kimg:07d}-{std:.3f}.pkl"
        (tmp_path / name).write_bytes(edm2_snapshot(net, dtype=torch.float32))
    stored = find_stored(tmp_path)
    times = [one.images_seen for one in stored]
    assert times == [8 << 20, 8 << 20, 16 << 20, 16 << 20]
    class_name, _, tensors = added(mixture(stored, 0.08))
    x = weights_for(times, [0.05, 0.1, 0.05, 0.1], 16 << 20, 0.08)
    fresh = dict(net.named_parameters())
    weight = "unet.enc.8x8_block0.conv_res0.weight"
    expected = fresh[weight] / 4 * float(x @ [1.0, 3.0, 2.0, 4.0])
    assert class_name == "EDM2Precond" and relative_error(tensors[weight], expected) < 1e-4
    phases = "unet.emb_fourier.phases"
    for std in (0.03, 0.06, 0.15):  # the same in all
        made = added(mixture(stored, std))[2]
        assert torch.equal(made[phases], dict(net.named_buffers())[phases])


def copied(run: Path, folder: Path) -> Path:
    for path in run.glob("power-ema-*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def damage(folder: Path) -> None:
    path = path_of(folder, 48, 0.05)
    path.write_bytes(path.read_bytes()[:100])


def another_network(folder: Path) -> None:
    told: dict[str, Any] = {"images_seen": 48, "power_ema": 0.05}
    save_network(tiny_network(), path_of(folder, 48, 0.05), **told)


def a_snapshot(folder: Path) -> None:
    save_network(tiny_network(), path_of(folder, 48, 0.05), images_seen=48)


def twice(folder: Path) -> None:
    path = path_of(folder, 48, 0.05)
    (folder / "power-ema-copy.safetensors").write_bytes(path.read_bytes())


def one_alone(folder: Path) -> None:
    for path in folder.iterdir():
        if path != path_of(folder, 64, 0.1):
            path.unlink()


def test_one_average_alone_is_itself_and_no_other(run: tuple[Path, Path], tmp_path: Path) -> None:
    one_alone(copied(run[0], tmp_path))
    (stored,) = find_stored(tmp_path)
    assert mixture([stored], 0.1).error == 0
    with pytest.raises(ValueError, match=r"its length is 0.1: of one alone no other .* as 0.101;"):
        mixture([stored], 0.101)


def test_a_length_that_is_not_met_well_is_warned_of(run: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "made.safetensors"
    arguments = ["reconstruct", str(run[0]), str(target), "--std", "0.25"]
    result = CliRunner().invoke(checkpoint.main, arguments)
    assert result.exit_code == 0 and target.exists()
    (line,) = result.stderr.splitlines()
    told = r"Warning: the nearest sum of these averages is \d\d\.\d% off the length 0\.25, more than 10%"
    assert re.match(told, line)


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (lambda folder: None, "--std 0.3", "length of an average is 0.3; it must be above 0"),
        (lambda folder: None, "--std nan", "nan is no finite number"),
        (lambda folder: None, "--std 0.07 --images 50", "after 50 images; the nearest is of 48"),
        (
            lambda folder: None,
            "--std 0.0001",
            r"cannot be made of these 12: the nearest sum is 99\.\d%",
        ),
        (lambda folder: None, "--std 1e-9", r"more than 25%; .* stored \(0.05, 0.07, 0.1\), or"),
        (one_alone, "--std 0.15", "is the only average up to 64 images, and its length is 0.1"),
        (damage, "--std 0.07", "power-ema-000000000048-0.050.safetensors is no average"),
        (another_network, "--std 0.07", "is of another network than"),
        (a_snapshot, "--std 0.07", "is no average of a training"),
        (twice, "--std 0.07", "two files in .* are the same average"),
    ],
)
def test_bad_input_is_one_line(
    run: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[Path], None],
    flags: str,
    message: str,
) -> None:
    folder, target = tmp_path / "run", tmp_path / "made.safetensors"
    folder.mkdir()
    change(copied(run[0], folder))
    arguments = ["reconstruct", str(folder), str(target), *flags.split()]
    result = CliRunner().invoke(checkpoint.main, arguments)
    assert result.exit_code == 2 and result.stdout == "" and not target.exists()
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ") and re.search(message, line)


def test_what_there_is_nothing_to_add_up_in_is_refused(tmp_path: Path) -> None:
    for folder, message in (
        (tmp_path, "has no power-function averages"),
        (tmp_path / "none", "is no folder"),
    ):
        arguments = ["reconstruct", str(folder), str(tmp_path / "a"), "--std", "0.1"]
        result = CliRunner().invoke(checkpoint.main, arguments)
        assert result.exit_code == 2 and message in result.stderr


def test_the_flag_of_train(run: tuple[Path, Path], tmp_path: Path) -> None:
    flags = "--cond 1 --arch adm --cbase 16 --cres 4 --num-blocks 1 --attn 0 --batch 16 --duration 0.001"
    arguments = ["--data", str(run[1]), "--outdir", str(tmp_path / "run"), *flags.split()]
    shown = CliRunner().invoke(train_main, [*arguments, "--power-ema", "0.05,0.1", "--dry-run"])
    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout)["power_ema"] == [0.05, 0.1]
    for value, message in (
        ("0.05,0.4", "the length of an average is 0.4"),
        ("0.05,x", "'0.05,x' is not a list like 0.05,0.1"),
        ("0.05,nan", "has a number that is not finite"),
        ("0.05,0.0501", "no two lengths may be the same to three digits"),
    ):
        result = CliRunner().invoke(train_main, [*arguments, "--power-ema", value])
        assert result.exit_code == 2 and message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
