"""oneDNN's products against torch's own, and when they are chosen."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error

from training.blocks.layers import Conv2d, attention
from training.kernels import onednn, winograd

COMPUTES, FASTER_THAN_MKL = onednn.computes, onednn._faster_than_mkl  # before --kernels replaces them


def needs(dtype: torch.dtype) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not COMPUTES(dtype), reason=f"oneDNN has no {dtype} on this processor")


needs_op = needs(torch.float32)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which oneDNN is the faster one, and large layers."""
    monkeypatch.setattr(onednn, "_faster_than_mkl", lambda: True)
    monkeypatch.setattr(onednn, "computes", lambda dtype: True)
    monkeypatch.setattr(onednn, "MIN_FEATURES", 128)
    monkeypatch.setattr(onednn, "MIN_TOKENS", 256)
    monkeypatch.setattr(winograd, "MIN_RESOLUTION", 32)


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
def test_chosen_in_float32_inference_only() -> None:
    x = torch.randn(4, 128)
    assert not onednn.preferred(x)
    with torch.inference_mode():
        assert onednn.preferred(x)
        assert not onednn.preferred(x.double())
        assert not onednn.preferred(x.bfloat16())
        assert onednn.preferred(x.bfloat16(), torch.float32, torch.bfloat16)


@pytest.mark.usefixtures("elsewhere")
@torch.inference_mode()
def test_not_chosen_where_mkl_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "_faster_than_mkl", lambda: False)
    assert not onednn.preferred(torch.randn(4, 128))


@pytest.mark.parametrize(
    ("cpuinfo", "faster"), [("vendor_id : AuthenticAMD", True), ("vendor_id : GenuineIntel", False), (None, False)]
)
def test_mkl_is_the_slower_one_off_intel(
    cpuinfo: str | None, faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(onednn, "CPUINFO", tmp_path / "cpuinfo")
    assert FASTER_THAN_MKL.__wrapped__() is faster


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
    monkeypatch.setattr(onednn, "computes", COMPUTES.__wrapped__)
    layer = Conv2d(128, 128, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, pixels = torch.randn(1, 128, 8, 8).to(dtype), torch.randn(2, 128).to(dtype)
    kernel, weight = layer.weight.to(dtype), layer.weight[..., 0, 0].to(dtype)
    assert relative_error(layer(images), F.conv2d(images, kernel, padding=1)) < tolerance
    assert relative_error(onednn.linear(pixels, weight), F.linear(pixels, weight)) < tolerance
