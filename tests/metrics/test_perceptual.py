"""The perceptual distance: by hand, and on the demo detector."""

from pathlib import Path

import pytest
import torch
from torch import nn

from metrics.demo_detector.files import load_demo_detector
from metrics.demo_detector.network import DemoDetector
from metrics.perceptual import Perceptual, demo_perceptual

DETECTOR = Path(__file__).resolve().parents[2] / "assets" / "demo" / "detector.safetensors"


class Pair(nn.Module):
    """Two channels: the image and its square."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :1], x[:, :1] ** 2], dim=1)


def test_distance_by_hand() -> None:
    a, b = torch.full([1, 1, 2, 2], 1.0), torch.tensor([1.0, 1.0, 1.0, 3.0]).reshape(1, 1, 2, 2)
    here, there = torch.tensor([1.0, 1.0]) / 2**0.5, torch.tensor([3.0, 9.0]) / 90**0.5
    stage = float((here - there).square().sum()) / 4
    assert float(Perceptual([])(a, b)) == 1.0
    assert float(Perceptual([Pair()])(a, b)) == pytest.approx(1 + stage, rel=1e-5)
    assert float(Perceptual([Pair(), nn.Identity()])(a, b)) == pytest.approx(
        1 + 2 * stage, rel=1e-5
    )


def test_demo_detector_gives_a_distance_with_gradients() -> None:
    distance = demo_perceptual(load_demo_detector(DETECTOR))
    assert len(distance.stages) == 3
    _check(distance)


def test_every_architecture_gives_one() -> None:
    distance = demo_perceptual(DemoDetector(arch="resnet").eval())
    assert len(distance.stages) == 4
    _check(distance)


def _check(distance: Perceptual) -> None:
    a, b = torch.rand(4, 1, 32, 32, requires_grad=True), torch.rand(4, 1, 32, 32)
    assert torch.equal(distance(b, b), torch.zeros(4))
    together = distance(a, b)
    assert together.shape == (4,) and bool((together > 0.01).all())
    assert torch.allclose(distance(a[1:2], b[1:2]), together[1:2], rtol=1e-4)
    together.sum().backward()
    assert a.grad is not None and bool(a.grad.any())
