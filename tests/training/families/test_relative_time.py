"""The time of each family of networks, from 0 at the first that it was trained at to 1 at the last."""

from typing import Any

import pytest
import torch
from tiny_network import tiny_network
from torch import Tensor

from skip.scale import SkipScale
from skip.tuned import SkipTuned
from training.families.latent.continuous import ContinuousTimes
from training.families.latent.discrete import NoiseTable
from training.precond import EDMPrecond, VEPrecond, VPPrecond, iDDPMPrecond
from training.schedules import VPSchedule


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("rounding", ["nearest", "fractional"])
@pytest.mark.parametrize("first", [0, 1])
def test_of_a_table(rounding: Any, first: int) -> None:
    table = NoiseTable(num_timesteps=11, first_timestep=first, rounding=rounding)
    found = table.relative_time(table.levels)
    assert found.tolist() == pytest.approx([step / 10 for step in range(11)], abs=1e-12)
    assert table.relative_time(double(0, 1e9)).tolist() == [0, 1], "beyond the table"

    # Between two times, log(1 + sigma^2) is linear in t.
    between = (0.75 * table.log_gain[3] + 0.25 * table.log_gain[4]).expm1().sqrt()
    expected = 0.325 if rounding == "fractional" else 0.3
    assert table.relative_time(between.reshape(1, 1)).item() == pytest.approx(expected)


def test_of_continuous_times() -> None:
    times = ContinuousTimes(0.1, 20.0, first_time=0.2)
    sigma = VPSchedule(19.9, 0.1).sigma(double(0.1, 0.2, 0.4, 0.6, 1.0))
    assert times.relative_time(sigma).tolist() == pytest.approx([0, 0, 0.25, 0.5, 1], abs=1e-12)


def test_of_vp() -> None:
    net = tiny_network(kind=VPPrecond, epsilon_t=0.2)
    sigma = VPSchedule(19.9, 0.1).sigma(double(0.1, 0.2, 0.4, 0.6, 1.0))
    assert net.relative_time is not None
    assert net.relative_time(sigma).tolist() == pytest.approx([0, 0, 0.25, 0.5, 1], abs=1e-12)

    told = net.scalings(sigma[1:].reshape(-1, 1, 1, 1)).c_noise.flatten()
    expected = (told - told[0]) / (told[-1] - told[0])
    assert net.relative_time(sigma[1:]).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_of_iddpm() -> None:
    net = tiny_network(kind=iDDPMPrecond, M=5)
    levels = net.u[:5].to(torch.float64)  # from the highest
    assert net.relative_time is not None
    assert net.relative_time(levels).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert net.relative_time(levels[1] * 1.001).tolist() == 0.75, "of the nearest level"


@pytest.mark.parametrize("kind", [EDMPrecond, VEPrecond])
def test_networks_of_noise_levels_have_none(kind: Any) -> None:
    assert tiny_network(kind=kind).relative_time is None


@torch.inference_mode()
def test_a_network_is_tuned_by_its_time_image_by_image() -> None:
    net = tiny_network(kind=VPPrecond)
    tuned = SkipTuned(net, SkipScale(0.5, 0.5, time="decreasing", axis="time"))
    sigma, x, labels = (
        VPSchedule(19.9, 0.1).sigma(double(0.3, 0.8)),
        torch.randn(2, 1, 8, 8),
        torch.eye(10)[:2],
    )

    rho = double(0.85, 0.6)[:, None].expand(2, net.num_skips)  # 1 - 0.5 t, but for epsilon_t
    expected = net(x, sigma, labels, skip_scale=rho.float())
    torch.testing.assert_close(tuned(x, sigma, labels), expected, rtol=1e-4, atol=1e-4)
    assert (expected - net(x, sigma, labels)).abs().max() > 1e-2
