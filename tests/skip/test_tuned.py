"""SkipTuned: the network's own attributes, and what it is asked with."""

from typing import Any

import pytest
import torch
from tiny_network import tiny_network
from torch import Tensor

from skip.scale import SkipScale
from skip.tuned import SkipTuned


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
