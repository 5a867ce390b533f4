"""oneDNN's products against torch's own, and when they are chosen."""

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error

from training import onednn
from training.layers import Conv2d, attention

HAS_OP = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
needs_op = pytest.mark.skipif(not HAS_OP, reason="this build of torch has no oneDNN")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which oneDNN is the faster one."""
    monkeypatch.setattr(onednn, "_faster_than_mkl", lambda: True)


@needs_op
@pytest.mark.usefixtures("elsewhere")
@torch.inference_mode()
def test_the_same_products() -> None:
    x, weight, bias = torch.randn(3, 50, 130), torch.randn(129, 130), torch.randn(129)
    assert relative_error(onednn.linear(x, weight, bias), F.linear(x, weight, bias)) < 1e-5
    assert relative_error(onednn.linear(x, weight), F.linear(x, weight)) < 1e-5


@needs_op
@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_layers_give_the_same(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 128, 8, 8).to(memory_format=memory_format)
    proj, qkv = Conv2d(128, 192, 1), Conv2d(128, 384, 1)
    expected = proj(x), attention(qkv, x, 2)
    with torch.inference_mode():
        got = proj(x), attention(qkv, x, 2)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b.detach()) < 1e-5


@pytest.mark.usefixtures("elsewhere")
@needs_op
@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.inference_mode()
def test_the_same_attention(dtype: torch.dtype, tolerance: float) -> None:
    q, k, v = torch.randn(2, 256, 3, 3, 64).permute(2, 0, 3, 1, 4).unbind(0)
    expected = F.scaled_dot_product_attention(q, k, v)
    got = onednn.attention(q.to(dtype), k.to(dtype), v.to(dtype))
    assert got.dtype == dtype and got.shape == q.shape
    assert relative_error(got.float(), expected) < tolerance


def test_chosen_in_float32_inference_only() -> None:
    x = torch.randn(4, 128)
    assert not onednn.preferred(x)
    with torch.inference_mode():
        assert onednn.preferred(x)
        assert not onednn.preferred(x.double())
        assert not onednn.preferred(x.bfloat16())


def test_not_chosen_on_intel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "_faster_than_mkl", lambda: False)
    with torch.inference_mode():
        assert not onednn.preferred(torch.randn(4, 128))
