"""SkipTuned: the network's own attributes, and what it is asked with."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_network import tiny_network
from torch import Tensor

from skip.methods.freeu import FreeU
from skip.scale import SkipScale
from skip.tuned import SkipTuned
from training.families.latent.discrete import NoiseTable


class Told:
    """A network of three long skips that remembers what it was given."""

    num_skips, label_dim = 3, 7

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        self.args, self.kwargs = args, kwargs
        return args[0]


def test_every_other_attribute_is_the_networks() -> None:
    assert SkipTuned(Told(), SkipScale()).label_dim == 7


def test_without_tuning_the_network_runs_untouched() -> None:
    net = Told()
    SkipTuned(net, SkipScale(), "shortcut")(torch.zeros(1), 2.0)
    assert net.kwargs == {} and net.args[1:] == (2.0, None)


@pytest.mark.parametrize(
    "sigma, shape",
    [(2.0, (3,)), (torch.tensor([[2.0]]), (3,)), (torch.full([4, 1, 1, 1], 2.0), (4, 3))],
)
def test_rho_is_of_the_layer_and_of_each_noise_level(
    sigma: float | Tensor, shape: tuple[int, ...]
) -> None:
    net, scale = Told(), SkipScale(bottom=0.7, time="decreasing")
    SkipTuned(net, scale, "norm_input")(torch.zeros(4, 1, 2, 2), sigma)
    rho = net.kwargs["skip_scale"]
    assert rho.shape == shape and net.kwargs["skip_target"] == "norm_input"
    assert torch.equal(rho, scale(3, 2.0).expand(shape))


class Timed(Told):
    """A network that is told a whole time from 1 to 5."""

    table = NoiseTable("linear", 0.1, 0.5, num_timesteps=5, first_timestep=1)
    relative_time = table.relative_time


def test_rho_is_linear_in_the_time_that_the_network_is_told() -> None:
    # log(1 + sigma_t^2) = -sum of log(1 - beta), beta = 0.1, 0.2, .. 0.5
    levels = [(1 / kept - 1) ** 0.5 for kept in (0.9, 0.72, 0.504, 0.3024, 0.1512)]
    net, scale = Timed(), SkipScale(layers=(0.2, 1.0, 0.6), time="increasing", axis="time")
    tuned = SkipTuned(net, scale)

    expected = []
    for step, sigma in enumerate(levels):
        expected.append([rho + (1 - rho) * step / 4 for rho in (0.2, 1.0, 0.6)])
        tuned(torch.zeros(4, 1, 2, 2), sigma * 1.001)  # of the nearest level
        assert net.kwargs["skip_scale"].tolist() == pytest.approx(expected[-1])

    tuned(torch.zeros(5, 1, 2, 2), torch.tensor(levels).reshape(5, 1, 1, 1))
    found = net.kwargs["skip_scale"]
    assert found.flatten().tolist() == pytest.approx([rho for row in expected for rho in row])


def test_a_network_without_times_is_refused_before_it_runs() -> None:
    scale = SkipScale(0.5, time="decreasing", axis="time")
    for net in (Told(), tiny_network()):
        with pytest.raises(
            ValueError, match=r"axis time .*--rho-axis.* choose the axis edm, sigma, log-sigma$"
        ):
            SkipTuned(net, scale)
        with pytest.raises(ValueError, match="axis time"):  # a method follows the time too
            SkipTuned(net, replace(scale, bottom=1.0), methods=[FreeU(b1=1.2)])
        SkipTuned(net, replace(scale, bottom=1.0))
        SkipTuned(net, replace(scale, time="constant"))


def test_a_wrong_number_of_layers_fails_at_once() -> None:
    with pytest.raises(ValueError, match="2 skip coefficients given; this network has 3"):
        SkipTuned(Told(), SkipScale(layers=(0.5, 0.6)))


@torch.inference_mode()
def test_it_is_the_network_with_scaled_skips() -> None:
    net = tiny_network()
    x, labels = torch.randn(2, net.img_channels, 8, 8), None
    if net.label_dim:
        labels = torch.eye(net.label_dim)[:2]
    if net.img_resolution != 8:
        x = torch.randn(2, net.img_channels, net.img_resolution, net.img_resolution)
    expected = net(x, torch.tensor(1.0), labels, skip_scale=torch.full([net.num_skips], 0.6))
    tuned = SkipTuned(net, SkipScale(bottom=0.6, top=0.6))
    assert torch.equal(tuned(x, 1.0, labels), expected)
    assert not torch.equal(expected, net(x, torch.tensor(1.0), labels))
