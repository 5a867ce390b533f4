"""The losses against their formulas."""

import math

import pytest
import torch

from training.loss import LOSSES, EDMLoss, NoisePredictionLoss, VELoss, VPLoss
from training.precond import VPPrecond


def halve(x: torch.Tensor, sigma: torch.Tensor, labels: None) -> torch.Tensor:
    return x / 2


def test_vp_levels_are_the_networks() -> None:
    net = VPPrecond(8, 1, model_channels=16, channel_mult=[1], num_blocks=1)
    u = torch.rand(100, generator=torch.Generator().manual_seed(0))
    sigma = VPLoss().level(u)
    assert torch.allclose(sigma, net.sigma(1 + u * (1e-5 - 1)), rtol=1e-4)
    assert float(VPLoss().level(torch.zeros(1))) == pytest.approx(net.sigma_max)
    # float32 there.
    assert float(VPLoss().level(torch.ones(1).double())) == pytest.approx(net.sigma_min, rel=0.03)


def test_ve_levels_are_log_uniform() -> None:
    u = torch.tensor([0.0, 0.25, 0.5, 1.0])
    expected = torch.tensor(
        [math.exp(math.log(0.02) + t * math.log(100 / 0.02)) for t in u.tolist()]
    )
    assert torch.allclose(VELoss().level(u), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [EDMLoss(), VPLoss(), VELoss()])
def test_weighted_squared_error(loss: EDMLoss | VPLoss | VELoss) -> None:
    images = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    sigma, noise = loss.draw(images, torch.Generator().manual_seed(2))
    again = loss.draw(images, torch.Generator().manual_seed(2))
    assert torch.equal(sigma, again[0]) and torch.equal(noise, again[1])
    assert (
        sigma.shape == (5,)
        and noise.shape == images.shape
        and float(noise.std()) == pytest.approx(1, abs=0.4)
    )
    got = loss(halve, images, None, sigma, noise)  # type: ignore[arg-type]
    for i in range(5):
        s = float(sigma[i])
        weight = (s**2 + 0.25) / (s * 0.5) ** 2 if isinstance(loss, EDMLoss) else 1 / s**2
        expected = weight * ((images[i] + s * noise[i]) / 2 - images[i]) ** 2
        assert torch.allclose(got[i], expected, rtol=1e-4)


def test_augment_labels_reach_the_network() -> None:
    seen = []

    def net(
        x: torch.Tensor, sigma: torch.Tensor, labels: None, augment_labels: torch.Tensor
    ) -> torch.Tensor:
        seen.append(augment_labels)
        return x

    told = torch.ones(2, 9)
    one = torch.ones(2, 1, 1, 1)
    EDMLoss()(net, one, None, torch.ones(2), one, told)  # type: ignore[arg-type]
    assert seen == [told]


def test_every_loss_is_of_a_precond() -> None:
    assert set(LOSSES) == {"EDMPrecond", "VPPrecond", "VEPrecond"}


def test_noise_prediction_draws_the_levels_evenly_and_is_the_error_of_the_noise() -> None:
    """With a network that predicts F = 0.1 everywhere, the loss of each value is (0.1 - n)^2."""
    levels = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)
    loss = NoisePredictionLoss(levels)
    images = torch.zeros(3000, 1, 1, 2)
    sigma, noise = loss.draw(images, torch.Generator().manual_seed(0))
    counts = [int((sigma == level).sum()) for level in levels]
    assert sum(counts) == 3000 and min(counts) > 900

    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor, sigma: torch.Tensor, labels: None) -> torch.Tensor:
            return x - 0.1 * sigma.reshape(-1, 1, 1, 1)

    assert torch.allclose(
        loss(Constant(), images, None, sigma, noise), (0.1 - noise) ** 2, atol=1e-5
    )
    assert float(loss.level(torch.tensor(1 - 2**-24))) == 7.0
