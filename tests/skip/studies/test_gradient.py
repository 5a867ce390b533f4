"""The gradient norm, against linear denoisers and full Jacobians."""

from typing import Any

import pytest
import torch
from tiny_network import tiny_network
from torch import Tensor, nn

from sampling.noise import SeedNoise
from skip.scale import SkipScale
from skip.studies.gradient import FUNCTIONS, PROBES, Function, Probe, gradient_norm
from skip.studies.inputs import pure_noise, random_labels
from skip.tuned import SkipTuned
from training.precond import PRECONDS

SEEDS = [3, 4]
TUNED = SkipScale(0.3)


class Pixels(nn.Module):
    """A raw network that treats every pixel alike, on two channels: F(y)_c = sum_b A_cb y_b."""

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.A = A

    def forward(self, y: Tensor) -> Tensor:
        return torch.einsum("cb,nbhw->nchw", self.A.to(y), y)


class PixelDenoiser(nn.Module):
    """D(x; sigma) = x + sigma F(x / 2)."""

    label_dim = 0

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.model = Pixels(A)

    def forward(self, x: Tensor, sigma: Any, class_labels: Any = None) -> Tensor:
        return x + torch.as_tensor(sigma).reshape(-1, 1, 1, 1) * self.model(x / 2)[:, : x.shape[1]]


A = torch.tensor([[1.0, 2.0], [3.0, -5.0]])


def inputs(
    channels: int = 1, sigma: float | Tensor = 1.5
) -> tuple[Tensor, float | Tensor, Tensor | None]:
    shape = (channels, 8, 8)
    return pure_noise(shape, SEEDS, sigma), sigma, random_labels(SEEDS, 10, shape)


def probe_by_hand(channels: int, label_dim: int) -> Tensor:
    """Per seed: noise, class, then the probe."""
    random = SeedNoise(SEEDS)
    random.randn([2, channels, 8, 8])
    if label_dim:
        random.randint(label_dim)
    return random.randn([2, channels, 8, 8], torch.float64)


