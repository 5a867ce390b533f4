"""Winograd's convolution against the direct one, and when it is chosen."""

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error

from training.blocks.layers import Conv2d
from training.kernels import winograd


@pytest.fixture(autouse=True)
def usual_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From which on it is worthwhile, whatever --kernels says."""
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 128)
    monkeypatch.setattr(winograd, "MIN_RESOLUTION", 32)


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
    x, weight, bias = (torch.randn(shape, dtype=torch.float64) for shape in [(2, 5, 16, 8), (3, 5, 3, 3), (3,)])
    got = winograd.conv3x3(x, winograd.transform(weight), bias)
    assert relative_error(got, F.conv2d(x, weight, bias, padding=1)) < 1e-13


@torch.inference_mode()
def test_does_not_depend_on_the_batch() -> None:
    x, weight, bias = torch.randn(3, 16, 32, 32), torch.randn(8, 16, 3, 3), torch.randn(8)
    together = winograd.conv3x3(x, winograd.transform(weight), bias)
    assert torch.equal(together[1:2], winograd.conv3x3(x[1:2], winograd.transform(weight), bias))


def test_chosen_for_large_layers_in_inference_only() -> None:
    x = torch.randn(1, 128, 32, 32)
    weight = torch.randn(128, 128, 3, 3).to(memory_format=torch.channels_last)
    assert not winograd.worthwhile(x, weight)
    with torch.inference_mode():
        assert winograd.worthwhile(x, weight)
        assert not winograd.worthwhile(x, weight.contiguous())
        assert not winograd.worthwhile(x.bfloat16(), weight.bfloat16())
        assert not winograd.worthwhile(x[:, :64], weight[:, :64])
        assert not winograd.worthwhile(x[..., :16, :16], weight)
        assert not winograd.worthwhile(x[..., :30], weight)


@torch.inference_mode()
def test_layer_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Conv2d(128, 128, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, 128, 32, 32)
    got = layer(x)
    monkeypatch.setattr(winograd, "worthwhile", lambda x, weight: False)
    direct = layer(x)
    assert not torch.equal(got, direct)
    assert relative_error(got, direct) < 1e-4
