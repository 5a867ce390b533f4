"""Layers that the EDM U-Nets are built from; parameter names and initial values as published.

Reference: Karras et al., 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
Appendix F, https://arxiv.org/abs/2206.00364
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.resample import check_taps, double, filter_of, halve, is_box
from training.kernels import compute
from training.kernels.kept import Kept


@dataclass(frozen=True)
class Init:
    """How initial values are drawn: a mode, and factors on the weight and on the bias.

    Args:
        mode: "xavier_uniform" (variance 2 / (fan_in + fan_out)), "kaiming_uniform" or "kaiming_normal" (1 / fan_in), or
            "normal" (1).
        weight, bias: factors; 0 gives zeros.
    """

    mode: str = "kaiming_uniform"
    weight: float = 1.0
    bias: float = 0.0

    def draw(self, shape: Sequence[int], fan_in: int, fan_out: int, factor: float) -> Tensor:
        """Random values of `shape` with the variance that the mode prescribes, times `factor`."""
        if self.mode == "xavier_uniform":
            spread = math.sqrt(6 / (fan_in + fan_out)) * factor
            return drawn(torch.rand, *shape).mul_(2).sub_(1).mul_(spread)
        if self.mode == "kaiming_uniform":
            return drawn(torch.rand, *shape).mul_(2).sub_(1).mul_(math.sqrt(3 / fan_in) * factor)
        if self.mode == "kaiming_normal":
            return drawn(torch.randn, *shape).mul_(math.sqrt(1 / fan_in) * factor)
        if self.mode == "normal":
            return drawn(torch.randn, *shape).mul_(factor)
        raise ValueError(
            f"unknown initialisation {self.mode!r}: xavier_uniform, kaiming_uniform, kaiming_normal or normal"
        )


def drawn(draw: Callable[..., Tensor], *size: int) -> Tensor:
    """Random numbers of `draw`, torch.rand or torch.randn; on the meta device, which has no numbers, an empty tensor.

    There draws import half of torch's compiler, a second of each start, as does arithmetic unless it is in place.
    """
    if torch.get_default_device().type == "meta":
        return torch.empty(size)
    return draw(size)


def embedding(rows: int, features: int) -> nn.Embedding:
    """A table of normal values, made without the draw in place of torch's own; see `drawn`."""
    return nn.Embedding.from_pretrained(drawn(torch.randn, rows, features), freeze=False)


