"""The blocks of LDM's U-Net; state-dict names as published.

Reference: Rombach et al., 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
https://arxiv.org/abs/2112.10752
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from training.blocks.layers import Conv2d, GroupNorm, Init, Linear
from training.blocks.skip_block import SkipBlock
from training.blocks.transformer import Dense, LayerNorm
from training.blocks.unet_block import UNetBlock
from training.kernels import compute

GROUPS = 32  # of the published networks' norms
# What ends a residual branch begins as 0: the branch then adds nothing.
ZERO = Init(weight=0)


class ResBlock(UNetBlock):
    """A `UNetBlock` without resampling and attention, whose layers are stored under LDM's names.

    Args:
        in_channels: channels of the input, the long skip's included.
        out_channels: channels of the output.
        emb_channels: length of the conditioning vector.
        norm_groups: groups of the norms, which divide the channels; None: min(32, channels // 4).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        norm_groups: int | None = GROUPS,
    ) -> None:
        SkipBlock.__init__(self)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_heads, self.dropout, self.residual_scale, self.adaptive_scale = 0, 0.0, 1.0, False
        # Where the published network has an activation, UNetBlock computes it; that of emb is the U-Net's.
        self.in_layers = nn.Sequential(
            GroupNorm(in_channels, groups=norm_groups),
            nn.Identity(),
            Conv2d(in_channels, out_channels, 3),
        )
        self.emb_layers = nn.Sequential(nn.Identity(), Linear(emb_channels, out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm(out_channels, groups=norm_groups),
            nn.Identity(),
            nn.Identity(),
            Conv2d(out_channels, out_channels, 3, init=ZERO),
        )
        if in_channels != out_channels:
            self.skip_connection = Conv2d(in_channels, out_channels, 1)

    # What UNetBlock.forward calls its layers.
    norm0 = property(lambda self: self.in_layers[0])
    conv0 = property(lambda self: self.in_layers[2])
    affine = property(lambda self: self.emb_layers[1])
    norm1 = property(lambda self: self.out_layers[0])
    conv1 = property(lambda self: self.out_layers[3])
    skip = property(
        lambda self: self.skip_connection if self.in_channels != self.out_channels else None
    )


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, H / 2, W / 2]."""
        bias = cast(Tensor, self.op.bias).to(x.dtype)
        return F.conv2d(x, self.op.weight.to(x.dtype), bias, stride=2, padding=1)


class Upsample(nn.Module):
    """Each pixel four times, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, 2 H, 2 W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class AttentionBlock(nn.Module):
    """x + proj_out(self-attention over the pixels of norm(x)); the channels of qkv are (head, q|k|v, d).

    Args:
        channels: a multiple of num_heads.
        num_heads: number of heads.
        norm_groups: groups of the norm; None: min(32, channels // 4).
    """

    def __init__(self, channels: int, num_heads: int, norm_groups: int | None = GROUPS) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = GroupNorm(channels, groups=norm_groups)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(cast(Tensor, self.proj_out.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        tokens = _tokens(self.norm(x))
        N, T, C = tokens.shape
        qkv = _pointwise(self.qkv, tokens).view(N, T, self.num_heads, 3, C // self.num_heads)
        y = compute.attention(*qkv.permute(3, 0, 2, 1, 4).unbind(0))  # (N, heads, T, d)
        return x + _image(_pointwise(self.proj_out, y.transpose(1, 2).reshape(N, T, C)), x)


class CrossAttention(nn.Module):
    """to_out(softmax(q k^T / sqrt(d)) v) in each head: q from the tokens, k and v from the context.

    Args:
        dim: length of a token; num_heads divides it.
        context_dim: length of a token of the context.
        num_heads: number of heads.
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = Dense(dim, dim, bias=False)
        self.to_k = Dense(context_dim, dim, bias=False)
        self.to_v = Dense(context_dim, dim, bias=False)
        self.to_out = nn.Sequential(Dense(dim, dim))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Mix the context [N, S, context_dim] for each token of x [N, T, D]: [N, T, D]."""
        q = self._heads(self.to_q(x))
        k = self._heads(self.to_k(context))
        v = self._heads(self.to_v(context))
        return self.to_out(compute.attention(q, k, v).transpose(1, 2).reshape(x.shape))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (N, T, D) -> (N, heads, T, d)


class GatedGelu(nn.Module):
    """a gelu(b), where (a, b) = proj(x)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = Dense(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, T, dim] to [N, T, hidden]."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two layers, the first of them gated, with four times as many channels between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedGelu(dim, 4 * dim), nn.Identity(), Dense(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens [N, T, D]."""
        return self.net(x)


class TransformerBlock(nn.Module):
    """x <- x + attn1(norm1(x));  x <- x + attn2(norm2(x), context);  x <- x + ff(norm3(x))."""

    def __init__(self, dim: int, context_dim: int, num_heads: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(dim, dim, num_heads)
        self.ff = FeedForward(dim)
        self.attn2 = CrossAttention(dim, context_dim, num_heads)
        self.norm1, self.norm2, self.norm3 = LayerNorm(dim), LayerNorm(dim), LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Transform tokens x [N, T, D] with the context [N, S, context_dim]."""
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """x + proj_out(transformer blocks over the pixels of proj_in(norm(x))).

    Args:
        channels: a multiple of num_heads.
        context_dim: length of a token of the context.
        num_heads: number of heads.
        depth: transformer blocks.
        norm_groups: groups of the norm; None: min(32, channels // 4).
    """

    def __init__(
        self,
        channels: int,
        context_dim: int,
        num_heads: int,
        depth: int,
        norm_groups: int | None = GROUPS,
    ) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, eps=1e-6, groups=norm_groups)
        self.proj_in = Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, context_dim, num_heads) for _ in range(depth)
        )
        self.proj_out = Conv2d(channels, channels, 1, init=ZERO)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Transform features x [N, C, H, W] with the context [N, S, context_dim]."""
        tokens = _tokens(self.proj_in(self.norm(x)))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(_image(tokens, x))


def _tokens(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, C, H, W) -> (N, H * W, C)


def _image(tokens: Tensor, like: Tensor) -> Tensor:
    return tokens.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)  # (N, H * W, C) -> (N, C, H, W)


def _pointwise(conv: nn.Conv1d, tokens: Tensor) -> Tensor:
    """A convolution of one tap over tokens [N, T, C]."""
    bias = cast(Tensor, conv.bias).to(tokens.dtype)
    return compute.linear(tokens, conv.weight[:, :, 0].to(tokens.dtype), bias)
