"""Which kernel is chosen: by device, size, dtype and memory; and that it can be told, and forced."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import relative_error
from fake_cuda import fake_cuda
from torch import Tensor, nn

from training.blocks.layers import Conv2d, GroupNorm, Init, attention
from training.blocks.transformer import Dense
from training.families.edm2.layers import MPConv
from training.kernels import choose, compute, onednn


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that has all kernels and on which oneDNN is the faster one, whatever --kernels says."""
    monkeypatch.setattr(choose, "forced", None)
    monkeypatch.setattr(choose, "faster_than_mkl", lambda: True)
    monkeypatch.setattr(onednn, "computes", lambda dtype: True)


def weight(side: int = 3) -> Tensor:
    return torch.randn(128, 128, side, side).to(memory_format=torch.channels_last)


@pytest.mark.usefixtures("elsewhere")
def test_winograd_for_large_layers_in_inference_only() -> None:
    x, w = torch.randn(1, 128, 32, 32), weight()
    assert choose.convolution(x, w) == "plain"
    with torch.inference_mode():
        assert choose.convolution(x, w) == "winograd"
        assert choose.convolution(x, w.contiguous()) == "plain"
        assert choose.convolution(x.bfloat16(), w.bfloat16()) == "onednn"
        assert choose.convolution(x[:, :64], w[:, :64]) == "plain"
        assert choose.convolution(x[..., :16, :16], w) == "onednn"
        assert choose.convolution(x[..., :30], w) == "onednn"
        # 4 does not divide 34.
        assert choose.convolution(torch.randn(1, 128, 32, 34), w) == "onednn"
        assert choose.convolution(x, weight(1)) == "onednn"


@pytest.mark.usefixtures("elsewhere")
def test_packed_weights_for_large_layers_in_inference_only(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = torch.randn(1, 128, 8, 8), weight()
    assert choose.convolution(x, w) == "plain"
    with torch.inference_mode():
        assert choose.convolution(x, w) == "onednn"
        assert choose.convolution(x, w.contiguous()) == "plain"
        assert choose.convolution(x[:, :64], w[:, :64]) == "plain"
        assert choose.convolution(x.double(), w.double()) == "plain"
        monkeypatch.setattr(onednn, "computes", lambda dtype: dtype != torch.float32)
        assert choose.convolution(x, w) == "plain"


@pytest.mark.usefixtures("elsewhere")
def test_products_in_inference_where_mkl_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = torch.randn(4, 128), torch.randn(128, 128)
    assert choose.product(x, w) == "plain"
    with torch.inference_mode():
        for dtype, kernel in (
            (torch.float32, "onednn"),
            (torch.bfloat16, "onednn"),
            (torch.float64, "plain"),
        ):
            assert choose.product(x.to(dtype), w.to(dtype)) == kernel
        assert choose.product(x, w[:127]) == "plain"
        monkeypatch.setattr(choose, "faster_than_mkl", lambda: False)
        assert choose.product(x, w) == "plain"


@pytest.mark.usefixtures("elsewhere")
def test_attention_of_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.randn(1, 2, 256, 8)
    assert choose.attention(q) == "plain"
    with torch.inference_mode():
        assert choose.attention(q) == "onednn"
        assert choose.attention(q[:, :, :255]) == "plain"
        monkeypatch.setattr(choose, "faster_than_mkl", lambda: False)
        assert choose.attention(q) == "plain"


@pytest.mark.usefixtures("elsewhere")
def test_attention_of_wide_heads_on_cuda() -> None:
    q = torch.zeros(1, 1, 9, 320)
    with fake_cuda(), torch.inference_mode():
        q = q.to("cuda")
        assert choose.attention(q) == "cuda"
        assert choose.attention(q[..., :256]) == "plain"
        assert compute.attention(q, q, q).shape == q.shape


@pytest.mark.usefixtures("elsewhere")
def test_norms_that_keep_their_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "MIN_VALUES", 2 * 32 * 4 * 4)
    x = torch.zeros(2, 32, 4, 4).to(memory_format=torch.channels_last)
    # Of one channel: both layouts are its own.
    one = torch.zeros(2, 1, 32, 16).to(memory_format=torch.channels_last)
    assert one.is_contiguous() and one.is_contiguous(memory_format=torch.channels_last)
    rows, small = x.contiguous(), torch.zeros(1, 32, 4, 4).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert choose.norm(x) == "plain"  # a CPU
    with fake_cuda():
        x = x.to("cuda")
        with torch.no_grad():
            assert choose.norm(x) == "cuda"
            for other in (one, rows, small):
                assert choose.norm(other.to("cuda")) == "plain"
        with torch.enable_grad():
            assert choose.norm(x) == "plain"


@pytest.mark.parametrize(
    ("cpuinfo", "faster"),
    [("vendor_id : AuthenticAMD", True), ("vendor_id : GenuineIntel", False), (None, False)],
)
def test_mkl_is_the_slower_one_off_intel(
    cpuinfo: str | None, faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(choose, "CPUINFO", tmp_path / "cpuinfo")
    assert choose.faster_than_mkl.__wrapped__() is faster


LAYERS: dict[str, Callable[[], nn.Module]] = {  # each takes features [2, 8, 8, 8]
    "convolution": lambda: Conv2d(8, 12, 3, init=Init(bias=1)),
    "magnitude-preserving convolution": lambda: MPConv(8, 12, 3),
    "product": lambda: Dense(8, 6, init=Init(bias=1)),
    "norm": lambda: GroupNorm(8),
}


@pytest.mark.parametrize("forced", ["plain", "onednn", "winograd"])
@torch.inference_mode()
def test_a_kernel_is_forced_and_told(
    forced: choose.Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced == "onednn" and not onednn.computes(torch.float32):
        pytest.skip("oneDNN has no float32 on this processor")
    torch.manual_seed(0)
    layers = [make().eval().to(memory_format=torch.channels_last) for make in LAYERS.values()]
    qkv, x = Conv2d(8, 24, 1, init=Init(bias=1)), torch.randn(2, 8, 8, 8)
    both = []
    for kernel in ("plain", forced):
        monkeypatch.setattr(choose, "forced", kernel)
        with choose.watched() as told:
            both.append([*(layer(x) for layer in layers), attention(qkv, x, 2)])
    for plain, got in zip(*both, strict=True):
        assert relative_error(got, plain) < 1e-4
    kernels = {
        operation: {kernel for kind, kernel in told if kind == operation} for operation, _ in told
    }
    assert sum(told.values()) == 6  # attention has a product before it
    assert kernels["norm"] == {"plain"}
    assert kernels["convolution"] == {forced}
    expected = {"onednn"} if forced == "onednn" else {"plain"}
    assert kernels["product"] == expected and kernels["attention"] == expected


@pytest.mark.usefixtures("elsewhere")
@torch.inference_mode()
def test_what_is_large_can_be_sent_to_torch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, q = torch.randn(1, 128, 32, 32), weight(), torch.randn(1, 1, 256, 8)
    monkeypatch.setattr(choose, "forced", "plain")
    assert choose.convolution(x, w) == choose.convolution(x.bfloat16(), w.bfloat16()) == "plain"
    assert choose.product(x, w[0, :, 0]) == choose.attention(q) == "plain"


def test_nothing_is_counted_outside() -> None:
    with choose.watched() as outer:
        choose.norm(torch.zeros(1, 8, 2, 2))
        with choose.watched() as inner:
            choose.norm(torch.zeros(1, 8, 2, 2))
    choose.norm(torch.zeros(1, 8, 2, 2))
    assert outer == inner == {("norm", "plain"): 1}