def test_a_linear_denoiser_has_a_known_gradient() -> None:
    x, sigma = pure_noise((2, 8, 8), SEEDS, 1.0), torch.tensor([0.5, 2.0])
    column = A.double().sum(dim=0)  # A^T 1 = (4, -3)
    raw = gradient_norm(PixelDenoiser(A), x, sigma, function="raw")
    assert raw.dtype == torch.float64
    assert raw.tolist() == pytest.approx([8 * 5, 8 * 5], rel=1e-12)  # sqrt(64 (16 + 9))
    full = gradient_norm(PixelDenoiser(A), x, sigma, function="denoiser")
    expected = [8 * float((1 + s / 2 * column).norm()) for s in sigma.double()]
    assert full.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_random_probe_follows_noise_and_class_of_its_seed(function: Function) -> None:
    x, v = pure_noise((2, 8, 8), SEEDS, 1.0), probe_by_hand(2, label_dim=0)
    found = gradient_norm(PixelDenoiser(A), x, 3.0, function=function, probe="random", seeds=SEEDS)
    J = A.double() if function == "raw" else torch.eye(2).double() + 1.5 * A
    expected = torch.einsum("cb,nchw->nbhw", J, v).flatten(1).norm(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_channels_that_the_denoiser_does_not_use_do_not_count() -> None:
    three = torch.cat([A, torch.tensor([[100.0, 100.0]])])
    x = pure_noise((2, 8, 8), SEEDS, 1.0)
    assert gradient_norm(PixelDenoiser(three), x, 1.0).tolist() == pytest.approx(
        [40, 40], rel=1e-12
    )


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("scale", [SkipScale(), TUNED], ids=["plain", "tuned"])
def test_a_network_against_its_full_jacobian(probe: Probe, scale: SkipScale) -> None:
    net = SkipTuned(tiny_network(), scale)
    x, sigma, labels = inputs()
    assert labels is not None
    found = gradient_norm(net, x, sigma, labels, "denoiser", probe, SEEDS)
    v = torch.ones(2, 64) if probe == "ones" else probe_by_hand(1, label_dim=10).flatten(1).float()
    for i in range(2):
        J = torch.autograd.functional.jacobian(
            lambda z, i=i: net(z, sigma, labels[i : i + 1]), x[i : i + 1].float()
        ).reshape(64, 64)
        assert float(found[i]) == pytest.approx(float((v[i] @ J).norm()), rel=1e-4)


@pytest.mark.parametrize("kind", PRECONDS)
@pytest.mark.parametrize("scale", [SkipScale(), TUNED], ids=["plain", "tuned"])
def test_the_raw_gradient_follows_from_the_denoisers(kind: str, scale: SkipScale) -> None:
    """dD/dx = c_skip + c_out c_in dF/dy, so that F's part is (v dD/dx - c_skip v) / (c_out c_in)."""
    plain = tiny_network(kind=PRECONDS[kind])
    net = SkipTuned(plain, scale)
    x, sigma, labels = inputs(sigma=torch.tensor([0.7, 3.0]))
    c_skip, c_out, c_in, _ = plain.scalings(torch.tensor([0.7, 3.0]).reshape(-1, 1, 1, 1))
    z = x.float().requires_grad_()
    (whole,) = torch.autograd.grad(net(z, sigma, labels).sum(), z)
    expected = ((whole - c_skip) / (c_out * c_in)).flatten(1).norm(dim=1).double()
    torch.testing.assert_close(gradient_norm(net, x, sigma, labels), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("probe", PROBES)
def test_an_image_does_not_depend_on_its_batch(function: Function, probe: Probe) -> None:
    net = SkipTuned(tiny_network(), TUNED)
    x, sigma, labels = inputs(sigma=torch.tensor([0.7, 3.0]))
    assert labels is not None and isinstance(sigma, Tensor)
    together = gradient_norm(net, x, sigma, labels, function, probe, SEEDS)
    alone = [
        gradient_norm(
            net,
            x[i : i + 1],
            sigma[i : i + 1],
            labels[i : i + 1],
            function,
            probe,
            SEEDS[i : i + 1],
        )
        for i in range(2)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("trainable", [True, False])
def test_nothing_is_left_behind(function: Function, trainable: bool) -> None:
    net = tiny_network().requires_grad_(trainable)
    x, sigma, labels = inputs()
    norms = gradient_norm(SkipTuned(net, TUNED), x, sigma, labels, function)
    assert all(p.grad is None and p.requires_grad is trainable for p in net.parameters())
    assert not x.requires_grad and x.grad is None and not norms.requires_grad
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", ["EDMPrecond", "VEPrecond"])
def test_works_where_gradients_are_off(function: Function, kind: str) -> None:
    net = tiny_network(kind=PRECONDS[kind])
    expected = gradient_norm(net, *inputs(sigma=torch.tensor([0.7, 3.0])), function)
    with torch.inference_mode():
        assert torch.equal(
            gradient_norm(net, *inputs(sigma=torch.tensor([0.7, 3.0])), function), expected
        )
        assert not torch.is_grad_enabled()


def test_refuses() -> None:
    net = PixelDenoiser(A)
    x = torch.ones(2, 2, 4, 4)
    with pytest.raises(ValueError, match="unknown function 'score'; choose from raw, denoiser"):
        gradient_norm(net, x, 1.0, function="score")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown probe 'sum'; choose from ones, random"):
        gradient_norm(net, x, 1.0, probe="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs seeds"):
        gradient_norm(net, x, 1.0, probe="random")
    with pytest.raises(ValueError, match="1 seeds for 2 images"):
        gradient_norm(net, x, 1.0, probe="random", seeds=[0])
    with pytest.raises(ValueError, match="no raw network"):
        gradient_norm(lambda x, sigma, labels: x, x, 1.0)
    twice = PixelDenoiser(A)
    twice.forward = lambda x, sigma, labels: twice.model(x) + twice.model(x)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="called its raw network 2 times"):
        gradient_norm(twice, x, 1.0)
