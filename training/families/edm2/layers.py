"""Operations and layers of EDM2 that keep the expected magnitude of their inputs.

Reference: Karras et al., 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models", Appendix B,
https://arxiv.org/abs/2312.02696
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import drawn
from training.blocks.resample import double, filter_of, halve, is_box
from training.kernels import compute
from training.kernels.kept import Kept


def normalized(x: Tensor, dim: int | tuple[int, ...], eps: float = 1e-4) -> Tensor:
    """x / (eps + rms), the root mean square over `dim` in at least float32; the result has the dtype of x."""
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=wide)
    return x / (eps + norm * math.sqrt(norm.numel() / x.numel())).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """silu(x) / 0.596, whose output has unit magnitude where x is N(0, 1)."""
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)."""
    return a.lerp(b, t) / math.hypot(1 - t, t)


def mp_cat(a: Tensor, b: Tensor, t: float) -> Tensor:
    r"""[w_a a, w_b b] over channels; t decides how much each part counts, whatever its number of channels.

    w_a = (1 - t) / sqrt(C_a) * w,  w_b = t / sqrt(C_b) * w,  w = sqrt((C_a + C_b) / ((1 - t)^2 + t^2))
    """
    C_a, C_b = a.shape[1], b.shape[1]
    w = math.sqrt(C_a + C_b) / math.hypot(1 - t, t)
    return torch.cat([a * (w * (1 - t) / math.sqrt(C_a)), b * (w * t / math.sqrt(C_b))], dim=1)


def resampled(x: Tensor, mode: str, taps: Sequence[float]) -> Tensor:
    """x at twice the resolution ("up"), at half of it ("down") or as it is ("keep"); `taps` filter both axes."""
    if mode == "keep":
        return x
    kernel = None if is_box(taps) else filter_of(taps, x.device)
    return double(x, kernel) if mode == "up" else halve(x, kernel)


class MPConv(nn.Module):
    r"""Convolution, or linear layer, whose weight vectors have unit length as they are used.

    y = x * (w_o / (eps + rms(w_o)) / sqrt(fan_in)) for every output channel o, padded to keep the resolution.
    In training the stored weights are normalised too, before each use.

    Args:
        in_channels, out_channels: channel counts.
        kernel: odd side of the kernel; 0 makes a linear layer.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            drawn(torch.randn, out_channels, in_channels, *([kernel] * 2 if kernel else []))
        )
        self._kept = Kept()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] (or, if linear, [N, in_channels]) to out_channels, in the dtype of x."""
        if self.training:
            with torch.no_grad():
                self.weight.copy_(self._normalized())
        weight = self._kept.get(self.weight, f"{x.dtype}", lambda: self.effective(x.dtype))
        if weight.ndim == 2:
            return F.linear(x, weight)
        return compute.convolution(x, weight, None, self._kept, self.weight)

    def _normalized(self) -> Tensor:
        weight = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))
        return normalized(weight, dim=tuple(range(1, weight.ndim)))

    def effective(self, dtype: torch.dtype) -> Tensor:
        """The weight as it is used: w_o / (eps + rms(w_o)) / sqrt(fan_in)."""
        return (self._normalized() / math.sqrt(self.weight[0].numel())).to(dtype)


class MPFourier(nn.Module):
    """sqrt(2) cos(x f + p) at fixed random frequencies f ~ 2 pi N(0, 1) and phases p ~ 2 pi U(0, 1)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", drawn(torch.randn, num_channels).mul_(2 * math.pi))
        self.register_buffer("phases", drawn(torch.rand, num_channels).mul_(2 * math.pi))

    def forward(self, x: Tensor) -> Tensor:
        """Map noise labels [N] to float32 [N, num_channels]."""
        return (torch.outer(x.to(self.freqs), self.freqs) + self.phases).cos() * math.sqrt(2)
