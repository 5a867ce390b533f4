"""oneDNN's products against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error

from training.blocks.layers import Conv2d, attention
from training.kernels import choose, compute, onednn


def needs(dtype: torch.dtype) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not onednn.computes(dtype), reason=f"oneDNN has no {dtype} on this processor"
    )


needs_op = needs(torch.float32)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which oneDNN is the faster one."""
    monkeypatch.setattr(choose, "forced", "onednn")


@needs_op
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


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(torch.float32, 1e-5, marks=needs_op),
        pytest.param(torch.bfloat16, 2e-2, marks=needs(torch.bfloat16)),
    ],
)
@torch.inference_mode()
def test_the_same_attention(dtype: torch.dtype, tolerance: float) -> None:
    q, k, v = torch.randn(2, 256, 3, 3, 64).permute(2, 0, 3, 1, 4).unbind(0)
    expected = F.scaled_dot_product_attention(q, k, v)
    got = onednn.attention(q.to(dtype), k.to(dtype), v.to(dtype))
    assert got.dtype == dtype and got.shape == q.shape
    assert relative_error(got.float(), expected) < tolerance


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.inference_mode()
def test_a_dtype_that_onednn_lacks_goes_to_torch(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 on processors without AVX-512: oneDNN raises there."""

    def missing(*args: object) -> None:
        raise RuntimeError("bf16 path needs the cpu support")

    monkeypatch.setattr(onednn, "packed_kernel", missing)
    monkeypatch.setattr(onednn, "computes", onednn.computes.__wrapped__)
    layer = Conv2d(128, 128, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, pixels = torch.randn(1, 128, 8, 8).to(dtype), torch.randn(2, 128).to(dtype)
    kernel, weight = layer.weight.to(dtype), layer.weight[..., 0, 0].to(dtype)
    assert relative_error(layer(images), F.conv2d(images, kernel, padding=1)) < tolerance
    assert relative_error(compute.linear(pixels, weight), F.linear(pixels, weight)) < tolerance