class Linear(nn.Module):
    """y = x W^T + b, computed in the dtype of x."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, init: Init | None = None
    ) -> None:
        super().__init__()
        init = init or Init()
        fans = (in_features, out_features)
        self.in_features, self.out_features = fans
        self.weight = nn.Parameter(init.draw([out_features, in_features], *fans, init.weight))
        self.bias = nn.Parameter(init.draw([out_features], *fans, init.bias)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return F.linear(
            x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        )


class Conv2d(nn.Module):
    """Convolution with optional 2x resampling; kernel 0 resamples only.

    Up: each sample is spread by the filter, then convolved. Down: filtered and decimated, then convolved, or, with
    `convolve_first`, the other way round (NCSN++'s residual input path). The filter is separable: the outer product of
    `resample_filter` with itself, normalised to unit sum (times 4 going up).

    Args:
        in_channels, out_channels: channel counts; equal where kernel is 0.
        kernel: odd side of the kernel, or 0.
        up, down: resample by 2; at most one of them.
        resample_filter: one-dimensional taps, e.g. (1, 1) or (1, 3, 3, 1).
        convolve_first: with `down`, convolve at full resolution and then decimate.
    """

    resample_filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        up: bool = False,
        down: bool = False,
        resample_filter: Sequence[int] = (1, 1),
        convolve_first: bool = False,
        init: Init | None = None,
    ) -> None:
        super().__init__()
        if up and down:
            raise ValueError("a convolution resamples up or down, not both")
        check_taps(resample_filter)
        init = init or Init()
        self.in_channels, self.out_channels, self.kernel = in_channels, out_channels, kernel
        self.up, self.down, self.convolve_first = up, down, convolve_first

        fans = (in_channels * kernel**2, out_channels * kernel**2)
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if kernel:
            self.weight = nn.Parameter(
                init.draw([out_channels, in_channels, kernel, kernel], *fans, init.weight)
            )
            self.bias = nn.Parameter(init.draw([out_channels], *fans, init.bias))

        # Real numbers even where the network is built on the meta device.
        self.register_buffer(
            "resample_filter", filter_of(resample_filter, "cpu") if up or down else None
        )
        self.kept = Kept()
        self._box = is_box(resample_filter)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H', W'], H' = 2H (up), H/2 (down) or H."""
        if self.weight is None:
            return self._resample(x)
        weight = self.weight.to(x.dtype)
        bias = self.bias.to(x.dtype) if self.bias is not None else None
        if self.convolve_first and self.down and self.resample_filter is not None:
            pad = self.kernel // 2 + (self.resample_filter.shape[-1] - 1) // 2
            return halve(F.conv2d(x, weight, bias, padding=pad), self.resample_filter, pad=0)
        return compute.convolution(self._resample(x), weight, bias, self.kept, self.weight)

    def _resample(self, x: Tensor) -> Tensor:
        taps = None if self._box else self.resample_filter
        if self.up:
            return double(x, taps)
        if self.down:
            return halve(x, taps)
        return x


class GroupNorm(nn.GroupNorm):
    """Group normalisation in the dtype of x.

    Args:
        num_channels: C, which the groups divide.
        eps: added to the variance.
        groups: None is min(32, C // 4).
    """

    def __init__(self, num_channels: int, eps: float = 1e-5, groups: int | None = None) -> None:
        if groups is None:
            groups = min(32, num_channels // 4)
            if groups < 1 or num_channels % groups:
                raise ValueError(
                    f"{num_channels} channels do not divide into min(32, channels // 4) groups; take others"
                )
        if num_channels % groups:
            raise ValueError(
                f"{num_channels} channels are no multiple of {groups}: the norms have {groups} groups"
            )
        super().__init__(groups, num_channels, eps=eps)

    def forward(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Normalise [N, C, H, W] over each group's channels and pixels; then times scale, plus shift: [N, C, 1, 1]."""
        return compute.group_norm(
            x, self.num_groups, self.weight, self.bias, self.eps, scale, shift
        )


def attention(qkv: Conv2d, x: Tensor, num_heads: int) -> Tensor:
    r"""Self-attention over the pixels of x: softmax(q k^T / sqrt(d)) v in each head.

    The published qkv weights order their output channels (head, d, q|k|v). Reading them as (q|k|v, head, d) puts each
    head's d values side by side in channels-last memory, which is the layout the fast kernels of
    scaled_dot_product_attention take; the reordering touches the small weight, not the activations.

    Args:
        qkv: 1x1 convolution, C -> 3C.
        x: normalised features [N, C, H, W].
        num_heads: number of heads; d = C / num_heads.
    Returns:
        Mixed values [N, C, H, W], channels (head, d), in channels-last memory.
    """
    N, C, H, W = x.shape
    assert qkv.weight is not None and qkv.bias is not None
    weight = qkv.weight.view(num_heads, C // num_heads, 3, C).permute(2, 0, 1, 3).reshape(3 * C, C)
    bias = qkv.bias.view(num_heads, C // num_heads, 3).permute(2, 0, 1).reshape(3 * C)
    pixels = x.permute(0, 2, 3, 1).reshape(N, H * W, C)
    # (N, HW, C) -> (N, HW, 3C)
    mixed = compute.linear(pixels, weight.to(x.dtype), bias.to(x.dtype))
    q, k, v = mixed.view(N, H * W, 3, num_heads, C // num_heads).permute(2, 0, 3, 1, 4).unbind(0)
    y = compute.attention(q, k, v)  # (N, heads, HW, d)
    return y.transpose(1, 2).reshape(N, H, W, C).permute(0, 3, 1, 2)


class PositionalEmbedding(nn.Module):
    """cos and sin of the noise label at geometrically spaced frequencies.

    Args:
        num_channels: even; half of them cosines, half sines.
        endpoint: whether the last frequency is exactly 1 / max_positions.
    """

    def __init__(
        self, num_channels: int, max_positions: int = 10000, endpoint: bool = False
    ) -> None:
        super().__init__()
        self.num_channels, self.max_positions, self.endpoint = num_channels, max_positions, endpoint

    def forward(self, labels: Tensor) -> Tensor:
        """Map noise labels [N] to [N, num_channels]: cosines, then sines."""
        half = self.num_channels // 2
        steps = torch.arange(half, dtype=torch.float32, device=labels.device)
        freqs = (1 / self.max_positions) ** (steps / (half - int(self.endpoint)))
        phases = torch.outer(labels, freqs.to(labels.dtype))
        return torch.cat([phases.cos(), phases.sin()], dim=1)


class FourierEmbedding(nn.Module):
    """cos and sin of the noise label at fixed random frequencies, N(0, scale^2)."""

    freqs: Tensor

    def __init__(self, num_channels: int, scale: float = 16) -> None:
        super().__init__()
        self.register_buffer("freqs", drawn(torch.randn, num_channels // 2).mul_(scale))

    def forward(self, labels: Tensor) -> Tensor:
        """Map noise labels [N] to [N, num_channels]: cosines, then sines."""
        phases = torch.outer(labels, (2 * math.pi * self.freqs).to(labels.dtype))
        return torch.cat([phases.cos(), phases.sin()], dim=1)
