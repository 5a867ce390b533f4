"""Group norm and attention as CUDA gets them, computed on a CPU; that CUDA gets them is seen on fake tensors."""

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error
from fake_cuda import fake_cuda
from torch import Tensor

from training.blocks.layers import GroupNorm
from training.blocks.unet_block import UNetBlock
from training.kernels import choose, cuda


def features(mean: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """x [3, 24, 6, 5] in channels-last memory, weight and bias."""
    random = torch.Generator().manual_seed(0)
    x = mean + 2 * torch.randn(3, 24, 6, 5, generator=random)
    weight, bias = torch.randn(2, 24, generator=random)
    return x.to(memory_format=torch.channels_last), weight, bias


@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)],
    ids=str,
)
@pytest.mark.parametrize("modulated", [False, True])
@torch.no_grad()
def test_group_norm_is_torchs(dtype: torch.dtype, tolerance: float, modulated: bool) -> None:
    x, weight, bias = features()
    x = x.to(dtype)
    expected = F.group_norm(x.double(), 6, weight.double(), bias.double(), 1e-5)
    scale = shift = None
    if modulated:
        scale, shift = torch.randn(2, 3, 24, 1, 1, generator=torch.Generator().manual_seed(1)).to(
            dtype
        )
        expected = torch.addcmul(shift.double(), expected, scale.double())
    got = cuda.group_norm(x, 6, weight, bias, 1e-5, scale, shift)
    assert got.dtype == dtype and got.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(got, expected) < tolerance


@torch.no_grad()
def test_moments_of_half_precision_are_not_rounded() -> None:
    # Half an ulp of the mean would be 0.03 of the deviation in bfloat16.
    x, weight, bias = features(mean=20)
    x = x.to(torch.bfloat16)
    expected = F.group_norm(x.double(), 6, weight.double(), bias.double(), 1e-5)
    assert relative_error(cuda.group_norm(x, 6, weight, bias, 1e-5), expected) < 8e-3


@torch.no_grad()
def test_constant_features_have_no_negative_variance() -> None:
    """Their mean square and squared mean differ by rounding, with either sign, by more than eps."""
    for dtype in (torch.float16, torch.bfloat16):
        x = (
            torch.linspace(10, 300, 64)
            .repeat_interleave(4)[None, :, None, None]
            .expand(1, 256, 9, 9)
            .to(dtype)
        )
        x = x.contiguous(memory_format=torch.channels_last)
        assert cuda.group_norm(x, 64, torch.ones(256), torch.zeros(256), 1e-5).isfinite().all()


def test_on_cuda_a_norm_keeps_channels_last_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "MIN_VALUES", 0)
    monkeypatch.setattr(choose, "forced", None)
    asked = []
    own = cuda.group_norm
    monkeypatch.setattr(
        cuda, "group_norm", lambda *given: asked.append(given[0].shape) or own(*given)
    )
    x = torch.zeros(2, 32, 4, 4).to(memory_format=torch.channels_last)
    norm, block, emb = GroupNorm(32), UNetBlock(32, 32, 8).eval(), torch.zeros(2, 8)
    with fake_cuda():
        modulation = torch.zeros(2, 32, 1, 1).to("cuda")
        y = norm.to("cuda")(x.to("cuda"), modulation, modulation)
        assert y.shape == x.shape and y.is_contiguous(memory_format=torch.channels_last)
        block.to("cuda")(x.to("cuda"), emb.to("cuda"))
    assert len(asked) >= 2  # the norm, and the block's


def test_elsewhere_it_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "group_norm", lambda *given: pytest.fail("not here"))
    x = torch.zeros(2, 32, 4, 4)
    norm = GroupNorm(32)
    with torch.no_grad():
        norm(x.to(memory_format=torch.channels_last))  # a CPU
    with fake_cuda():
        norm = norm.to("cuda")
        norm(x.to("cuda"))  # NCHW
        norm(x.to(memory_format=torch.channels_last).to("cuda"))  # small


def test_attention_of_wide_heads() -> None:
    q, k, v = torch.randn(3, 2, 1, 9, 320, generator=torch.Generator().manual_seed(0))
    expected = (q.double() @ k.double().mT / 320**0.5).softmax(-1) @ v.double()
    assert relative_error(cuda.attention(q, k, v), expected) < 1e-6
