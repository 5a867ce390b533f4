"""Winograd's convolution against the direct one."""

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error

from training.blocks.layers import Conv2d
from training.kernels import choose, winograd


@pytest.mark.parametrize(("H", "W"), [(4, 4), (8, 12), (32, 32), (20, 64), (64, 256)])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@torch.inference_mode()
def test_equals_the_direct_convolution(H: int, W: int, memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 5, H, W).to(memory_format=memory_format)
    weight, bias = torch.randn(7, 5, 3, 3), torch.randn(7)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    got = winograd.conv3x3(x, winograd.transform(weight), bias)
    assert relative_error(got, expected) < 2e-5
    assert got.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def test_is_the_same_convolution_to_the_last_digits_of_float64() -> None:
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64) for shape in [(2, 5, 16, 8), (3, 5, 3, 3), (3,)]
    )
    got = winograd.conv3x3(x, winograd.transform(weight), bias)
    assert relative_error(got, F.conv2d(x, weight, bias, padding=1)) < 1e-13


@torch.inference_mode()
def test_does_not_depend_on_the_batch() -> None:
    x, weight, bias = torch.randn(3, 16, 32, 32), torch.randn(8, 16, 3, 3), torch.randn(8)
    together = winograd.conv3x3(x, winograd.transform(weight), bias)
    assert torch.equal(together[1:2], winograd.conv3x3(x[1:2], winograd.transform(weight), bias))


@torch.inference_mode()
def test_layer_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Conv2d(128, 128, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, 128, 32, 32)
    monkeypatch.setattr(choose, "forced", "winograd")
    got = layer(x)
    monkeypatch.setattr(choose, "forced", "plain")
    direct = layer(x)
    assert not torch.equal(got, direct)
    assert relative_error(got, direct) < 1e-4
